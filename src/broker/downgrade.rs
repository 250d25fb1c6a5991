//! Model calls for clients that know only those of Anthropic.
use serde_json::Value;

use crate::activity::{Event, LlmEntry, OpaqueEntry, What};

/// Bytes of a preview.
const PREVIEW: usize = 4096;

/// A model call's event as `opaque_http`, with the beginnings of what was asked and answered as previews. `None` if
/// the text is no model call.
#[must_use]
pub fn as_opaque(event: &str) -> Option<String> {
    let event = Event::from_json(&serde_json::from_str(event).ok()?).ok()?;
    let What::Llm { duration, entry } = event.what else { return None };
    let entry = Box::new(opaque(&entry));
    Some(Event { ts: event.ts, what: What::Opaque { duration, entry } }.to_json().to_string())
}

fn opaque(entry: &LlmEntry) -> OpaqueEntry {
    let json = entry.to_json();
    let host = entry.about.host.clone().unwrap_or_default();
    let preview = |part: &Value| (!part.is_null()).then(|| beginning(part.to_string()));
    OpaqueEntry {
        started_at: entry.started_at,
        ended_at: entry.ended_at,
        // The path is not kept of a model call.
        url: format!("https://{host}/"),
        host,
        method: "POST".to_string(),
        status: entry.response.as_ref().and_then(|r| r.status),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        request_body_preview: preview(&json["request"]),
        response_body_preview: preview(&json["response"]),
        more: serde_json::Map::new(),
    }
}

fn beginning(mut text: String) -> String {
    let end = (0..=PREVIEW.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}
