//! Byte streams recorded from real clients (`fixtures/http1`), against what an independent decoder found in them.
//!
//! A folder holds `NN-HOST.req` and `NN-HOST.res`, the plaintext of one connection each way, and `expected.json`: the
//! exchanges in order with their offsets, facts, and digests of their decoded bodies.
use ac7::capture::exchange::{Body, Captured, Side, Target};
use ac7::capture::extract::may_be_model_call;
use ac7::capture::reassemble::{Connection, Limits};
use ac7::sys::random::to_hex;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// One recorded connection.
struct Recording {
    name: String,
    host: String,
    request: Vec<u8>,
    response: Vec<u8>,
    expected: Vec<Value>,
}

/// Small, fast, seeded: the same cuts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("below a usize")
    }
}

fn recordings() -> Vec<Recording> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/http1");
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).expect("fixtures are there");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        paths.sort();
        paths
    };
    let mut out = Vec::new();
    for folder in list(&top) {
        let expected = std::fs::read(folder.join("expected.json")).expect("expectations are there");
        let expected: Vec<Value> = serde_json::from_slice(&expected).expect("JSON");
        for path in list(&folder).iter().filter(|path| path.extension().is_some_and(|e| e == "req")) {
            let name = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_string();
            out.push(Recording {
                host: name.split_once('-').expect("NN-HOST").1.to_string(),
                request: std::fs::read(path).expect("readable"),
                response: std::fs::read(path.with_extension("res")).expect("readable"),
                expected: expected.iter().filter(|e| e["connection"] == name.as_str()).cloned().collect(),
                name: format!("{}/{name}", folder.file_name().and_then(|s| s.to_str()).expect("a name")),
            });
        }
    }
    assert!(out.len() > 30, "recordings are there");
    out
}

/// Feed a connection, in the order of its exchanges, in pieces of the sizes that `size` gives.
fn feed(recording: &Recording, mut size: impl FnMut() -> usize) -> Vec<Captured> {
    let target = Target { scheme: "https", host: recording.host.clone(), port: 443 };
    let mut connection = Connection::new(target, Limits::default(), may_be_model_call);
    let (mut out, mut now) = (Vec::new(), 1_000_000);
    let mut from = (0, 0);
    let offset =
        |e: &Value, name: &str| usize::try_from(e[name].as_u64().expect("an offset")).expect("small");
    let mut stops: Vec<_> =
        recording.expected.iter().map(|e| (offset(e, "requestEnd"), offset(e, "responseEnd"))).collect();
    stops.push((recording.request.len(), recording.response.len()));
    for to in stops {
        let pieces = [
            (Side::Agent, &recording.request[from.0..to.0]),
            (Side::Upstream, &recording.response[from.1..to.1]),
        ];
        for (side, mut bytes) in pieces {
            while !bytes.is_empty() {
                let (piece, rest) = bytes.split_at(size().clamp(1, bytes.len()));
                now += 1;
                connection.feed(side, piece, now, &mut out);
                bytes = rest;
            }
        }
        from = to;
    }
    connection.end(Side::Upstream, now + 1, &mut out);
    connection.end(Side::Agent, now + 2, &mut out);
    assert!(connection.over());
    check_times(&out, now);
    out
}

fn check_times(captured: &[Captured], last: u64) {
    for one in captured {
        let (started, ended) = match one {
            Captured::Exchange(e) => {
                assert!(e.response_body.marks.iter().all(|(_, at)| (e.started_at..=e.ended_at).contains(at)));
                (e.started_at, e.ended_at)
            }
            Captured::SocketCall(c) => (c.started_at, c.ended_at),
            Captured::SocketSummary(s) => (s.started_at, s.ended_at),
            Captured::GaveUp { at, .. } => (*at, *at),
        };
        assert!(1_000_000 < started && started <= ended && ended <= last, "{started} {ended}");
    }
}

/// What does not depend on when bytes came.
fn timeless(mut captured: Vec<Captured>) -> Vec<Captured> {
    for one in &mut captured {
        match one {
            Captured::Exchange(e) => {
                (e.started_at, e.ended_at) = (0, 0);
                e.request_body.marks.clear();
                e.response_body.marks.clear();
            }
            Captured::SocketCall(c) => {
                (c.started_at, c.ended_at) = (0, 0);
                c.answered.iter_mut().for_each(|(at, _)| *at = 0);
            }
            Captured::SocketSummary(s) => (s.started_at, s.ended_at) = (0, 0),
            Captured::GaveUp { at, .. } => *at = 0,
        }
    }
    captured
}

fn digest(body: &Body) -> Value {
    let sha256 = to_hex(ring::digest::digest(&ring::digest::SHA256, &body.bytes).as_ref());
    serde_json::json!({"bytes": body.bytes.len(), "sha256": sha256})
}

