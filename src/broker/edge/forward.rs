//! A clean request to the broker, its answer to the client.
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::Shared;
use super::clients::Client;
use super::input::{Input, LARGE};
use super::limits::Held;
use super::pool::Use;
use super::request::{Refusal, Request};
use super::stream::{HERE, LAST, Live, MORE, WAIT, WHOSE};
use super::wire::Wire;
use crate::http1::{Asked, Framer, Head, Length, Part, Rules, Start};

/// How long a request waits for a free worker.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How an exchange ended.
pub enum Ended {
    /// The client may send another request.
    KeepAlive,
    /// The connection is at its end.
    Close,
    /// Nothing was sent to the client yet, and this is to be.
    Refused(Refusal),
}

/// Fields of an answer that the edge sets itself, or that are nobody's business.
const OWN: [&str; 11] = [
    "connection",
    "content-length",
    "keep-alive",
    "server",
    "transfer-encoding",
    "x-ac7-protocol",
    HERE,
    LAST,
    MORE,
    WAIT,
    WHOSE,
];

/// What became of an answer.
enum Carried<'a> {
    /// It was sent to its end; whether the client may go on.
    Done { keep_alive: bool },
    /// Its head was sent, the rest comes by and by.
    Live(Live<'a>),
    /// There are too many streams.
    TooMany,
}

/// Carry a request to the broker and its answer back.
pub fn forward(shared: &Shared, client: &Client, wire: &Wire<'_>, request: &Request<'_>) -> Ended {
    let deadline = Instant::now() + shared.limits.answer;
    let unavailable = |status, reason| Ended::Refused(Refusal { status, reason });
    let wanted_for = if (shared.bulk)(&request.target) { Use::Bulk } else { Use::Prompt };
    let lease = match shared.pool.take(wanted_for, PATIENCE) {
        Ok(lease) => lease,
        Err(e) if e.kind() == io::ErrorKind::TimedOut => return unavailable(503, "the broker is busy"),
        Err(_) => return unavailable(503, "the broker is stopping or out of order"),
    };
    let held = shared.answers.hold();
    let mut out = Writer { client: wire, pending: Vec::new(), held, started: false, deadline };
    let mut behind = lease.stream();
    let _ = behind.set_write_timeout(Some(shared.limits.answer));
    let sent = behind
        .write_all(request.head(client.ip, wire.is_secure()).as_bytes())
        .and_then(|()| behind.write_all(request.body()));
    let mut input = Input::new(lease.stream());
    let carried = sent.and_then(|()| carry(shared, &mut input, &mut out, request));
    let clean = input.unread().is_empty();
    // The connection goes back before the client has read what it was needed for: nobody may keep others from it.
    if carried.is_ok() && clean {
        lease.give_back();
    } else {
        drop(lease);
    }
    match carried.and_then(|carried| out.flush().map(|()| carried)) {
        Ok(Carried::Done { keep_alive: true }) => Ended::KeepAlive,
        Ok(Carried::Done { keep_alive: false }) => Ended::Close,
        Ok(Carried::Live(live)) => {
            live.run(shared, client, wire, request);
            Ended::Close
        }
        Ok(Carried::TooMany) => unavailable(503, "too many streams at the same time"),
        Err(e) if out.started => {
            shared.log_edge(client, "answer broken off", &e.to_string());
            Ended::Close
        }
        Err(e) => {
            shared.log_edge(client, "no answer from the broker", &e.to_string());
            let late = e.kind() == io::ErrorKind::TimedOut;
            unavailable(if late { 504 } else { 502 }, "the broker gave no answer")
        }
    }
}

/// Carry one answer.
fn carry<'s>(
    shared: &'s Shared,
    input: &mut Input<'_, std::os::unix::net::UnixStream>,
    out: &mut Writer<'_>,
    request: &Request<'_>,
) -> io::Result<Carried<'s>> {
    let mut framer = Framer::responses(Rules::CAPTURE);
    framer.answers(Asked::by(&request.method));
    let (mut chunked, mut live, mut keep_alive) = (false, false, false);
    let mut stream = None;
    loop {
        let mut rest = input.unread();
        let had = rest.len();
        let part = framer.next(&mut rest).map_err(io::Error::other)?;
        let used = had - rest.len();
        let mut dry = false;
        match part {
            Some(Part::Head(head)) if head.headers.get(WAIT).is_some() && request.method != "HEAD" => {
                let permit = shared.places.take(head.headers.get(WHOSE).unwrap_or_default());
                let Some(permit) = permit else { return Ok(Carried::TooMany) };
                stream = Live::of(&head, permit, &shared.presence);
                out.head(&head, request.chunks, true, false)?;
            }
            Some(Part::Head(head)) => {
                live = head.length == Length::Chunked;
                chunked = live && request.chunks;
                // Asked only now: the broker may have begun to stop while the request was in work.
                keep_alive = request.keep_alive && (chunked || !live) && !shared.stopping();
                out.head(&head, chunked, live, keep_alive)?;
            }
            Some(Part::Body(data)) if chunked => out.chunk(data)?,
            Some(Part::Body(data)) => out.put(data)?,
            Some(Part::Trailers(_)) => {}
            Some(Part::End) => {
                input.consume(used);
                if chunked {
                    out.put(b"0\r\n\r\n")?;
                }
                return Ok(stream.map_or(Carried::Done { keep_alive }, Carried::Live));
            }
            None => dry = true,
        }
        input.consume(used);
        if dry {
            // Where the length is known the rest is there in a moment; where it is not, this may be all for hours.
            if live {
                out.flush()?;
            }
            if input.fill(LARGE, out.deadline)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// An answer of at most so many bytes is there as a whole before the client gets the first of them.
const WHOLE: usize = 512 << 10;

/// Collects small pieces for the client, so that they leave in one write, and answers up to [`WHOLE`], so that a client
/// that does not read holds up nobody behind.
struct Writer<'a> {
    client: &'a Wire<'a>,
    pending: Vec<u8>,
    held: Held<'a>,
    /// Whether the client may have got something.
    started: bool,
    deadline: Instant,
}

impl Writer<'_> {
    fn head(&mut self, head: &Head, chunked: bool, live: bool, keep_alive: bool) -> io::Result<()> {
        let Start::Response { status } = head.start else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut text = status_line(status);
        for (name, value) in &head.headers.0 {
            if !OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                text.extend([name, ": ", value, "\r\n"]);
            }
        }
        if chunked {
            text.push_str("Transfer-Encoding: chunked\r\n");
        } else if let Some(length) =
            head.headers.get("content-length").filter(|_| !live && status != 204 && status != 304)
        {
            let _ = write!(text, "Content-Length: {length}\r\n");
        }
        if !keep_alive {
            text.push_str("Connection: close\r\n");
        }
        text.push_str("\r\n");
        self.put(text.as_bytes())
    }

    fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        self.put(format!("{:x}\r\n", data.len()).as_bytes())?;
        self.put(data)?;
        self.put(b"\r\n")
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        let waits = !self.started && self.pending.len() <= WHOLE && self.held.grow(bytes.len());
        if waits || self.pending.len() < LARGE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let (mut client, mut rest) = (self.client, &self.pending[..]);
        while !rest.is_empty() {
            if Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.started = true;
            match client.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => rest = &rest[n..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.pending.clear();
        Ok(())
    }
}

/// Status line and the header that every answer has.
pub fn status_line(status: u16) -> String {
    let reason = tiny_http::StatusCode(status).default_reason_phrase();
    format!("HTTP/1.1 {status} {reason}\r\nX-AC7-Protocol: 1\r\n")
}
