//! The mock against a plain rustls client, so that a failing test of ac7 points at ac7.
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use rustls::{ClientConnection, StreamOwned};

use super::*;

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(mock: &Mock) -> Tls {
    let config = tls::client(&fs::read_to_string(&mock.ca_pem).expect("the mock wrote it"), false);
    let name = "api.anthropic.com".try_into().expect("a host name");
    let conn = ClientConnection::new(config, name).expect("the configuration is complete");
    let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, mock.port)).expect("the mock listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a positive time");
    StreamOwned::new(conn, tcp)
}

/// Everything the mock says to `request` until it ends the connection, and how it ended.
fn ask(mock: &Mock, request: &str) -> (String, Result<(), ErrorKind>) {
    let mut tls = connect(mock);
    let mut answer = Vec::new();
    let end = tls.write_all(request.as_bytes()).and_then(|()| tls.read_to_end(&mut answer).map(drop));
    (String::from_utf8_lossy(&answer).into_owned(), end.map_err(|e| e.kind()))
}

fn call(extra: &str) -> String {
    let body = format!(r#"{{"model":"claude-x","stream":true,"tools":[{{"name":"Bash"}}]{extra}}}"#);
    format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn closing(options: Options) -> Options {
    Options { close: true, ..options }
}

#[test]
fn a_stream_is_whole_and_its_request_recorded() {
    let mock = Mock::start(closing(Options::default()));
    let (answer, end) = ask(&mock, &call(""));
    assert_eq!(end, Ok(()));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(answer.matches("text_delta").count(), 5);
    let seen = &mock.wait_seen(1)[0];
    assert_eq!((seen.method.as_str(), seen.route(), seen.connection), ("POST", "/v1/messages", 1));
    assert_eq!(seen.server_name.as_deref(), Some("api.anthropic.com"));
    assert_eq!(seen.json()["model"], "claude-x");
}

#[test]
fn a_chunked_body_is_read() {
    let mock = Mock::start(closing(Options::default()));
    let request =
        "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n";
    assert_eq!(ask(&mock, request).1, Ok(()));
    let seen = &mock.seen()[0];
    assert_eq!((seen.body.as_slice(), seen.size), (b"abcde".as_slice(), 5));
}

#[test]
fn the_tool_is_called_for_as_many_turns_as_asked() {
    let tool = Some(("Bash".to_string(), "{}".to_string()));
    let mock = Mock::start(closing(Options { tool, turns: 2, ..Options::default() }));
    let turn = r#"{"role":"assistant","content":[]}"#;
    for (spoken, calls) in [("", true), (turn, true), (&format!("{turn},{turn}"), false)] {
        let (answer, _) = ask(&mock, &call(&format!(r#","messages":[{spoken}]"#)));
        assert_eq!(answer.contains("toolu_mock"), calls, "{spoken}: {answer}");
    }
}

#[test]
fn failures_and_overloads_are_counted() {
    let mock = Mock::start(closing(Options { fail: Some((529, 1)), overloaded: true, ..Options::default() }));
    assert!(ask(&mock, &call("")).0.starts_with("HTTP/1.1 529 "));
    assert!(ask(&mock, &call("")).0.contains("Overloaded"));
    let (answer, _) = ask(&mock, &call(""));
    assert!(answer.contains("message_stop"), "{answer}");
}

#[test]
fn every_fault_ends_as_it_says() {
    let cut = Options { cut_after: Some(2), ..Options::default() };
    let raw = |bytes: &[u8]| Options { fault: Fault::Raw(bytes.to_vec()), ..Options::default() };
    let fault = |fault: Fault| closing(Options { fault, ..Options::default() });
    let certificate = |leaf: Leaf| Options { leaf, ..Options::default() };
    for (options, start, end) in [
        (cut, "HTTP/1.1 200 ", Err(ErrorKind::UnexpectedEof)),
        (raw(GARBAGE), "\0", Ok(())),
        (raw(CONFLICTING_LENGTHS), "HTTP/1.1 200 OK", Ok(())),
        (fault(Fault::EarlyAnswer), "HTTP/1.1 413 ", Ok(())),
        (fault(Fault::Reset), "", Err(ErrorKind::ConnectionReset)),
        (certificate(Leaf::Expired), "", Err(ErrorKind::InvalidData)),
        (certificate(Leaf::WrongName), "", Err(ErrorKind::InvalidData)),
    ] {
        let name = format!("{options:?}");
        let (answer, got) = ask(&Mock::start(options), &call(""));
        assert!(answer.starts_with(start), "{name}: {answer:?}");
        assert_eq!(got, end, "{name}");
    }
}

#[test]
fn it_stops_though_clients_hang_on() {
    for fault in [Fault::Silent, Fault::NoAnswer] {
        let mock = Mock::start(Options { fault: fault.clone(), ..Options::default() });
        let mut tls = connect(&mock);
        let name = format!("{fault:?}");
        if fault == Fault::NoAnswer {
            tls.write_all(call("").as_bytes()).expect("the mock reads");
            mock.wait_seen(1);
        } else {
            tls.sock.write_all(b"x").expect("the mock accepts");
        }
        drop(mock);
        // Ended in whatever way, not timed out.
        let end = tls.sock.read_to_end(&mut Vec::new()).map_err(|e| e.kind());
        assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{name}: {end:?}");
    }
}
