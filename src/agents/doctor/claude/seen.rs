//! What captured calls tell about a login: the newest ones, from wherever they are kept.
use serde_json::Value;

use super::ago;

/// What the traces know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The newest call to Anthropic.
    pub call: Option<LastCall>,
    /// The newest answer that told about extra usage.
    pub overage: Option<News>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCall {
    /// ms since the epoch.
    pub at: u64,
    pub status: Option<u16>,
    /// Type and message.
    pub error: Option<(String, String)>,
}

/// What an answer told about extra usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    pub at: u64,
    /// Why it is off; `None` where it is not.
    pub reason: Option<String>,
}

impl LastCall {
    /// Whether the credential was refused.
    #[must_use]
    pub fn unauthorised(&self) -> bool {
        self.status == Some(401)
    }

    pub(super) fn ago(&self, now: u64) -> String {
        ago(self.at, now)
    }
}

impl Seen {
    /// Take a captured event into account; which one comes first does not matter.
    pub fn add(&mut self, event: &Value) {
        let entry = &event["entry"];
        if entry["kind"] != "anthropic_messages" {
            return;
        }
        let Some(at) = event["ts"].as_u64() else { return };
        if self.call.as_ref().is_none_or(|call| call.at < at) {
            let text = |name: &str| entry["error"][name].as_str().map(str::to_string);
            let status = entry["response"]["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let error = text("type").map(|kind| (kind, text("message").unwrap_or_default()));
            self.call = Some(LastCall { at, status, error });
        }
        let told = &entry["overage"];
        if told.is_object() && self.overage.as_ref().is_none_or(|news| news.at < at) {
            let reason = told["disabledReason"].as_str().map(str::to_string);
            self.overage = Some(News { at, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_counts_in_whatever_order() {
        let call = |ts: u64, kind: &str, more: Value| {
            let mut entry = json!({"kind": kind, "response": {"status": 200}});
            entry.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
            json!({"kind": "llm_exchange", "ts": ts, "entry": entry})
        };
        let off = json!({"overage": {"status": "rejected", "disabledReason": "out_of_credits"}});
        let refused = json!({
            "response": {"status": 401},
            "error": {"type": "authentication_error", "message": "Invalid authentication credentials"},
        });
        let mut seen = Seen::default();
        for event in [
            call(5, "anthropic_messages", off.clone()),
            call(9, "anthropic_messages", refused),
            call(3, "anthropic_messages", json!({"overage": {"status": "allowed"}})),
            call(12, "openai_chat", off),
            json!({"kind": "objective_open", "ts": 20, "objectiveId": "o"}),
        ] {
            seen.add(&event);
        }
        let error = ("authentication_error".to_string(), "Invalid authentication credentials".to_string());
        let call = LastCall { at: 9, status: Some(401), error: Some(error) };
        assert!(call.unauthorised());
        let overage = News { at: 5, reason: Some("out_of_credits".into()) };
        assert_eq!(seen, Seen { call: Some(call), overage: Some(overage) });
    }
}
