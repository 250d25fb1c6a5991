//! What inputs are made from: recordings, and ways to spoil bytes and JSON.
use super::random::Random;
use ac7::capture::exchange::{
    Body, Captured, Cut, Exchange, Headers, RequestHead, ResponseHead, SocketCall, Target,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder)
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// One recorded connection: its host, and the plaintext each way.
pub struct Recording {
    pub host: String,
    pub request: Vec<u8>,
    pub response: Vec<u8>,
}

/// The connections in `fixtures/http1` that are short enough for many rounds.
pub fn recordings() -> Vec<Recording> {
    let mut out = Vec::new();
    for path in list(&fixtures("http1")).iter().flat_map(|folder| list(folder)) {
        if path.extension().is_some_and(|e| e == "req") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let host = name.split_once('-').unwrap().1.to_string();
            let (request, response) =
                (fs::read(&path).unwrap(), fs::read(path.with_extension("res")).unwrap());
            if request.len() + response.len() < 80_000 {
                out.push(Recording { host, request, response });
            }
        }
    }
    assert!(out.len() > 20, "recordings are there");
    out
}

/// The coded bodies in `fixtures/codings` that are short, with their codings.
pub fn coded_bodies() -> Vec<(String, Vec<u8>)> {
    let folder = fixtures("codings");
    let index = read_json(&folder.join("index.json"));
    let text = |v: &Value| v.as_str().unwrap().to_string();
    let all = index.as_array().unwrap().iter();
    let all = all.map(|e| (text(&e["coding"]), fs::read(folder.join(text(&e["file"]))).unwrap()));
    all.filter(|(_, bytes)| bytes.len() < 10_000).collect()
}

/// The model calls in `fixtures/llm`, as the reassembler gives them out.
pub fn calls() -> Vec<Captured> {
    list(&fixtures("llm")).iter().map(|folder| call(folder)).collect()
}

/// The events in `fixtures/activity` and `fixtures/llm`.
pub fn events() -> Vec<Value> {
    let calls = list(&fixtures("llm")).into_iter().map(|folder| folder.join("event.json"));
    calls.chain(list(&fixtures("activity"))).map(|path| read_json(&path)).collect()
}

fn call(folder: &Path) -> Captured {
    let head = read_json(&folder.join("head.json"));
    let text = |name: &str| head[name].as_str().unwrap().to_string();
    let headers = |name: &str| {
        let pair = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_string());
        Headers(head[name].as_object().into_iter().flatten().map(pair).collect())
    };
    let target = Target { scheme: "https", host: text("host"), port: 443 };
    let request =
        RequestHead { method: text("method"), target: text("target"), headers: headers("requestHeaders") };
    let asked = fs::read(folder.join("request.json")).unwrap();
    let response = head["status"].as_u64().map(|status| ResponseHead {
        status: u16::try_from(status).unwrap(),
        headers: headers("responseHeaders"),
    });
    let messages = folder.join("response.messages.json");
    if messages.exists() {
        let answered = read_json(&messages);
        return socket_call(target, request, response.unwrap(), asked, answered.as_array().unwrap());
    }
    let frames = folder.join("response.frames.json");
    let answer = if frames.exists() {
        read_json(&frames).as_array().unwrap().iter().flat_map(amazon_frame).collect()
    } else {
        let mut files = list(folder).into_iter().filter(|f| f.to_str().unwrap().contains("/response."));
        files.next_back().map_or_else(Vec::new, |file| fs::read(file).unwrap())
    };
    let cut = |name: &str| head[name].is_string().then_some(Cut::Ended);
    Captured::Exchange(Box::new(Exchange {
        target,
        request,
        request_body: body(asked, cut("requestCut"), 1000),
        response,
        response_body: body(answer, cut("responseCut"), 2000),
        started_at: 1000,
        ended_at: 9000,
    }))
}

/// A body that came in one piece.
pub fn body(bytes: Vec<u8>, cut: Option<Cut>, at: u64) -> Body {
    Body { wire_len: bytes.len() as u64, marks: vec![(0, at)], bytes, cut, sha256: None }
}

/// A call over a WebSocket.
pub fn socket_call(
    target: Target,
    request: RequestHead,
    response: ResponseHead,
    asked: Vec<u8>,
    answered: &[Value],
) -> Captured {
    let answered = (2000..).zip(answered.iter().map(|m| m.to_string().into_bytes())).collect();
    Captured::SocketCall(Box::new(SocketCall {
        target,
        request,
        response,
        asked,
        answered,
        started_at: 1000,
        ended_at: 9000,
        truncated: false,
    }))
}

/// A message of Amazon's event stream: `{event, payload}`, `{event, chunk}` or `{exception, payload}`.
pub fn amazon_frame(message: &Value) -> Vec<u8> {
    let (name, value) = match message["exception"].as_str() {
        Some(exception) => (":exception-type", exception),
        None => (":event-type", message["event"].as_str().unwrap_or("chunk")),
    };
    let payload = match message.get("chunk") {
        Some(chunk) => json!({"bytes": STANDARD.encode(chunk.to_string())}),
        None => message["payload"].clone(),
    };
    let payload = payload.to_string();
    let mut head = vec![u8::try_from(name.len()).unwrap()];
    head.extend_from_slice(name.as_bytes());
    head.push(7);
    head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    head.extend_from_slice(value.as_bytes());
    let length = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let (total, sum) = (length(head.len() + payload.len() + 16), [0; 4]);
    [&total, &length(head.len()), &sum[..], &head, payload.as_bytes(), &sum].concat()
}

