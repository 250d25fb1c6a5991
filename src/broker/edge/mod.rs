//! The edge: it owns the clients, so that the HTTP server behind it sees only clean requests over a few connections.
//!
//! Comes in: TCP connections from anybody, inside of TLS if there is a certificate ([`wire`]). Goes out: whole requests
//! within limits, one at a time from each client, over a fixed pool of connections to a private socket. It may not know
//! what a request is about, only whether a member sent it. One thread accepts, one thread with a small stack serves each
//! client, also while it has a stream ([`stream`]); both are bounded, and running out of file descriptors or threads costs
//! the clients that send nothing their places, never the broker its life.
mod clients;
mod forward;
mod host;
mod input;
mod limits;
mod pool;
mod request;
mod stream;
mod wire;

pub use host::allowed;
pub use limits::Limits;
pub use stream::{FOLLOW, HERE, LAST, MORE, WAIT, WHOSE};

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::listen;
use rustls::ServerConfig;
use serde_json::json;

use super::counters::{Counters, Present, count};
use super::hub::Hub;
use super::log::Log;
use super::presence::Presence;
use super::uploads::Uploads;
use crate::http1::Headers;
use crate::sys::thread::{self, Joinable};
use clients::{Client, Clients};
use forward::{Ended, forward, status_line};
use input::Input;
use limits::Budget;
use pool::Pool;
use request::{Gate, Refusal};
use stream::Places;
use wire::{NoTls, Wire};

/// The stack of a client's thread: framing and copying, nothing that recurses.
const STACK: usize = 128 << 10;
/// Connections that wait to be accepted. With the library's 128 a burst makes clients wait a second for their next try.
const BACKLOG: i32 = 4096;
/// How long the acceptor leaves the system alone that has no descriptor, memory or thread to give.
const PAUSE: Duration = Duration::from_millis(100);
/// How long, and for how many bytes, a refused client is listened to so that it can read why.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1 << 20);

/// Knows what the edge has to ask about a request before it takes the whole of it.
pub trait Porter: Send + Sync {
    /// Whether a `Host` value is meant for this server.
    fn host_allowed(&self, value: &str) -> bool;
    /// Whether the header is that of a member's request.
    fn is_member(&self, headers: &Headers) -> bool;
    /// Bytes that a file may have.
    fn file_bytes(&self) -> usize;
}

/// What the edge needs to begin.
pub struct Config {
    pub listener: TcpListener,
    /// `None` for plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// The private socket of the HTTP server.
    pub backend: PathBuf,
    /// How many connections go there.
    pub connections: usize,
    /// Tells by its target whether a request may take its time.
    pub bulk: fn(&str) -> bool,
    /// Tells by its method and target whether the body of a request is a file.
    pub upload: fn(&str, &str) -> bool,
    pub uploads: Arc<Uploads>,
    pub porter: Box<dyn Porter>,
    /// Wakes the streams.
    pub hub: Arc<Hub>,
    /// Learns whose streams begin and end.
    pub presence: Arc<Presence>,
    pub counters: Arc<Counters>,
    pub limits: Limits,
    pub log: Log,
}

/// A running edge.
pub struct Edge {
    shared: Arc<Shared>,
    acceptor: Joinable,
    /// Dropped to wake the acceptor for the last time.
    wake: UnixStream,
}

/// What all threads of the edge use.
pub(super) struct Shared {
    clients: Clients,
    pool: Pool,
    limits: Limits,
    budget: Budget,
    /// What bodies of strangers hold.
    strangers: Budget,
    /// What streams hold.
    pieces: Budget,
    /// What answers that wait to be whole may take, all together.
    answers: Budget,
    /// What files that come in take of the disk.
    disk: Budget,
    hub: Arc<Hub>,
    presence: Arc<Presence>,
    places: Places,
    counters: Arc<Counters>,
    tls: Option<Arc<ServerConfig>>,
    bulk: fn(&str) -> bool,
    upload: fn(&str, &str) -> bool,
    uploads: Arc<Uploads>,
    porter: Box<dyn Porter>,
    log: Log,
    stopping: AtomicBool,
}

