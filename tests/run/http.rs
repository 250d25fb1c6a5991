//! HTTP/1.1 and what follows it, as clients and servers really speak it: passed on unchanged, paired, understood.
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ac7::sys::random::to_hex;
use ring::digest::{SHA256, digest};
use rustls::HandshakeKind;
use serde_json::{Value, json};

use crate::lab::{Held, Lab, MODEL, read_head};
use crate::server::{Secured, Server, goodbye};

/// A request, its answer, and the event that they make: method, path, status and both previews.
struct Turn {
    request: &'static str,
    answer: &'static str,
    seen: (&'static str, &'static str, u16, Value, Value),
}

/// What a careful reader may stumble over, one behind the other on one connection; `~` stands for a line end. Each
/// answer bears its number, so that a pair that does not belong together is seen.
fn turns() -> Vec<Turn> {
    let turn = |request, answer, seen| Turn { request, answer, seen };
    vec![
        // Chunk extensions and trailers both ways, and two answers before the answer.
        turn(
            "POST /1 HTTP/1.1~Host: x~Content-Type: text/plain~Transfer-Encoding: chunked~~\
             3;a=\"b\"~one~02 ;c~ 1~0;last~X-Sum: 1~X-Sum: 2~~",
            "HTTP/1.1 102 Processing~~HTTP/1.1 103 Early Hints~Link: </a>~Content-Length: 9~~\
             HTTP/1.1 200 OK~Content-Type: text/plain~Transfer-Encoding: chunked~~6;x~answer~00002~ 1~0~Sum: 3~~",
            ("POST", "/1", 200, json!("one 1"), json!("answer 1")),
        ),
        // No body, whatever the head says.
        turn(
            "HEAD /2 HTTP/1.1~Host: x~~",
            "HTTP/1.1 200 OK~Content-Type: text/plain~Content-Length: 500~~",
            ("HEAD", "/2", 200, Value::Null, Value::Null),
        ),
        turn(
            "HEAD /3 HTTP/1.1~Host: x~~",
            "HTTP/1.1 200 OK~Transfer-Encoding: chunked~~",
            ("HEAD", "/3", 200, Value::Null, Value::Null),
        ),
        turn(
            "DELETE /4 HTTP/1.1~Host: x~Content-Length: 0~~",
            "HTTP/1.1 204 No Content~Transfer-Encoding: chunked~~",
            ("DELETE", "/4", 204, Value::Null, Value::Null),
        ),
        turn(
            "GET /5 HTTP/1.1~Host: x~If-None-Match: \"a\"~~",
            "HTTP/1.1 304 Not Modified~Content-Length: 500~~",
            ("GET", "/5", 304, Value::Null, Value::Null),
        ),
        // Empty lines before a request, folded and repeated fields, one length said twice.
        turn(
            "~~PUT /6 HTTP/1.1~Host: x~X-Fold: a~\t b~X-Twice: 1~x-twice: 2~Content-Type: text/plain~\
             Content-Length: 4~Content-Length: 4~~GET ",
            "HTTP/1.1 200~X-Fold: c~ d~X-Twice: 3~X-Twice: 4~Content-Type: text/plain~Content-Length: 8, 8~~answer 6",
            ("PUT", "/6", 200, json!("GET "), json!("answer 6")),
        ),
        // A switch that is asked for and not granted.
        turn(
            "GET /7 HTTP/1.1~Host: x~Connection: Upgrade~Upgrade: h2c~~",
            "HTTP/1.1 200 OK~Content-Type: text/plain~Content-Length: 8~~answer 7",
            ("GET", "/7", 200, Value::Null, json!("answer 7")),
        ),
        // The end of the connection is the end of the body.
        turn(
            "GET /8 HTTP/1.1~Host: x~~",
            "HTTP/1.0 200 OK~Content-Type: text/plain~~answer 8~~HTTP/1.1 204 No~~",
            ("GET", "/8", 200, Value::Null, json!("answer 8\r\n\r\nHTTP/1.1 204 No\r\n\r\n")),
        ),
    ]
}

fn wire(text: &str) -> Vec<u8> {
    text.replace('~', "\r\n").into_bytes()
}

/// Send `bytes` in pieces of `size`, each in a TLS record of its own.
fn send(tls: &mut impl Write, bytes: &[u8], size: usize) {
    for piece in bytes.chunks(size) {
        tls.write_all(piece).unwrap();
        tls.flush().unwrap();
    }
}

