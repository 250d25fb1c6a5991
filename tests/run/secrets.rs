//! Secrets that pass through a session are found nowhere afterwards: not in the database's files, not in the events
//! read back, not in the session log, not on standard error, not at the broker.
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use crate::broker_stub::BrokerStub;
use crate::lab::{Held, Lab, MODEL, OTHER, read_head};
use crate::server::{Secured, Server};

/// All secrets of a session, made as they are needed; each has a mark of its own.
#[derive(Default)]
struct Planter {
    /// The part of each that may be found nowhere.
    marks: Vec<String>,
}

/// Prefix, length of the rest: the shortest that counts. `sk-ant-` is longer than `sk-` needs.
const PREFIXES: [(&str, usize); 22] = [
    ("sk-ant-", 20),
    ("sk-ant-api03-", 20),
    ("sk-", 20),
    ("sk-proj-", 20),
    ("AKIA", 16),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("ghu_", 20),
    ("ghr_", 20),
    ("github_pat_", 22),
    ("xoxb-", 10),
    ("xoxa-", 10),
    ("xoxp-", 10),
    ("xoxr-", 10),
    ("xoxs-", 10),
    ("AIza", 35),
    ("glpat-", 20),
    ("npm_", 36),
    ("hf_", 30),
    ("sk_live_", 20),
    ("rk_live_", 20),
];

impl Planter {
    /// Something of which nobody sees that it is secret, of at least `length` capitals and digits, which every
    /// pattern takes.
    fn mark(&mut self, length: usize) -> String {
        let mark = format!("ZQ{:04}KX", self.marks.len());
        self.marks.push(mark.clone());
        mark.clone() + &"Z".repeat(length.saturating_sub(mark.len()))
    }

    /// One of each kind that can stand in a single word.
    fn words(&mut self) -> Vec<String> {
        let mut all = PREFIXES.map(|(prefix, length)| format!("{prefix}{}", self.mark(length))).to_vec();
        all.push(format!("eyJ{}.eyJ{}.{}", self.mark(8), self.mark(8), self.mark(8)));
        all.push(format!("corp_{}", self.mark(8)));
        all
    }

    /// One of each kind that can stand in a text.
    fn texts(&mut self) -> Vec<String> {
        let mut all = self.words();
        all.push(format!("Bearer {}", self.mark(20)));
        all.push(format!("Basic {}==", self.mark(20)));
        let lines = format!("{}\n{}", self.mark(64), self.mark(64));
        all.push(format!("-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----"));
        all
    }

    /// A text that holds one of each, and something harmless that must survive.
    fn prose(&mut self) -> String {
        format!("{HARMLESS}: {} (end)", self.texts().join(" , "))
    }

    /// A value for each name that tells a secret, as `make` writes a pair.
    fn named(&mut self, make: impl Fn(&str, &str) -> String) -> Vec<String> {
        NAMES.iter().map(|name| make(name, &self.mark(8).to_ascii_lowercase())).collect()
    }

    /// Fails if any of the secrets is in these bytes, in whatever case.
    fn search(&self, place: &str, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
        for mark in &self.marks {
            if let Some(at) = text.find(&mark.to_ascii_lowercase()) {
                let around: String =
                    text[..at].chars().rev().take(80).collect::<Vec<_>>().iter().rev().collect();
                panic!("{place} holds {mark}, after …{around}");
            }
        }
    }
}

const NAMES: [&str; 9] = [
    "access_token",
    "refresh_token",
    "id_token",
    "client_secret",
    "api_key",
    "apikey",
    "password",
    "code",
    "code_verifier",
];

/// What stands beside the secrets and is no secret: the search would find it.
const HARMLESS: &str = "task-list-of-the-whole-team-in-november disk-sk-aaaa sk-short";

/// Header lines that are secret by their names, and an innocent one that holds secrets.
fn headers(planter: &mut Planter, names: &[&str]) -> String {
    let mut lines: Vec<String> =
        names.iter().map(|name| format!("{name}: {}\r\n", planter.mark(8))).collect();
    lines.push(format!("Authorization: Bearer {}\r\n", planter.mark(8)));
    for secret in planter.words() {
        lines.push(format!("X-Note: {HARMLESS} {secret}\r\n"));
    }
    lines.concat()
}

fn request_headers(planter: &mut Planter) -> String {
    headers(planter, &["Proxy-Authorization", "X-Api-Key", "X-Anthropic-Api-Key", "Cookie", "cookie"])
}

