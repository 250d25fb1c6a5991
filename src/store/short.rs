//! Deflate (RFC 1951) for short texts behind a dictionary: the fixed codes alone, in one pass.
//!
//! A compressor for texts of any length clears its tables and reads the dictionary anew for each of them; for some
//! hundred bytes that is nearly all its work. Here the dictionary is indexed once. What comes out is as small, as long
//! as a text is short or mostly made of what the dictionary holds: codes of its own would have to be told first.

/// The longest text that may be packed here.
pub(super) const MOST: usize = 16 * 1024;

/// What is found is found by so many bytes.
const SHORTEST: usize = 4;
/// The longest copy (RFC 1951 §3.2.5).
const LONGEST: usize = 258;
/// How many places that begin alike are looked at.
const LOOKS: usize = 8;
const HASHES: usize = 4096;

/// A dictionary with its index, and room for a text behind it.
pub(super) struct Short {
    /// The dictionary, then the text: together shorter than the longest way back, 32 KB.
    window: Vec<u8>,
    dictionary: usize,
    /// By hash, one more than the last place of the dictionary that begins so; 0 for none.
    indexed: Vec<u16>,
    /// The same of the window so far.
    last: Vec<u16>,
    /// By place, the one before it that begins so, in the same way.
    before: Vec<u16>,
}

impl Short {
    /// `dictionary` has at most 8 KB.
    pub(super) fn new(dictionary: &[u8]) -> Short {
        let mut short = Short {
            window: dictionary.to_vec(),
            dictionary: dictionary.len(),
            indexed: Vec::new(),
            last: vec![0; HASHES],
            before: vec![0; dictionary.len()],
        };
        short.note(0..dictionary.len());
        short.indexed = short.last.clone();
        short
    }

    /// `text`, of at most [`MOST`] bytes, as one block.
    pub(super) fn pack(&mut self, text: &[u8]) -> Vec<u8> {
        self.window.truncate(self.dictionary);
        self.window.extend_from_slice(text);
        self.before.resize(self.window.len(), 0);
        self.last.copy_from_slice(&self.indexed);
        let mut bits = Bits { out: Vec::with_capacity(text.len() / 2 + 16), held: 0, count: 0 };
        // The last block, with fixed codes.
        bits.put(0b011, 3);
        let mut at = self.dictionary;
        while let Some(&byte) = self.window.get(at) {
            let (length, distance) = self.longest(at);
            let end = if length < SHORTEST {
                bits.symbol(byte.into());
                at + 1
            } else {
                bits.copy(length as u32, distance as u32);
                at + length
            };
            self.note(at..end);
            at = end;
        }
        bits.symbol(256);
        bits.put(0, 7);
        bits.out
    }

    /// Index what begins at `places`.
    fn note(&mut self, places: std::ops::Range<usize>) {
        for at in places {
            let Some(start) = self.window.get(at..at + SHORTEST) else { return };
            let last = &mut self.last[hash(start)];
            self.before[at] = *last;
            *last = at as u16 + 1;
        }
    }

    /// The longest beginning of the window's bytes from `at` on that stood there before, and how far back.
    fn longest(&self, at: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let Some(start) = self.window.get(at..at + SHORTEST) else { return best };
        let rest = &self.window[at..self.window.len().min(at + LONGEST)];
        let mut next = self.last[hash(start)];
        for _ in 0..LOOKS {
            let Some(place) = usize::from(next).checked_sub(1) else { break };
            let length = self.window[place..].iter().zip(rest).take_while(|(a, b)| a == b).count();
            if length > best.0 {
                best = (length, at - place);
            }
            next = self.before[place];
        }
        best
    }
}

fn hash(start: &[u8]) -> usize {
    let word = start.iter().fold(0, |word: u32, byte| word << 8 | u32::from(*byte));
    word.wrapping_mul(0x9e37_79b1) as usize >> 20
}

/// Bits, the lowest of a byte first.
struct Bits {
    out: Vec<u8>,
    held: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, bits: u32, count: u32) {
        self.held |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// A code, which unlike a number stands with its highest bit first.
    fn code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    /// A byte, the end (256) or the class of a length (RFC 1951 §3.2.6).
    fn symbol(&mut self, symbol: u32) {
        match symbol {
            0..144 => self.code(0x30 + symbol, 8),
            144..256 => self.code(0x190 + symbol - 144, 9),
            256..280 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// `length` bytes from `distance` back: each number is a class and some bits of its own (RFC 1951 §3.2.5).
    fn copy(&mut self, length: u32, distance: u32) {
        match length - 3 {
            255 => self.symbol(285),
            short @ 0..8 => self.symbol(257 + short),
            long => {
                let own = long.ilog2() - 2;
                self.symbol(257 + 4 * own + (long >> own));
                self.put(long & ((1 << own) - 1), own);
            }
        }
        match distance - 1 {
            near @ 0..4 => self.code(near, 5),
            far => {
                let own = far.ilog2() - 1;
                self.code(2 * own + (far >> own), 5);
                self.put(far & ((1 << own) - 1), own);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

    use super::*;
    use crate::sys::random;

    /// Pack and see that another implementation gives `text` back; how many bytes it took.
    fn packed(short: &mut Short, text: &[u8]) -> usize {
        let packed = short.pack(text);
        let mut out = short.window[..short.dictionary].to_vec();
        let dictionary = out.len();
        out.resize(dictionary + text.len(), 0);
        let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) =
            decompress(&mut DecompressorOxide::new(), &packed, &mut out, dictionary, flags);
        assert_eq!((status, read, written), (TINFLStatus::Done, packed.len(), text.len()));
        assert_eq!(&out[dictionary..], text);
        packed.len()
    }

    #[test]
    fn texts_of_every_kind_come_back() {
        let mut short = Short::new(b"never change a running system, nor a text that everybody knows");
        assert_eq!(packed(&mut short, b""), 2);
        assert!(packed(&mut short, b"a running system") < 6, "it is in the dictionary");
        assert!(packed(&mut short, &[b'x'; MOST]) < 150, "a copy may reach into itself");
        assert!(packed(&mut short, &random::bytes::<1000>()) < 1100);
        // Copies of every length, from every distance.
        let bytes = random::bytes::<{ MOST / 2 }>();
        for (length, distance) in (4..300).zip((1..8000).step_by(27)) {
            let from = bytes.len() - distance;
            let copy = &bytes[from..bytes.len().min(from + length)];
            packed(&mut short, &[&bytes[..], copy].concat());
        }
        // Few letters meet often.
        for size in 0..300 {
            let text: Vec<u8> =
                random::bytes::<300>()[..size].iter().map(|b| b"aab"[*b as usize % 3]).collect();
            packed(&mut short, &text);
        }
    }
}
