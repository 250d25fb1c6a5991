//! Requests as they come from clients: read whole, refused if unclean, and reduced to what the broker needs.
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::input::{Input, LARGE, LARGEST, SMALL};
use super::limits::{Budget, Held, Limits};
use super::stream::FOLLOW;
use super::wire::Wire;
use crate::broker::uploads::{BODY, Ticket, UPLOAD, Uploads};
use crate::http1::{Fault, Framer, Head, Headers, Length, Part, Start};
use crate::store::files::{Content, Upload};

/// The header fields that go on to the broker; the others stay here.
const FORWARDED: [&str; 12] = [
    "accept",
    "accept-encoding",
    "authorization",
    "content-type",
    "cookie",
    "host",
    "idempotency-key",
    "if-none-match",
    "last-event-id",
    "origin",
    "sec-fetch-site",
    "user-agent",
];

/// A whole request.
pub struct Request<'a> {
    pub method: String,
    pub target: String,
    /// Only those in [`FORWARDED`].
    headers: Vec<(String, String)>,
    body: Sent<'a>,
    /// Whether the client understands chunks (HTTP/1.1).
    pub chunks: bool,
    /// Whether the client wants to go on after the answer.
    pub keep_alive: bool,
    _held: Held<'a>,
}

/// Where the body of a request is.
pub enum Sent<'a> {
    /// It goes to the broker with the request.
    Along(Vec<u8>),
    Memory(Ticket<'a, Vec<u8>>),
    File(Ticket<'a, Content>),
}

/// Why a request is not served, and the client with it.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub reason: &'static str,
}

const fn refusal(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        let status = match fault {
            Fault::HeadTooLarge | Fault::TooManyFields => 431,
            Fault::Version => 505,
            _ => 400,
        };
        Refusal { status, reason: fault.phrase() }
    }
}

/// What decides about a request besides the request itself.
pub struct Gate<'a> {
    pub limits: &'a Limits,
    pub budget: &'a Budget,
    /// What bodies of strangers may hold: however many there are, members' requests find room.
    pub strangers: &'a Budget,
    /// Whether a `Host` value is meant for this broker.
    pub host_allowed: &'a dyn Fn(&str) -> bool,
    /// Whether the header is that of a member's request.
    pub is_member: &'a dyn Fn(&Headers) -> bool,
    /// Whether the body of a request with this method and target is a file.
    pub is_upload: fn(&str, &str) -> bool,
    /// Bytes of a file.
    pub file_bytes: &'a dyn Fn() -> usize,
    pub uploads: &'a Uploads,
    /// What files that come in may take of the disk.
    pub disk: &'a Budget,
}

/// A body that is coming in.
enum Body {
    Memory(Vec<u8>),
    Disk(Box<Upload>),
}

