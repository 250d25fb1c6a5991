//! The incremental framer.
use super::head::{Kind, may_begin, parse, trailers};
use super::{Asked, Fault, Head, Headers, Length, Rules};

/// Longest size line of a chunk, extensions included.
const CHUNK_LINE: u32 = 4096;

/// What the bytes fed turned out to be. A message is one `Head`, any number of `Body`, at most one `Trailers`, `End`.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Head(Box<Head>),
    /// A piece of the payload, transfer coding undone: a slice of what was fed, never empty.
    Body(&'a [u8]),
    /// Only if there are any.
    Trailers(Headers),
    End,
}

/// Follows one direction of a connection.
#[derive(Debug)]
pub struct Framer {
    kind: Kind,
    rules: Rules,
    asked: Asked,
    state: State,
    /// What has come of an unfinished head or trailer section; at most `rules.head_bytes`.
    buf: Vec<u8>,
    /// Of the unfinished line at its end.
    line: Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a head or inside one.
    Head,
    /// So many bytes of the body to come, at least 1.
    Exact(u64),
    UntilClose,
    Size(SizeLine),
    /// So many bytes of the chunk to come, at least 1.
    Chunk(u64),
    /// The line end after a chunk's data; whether its CR has come.
    ChunkEnd(bool),
    Trailers,
    /// Everything of the message has come; its end is not told yet.
    Done,
    Switched,
    Broken(Fault),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SizeLine {
    size: u64,
    digits: u32,
    read: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Digits,
    Extension,
    AfterCr,
}

/// What an unfinished line holds so far: enough to know a blank one without going back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    Cr,
    Text,
}

impl Framer {
    /// For the direction that carries requests.
    #[must_use]
    pub fn requests(rules: Rules) -> Framer {
        Framer::new(Kind::Requests, rules)
    }

    /// For the direction that carries responses. Tell it with [`Framer::answers`] what each of them answers.
    #[must_use]
    pub fn responses(rules: Rules) -> Framer {
        Framer::new(Kind::Responses, rules)
    }

    fn new(kind: Kind, rules: Rules) -> Framer {
        Framer { kind, rules, asked: Asked::Plain, state: State::Head, buf: Vec::new(), line: Line::Empty }
    }

    /// What the next response head, and those after it, answer. It counts from the next head that is completed.
    pub fn answers(&mut self, asked: Asked) {
        self.asked = asked;
    }

