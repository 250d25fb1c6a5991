//! Every folder of fixtures/llm is one exchange: heads, bodies, and the event it must become.
//!
//! The byte at offset n of a response arrives at 2000 + n ms, so that `firstTokenAt` says which event was the first.
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use serde_json::{Value, json};

use super::fit::fit_to;
use super::{LIMIT, STACK, event, eventstream, fit};
use crate::activity::Event;
use crate::capture::exchange::{
    Body, Captured, Cut, Exchange, Headers, RequestHead, ResponseHead, SocketCall, SocketSummary, Target,
};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn headers(value: &Value) -> Headers {
    let map = value.as_object().unwrap();
    Headers(map.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap().to_string())).collect())
}

fn cut(value: &Value) -> Option<Cut> {
    match value.as_str()? {
        "limit" => Some(Cut::Limit),
        "ended" => Some(Cut::Ended),
        other => panic!("{other} is no cut"),
    }
}

/// The bytes of a response: as they are, or Bedrock's messages from their readable form.
fn response(folder: &Path, head: &Value) -> Vec<u8> {
    if let Some(text) = head["body"].as_str() {
        return text.as_bytes().to_vec();
    }
    let frames = folder.join("response.frames.json");
    if frames.exists() {
        return read(&frames).as_array().unwrap().iter().flat_map(frame).collect();
    }
    let files = ["response.sse", "response.json"].map(|name| folder.join(name));
    files.iter().find(|f| f.exists()).map_or_else(Vec::new, |f| fs::read(f).unwrap())
}

fn frame(message: &Value) -> Vec<u8> {
    if let Some(exception) = message["exception"].as_str() {
        let headers = [(":exception-type", exception), (":message-type", "exception")];
        return eventstream::encode(&headers, message["payload"].to_string().as_bytes());
    }
    let payload = match message.get("chunk") {
        Some(chunk) => {
            let bytes = base64::engine::general_purpose::STANDARD.encode(chunk.to_string());
            json!({"bytes": bytes, "p": "abcd"})
        }
        None => message["payload"].clone(),
    };
    let headers = [(":event-type", message["event"].as_str().unwrap()), (":message-type", "event")];
    eventstream::encode(&headers, payload.to_string().as_bytes())
}

fn captured(folder: &Path) -> Captured {
    let head = read(&folder.join("head.json"));
    let text = |name: &str| head[name].as_str().unwrap().to_string();
    let target = Target { scheme: "https", host: text("host"), port: 443 };
    let request = RequestHead {
        method: text("method"),
        target: text("target"),
        headers: headers(&head["requestHeaders"]),
    };
    let asked = fs::read(folder.join("request.json")).unwrap();
    let response_head = head["status"].as_u64().map(|status| ResponseHead {
        status: u16::try_from(status).unwrap(),
        headers: headers(&head["responseHeaders"]),
    });
    let messages = folder.join("response.messages.json");
    if messages.exists() {
        let answered = read(&messages);
        let lines = answered.as_array().unwrap().iter().map(|m| m.to_string().into_bytes());
        return Captured::SocketCall(Box::new(SocketCall {
            target,
            request,
            response: response_head.unwrap(),
            asked,
            answered: (2000..).zip(lines).collect(),
            started_at: 1000,
            ended_at: 9000,
            truncated: false,
        }));
    }
    let bytes = response(folder, &head);
    let body = |bytes: Vec<u8>, cut, start: u64| Body {
        wire_len: bytes.len() as u64,
        marks: (0..bytes.len()).zip(start..).collect(),
        bytes,
        cut,
        sha256: None,
    };
    Captured::Exchange(Box::new(Exchange {
        target,
        request,
        request_body: body(asked, cut(&head["requestCut"]), 1000),
        response: response_head,
        response_body: body(bytes, cut(&head["responseCut"]), 2000),
        started_at: 1000,
        ended_at: 9000,
    }))
}

fn folders() -> Vec<PathBuf> {
    let all = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llm")).unwrap();
    let mut folders: Vec<PathBuf> = all.map(|f| f.unwrap().path()).collect();
    folders.sort();
    folders
}