/// A query that holds a secret of each kind under harmless names, and one under each telling name.
fn query(planter: &mut Planter) -> String {
    let mut pairs: Vec<String> = planter.words().iter().map(|secret| format!("q={secret}")).collect();
    pairs.extend(planter.named(|name, value| format!("{name}={value}")));
    format!("?harmless={}&{}", HARMLESS.replace(' ', "+"), pairs.join("&"))
}

/// A request with a body.
fn request(path: &str, kind: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}

/// An answer with a body.
fn answer(kind: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}

/// A Messages stream that says `text` in pieces of `size` characters, then calls a tool with it likewise; in chunks
/// of 11 bytes.
fn stream(text: &str, size: usize) -> Vec<u8> {
    let event = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap());
    let pieces = |text: &str| {
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(size).map(|c| c.iter().collect::<String>()).collect::<Vec<_>>()
    };
    let mut out = event(json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
        "role": "assistant", "model": "claude-x", "content": [], "stop_reason": null,
        "usage": {"input_tokens": 1, "output_tokens": 1}}}));
    out += &event(
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
    );
    for piece in pieces(text) {
        out += &event(
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}),
        );
    }
    out += &event(json!({"type": "content_block_stop", "index": 0}));
    let tool = json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}});
    out += &event(json!({"type": "content_block_start", "index": 1, "content_block": tool}));
    for piece in pieces(&json!({"command": text}).to_string()) {
        let delta = json!({"type": "input_json_delta", "partial_json": piece});
        out += &event(json!({"type": "content_block_delta", "index": 1, "delta": delta}));
    }
    out += &event(json!({"type": "content_block_stop", "index": 1}));
    out += &event(
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
    );
    out += &event(json!({"type": "message_stop"}));
    let mut wire =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in out.as_bytes().chunks(11) {
        wire.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// Requests and what answers them: every place in which a secret has been seen on the wire of a real agent.
fn exchanges(p: &mut Planter) -> Vec<(Vec<u8>, Vec<u8>)> {
    let model = |prose: String, stream: bool| {
        json!({"model": "claude-x", "stream": stream, "system": [{"type": "text", "text": prose}],
        "metadata": {"user_id": prose},
        "tools": [{"name": "Bash", "description": prose, "input_schema": {"type": "object", "title": prose}}],
        "messages": [
            {"role": "user", "content": prose},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": prose, "deep": [{"x": prose}]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": prose}]}]},
            {"role": "user", "content": [{"type": "novel", "what": prose}]}]})
        .to_string()
    };
    let whole = |prose: String| {
        json!({"id": "msg_2", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "tool_use",
               "content": [{"type": "text", "text": prose}, {"type": "thinking", "thinking": prose, "signature": "x"},
                           {"type": "tool_use", "id": "t", "name": "Bash", "input": {prose.clone(): prose}}],
               "usage": {"input_tokens": 1, "output_tokens": 1}})
        .to_string()
    };
    let json_kind = "application/json";
    let mut all = Vec::new();
    let set_cookie = headers(p, &["Set-Cookie", "set-cookie"]);
    all.push((
        request(
            &format!("/v1/messages{}", query(p)),
            json_kind,
            &request_headers(p),
            &model(p.prose(), false),
        ),
        answer(json_kind, &set_cookie, &whole(p.prose())),
    ));
    for size in [1, 3, 10, 40] {
        let asked = request("/v1/messages", json_kind, &request_headers(p), &model(p.prose(), true));
        all.push((asked, stream(&p.prose(), size)));
    }
    let failed =
        json!({"type": "error", "error": {"type": "authentication_error", "message": p.prose()}}).to_string();
    let failed = answer(json_kind, "", &failed).splice_status("401 No");
    all.push((request("/v1/messages", json_kind, "", &model(p.prose(), false)), failed));
    // A login that is refreshed: the values look like nothing, their names tell.
    let pair = |name: &str, value: &str| format!("{name}={value}");
    let member = |name: &str, value: &str| format!("\"{name}\": \"{value}\"");
    let form = format!("grant_type=refresh_token&{}", p.named(pair).join("&"));
    let tokens = format!("{{{}, \"expires_in\": 3600}}", p.named(member).join(", "));
    let cookies = headers(p, &["Set-Cookie"]);
    all.push((
        request("/oauth/token", "application/x-www-form-urlencoded", &request_headers(p), &form),
        answer(json_kind, &cookies, &tokens),
    ));
    let nested = json!({"inner": tokens}).to_string();
    all.push((request("/oauth/token", json_kind, "", &tokens), answer(json_kind, "", &nested)));
    // Any other text, at the place where a preview is cut, and where it is cut before redaction.
    for at in [4096, 64 * 1024] {
        for shift in [1, 5, 12, 20] {
            let long = |p: &mut Planter| {
                let secret = format!("sk-ant-api03-{}", p.mark(40));
                format!(
                    "{}{secret} and more {}",
                    "word ".repeat(at).split_at(at - shift).0,
                    "x ".repeat(5000)
                )
            };
            let (up, down) = (long(p), long(p));
            all.push((request("/text", "text/plain", "", &up), answer("text/plain", "", &down)));
        }
    }
    all.push((
        request(&format!("/{}", query(p)), "text/plain", "", &p.prose()),
        answer("text/html; charset=utf-8", &headers(p, &["Set-Cookie"]), &p.prose()),
    ));
    all
}