    /// Whether nothing of a message has come since the last one ended.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.state == State::Head && self.buf.is_empty()
    }

    /// Take bytes from the front of `input` and give the part that they make. `None`: all of `input` was taken and
    /// more is needed; or the connection has switched protocols, then `input` is left as it is.
    ///
    /// # Errors
    /// What is wrong with the direction; from then on always the same.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, Fault> {
        let part = self.step(input);
        if let Err(fault) = part {
            self.state = State::Broken(fault);
            self.buf = Vec::new();
        }
        part
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, Fault> {
        loop {
            match self.state {
                State::Broken(fault) => return Err(fault),
                State::Switched => return Ok(None),
                State::Done => {
                    self.state = State::Head;
                    return Ok(Some(Part::End));
                }
                _ if input.is_empty() => return Ok(None),
                State::Head => return self.head(input),
                State::Exact(left) => return Ok(Some(self.run(input, left, State::Exact, State::Done))),
                State::Chunk(left) => {
                    return Ok(Some(self.run(input, left, State::Chunk, State::ChunkEnd(false))));
                }
                State::UntilClose => return Ok(Some(Part::Body(std::mem::take(input)))),
                State::Size(line) => self.size_line(line, input)?,
                State::ChunkEnd(cr) => {
                    let byte = input[0];
                    *input = &input[1..];
                    self.state = match byte {
                        b'\r' if !cr => State::ChunkEnd(true),
                        b'\n' if cr || !self.rules.strict => State::Size(SizeLine::default()),
                        _ => return Err(Fault::Chunk),
                    };
                }
                State::Trailers => {
                    let rules = self.rules;
                    let Some(fields) = self.section(input, |text| trailers(text, &rules))? else {
                        return Ok(None);
                    };
                    self.state = State::Done;
                    if !fields.0.is_empty() {
                        return Ok(Some(Part::Trailers(fields)));
                    }
                }
            }
        }
    }

    /// The direction has ended. `Some(End)` where that completes a message, `None` between messages.
    ///
    /// # Errors
    /// [`Fault::Ended`] inside a message, or what was wrong before.
    pub fn end(&mut self) -> Result<Option<Part<'static>>, Fault> {
        match self.state {
            State::Broken(fault) => Err(fault),
            State::UntilClose | State::Done => {
                self.state = State::Head;
                Ok(Some(Part::End))
            }
            State::Switched => Ok(None),
            State::Head if self.buf.is_empty() => Ok(None),
            _ => {
                self.state = State::Broken(Fault::Ended);
                self.buf = Vec::new();
                Err(Fault::Ended)
            }
        }
    }

    /// How many of the next bytes are payload, whatever they are: [`Framer::skip`] takes so many.
    #[must_use]
    pub fn payload_left(&self) -> u64 {
        match self.state {
            State::Exact(left) | State::Chunk(left) => left,
            State::UntilClose => u64::MAX,
            _ => 0,
        }
    }

    /// Go on behind `lost` bytes that will never be fed.
    ///
    /// # Errors
    /// [`Fault::Gap`] where they do not all lie inside one run of payload whose length is known.
    pub fn skip(&mut self, lost: u64) -> Result<(), Fault> {
        let left = |left: u64| left.checked_sub(lost).ok_or(Fault::Gap);
        let next = match self.state {
            _ if lost == 0 => Ok(self.state),
            State::Broken(fault) => Err(fault),
            State::Exact(n) => left(n).map(|n| if n == 0 { State::Done } else { State::Exact(n) }),
            State::Chunk(n) => left(n).map(|n| if n == 0 { State::ChunkEnd(false) } else { State::Chunk(n) }),
            State::UntilClose => Ok(State::UntilClose),
            _ => Err(Fault::Gap),
        };
        match next {
            Ok(state) => self.state = state,
            Err(fault) => self.state = State::Broken(fault),
        }
        next.map(|_| ())
    }

    fn head<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, Fault> {
        if self.buf.is_empty() {
            // Empty lines before a head are ignored (RFC 9112 §2.2).
            let blank = input.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
            *input = &input[blank..];
            match input.first() {
                None => return Ok(None),
                Some(byte) if !may_begin(*byte) => return Err(Fault::NotHttp),
                Some(_) => {}
            }
        }
        let (kind, asked, rules) = (self.kind, self.asked, self.rules);
        let Some(head) = self.section(input, |text| parse(text, kind, asked, &rules))? else {
            return Ok(None);
        };
        self.state = match head.length {
            Length::Exact(0) => State::Done,
            Length::Exact(length) => State::Exact(length),
            Length::Chunked => State::Size(SizeLine::default()),
            Length::UntilClose => State::UntilClose,
            Length::Switch => State::Switched,
        };
        Ok(Some(Part::Head(Box::new(head))))
    }

    /// Take bytes up to and including an empty line and read the whole; `None` if it has not come yet. Every byte is
    /// looked at once here, and copied only where the section is spread over several inputs.
    fn section<T>(
        &mut self,
        input: &mut &[u8],
        read: impl Fn(&[u8]) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let mut at = 0;
        let mut complete = false;
        while !complete {
            let rest = &input[at..];
            let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                self.line = self.line.with(rest);
                at = input.len();
                break;
            };
            complete = self.line.with(&rest[..end]) != Line::Text;
            self.line = Line::Empty;
            at += end + 1;
        }
        if self.buf.len() + at > self.rules.head_bytes {
            return Err(Fault::HeadTooLarge);
        }
        let (taken, rest) = input.split_at(at);
        *input = rest;
        if complete && self.buf.is_empty() {
            return read(taken).map(Some);
        }
        self.buf.extend_from_slice(taken);
        // The memory goes too: a tunnel between messages holds nothing.
        if complete { read(&std::mem::take(&mut self.buf)).map(Some) } else { Ok(None) }
    }

    fn run<'a>(
        &mut self,
        input: &mut &'a [u8],
        left: u64,
        more: impl Fn(u64) -> State,
        after: State,
    ) -> Part<'a> {
        let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
        let (piece, rest) = input.split_at(take);
        *input = rest;
        let left = left - take as u64;
        self.state = if left == 0 { after } else { more(left) };
        Part::Body(piece)
    }

    /// `chunk-size [chunk-ext] CRLF` (RFC 9112 §7.1). Extensions are read over.
    fn size_line(&mut self, mut line: SizeLine, input: &mut &[u8]) -> Result<(), Fault> {
        let strict = self.rules.strict;
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            line.read += 1;
            if line.read > CHUNK_LINE {
                return Err(Fault::Chunk);
            }
            if let (Place::Digits, Some(digit)) = (line.place, char::from(*byte).to_digit(16)) {
                line.size = line.size.checked_mul(16).ok_or(Fault::Chunk)? | u64::from(digit);
                line.digits += 1;
                continue;
            }
            match (line.place, byte) {
                (Place::AfterCr, b'\n') => return self.chunk(line),
                (Place::AfterCr, _) => return Err(Fault::Chunk),
                (_, b'\n') if !strict => return self.chunk(line),
                (_, b'\r') => line.place = Place::AfterCr,
                (Place::Digits, b';') if line.digits > 0 => line.place = Place::Extension,
                // Some servers pad the size with spaces.
                (Place::Digits, b' ' | b'\t') if line.digits > 0 && !strict => line.place = Place::Extension,
                (Place::Digits, _) => return Err(Fault::Chunk),
                (Place::Extension, b'\n' | 0) => return Err(Fault::Chunk),
                (Place::Extension, byte) if strict && *byte < b' ' && *byte != b'\t' => {
                    return Err(Fault::Chunk);
                }
                (Place::Extension, _) => {}
            }
        }
        self.state = State::Size(line);
        Ok(())
    }

    fn chunk(&mut self, line: SizeLine) -> Result<(), Fault> {
        if line.digits == 0 {
            return Err(Fault::Chunk);
        }
        self.state = if line.size == 0 { State::Trailers } else { State::Chunk(line.size) };
        Ok(())
    }
}

impl Line {
    /// The line with `more` behind it, which holds no LF.
    fn with(self, more: &[u8]) -> Line {
        match (self, more) {
            (line, []) => line,
            (Line::Empty, b"\r") => Line::Cr,
            _ => Line::Text,
        }
    }
}

#[cfg(test)]
mod tests;
