//! An answer between its bytes and its meaning: framing undone, one JSON value or a stream of them.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::json::{self, str_at};
use super::opaque::before_token;
use super::{eventstream, sse};
use crate::activity::LlmResponse;
use crate::capture::exchange::{Body, Headers, SocketCall};

/// Bytes that are told of an answer that makes no sense.
const UNREADABLE: usize = 500;

/// One event of a stream.
#[derive(Debug)]
pub struct Part {
    /// The framing's name of the event; empty if it has none. Only Bedrock needs it: others repeat it in the JSON.
    pub name: String,
    /// Null for data that is not JSON, such as `[DONE]`.
    pub value: Value,
    /// When its last byte arrived, ms since epoch.
    pub at: Option<u64>,
}

/// What came back.
#[derive(Debug)]
pub enum Reply {
    Nothing,
    Whole(Value),
    Stream(Vec<Part>),
    /// Neither JSON nor a known framing: its first text, for the error message.
    Unreadable(String),
}

/// An answer in the activity room's terms; what the door adds (status, times) is not in it.
#[derive(Debug, Default)]
pub struct Answer {
    pub response: LlmResponse,
    pub id: Option<String>,
    pub served_model: Option<String>,
}

/// A stream put together to the value the provider sends when it does not stream.
#[derive(Debug, Default)]
pub struct Merged {
    pub whole: Value,
    /// When the first piece of content arrived, ms since epoch.
    pub first_token_at: Option<u64>,
    /// Whether the provider said that it was at the end.
    pub complete: bool,
    pub error: Option<(String, String)>,
}

impl Merged {
    /// Content arrived at `at`; only the first time counts.
    pub fn token(&mut self, at: Option<u64>) {
        self.first_token_at = self.first_token_at.or(at);
    }
}

/// Undo the framing of a response body.
#[must_use]
pub fn reply(headers: &Headers, body: &Body) -> Reply {
    let bytes = body.bytes.as_slice();
    let kind = headers.get("content-type").unwrap_or("").to_ascii_lowercase();
    let text = bytes.trim_ascii_start();
    if text.is_empty() {
        return Reply::Nothing;
    }
    if kind.starts_with("application/vnd.amazon.eventstream") {
        return Reply::Stream(eventstream::frames(bytes).map(|f| amazon(&f, body)).collect());
    }
    // Gateways forget the content type now and then.
    let looks_like_sse = [&b"data:"[..], b"event:", b":"].iter().any(|start| text.starts_with(start));
    if kind.starts_with("text/event-stream") || looks_like_sse {
        let part = |e: sse::SseEvent<'_>| Part {
            name: String::from_utf8_lossy(e.name).into_owned(),
            value: json::parse(&e.data).unwrap_or_default(),
            at: body.arrived(e.end - 1),
        };
        return Reply::Stream(sse::events(bytes).map(part).collect());
    }
    // Gemini streams an array unless asked for SSE.
    if text.starts_with(b"[") {
        let part = |(value, end)| Part { name: String::new(), value, at: body.arrived(end - 1) };
        return Reply::Stream(json::elements(bytes).into_iter().map(part).collect());
    }
    let whole = match body.cut {
        None => json::parse(bytes),
        Some(_) => json::parse(bytes).or_else(|| json::parse_cut(bytes)),
    };
    match whole {
        Some(value) if value.is_object() => Reply::Whole(value),
        _ => Reply::Unreadable(start(bytes, body.cut.is_some())),
    }
}

/// The first text of an answer, without what may be half a secret at its end.
fn start(bytes: &[u8], cut: bool) -> String {
    let shown = &bytes[..bytes.len().min(UNREADABLE)];
    let end = if cut || shown.len() < bytes.len() { before_token(shown) } else { shown.len() };
    String::from_utf8_lossy(&shown[..end]).into_owned()
}

/// The messages of a WebSocket are a stream like any other.
#[must_use]
pub fn socket_reply(call: &SocketCall) -> Reply {
    let part = |(at, text): &(u64, Vec<u8>)| Part {
        name: String::new(),
        value: json::parse(text).unwrap_or_default(),
        at: Some(*at),
    };
    Reply::Stream(call.answered.iter().map(part).collect())
}

/// A Bedrock message: `chunk` wraps the model's own event in base64, an exception becomes an `error` event.
fn amazon(frame: &eventstream::Frame<'_>, body: &Body) -> Part {
    let exception = frame.header(":exception-type");
    let mut value = json::parse(frame.payload).unwrap_or_default();
    let name = if exception.is_empty() { frame.header(":event-type") } else { "error".to_string() };
    if !exception.is_empty() {
        value = json!({"type": "error", "error": {"type": exception, "message": str_at(&value, "message")}});
    } else if name == "chunk" {
        let inner = STANDARD.decode(str_at(&value, "bytes")).unwrap_or_default();
        value = json::parse(&inner).unwrap_or_default();
    }
    Part { name, value, at: body.arrived(frame.end - 1) }
}

