//! What curl asks a provider, as it is recorded, while curl gets what it would have got without us.
use std::io::{Read, Write};

use serde_json::{Value, json};
use support::mock::{ANSWER, Coding, Fault, Mock, Options};

use crate::lab::{Held, Lab, MODEL, call, read_head, url};
use crate::server::Server;

const JSON: [&str; 2] = ["-H", "content-type: application/json"];

/// What every typed answer of the mock has in common.
fn is_the_answer(entry: &Value, coding: Coding, stream: bool) {
    let name = format!("{coding:?}, stream: {stream}: {entry:#}");
    assert_eq!(entry["kind"], "anthropic_messages", "{name}");
    assert_eq!(entry["request"]["model"], "claude-x", "{name}");
    assert_eq!(entry["request"]["maxTokens"], 64, "{name}");
    assert_eq!(entry["request"]["system"], "Be brief.", "{name}");
    let asked = json!([{"role": "user", "content": [{"type": "text", "text": "Who is there?"}]}]);
    assert_eq!(entry["request"]["messages"], asked, "{name}");
    assert_eq!(entry["request"]["tools"][0]["name"], "Bash", "{name}");
    let response = &entry["response"];
    assert_eq!((&response["status"], &response["stopReason"]), (&json!(200), &json!("end_turn")), "{name}");
    assert_eq!(response["messages"][0]["content"], json!([{"type": "text", "text": ANSWER}]), "{name}");
    let usage = json!({"inputTokens": 150, "outputTokens": 42, "cacheCreationInputTokens": 20,
                       "cacheReadInputTokens": 100});
    assert_eq!(response["usage"], usage, "{name}");
    assert_eq!((&entry["host"], &entry["stream"]), (&json!(MODEL), &json!(stream)), "{name}");
    assert!(entry["id"].as_str().is_some_and(|id| id.starts_with("msg_mock")), "{name}");
    assert!(entry["requestId"].as_str().is_some_and(|id| id.starts_with("req_mock")), "{name}");
    assert!(entry["client"].as_str().is_some_and(|client| client.starts_with("curl/")), "{name}");
    let time = |field: &str| entry[field].as_u64().unwrap_or(0);
    let (start, end) = (time("startedAt"), time("endedAt"));
    assert!(start > 1_700_000_000_000 && start <= end && end - start < 60_000, "{name}");
    let first = time("firstTokenAt");
    assert!(if stream { (start..=end).contains(&first) } else { first == 0 }, "{name}");
    assert_eq!(entry.get("truncated"), None, "{name}");
}

#[test]
fn a_model_call_is_typed_in_every_coding() {
    for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
        for (stream, chunk) in [(false, 0), (true, 0), (true, 1), (true, 100_000)] {
            let mock = Mock::start(Options { coding, chunk, ..Options::default() });
            let lab = Lab::new(&[&mock]);
            let (body, url) = (call(stream), url(MODEL, &mock, "/v1/messages?beta=true"));
            let done = lab.curl(&[], &[&JSON[..], &["--compressed", "-d", &body, &url]].concat());
            assert_eq!(done.code, Some(0), "{}", done.stderr);
            let spoken = if stream { " from" } else { ANSWER };
            assert!(done.stdout.contains(spoken), "{}", done.stdout);
            let events = lab.events();
            assert_eq!((events.len(), &events[0]["kind"]), (1, &json!("llm_exchange")));
            assert_eq!(events[0]["ts"], events[0]["entry"]["endedAt"]);
            is_the_answer(&events[0]["entry"], coding, stream);
            let seen = &mock.seen()[0];
            assert_eq!((seen.server_name.as_deref(), seen.json()), (Some(MODEL), body.parse().unwrap()));
        }
    }
}

