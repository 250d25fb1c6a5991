//! The broker's client against real sockets.
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use ac7::client::{CallerProxy, Client, Error, Failure, Options};
use ac7::http1::proxies::NoProxy;
use rcgen::{BasicConstraints, IsCa};
use serde_json::json;

use crate::broker_stub::{BrokerStub, Step};
use crate::certs::{Scratch, self_signed, signed, signed_by};
use crate::{TOKEN, nobody, trusting};

#[test]
fn the_client_s_errors_read_as_the_seed_has_them() {
    let at = nobody();
    let client = Client::new(&format!("http://{at}"), Some(TOKEN), &Options::default()).unwrap();
    let error = client.briefing().err().unwrap();
    assert_eq!(error.to_string(), format!("briefing failed against http://{at}: ECONNREFUSED"));
    assert_eq!(error.fix().unwrap(), "`ac7 serve` in another terminal, or `--url`/`$AC7_URL`");
    let error = client.healthz().err().unwrap();
    assert_eq!(error.to_string(), format!("failed to reach broker at http://{at}: ECONNREFUSED"));

    let broker = BrokerStub::start();
    let url = broker.url();
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let client = Client::new(&url, Some(TOKEN), &options).unwrap();
    for (step, want) in [
        (
            Step::Close,
            format!("failed to reach broker at {url}: the connection was closed before the answer came"),
        ),
        (Step::Silence, format!("failed to reach broker at {url}: no answer in time")),
        (Step::Status(401, ""), format!("briefing failed against {url}: the broker refused the token (401)")),
        (
            Step::Status(500, ""),
            format!("briefing failed against {url}: the broker answered 500: scripted 500"),
        ),
        (
            Step::Status(302, "Location: /healthz\r\n"),
            format!("briefing failed against {url}: the broker answered 302"),
        ),
        (Step::Status(200, ""), format!("what answers at {url}/briefing is not an ac7 broker")),
    ] {
        broker.books.script("briefing", std::slice::from_ref(&step));
        assert_eq!(client.briefing().err().unwrap().to_string(), want, "{step:?}");
    }
    let briefing = client.briefing().unwrap();
    assert_eq!((briefing.name.as_str(), &briefing.raw["team"]["name"]), ("ann", &json!("t")));
    assert_eq!(client.healthz().unwrap(), "9.9");
}

#[test]
fn what_speaks_another_protocol_is_said_to() {
    let scratch = Scratch::new();
    let options = trusting(scratch.file("ca.pem", &signed("127.0.0.1").pem));
    for (scheme, greeting, want) in [
        ("http", "SSH-2.0-OpenSSH_9.2p1\r\n", Failure::NotHttp),
        ("https", "HTTP/1.1 400 Bad Request\r\n\r\n", Failure::NotTls),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting.as_bytes()).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let client = Client::new(&url, Some(TOKEN), &options).unwrap();
        let error = client.healthz().err().unwrap();
        assert_eq!(error.failure(), Some(&want), "{error}");
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn a_remote_broker_is_reached_through_the_caller_s_proxy() {
    let stub = BrokerStub::start();
    let proxy = |no_proxy: &str| Options {
        proxy: Some(CallerProxy { url: stub.url(), no_proxy: NoProxy::parse(no_proxy) }),
        ..Options::default()
    };
    // The stub answers CONNECT and then plays the broker on the same connection.
    let client = Client::new("http://broker.invalid:8717", Some(TOKEN), &proxy("")).unwrap();
    assert_eq!(client.healthz().unwrap(), "9.9");
    let connect = stub.books.lock().requests[0].clone();
    assert_eq!((connect.method.as_str(), connect.path.as_str()), ("CONNECT", "broker.invalid:8717"));
    assert!(!connect.headers.contains_key("authorization"));
    let client = Client::new("http://broker.invalid:8717", Some(TOKEN), &proxy(".invalid")).unwrap();
    assert!(client.healthz().is_err());
    assert_eq!(stub.books.count("/healthz"), 1);
}

#[test]
fn each_fault_of_a_certificate_has_its_sentence() {
    let scratch = Scratch::new();
    let other = signed_by("127.0.0.1", "another CA").pem;
    let older = signed("127.0.0.1").pem;
    let (good, newer) = (signed("127.0.0.1"), signed("127.0.0.1"));
    let wrong_name = signed("broker.example");
    let ca_as_server = self_signed(IsCa::Ca(BasicConstraints::Unconstrained));
    let end_entity = self_signed(IsCa::ExplicitNoCa);
    for (trusted, server, want) in [
        (&other, good.server, Some(Failure::UnknownIssuer)),
        (&older, newer.server, Some(Failure::UnknownIssuer)),
        (&wrong_name.pem, wrong_name.server, Some(Failure::WrongName)),
        (&ca_as_server.pem, ca_as_server.server, Some(Failure::CaAsServer)),
        (&end_entity.pem, end_entity.server, None),
    ] {
        let broker = BrokerStub::start_tls(server);
        let url = format!("https://{}", broker.address);
        let client = Client::new(&url, Some(TOKEN), &trusting(scratch.file("ca.pem", trusted))).unwrap();
        let error = client.briefing().err();
        assert_eq!(error.as_ref().and_then(Error::failure), want.as_ref());
        if let Some(error) = error {
            assert_eq!(error.to_string(), format!("failed to reach broker at {url}: {}", want.unwrap()));
            assert!(error.fix().is_some());
        }
    }
}

#[test]
fn an_error_of_the_broker_is_shown_without_our_token_and_on_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        let body = json!({"error": format!("bad {TOKEN}\u{1b}[31m\n{}", "z".repeat(500))}).to_string();
        let answer =
            format!("HTTP/1.1 500 X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let client = Client::new(&format!("http://{at}"), Some(TOKEN), &Options::default()).unwrap();
    let text = client.briefing().err().unwrap().to_string();
    assert!(text.contains("answered 500: bad [REDACTED] [31m zzz"), "{text}");
    assert!(text.len() < 300 && !text.contains(TOKEN));
    server.join().unwrap();
}

/// A server that sends `parts` to whoever asks, and then waits until it is left.
fn says(parts: &'static [&'static str]) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let length = stream.read(&mut head).unwrap();
        for part in parts {
            stream.write_all(part.as_bytes()).unwrap();
        }
        let _ = stream.read(&mut [0; 16]);
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    (url, server)
}

