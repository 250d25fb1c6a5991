//! Answers that never end (server-sent events): the client's own thread waits for news, fetches each piece from the
//! broker by a request of its own, and sends it.
//!
//! So a stream holds no worker and no connection of the pool while it waits or sends, the broker decides anew with each
//! piece whether the client may still have it, and one that reads slowly keeps nothing but its own piece in memory.
//! The broker's answer to the first request has no body, only [`WAIT`] and [`LAST`]; each later one is asked for with
//! [`FOLLOW`].
use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::Shared;
use super::clients::Client;
use super::forward::PATIENCE;
use super::input::{Input, LARGE, Timed};
use super::limits::Held;
use super::pool::Use;
use super::request::Request;
use super::wire::Wire;
use crate::broker::counters::{Counters, count};
use crate::broker::hub::Waiter;
use crate::broker::presence::{Here, Presence};
use crate::http1::{Asked, Framer, Head, Part, Rules, Start};

/// Field of an answer that begins a stream: what to wait for.
pub const WAIT: &str = "x-ac7-wait";
/// Field of an answer: the place in the stream after it.
pub const LAST: &str = "x-ac7-last";
/// Field of an answer that begins a stream: the member that is here as long as the stream lives.
pub const HERE: &str = "x-ac7-here";
/// Field of an answer that begins a stream: the member who asked for it.
pub const WHOSE: &str = "x-ac7-whose";
/// Field of an answer: there is more already.
pub const MORE: &str = "x-ac7-more";
/// Field of a request for the piece after a place.
pub const FOLLOW: &str = "x-ac7-follow";

/// What keeps the connection from being taken for dead.
const KEEP_ALIVE: &[u8] = b":\n\n";

/// How long a client's machine may acknowledge nothing.
#[cfg(target_os = "linux")]
const SILENCE_MS: u32 = 30_000;

/// Bytes of events that are sent at once.
const TOGETHER: usize = 16 << 10;

/// From one piece to the next, unless there is more already: with hundreds of streams and much to say, most of the work
/// is that of a piece, not of what is in it. The first piece after a silence leaves at once.
const GATHER: Duration = Duration::from_millis(50);

/// How long the rest of something that has begun to come is waited for.
const SCRAP: Duration = Duration::from_millis(100);

/// The places for streams: so many for all, two thirds of them at most for one member.
pub struct Places {
    most: usize,
    counters: Arc<Counters>,
    /// How many each member has; none has 0.
    each: Mutex<HashMap<String, usize>>,
}

/// A place among the streams; dropping it gives it back.
pub struct Permit<'a> {
    places: &'a Places,
    whose: String,
}

impl Places {
    pub fn new(most: usize, counters: Arc<Counters>) -> Places {
        Places { most, counters, each: Mutex::default() }
    }

    /// A place for a member; the name is empty where nobody is asked who they are. `None` if there is none.
    pub fn take(&self, whose: &str) -> Option<Permit<'_>> {
        let mut each = self.lock();
        let own = each.get(whose).copied().unwrap_or_default();
        let all: usize = each.values().sum();
        if all >= self.most || (!whose.is_empty() && own >= self.most - self.most / 3) {
            return None;
        }
        each.insert(whose.to_string(), own + 1);
        self.counters.streams.store(all + 1, Ordering::Relaxed);
        Some(Permit { places: self, whose: whose.to_string() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.each.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut each = self.places.lock();
        if let Some(own) = each.get_mut(&self.whose) {
            *own -= 1;
            if *own == 0 {
                each.remove(&self.whose);
            }
        }
        self.places.counters.streams.store(each.values().sum(), Ordering::Relaxed);
    }
}

/// A stream whose head has been sent.
pub struct Live<'a> {
    topic: String,
    last: String,
    _permit: Permit<'a>,
    _here: Option<Here<'a>>,
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed it, or did not take a byte for long.
    Gone,
    /// Too slow, but alive.
    Slow,
    /// The member may not have it any more.
    Revoked,
    Stopping,
    /// The broker has no worker or memory to spare.
    Busy,
    /// The broker's log says why.
    Failed,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Gone => "gone",
            End::Slow => "slow",
            End::Revoked => "revoked",
            End::Stopping => "stopping",
            End::Busy => "busy",
            End::Failed => "failed",
        }
    }
}