#[test]
fn a_plain_request_is_forwarded_and_typed_too() {
    let mock = Mock::start(Options { plain: true, coding: Coding::Gzip, ..Options::default() });
    let lab = Lab::new(&[]);
    let (body, url) = (call(true), format!("http://{MODEL}:{}/v1/messages", mock.port));
    let extra = ["--compressed", "-H", "Connection: keep-alive", "-d", &body, &url, &url];
    let done = lab.curl(&[], &[&JSON[..], &extra].concat());
    assert_eq!((done.code, done.stdout.matches(" from").count()), (Some(0), 2), "{}", done.stderr);
    let events = lab.events();
    assert_eq!(events.len(), 2);
    for event in &events {
        is_the_answer(&event["entry"], Coding::Gzip, true);
    }
    for seen in mock.seen() {
        assert_eq!((seen.path.as_str(), seen.header("proxy-connection")), ("/v1/messages", None));
        assert_eq!(seen.header("host"), Some(format!("{MODEL}:{}", mock.port).as_str()));
    }
}

#[test]
fn tool_calls_are_recorded_with_their_input() {
    for stream in [false, true] {
        let input = r#"{"command":"ls -l","timeout":1.50}"#;
        let tool = Some(("Bash".to_string(), input.to_string()));
        let mock = Mock::start(Options { tool, ..Options::default() });
        let lab = Lab::new(&[&mock]);
        lab.curl(&[], &[&JSON[..], &["-d", &call(stream), &url(MODEL, &mock, "/v1/messages")]].concat());
        let response = &lab.entry()["response"];
        assert_eq!(response["stopReason"], "tool_use");
        let block = &response["messages"][0]["content"][1];
        assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("Bash")));
        assert_eq!(block["input"], input.parse::<Value>().unwrap());
        assert!(block["id"].as_str().is_some_and(|id| id.starts_with("toolu_mock")), "{block}");
    }
}

