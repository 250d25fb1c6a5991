//! A mock of the model providers: HTTP/1.1 over TLS, enough of the Anthropic Messages API and of OpenAI's Chat
//! Completions and Responses for real clients to run to their end, and every misbehaviour that a proxy may meet.
//!
//! Comes in: [`Options`] and connections on the loopback. Goes out: answers, and [`Seen`], what the clients sent.
//! The answer is always "Hello from the mock. ok ✓ 你好", so that UTF-8 is exercised.
mod answers;
mod coding;
mod request;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustls::ServerConfig;

pub use self::coding::Coding;
pub use self::request::Seen;
use crate::run::{PATIENCE, TempDir};
use crate::tls::{self, Authority, Leaf};

/// The text of every answer.
pub const ANSWER: &str = "Hello from the mock. ok ✓ 你好";

/// No HTTP at all; for [`Fault::Raw`].
pub const GARBAGE: &[u8] = b"\x00\xff\x16 this is not HTTP \r\n\r\n\r\n";

/// Two lengths that contradict each other (RFC 9112 §6.3: unrecoverable); for [`Fault::Raw`].
pub const CONFLICTING_LENGTHS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 4\r\n\r\n{}{}";

/// How the mock behaves. The default answers everything at once, uncoded, one chunk an event.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// 0: any free port.
    pub port: u16,
    /// Where `ca.pem` goes; `None`: a directory that goes away with the mock.
    pub folder: Option<PathBuf>,
    /// What is wrong with the certificate.
    pub leaf: Leaf,
    /// Plain HTTP instead of TLS.
    pub plain: bool,
    /// The content coding of answers.
    pub coding: Coding,
    /// Bytes of an HTTP chunk in streams; 0: one chunk an event.
    pub chunk: usize,
    /// After the head of a stream, before its first event.
    pub first_delay: Duration,
    /// After every event of a stream.
    pub delay: Duration,
    /// Answer with a call of this tool (its name and the JSON of its input) where the client offers it.
    pub tool: Option<(String, String)>,
    /// Call the tool whether or not it is offered.
    pub tool_always: bool,
    /// How many answers of a conversation call the tool before one ends it; 0 is taken as 1.
    pub turns: usize,
    /// Answer this many model calls with this status first.
    pub fail: Option<(u16, usize)>,
    /// End the first stream with an `overloaded_error` event after five others.
    pub overloaded: bool,
    /// End the connection after this many events of a stream, without an end of the body.
    pub cut_after: Option<usize>,
    /// Say `Connection: close`, and do it, after every answer.
    pub close: bool,
    /// What else goes wrong.
    pub fault: Fault,
}

/// Misbehaviour of a whole connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Accepts, and resets the connection when the client has sent its first byte.
    Reset,
    /// Accepts, and never says a byte.
    Silent,
    /// Reads a request, and never answers it.
    NoAnswer,
    /// Answers 413 when it has read the head, then reads the body.
    EarlyAnswer,
    /// Answers the first request with exactly these bytes and ends the connection.
    Raw(Vec<u8>),
}

/// A running mock; it stops, and its threads are joined, when it is dropped.
pub struct Mock {
    /// It listens here on 127.0.0.1.
    pub port: u16,
    /// The certificate authority to trust, PEM.
    pub ca_pem: PathBuf,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    _folder: Option<TempDir>,
}

/// What the acceptor and the connections share.
struct Shared {
    options: Options,
    tls: Arc<ServerConfig>,
    state: Mutex<State>,
    /// Told of every change of `state`.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stopped: bool,
    seen: Vec<Seen>,
    connections: usize,
    /// Connections that are being served, by number: to end them when the mock stops.
    open: HashMap<usize, TcpStream>,
    failures: usize,
    overloads: usize,
    answers: usize,
}

impl Mock {
    /// Start it; it accepts connections when this returns.
    pub fn start(options: Options) -> Mock {
        let folder = options.folder.is_none().then(TempDir::new);
        let place = folder.as_ref().map_or_else(PathBuf::new, |dir| dir.path().to_path_buf());
        let ca_pem = options.folder.clone().unwrap_or(place).join("ca.pem");
        let authority = Authority::new();
        fs::write(&ca_pem, &authority.pem).expect("the directory of ca.pem can be written");

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).expect("the port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let tls = tls::server(&authority.issue(options.leaf));
        let shared =
            Arc::new(Shared { options, tls, state: Mutex::new(State::default()), changed: Condvar::new() });
        let acceptor = spawn("mock-accept", {
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Mock { port, ca_pem, shared, acceptor: Some(acceptor), _folder: folder }
    }

    /// The requests so far, in the order in which they were complete. An answer is sent only after its request is here.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// The first `count` requests, as soon as there are so many; panics after [`PATIENCE`].
    pub fn wait_seen(&self, count: usize) -> Vec<Seen> {
        let start = Instant::now();
        let mut state = self.shared.state();
        while state.seen.len() < count {
            let left = PATIENCE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "the mock saw {} requests, not {count}", state.seen.len());
            state = self.shared.changed.wait_timeout(state, left).expect("no connection panicked").0;
        }
        state.seen[..count].to_vec()
    }

    /// The value of ac7's `--connect-to` that leads `host`'s port 443 here.
    pub fn connect_to(&self, host: &str) -> String {
        format!("{host}:443:127.0.0.1:{}", self.port)
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.stopped = true;
        }
        self.shared.changed.notify_all();
        // A blocked accept ends with the next connection.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no connection panicked")
    }

    /// Sleep for `time`, or until the mock stops, which is an error.
    fn pause(&self, time: Duration) -> io::Result<()> {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), time, |state| !state.stopped)
            .expect("no connection panicked");
        if state.stopped { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }

    fn record(&self, seen: Seen) {
        self.state().seen.push(seen);
        self.changed.notify_all();
    }

    /// A number for the ids of an answer: agents merge answers with equal ids.
    fn next_id(&self) -> String {
        let mut state = self.state();
        state.answers += 1;
        format!("{:02}", state.answers)
    }

    /// The status to fail this model call with, if failures are left.
    fn failure(&self) -> Option<u16> {
        let (status, count) = self.options.fail?;
        let mut state = self.state();
        state.failures += 1;
        (state.failures <= count).then_some(status)
    }

    /// Whether this stream is the one that ends in an overload.
    fn overload(&self) -> bool {
        let mut state = self.state();
        state.overloads += 1;
        self.options.overloaded && state.overloads == 1
    }
}

/// Accept until the mock stops, then end the connections and wait for their threads.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for tcp in listener.incoming() {
        let Ok(tcp) = tcp else { continue };
        let mut state = shared.state();
        if state.stopped {
            break;
        }
        state.connections += 1;
        let number = state.connections;
        state.open.insert(number, tcp.try_clone().expect("a file descriptor is free"));
        drop(state);
        threads.retain(|thread| !thread.is_finished());
        let shared = Arc::clone(shared);
        threads.push(spawn("mock-conn", move || {
            // A client that goes away, or that distrusts the certificate, is no fault of the mock.
            let _ = serve::serve(tcp, number, &shared);
            // The last descriptor of the socket: only now is it closed.
            shared.state().open.remove(&number);
        }));
    }
    for socket in shared.state().open.values() {
        let _ = socket.shutdown(Shutdown::Both);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    Builder::new().name(name.to_string()).spawn(work).expect("the system has a thread to give")
}
