//! Bytes in, whole lines out, with a limit: pure, shared by everything here that reads JSON lines.

/// The longest frame, without its line end.
pub const MAX_LINE: usize = 8 << 20;

/// What is kept of the memory that a long line needed.
const KEEP: usize = 64 << 10;

/// A line longer than [`MAX_LINE`]; it has been skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Cuts a stream of bytes into lines. Between two calls it holds at most what was pushed last and one line before it.
#[derive(Debug, Default)]
pub struct Lines {
    /// Given out: `buffer[..start]`; known to hold no line end: `buffer[start..seen]`.
    buffer: Vec<u8>,
    start: usize,
    seen: usize,
    /// Whether the rest of a line that was too long is still to come.
    skipping: bool,
}

impl Lines {
    /// Add what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        (self.start, self.seen) = (0, self.seen - self.start);
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line, without its line end. Blank ones are left out.
    pub fn take(&mut self) -> Option<Result<Vec<u8>, TooLong>> {
        while let Some(length) = self.buffer[self.seen..].iter().position(|b| *b == b'\n') {
            let end = self.seen + length;
            let line = &self.buffer[self.start..end];
            (self.start, self.seen) = (end + 1, end + 1);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > MAX_LINE {
                return Some(Err(TooLong));
            }
            if !line.trim_ascii().is_empty() {
                return Some(Ok(line.to_vec()));
            }
        }
        self.seen = self.buffer.len();
        let too_long = self.seen - self.start > MAX_LINE;
        if too_long || self.skipping {
            (self.buffer, self.start, self.seen) = (Vec::new(), 0, 0);
        }
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.buffer.shrink_to(KEEP);
            (self.start, self.seen) = (0, 0);
        }
        let first = too_long && !self.skipping;
        self.skipping |= too_long;
        first.then_some(Err(TooLong))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Result<String, TooLong>> {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece);
            while let Some(line) = lines.take() {
                out.push(line.map(|l| String::from_utf8(l).unwrap()));
            }
        }
        out
    }

    #[test]
    fn lines_are_the_same_however_they_are_cut() {
        let text = b"one\n\n  \ntwo\r\nthree\nrest\n";
        let want: Vec<_> = ["one", "two\r", "three", "rest"].map(|l| Ok(l.to_string())).to_vec();
        assert_eq!(all(&[text]), want);
        for cut in 0..text.len() {
            assert_eq!(all(&[&text[..cut], &text[cut..]]), want, "cut at {cut}");
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(all(&single), want);
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_said_once() {
        let (long, fits) = (vec![b'x'; MAX_LINE + 1], vec![b'y'; MAX_LINE]);
        let got = all(&[&long, b"more of it", b" and\nnext\n", &fits, b"\n"]);
        assert_eq!(got.len(), 3);
        assert_eq!(got[..2], [Err(TooLong), Ok("next".to_string())]);
        assert_eq!(got[2].as_ref().unwrap().len(), MAX_LINE);
        let mut whole = long.clone();
        whole.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&[&whole]), [Err(TooLong), Ok("next".to_string())]);
        assert_eq!(all(&[&long]), [Err(TooLong)], "and nothing of it is left");
    }

    #[test]
    fn many_lines_in_one_piece_cost_no_more_than_their_bytes() {
        // Were the rest copied for each line, this would move 10^12 bytes.
        let text = b"line\n".repeat(500_000);
        let mut lines = Lines::default();
        lines.push(&text);
        assert_eq!(std::iter::from_fn(|| lines.take()).count(), 500_000);
    }
}
