//! The uploader against real sockets; [`client`] does the same with the client alone.
#![cfg(test)]
#[path = "support/broker_stub.rs"]
mod broker_stub;
#[path = "support/certs.rs"]
mod certs;
#[path = "uploader/client.rs"]
mod client;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use ac7::client::{Client, Options};
use ac7::sink::uploader::Uploader;
use ac7::sink::{Encoded, Place, Report, Sink};
use broker_stub::{BrokerStub, Step};
use certs::{Scratch, signed};
use serde_json::{Value, json};

const TOKEN: &str = "ac7_good";
const GRACE: Duration = Duration::from_secs(10);

/// What an uploader logged.
#[derive(Clone, Default)]
struct Lines(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Lines {
    fn add(&self, line: String) {
        self.0.0.lock().unwrap().push(line);
        self.0.1.notify_all();
    }

    fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    fn count(&self, prefix: &str) -> usize {
        self.all().iter().filter(|line| line.starts_with(prefix)).count()
    }

    /// Wait for a line that begins so.
    fn wait(&self, prefix: &str) {
        let (lines, changed) = &*self.0;
        let missing = |lines: &mut Vec<String>| !lines.iter().any(|line| line.starts_with(prefix));
        let waited = changed.wait_timeout_while(lines.lock().unwrap(), Duration::from_secs(20), missing);
        assert!(!waited.unwrap().1.timed_out(), "waited in vain for {prefix}");
    }
}

/// An uploader to `url` and what it logs.
fn start(url: &str) -> (Box<Uploader>, Lines) {
    start_with(url, TOKEN, &Options::default())
}

fn start_with(url: &str, token: &str, options: &Options) -> (Box<Uploader>, Lines) {
    let client = Client::new(url, Some(token), options).unwrap();
    let lines = Lines::default();
    let log = {
        let lines = lines.clone();
        move |what: &str, facts: &[(&str, String)]| lines.add(format!("{what} {facts:?}"))
    };
    (Box::new(Uploader::start(client, None, Box::new(log)).unwrap()), lines)
}

/// An opaque event whose URL is the number, with `size` bytes of preview.
fn event(n: usize, size: usize) -> Encoded {
    let entry = json!({"kind": "opaque_http", "startedAt": n, "endedAt": n, "host": "h", "method": "GET",
        "url": n.to_string(), "status": 200, "requestHeaders": {}, "responseHeaders": {},
        "requestBodyPreview": "x".repeat(size), "responseBodyPreview": null});
    let json = json!({"kind": "opaque_http", "ts": n, "duration": 0, "entry": entry}).to_string();
    Encoded { ts: n as u64, kind: "opaque_http", json }
}

/// A model call of a kind that only newer brokers know.
fn call(n: usize, text: &str) -> Encoded {
    let entry = json!({"kind": "openai_chat", "startedAt": n, "endedAt": n, "host": "api.example",
        "request": {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        "response": {"status": 200, "messages": []}});
    let json = json!({"kind": "llm_exchange", "ts": n, "duration": 0, "entry": entry}).to_string();
    Encoded { ts: n as u64, kind: "llm_exchange", json }
}

fn push_all(uploader: &mut Uploader, numbers: std::ops::Range<usize>) {
    for n in numbers {
        uploader.push(event(n, 10));
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn all_stored(report: &Report, stored: u64) {
    assert_eq!((report.stored, report.dropped, report.reason.as_deref()), (stored, 0, None));
}

/// An address on which nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn events_arrive_in_order_in_batches_of_fifty() {
    let broker = BrokerStub::start();
    let (mut uploader, lines) = start(&broker.url());
    push_all(&mut uploader, 0..230);
    let report = uploader.close(GRACE);
    all_stored(&report, 230);
    assert_eq!(report.place, Some(Place::Broker(broker.url())));
    assert_eq!(broker.books.urls(), numbers(0..230));
    let books = broker.books.lock();
    let uploads: Vec<_> = books.requests.iter().filter(|r| r.method == "POST").collect();
    assert!(uploads.len() >= 5);
    for request in &uploads {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert!(body["events"].as_array().unwrap().len() <= 50);
        assert_eq!(request.headers["x-ac7-protocol"], "1");
        assert_eq!(request.headers["authorization"], "Bearer ac7_good");
        assert_eq!(request.headers["user-agent"], concat!("ac7/", env!("CARGO_PKG_VERSION")));
    }
    let keys: HashSet<_> = uploads.iter().map(|r| &r.headers["idempotency-key"]).collect();
    assert_eq!(keys.len(), uploads.len());
    assert_eq!(lines.count("batch sent"), uploads.len());
    assert!(lines.all().iter().all(|l| !l.contains(TOKEN)), "{:?}", lines.all());
}

#[test]
fn a_lone_event_waits_half_a_second_for_others() {
    let broker = BrokerStub::start();
    let (mut uploader, _) = start(&broker.url());
    broker.books.wait("the name is asked for", |b| b.count("/briefing") == 1);
    let began = Instant::now();
    uploader.push(event(0, 10));
    broker.books.wait("the event is there", |b| b.events.len() == 1);
    assert!(began.elapsed() >= Duration::from_millis(450), "{:?}", began.elapsed());
    all_stored(&uploader.close(GRACE), 1);
}

#[test]
fn a_batch_whose_answer_is_lost_is_stored_once() {
    let broker = BrokerStub::start();
    broker.books.script(
        "activity",
        &[
            Step::StoreAndClose,
            Step::Status(500, ""),
            Step::Close,
            Step::Status(429, ""),
            Step::Status(409, ""),
        ],
    );
    let (mut uploader, lines) = start(&broker.url());
    push_all(&mut uploader, 0..50);
    // the batch is in flight: what comes now may not join it
    broker.books.wait("the batch was seen", |b| b.count("/activity") >= 1);
    push_all(&mut uploader, 50..60);
    all_stored(&uploader.close(GRACE), 60);
    assert_eq!(broker.books.urls(), numbers(0..60));
    let books = broker.books.lock();
    let bodies: Vec<_> = books.requests.iter().filter(|r| r.method == "POST").collect();
    assert_eq!(bodies.len(), 7);
    assert!(bodies[..6].iter().all(|r| r.body == bodies[0].body));
    assert!(bodies[..6].iter().all(|r| r.headers["idempotency-key"] == bodies[0].headers["idempotency-key"]));
    assert_eq!(lines.count("batch failed"), 5);
}

#[test]
fn retry_after_is_obeyed() {
    let broker = BrokerStub::start();
    broker.books.script("activity", &[Step::Status(503, "Retry-After: 1\r\n")]);
    let (mut uploader, _) = start(&broker.url());
    push_all(&mut uploader, 0..50);
    broker.books.wait("the first try", |b| b.count("/activity") == 1);
    let began = Instant::now();
    broker.books.wait("the second try", |b| b.count("/activity") == 2);
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    all_stored(&uploader.close(GRACE), 50);
}

#[test]
fn a_broker_that_is_down_at_the_start_gets_what_the_queue_could_hold() {
    let at = nobody();
    let (mut uploader, lines) = start(&format!("http://{at}"));
    lines.wait("briefing failed");
    push_all(&mut uploader, 0..1300);
    let broker = BrokerStub::start_at(at, broker_stub::Shared::default(), None);
    let report = uploader.close(GRACE);
    assert_eq!((report.stored, report.dropped), (1000, 300));
    let why = report.reason.unwrap();
    assert!(why.starts_with("the broker did not answer for "), "{why}");
    let urls = broker.books.urls();
    assert_eq!(urls[0], "ac7:dropped");
    assert_eq!(urls[1..], numbers(300..1300));
    let note = broker.books.lock().events[0].clone();
    assert_eq!((&note["kind"], &note["ts"]), (&json!("opaque_http"), &json!(299)));
    assert_eq!((&note["entry"]["method"], &note["entry"]["host"]), (&json!("NOTE"), &json!("ac7")));
    assert_eq!(note["entry"]["note"]["count"], 300);
    assert!(note["entry"]["note"]["reason"].as_str().unwrap().starts_with("the broker did not answer for "));
}

#[test]
fn a_megabyte_is_kept_and_no_more() {
    let at = nobody();
    let (mut uploader, _) = start(&format!("http://{at}"));
    for n in 0..15 {
        uploader.push(event(n, 100_000));
    }
    let broker = BrokerStub::start_at(at, broker_stub::Shared::default(), None);
    let report = uploader.close(GRACE);
    assert_eq!((report.stored, report.dropped), (10, 5));
    let urls = broker.books.urls();
    assert_eq!((urls[0].as_str(), &urls[1..]), ("ac7:dropped", &numbers(5..15)[..]));
}

#[test]
fn a_broker_that_dies_and_comes_back_misses_nothing() {
    let mut broker = BrokerStub::start();
    let books = broker.books.clone();
    let (mut uploader, lines) = start(&broker.url());
    push_all(&mut uploader, 0..120);
    books.wait("the first events", |b| b.events.len() >= 50);
    broker.stop();
    push_all(&mut uploader, 120..250);
    lines.wait("batch failed");
    let _again = BrokerStub::start_at(broker.address, books.clone(), None);
    all_stored(&uploader.close(GRACE), 250);
    assert_eq!(books.urls(), numbers(0..250));
}

#[test]
fn a_call_that_the_broker_does_not_know_is_sent_as_opaque() {
    let broker = BrokerStub::start();
    broker.books.lock().unknown_kinds = vec!["openai_chat"];
    let (mut uploader, _) = start(&broker.url());
    push_all(&mut uploader, 0..3);
    uploader.push(call(3, "hello"));
    push_all(&mut uploader, 4..8);
    all_stored(&uploader.close(GRACE), 8);
    let urls = broker.books.urls();
    assert_eq!(urls[..3], numbers(0..3));
    assert_eq!(urls[3], "https://api.example/v1/chat/completions");
    assert_eq!(urls[4..], numbers(4..8));
    let entry = broker.books.lock().events[3]["entry"].clone();
    assert_eq!((&entry["kind"], &entry["method"]), (&json!("opaque_http"), &json!("POST")));
    assert!(entry["requestBodyPreview"].as_str().unwrap().contains("hello"));
}

#[test]
fn what_is_too_large_is_cut_or_counted_and_the_rest_goes_on() {
    let broker = BrokerStub::start();
    broker.books.lock().max_body = Some(20_000);
    let (mut uploader, _) = start(&broker.url());
    push_all(&mut uploader, 0..20);
    uploader.push(call(20, &"y".repeat(30_000)));
    uploader.push(event(21, 30_000));
    push_all(&mut uploader, 22..30);
    let report = uploader.close(GRACE);
    assert_eq!((report.stored, report.dropped), (29, 1));
    assert_eq!(report.reason.as_deref(), Some("the broker refused them (413)"));
    let urls = broker.books.urls();
    assert_eq!(urls[..20], numbers(0..20));
    assert_eq!(urls[20], "https://api.example/v1/chat/completions");
    assert_eq!(urls[21..29], numbers(22..30));
    assert_eq!(urls[29], "ac7:dropped");
    assert_eq!(broker.books.lock().events[29]["entry"]["note"]["count"], 1);
}

#[test]
fn a_refused_token_is_final() {
    for script in [None, Some(Step::Status(403, ""))] {
        let broker = BrokerStub::start();
        let (mut uploader, lines) = match &script {
            // the name is refused
            None => start_with(&broker.url(), "ac7_bad", &Options::default()),
            // the first batch is
            Some(step) => {
                broker.books.script("activity", std::slice::from_ref(step));
                start(&broker.url())
            }
        };
        push_all(&mut uploader, 0..60);
        lines.wait(if script.is_none() { "briefing failed" } else { "batch failed" });
        let asked = broker.books.lock().requests.len();
        push_all(&mut uploader, 60..70);
        let began = Instant::now();
        let report = uploader.close(GRACE);
        assert!(began.elapsed() < Duration::from_secs(2));
        assert_eq!((report.stored, report.dropped), (0, 70));
        let status = if script.is_none() { 401 } else { 403 };
        assert_eq!(report.reason, Some(format!("the broker refused the token ({status})")));
        assert_eq!(broker.books.lock().requests.len(), asked);
        assert!(lines.all().iter().all(|l| !l.contains("ac7_bad")));
    }
}

#[test]
fn closing_takes_no_longer_than_the_grace() {
    for (step, left) in [(Step::Silence, 1), (Step::Status(503, ""), 0)] {
        let broker = BrokerStub::start();
        broker.books.script("activity", &vec![step; 100]);
        let (mut uploader, _) = start(&broker.url());
        push_all(&mut uploader, 0..60);
        broker.books.wait("the batch was seen", |b| b.count("/activity") >= 1);
        let began = Instant::now();
        let report = uploader.close(Duration::from_secs(1));
        let took = began.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&took), "{took:?}");
        assert_eq!((report.stored, report.dropped), (0, 60));
        let why = report.reason.unwrap();
        assert!(
            why.starts_with("the broker did not answer for ")
                || why.starts_with("the broker answered 503 for ")
        );
        // sooner than the request's own time-out
        broker.books.wait("the request is given up", |b| b.left == left);
    }
}

#[test]
fn closing_cuts_a_long_wait_short() {
    let broker = BrokerStub::start();
    broker.books.script("activity", &[Step::Status(503, "Retry-After: 30\r\n")]);
    let (mut uploader, lines) = start(&broker.url());
    push_all(&mut uploader, 0..50);
    lines.wait("batch failed");
    let began = Instant::now();
    all_stored(&uploader.close(GRACE), 50);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn closing_with_nothing_to_send_does_not_wait() {
    let broker = BrokerStub::start();
    broker.books.script("briefing", &[Step::Silence]);
    for url in [broker.url(), format!("http://{}", nobody())] {
        let (uploader, _) = start(&url);
        let began = Instant::now();
        all_stored(&uploader.close(GRACE), 0);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_push_never_waits() {
    let broker = BrokerStub::start();
    broker.books.script("activity", &[Step::Silence]);
    let (mut uploader, _) = start(&broker.url());
    push_all(&mut uploader, 0..50);
    broker.books.wait("the batch was seen", |b| b.count("/activity") == 1);
    let began = Instant::now();
    push_all(&mut uploader, 50..5000);
    assert!(began.elapsed() < Duration::from_secs(5));
    let report = uploader.close(Duration::ZERO);
    assert_eq!((report.stored, report.dropped), (0, 5000));
}

fn trusting(file: PathBuf) -> Options {
    Options { ca_certs: vec![file], ..Options::default() }
}

#[test]
fn a_tls_broker_with_a_private_ca_is_trusted_by_its_pem() {
    let scratch = Scratch::new();
    let certificate = signed("127.0.0.1");
    let ca = scratch.file("ca.pem", &format!("{}{}", signed("other").pem, certificate.pem));
    let broker = BrokerStub::start_tls(certificate.server);
    let url = format!("https://{}", broker.address);
    let (mut uploader, _) = start_with(&url, TOKEN, &trusting(ca));
    push_all(&mut uploader, 0..120);
    all_stored(&uploader.close(GRACE), 120);
    assert_eq!(broker.books.urls(), numbers(0..120));
}

#[test]
fn a_distrusted_broker_is_the_reason_for_what_is_lost() {
    let scratch = Scratch::new();
    let broker = BrokerStub::start_tls(signed("127.0.0.1").server);
    let options = trusting(scratch.file("ca.pem", &signed("127.0.0.1").pem));
    let (mut uploader, lines) = start_with(&format!("https://{}", broker.address), TOKEN, &options);
    push_all(&mut uploader, 0..5);
    lines.wait("briefing failed");
    let report = uploader.close(Duration::ZERO);
    assert_eq!(report.dropped, 5);
    let why = report.reason.unwrap();
    assert!(why.starts_with("the broker could not be trusted for "), "{why}");
    assert!(why.ends_with(": nobody that this machine trusts has signed its certificate"), "{why}");
}
