//! Upstreams, clients and databases that misbehave: the agent gets a real error at once or notices nothing at all.
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::{Value, json};
use support::mock::{CONFLICTING_LENGTHS, Fault, GARBAGE, Mock, Options};
use support::run::{Finished, FreePort, wait_until};
use support::tls::Leaf;

use crate::lab::{Held, Lab, MODEL, OTHER, call, events, finish, post, read_head, url};
use crate::server::{Server, echo};

/// An error that the agent is to see must be there within this time, a handshake that nobody answers included.
const SOON: Duration = Duration::from_secs(15);

#[test]
fn an_upstream_that_cannot_be_trusted_is_a_502_with_the_reason() {
    let bad = |leaf: Leaf| Mock::start(Options { leaf, ..Options::default() });
    let fault = |fault: Fault| Mock::start(Options { fault, ..Options::default() });
    let (expired, wrong, stranger) =
        (bad(Leaf::Expired), bad(Leaf::WrongName), Mock::start(Options::default()));
    let (reset, silent) = (fault(Fault::Reset), fault(Fault::Silent));
    let (not_tls, nobody) = (Server::start(echo), FreePort::take());
    let lab = Lab::new(&[&expired, &wrong, &reset, &silent]);
    let held = Held::start(&lab, &[]);
    let cases = [
        (nobody.number, "cannot connect to 127.0.0.1:"),
        (expired.port, "cannot trust api.anthropic.com: invalid peer certificate: certificate expired"),
        (
            wrong.port,
            "cannot trust api.anthropic.com: invalid peer certificate: certificate not valid for name",
        ),
        (stranger.port, "cannot trust api.anthropic.com: invalid peer certificate: "),
        (reset.port, "cannot trust api.anthropic.com: "),
        (silent.port, "cannot trust api.anthropic.com: "),
        (not_tls.port, "cannot trust api.anthropic.com: "),
    ];
    for (port, want) in cases {
        let began = Instant::now();
        let (head, mut tcp) = held.ask_connect(&format!("{MODEL}:{port}"));
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{want}: {head}");
        let mut body = String::new();
        tcp.read_to_string(&mut body).unwrap();
        assert!(body.starts_with(&format!("ac7: {want}")) && body.lines().count() == 1, "{want}: {body}");
        assert!(began.elapsed() < SOON, "{want}: {:?}", began.elapsed());
    }
    let done = held.finish();
    let events = lab.events();
    assert_eq!(events.len(), cases.len());
    for (event, (port, want)) in events.iter().zip(cases) {
        let entry = &event["entry"];
        assert_eq!(
            (&entry["method"], entry["url"].as_str()),
            (&json!("CONNECT"), Some(&*format!("{MODEL}:{port}")))
        );
        assert!(entry["responseBodyPreview"].as_str().unwrap().starts_with(want), "{entry}");
    }
    assert_eq!(lab.log().matches("\"upstream refused\"").count(), cases.len());
    assert!(done.stderr.starts_with("ac7: no model call: api.anthropic.com:"), "{}", done.stderr);
}

#[test]
fn other_hosts_are_judged_by_the_client_itself() {
    for (leaf, stranger, code) in [
        (Leaf::Expired, false, 60),
        (Leaf::WrongName, false, 60),
        (Leaf::Good, true, 60),
        (Leaf::Good, false, 0),
    ] {
        let mock = Mock::start(Options { leaf, ..Options::default() });
        let lab = if stranger { Lab::new(&[]) } else { Lab::new(&[&mock]) };
        let url = url(OTHER, &mock, "/v1/models");
        assert_eq!(lab.curl(&["--quiet"], &[&url]).code, Some(code), "{leaf:?}");
        // A client that does not care is served, as it would be without us.
        let done = lab.curl(&[], &["-k", "-o", "/dev/null", "-w", "%{http_code}", &url]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "200"), "{leaf:?}: {}", done.stderr);
        let reasons: Vec<_> = lab.events().iter().map(|e| e["entry"]["tunnel"]["reason"].clone()).collect();
        let want = if code == 0 { Value::Null } else { json!("upstream") };
        assert_eq!(reasons, [want.clone(), want], "{leaf:?}");
    }
}

