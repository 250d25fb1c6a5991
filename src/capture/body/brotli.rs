//! The content coding `br` (RFC 7932).
use super::Broken;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

/// Output of one step.
const PIECE: usize = 8 * 1024;

/// Gives bytes as soon as the sender flushed them. Windows beyond the RFC's 16 MB are refused.
pub struct Brotli {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    out: Box<[u8]>,
    done: bool,
    broken: bool,
}

impl Brotli {
    pub fn new() -> Brotli {
        let state = BrotliState::new_strict(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        Brotli { state: Box::new(state), out: vec![0; PIECE].into_boxed_slice(), done: false, broken: false }
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Anything behind the end of the stream is ignored.
    pub fn step(&mut self, input: &mut &[u8]) -> Result<&[u8], Broken> {
        if self.broken {
            return Err(Broken);
        }
        if self.done {
            *input = &[];
            return Ok(&[]);
        }
        let (mut left, mut read, mut room, mut made, mut total) = (input.len(), 0, PIECE, 0, 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            input,
            &mut room,
            &mut made,
            &mut self.out,
            &mut total,
            &mut self.state,
        );
        *input = &input[read..];
        match result {
            BrotliResult::ResultSuccess => self.done = true,
            BrotliResult::ResultFailure => self.broken = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        if self.broken && made == 0 { Err(Broken) } else { Ok(&self.out[..made]) }
    }
}