trait SpliceStatus {
    fn splice_status(self, status: &str) -> Self;
}

impl SpliceStatus for Vec<u8> {
    /// The answer with another status.
    fn splice_status(self, status: &str) -> Vec<u8> {
        [b"HTTP/1.1 ", status.as_bytes(), &self["HTTP/1.1 200 OK".len()..]].concat()
    }
}

/// Answer each request of a connection with the next of `answers`.
fn serve(mut tls: Secured, answers: &[Vec<u8>]) {
    for answer in answers {
        let head = read_head(&mut tls);
        let length =
            head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).map_or(0, |n| n.parse().unwrap());
        let mut body = vec![0; length];
        if tls.read_exact(&mut body).is_err() || tls.write_all(answer).is_err() {
            return;
        }
    }
    let _ = tls.flush();
}

/// Everything a session wrote below its home, file by file.
fn search_files(planter: &Planter, folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            search_files(planter, &path);
        } else {
            planter.search(path.to_str().unwrap(), &fs::read(&path).unwrap());
        }
    }
}

#[test]
fn no_secret_is_left_anywhere() {
    let mut planter = Planter::default();
    let exchanges = exchanges(&mut planter);
    let answers: Vec<Vec<u8>> = exchanges.iter().map(|(_, answer)| answer.clone()).collect();
    let count = exchanges.len();
    let (server, pem) = Server::tls(&[], move |tls| serve(tls, &answers));
    let broker = BrokerStub::start();
    let url = broker.url();
    for flags in [&[][..], &["--url", &url, "--token", "ac7_good"]] {
        let lab = Lab::trusting(&pem);
        let held = Held::start(&lab, &[flags, &["--redact-pattern", "corp_"]].concat());
        let mut tls = held.tls(MODEL, server.port, held.client());
        for (request, answer) in &exchanges {
            tls.write_all(request).unwrap();
            let mut got = vec![0; answer.len()];
            tls.read_exact(&mut got).unwrap();
            assert!(got == *answer, "the agent gets its secrets");
        }
        drop(tls);
        // One more on a host where nobody listens, and a request that is no use.
        let (head, _) = held.ask_connect(&format!("{OTHER}:1"));
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        let mut tcp = held.proxy();
        let rest = request_headers(&mut planter);
        tcp.write_all(format!("GET /{} HTTP/1.1\r\n{rest}\r\n", query(&mut planter)).as_bytes()).unwrap();
        assert!(read_head(&mut tcp).starts_with("HTTP/1.1 400"));
        let done = held.finish();

        assert!(!done.stderr.contains("dropped"), "{}", done.stderr);
        planter.search("standard error", done.stderr.as_bytes());
        search_files(&planter, &lab.home.join("home"));
        let events = if flags.is_empty() { lab.events() } else { broker.books.lock().events.clone() };
        assert_eq!(events.len(), count + 1);
        for event in &events {
            planter.search("an event", event.to_string().as_bytes());
        }
        // The search would have found something: what is no secret is all there.
        let all: String = events.iter().map(ToString::to_string).collect();
        assert!(all.matches(HARMLESS).count() > 100, "{}", all.matches(HARMLESS).count());
        assert!(all.matches("[REDACTED]").count() > 1000, "{}", all.matches("[REDACTED]").count());
        let typed = events.iter().filter(|e| e["entry"]["kind"] == "anthropic_messages").count();
        assert_eq!(typed, 6);
    }
    for upload in &broker.books.lock().requests {
        planter.search("an upload", &upload.body);
    }
}