impl Edge {
    /// Begin to accept.
    ///
    /// # Errors
    /// The private socket cannot be reached, or there is no thread to be had.
    pub fn start(config: Config) -> io::Result<Edge> {
        let shared = Arc::new(Shared {
            clients: Clients::new(config.limits.clients, config.counters.clone()),
            pool: Pool::open(config.backend, config.connections)?,
            budget: Budget::new(config.limits.all_bodies),
            strangers: Budget::new(config.limits.strangers_bodies),
            pieces: Budget::new(config.limits.all_bodies),
            answers: Budget::new(config.limits.all_bodies),
            disk: Budget::new(config.limits.all_uploads),
            hub: config.hub,
            presence: config.presence,
            places: Places::new(config.limits.streams, config.counters.clone()),
            counters: config.counters,
            limits: config.limits,
            tls: config.tls,
            bulk: config.bulk,
            upload: config.upload,
            uploads: config.uploads,
            porter: config.porter,
            log: config.log,
            stopping: AtomicBool::new(false),
        });
        let (wake, woken) = UnixStream::pair()?;
        config.listener.set_nonblocking(true)?;
        listen(&config.listener, BACKLOG)?;
        let (listener, sharing) = (config.listener, shared.clone());
        let acceptor = thread::spawn("accept", 256 << 10, move || accept(&sharing, &listener, &woken))?;
        Ok(Edge { shared, acceptor, wake })
    }

    /// Accept no more, let requests in work be answered for at most `grace`, then close everything.
    pub fn stop(self, grace: Duration) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        drop(self.wake);
        self.shared.hub.wake_all();
        self.acceptor.join();
        self.shared.clients.finish(grace, || self.shared.pool.close());
    }
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn log_edge(&self, client: &Client, event: &str, reason: &str) {
        self.log.line(event, &json!({"peer": client.ip.to_string(), "reason": reason}));
    }
}

