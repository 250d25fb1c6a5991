//! A broker of a few lines on 127.0.0.1: it stores events once a key, and answers by a script where it has one.
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// What a broker does.
    Work,
    /// This status and header lines, and nothing is stored.
    Status(u16, &'static str),
    /// The connection is closed without an answer.
    Close,
    /// The events are stored, then the connection is closed without an answer.
    StoreAndClose,
    /// Nothing, until the stub stops.
    Silence,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// What a broker keeps, and what a test wants to know. It outlives a stub that is stopped.
#[derive(Default)]
pub struct Books {
    /// What to do with the next requests to each path's last part; then it works.
    pub script: HashMap<&'static str, VecDeque<Step>>,
    /// Bodies above this are answered with 413.
    pub max_body: Option<usize>,
    /// Entries of these kinds are answered with 400.
    pub unknown_kinds: Vec<&'static str>,
    pub requests: Vec<Request>,
    pub events: Vec<Value>,
    /// Clients that left while the stub was silent.
    pub left: usize,
    keys: HashMap<String, usize>,
    connections: Vec<TcpStream>,
}

#[derive(Clone, Default)]
pub struct Shared(Arc<(Mutex<Books>, Condvar)>);

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.0.lock().unwrap()
    }

    pub fn script(&self, path: &'static str, steps: &[Step]) {
        self.lock().script.insert(path, steps.iter().cloned().collect());
    }

    /// Wait until `ready` holds; a test that waits for more than 20 s has failed.
    pub fn wait(&self, what: &str, ready: impl Fn(&Books) -> bool) {
        let (books, changed) = &*self.0;
        let waited =
            changed.wait_timeout_while(books.lock().unwrap(), Duration::from_secs(20), |b| !ready(b));
        assert!(!waited.unwrap().1.timed_out(), "waited in vain until {what}");
    }

    /// The requests to paths that end so.
    pub fn count(&self, path: &str) -> usize {
        self.lock().count(path)
    }

    /// The `url` of each stored entry.
    pub fn urls(&self) -> Vec<String> {
        let text = |e: &Value| e["entry"]["url"].as_str().unwrap_or("?").to_string();
        self.lock().events.iter().map(text).collect()
    }
}

impl Books {
    pub fn count(&self, path: &str) -> usize {
        self.requests.iter().filter(|r| r.path.ends_with(path)).count()
    }
}

pub struct BrokerStub {
    pub address: SocketAddr,
    pub books: Shared,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl BrokerStub {
    pub fn start() -> BrokerStub {
        BrokerStub::start_at("127.0.0.1:0".parse().unwrap(), Shared::default(), None)
    }

    pub fn start_tls(config: ServerConfig) -> BrokerStub {
        BrokerStub::start_at("127.0.0.1:0".parse().unwrap(), Shared::default(), Some(Arc::new(config)))
    }

    /// A stub that goes on with the books of an earlier one.
    pub fn start_at(at: SocketAddr, books: Shared, tls: Option<Arc<ServerConfig>>) -> BrokerStub {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (books, stop) = (books.clone(), Arc::clone(&stop));
            thread::spawn(move || accept(&listener, &books, &stop, tls.as_ref()))
        };
        BrokerStub { address, books, stop, acceptor: Some(acceptor) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Die: the port refuses, and every connection is closed.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
        for connection in self.books.lock().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for BrokerStub {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &TcpListener, books: &Shared, stop: &AtomicBool, tls: Option<&Arc<ServerConfig>>) {
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let stream = stream.unwrap();
        books.lock().connections.push(stream.try_clone().unwrap());
        let (books, tls) = (books.clone(), tls.map(Arc::clone));
        thread::spawn(move || {
            // The books hold a copy of the socket, so that dropping this one would not close it.
            let socket = stream.try_clone().unwrap();
            // What ends a connection early is the test's own doing, or shows in what was stored.
            let _ = match tls {
                None => serve(stream, &books),
                Some(tls) => serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &books),
            };
            let _ = socket.shutdown(Shutdown::Both);
        });
    }
}

fn serve(stream: impl Read + Write, books: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream)? {
        let step = {
            let mut books = books.lock();
            books.requests.push(request.clone());
            let name = request.path.rsplit('/').next().unwrap_or_default();
            books.script.get_mut(name).and_then(VecDeque::pop_front).unwrap_or(Step::Work)
        };
        let (status, headers, body) = match step {
            Step::Work => work(&request, &mut books.lock()),
            Step::Status(status, headers) => {
                (status, headers, json!({"error": format!("scripted {status}")}))
            }
            Step::Close => (0, "", Value::Null),
            Step::StoreAndClose => {
                work(&request, &mut books.lock());
                (0, "", Value::Null)
            }
            Step::Silence => {
                books.0.1.notify_all();
                // Until the stub stops and shuts the socket down, or the client leaves.
                let ended = stream.read_to_end(&mut Vec::new());
                books.lock().left += 1;
                books.0.1.notify_all();
                return ended.map(drop);
            }
        };
        books.0.1.notify_all();
        if status == 0 {
            return Ok(());
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        let head = if request.method == "CONNECT" { "HTTP/1.1 200 OK\r\n\r\n".to_string() } else { head };
        stream.get_mut().write_all((head + &body).as_bytes())?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

fn work(request: &Request, books: &mut Books) -> (u16, &'static str, Value) {
    match (request.method.as_str(), request.path.as_str()) {
        ("CONNECT", _) => (200, "", Value::Null),
        ("GET", "/healthz") => (200, "", json!({"status": "ok", "version": "9.9"})),
        (_, _) if request.headers.get("authorization").is_none_or(|v| v != "Bearer ac7_good") => {
            (401, "", json!({"error": "no or bad credentials"}))
        }
        ("GET", "/briefing") => (200, "", json!({"name": "ann", "team": {"name": "t"}})),
        ("POST", "/members/ann/activity") => append(request, books),
        _ => (404, "", json!({"error": "no such thing"})),
    }
}

fn append(request: &Request, books: &mut Books) -> (u16, &'static str, Value) {
    if books.max_body.is_some_and(|max| request.body.len() > max) {
        return (413, "", json!({"error": "too large"}));
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let events = body["events"].as_array().unwrap();
    assert!((1..=500).contains(&events.len()));
    if events.iter().any(|e| books.unknown_kinds.iter().any(|k| e["entry"]["kind"] == *k)) {
        return (400, "", json!({"error": "invalid body", "details": []}));
    }
    let key = request.headers["idempotency-key"].clone();
    let accepted = *books.keys.entry(key).or_insert_with(|| {
        books.events.extend_from_slice(events);
        events.len()
    });
    (201, "", json!({"accepted": accepted}))
}

/// `None` at the end of the connection.
fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_string);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_string());
    }
    let length = headers.get("content-length").map_or(0, |v| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}