/// A server that reads `requests`, then sends `answers` in pieces of a size and says goodbye.
fn scripted(requests: Vec<u8>, answers: Vec<u8>, size: usize) -> (Server, String) {
    Server::tls(&[], move |mut tls| {
        let mut got = vec![0; requests.len()];
        tls.read_exact(&mut got).unwrap();
        assert!(got == requests, "{}", String::from_utf8_lossy(&got));
        send(&mut tls, &answers, size);
        goodbye(tls);
    })
}

#[test]
fn pipelined_requests_are_paired_with_their_answers_whatever_they_are() {
    let requests: Vec<u8> = turns().iter().flat_map(|turn| wire(turn.request)).collect();
    let answers: Vec<u8> = turns().iter().flat_map(|turn| wire(turn.answer)).collect();
    for size in [1, 7, usize::MAX] {
        let (server, pem) = scripted(requests.clone(), answers.clone(), size);
        let lab = Lab::trusting(&pem);
        let held = Held::start(&lab, &[]);
        let mut tls = held.tls(MODEL, server.port, held.client());
        send(&mut tls, &requests, size);
        let mut got = Vec::new();
        tls.read_to_end(&mut got).unwrap();
        assert!(got == answers, "{}", String::from_utf8_lossy(&got));
        drop(tls);
        let done = held.finish();
        assert!(!done.stderr.contains("truncated") && !done.stderr.contains("understood"), "{}", done.stderr);
        let events = lab.events();
        let seen: Vec<Value> = events
            .iter()
            .map(|event| {
                let e = &event["entry"];
                assert_eq!(e.get("truncated"), None, "{e}");
                json!([e["method"], e["url"], e["status"], e["requestBodyPreview"], e["responseBodyPreview"]])
            })
            .collect();
        let want: Vec<Value> = turns()
            .into_iter()
            .map(|Turn { seen: (method, path, status, asked, answered), .. }| {
                json!([method, format!("https://{MODEL}:{}{path}", server.port), status, asked, answered])
            })
            .collect();
        assert_eq!(seen, want, "in pieces of {size}");
        let folded = &events[5]["entry"];
        for (headers, fold, both) in [("requestHeaders", "a b", "1, 2"), ("responseHeaders", "c d", "3, 4")] {
            let headers = &folded[headers];
            assert_eq!((&headers["x-fold"], &headers["x-twice"]), (&json!(fold), &json!(both)), "{headers}");
        }
    }
}

#[test]
fn an_expectation_that_is_refused_is_an_exchange() {
    let (server, pem) = Server::tls(&[], |mut tls| {
        read_head(&mut tls);
        tls.write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        goodbye(tls);
    });
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls(MODEL, server.port, held.client());
    let head = "POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n";
    tls.write_all(head.as_bytes()).unwrap();
    assert!(read_head(&mut tls).starts_with("HTTP/1.1 417 "));
    drop(tls);
    held.finish();
    let entry = lab.entry();
    assert_eq!((&entry["status"], &entry["truncated"]), (&json!(417), &json!(true)), "{entry}");
}

#[test]
fn recorded_model_calls_over_websockets_are_typed() {
    for name in ["codex-ws", "codex-ws-deflate"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/http1").join(name);
        let read = |file: &str| fs::read(folder.join(file)).unwrap();
        let expected: Vec<Value> = serde_json::from_slice(&read("expected.json")).unwrap();
        let calls: Vec<&Value> = expected.iter().filter(|e| e["websocket"] == true).collect();
        let connection = calls[0]["connection"].as_str().unwrap();
        let calls: Vec<&Value> = calls.into_iter().filter(|e| e["connection"] == connection).collect();
        let (request, answer) = (read(&format!("{connection}.req")), read(&format!("{connection}.res")));
        let head = |bytes: &[u8]| bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let (asked, answered) = (head(&request), head(&answer));
        // As on the wire: nothing is sent in frames before the switch.
        let (server, pem) = {
            let (request, answer) = (request.clone(), answer.clone());
            Server::tls(&[], move |mut tls: Secured| {
                let mut got = vec![0; request.len()];
                tls.read_exact(&mut got[..asked]).unwrap();
                send(&mut tls, &answer[..answered], usize::MAX);
                tls.read_exact(&mut got[asked..]).unwrap();
                assert!(got == request);
                send(&mut tls, &answer[answered..], 100);
                goodbye(tls);
            })
        };
        let lab = Lab::trusting(&pem);
        let held = Held::start(&lab, &[]);
        let mut tls = held.tls("api.openai.com", server.port, held.client());
        send(&mut tls, &request[..asked], usize::MAX);
        let mut got = vec![0; answered];
        tls.read_exact(&mut got).unwrap();
        send(&mut tls, &request[asked..], 100);
        tls.read_to_end(&mut got).unwrap();
        assert!(got == answer, "{name}");
        drop(tls);
        held.finish();
        let events = lab.events();
        let typed: Vec<&Value> =
            events.iter().map(|e| &e["entry"]).filter(|e| e["kind"] == "openai_responses").collect();
        assert_eq!(typed.len(), calls.len(), "{name}: {events:#?}");
        for (entry, want) in typed.iter().zip(&calls) {
            assert_eq!((entry.get("truncated"), &entry["stream"]), (None, &json!(true)), "{name}");
            assert_eq!(entry["request"]["model"], want["llm"]["model"], "{name}");
            let said = want["llm"]["text"].as_str().unwrap();
            assert!(entry["response"]["messages"].to_string().contains(said), "{name}: {entry}");
        }
    }
}

