//! The content codings around deflate: `gzip` (RFC 1952) and `deflate`, which is zlib (RFC 1950) or, by a
//! misunderstanding as old as the name, bare deflate. Checksums are not verified: TLS has kept the bytes whole.
use super::{Broken, Inflate};

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;

/// Any number of members, one after the other. What follows the last and is no member is ignored.
pub struct Gzip {
    inflate: Inflate,
    at: At,
    /// Flags of this member's header whose fields are still to come.
    flags: u8,
    members: u32,
}

/// Where in a member the next byte belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// The ten fixed bytes, so many of them read.
    Fixed(u8),
    ExtraLength,
    ExtraLengthHigh(u8),
    /// So many bytes to pass over, then the fields that are left.
    Skip(u16),
    /// A name or comment, up to a zero byte.
    Text,
    Data,
    /// So many bytes of the checksum and length to come.
    Trailer(u8),
    /// Behind the last member.
    Rest,
}

impl Gzip {
    pub fn new() -> Gzip {
        Gzip { inflate: Inflate::new(), at: At::Fixed(0), flags: 0, members: 0 }
    }

    pub fn is_done(&self) -> bool {
        match self.at {
            // A missing trailer is no loss.
            At::Rest | At::Trailer(_) => true,
            At::Fixed(n) => self.members > 0 && n < 3,
            _ => false,
        }
    }

    pub fn step(&mut self, input: &mut &[u8]) -> Result<&[u8], Broken> {
        loop {
            if self.at == At::Data {
                let fresh = self.inflate.advance(input)?;
                if self.inflate.is_done() {
                    self.at = At::Trailer(8);
                }
                if !fresh.is_empty() {
                    return Ok(&self.inflate.window()[fresh]);
                }
            }
            let Some((byte, rest)) = input.split_first() else { return Ok(&[]) };
            *input = rest;
            self.at = match self.at {
                At::Fixed(n) => self.fixed(n, *byte)?,
                At::ExtraLength => At::ExtraLengthHigh(*byte),
                At::ExtraLengthHigh(low) => self.skip(u16::from_le_bytes([low, *byte])),
                At::Skip(left) => self.skip(left - 1),
                At::Text if *byte == 0 => self.next_field(),
                At::Trailer(1) => {
                    self.members += 1;
                    At::Fixed(0)
                }
                At::Trailer(n) => At::Trailer(n - 1),
                At::Text | At::Data => self.at,
                At::Rest => {
                    *input = &[];
                    At::Rest
                }
            };
        }
    }

    fn fixed(&mut self, n: u8, byte: u8) -> Result<At, Broken> {
        let fits = match n {
            0 => byte == 0x1f,
            1 => byte == 0x8b,
            2 => byte == 8,
            _ => true,
        };
        if !fits {
            return if self.members > 0 { Ok(At::Rest) } else { Err(Broken) };
        }
        if n == 3 {
            self.flags = byte & (FHCRC | FEXTRA | FNAME | FCOMMENT);
        }
        Ok(if n == 9 { self.next_field() } else { At::Fixed(n + 1) })
    }

    fn skip(&mut self, left: u16) -> At {
        if left == 0 { self.next_field() } else { At::Skip(left) }
    }

    /// The next optional field of the header, in their order, or the data.
    fn next_field(&mut self) -> At {
        for (flag, at) in
            [(FEXTRA, At::ExtraLength), (FNAME, At::Text), (FCOMMENT, At::Text), (FHCRC, At::Skip(2))]
        {
            if self.flags & flag != 0 {
                self.flags &= !flag;
                return at;
            }
        }
        self.inflate.restart();
        At::Data
    }
}

/// `deflate`: zlib or bare, told apart by the first two bytes.
pub struct Deflate {
    inflate: Inflate,
    start: Start,
}

#[derive(Clone, Copy)]
enum Start {
    Empty,
    One(u8),
    /// Bytes that turned out to belong to the data, yet to be decoded.
    Bare([u8; 2], usize),
    Past,
}

impl Deflate {
    pub fn new() -> Deflate {
        Deflate { inflate: Inflate::new(), start: Start::Empty }
    }

    pub fn is_done(&self) -> bool {
        self.inflate.is_done()
    }

    pub fn step(&mut self, input: &mut &[u8]) -> Result<&[u8], Broken> {
        loop {
            let fresh = match self.start {
                Start::Past => {
                    let fresh = self.inflate.advance(input)?;
                    if fresh.is_empty() {
                        // Anything behind the end of the stream is ignored.
                        *input = &[];
                        return Ok(&[]);
                    }
                    fresh
                }
                Start::Bare(bytes, from) => {
                    let mut rest = &bytes[from..];
                    let fresh = self.inflate.advance(&mut rest)?;
                    self.start =
                        if rest.is_empty() { Start::Past } else { Start::Bare(bytes, 2 - rest.len()) };
                    if self.inflate.is_done() {
                        self.start = Start::Past;
                    }
                    fresh
                }
                Start::Empty | Start::One(_) => {
                    let Some((byte, rest)) = input.split_first() else { return Ok(&[]) };
                    *input = rest;
                    self.start = match self.start {
                        Start::One(first) if is_zlib(first, *byte) => Start::Past,
                        Start::One(first) => Start::Bare([first, *byte], 0),
                        _ => Start::One(*byte),
                    };
                    continue;
                }
            };
            if !fresh.is_empty() {
                return Ok(&self.inflate.window()[fresh]);
            }
        }
    }
}

/// RFC 1950 §2.2: method 8, window of at most 32 KB, no preset dictionary, check bits.
fn is_zlib(cmf: u8, flags: u8) -> bool {
    cmf & 15 == 8 && cmf >> 4 <= 7 && flags & 32 == 0 && u16::from_be_bytes([cmf, flags]).is_multiple_of(31)
}