/// Type and message of an error in any provider's shape; `None` if `value` is not an error.
#[must_use]
pub fn error_of(value: &Value) -> Option<(String, String)> {
    let text = |v: &Value| match v {
        Value::String(s) => Some(s.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let first = |v: &Value, names: &[&str]| names.iter().find_map(|name| text(v.get(name)?));
    match value.get("error") {
        Some(error @ Value::Object(_)) => {
            // Gemini has a number in `code` and the name in `status`; OpenAI has null in either.
            let kind = first(error, &["type", "status", "code"]).unwrap_or_else(|| "error".into());
            Some((kind, first(error, &["message"]).unwrap_or_default()))
        }
        Some(error @ Value::String(_)) => {
            Some((text(error)?, first(value, &["error_description", "message"]).unwrap_or_default()))
        }
        _ => {
            // Bedrock and gateways built on common web frameworks.
            let message = first(value, &["message", "Message", "detail"])?;
            Some((first(value, &["__type", "type", "code"]).unwrap_or_else(|| "error".into()), message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, error_of, reply};
    use crate::capture::exchange::{Body, Cut, Headers};
    use serde_json::json;

    #[test]
    fn errors_of_every_provider() {
        for (value, want) in [
            (
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                Some(("overloaded_error", "Overloaded")),
            ),
            (json!({"error": {"message": "no", "type": null, "code": "bad_key"}}), Some(("bad_key", "no"))),
            (
                json!({"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}),
                Some(("RESOURCE_EXHAUSTED", "slow")),
            ),
            (json!({"error": "invalid_grant", "error_description": "gone"}), Some(("invalid_grant", "gone"))),
            (json!({"message": "Too many"}), Some(("error", "Too many"))),
            (json!({"detail": {"code": "x"}}), Some(("error", "{\"code\":\"x\"}"))),
            (json!({"id": "msg_1"}), None),
            (json!({"error": null, "status": "completed"}), None),
            (json!(null), None),
        ] {
            let got = error_of(&value);
            assert_eq!(got.as_ref().map(|(k, m)| (k.as_str(), m.as_str())), want, "{value}");
        }
    }

    #[test]
    fn half_a_secret_at_the_end_of_an_error_page_is_left_out() {
        let page = |text: String, cut| {
            let body = Body { bytes: text.into_bytes(), cut, ..Body::default() };
            match reply(&Headers::default(), &body) {
                Reply::Unreadable(text) => text,
                other => panic!("{other:?}"),
            }
        };
        let long = format!("{} npm_{}", "x ".repeat(240), "A".repeat(36));
        assert_eq!(page(long.clone(), None), format!("{} ", "x ".repeat(240)));
        assert_eq!(page(long[400..500].to_string(), Some(Cut::Ended)), format!("{} ", "x ".repeat(40)));
        assert_eq!(page(long[400..].to_string(), None), long[400..]);
    }

    #[test]
    fn framing_is_told_by_type_or_by_the_first_bytes() {
        let shape = |kind: &str, text: &str, cut: Option<Cut>| {
            let headers = Headers(vec![("Content-Type".into(), kind.into())]);
            let body = Body { bytes: text.as_bytes().to_vec(), cut, ..Body::default() };
            match reply(&headers, &body) {
                Reply::Nothing => "nothing".to_string(),
                Reply::Whole(value) => value.to_string(),
                Reply::Stream(parts) => format!("{} parts", parts.len()),
                Reply::Unreadable(text) => format!("unreadable {text}"),
            }
        };
        for (kind, text, cut, want) in [
            ("application/json", "{\"a\":1}", None, "{\"a\":1}"),
            ("application/json", "{\"a\":1,\"b\":\"x", Some(Cut::Ended), "{\"a\":1,\"b\":\"x\"}"),
            ("application/json", "{\"a\":1,\"b\":\"x", None, "unreadable {\"a\":1,\"b\":\"x"),
            ("application/json", "[{\"a\":1},\n{\"a\":2}]", None, "2 parts"),
            ("text/event-stream; charset=utf-8", "data: {}\n\ndata: [DONE]\n\n", None, "2 parts"),
            ("", ": hello\n\ndata: {}\n\n", None, "1 parts"),
            ("text/html", "<html>", None, "unreadable <html>"),
            ("text/html", " \r\n", None, "nothing"),
            ("text/plain", "12", None, "unreadable 12"),
        ] {
            assert_eq!(shape(kind, text, cut), want, "{kind} {text}");
        }
    }
}
