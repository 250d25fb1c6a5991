//! Everything that is not a model call, and the events that ac7 writes about itself.
//!
//! Previews leave here longer than they will be stored ([`WINDOW`]): redaction must see a secret whole, and only
//! then are they cut to [`PREVIEW`] bytes.
use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::session;
use crate::activity::{Event, OpaqueEntry};
use crate::capture::exchange::{
    Body, Exchange, Headers, RequestHead, ResponseHead, SocketCall, SocketSummary, Target,
};

/// Bytes of a stored preview, at most.
pub const PREVIEW: usize = 4096;

/// Bytes of a preview before redaction, at most.
const WINDOW: usize = 64 * 1024;

/// An exchange as it was seen.
#[must_use]
pub fn exchange(x: &Exchange) -> Event {
    let mut entry = entry(&x.target, &x.request, x.started_at, x.ended_at);
    entry.request_body_preview = preview(&x.request.headers, &x.request_body);
    if let Some(response) = &x.response {
        entry.status = Some(response.status);
        entry.response_headers.clone_from(&response.headers.0);
        entry.response_body_preview = preview(&response.headers, &x.response_body);
    }
    for (bytes, hash, body) in [
        ("requestBodyBytes", "requestSha256", &x.request_body),
        ("responseBodyBytes", "responseSha256", &x.response_body),
    ] {
        if body.wire_len > 0 {
            entry.more.insert(bytes.into(), json!(body.wire_len));
        }
        if let Some(sha256) = &body.sha256 {
            entry.more.insert(hash.into(), json!(sha256));
        }
    }
    if x.truncated() || x.response.is_none() {
        entry.more.insert("truncated".into(), Value::Bool(true));
    }
    Event::opaque(entry)
}

/// A WebSocket after its end. Previews are the first text each way.
#[must_use]
pub fn socket(s: &SocketSummary) -> Event {
    let mut entry = upgraded(&s.target, &s.request, &s.response, s.started_at, s.ended_at);
    entry.request_body_preview = text(&s.first_up, false, true);
    entry.response_body_preview = text(&s.first_down, false, true);
    let counts = json!({
        "messagesUp": s.messages_up, "messagesDown": s.messages_down,
        "bytesUp": s.bytes_up, "bytesDown": s.bytes_down,
    });
    entry.more.insert("socket".into(), counts);
    Event::opaque(entry)
}

/// A call over a WebSocket whose request is not in the shape of its kind.
#[must_use]
pub fn socket_call(call: &SocketCall) -> Event {
    let mut entry = upgraded(&call.target, &call.request, &call.response, call.started_at, call.ended_at);
    entry.request_body_preview = text(&call.asked, false, true);
    let lines: Vec<&[u8]> = call.answered.iter().map(|(_, line)| line.as_slice()).take(64).collect();
    entry.response_body_preview = text(&lines.join(&b'\n'), false, true);
    if call.truncated {
        entry.more.insert("truncated".into(), Value::Bool(true));
    }
    Event::opaque(entry)
}

fn upgraded(
    target: &Target,
    request: &RequestHead,
    response: &ResponseHead,
    start: u64,
    end: u64,
) -> OpaqueEntry {
    let mut entry = entry(target, request, start, end);
    entry.status = Some(response.status);
    entry.response_headers.clone_from(&response.headers.0);
    entry
}

fn entry(target: &Target, request: &RequestHead, started_at: u64, ended_at: u64) -> OpaqueEntry {
    let mut more = Map::new();
    if let Some(session) = session(&request.headers) {
        more.insert("session".into(), session.to_json());
    }
    if let Some(client) = request.headers.get("user-agent") {
        more.insert("client".into(), json!(client));
    }
    OpaqueEntry {
        started_at,
        ended_at,
        host: target.host.clone(),
        method: request.method.clone(),
        url: url(target, &request.target),
        request_headers: request.headers.0.clone(),
        more,
        ..OpaqueEntry::default()
    }
}

/// `host:port`, an IPv6 literal in brackets.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The URL asked for: with the port only where it is not the scheme's own.
fn url(target: &Target, asked: &str) -> String {
    if asked.contains("://") && !asked.starts_with('/') {
        return asked.to_string();
    }
    let default = if target.scheme == "https" { 443 } else { 80 };
    let authority = authority(&target.host, target.port);
    let authority = authority.strip_suffix(&format!(":{default}")).unwrap_or(&authority);
    let slash = if asked.starts_with('/') { "" } else { "/" };
    format!("{}://{authority}{slash}{asked}", target.scheme)
}

