//! Uploading to a broker: in order, once, and never at the agent's cost.
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::ServerConfig;
use serde_json::{Value, json};
use support::mock::{Mock, Options};
use support::run::{FreePort, wait_until};
use support::tls::{self, Authority, Leaf};

use crate::broker_stub::{BrokerStub, Shared, Step};
use crate::lab::{Held, Lab, MODEL, Tls, call, finish, post, read_head, signal, spawn, url};

/// The token that the stub takes.
const TOKEN: &str = "ac7_good";

/// The seed's 5 s for the last events, and a debug build on a busy machine.
const BOUNDED: Duration = Duration::from_secs(12);

/// A session that uploads to `url`, and the agent's connection in it.
struct Session {
    lab: Lab,
    held: Held,
    tls: Tls,
    port: u16,
}

impl Session {
    fn start(mock: &Mock, url: &str) -> Session {
        let lab = Lab::new(&[mock]);
        let held = Held::start(&lab, &["--url", url, "--token", TOKEN]);
        let tls = held.tls(MODEL, mock.port, held.client());
        Session { lab, held, tls, port: mock.port }
    }

    /// Make an exchange for each number, one after the other.
    fn ask(&mut self, numbers: std::ops::Range<usize>) {
        for n in numbers {
            let head = format!("HEAD /{n} HTTP/1.1\r\nHost: x\r\n\r\n");
            self.tls.write_all(head.as_bytes()).unwrap();
            assert!(read_head(&mut self.tls).starts_with("HTTP/1.1 404 "));
        }
    }

    /// Wait until the session log has a line of this event.
    fn wait_log(&self, event: &str) {
        let line = format!("\"event\":\"{event}\"");
        wait_until(event, || self.lab.log().contains(&line).then_some(()));
    }

