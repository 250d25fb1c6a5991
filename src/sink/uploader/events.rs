//! The events that the uploader itself makes: notes about what is missing, and what older brokers understand.
use serde_json::{Map, Value, json};

use crate::activity::{Event, OpaqueEntry, Provider};
use crate::sink::Encoded;

/// The bytes of a preview.
const PREVIEW: usize = 4096;

/// The note that `count` events are missing, which happened from `first` to `last` (ms since the epoch).
pub(super) fn dropped(count: u64, reason: &str, first: u64, last: u64) -> Encoded {
    let mut more = Map::new();
    more.insert("note".to_string(), json!({"count": count, "reason": reason}));
    encode(&Event::opaque(OpaqueEntry {
        started_at: first,
        ended_at: last,
        host: "ac7".to_string(),
        method: "NOTE".to_string(),
        url: "ac7:dropped".to_string(),
        more,
        ..OpaqueEntry::default()
    }))
}

/// A model call as a broker knows it whose `entry` is a closed union: an opaque exchange with previews. `None` for
/// any other event. A typed entry does not hold its URL, so the provider's documented path stands for it; the
/// additive `typed` tells which kind it was.
pub(super) fn as_opaque(event: &Encoded) -> Option<Encoded> {
    if event.kind != "llm_exchange" {
        return None;
    }
    let whole: Value = serde_json::from_str(&event.json).ok()?;
    let entry = whole.get("entry")?;
    let kind = entry.get("kind")?.as_str()?;
    let text = |value: &Value| value.as_str().map(str::to_string);
    let host = entry.get("host").and_then(text).unwrap_or_else(|| "unknown".to_string());
    let model = entry.pointer("/request/model").and_then(Value::as_str).unwrap_or("unknown");
    let path = match Provider::from_kind(kind)? {
        Provider::Anthropic => "/v1/messages".to_string(),
        Provider::OpenAiChat => "/v1/chat/completions".to_string(),
        Provider::OpenAiResponses => "/v1/responses".to_string(),
        Provider::Gemini => format!("/v1beta/models/{model}:generateContent"),
    };
    let preview = |name| entry.get(name).filter(|v| !v.is_null()).map(|v: &Value| cut(v.to_string()));
    let mut more = Map::new();
    more.insert("typed".to_string(), json!(kind));
    for name in ["id", "requestId", "session", "client"] {
        if let Some(value) = entry.get(name) {
            more.insert(name.to_string(), value.clone());
        }
    }
    more.insert("truncated".to_string(), Value::Bool(true));
    let time = |name| entry.get(name).and_then(Value::as_u64).unwrap_or(event.ts);
    let status = entry.pointer("/response/status").and_then(Value::as_u64);
    let mut opaque = Event::opaque(OpaqueEntry {
        started_at: time("startedAt"),
        ended_at: time("endedAt"),
        url: format!("https://{host}{path}"),
        host,
        method: "POST".to_string(),
        status: status.and_then(|s| u16::try_from(s).ok()),
        request_body_preview: preview("request"),
        response_body_preview: preview("response"),
        more,
        ..OpaqueEntry::default()
    });
    opaque.ts = event.ts;
    Some(encode(&opaque))
}

fn cut(mut text: String) -> String {
    let end = (0..=PREVIEW.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    text.truncate(end.unwrap_or(0));
    text
}

fn encode(event: &Event) -> Encoded {
    Encoded { ts: event.ts, kind: event.kind(), json: event.to_json().to_string() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{as_opaque, dropped};
    use crate::activity::{Event, What};
    use crate::sink::Encoded;

    fn call(entry: &Value) -> Encoded {
        let event = json!({"kind": "llm_exchange", "ts": 900, "duration": 5, "entry": entry});
        Encoded { ts: 900, kind: "llm_exchange", json: event.to_string() }
    }

    fn read(event: &Encoded) -> crate::activity::OpaqueEntry {
        let event = Event::from_json(&serde_json::from_str(&event.json).unwrap()).unwrap();
        let What::Opaque { entry, .. } = event.what else { panic!("not opaque") };
        *entry
    }

    #[test]
    fn a_model_call_becomes_an_opaque_exchange() {
        for (kind, url) in [
            ("anthropic_messages", "https://h.example/v1/messages"),
            ("openai_chat", "https://h.example/v1/chat/completions"),
            ("openai_responses", "https://h.example/v1/responses"),
            ("gemini", "https://h.example/v1beta/models/m1:generateContent"),
        ] {
            let original = call(&json!({"kind": kind, "startedAt": 800, "endedAt": 890, "host": "h.example",
                "request": {"model": "m1", "system": "é".repeat(4000), "messages": []},
                "response": {"status": 200, "messages": []}, "session": {"id": "s"}}));
            let opaque = as_opaque(&original).unwrap();
            assert_eq!((opaque.ts, opaque.kind), (900, "opaque_http"));
            let entry = read(&opaque);
            assert_eq!(
                (entry.url.as_str(), entry.host.as_str(), entry.method.as_str()),
                (url, "h.example", "POST")
            );
            assert_eq!((entry.started_at, entry.ended_at, entry.status), (800, 890, Some(200)));
            let asked = entry.request_body_preview.unwrap();
            assert!(asked.starts_with(r#"{"model":"m1","system":"éé"#), "{asked}");
            assert!((4095..=4096).contains(&asked.len()));
            assert_eq!(entry.response_body_preview.as_deref(), Some(r#"{"status":200,"messages":[]}"#));
            assert_eq!(entry.more["typed"], kind);
            assert_eq!(entry.more["session"], json!({"id": "s"}));
        }
    }

    #[test]
    fn what_is_missing_in_a_call_is_missing_in_its_opaque_form() {
        let entry = read(&as_opaque(&call(&json!({"kind": "openai_chat", "response": null}))).unwrap());
        assert_eq!((entry.host.as_str(), entry.started_at, entry.status), ("unknown", 900, None));
        assert_eq!(entry.response_body_preview, None);
    }

    #[test]
    fn other_events_have_no_other_form() {
        let open = Encoded { ts: 1, kind: "objective_open", json: r#"{"kind":"objective_open"}"#.into() };
        assert_eq!(as_opaque(&open), None);
        assert_eq!(as_opaque(&dropped(1, "x", 1, 2)), None);
    }

    #[test]
    fn a_note_tells_how_many_and_why() {
        let note = dropped(3, "the broker did not answer for 41 s", 100, 250);
        assert_eq!((note.ts, note.kind), (250, "opaque_http"));
        let entry = read(&note);
        assert_eq!(
            (entry.method.as_str(), entry.host.as_str(), entry.url.as_str()),
            ("NOTE", "ac7", "ac7:dropped")
        );
        assert_eq!((entry.started_at, entry.ended_at), (100, 250));
        assert_eq!(entry.more["note"], json!({"count": 3, "reason": "the broker did not answer for 41 s"}));
    }
}