#[test]
fn curl_fails_at_once_where_the_upstream_refuses() {
    let lab = Lab::new(&[]);
    let nobody = FreePort::take();
    let port = nobody.number;
    for (url, code) in
        [(format!("https://{MODEL}:{port}/"), Some(56)), (format!("https://{OTHER}:{port}/"), Some(56))]
    {
        let began = Instant::now();
        let done = lab.curl(&[], &["-o", "/dev/null", &url]);
        assert_eq!(done.code, code, "{}", done.stderr);
        assert!(done.stderr.contains("502"), "{}", done.stderr);
        assert!(began.elapsed() < SOON);
    }
    let done = lab.curl(&[], &["-w", "%{http_code}", &format!("http://{MODEL}:{port}/")]);
    assert_eq!(done.code, Some(0), "a plain request gets a plain answer: {}", done.stderr);
    assert!(
        done.stdout.starts_with("ac7: cannot connect to 127.0.0.1:") && done.stdout.ends_with("502"),
        "{}",
        done.stdout
    );
}

#[test]
fn what_is_no_request_to_a_proxy_is_a_400() {
    let lab = Lab::new(&[]);
    let held = Held::start(&lab, &[]);
    let long = format!("GET http://h/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("CONNECT h:443 HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(12_000));
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(),
        b"GET https://h/ HTTP/1.1\r\n\r\n",
        b"GET ftp://h/ HTTP/1.1\r\n\r\n",
        b"GET http:///x HTTP/1.1\r\n\r\n",
        b"CONNECT HTTP/1.1\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\n\r\n",
        b"CONNECT h:port HTTP/1.1\r\n\r\n",
        b"CONNECT h:99999 HTTP/1.1\r\n\r\n",
        b"CONNECT h:0 HTTP/1.1\r\n\r\n",
        b"CONNECT [::1:443 HTTP/1.1\r\n\r\n",
        b"CONNECT a@h:443 HTTP/1.1\r\n\r\n",
        b"CONNECT h:443 HTTP/2.0\r\n\r\n",
        b"CONNECT h:443 HTTP/1.1\r\nno field\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"\x00\xff\r\n\r\n",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(50)]).into_owned();
        let mut tcp = held.proxy();
        tcp.write_all(bytes).unwrap();
        let head = read_head(&mut tcp);
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{name:?}: {head}");
        let mut body = Vec::new();
        // What was too long to be read may cost the client the end of the answer, as with any server.
        let _ = tcp.read_to_end(&mut body);
        assert!(body.starts_with(b"ac7: ") && body.ends_with(b"\n"), "{name:?}: {body:?}");
    }
    // Who leaves in the middle of a head hears nothing and holds nothing.
    for bytes in [&b""[..], b"CONNECT h:443", b"\x16\x03\x01\x02\x00"] {
        let mut tcp = held.proxy();
        tcp.write_all(bytes).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        assert_eq!(tcp.read_to_end(&mut Vec::new()).unwrap(), 0, "{bytes:?}");
    }
    let done = held.finish();
    assert_eq!(done.code, Some(0));
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

