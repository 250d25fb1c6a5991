//! WebSocket frames of one direction (RFC 6455 §5), joined to messages, with permessage-deflate (RFC 7692).
use crate::capture::body::Inflate;
use crate::capture::exchange::{Headers, Side};

/// Beyond so many inflated bytes of one message its sender means harm.
const INFLATED: u64 = 256 << 20;

const MALFORMED: &str = "malformed WebSocket frame";
const BROKEN: &str = "broken WebSocket compression";
const BOMB: &str = "a WebSocket message inflates without bound";

/// A data message that has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub text: bool,
    /// The payload, inflated; of a text message as much as was wanted, of a binary one nothing.
    pub bytes: Vec<u8>,
    /// Whether `bytes` is all of it.
    pub whole: bool,
    /// When its first byte came, ms since epoch.
    pub began: u64,
}

/// Follows one direction. Memory: the message that is coming, and 43 KB where messages are compressed.
pub struct Frames {
    /// Clients mask, servers do not (RFC 6455 §5.1).
    masked: bool,
    deflate: Option<Deflate>,
    state: State,
    message: Option<Open>,
    /// When the first byte of the current frame came.
    frame_began: u64,
    mask: [u8; 4],
    /// Bytes of the current frame's payload so far, modulo 4.
    phase: usize,
    closed: bool,
    blind: bool,
    messages: u64,
    bytes: u64,
}

struct Deflate {
    inflate: Inflate,
    /// Messages refer back to earlier ones.
    takeover: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// So many bytes of a header that is at most 14 long.
    Header([u8; 14], usize),
    Payload {
        left: u64,
        fin: bool,
        opcode: u8,
    },
}

/// A message that is coming.
struct Open {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
    keep: usize,
    /// Whether bytes were left out.
    cut: bool,
    inflated: u64,
    began: u64,
}

impl Frames {
    /// For what `side` sends after the upgrade that a response with these headers confirmed.
    #[must_use]
    pub fn new(side: Side, response: &Headers) -> Frames {
        let own = match side {
            Side::Agent => "client_no_context_takeover",
            Side::Upstream => "server_no_context_takeover",
        };
        // Window sizes need no attention: a decoder of the largest window decodes all.
        let deflate = response.list("sec-websocket-extensions").find_map(|extension| {
            let mut parts = extension.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate"));
            let takeover = !parts.any(|p| p.eq_ignore_ascii_case(own));
            named.then(|| Deflate { inflate: Inflate::new(), takeover })
        });
        Frames {
            masked: side == Side::Agent,
            deflate,
            state: State::Header([0; 14], 0),
            message: None,
            frame_began: 0,
            mask: [0; 4],
            phase: 0,
            closed: false,
            blind: false,
            messages: 0,
            bytes: 0,
        }
    }