/// The acceptor's work: until `woken` is closed.
fn accept(shared: &Arc<Shared>, listener: &TcpListener, woken: &UnixStream) {
    let mut short = false;
    while !shared.stopping() {
        let threads = shared.clients.reap();
        if threads >= shared.clients.most_threads() {
            continue; // reap has waited
        }
        // Threads that end while nobody connects are joined too, a little later.
        let tick = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
        let mut waiting = [PollFd::new(woken, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        if poll(&mut waiting, (threads > 0).then_some(&tick)).is_err()
            || !waiting[1].revents().contains(PollFlags::IN)
        {
            continue;
        }
        match listener.accept() {
            Ok((stream, peer)) => {
                short = false;
                take_in(shared, stream, peer);
            }
            Err(e) if is_shortage(&e) => {
                if !short {
                    shared.log.line("cannot accept", &json!({"reason": e.to_string()}));
                }
                short = true;
                shared.clients.evict_one();
                pause(woken);
            }
            // The client went before it was accepted, or there was nothing to accept after all.
            Err(_) => {}
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM: the connection stays in the queue and `accept` would fail again at once.
fn is_shortage(e: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|n| e.raw_os_error() == Some(n.raw_os_error()))
}

fn pause(woken: &UnixStream) {
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
    let _ = poll(&mut [PollFd::new(woken, PollFlags::IN)], Some(&time));
}

/// Give a new connection its place and its thread.
fn take_in(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let _ = stream.set_nodelay(true);
    if stream.set_nonblocking(false).is_err() || stream.set_write_timeout(Some(shared.limits.write)).is_err()
    {
        return;
    }
    let Some(client) = shared.clients.admit(stream, peer.ip()) else {
        shared.log.line("no place for a client", &json!({"peer": peer.ip().to_string()}));
        return;
    };
    let (sharing, guest) = (shared.clone(), client.clone());
    let started = thread::spawn("client", STACK, move || {
        let _counted = Present::enter(&sharing.counters.connections);
        let leaving = Leaving { shared: &sharing, client: &guest };
        serve(leaving.shared, leaving.client);
    });
    match started {
        Ok(thread) => shared.clients.keep(&client, thread),
        Err(e) => {
            shared.clients.leave(&client);
            shared.log_edge(&client, "no thread for a client", &e.to_string());
        }
    }
}

/// Takes the client off the list when its thread ends, however it ends.
struct Leaving<'a> {
    shared: &'a Shared,
    client: &'a Client,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let _ = self.client.stream.shutdown(Shutdown::Both);
        self.shared.clients.leave(self.client);
    }
}

/// One client, request after request.
fn serve(shared: &Shared, client: &Client) {
    let mut first_byte = Instant::now() + shared.limits.head;
    let wire = match &shared.tls {
        None => Wire::plain(&client.stream),
        Some(config) => match Wire::accept(&client.stream, config.clone(), first_byte) {
            Ok(wire) => wire,
            Err(NoTls::NotTls) => {
                let refusal =
                    Refusal { status: 400, reason: "this port speaks HTTPS, not HTTP or anything else" };
                let wire = Wire::plain(&client.stream);
                refuse(shared, client, &wire, &refusal);
                return close(&wire);
            }
            Err(NoTls::Failed(e)) => return shared.log_edge(client, "no TLS with a client", &e.to_string()),
        },
    };
    let allowed = |value: &str| shared.porter.host_allowed(value);
    let is_member = |headers: &Headers| shared.porter.is_member(headers);
    let file_bytes = || shared.porter.file_bytes();
    let gate = Gate {
        limits: &shared.limits,
        budget: &shared.budget,
        strangers: &shared.strangers,
        host_allowed: &allowed,
        is_member: &is_member,
        is_upload: shared.upload,
        file_bytes: &file_bytes,
        uploads: &shared.uploads,
        disk: &shared.disk,
    };
    let mut input = Input::new(&wire);
    loop {
        let refused = match gate.next(&mut input, &wire, first_byte) {
            Ok(None) => return,
            Ok(Some(request)) => {
                shared.clients.working(client);
                match forward(shared, client, &wire, &request) {
                    Ended::KeepAlive => {
                        shared.clients.waiting(client);
                        first_byte = Instant::now() + shared.limits.idle;
                        continue;
                    }
                    Ended::Close => return close(&wire),
                    Ended::Refused(refusal) => refusal,
                }
            }
            Err(refusal) => refusal,
        };
        refuse(shared, client, &wire, &refused);
        return close(&wire);
    }
}

/// Tell the client why it is not served.
fn refuse(shared: &Shared, client: &Client, mut wire: &Wire<'_>, refusal: &Refusal) {
    let facts = json!({"peer": client.ip.to_string(), "status": refusal.status, "reason": refusal.reason});
    shared.log.line("refused", &facts);
    count(&shared.counters.refused);
    let body = json!({"error": refusal.reason}).to_string();
    let mut text = status_line(refusal.status);
    if refusal.status == 503 {
        text.push_str("Retry-After: 3\r\n");
    }
    let length = body.len();
    text += &format!(
        "Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let _ = wire.write_all(text.as_bytes());
}

/// Close so that the last answer arrives: closing a socket with unread bytes makes the system throw away what the
/// client has not read yet (RFC 9112 §9.6).
fn close(wire: &Wire<'_>) {
    wire.end();
    if wire.stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let (until, mut left) = (Instant::now() + LINGER.0, LINGER.1);
    let mut scratch = [0; 4096];
    while left > 0 {
        let patience = until.saturating_duration_since(Instant::now());
        if patience.is_zero() || wire.stream.set_read_timeout(Some(patience)).is_err() {
            return;
        }
        let mut socket = wire.stream;
        match socket.read(&mut scratch) {
            Ok(0) | Err(_) => return,
            Ok(n) => left = left.saturating_sub(n),
        }
    }
}