#[test]
fn fixtures_become_their_events() {
    let folders = folders();
    let mut wrong = Vec::new();
    for folder in &folders {
        let got = event(&captured(folder)).to_json();
        if got != read(&folder.join("event.json")) {
            wrong.push(format!("{}:\n{}", folder.display(), serde_json::to_string_pretty(&got).unwrap()));
        }
        assert_eq!(Event::from_json(&got).unwrap().to_json(), got, "{}", folder.display());
    }
    assert!(folders.len() >= 30);
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), folders.len(), wrong.join("\n"));
}

#[test]
fn any_cut_of_a_stream_gives_an_event() {
    for name in
        ["anthropic-stream", "chat-stream", "responses-stream", "gemini-sse", "bedrock-converse-stream"]
    {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llm").join(name);
        let Captured::Exchange(whole) = captured(&folder) else { panic!("{name} is over HTTP") };
        for length in (0..whole.response_body.bytes.len()).step_by(7) {
            let mut x = whole.clone();
            x.response_body.bytes.truncate(length);
            x.response_body.cut = Some(Cut::Ended);
            let got = event(&Captured::Exchange(x)).to_json();
            assert_eq!(got["kind"], "llm_exchange", "{name} cut at {length}");
            assert_eq!(got["entry"]["truncated"], true, "{name} cut at {length}");
        }
    }
}

fn summary() -> SocketSummary {
    SocketSummary {
        target: Target { scheme: "https", host: "api.openai.com".into(), port: 443 },
        request: RequestHead {
            method: "GET".into(),
            target: "/v1/realtime?model=x".into(),
            headers: Headers(vec![("User-Agent".into(), "u".into()), ("Session-Id".into(), "s".into())]),
        },
        response: ResponseHead {
            status: 101,
            headers: Headers(vec![("Upgrade".into(), "websocket".into())]),
        },
        messages_up: 1,
        messages_down: 2,
        bytes_up: 3,
        bytes_down: 4,
        first_up: b"{\"type\":\"hello\"}".to_vec(),
        first_down: Vec::new(),
        started_at: 10,
        ended_at: 30,
    }
}

#[test]
fn a_socket_and_a_loss_are_opaque_events() {
    let got = event(&Captured::SocketSummary(Box::new(summary()))).to_json();
    let want = json!({"kind": "opaque_http", "ts": 30, "duration": 20, "entry": {
        "kind": "opaque_http", "startedAt": 10, "endedAt": 30, "host": "api.openai.com", "method": "GET",
        "url": "https://api.openai.com/v1/realtime?model=x", "status": 101,
        "requestHeaders": {"user-agent": "u", "session-id": "s"}, "responseHeaders": {"upgrade": "websocket"},
        "requestBodyPreview": "{\"type\":\"hello\"}", "responseBodyPreview": null,
        "session": {"id": "s"}, "client": "u",
        "socket": {"messagesUp": 1, "messagesDown": 2, "bytesUp": 3, "bytesDown": 4}}});
    assert_eq!(got, want);
    let target = Target { scheme: "https", host: "a.example".into(), port: 8443 };
    let got = event(&Captured::GaveUp { target, reason: "the head is too long", at: 7 }).to_json();
    assert_eq!(got["entry"]["url"], "ac7:unparsed");
    assert_eq!(got["entry"]["note"]["target"], "a.example:8443");
}

#[test]
fn what_is_said_about_paid_use_is_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llm/anthropic-request-cut");
    let Captured::Exchange(mut x) = captured(&folder) else { panic!("it is over HTTP") };
    let plain = event(&Captured::Exchange(x.clone())).to_json();
    assert_eq!(plain["entry"].get("overage"), None);
    let headers = &mut x.response.as_mut().unwrap().headers.0;
    headers.push(("Anthropic-RateLimit-Unified-Overage-Status".into(), "rejected".into()));
    headers.push(("anthropic-ratelimit-unified-overage-disabled-reason".into(), "org_level_disabled".into()));
    let got = event(&Captured::Exchange(x)).to_json();
    assert_eq!(
        got["entry"]["overage"],
        json!({"status": "rejected", "disabledReason": "org_level_disabled"})
    );
    let read = crate::activity::Event::from_json(&got).unwrap();
    assert_eq!(read.to_json(), got);
}