fn preview(headers: &Headers, body: &Body) -> Option<String> {
    let kind = headers.get("content-type").unwrap_or("").to_ascii_lowercase();
    let kind = kind.split(';').next().unwrap_or("").trim();
    let is_text = kind.starts_with("text/")
        || ["json", "xml", "x-www-form-urlencoded", "javascript", "event-stream", "graphql"]
            .iter()
            .any(|end| kind.ends_with(end));
    // A body that is kept as a preview alone may end early without a `cut`.
    let is_cut = body.cut.is_some() || body.wire_len > body.bytes.len() as u64;
    text(&body.bytes, is_cut, is_text)
}

/// The start of a body as text, lossily; `None` for an empty or a binary one.
fn text(bytes: &[u8], cut: bool, declared_text: bool) -> Option<String> {
    let mut window = &bytes[..bytes.len().min(WINDOW)];
    let is_control = |b: &u8| *b < 0x20 && !matches!(b, 7..=13 | 0x1B);
    if window.is_empty() || window.iter().any(is_control) {
        return None;
    }
    if cut || bytes.len() >= WINDOW {
        window = &window[..before_token(window)];
    }
    let text = String::from_utf8_lossy(window);
    // A character that the window cuts in half is no sign of a binary body.
    let broken = matches!(&text, Cow::Owned(t) if t.trim_end_matches('\u{FFFD}').contains('\u{FFFD}'));
    (declared_text || !broken).then(|| text.into_owned())
}

/// Where a text that was cut may end: half a secret is no longer recognised, so what could be one is left out.
pub fn before_token(bytes: &[u8]) -> usize {
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'+' | b'/' | b'=');
    let token = bytes.iter().rev().take(PREVIEW).take_while(|b| is_token(b)).count();
    bytes.len() - token
}

/// What a note is about; the URL says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Events that were lost.
    Dropped,
    /// Exchanges that are incomplete because capture could not keep up.
    Truncated,
    /// Traffic that capture could not follow.
    Unparsed,
}

/// A note of ac7 about its own work: `count` things happened for `reason`, told at `now` (ms since epoch).
#[must_use]
pub fn note(kind: Note, count: u64, reason: &str, now: u64) -> Event {
    note_with(kind, json!({"count": count, "reason": reason}), now)
}

fn note_with(kind: Note, about: Value, now: u64) -> Event {
    let url = match kind {
        Note::Dropped => "ac7:dropped",
        Note::Truncated => "ac7:truncated",
        Note::Unparsed => "ac7:unparsed",
    };
    Event::opaque(OpaqueEntry {
        started_at: now,
        ended_at: now,
        host: "ac7".into(),
        method: "NOTE".into(),
        url: url.into(),
        more: Map::from_iter([("note".to_string(), about)]),
        ..OpaqueEntry::default()
    })
}

/// Capture gave up on a connection.
#[must_use]
pub fn gave_up(target: &Target, reason: &str, at: u64) -> Event {
    let about = json!({"count": 1, "reason": reason, "target": authority(&target.host, target.port)});
    note_with(Note::Unparsed, about, at)
}

/// A tunnel that was not decrypted. Times are ms since epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel<'a> {
    /// Lower case, an IPv6 literal without brackets.
    pub host: &'a str,
    pub port: u16,
    /// See [`crate::capture::scope::Reason::word`].
    pub reason: &'a str,
    /// The alert with which the client refused our certificate.
    pub alert: Option<&'a str>,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub started_at: u64,
    pub ended_at: u64,
}

/// The event of a tunnel.
#[must_use]
pub fn tunnel(t: &Tunnel<'_>) -> Event {
    let mut about = json!({"reason": t.reason, "bytesUp": t.bytes_up, "bytesDown": t.bytes_down});
    if let Some(alert) = t.alert {
        about["alert"] = json!(alert);
    }
    Event::opaque(OpaqueEntry {
        started_at: t.started_at,
        ended_at: t.ended_at,
        host: t.host.into(),
        method: "CONNECT".into(),
        url: authority(t.host, t.port),
        more: Map::from_iter([("tunnel".to_string(), about)]),
        ..OpaqueEntry::default()
    })
}

