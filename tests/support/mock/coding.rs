//! Content codings of answers, flushed after every event so that a client can decode it at once.
use std::str::FromStr;

use miniz_oxide::deflate::CompressionLevel;
use miniz_oxide::deflate::core::CompressorOxide;
use miniz_oxide::deflate::stream::deflate;
use miniz_oxide::{DataFormat, MZFlush};

/// How answers are coded. There is no compressor for br and zstd among ac7's crates: recorded streams in `fixtures/`
/// stand in for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    #[default]
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950, which is what HTTP means by it.
    Deflate,
}

impl Coding {
    /// The value of Content-Encoding.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Coding::Identity => None,
            Coding::Gzip => Some("gzip"),
            Coding::Deflate => Some("deflate"),
        }
    }
}

impl FromStr for Coding {
    type Err = ();

    fn from_str(name: &str) -> Result<Coding, ()> {
        match name {
            "identity" => Ok(Coding::Identity),
            "gzip" => Ok(Coding::Gzip),
            "deflate" => Ok(Coding::Deflate),
            _ => Err(()),
        }
    }
}

/// One coded body as it grows.
pub(super) struct Encoder {
    coding: Coding,
    state: Box<CompressorOxide>,
    started: bool,
    crc: u32,
    length: u32,
}

impl Encoder {
    pub fn new(coding: Coding) -> Encoder {
        let format = if coding == Coding::Deflate { DataFormat::Zlib } else { DataFormat::Raw };
        let state = Box::new(CompressorOxide::with_format_and_level(format, CompressionLevel::DefaultLevel));
        Encoder { coding, state, started: false, crc: 0, length: 0 }
    }

    /// The coded bytes of `data`, decodable without what follows.
    pub fn feed(&mut self, data: &[u8]) -> Vec<u8> {
        if self.coding == Coding::Identity {
            return data.to_vec();
        }
        let mut out = self.head();
        self.crc = crc32(self.crc, data);
        self.length = self.length.wrapping_add(u32::try_from(data.len()).expect("events are small"));
        self.compress(data, MZFlush::Sync, &mut out);
        out
    }

    /// The bytes that end the body.
    pub fn end(&mut self) -> Vec<u8> {
        if self.coding == Coding::Identity {
            return Vec::new();
        }
        let mut out = self.head();
        self.compress(&[], MZFlush::Finish, &mut out);
        if self.coding == Coding::Gzip {
            out.extend(self.crc.to_le_bytes());
            out.extend(self.length.to_le_bytes());
        }
        out
    }

    /// The header of a gzip member, once: deflate, no flags, no time, unknown system (RFC 1952 §2.3).
    fn head(&mut self) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.started, true);
        let gzip = first && self.coding == Coding::Gzip;
        if gzip { vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255] } else { Vec::new() }
    }

    fn compress(&mut self, mut data: &[u8], flush: MZFlush, out: &mut Vec<u8>) {
        let mut piece = [0; 16 * 1024];
        loop {
            let done = deflate(&mut self.state, data, &mut piece, flush);
            out.extend_from_slice(&piece[..done.bytes_written]);
            data = &data[done.bytes_consumed..];
            // A full piece means that there is more to come; anything less, that the flush is complete.
            if done.bytes_written < piece.len() {
                assert!(data.is_empty(), "the compressor takes all of its input");
                return;
            }
        }
    }
}

/// CRC-32 of gzip (RFC 1952 §8), bit by bit: the mock's bodies are small.
fn crc32(before: u32, data: &[u8]) -> u32 {
    !data.iter().fold(!before, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::inflate::{decompress_to_vec, decompress_to_vec_zlib};

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    #[test]
    fn codings_round_trip() {
        let pieces = [b"event: a\n\n".to_vec(), b"event: b\n\n".repeat(9000)];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let mut encoder = Encoder::new(coding);
            let mut out: Vec<u8> = pieces.iter().flat_map(|piece| encoder.feed(piece)).collect();
            out.extend(encoder.end());
            let back = match coding {
                Coding::Deflate => decompress_to_vec_zlib(&out),
                _ => decompress_to_vec(&out[10..out.len() - 8]),
            };
            assert!(back.expect("it decodes") == pieces.concat(), "{coding:?}");
        }
    }
}