#[test]
fn answers_that_are_no_http_pass_unchanged_and_are_marked() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let long = format!("{head}X-Long: {}\r\n\r\n", "x".repeat(300_000));
    let fields = format!("{head}{}\r\n", "X: y\r\n".repeat(20_000));
    let cases: Vec<(Vec<u8>, bool)> = vec![
        // The bytes, and whether the connection cannot be understood, rather than an exchange being incomplete.
        (GARBAGE.to_vec(), true),
        (CONFLICTING_LENGTHS.to_vec(), true),
        (long.into_bytes(), true),
        (fields.into_bytes(), true),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n").into_bytes(), true),
        (format!("{head}Content-Length: -1\r\n\r\n{{}}").into_bytes(), true),
        (format!("{head}Content-Length: 2\r\n\r\n{{}}{GREETING}").into_bytes(), false),
        (b"HTTP/1.1 200 O".to_vec(), false),
        (format!("{head}Content-Length: 100\r\n\r\n{{\"id\":").into_bytes(), false),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"i").into_bytes(), false),
        (format!("{head}Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain").into_bytes(), false),
        (Vec::new(), false),
    ];
    let mocks: Vec<Mock> = cases
        .iter()
        .map(|(bytes, _)| Mock::start(Options { fault: Fault::Raw(bytes.clone()), ..Options::default() }))
        .collect();
    let lab = Lab::new(&mocks.iter().collect::<Vec<_>>());
    let held = Held::start(&lab, &[]);
    for (mock, (bytes, unparsed)) in mocks.iter().zip(&cases) {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(90)]).into_owned();
        let before = lab.stored().len();
        let mut tls = held.tls(MODEL, mock.port, held.client());
        tls.write_all(post("/v1/messages", &call(false)).as_bytes()).unwrap();
        let mut got = Vec::new();
        tls.read_to_end(&mut got).unwrap();
        assert!(got == *bytes, "{name}");
        drop(tls);
        let count = if *unparsed { 2 } else { 1 };
        let events = wait_until(&name, || Some(lab.stored()).filter(|all| all.len() >= before + count));
        let new: Vec<&Value> = events[before..].iter().map(|e| &e["entry"]).collect();
        let call = new.iter().find(|e| e["kind"] == "anthropic_messages");
        let call = call.unwrap_or_else(|| panic!("the request is recorded: {name}: {new:#?}"));
        assert_eq!(call["request"]["model"], "claude-x", "{name}");
        // A whole answer with a server's farewell behind it is whole, and that is nobody's loss.
        let whole = bytes.ends_with(GREETING.as_bytes());
        assert_eq!(call.get("truncated").is_none(), whole, "{name}: {call}");
        let note = new.iter().find(|e| e["method"] == "NOTE");
        assert_eq!(note.is_some(), *unparsed, "{name}: {new:#?}");
        if let Some(note) = note {
            assert_eq!((&note["url"], &note["note"]["count"]), (&json!("ac7:unparsed"), &json!(1)));
            assert_eq!(note["note"]["target"], format!("{MODEL}:{}", mock.port));
        }
    }
    let done = held.finish();
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    let lost = done.stderr.lines().last().unwrap();
    assert_eq!(lost, "ac7: 11 exchanges truncated; 6 connections not understood", "{}", done.stderr);
}

/// What a server may say before it closes a connection that idles.
const GREETING: &str = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

#[test]
fn requests_that_are_no_http_pass_unchanged_too() {
    let (server, pem) = Server::tls(&[], crate::server::echo_tls);
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(300_000));
    for bytes in [
        b"GET / HTTP/9.9\r\n\r\n".as_slice(),
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        long.as_bytes(),
    ] {
        let mut tls = held.tls(MODEL, server.port, held.client());
        tls.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        tls.read_exact(&mut back).unwrap();
        assert!(back == bytes);
    }
    let done = held.finish();
    assert!(done.stderr.contains("4 connections not understood"), "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
}

#[test]
fn an_agent_that_gives_up_waiting_leaves_an_incomplete_record() {
    let mock = Mock::start(Options { fault: Fault::NoAnswer, ..Options::default() });
    let lab = Lab::new(&[&mock]);
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls(MODEL, mock.port, held.client());
    tls.write_all(post("/v1/messages", &call(true)).as_bytes()).unwrap();
    mock.wait_seen(1);
    drop(tls);
    held.finish();
    let entry = lab.entry();
    assert_eq!((&entry["kind"], &entry["response"]), (&json!("anthropic_messages"), &Value::Null));
    assert_eq!(entry["truncated"], true);
}

/// A model call under ac7 into this database: what the agent sees may not depend on it.
fn call_into(lab: &Lab, db: &Path, mock: &Mock) -> Finished {
    let url = url(MODEL, mock, "/v1/messages");
    let json = ["-H", "content-type: application/json", "-d", &call(false)];
    let script = "curl -sS --max-time 60 \"$@\"; echo; echo said >&2; exit 5";
    let mut command = lab.command(&["--db", db.to_str().unwrap()], &["sh", "-c", script, "sh"]);
    let done = finish(command.args(json).arg(url));
    assert_eq!(done.code, Some(5), "{}", done.stderr);
    assert!(done.stdout.contains(support::mock::ANSWER) && done.stdout.ends_with("}\n"), "{}", done.stdout);
    assert_eq!(done.stderr.lines().next(), Some("said"));
    done
}

