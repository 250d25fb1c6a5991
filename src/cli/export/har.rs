//! Rows as an HTTP Archive (HAR 1.2), which browsers and proxies read.
use serde_json::{Value, json};

use crate::sys::localtime::Zone;

/// What stands before the entries.
pub fn head() -> String {
    let creator = json!({"name": "ac7", "version": env!("CARGO_PKG_VERSION")});
    format!("{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"entries\":[")
}

/// What stands after them.
pub const TAIL: &str = "]}}\n";

/// The entry of an event; `None` for what is no exchange.
pub fn entry(event: &Value) -> Option<Value> {
    let entry = event.get("entry")?;
    let (started, ended) = (entry.get("startedAt")?.as_u64()?, entry.get("endedAt")?.as_u64()?);
    let took = ended.saturating_sub(started);
    let wait =
        entry.get("firstTokenAt").and_then(Value::as_u64).map_or(took, |at| at.saturating_sub(started));
    let wait = wait.min(took);
    let (mut request, mut response) =
        if event["kind"] == "llm_exchange" { call(entry) } else { opaque(entry) };
    for (half, more) in [
        (&mut request, json!({"httpVersion": "HTTP/1.1", "cookies": [], "headersSize": -1, "bodySize": -1})),
        (
            &mut response,
            json!({"httpVersion": "HTTP/1.1", "cookies": [], "headersSize": -1, "bodySize": -1,
            "statusText": "", "redirectURL": ""}),
        ),
    ] {
        if let (Value::Object(half), Value::Object(more)) = (half, more) {
            half.extend(more);
        }
    }
    Some(json!({
        "startedDateTime": moment(started),
        "time": took,
        "request": request,
        "response": response,
        "cache": {},
        "timings": {"send": 0, "wait": wait, "receive": took - wait},
    }))
}

/// A model call. Its path and headers are not recorded: the path is the provider's usual one.
fn call(entry: &Value) -> (Value, Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let path = match entry["kind"].as_str().unwrap_or_default() {
        "openai_chat" => "/v1/chat/completions".to_string(),
        "openai_responses" => "/v1/responses".to_string(),
        "gemini" => format!("/v1beta/models/{}:generateContent", text(&entry["request"]["model"])),
        _ => "/v1/messages".to_string(),
    };
    let host = entry["host"].as_str().unwrap_or("unknown.invalid");
    let given = |name: &str, value: &Value| value.as_str().map(|v| json!({"name": name, "value": v}));
    let request = json!({
        "method": "POST",
        "url": format!("https://{host}{path}"),
        "comment": "as ac7 understood it, not byte for byte; the path is the provider's usual one",
        "queryString": [],
        "headers": given("user-agent", &entry["client"]).into_iter().collect::<Vec<_>>(),
        "postData": {"mimeType": "application/json", "text": entry["request"].to_string()},
    });
    let body = if entry["response"].is_null() { String::new() } else { entry["response"].to_string() };
    let response = json!({
        "status": entry["response"]["status"].as_u64().unwrap_or(0),
        "headers": given("request-id", &entry["requestId"]).into_iter().collect::<Vec<_>>(),
        "content": {"size": body.len(), "mimeType": "application/json", "text": body},
    });
    (request, response)
}

/// Any other exchange, with the beginnings of its bodies.
fn opaque(entry: &Value) -> (Value, Value) {
    let headers = |value: &Value| -> Value {
        let pairs = value.as_object().into_iter().flatten();
        pairs.map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    let kind =
        |value: &Value| value["content-type"].as_str().unwrap_or("application/octet-stream").to_string();
    let (host, target) =
        (entry["host"].as_str().unwrap_or_default(), entry["url"].as_str().unwrap_or_default());
    let url = if target.starts_with('/') { format!("https://{host}{target}") } else { target.to_string() };
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        json!({"name": name, "value": value})
    };
    let pairs: Value = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    let mut request = json!({
        "method": entry["method"],
        "url": url,
        "queryString": pairs,
        "headers": headers(&entry["requestHeaders"]),
    });
    if let Some(text) = entry["requestBodyPreview"].as_str() {
        request["postData"] = json!({"mimeType": kind(&entry["requestHeaders"]), "text": text});
    }
    let body = entry["responseBodyPreview"].as_str().unwrap_or_default();
    let response = json!({
        "status": entry["status"].as_u64().unwrap_or(0),
        "headers": headers(&entry["responseHeaders"]),
        "content": {"size": body.len(), "mimeType": kind(&entry["responseHeaders"]), "text": body},
    });
    (request, response)
}

/// ISO 8601, in UTC.
fn moment(ms: u64) -> String {
    let at = Zone::utc().local(ms);
    format!("{}T{}.{:03}Z", at.date(), at.clock(), ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_become_entries() {
        let event = json!({"kind": "llm_exchange", "ts": 9, "duration": 3, "entry": {"kind": "openai_chat", "host": "h.example",
            "startedAt": 1_795_251_667_005_u64, "endedAt": 1_795_251_668_005_u64, "firstTokenAt": 1_795_251_667_105_u64,
            "request": {"model": "m"}, "response": {"status": 200}, "requestId": "r1"}});
        let made = entry(&event).unwrap();
        assert_eq!(made["startedDateTime"], "2026-11-21T09:01:07.005Z");
        assert_eq!(made["timings"], json!({"send": 0, "wait": 100, "receive": 900}));
        assert_eq!(made["request"]["url"], "https://h.example/v1/chat/completions");
        assert_eq!(made["request"]["postData"]["text"], r#"{"model":"m"}"#);
        assert_eq!((&made["response"]["status"], &made["time"]), (&json!(200), &json!(1000)));
        let event = json!({"kind": "opaque_http", "entry": {"kind": "opaque_http", "host": "h.example", "method": "GET",
            "url": "/a?x=1&y", "status": 404, "startedAt": 5, "endedAt": 4, "requestHeaders": {"accept": "*/*"},
            "responseHeaders": {"content-type": "text/plain"}, "responseBodyPreview": "no"}});
        let made = entry(&event).unwrap();
        assert_eq!(
            made["request"]["queryString"],
            json!([{"name": "x", "value": "1"}, {"name": "y", "value": ""}])
        );
        assert_eq!(made["request"]["headers"], json!([{"name": "accept", "value": "*/*"}]));
        assert_eq!(made["response"]["content"], json!({"size": 2, "mimeType": "text/plain", "text": "no"}));
        assert_eq!(made["time"], 0);
        assert!(entry(&json!({"kind": "objective_open", "ts": 1})).is_none());
    }
}