struct Piece<'a> {
    text: Vec<u8>,
    last: String,
    more: bool,
    _held: Held<'a>,
}

impl<'a> Live<'a> {
    /// The stream that an answer begins.
    pub fn of(head: &Head, permit: Permit<'a>, presence: &'a Presence) -> Option<Live<'a>> {
        let field = |name| head.headers.get(name);
        let here = field(HERE).map(|name| presence.enter(name));
        let (topic, last) = (field(WAIT)?.to_string(), field(LAST)?.to_string());
        Some(Live { topic, last, _permit: permit, _here: here })
    }

    /// Send what comes, until there is a reason to end.
    pub fn run(self, shared: &Shared, client: &Client, wire: &Wire<'_>, request: &Request<'_>) {
        let out =
            Out { client, wire, chunked: request.chunks, slow: shared.limits.lag, dead: shared.limits.write };
        notice_silence(wire);
        let (began, end) = (Instant::now(), self.go_on(shared, &out, request));
        if matches!(end, End::Slow | End::Busy | End::Failed) {
            count(&shared.counters.dropped);
        }
        if end != End::Gone {
            let text = format!("event: end\ndata: {}\n\n", json!({"reason": end.name()}));
            let last = if request.chunks { "0\r\n\r\n" } else { "" };
            let _ = out.send(text.as_bytes()).and_then(|()| out.all(last.as_bytes()));
        }
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let facts = json!({"peer": client.ip.to_string(), "reason": end.name(), "ms": ms});
        shared.log.line("stream ended", &facts);
    }

    fn go_on(mut self, shared: &Shared, out: &Out<'_>, request: &Request<'_>) -> End {
        let Ok(waiter) = shared.hub.wait_for(&self.topic) else { return End::Busy };
        let mut tick = Instant::now() + shared.limits.keep_alive;
        let mut sent: Option<Instant> = None;
        loop {
            if shared.stopping() {
                return End::Stopping;
            }
            waiter.rearm();
            let piece = match ask(shared, out, request, &self.last) {
                Ok(piece) => piece,
                Err(end) => return end,
            };
            if !piece.text.is_empty() {
                if let Err(end) = out.events(&piece.text) {
                    return end;
                }
                sent = Some(Instant::now());
                tick = Instant::now() + shared.limits.keep_alive;
            }
            self.last = piece.last;
            if !piece.more {
                if !wait(out.wire, &waiter, tick) && !shared.stopping() {
                    return End::Gone;
                }
                let early = sent.map_or(Duration::ZERO, |sent| GATHER.saturating_sub(sent.elapsed()));
                std::thread::sleep(early);
            }
            if Instant::now() >= tick {
                if out.send(KEEP_ALIVE).is_err() {
                    return End::Gone;
                }
                tick = Instant::now() + shared.limits.keep_alive;
            }
        }
    }
}

/// A client whose machine is gone without a word is found out soon: what is sent to keep the connection alive is not
/// acknowledged for so long. Elsewhere it takes as long as the system likes.
fn notice_silence(wire: &Wire<'_>) {
    #[cfg(target_os = "linux")]
    let _ = rustix::net::sockopt::set_tcp_user_timeout(wire.stream, SILENCE_MS);
    #[cfg(not(target_os = "linux"))]
    let _ = wire;
}

/// Wait for news until `tick`. Gives whether the client is still there; what it says meanwhile is ignored.
fn wait(wire: &Wire<'_>, waiter: &Waiter<'_>, tick: Instant) -> bool {
    loop {
        let left = tick.saturating_duration_since(Instant::now());
        let time = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut two = [PollFd::new(waiter, PollFlags::IN), PollFd::new(wire.stream, PollFlags::IN)];
        if poll(&mut two, Some(&time)).is_err() {
            continue; // a signal
        }
        let [news, said] = two.map(|fd| !fd.revents().is_empty());
        if said {
            match wire.read_within(&mut [0; 512], SCRAP) {
                Ok(0) => return false,
                // A record without data of its own.
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return false,
                Ok(_) => {}
            }
        }
        if news || left.is_zero() {
            return true;
        }
    }
}