    /// What an exchange of each number is stored as.
    fn urls(&self, numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|n| format!("https://{MODEL}:{}/{n}", self.port)).collect()
    }

    /// End it; the command's own exit code is always its own. Gives standard error.
    fn end(self) -> (Lab, String) {
        let Session { lab, held, tls, .. } = self;
        drop(tls);
        let began = Instant::now();
        let done = held.finish();
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(began.elapsed() < BOUNDED, "{:?}", began.elapsed());
        (lab, done.stderr)
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn events_arrive_in_order_and_nothing_is_stored_here() {
    let (mock, broker) = (Mock::start(Options::default()), BrokerStub::start());
    let mut session = Session::start(&mock, &broker.url());
    session.ask(0..120);
    let want = session.urls(0..120);
    let (lab, said) = session.end();
    assert_eq!(broker.books.urls(), want);
    assert!(said.contains(&format!("ac7: sent to {}\n", broker.url())), "{said}");
    assert!(!lab.db().exists(), "the broker is the only place");
    assert!(!lab.log().contains(TOKEN) && !said.contains(TOKEN));
    assert_eq!(broker.books.count("/briefing"), 1);
    let books = broker.books.lock();
    let uploads: Vec<_> = books.requests.iter().filter(|r| r.method == "POST").collect();
    let keys: HashSet<_> = uploads.iter().map(|r| &r.headers["idempotency-key"]).collect();
    assert!(uploads.len() >= 3 && keys.len() == uploads.len(), "a key each");
    for upload in uploads {
        assert_eq!(upload.headers["authorization"], format!("Bearer {TOKEN}"));
        assert_eq!(upload.headers["x-ac7-protocol"], "1");
    }
}

#[test]
fn a_model_call_arrives_whole_or_as_what_the_broker_understands() {
    let mock = Mock::start(Options::default());
    for unknown in [&[][..], &["anthropic_messages"]] {
        let broker = BrokerStub::start();
        broker.books.lock().unknown_kinds = unknown.to_vec();
        let mut session = Session::start(&mock, &broker.url());
        session.tls.write_all(post("/v1/messages", &call(false)).as_bytes()).unwrap();
        read_head(&mut session.tls);
        let (_, said) = session.end();
        assert!(said.starts_with("ac7: 1 model call in 1 exchange, ") && !said.contains("dropped"), "{said}");
        let event = broker.books.lock().events[0].clone();
        let kinds = (event["kind"].as_str().unwrap(), event["entry"]["kind"].as_str().unwrap());
        if unknown.is_empty() {
            assert_eq!(kinds, ("llm_exchange", "anthropic_messages"));
            assert_eq!(event["entry"]["response"]["stopReason"], "end_turn");
        } else {
            assert_eq!(kinds, ("opaque_http", "opaque_http"));
            assert!(
                event["entry"]["requestBodyPreview"].as_str().unwrap().contains("Who is there?"),
                "{event}"
            );
        }
    }
}

#[test]
fn a_broker_that_comes_late_gets_everything() {
    let mock = Mock::start(Options::default());
    let place = FreePort::take();
    let port = place.number;
    let mut session = Session::start(&mock, &format!("http://127.0.0.1:{port}"));
    session.ask(0..20);
    session.wait_log("briefing failed");
    let broker = BrokerStub::start_at(at(port), Shared::default(), None);
    session.ask(20..30);
    let want = session.urls(0..30);
    let (_, said) = session.end();
    assert_eq!(broker.books.urls(), want);
    assert!(!said.contains("dropped"), "{said}");
}

#[test]
fn a_broker_that_dies_in_between_misses_nothing() {
    let mock = Mock::start(Options::default());
    let mut broker = BrokerStub::start();
    let mut session = Session::start(&mock, &broker.url());
    session.ask(0..60);
    broker.books.wait("the first events", |b| b.events.len() >= 50);
    broker.stop();
    session.ask(60..120);
    session.wait_log("batch failed");
    let again = BrokerStub::start_at(broker.address, broker.books.clone(), None);
    session.ask(120..130);
    let want = session.urls(0..130);
    let (_, said) = session.end();
    assert_eq!(again.books.urls(), want);
    assert!(!said.contains("dropped"), "{said}");
}

#[test]
fn an_answer_that_is_lost_stores_nothing_twice() {
    let (mock, broker) = (Mock::start(Options::default()), BrokerStub::start());
    broker.books.script("activity", &[Step::StoreAndClose, Step::Status(500, ""), Step::Close]);
    let mut session = Session::start(&mock, &broker.url());
    session.ask(0..10);
    broker.books.wait("the batch came", |b| b.count("/activity") >= 1);
    session.ask(10..20);
    let want = session.urls(0..20);
    session.end();
    assert_eq!(broker.books.urls(), want);
    let books = broker.books.lock();
    let uploads: Vec<_> = books.requests.iter().filter(|r| r.method == "POST").collect();
    assert!(uploads[..4].iter().all(|r| r.body == uploads[0].body), "the same bytes");
    assert!(
        uploads[..4].iter().all(|r| r.headers["idempotency-key"] == uploads[0].headers["idempotency-key"])
    );
}

#[test]
fn what_is_lost_is_counted_and_the_agent_is_not_harmed() {
    let mock = &Mock::start(Options::default());
    let cases = [
        ("briefing", Step::Status(401, ""), "ac7: 60 events dropped: the broker refused the token (401)"),
        ("activity", Step::Status(401, ""), "ac7: 60 events dropped: the broker refused the token (401)"),
        (
            "activity",
            Step::Status(404, ""),
            "ac7: 60 events dropped: the broker does not know this member (404)",
        ),
        ("activity", Step::Status(413, ""), "ac7: 60 events dropped: the broker refused them (413)"),
        ("activity", Step::Status(500, ""), "ac7: 60 events dropped: the broker answered 500 for "),
        ("activity", Step::Silence, "ac7: 60 events dropped: the broker did not answer for "),
        ("briefing", Step::Close, "ac7: 60 events dropped: the broker did not answer for "),
    ];
    // At the same time: most of them wait.
    thread::scope(|scope| {
        for (path, step, want) in cases {
            scope.spawn(move || {
                let broker = BrokerStub::start();
                broker.books.script(path, &vec![step.clone(); 1000]);
                let mut session = Session::start(mock, &broker.url());
                session.ask(0..60);
                let began = Instant::now();
                let (_, said) = session.end();
                assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
                assert!(said.lines().any(|l| l.starts_with(want)), "{step:?}: {said}");
                let left = broker.books.lock().left;
                assert_eq!(left, usize::from(matches!(step, Step::Silence)), "{step:?}");
            });
        }
    });
}

#[test]
fn one_event_that_is_too_large_does_not_take_the_others_with_it() {
    let (mock, broker) = (Mock::start(Options::default()), BrokerStub::start());
    broker.books.lock().max_body = Some(20_000);
    let mut session = Session::start(&mock, &broker.url());
    session.ask(0..20);
    let long = json!({"model": "claude-x", "messages": [{"role": "user", "content": "x".repeat(50_000)}]});
    session.tls.write_all(post("/v1/messages", &long.to_string()).as_bytes()).unwrap();
    let head = read_head(&mut session.tls);
    let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
    (&mut session.tls).take(length).read_to_end(&mut Vec::new()).unwrap();
    session.ask(20..40);
    let want = session.urls(0..40);
    let (_, said) = session.end();
    assert!(!said.contains("dropped"), "a call is cut to its preview first: {said}");
    let mut urls = broker.books.urls();
    assert_eq!(urls.remove(20), format!("https://{MODEL}/v1/messages"));
    assert_eq!(urls, want);
}

#[test]
fn with_nothing_to_say_nobody_waits_for_the_broker() {
    let broker = BrokerStub::start();
    broker.books.script("briefing", &[Step::Silence]);
    let home = support::ac7!();
    let nobody = FreePort::take();
    for url in [broker.url(), format!("http://127.0.0.1:{}", nobody.number)] {
        let began = Instant::now();
        let done = home.run(["run", "--url", &url, "--token", TOKEN, "--", "sh", "-c", "exit 4"]);
        assert_eq!(done.code, Some(4), "{}", done.stderr);
        assert!(began.elapsed() < Duration::from_secs(4), "{url}: {:?}", began.elapsed());
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
}

#[test]
fn the_callers_proxy_is_for_the_agent_and_not_for_a_broker_on_this_machine() {
    let mock = Mock::start(Options::default());
    let (broker, proxy) = (BrokerStub::start(), BrokerStub::start());
    let lab = Lab::new(&[&mock]);
    let mut command =
        lab.command(&["--url", &broker.url(), "--token", TOKEN], &["curl", "-sS", "-o", "/dev/null"]);
    command.arg(url(MODEL, &mock, "/v1/models"));
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        command.env(name, proxy.url());
    }
    let done = finish(&mut command);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(broker.books.urls(), [url(MODEL, &mock, "/v1/models")]);
    assert!(proxy.books.lock().requests.is_empty(), "not even the name was asked for there");
}

#[test]
fn a_broker_elsewhere_is_reached_through_the_callers_proxy() {
    let mock = Mock::start(Options::default());
    // It answers CONNECT and then plays the broker on the same connection.
    let proxy = BrokerStub::start();
    let lab = Lab::new(&[&mock]);
    let flags = ["--url", "http://broker.invalid:8717", "--token", TOKEN];
    let mut command = lab.command(&flags, &["curl", "-sS", "-o", "/dev/null"]);
    let done = finish(command.arg(url(MODEL, &mock, "/v1/models")).env("HTTP_PROXY", proxy.url()));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(proxy.books.urls(), [url(MODEL, &mock, "/v1/models")]);
    let books = proxy.books.lock();
    assert_eq!(
        (books.requests[0].method.as_str(), books.requests[0].path.as_str()),
        ("CONNECT", "broker.invalid:8717")
    );
}

#[test]
fn a_broker_with_a_private_certificate_is_trusted_by_its_file() {
    let (mock, authority) = (Mock::start(Options::default()), Authority::new());
    let config = ServerConfig::clone(&tls::server(&authority.issue(Leaf::Good)));
    let broker = BrokerStub::start_tls(config);
    let address = format!("https://{}", broker.address);
    let mocks = fs::read_to_string(&mock.ca_pem).unwrap();
    for (pem, dropped) in [(mocks.clone() + &authority.pem, false), (mocks, true)] {
        let lab = Lab::trusting(&pem);
        let flags = ["--url", &address, "--token", TOKEN];
        let done = lab.curl(&flags, &["-o", "/dev/null", &url(MODEL, &mock, "/v1/models")]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let want = "ac7: 1 event dropped: the broker could not be trusted for ";
        assert_eq!(done.stderr.contains(want), dropped, "{}", done.stderr);
    }
    assert_eq!(broker.books.urls().len(), 1);
}

#[test]
fn a_broker_and_its_token_are_found_in_flag_variable_and_file_but_only_if_told() {
    let mock = Mock::start(Options::default());
    let (broker, other) = (BrokerStub::start(), BrokerStub::start());
    let (url_, other_url) = (&*broker.url(), &*other.url());
    let saved = json!({"schema": 1, "entries": [
        {"url": url_, "token": TOKEN, "savedAt": 1}, {"url": "http://127.0.0.1:8717", "token": TOKEN, "savedAt": 2}]});
    // Flags, variables, and where the event goes.
    for (flags, variables, want) in [
        (&[][..], &[][..], "here"),
        (&["--local"], &[("AC7_URL", url_), ("AC7_TOKEN", TOKEN)], "here"),
        (&["--url", url_], &[], "broker"),
        (&[], &[("AC7_URL", url_)], "broker"),
        (&[], &[("AC7_URL", url_), ("AC7_TOKEN", "ac7_bad")], "refused"),
        (&["--token", TOKEN], &[("AC7_URL", url_), ("AC7_TOKEN", "ac7_bad")], "broker"),
        (&["--url", other_url], &[("AC7_URL", url_)], "no token"),
    ] {
        let lab = Lab::new(&[&mock]);
        let config = lab.home.join("home/config/ac7");
        fs::create_dir_all(&config).unwrap();
        fs::write(config.join("auth.json"), saved.to_string()).unwrap();
        let before = broker.books.urls().len();
        let mut command = lab.command(flags, &["curl", "-sS", "-o", "/dev/null"]);
        let done = finish(command.arg(url(MODEL, &mock, "/v1/models")).envs(variables.iter().copied()));
        let new = broker.books.urls().len() - before;
        let got = match (done.code, new, lab.db().exists()) {
            (Some(0), 0, true) => "here",
            (Some(0), 1, false) => "broker",
            (Some(0), 0, false) if done.stderr.contains("the broker refused the token (401)") => "refused",
            (Some(1), 0, false) if done.stderr.contains("ac7 run: --token or AC7_TOKEN is required") => {
                "no token"
            }
            other => panic!("{flags:?} {variables:?}: {other:?}: {}", done.stderr),
        };
        assert_eq!(got, want, "{flags:?} {variables:?}: {}", done.stderr);
    }
    assert_eq!(other.books.lock().requests.len(), 0);
    assert_eq!(broker.books.lock().events[0]["entry"]["method"], Value::from("GET"));
}

#[test]
fn from_setup_to_the_teams_own_broker() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let made = lab.home.run(["setup", "--non-interactive", "--team", "T", "--member", "ann"]);
    let token = made.stdout.trim_end();
    let mut broker = spawn(&lab.home.ac7(["serve", "--port", "0"]));
    let mut lines = BufReader::new(broker.stderr.take().unwrap()).lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let url_ = first.strip_prefix("ac7 serve: listening on ").unwrap();
    let mut command = lab.command(&["--url", url_], &["curl", "-sS", "-o", "/dev/null"]);
    command.args([
        "-H",
        "content-type: application/json",
        "-d",
        &call(true),
        &url(MODEL, &mock, "/v1/messages"),
    ]);
    let done = finish(command.env("AC7_TOKEN", token));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.ends_with(&format!("ac7: sent to {url_}\n")), "{}", done.stderr);
    signal(&broker, Signal::TERM);
    lines.for_each(drop);
    assert_eq!(broker.wait().unwrap().code(), Some(0));
    let rows = lab.home.traces(&lab.home.join("home/ac7-activity.db"));
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["memberName"], &rows[0]["event"]["kind"]), (&json!("ann"), &json!("llm_exchange")));
}
