//! Raw deflate (RFC 1951), as a stream.
use super::Broken;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use std::ops::Range;

/// The largest distance deflate knows. Smaller windows need nothing else.
const WINDOW: usize = 32 * 1024;

/// A decoder that gives every byte as soon as the input determines it.
pub struct Inflate {
    core: Box<DecompressorOxide>,
    /// Output, round and round.
    window: Box<[u8]>,
    /// Where the next byte goes; below `WINDOW`.
    at: usize,
    done: bool,
    broken: bool,
}

impl Default for Inflate {
    fn default() -> Self {
        Inflate::new()
    }
}

impl Inflate {
    #[must_use]
    pub fn new() -> Inflate {
        let window = vec![0; WINDOW].into_boxed_slice();
        Inflate { core: Box::default(), window, at: 0, done: false, broken: false }
    }

    /// Whether the stream has come to its end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Begin another stream, which may refer back to what came before (RFC 7692 §7.2.3.4).
    pub fn restart(&mut self) {
        self.core.init();
        self.done = false;
    }

    /// Begin another stream, which refers to nothing before it; if it does all the same, to zeros.
    pub fn reset(&mut self) {
        self.restart();
        self.broken = false;
        self.window.fill(0);
    }

    /// Decode from the front of `input`. The result is where the new bytes are in [`Inflate::window`]; it is empty
    /// only when all of the input was taken or the stream is done.
    ///
    /// # Errors
    /// The data is broken; what came before it has been given.
    pub fn advance(&mut self, input: &mut &[u8]) -> Result<Range<usize>, Broken> {
        if self.broken {
            return Err(Broken);
        }
        if self.done {
            return Ok(0..0);
        }
        let (status, used, made) =
            decompress(&mut self.core, input, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
        *input = &input[used..];
        let fresh = self.at..self.at + made;
        self.at = fresh.end % WINDOW;
        match status {
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            TINFLStatus::Done => self.done = true,
            _ => self.broken = true,
        }
        if self.broken && made == 0 { Err(Broken) } else { Ok(fresh) }
    }

    /// The output; what [`Inflate::advance`] told of it stays until the next call.
    #[must_use]
    pub fn window(&self) -> &[u8] {
        &self.window
    }
}