    /// Messages that ended, and payload bytes of data frames on the wire.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.messages, self.bytes)
    }

    /// From now on only count: no payload is looked at any more.
    pub fn count_only(&mut self) {
        self.blind = true;
        self.deflate = None;
    }

    /// Take bytes from the front of `input` up to the end of a data message, and give that. `None`: all was taken.
    /// `keep`: how many bytes of a text message that begins now are wanted. `now`: when the input came.
    ///
    /// # Errors
    /// A fixed phrase; the direction cannot be followed further.
    pub fn next(
        &mut self,
        input: &mut &[u8],
        keep: usize,
        now: u64,
    ) -> Result<Option<Message>, &'static str> {
        loop {
            if self.closed {
                // Nothing may follow a close frame (RFC 6455 §5.5.1).
                *input = &[];
                return Ok(None);
            }
            match self.state {
                State::Header(mut header, have) => {
                    let Some((byte, rest)) = input.split_first() else { return Ok(None) };
                    *input = rest;
                    if have == 0 {
                        self.frame_began = now;
                    }
                    header[have] = *byte;
                    self.state = State::Header(header, have + 1);
                    if have + 1 == header_length(&header[..=have]) {
                        self.begin(&header[..=have], keep)?;
                    }
                }
                State::Payload { left: 0, fin, opcode } => {
                    self.state = State::Header([0; 14], 0);
                    self.closed = opcode == 8;
                    if opcode < 8 && fin {
                        return self.finish().map(Some);
                    }
                }
                State::Payload { left, fin, opcode } => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    let (piece, rest) = input.split_at(take);
                    *input = rest;
                    if opcode < 8 {
                        self.bytes += take as u64;
                        self.payload(piece)?;
                    }
                    self.phase = (self.phase + take) % 4;
                    self.state = State::Payload { left: left - take as u64, fin, opcode };
                }
            }
        }
    }

    /// A header is complete.
    fn begin(&mut self, header: &[u8], keep: usize) -> Result<(), &'static str> {
        let (fin, reserved, opcode) = (header[0] & 0x80 != 0, header[0] & 0x70, header[0] & 0x0f);
        let masked = header[1] & 0x80 != 0;
        let after = &header[2..header.len() - if masked { 4 } else { 0 }];
        let left = match header[1] & 0x7f {
            126 | 127 => after.iter().fold(0, |n, b| n << 8 | u64::from(*b)),
            short => u64::from(short),
        };
        let compressed = reserved == 0x40 && (self.deflate.is_some() || self.blind);
        let fits = match opcode {
            0 => self.message.is_some() && reserved == 0,
            1 | 2 => self.message.is_none() && (reserved == 0 || compressed),
            8..=10 => fin && left <= 125 && reserved == 0,
            _ => false,
        };
        if !fits || masked != self.masked || left > i64::MAX as u64 {
            return Err(MALFORMED);
        }
        if masked {
            self.mask.copy_from_slice(&header[header.len() - 4..]);
        }
        if let 1 | 2 = opcode {
            let keep = if opcode == 1 { keep } else { 0 };
            let began = self.frame_began;
            self.message = Some(Open {
                text: opcode == 1,
                compressed,
                bytes: Vec::new(),
                keep,
                cut: false,
                inflated: 0,
                began,
            });
        }
        self.phase = 0;
        self.state = State::Payload { left, fin, opcode };
        Ok(())
    }

    /// Payload of a data frame.
    fn payload(&mut self, piece: &[u8]) -> Result<(), &'static str> {
        let Some(open) = &mut self.message else { return Ok(()) };
        let must_inflate = open.compressed && self.deflate.as_ref().is_some_and(|d| d.takeover);
        if self.blind || (open.cut && !must_inflate) {
            open.cut = true;
            return Ok(());
        }
        if !self.masked {
            return open.take(piece, self.deflate.as_mut());
        }
        let mut scratch = [0; 4096];
        let mut phase = self.phase;
        for piece in piece.chunks(scratch.len()) {
            let plain = &mut scratch[..piece.len()];
            for (plain, byte) in plain.iter_mut().zip(piece) {
                *plain = byte ^ self.mask[phase % 4];
                phase += 1;
            }
            open.take(plain, self.deflate.as_mut())?;
        }
        Ok(())
    }

    /// The last frame of a message has ended.
    fn finish(&mut self) -> Result<Message, &'static str> {
        let mut open = self.message.take().ok_or(MALFORMED)?;
        self.messages += 1;
        if let (true, Some(deflate)) = (open.compressed, &mut self.deflate) {
            if deflate.takeover || !open.cut {
                // The sender left these out (RFC 7692 §7.2.1).
                open.take(&[0, 0, 0xff, 0xff], Some(deflate))?;
            }
            if !deflate.takeover {
                deflate.inflate.reset();
            }
        }
        Ok(Message { text: open.text, bytes: open.bytes, whole: !open.cut, began: open.began })
    }
}

impl Open {
    fn take(&mut self, mut piece: &[u8], deflate: Option<&mut Deflate>) -> Result<(), &'static str> {
        let Some(deflate) = deflate.filter(|_| self.compressed) else {
            self.retain(piece);
            return Ok(());
        };
        // What is neither wanted nor referred to later need not be inflated.
        while deflate.takeover || !self.cut {
            let fresh = deflate.inflate.advance(&mut piece).map_err(|_| BROKEN)?;
            let none = fresh.is_empty();
            self.inflated += fresh.len() as u64;
            self.retain(&deflate.inflate.window()[fresh]);
            if self.inflated > INFLATED {
                return Err(BOMB);
            }
            if deflate.inflate.is_done() {
                // A block that called itself the last; the message may go on behind it (RFC 7692 §7.2.3.4).
                deflate.inflate.restart();
            } else if none {
                return Ok(());
            }
            if piece.is_empty() && none {
                return Ok(());
            }
        }
        Ok(())
    }

    fn retain(&mut self, bytes: &[u8]) {
        let room = self.keep - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// How long the header that begins with `start` is, as far as that can be told already.
fn header_length(start: &[u8]) -> usize {
    let [_, second, ..] = start else { return 2 };
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + if second & 0x80 != 0 { 4 } else { 0 }
}

#[cfg(test)]
mod tests;
