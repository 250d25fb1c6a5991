//! Events about what was not captured: tunnels that passed untouched, upstreams that refused (DESIGN §4.12).
//!
//! They have the shape of an opaque exchange, so that every existing broker and reader takes them.
use serde_json::{Map, Value, json};

use crate::activity::{Event, OpaqueEntry};

/// A connection that went through undecrypted, or that a client ended because of our certificate.
pub struct Passed<'a> {
    pub host: &'a str,
    /// `host:port`.
    pub place: &'a str,
    /// A word of [`super::scope::Reason`].
    pub reason: &'static str,
    /// The TLS alert, if one told the reason.
    pub alert: Option<String>,
    /// Bytes passed on: up, down.
    pub moved: (u64, u64),
    /// First and last moment, ms since the epoch.
    pub times: (u64, u64),
}

/// The event of a tunnel.
#[must_use]
pub fn tunnel(passed: &Passed<'_>) -> Event {
    let mut facts = Map::new();
    facts.insert("reason".into(), passed.reason.into());
    if let Some(alert) = &passed.alert {
        facts.insert("alert".into(), alert.as_str().into());
    }
    facts.insert("bytesUp".into(), passed.moved.0.into());
    facts.insert("bytesDown".into(), passed.moved.1.into());
    let more = Map::from_iter([("tunnel".to_string(), Value::Object(facts))]);
    Event::opaque(connect(passed.host, passed.place, passed.times, more))
}

/// The event of an upstream that could not be reached or trusted: what the agent got, and why.
#[must_use]
pub fn refused(host: &str, place: &str, why: &str, times: (u64, u64)) -> Event {
    let entry = connect(host, place, times, Map::from_iter([("error".to_string(), json!(why))]));
    Event::opaque(OpaqueEntry { response_body_preview: Some(why.to_string()), ..entry })
}

fn connect(
    host: &str,
    place: &str,
    (started_at, ended_at): (u64, u64),
    more: Map<String, Value>,
) -> OpaqueEntry {
    OpaqueEntry {
        started_at,
        ended_at,
        host: host.to_string(),
        method: "CONNECT".to_string(),
        url: place.to_string(),
        more,
        ..OpaqueEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_have_the_shape_of_an_opaque_exchange() {
        let event = tunnel(&Passed {
            host: "a.example",
            place: "a.example:443",
            reason: "rejected",
            alert: Some("UnknownCA".into()),
            moved: (1, 2),
            times: (10, 30),
        });
        let json = event.to_json();
        assert_eq!((&json["ts"], &json["duration"]), (&json!(30), &json!(20)));
        let entry = &json["entry"];
        assert_eq!(entry["status"], Value::Null);
        assert_eq!(entry["requestHeaders"], json!({}));
        let want = json!({"reason": "rejected", "alert": "UnknownCA", "bytesUp": 1, "bytesDown": 2});
        assert_eq!(entry["tunnel"], want);
        assert_eq!(Event::from_json(&json).unwrap(), event);
    }
}