#[test]
fn hashes_of_bodies_that_were_too_long_are_kept() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llm/anthropic-request-cut");
    let Captured::Exchange(mut x) = captured(&folder) else { panic!("it is over HTTP") };
    x.request_body.sha256 = Some("ab".into());
    x.response_body.sha256 = Some("cd".into());
    let typed = event(&Captured::Exchange(x.clone())).to_json();
    x.request.target = "/elsewhere".into();
    let opaque = event(&Captured::Exchange(x)).to_json();
    for got in [typed, opaque] {
        assert_eq!(
            (&got["entry"]["requestSha256"], &got["entry"]["responseSha256"]),
            (&json!("ab"), &json!("cd"))
        );
    }
}

/// A request with these messages and tool arguments, answered by one text.
fn call(messages: &Value, input: &Value) -> Event {
    Event::from_json(&json!({"kind": "llm_exchange", "ts": 2, "duration": 1, "entry": {
        "kind": "anthropic_messages", "startedAt": 1, "endedAt": 2,
        "request": {"model": "m", "maxTokens": 1, "temperature": null, "system": "one\ntwo", "systemParts": [3, 3],
            "messages": messages, "tools": null},
        "response": {"stopReason": "tool_use", "stopSequence": null, "usage": null, "status": 200, "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": input}]}]}}}))
    .unwrap()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}]})
}

#[test]
fn an_event_that_fits_is_left_alone() {
    let mut event = call(&json!([user("hi")]), &json!({"a": [1, 2]}));
    let before = event.clone();
    assert_eq!(fit(&mut event), before.to_json().to_string());
    assert_eq!(event, before);
}

/// A limit for tests; the real one would make them slow.
const SMALL: usize = 40_000;

#[test]
fn the_longest_texts_are_cut_first() {
    let (long, longer) = ("✓".repeat(SMALL / 4), "\u{1}".repeat(SMALL));
    let mut event = call(&json!([user(&long), user(&longer), user("short")]), &json!({"a": "kept"}));
    let json = fit_to(&mut event, SMALL);
    assert!(json.len() <= SMALL && json.len() > SMALL - 100, "{}", json.len());
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(event.to_json(), value, "the event is what the text says");
    let entry = &value["entry"];
    assert_eq!(entry["truncated"], true);
    let in_json = |i: usize| entry["request"]["messages"][i]["content"][0]["text"].to_string().len();
    assert_eq!(in_json(2), 7);
    assert!(in_json(0).abs_diff(in_json(1)) <= 6, "cut to the same length: {} {}", in_json(0), in_json(1));
    assert_eq!(entry["request"]["systemParts"], json!([3, 3]));
    assert_eq!(entry["response"]["messages"][0]["content"][0]["input"], json!({"a": "kept"}));
}

#[test]
fn the_limit_of_an_event_is_4_mb() {
    let mut event = call(&json!([user(&"a".repeat(LIMIT))]), &json!({}));
    let length = fit(&mut event).len();
    assert!(length <= LIMIT && length > LIMIT - 100, "{length}");
}

#[test]
fn what_no_text_accounts_for_is_cut_too() {
    let many: Value = (0..2_000).map(|n| user(&n.to_string())).collect();
    let numbers: Value = (0..20_000).map(|n| json!(n)).collect();
    let blocks: Value = (0..2_000).map(|n| json!({"type": "text", "text": n.to_string()})).collect();
    let tools: Value =
        (0..2_000).map(|n| json!({"name": n.to_string(), "description": null, "inputSchema": {}})).collect();
    let mut with_tools = call(&json!([user("hi")]), &json!({})).to_json();
    with_tools["entry"]["request"]["tools"] = tools;
    for (mut event, what, least) in [
        (call(&many, &json!({})), "messages", SMALL / 4),
        (call(&json!([]), &json!({"numbers": numbers})), "numbers", SMALL - 100),
        (call(&json!([{"role": "user", "content": blocks}]), &json!({})), "blocks", SMALL / 4),
        (Event::from_json(&with_tools).unwrap(), "tools", 0),
    ] {
        let json = fit_to(&mut event, SMALL);
        assert!(json.len() <= SMALL && json.len() > least, "{what}: {}", json.len());
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["entry"]["truncated"], true, "{what}");
        if what == "messages" {
            let messages = value["entry"]["request"]["messages"].as_array().unwrap();
            assert_eq!(messages.last(), Some(&user("1999")), "the newest stay");
        }
    }
}

#[test]
fn deep_values_become_text_that_parsers_accept() {
    let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
    let mut event = call(&json!([]), &json!({"deep": deep}));
    let json = fit(&mut event);
    let value: Value = serde_json::from_str(&json).unwrap();
    let input = &value["entry"]["response"]["messages"][0]["content"][0]["input"];
    assert!(input.as_str().is_some_and(|text| text.starts_with("{\"deep\":[[[")), "{input}");
    assert_eq!(value["entry"].get("truncated"), None, "nothing is missing");
}