impl<'a> Gate<'a> {
    /// Read the next request; its first byte must come by `first_byte`. `None`: the client has gone, or sent nothing.
    ///
    /// # Errors
    /// Why it is refused; the connection cannot be used further.
    pub fn next(
        &self,
        input: &mut Input<'_, Wire<'_>>,
        socket: &Wire<'_>,
        first_byte: Instant,
    ) -> Result<Option<Request<'a>>, Refusal> {
        let mut framer = Framer::requests(crate::http1::Rules::EDGE);
        let mut deadline = first_byte;
        let mut begun = !input.unread().is_empty();
        if begun {
            deadline = Instant::now() + self.limits.head;
        }
        let full = |error| {
            let (status, reason) = self.uploads.failed(&error);
            Refusal { status, reason }
        };
        let mut head: Option<Head> = None;
        let mut most = Most { bytes: 0, beyond: TOO_LARGE, member: false, upload: false };
        let (mut body, mut held, mut length) = (Body::Memory(Vec::new()), self.strangers.hold(), 0);
        let mut size = SMALL;
        loop {
            let mut rest = input.unread();
            let had = rest.len();
            let part = framer.next(&mut rest)?;
            let used = had - rest.len();
            let mut dry = false;
            match part {
                Some(Part::Head(found)) => {
                    most = self.check(&found)?;
                    size = LARGE;
                    deadline = Instant::now() + self.limits.body;
                    if most.upload {
                        deadline += Duration::from_secs((most.bytes / SLOWEST) as u64);
                        body = Body::Disk(Box::new(self.uploads.begin().map_err(full)?));
                        held = self.disk.hold();
                    } else if most.member {
                        held = self.budget.hold();
                        let announced = match found.length {
                            Length::Exact(n) => most.bytes.min(usize::try_from(n).unwrap_or(usize::MAX)),
                            _ => 0,
                        };
                        if announced > LARGE {
                            body = Body::Memory(Vec::with_capacity(announced.min(RESERVED)));
                            size = LARGEST;
                        }
                    }
                    if rest.is_empty() && found.length != Length::Exact(0) {
                        go_on(&found, socket)?;
                    }
                    head = Some(*found);
                }
                Some(Part::Body(data)) => {
                    length += data.len();
                    if length > most.bytes {
                        return Err(most.beyond);
                    }
                    if !held.grow(data.len()) {
                        return Err(refusal(503, "too many large requests at the same time"));
                    }
                    match &mut body {
                        Body::Memory(body) => body.extend_from_slice(data),
                        Body::Disk(upload) => upload.put(data).map_err(full)?,
                    }
                }
                Some(Part::Trailers(_)) => {}
                Some(Part::End) => {
                    input.consume(used);
                    let head = head.ok_or(Refusal::from(Fault::NotHttp))?;
                    let body = match body {
                        Body::Memory(body) if body.len() < LARGE => Sent::Along(body),
                        Body::Memory(body) => Sent::Memory(self.uploads.bodies.wait(body)),
                        Body::Disk(upload) => {
                            Sent::File(self.uploads.contents.wait(upload.finish().map_err(full)?))
                        }
                    };
                    return Request::clean(head, body, held).map(Some);
                }
                None => dry = true,
            }
            input.consume(used);
            if !dry {
                continue;
            }
            match input.fill(size, deadline) {
                Ok(0) => return Ok(None),
                Ok(_) if !begun => {
                    begun = true;
                    deadline = Instant::now() + self.limits.head;
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut && begun => {
                    return Err(refusal(408, "the request did not come in time"));
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// Refuse what can be refused before the body has come; give how large that may be.
    fn check(&self, head: &Head) -> Result<Most, Refusal> {
        let mut hosts = head.headers.all("host");
        let host = hosts.next();
        if hosts.next().is_some() {
            return Err(refusal(400, "more than one Host"));
        }
        match host {
            Some(host) if !(self.host_allowed)(host) => {
                return Err(refusal(421, "this Host is not the broker's: `hosts` in ac7.json adds names"));
            }
            None if head.minor > 0 => return Err(refusal(400, "no Host")),
            _ => {}
        }
        let announced = match head.length {
            Length::Exact(n) => usize::try_from(n).map_err(|_| TOO_LARGE)?,
            Length::Chunked => usize::MAX,
            Length::UntilClose | Length::Switch => return Err(refusal(400, "a method of proxies")),
        };
        let upload =
            matches!(&head.start, Start::Request { method, target } if (self.is_upload)(method, target));
        let (bytes, beyond) = match upload {
            true => ((self.file_bytes)(), FILE_TOO_LARGE),
            false => (self.limits.body_bytes, TOO_LARGE),
        };
        let anyone = self.limits.strangers_body;
        let member = announced > 0 && (self.is_member)(&head.headers);
        let most = if announced <= anyone {
            Most { bytes, beyond, member, upload: false }
        } else if member {
            Most { bytes: bytes.min(announced), beyond, member, upload }
        } else {
            let beyond = refusal(401, "a body of this size requires a valid bearer token or session");
            Most { bytes: anyone, beyond, member, upload: false }
        };
        match head.length {
            Length::Exact(_) if announced > bytes => Err(if upload { FILE_TOO_LARGE } else { TOO_LARGE }),
            Length::Exact(_) if announced > most.bytes => Err(most.beyond),
            _ => Ok(most),
        }
    }
}

/// How large a body may be, and what happens beyond.
struct Most {
    bytes: usize,
    beyond: Refusal,
    /// Whether a member sends it.
    member: bool,
    /// Whether it goes to the disk.
    upload: bool,
}

const TOO_LARGE: Refusal = refusal(413, "the body is too large");
const FILE_TOO_LARGE: Refusal =
    refusal(413, "the file is larger than files may be: files.maxBytes in ac7.json is the limit");

/// How much of an announced body is made room for at once: what is only announced must cost nothing.
const RESERVED: usize = 1 << 20;

/// Bytes a second of the slowest client that may send a file.
const SLOWEST: usize = 64 << 10;

/// Answer `Expect` (RFC 9110 §10.1.1): the head was found good, so the body may come.
fn go_on(head: &Head, mut socket: &Wire<'_>) -> Result<(), Refusal> {
    match head.headers.get("expect") {
        Some(value) if !value.eq_ignore_ascii_case("100-continue") => {
            Err(refusal(417, "an unknown expectation"))
        }
        Some(_) if head.minor > 0 => {
            // If this fails, so does the next read.
            let _ = socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            Ok(())
        }
        _ => Ok(()),
    }
}

impl<'a> Request<'a> {
    fn clean(head: Head, body: Sent<'a>, held: Held<'a>) -> Result<Request<'a>, Refusal> {
        let keep_alive = head.keep_alive();
        let Start::Request { method, target } = head.start else {
            return Err(Fault::NotHttp.into());
        };
        if !target.starts_with('/') || !target.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(refusal(400, "the target is not a path of visible ASCII characters"));
        }
        let mut headers = head.headers.0;
        headers.retain(|(name, _)| FORWARDED.iter().any(|known| name.eq_ignore_ascii_case(known)));
        if headers.iter().any(|(_, value)| !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b))) {
            return Err(refusal(400, "a header value is not ASCII"));
        }
        let chunks = head.minor > 0;
        let keep_alive = keep_alive && chunks;
        Ok(Request { method, target, headers, body, chunks, keep_alive, _held: held })
    }