#[test]
fn a_database_that_takes_nothing_is_the_sessions_problem_alone() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let place = |name: &str| lab.home.join(name);
    let (folder, text, newer, damaged) = (place("folder"), place("text"), place("newer"), place("damaged"));
    fs::create_dir(&folder).unwrap();
    fs::write(&text, "dear diary\n".repeat(1000)).unwrap();
    for db in [&newer, &damaged] {
        call_into(&lab, db, &mock);
    }
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[100..].fill(0xa5);
    fs::write(&damaged, bytes).unwrap();
    let below = text.join("a.db");
    let mut cases = vec![
        (PathBuf::from("/proc/nope/a.db"), "cannot open the database: /proc/nope/a.db: "),
        (below, "cannot open the database: "),
        (folder, "cannot open the database: "),
        (text.clone(), "cannot open the database: "),
        (newer, "cannot open the database: "),
        (damaged, "the database is damaged: "),
    ];
    let sealed = place("sealed");
    fs::create_dir(&sealed).unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o500)).unwrap();
    // Not for root, whom no mode keeps out.
    if fs::write(sealed.join("probe"), "").is_err() {
        cases.push((sealed.join("a.db"), "cannot open the database: "));
    }
    for (db, want) in cases {
        let done = call_into(&lab, &db, &mock);
        let lines: Vec<&str> = done.stderr.lines().skip(1).collect();
        assert!(lines[0].starts_with("ac7: 1 model call in 1 exchange, "), "{lines:?}");
        assert!(lines[1].starts_with(&format!("ac7: 1 event dropped: {want}")), "{lines:?}");
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains(db.to_str().unwrap()), "{lines:?}");
    }
    assert_eq!(
        fs::read_to_string(&text).unwrap(),
        "dear diary\n".repeat(1000),
        "a foreign file is not touched"
    );
}

#[test]
fn a_missing_folder_of_the_database_is_made_for_its_owner_alone() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let db = lab.home.join("new/deep/a.db");
    let done = call_into(&lab, &db, &mock);
    assert!(!done.stderr.contains("dropped"), "{}", done.stderr);
    assert_eq!(events(&db).len(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&db), mode(db.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn a_database_that_is_locked_for_long_costs_events_and_five_seconds_at_most() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let db = lab.home.join("locked.db");
    call_into(&lab, &db, &mock);
    let holder = Connection::open(&db).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let began = Instant::now();
    let done = call_into(&lab, &db, &mock);
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    let said = done.stderr.lines().last().unwrap();
    let want = format!("ac7: 1 event dropped: cannot use the database: {}: ", db.display());
    assert!(said.starts_with(&want), "{said}");
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(events(&db).len(), 1, "what was there is there");
}

#[test]
fn a_lock_that_is_released_in_time_costs_nothing() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    call_into(&lab, &lab.db(), &mock);
    let holder = Connection::open(lab.db()).unwrap();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls(MODEL, mock.port, held.client());
    tls.write_all(post("/v1/messages", &call(false)).as_bytes()).unwrap();
    read_head(&mut tls);
    drop(tls);
    wait_until("the event waits for the database", || {
        lab.log().contains("trace: llm_exchange queued\"").then_some(())
    });
    holder.execute_batch("COMMIT").unwrap();
    let done = held.finish();
    assert!(!done.stderr.contains("dropped"), "{}", done.stderr);
    assert_eq!(lab.events().len(), 2);
}

#[test]
fn two_sessions_share_a_database() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let sessions = [Held::start(&lab, &[]), Held::start(&lab, &[])];
    for _ in 0..5 {
        for held in &sessions {
            let mut tls = held.tls(MODEL, mock.port, held.client());
            tls.write_all(post("/v1/messages", &call(true)).as_bytes()).unwrap();
            assert!(read_head(&mut tls).starts_with("HTTP/1.1 200 "));
            tls.conn.send_close_notify();
            tls.flush().unwrap();
            tls.read_to_end(&mut Vec::new()).unwrap();
        }
    }
    for held in sessions {
        let said = held.finish().stderr;
        assert!(
            said.starts_with("ac7: 5 model calls in 5 exchanges, ") && !said.contains("dropped"),
            "{said}"
        );
    }
    assert_eq!(lab.events().len(), 10);
}