/// An upstream that could not be reached or trusted: what the agent was told, and why. Times are the first and the
/// last moment, ms since epoch.
#[must_use]
pub fn refused(host: &str, port: u16, why: &str, (started_at, ended_at): (u64, u64)) -> Event {
    Event::opaque(OpaqueEntry {
        started_at,
        ended_at,
        host: host.into(),
        method: "CONNECT".into(),
        url: authority(host, port),
        response_body_preview: Some(why.to_string()),
        ..OpaqueEntry::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{Note, PREVIEW, Tunnel, WINDOW, gave_up, note, text, tunnel, url};
    use crate::capture::exchange::Target;
    use serde_json::json;

    fn target(scheme: &'static str, host: &str, port: u16) -> Target {
        Target { scheme, host: host.into(), port }
    }

    #[test]
    fn urls() {
        for (scheme, host, port, asked, want) in [
            ("https", "a.example", 443, "/x?y=1", "https://a.example/x?y=1"),
            ("https", "a.example", 8443, "/", "https://a.example:8443/"),
            ("http", "a.example", 80, "/", "http://a.example/"),
            ("http", "a.example", 443, "/", "http://a.example:443/"),
            ("http", "a.example", 80, "http://a.example/p", "http://a.example/p"),
            ("https", "::1", 443, "/", "https://[::1]/"),
            ("https", "::1", 4443, "/", "https://[::1]:4443/"),
            ("https", "a.example", 443, "*", "https://a.example/*"),
            ("https", "a.example", 443, "/to?u=http://b", "https://a.example/to?u=http://b"),
        ] {
            assert_eq!(url(&target(scheme, host, port), asked), want);
        }
    }

    #[test]
    fn previews_are_of_text_alone() {
        let long = "é".repeat(WINDOW);
        let unknown = |bytes: &[u8]| text(bytes, false, false);
        assert_eq!(unknown(b""), None);
        assert_eq!(unknown(b"a\tb\r\n\x1B[0m"), Some("a\tb\r\n\x1B[0m".into()));
        assert_eq!(unknown(b"a\0b"), None);
        assert_eq!(unknown(b"\x89PNG\r\n\x1A\n"), None);
        assert_eq!(unknown(b"caf\xE9 au lait"), None);
        assert_eq!(text(b"caf\xE9 au lait", false, true), Some("caf\u{FFFD} au lait".into()));
        assert!(unknown(&long.as_bytes()[1..]).is_none_or(|t| t.len() <= WINDOW + 3));
        assert_eq!(unknown(long.as_bytes()).map(|t| t.len()), Some(WINDOW));
        assert_eq!(
            unknown(&[b'a'; WINDOW]).map(|t| t.len()),
            Some(WINDOW - PREVIEW),
            "perhaps cut by another"
        );
    }

    #[test]
    fn what_may_be_half_a_secret_at_a_cut_is_left_out() {
        assert_eq!(text(b"key: sk-ant-api03-AAA", true, true), Some("key: ".into()));
        assert_eq!(text(b"key: sk-ant-api03-AAA", false, true), Some("key: sk-ant-api03-AAA".into()));
        let long = format!("{} sk-ant-{}", "x ".repeat(WINDOW / 2 - 10), "A".repeat(100));
        let shown = text(long.as_bytes(), false, true).unwrap();
        assert!(shown.ends_with("x  ") && !shown.contains("sk-"), "{}", &shown[shown.len() - 40..]);
        let run = "A".repeat(2 * WINDOW);
        assert_eq!(text(run.as_bytes(), false, true).unwrap().len(), WINDOW - PREVIEW);
    }

    #[test]
    fn notes_and_tunnels_are_opaque_events() {
        let gone = gave_up(&target("https", "a.example", 443), "the request line is not HTTP", 5);
        assert_eq!(
            gone.to_json(),
            json!({"kind": "opaque_http", "ts": 5, "duration": 0, "entry": {
                "kind": "opaque_http", "startedAt": 5, "endedAt": 5, "host": "ac7", "method": "NOTE",
                "url": "ac7:unparsed", "status": null, "requestHeaders": {}, "responseHeaders": {},
                "requestBodyPreview": null, "responseBodyPreview": null,
                "note": {"count": 1, "reason": "the request line is not HTTP", "target": "a.example:443"}}})
        );
        let dropped = note(Note::Dropped, 3, "the broker did not answer", 9).to_json();
        assert_eq!(dropped["entry"]["url"], "ac7:dropped");
        assert_eq!(dropped["entry"]["note"], json!({"count": 3, "reason": "the broker did not answer"}));
        assert_eq!(note(Note::Truncated, 1, "x", 1).to_json()["entry"]["url"], "ac7:truncated");
        let mut t = Tunnel {
            host: "::1",
            port: 443,
            reason: "rejected",
            alert: Some("unknown_ca"),
            bytes_up: 1,
            bytes_down: 2,
            started_at: 10,
            ended_at: 25,
        };
        let event = tunnel(&t).to_json();
        assert_eq!(event["duration"], 15);
        assert_eq!(event["entry"]["url"], "[::1]:443");
        assert_eq!(event["entry"]["method"], "CONNECT");
        assert_eq!(
            event["entry"]["tunnel"],
            json!({"reason": "rejected", "bytesUp": 1, "bytesDown": 2, "alert": "unknown_ca"})
        );
        t.alert = None;
        assert_eq!(tunnel(&t).to_json()["entry"]["tunnel"].get("alert"), None);
    }
}