#[test]
fn gives_what_an_independent_decoder_found() {
    for recording in recordings() {
        let captured = feed(&recording, || usize::MAX);
        assert_eq!(captured.len(), recording.expected.len(), "{}: {captured:?}", recording.name);
        for (one, want) in captured.iter().zip(&recording.expected) {
            let name = format!("{} {}", recording.name, want["target"]);
            match one {
                Captured::Exchange(e) => {
                    assert_eq!(e.request.method, want["method"], "{name}");
                    assert_eq!(e.request.target, want["target"], "{name}");
                    assert_eq!(e.target.host, want["host"], "{name}");
                    assert_eq!(
                        e.response.as_ref().map(|r| r.status.into()),
                        want["status"].as_u64(),
                        "{name}"
                    );
                    assert_eq!(digest(&e.request_body), want["requestBody"], "{name}");
                    assert_eq!(digest(&e.response_body), want["responseBody"], "{name}");
                    let early = recording.name.starts_with("curl-early-answer");
                    assert_eq!(e.truncated(), early, "{name}");
                }
                Captured::SocketCall(call) => {
                    assert_eq!(want["websocket"], true, "{name}");
                    assert!(!call.truncated, "{name}");
                    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("JSON");
                    assert_eq!(json(&call.asked)["model"], want["llm"]["model"], "{name}");
                    let events: Vec<_> = call.answered.iter().map(|(_, bytes)| json(bytes)).collect();
                    let deltas = events.iter().filter(|e| e["type"] == "response.output_text.delta");
                    let text: String = deltas.filter_map(|e| e["delta"].as_str()).collect();
                    assert_eq!(text, want["llm"]["text"], "{name}");
                    assert_eq!(events.last().expect("an end")["type"], "response.completed", "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}

#[test]
fn gives_the_same_at_any_cut() {
    let mut random = Random(7);
    for recording in recordings() {
        let whole = timeless(feed(&recording, || usize::MAX));
        assert!(timeless(feed(&recording, || 1)) == whole, "{} byte by byte", recording.name);
        for round in 0..200 {
            let sizes = [1, 2, 3, 17, 100, 1460, 16384];
            let cut = timeless(feed(&recording, || 1 + random.below(sizes[random.0 as usize % sizes.len()])));
            assert!(cut == whole, "{} round {round}", recording.name);
        }
    }
}

/// Each direction is copied by a thread of its own, so one may run ahead of the other.
#[test]
fn gives_the_same_when_the_directions_are_out_of_step() {
    let mut random = Random(11);
    for recording in recordings() {
        let whole = timeless(feed(&recording, || usize::MAX));
        for _ in 0..8 {
            let target = Target { scheme: "https", host: recording.host.clone(), port: 443 };
            let mut connection = Connection::new(target, Limits::default(), may_be_model_call);
            let (mut agent, mut upstream, mut out) =
                (&recording.request[..], &recording.response[..], Vec::new());
            let bias = random.below(101);
            while !agent.is_empty() || !upstream.is_empty() {
                let first = upstream.is_empty() || (!agent.is_empty() && random.below(100) < bias);
                let (side, bytes) =
                    if first { (Side::Agent, &mut agent) } else { (Side::Upstream, &mut upstream) };
                let (piece, rest) = bytes.split_at((1 + random.below(2000)).min(bytes.len()));
                connection.feed(side, piece, 5, &mut out);
                *bytes = rest;
                if rest.is_empty() {
                    connection.end(side, 5, &mut out);
                }
            }
            assert!(connection.over());
            assert!(timeless(out) == whole, "{} bias {bias}", recording.name);
        }
    }
}

/// Nothing that a peer can send may stop the capture of others: no panic, and an end.
#[test]
fn survives_any_damage() {
    let mut random = Random(13);
    let recordings = recordings();
    for _ in 0..1500 {
        let recording = &recordings[random.below(recordings.len())];
        let mut damaged = Recording {
            name: recording.name.clone(),
            host: recording.host.clone(),
            request: recording.request.clone(),
            response: recording.response.clone(),
            expected: Vec::new(),
        };
        for bytes in [&mut damaged.request, &mut damaged.response] {
            for _ in 0..random.below(6) {
                let len = bytes.len().max(1);
                let at = random.below(len).min(random.below(len));
                match random.below(5) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..(at + 1 + random.below(50)).min(bytes.len()).max(at))),
                    2 => bytes.insert(at.min(bytes.len()), b"\r\n :;0f\0\xff"[random.below(9)]),
                    _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                    _ => {}
                }
            }
        }
        let top = 1 + random.below(5000);
        let target = Target { scheme: "https", host: damaged.host.clone(), port: 443 };
        let mut connection = Connection::new(target, Limits::default(), may_be_model_call);
        let (mut out, mut now) = (Vec::new(), 1);
        let (mut agent, mut upstream) = (&damaged.request[..], &damaged.response[..]);
        while !agent.is_empty() || !upstream.is_empty() {
            let (side, bytes) = if random.below(2) == 0 {
                (Side::Agent, &mut agent)
            } else {
                (Side::Upstream, &mut upstream)
            };
            let (piece, rest) = bytes.split_at((1 + random.below(top)).min(bytes.len()));
            match random.below(200) {
                0 => connection.gap(side, piece.len() as u64, now, &mut out),
                1 => connection.end(side, now, &mut out),
                _ => connection.feed(side, piece, now, &mut out),
            }
            *bytes = rest;
            now += 1;
        }
        connection.end(Side::Upstream, now, &mut out);
        connection.end(Side::Agent, now, &mut out);
        assert!(connection.over());
        let gave_up = out.iter().filter(|c| matches!(c, Captured::GaveUp { .. })).count();
        assert!(gave_up <= 1, "{}: {out:?}", damaged.name);
    }
}
