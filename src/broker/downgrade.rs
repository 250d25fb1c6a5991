//! Model calls for clients that know only those of Anthropic.
use serde_json::{Value, json};

use crate::activity::{Event, LlmEntry, OpaqueEntry, What};

/// Bytes of a preview.
const PREVIEW: usize = 4096;

/// A model call's event as `opaque_http`, with the newest of what was asked and the beginning of what was answered as
/// previews. `None` if the text is no model call.
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
        request_body_preview: Some(newest(&json["request"])),
        response_body_preview: preview(&json["response"]),
        more: serde_json::Map::new(),
    }
}

/// A request, or where it is too long as many of its last messages as there is room for: each call repeats what came
/// before them.
fn newest(request: &Value) -> String {
    let whole = request.to_string();
    if whole.len() <= PREVIEW {
        return whole;
    }
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let short = |from: usize| {
        json!({"model": request["model"], "messages": messages[from..], "earlierMessages": from}).to_string()
    };
    let mut from = messages.len();
    while from > 0 && short(from - 1).len() <= PREVIEW {
        from -= 1;
    }
    match messages.last() {
        Some(last) if from == messages.len() => beginning(last.to_string()),
        Some(_) => short(from),
        None => beginning(whole),
    }
}

fn beginning(mut text: String) -> String {
    let end = (0..=PREVIEW.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_request_is_seen_by_its_end() {
        let message = |text: &str| json!({"role": "user", "content": [{"type": "text", "text": text}]});
        let long = "x".repeat(3 * PREVIEW);
        let request = |messages: &[Value]| json!({"model": "m", "system": long, "messages": messages});
        let small = json!({"model": "m", "messages": [message("hi")]});
        assert_eq!(newest(&small), small.to_string());
        let got = newest(&request(&[message(&long), message("one"), message("two")]));
        let want = json!({"model": "m", "messages": [message("one"), message("two")], "earlierMessages": 1});
        assert_eq!(got, want.to_string());
        let got = newest(&request(&[message("one"), message(&long)]));
        assert!(got.len() == PREVIEW && got.starts_with(r#"{"role":"user","content":"#), "{}", &got[..80]);
        assert!(newest(&request(&[])).starts_with(r#"{"model":"m","system":"xxx"#));
    }
}