/// Pieces that mean something to one of the parsers, a bar between them.
const TOKENS: &[u8] = b"\r\n|\n|\r|\r\n\r\n| |:|;|,|\0|\xff|0\r\n\r\n|ffffffffffffffff|GET / HTTP/1.1\r\n|HEAD / HTTP/1.0\r\n|\
    CONNECT a:1 HTTP/1.1\r\n\r\n|HTTP/1.1 200 OK\r\n|HTTP/1.1 100 Continue\r\n\r\n|HTTP/1.1 101 x\r\n|HTTP/1.1 204\r\n\r\n|\
    Content-Length: 5\r\n|content-length: 18446744073709551615\r\n|Transfer-Encoding: chunked\r\n|\
    Transfer-Encoding: gzip\r\n|Connection: Upgrade\r\nUpgrade: websocket\r\n|Content-Encoding: gzip\r\n|\
    Content-Encoding: br\r\n|Content-Encoding: zstd, deflate\r\n|Sec-WebSocket-Extensions: permessage-deflate\r\n|\
    \x1f\x8b\x08|\x28\xb5\x2f\xfd|\x50\x2a\x4d\x18|\x00\x00\xff\xff|\x81\x7e|\x81\x7f|\x89\x00|\x00\x80|\"|\\|{|}|[|]|\
    null|-1|1e999|99999999999999999999|\\ud800|\\u0000|\n\ndata: |data:|event: error\n|[DONE]|\"type\":\"error\",|\
    \"delta\":|\"index\":7,|\"content\":[|\"cache_control\":{},|\"messages\":|\"events\":[|\xEF\xBB\xBF";

/// One of the pieces that a bar separates.
fn token<'a>(all: &'a [u8], random: &mut Random) -> &'a [u8] {
    let at = random.below(all.iter().filter(|b| **b == b'|').count() + 1);
    all.split(|b| *b == b'|').nth(at).unwrap()
}

/// Spoil `bytes` in a few places; `other` is what pieces are spliced in from.
pub fn spoil(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.size(6) {
        // Twice as often in the first half: heads are there.
        let at = random.below(bytes.len() + 1).min(random.below(bytes.len() + 1));
        let end = (at + random.size(64)).min(bytes.len());
        match random.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.size(400)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            4 | 5 => {
                let token = token(TOKENS, random);
                let end = if random.one_in(2) { at } else { end };
                bytes.splice(at..end, token.iter().copied());
            }
            6 if at < end => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            7 => {
                let number = bytes[at..].iter().position(u8::is_ascii_digit).map_or(at, |n| at + n);
                let digits = bytes[number..].iter().take_while(|b| b.is_ascii_digit()).count();
                let odd = random.pick(&["0", "1", "65536", "4294967295", "9223372036854775808", "-1", "007"]);
                bytes.splice(number..number + digits, odd.bytes());
            }
            _ if at < end => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

/// Names that some parser looks for.
fn name(random: &mut Random) -> String {
    const NAMES: &[u8] = b"type|text|content|role|messages|system|tools|name|input|id|index|delta|error|message|model|\
        usage|stream|response|output|item|choices|candidates|parts|arguments|tool_calls|function|cache_control|thinking|\
        citations|status|systemParts|ts|kind|entry|request|truncated|session|temperature|isError|raw";
    String::from_utf8(token(NAMES, random).to_vec()).unwrap()
}

/// Any JSON value, rarely a large one.
pub fn odd_value(random: &mut Random) -> Value {
    match random.below(16) {
        0 => Value::Null,
        1 => json!(random.one_in(2)),
        2 => json!([0, 1, 200, u64::MAX][random.below(4)]),
        3 => json!([-1, i64::MIN][random.below(2)]),
        4 => json!(f64::from_bits(random.number())),
        5 => json!([0.1, 1e300, 1.5, 2.0, 123_456_789.123_456_78][random.below(5)]),
        6 => json!([]),
        7 => json!({}),
        8 => json!([odd_value(random), odd_value(random)]),
        9 | 10 => json!({name(random): odd_value(random), random.text(5): odd_value(random)}),
        11 => {
            let levels = 80 + random.below(40);
            (0..levels).fold(
                json!(1),
                |inner, _| if random.one_in(2) { json!([inner]) } else { json!({"a": inner}) },
            )
        }
        12 => json!(name(random)),
        _ => json!(random.text(30)),
    }
}

/// Change one value somewhere inside `value`.
pub fn twist(value: &mut Value, random: &mut Random) {
    let here = random.one_in(6);
    match value {
        Value::Array(items) if !items.is_empty() && !here => {
            let at = random.below(items.len());
            twist(&mut items[at], random);
        }
        Value::Object(map) if !map.is_empty() && !here => {
            let at = random.below(map.len());
            twist(map.values_mut().nth(at).unwrap(), random);
        }
        Value::Array(items) => match random.below(4) {
            0 if !items.is_empty() => drop(items.remove(random.below(items.len()))),
            1 if !items.is_empty() => {
                let (at, again) = (random.below(items.len()), random.below(items.len()));
                items.insert(at, items[again].clone());
            }
            2 => *value = odd_value(random),
            _ => items.insert(random.below(items.len() + 1), odd_value(random)),
        },
        Value::Object(map) => match random.below(4) {
            0 if !map.is_empty() => {
                let at = random.below(map.len());
                let name = map.keys().nth(at).unwrap().clone();
                map.shift_remove(&name);
            }
            1 => *value = odd_value(random),
            _ => {
                let name = if random.one_in(4) { random.text(12) } else { name(random) };
                map.insert(name, odd_value(random));
            }
        },
        Value::String(text) if random.one_in(2) => {
            let at = random.below(text.len() + 1);
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.insert_str(at, &random.text(20));
        }
        other => *other = odd_value(random),
    }
}