#[test]
fn other_providers_are_typed_by_their_paths() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let chat = |stream: bool| {
        json!({"model": "gpt-x", "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
            .to_string()
    };
    let responses = json!({"model": "gpt-x", "stream": true, "input": "Hi"}).to_string();
    for (path, body) in [
        ("/v1/chat/completions", chat(false)),
        ("/v1/chat/completions", chat(true)),
        ("/v1/responses", responses),
    ] {
        let done = lab.curl(&[], &[&JSON[..], &["-d", &body, &url("api.openai.com", &mock, path)]].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let events = lab.events();
    let kinds: Vec<_> = events.iter().map(|e| e["entry"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["openai_chat", "openai_chat", "openai_responses"]);
    for event in &events {
        let entry = &event["entry"];
        assert_eq!(
            (&entry["request"]["model"], &entry["response"]["status"]),
            (&json!("gpt-x"), &json!(200))
        );
        let answered = entry["response"]["messages"].to_string();
        assert!(answered.contains(ANSWER), "{answered}");
        assert_eq!((&entry["response"]["usage"]["inputTokens"]), (&json!(150)), "{entry}");
    }
}

#[test]
fn one_connection_carries_many_exchanges() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let (body, messages) = (call(true), url(MODEL, &mock, "/v1/messages"));
    let models = url(MODEL, &mock, "/v1/models");
    let one = [&JSON[..], &["-d", &body, &messages]].concat();
    let args =
        [&one[..], &["--next"], &["-sSI", &models], &["--next", "-sS"], &one, &["--next", "-sS", &models]];
    let done = lab.curl(&[], &args.concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(mock.connections(), 1, "curl kept its connection");
    let got: Vec<_> =
        lab.events().iter().map(|e| (e["entry"]["kind"].clone(), e["entry"]["method"].clone())).collect();
    let opaque = |method: &str| (json!("opaque_http"), json!(method));
    let typed = (json!("anthropic_messages"), Value::Null);
    assert_eq!(got, [typed.clone(), opaque("HEAD"), typed, opaque("GET")]);
}

#[test]
fn a_chunked_upload_waits_for_100_continue() {
    let long = "word ".repeat(100_000);
    let body = json!({"model": "claude-x", "messages": [{"role": "user", "content": long}]}).to_string();
    for plain in [false, true] {
        let mock = Mock::start(Options { plain, ..Options::default() });
        let lab = Lab::new(&[&mock]);
        let file = lab.home.join("body");
        std::fs::write(&file, &body).unwrap();
        let data = format!("@{}", file.display());
        let mut url = url(MODEL, &mock, "/v1/messages");
        if plain {
            url = url.replace("https:", "http:");
        }
        let headers = ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"];
        let args = [&JSON[..], &headers, &["-v", "--data-binary", &data, &url]].concat();
        let done = lab.curl(&["--quiet"], &args);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains("< HTTP/1.1 100 Continue"), "{}", done.stderr);
        let seen = &mock.seen()[0];
        assert_eq!((seen.size, seen.header("transfer-encoding")), (body.len() as u64, Some("chunked")));
        let entry = lab.entry();
        assert_eq!(entry["request"]["messages"][0]["content"][0]["text"], long.as_str());
        assert_eq!((&entry["response"]["status"], entry.get("truncated")), (&json!(200), None));
    }
}

#[test]
fn an_answer_that_comes_before_the_request_is_through() {
    let mock = Mock::start(Options { fault: Fault::EarlyAnswer, ..Options::default() });
    let lab = Lab::new(&[&mock]);
    let (body, url) = (call(true), url(MODEL, &mock, "/v1/messages"));
    let done = lab.curl(&[], &[&JSON[..], &["-d", &body, &url, &url]].concat());
    assert_eq!((done.code, done.stdout.matches("mock 413").count()), (Some(0), 2), "{}", done.stderr);
    for event in lab.events() {
        let entry = &event["entry"];
        assert_eq!(entry["kind"], "anthropic_messages");
        assert_eq!(
            (&entry["response"]["status"], &entry["error"]["type"]),
            (&json!(413), &json!("request_too_large"))
        );
        assert_eq!(entry["request"]["model"], "claude-x");
    }
}

#[test]
fn an_error_status_is_typed_with_its_error() {
    for (status, kind) in [
        (401, "authentication_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ] {
        let mock = Mock::start(Options { fail: Some((status, 1)), ..Options::default() });
        let lab = Lab::new(&[&mock]);
        let (body, url) = (call(true), url(MODEL, &mock, "/v1/messages"));
        let said = lab.curl(&[], &[&JSON[..], &["-d", &body, &url]].concat()).stderr;
        assert!(said.starts_with("ac7: 1 model call in 1 exchange, 0 in, 0 out, 1 error, "), "{said}");
        let entry = lab.entry();
        assert_eq!(
            (&entry["kind"], &entry["response"]["status"]),
            (&json!("anthropic_messages"), &json!(status))
        );
        assert_eq!(entry["error"], json!({"type": kind, "message": format!("mock {status}")}));
        assert_eq!(entry["request"]["messages"][0]["role"], "user");
    }
}

#[test]
fn what_is_no_model_call_is_opaque() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let (body, url) = (call(false), url(MODEL, &mock, "/v1/messages/count_tokens?beta=true"));
    let done = lab.curl(&[], &[&JSON[..], &["-H", "x-api-key: secret", "-d", &body, &url]].concat());
    assert_eq!(done.stdout, r#"{"input_tokens":150}"#);
    let entry = lab.entry();
    assert_eq!(
        (&entry["kind"], &entry["method"], &entry["status"]),
        (&json!("opaque_http"), &json!("POST"), &json!(200))
    );
    assert_eq!((&entry["host"], entry["url"].as_str()), (&json!(MODEL), Some(url.as_str())));
    assert_eq!(entry["requestBodyPreview"], body.as_str());
    assert_eq!(entry["responseBodyPreview"], r#"{"input_tokens":150}"#);
    assert_eq!(entry["requestHeaders"]["x-api-key"], "[REDACTED]");
    assert_eq!(entry["responseHeaders"]["content-type"], "application/json");
}

#[test]
fn a_stream_that_is_cut_short_looks_the_same_to_the_agent() {
    for coding in [Coding::Identity, Coding::Gzip] {
        let options = || Options { cut_after: Some(6), coding, ..Options::default() };
        let (near, far) = (Mock::start(options()), Mock::start(options()));
        let lab = Lab::new(&[&near, &far]);
        let body = call(true);
        let ask = |mock: &Mock| {
            [&JSON[..], &["--compressed", "-d", &body, &url(MODEL, mock, "/v1/messages")]]
                .concat()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let (direct, through) = (ask(&near), ask(&far));
        let want = lab.direct(&direct.iter().map(String::as_str).collect::<Vec<_>>());
        let got = lab.curl(&["--quiet"], &through.iter().map(String::as_str).collect::<Vec<_>>());
        assert_ne!(want.code, Some(0), "the mock cuts");
        assert_eq!((got.code, &got.stdout), (want.code, &want.stdout));
        assert_eq!(got.stderr.lines().next(), want.stderr.lines().next(), "curl says the same");
        assert_eq!(got.stderr.lines().nth(1), Some("ac7: 1 exchange truncated"));
        let entry = lab.entry();
        assert_eq!((&entry["truncated"], &entry["response"]["stopReason"]), (&json!(true), &Value::Null));
        let text = &entry["response"]["messages"][0]["content"][0]["text"];
        assert_eq!(text, "Hello from the mock.", "what there was is kept");
    }
}

#[test]
fn an_error_in_the_middle_of_a_stream_is_kept() {
    let mock = Mock::start(Options { overloaded: true, ..Options::default() });
    let lab = Lab::new(&[&mock]);
    let done = lab.curl(&[], &[&JSON[..], &["-d", &call(true), &url(MODEL, &mock, "/v1/messages")]].concat());
    assert!(done.stdout.contains("overloaded_error"), "{}", done.stdout);
    let entry = lab.entry();
    assert_eq!(entry["error"], json!({"type": "overloaded_error", "message": "Overloaded"}));
    assert_eq!(entry["response"]["stopReason"], "error");
    assert_eq!(entry["response"]["messages"][0]["content"][0]["text"], "Hello from");
}

#[test]
fn a_websocket_passes_and_is_counted() {
    const HEAD: &str =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    fn serve(wire: &mut (impl Read + Write)) {
        assert!(read_head(wire).starts_with("GET /socket HTTP/1.1\r\n"));
        wire.write_all(HEAD.as_bytes()).unwrap();
        let mut frame = [0; 8];
        wire.read_exact(&mut frame).unwrap();
        assert_eq!(frame, MASKED);
        wire.write_all(b"\x81\x05world\x88\x00").unwrap();
        wire.flush().unwrap();
        let _ = wire.read(&mut frame);
    }
    /// A text frame with "hi" under a mask of zeroes, as a client sends it (RFC 6455 §5.2).
    const MASKED: [u8; 8] = *b"\x81\x82\0\0\0\0hi";
    fn ask(wire: &mut (impl Read + Write), target: &str) {
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13";
        wire.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(read_head(wire), HEAD);
        wire.write_all(&MASKED).unwrap();
        let mut frames = [0; 9];
        wire.read_exact(&mut frames).unwrap();
        assert_eq!(&frames, b"\x81\x05world\x88\0");
    }
    let plain = Server::start(|mut tcp| serve(&mut tcp));
    let (secured, pem) = Server::tls(&[], |mut tls| serve(&mut tls));
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    ask(&mut held.tls(MODEL, secured.port, held.client()), "/socket");
    ask(&mut held.proxy(), &format!("http://{MODEL}:{}/socket", plain.port));
    held.finish();
    let events = lab.events();
    assert_eq!(events.len(), 2, "{events:#?}");
    for event in events {
        let entry = &event["entry"];
        assert_eq!((&entry["status"], &entry["method"]), (&json!(101), &json!("GET")), "{entry}");
        assert_eq!(
            entry["socket"],
            json!({"messagesUp": 1, "messagesDown": 1, "bytesUp": 2, "bytesDown": 5})
        );
        assert_eq!(
            (&entry["requestBodyPreview"], &entry["responseBodyPreview"]),
            (&json!("hi"), &json!("world"))
        );
    }
}