#[test]
fn a_stream_gives_its_events_and_ends_when_it_is_aborted() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let (url, server) = says(&[
        HEAD,
        ":\n\nid: 7\nda",
        "ta: {\"a\":1}\n\n",
        "retry: 9\n\n: hello\nevent: end\r\ndata: one\r\ndata:two\r\n\r\n",
    ]);
    let client = Client::new(&url, Some(TOKEN), &Options::default()).unwrap();
    let stream = client.apart();
    let mut events = stream.events("/subscribe?name=ann", Some("6")).unwrap();
    let first = events.next_event().unwrap().unwrap();
    assert_eq!(
        (first.id.as_deref(), first.name.as_str(), first.data.as_str()),
        (Some("7"), "message", "{\"a\":1}")
    );
    let second = events.next_event().unwrap().unwrap();
    assert_eq!((second.id, second.name.as_str(), second.data.as_str()), (None, "end", "one\ntwo"));
    let waits = thread::spawn(move || events.next_event());
    stream.abort();
    assert!(!matches!(waits.join().unwrap(), Ok(Some(_))));
    let head = server.join().unwrap().to_lowercase();
    assert!(head.starts_with("get /subscribe?name=ann http/1.1\r\n"), "{head}");
    assert!(
        head.contains("last-event-id: 6\r\n") && head.contains(&format!("bearer {TOKEN}").to_lowercase())
    );
}

#[test]
fn a_refused_stream_and_a_refused_call_say_what_the_broker_said() {
    const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 23\r\n\r\n{\"error\":\"not for bob\"}";
    let (url, server) = says(&[NO]);
    let client = Client::new(&url, Some(TOKEN), &Options::default()).unwrap();
    let error = client.events("/subscribe?name=ann", None).err().unwrap();
    assert_eq!(error.to_string(), "the broker answered 403: not for bob");
    assert_eq!(error.failure(), Some(&Failure::Status(403, Some("not for bob".into()))));
    drop(client);
    server.join().unwrap();
    let (url, server) = says(&[NO]);
    let client = Client::new(&url, None, &Options::default()).unwrap();
    let error = client.json("PATCH", "/team", Some(&json!({"name": "x"}))).err().unwrap();
    assert_eq!(error.to_string(), "the broker answered 403: not for bob");
    drop(client);
    let head = server.join().unwrap().to_lowercase();
    assert!(head.starts_with("patch /team http/1.1\r\n") && !head.contains("authorization"), "{head}");
    let (url, server) = says(&["HTTP/1.1 204 No Content\r\n\r\n"]);
    let client = Client::new(&url, Some(TOKEN), &Options::default()).unwrap();
    assert_eq!(client.json("DELETE", "/members/bob", None).unwrap(), serde_json::Value::Null);
    drop(client);
    server.join().unwrap();
}