#[test]
fn what_is_longer_than_may_be_kept_is_counted_hashed_and_marked() {
    let text = |mib: usize| "word ".repeat(mib * (1 << 20) / 5);
    let asked = |mib| {
        json!({"model": "claude-x", "max_tokens": 1, "messages": [{"role": "user", "content": text(mib)}]})
            .to_string()
    };
    let answered = |mib| {
        json!({"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": text(mib)}]})
            .to_string()
    };
    // Where the limit is, MiB asked and answered, and which of them pass it.
    for (flags, up, down, passes) in [
        (&["--retain", "1"][..], 2, 3, [true, true]),
        (&["--retain", "2"], 1, 3, [false, true]),
        (&[], 17, 1, [true, false]),
    ] {
        let (request, answer) = (asked(up), answered(down));
        let kind = "Content-Type: application/json\r\n";
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nHost: x\r\n{kind}Content-Length: {}\r\n\r\n",
            request.len()
        );
        let requests = [head.as_bytes(), request.as_bytes()].concat();
        let head = format!("HTTP/1.1 200 OK\r\n{kind}Content-Length: {}\r\n\r\n", answer.len());
        let answers = [head.as_bytes(), answer.as_bytes()].concat();
        let (server, pem) = scripted(requests.clone(), answers.clone(), usize::MAX);
        let lab = Lab::trusting(&pem);
        let held = Held::start(&lab, flags);
        let mut tls = held.tls(MODEL, server.port, held.client());
        send(&mut tls, &requests, usize::MAX);
        let mut got = Vec::new();
        tls.read_to_end(&mut got).unwrap();
        assert!(got == answers, "{flags:?}");
        drop(tls);
        let done = held.finish();
        assert!(done.stderr.contains("1 exchange truncated"), "{flags:?}: {}", done.stderr);
        let entry = lab.entry();
        let brief = format!("{flags:?}: {:.300}", entry.to_string());
        assert_eq!(
            (&entry["kind"], &entry["truncated"]),
            (&json!("anthropic_messages"), &json!(true)),
            "{brief}"
        );
        assert_eq!(entry["request"]["model"], "claude-x", "{brief}");
        let fields = [("requestSha256", &request), ("responseSha256", &answer)];
        for ((field, body), passes) in fields.into_iter().zip(passes) {
            let hash = to_hex(digest(&SHA256, body.as_bytes()).as_ref());
            let want = if passes { json!(hash) } else { Value::Null };
            assert_eq!(entry[field], want, "{field} {brief}");
        }
    }
}

#[test]
fn tls_sessions_with_an_upstream_are_resumed() {
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&kinds);
    let (server, pem) = Server::tls(&[], move |mut tls| {
        read_head(&mut tls);
        told.lock().unwrap().push(tls.conn.handshake_kind());
        tls.write_all(b"HTTP/1.1 204 No\r\nConnection: close\r\n\r\n").unwrap();
        goodbye(tls);
    });
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    for _ in 0..3 {
        let mut tls = held.tls(MODEL, server.port, held.client());
        tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        tls.read_to_end(&mut Vec::new()).unwrap();
    }
    held.finish();
    let want = [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed].map(Some);
    assert_eq!(*kinds.lock().unwrap(), want);
}