/// Stores take 100 levels.
#[test]
fn no_event_is_deeper_than_100_levels() {
    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(map) => 1 + map.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }
    let deepest = (80..110).map(|n| {
        let deep = (0..n).fold(json!(1), |inner, _| json!([inner]));
        let json = fit(&mut call(&json!([]), &deep));
        levels(&serde_json::from_str(&json).unwrap())
    });
    assert_eq!(deepest.max(), Some(100));
}

#[test]
fn opaque_events_are_cut() {
    let mut big = summary();
    big.first_up = "é".repeat(10_000).into_bytes();
    big.first_down = format!("a{}", "é".repeat(10_000)).into_bytes();
    big.request.headers.0.extend((0..100).map(|n| (format!("x-{n}"), "v".repeat(100_000))));
    let mut event = event(&Captured::SocketSummary(Box::new(big)));
    let value: Value = serde_json::from_str(&fit(&mut event)).unwrap();
    let length = |name: &str| value["entry"][name].as_str().unwrap().len();
    assert_eq!((length("requestBodyPreview"), length("responseBodyPreview")), (4096, 4095));
    assert_eq!(value["entry"]["truncated"], true);
    assert!(value.to_string().len() <= LIMIT);
}

/// xorshift64: numbers that are the same in every run.
fn random(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 1).unwrap() % below.max(1)
}

/// Swap in bytes and pieces that mean something to one of the parsers.
fn spoil(bytes: &mut Vec<u8>, state: &mut u64) {
    let pieces: [&[u8]; 14] = [
        b"\"",
        b"{",
        b"}",
        b"[",
        b"null",
        b"-1",
        b"1e999",
        b"99999999999999999999",
        b"\\ud800",
        b"\xFF",
        b"\n\n",
        b"data:",
        b"\0\0",
        b",",
    ];
    for _ in 0..=random(state, 3) {
        let at = random(state, bytes.len() + 1);
        let end = (at + random(state, 12)).min(bytes.len());
        let piece = pieces[random(state, pieces.len())];
        bytes.splice(at..end, piece.iter().copied());
    }
}

#[test]
fn spoiled_bodies_give_events_that_can_be_read() {
    let rules = crate::capture::redact::Rules::default();
    let mut state = 0x0DD_B0D1;
    let mut typed = 0;
    for folder in folders() {
        let whole = captured(&folder);
        for round in 0..100 {
            let spoiled = match whole.clone() {
                Captured::Exchange(mut x) => {
                    let body = if round % 3 == 0 { &mut x.request_body } else { &mut x.response_body };
                    spoil(&mut body.bytes, &mut state);
                    body.cut = (round % 2 == 0).then_some(Cut::Ended);
                    Captured::Exchange(x)
                }
                Captured::SocketCall(mut call) => {
                    let n = random(&mut state, call.answered.len());
                    spoil(&mut call.answered[n].1, &mut state);
                    Captured::SocketCall(call)
                }
                other => other,
            };
            let mut got = event(&spoiled);
            crate::capture::redact::event(&mut got, &rules);
            let value: Value = serde_json::from_str(&fit(&mut got)).unwrap();
            assert_eq!(Event::from_json(&value).unwrap().to_json(), value, "{}", folder.display());
            typed += usize::from(value["kind"] == "llm_exchange");
        }
    }
    assert!(typed > 2000, "only {typed} were still understood");
}

#[test]
fn the_deepest_json_fits_the_stack() {
    let deep = format!("{}{}", "[".repeat(118), "]".repeat(118));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/llm/anthropic-whole");
    let Captured::Exchange(mut x) = captured(&folder) else { panic!("it is over HTTP") };
    let text = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"x","y":DEEP}]}]}"#;
    x.request_body.bytes = text.replace("DEEP", &deep).into_bytes();
    let work = move || {
        let mut got = event(&Captured::Exchange(x));
        crate::capture::redact::event(&mut got, &crate::capture::redact::Rules::default());
        assert_eq!(got.kind(), "llm_exchange");
        assert!(fit(&mut got).contains("\"raw\":\"{"), "deeper than readers go: made a text");
    };
    std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
}