/// Fetch the piece after `last`.
fn ask<'s>(shared: &'s Shared, to: &Out<'_>, request: &Request<'_>, last: &str) -> Result<Piece<'s>, End> {
    let lease = shared.pool.take(Use::Bulk, PATIENCE).map_err(|_| End::Busy)?;
    let deadline = Instant::now() + shared.limits.answer;
    let mut held = shared.pieces.hold();
    let mut behind = lease.stream();
    let _ = behind.set_write_timeout(Some(shared.limits.answer));
    let mut read = || -> io::Result<(Head, Vec<u8>)> {
        behind.write_all(request.follow_up(to.client.ip, to.wire.is_secure(), last).as_bytes())?;
        let mut framer = Framer::responses(Rules::CAPTURE);
        framer.answers(Asked::by(&request.method));
        let (mut input, mut head, mut text) = (Input::new(lease.stream()), None, Vec::new());
        loop {
            let mut rest = input.unread();
            let had = rest.len();
            let part = framer.next(&mut rest).map_err(io::Error::other)?;
            let used = had - rest.len();
            let (mut dry, mut ended) = (false, false);
            match part {
                Some(Part::Head(found)) => head = Some(*found),
                Some(Part::Body(data)) if held.grow(data.len()) => text.extend_from_slice(data),
                Some(Part::Body(_)) => return Err(io::ErrorKind::OutOfMemory.into()),
                Some(Part::Trailers(_)) => {}
                Some(Part::End) => ended = true,
                None => dry = true,
            }
            input.consume(used);
            if ended {
                return head.map(|head| (head, text)).ok_or(io::ErrorKind::InvalidData.into());
            }
            if dry && input.fill(LARGE, deadline)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    let (head, text) = read().map_err(|_| if shared.stopping() { End::Stopping } else { End::Busy })?;
    lease.give_back();
    match head.start {
        Start::Response { status: 200 } => {}
        Start::Response { status: 401 | 403 | 404 } => return Err(End::Revoked),
        Start::Response { status: 503 } => return Err(End::Busy),
        _ => return Err(End::Failed),
    }
    let last = head.headers.get(LAST).ok_or(End::Failed)?.to_string();
    Ok(Piece { text, last, more: head.headers.get(MORE).is_some(), _held: held })
}

/// So much of a text is whole events: as many as fit into [`TOGETHER`], or one.
fn whole_events(text: &[u8]) -> usize {
    let few = &text[..text.len().min(TOGETHER)];
    let last = few.windows(2).rposition(|two| two == b"\n\n");
    let first = || text.windows(2).position(|two| two == b"\n\n");
    last.or_else(first).map_or(text.len(), |at| at + 2)
}

/// The way to the client.
struct Out<'a> {
    client: &'a Client,
    wire: &'a Wire<'a>,
    chunked: bool,
    /// A client that takes longer for a piece is dropped, after a whole event.
    slow: Duration,
    /// One that takes longer for one event is dropped at once.
    dead: Duration,
}

impl Out<'_> {
    /// Send the events of a piece, several small ones together.
    fn events(&self, mut text: &[u8]) -> Result<(), End> {
        let until = Instant::now() + self.slow;
        while !text.is_empty() {
            let end = whole_events(text);
            self.send(&text[..end]).map_err(|_| End::Gone)?;
            text = &text[end..];
            if Instant::now() > until {
                return Err(End::Slow);
            }
        }
        Ok(())
    }

    /// Send some text.
    fn send(&self, text: &[u8]) -> io::Result<()> {
        if !self.chunked {
            return self.all(text);
        }
        self.all(&[format!("{:x}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat())
    }

    /// Write all of it within the time that one event may take.
    fn all(&self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + self.dead;
        while !bytes.is_empty() {
            let mut wire = self.wire;
            match wire.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if Instant::now() > until {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_events_go_together_and_none_is_cut() {
        let event = |n: usize| format!("{}\n\n", "x".repeat(n));
        for (sizes, want) in [
            (&[1, 2, 3][..], 12),
            (&[TOGETHER - 2, 1], TOGETHER),
            (&[TOGETHER - 1, 1], TOGETHER + 1),
            (&[1, TOGETHER], 3),
            (&[3 * TOGETHER, 1], 3 * TOGETHER + 2),
        ] {
            let text: String = sizes.iter().map(|n| event(*n)).collect();
            assert_eq!(whole_events(text.as_bytes()), want, "{sizes:?}");
        }
        assert_eq!((whole_events(b"x"), whole_events(b"")), (1, 0));
    }
}
