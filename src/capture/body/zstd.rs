//! The content coding `zstd` (RFC 8878).
//!
//! ruzstd gives out nothing of a frame before its end, but decodes blocks as they come. So this walks the frame itself
//! and hands it whole blocks, behind a frame header of our own that promises a window of 128 KB and whose first block
//! fills it: then `can_collect` tells how many bytes are decoded, which is what the times of arrival need, nothing
//! is drained that later blocks refer to, and memory grows with the output instead of the sender's window. A frame is
//! closed with an empty last block wherever it stops, so a cut stream keeps everything up to its last whole block.
use super::Broken;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::Read;

/// Magic, no checksum, window of 128 KB (RFC 8878 §3.1.1.1), then a block of so many zeros.
const OPENING: [u8; 10] = [0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3, 0x02, 0x00, 0x10, 0];
const FILL: usize = 128 * 1024;
/// An empty raw block that is the last.
const CLOSING: [u8; 3] = [1, 0, 0];
/// Most bytes of a block (RFC 8878 §3.1.1.2.4).
const BLOCK: usize = 128 * 1024;

/// Any number of frames, one after the other. What follows the last and is no frame is ignored.
pub struct Zstd {
    decoder: FrameDecoder,
    at: At,
    /// What has come of the field or block that `at` names.
    buf: Vec<u8>,
    checksum: bool,
    frames: u32,
    /// More decoded bytes than this can not be wanted.
    limit: usize,
    out: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// A frame's magic number and descriptor, or a skippable frame's magic number.
    Magic,
    /// The whole header, of so many bytes.
    Header(usize),
    /// A skippable frame's length.
    SkipLength,
    Skip(u64),
    BlockHeader,
    /// A block of so many bytes, its header included; whether it is the last.
    Block(usize, bool),
    Checksum,
    /// Behind the last frame.
    Rest,
}

impl Zstd {
    /// `limit`: how many decoded bytes can be wanted; decoding stops soon after.
    pub fn new(limit: usize) -> Zstd {
        let decoder = FrameDecoder::new();
        Zstd { decoder, at: At::Magic, buf: Vec::new(), checksum: false, frames: 0, limit, out: Vec::new() }
    }

    pub fn is_done(&self) -> bool {
        match self.at {
            At::Rest | At::Checksum => true,
            At::Magic => self.frames > 0,
            _ => false,
        }
    }

    /// Bytes that are decoded and not yet handed out.
    pub fn waiting(&self) -> usize {
        if self.in_frame() { self.decoder.can_collect() } else { 0 }
    }

    /// What was decoded of a frame that never ended.
    pub fn rescue(&mut self) -> Vec<u8> {
        if self.in_frame() && self.close().is_ok() { std::mem::take(&mut self.out) } else { Vec::new() }
    }

    pub fn step(&mut self, input: &mut &[u8]) -> Result<&[u8], Broken> {
        loop {
            let need = match self.at {
                At::Magic => 5,
                At::Header(size) => size,
                At::SkipLength => 8,
                At::BlockHeader => 3,
                At::Block(size, _) => size,
                At::Checksum => 4,
                At::Skip(_) if input.is_empty() => return Ok(&[]),
                At::Skip(left) => {
                    let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                    *input = &input[take..];
                    self.at =
                        if left == take as u64 { self.frame_over() } else { At::Skip(left - take as u64) };
                    continue;
                }
                At::Rest => {
                    *input = &[];
                    return Ok(&[]);
                }
            };
            // `buf` keeps what is common to a field and its continuation, so `need` counts it too.
            let take = need.saturating_sub(self.buf.len()).min(input.len());
            self.buf.extend_from_slice(&input[..take]);
            *input = &input[take..];
            if self.buf.len() < need {
                return Ok(&[]);
            }
            self.at = self.field()?;
            if self.waiting() > self.limit {
                self.close()?;
                self.at = At::Rest;
            }
            if !self.out.is_empty() {
                return Ok(&self.out);
            }
        }
    }

    /// Read the complete field in `buf`.
    fn field(&mut self) -> Result<At, Broken> {
        self.out.clear();
        let buf = &self.buf[..];
        let next = match self.at {
            At::Magic if buf[..4] == OPENING[..4] => return self.descriptor(buf[4]).map(At::Header),
            At::Magic if buf[0] & 0xf0 == 0x50 && buf[1..4] == [0x2a, 0x4d, 0x18] => {
                return Ok(At::SkipLength);
            }
            At::Magic if self.frames > 0 => At::Rest,
            At::Magic => return Err(Broken),
            At::Header(_) => {
                self.decoder.init(&OPENING[..6]).map_err(|_| Broken)?;
                self.block(&OPENING[6..])?;
                At::BlockHeader
            }
            At::SkipLength => match u32::from_le_bytes([buf[4], buf[5], buf[6], buf[7]]) {
                0 => self.frame_over(),
                length => At::Skip(u64::from(length)),
            },
            At::BlockHeader => {
                let header = u32::from_le_bytes([buf[0], buf[1], buf[2], 0]);
                let size = usize::try_from(header >> 3).map_err(|_| Broken)?;
                let stored = match (header >> 1) & 3 {
                    1 => 1,
                    3 => return Err(Broken),
                    _ => size,
                };
                if size > BLOCK {
                    return Err(Broken);
                }
                return Ok(At::Block(3 + stored, header & 1 == 1));
            }
            At::Block(_, last) => {
                let block = std::mem::take(&mut self.buf);
                self.block(&block)?;
                match (last, self.checksum) {
                    (false, _) => At::BlockHeader,
                    (true, checksum) => {
                        self.collect()?;
                        if checksum { At::Checksum } else { self.frame_over() }
                    }
                }
            }
            At::Checksum => self.frame_over(),
            At::Skip(_) | At::Rest => self.at,
        };
        self.buf.clear();
        Ok(next)
    }

    /// The length of the frame header that `descriptor` begins, magic number included (RFC 8878 §3.1.1.1).
    fn descriptor(&mut self, descriptor: u8) -> Result<usize, Broken> {
        let single = descriptor & 32 != 0;
        if descriptor & 3 != 0 || descriptor & 8 != 0 {
            // A dictionary that nobody has, or the reserved bit.
            return Err(Broken);
        }
        self.checksum = descriptor & 4 != 0;
        let content_size = match descriptor >> 6 {
            0 => usize::from(single),
            n => 1 << n,
        };
        Ok(5 + usize::from(!single) + content_size)
    }

    fn frame_over(&mut self) -> At {
        self.frames += 1;
        At::Magic
    }

    fn in_frame(&self) -> bool {
        matches!(self.at, At::BlockHeader | At::Block(..))
    }

    fn block(&mut self, block: &[u8]) -> Result<(), Broken> {
        self.decoder
            .decode_blocks(block, BlockDecodingStrategy::UptoBlocks(1))
            .map(|_| ())
            .map_err(|_| Broken)
    }

    /// End the frame where it is.
    fn close(&mut self) -> Result<(), Broken> {
        self.block(&CLOSING)?;
        self.collect()
    }

    /// Take everything out of a decoder that has had its last block.
    fn collect(&mut self) -> Result<(), Broken> {
        let mut fill = [0; 4096];
        for _ in 0..FILL / fill.len() {
            self.decoder.read_exact(&mut fill).map_err(|_| Broken)?;
        }
        self.out = self.decoder.collect().unwrap_or_default();
        self.decoder = FrameDecoder::new();
        Ok(())
    }
}
