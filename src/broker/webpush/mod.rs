//! Web push: what a person should hear of goes to their browsers, also while no page is open.
//!
//! Comes in: messages, once they are stored. Goes out: encrypted notices to the push services that browsers named
//! ([`sender`] and [`courier`], on threads of their own). Nobody waits for it, no member waits for another's browsers, and
//! nothing of it can stop the broker: a full queue, a lost key and a dead endpoint cost notices, each with a line in the
//! log.
mod address;
mod courier;
mod encrypt;
mod sender;
mod token;
mod waiting;

pub use address::check;
pub use encrypt::Receiver;
pub use sender::Sender;

use serde_json::json;

use crate::team::{Level, Message};

/// Bytes of a notice: what every push service takes (RFC 8030 §7.2), less what encrypting adds.
const MOST: usize = 3800;
/// Characters of a body that a notice shows.
const MOST_BODY: usize = 1000;

/// What some members should hear of.
pub struct Notice {
    pub whom: Whom,
    pub level: Level,
    /// The JSON that a page's service worker gets.
    pub payload: String,
}

/// Who should hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    Members(Vec<String>),
    /// The assignee of the objective with this id.
    Assignee(String),
}

impl Notice {
    /// What is to be heard of a message that `targets` get: whoever it is for alone, whoever gets an objective, whoever
    /// is mentioned. Nobody hears of what they said themselves.
    #[must_use]
    pub fn of(message: &Message, targets: &[&str]) -> Option<Notice> {
        let data = |name: &str| message.data.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let is_new = matches!(data("event"), "assigned" | "reassigned");
        let whom = if data("kind") == "objective" {
            if !is_new {
                return None;
            }
            Whom::Assignee(data("objective_id").to_string())
        } else {
            let from = message.from.as_deref();
            let title = message.title.as_deref().unwrap_or_default();
            let hears = |name: &str| {
                message.to.as_deref() == Some(name)
                    || is_mentioned(&message.body, name)
                    || is_mentioned(title, name)
            };
            let those = targets.iter().filter(|name| Some(**name) != from && hears(name));
            let those: Vec<String> = those.map(|name| (*name).to_string()).collect();
            if those.is_empty() {
                return None;
            }
            Whom::Members(those)
        };
        Some(Notice { whom, level: message.level, payload: payload(message) })
    }
}

/// Whether a text has `@name` in it, as a word.
fn is_mentioned(text: &str, name: &str) -> bool {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.match_indices('@').any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let Some(rest) = after.strip_prefix(name) else { return false };
        // The stop at the end of a sentence is no part of the name; in an address the name is not the beginning.
        let ends = !rest.trim_start_matches(['.', '-', '_']).starts_with(of_name);
        ends && !before.ends_with(of_name)
    })
}

fn payload(message: &Message) -> String {
    let thread = message.thread().filter(|thread| thread.len() <= 128);
    let mut most = MOST_BODY;
    loop {
        let body: String = message.body.chars().take(most).collect();
        let payload = json!({
            "id": message.id,
            "ts": message.ts,
            "from": message.from,
            "title": message.title,
            "body": body,
            "level": message.level.name(),
            "thread": thread,
        });
        let text = payload.to_string();
        if text.len() <= MOST || most == 0 {
            return text;
        }
        most /= 2;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn message(fields: &Value) -> Message {
        let mut whole = json!({"id": "m", "ts": 1, "from": "ann", "body": "x", "level": "info"});
        whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Message::from_json(&whole).unwrap()
    }

    #[test]
    fn those_hear_whom_it_concerns() {
        let members = |names: &[&str]| Some(Whom::Members(names.iter().map(|n| (*n).to_string()).collect()));
        let objective =
            |event: &str| json!({"data": {"kind": "objective", "event": event, "objective_id": "o"}});
        for (fields, want) in [
            (json!({"to": "bob"}), members(&["bob"])),
            (json!({"to": "ann"}), None),
            (json!({}), None),
            (json!({"body": "see @cat and @bob."}), members(&["bob", "cat"])),
            (json!({"title": "@cat"}), members(&["cat"])),
            (json!({"body": "@ann, @zed"}), None),
            (json!({"to": "bob", "body": "@cat"}), members(&["bob", "cat"])),
            (objective("assigned"), Some(Whom::Assignee("o".into()))),
            (objective("reassigned"), Some(Whom::Assignee("o".into()))),
            (objective("blocked"), None),
            (json!({"data": {"kind": "objective_discuss"}, "body": "@bob?"}), members(&["bob"])),
        ] {
            let notice = Notice::of(&message(&fields), &["ann", "bob", "cat"]);
            assert_eq!(notice.map(|notice| notice.whom), want, "{fields}");
        }
    }

    #[test]
    fn a_mention_is_a_word() {
        for (text, want) in [
            ("@bob", true),
            ("(@bob)", true),
            ("hi @bob.", true),
            ("hi @bob...", true),
            ("@bob's", true),
            ("é@bob é", true),
            ("@bobby", false),
            ("@bob.x", false),
            ("@bob-2", false),
            ("mail@bob.example", false),
            ("x@bob", false),
            ("@@bob", true),
            ("bob", false),
            ("@Bob", false),
            ("@x @bob", true),
        ] {
            assert_eq!(is_mentioned(text, "bob"), want, "{text}");
        }
    }

    #[test]
    fn a_notice_fits_into_what_push_services_take() {
        for body in ["x".repeat(60_000), "\u{1}".repeat(60_000), "é\"".repeat(30_000)] {
            let fields =
                json!({"to": "bob", "body": body, "title": "\u{1}".repeat(200), "data": {"thread": body}});
            let notice = Notice::of(&message(&fields), &["bob"]).unwrap();
            assert!(notice.payload.len() <= MOST, "{}", notice.payload.len());
            let value: Value = serde_json::from_str(&notice.payload).unwrap();
            assert!(body.starts_with(value["body"].as_str().unwrap()) && value["thread"].is_null());
        }
    }
}