    /// The request as the broker gets it, `X-AC7-Peer` and `X-AC7-Proto` among its headers: the client's own are not in
    /// [`FORWARDED`].
    #[must_use]
    pub fn head(&self, peer: IpAddr, secure: bool) -> String {
        let where_to = match &self.body {
            Sent::Along(_) => String::new(),
            Sent::Memory(ticket) => format!("{BODY}: {}\r\n", ticket.name),
            Sent::File(ticket) => format!("{UPLOAD}: {}\r\n", ticket.name),
        };
        let length = self.body().len();
        self.common(peer, secure) + &where_to + &format!("Content-Length: {length}\r\n\r\n")
    }

    /// The same request once more, for what comes after `last` in a stream; without a body.
    #[must_use]
    pub fn follow_up(&self, peer: IpAddr, secure: bool, last: &str) -> String {
        self.common(peer, secure) + &format!("{FOLLOW}: {last}\r\n\r\n")
    }

    fn common(&self, peer: IpAddr, secure: bool) -> String {
        let mut out = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            out.extend([name, ": ", value, "\r\n"]);
        }
        let proto = if secure { "https" } else { "http" };
        out + &format!("X-AC7-Peer: {}\r\nX-AC7-Proto: {proto}\r\n", peer.to_canonical())
    }

    /// The body, as far as it goes with the head.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Sent::Along(body) => body,
            Sent::Memory(_) | Sent::File(_) => &[],
        }
    }
}
