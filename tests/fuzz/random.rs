//! Random numbers that are the same for the same seed, and small things made of them.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        // splitmix64: neighbouring seeds have nothing in common then.
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Random((z ^ (z >> 31)).max(1))
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from((self.number() >> 11) % n as u64).unwrap()
    }

    pub fn byte(&mut self) -> u8 {
        self.number().to_be_bytes()[0]
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// From 0 to `most`, small numbers far more often than large ones.
    pub fn size(&mut self, most: usize) -> usize {
        let top = 1 + self.below(most + 1);
        let top = 1 + self.below(top);
        self.below(top)
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// `bytes` cut anywhere; no piece is empty.
    pub fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let top = [1, 2, 3, 17, 100, 1460, 16_384][self.below(7)];
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((1 + self.below(top)).min(bytes.len()));
            out.push(piece);
            bytes = rest;
        }
        out
    }

    /// `text` cut between characters; no piece is empty.
    pub fn deltas(&mut self, text: &str) -> Vec<String> {
        let top = [1, 3, 20, 1000][self.below(4)];
        let mut out = Vec::new();
        let mut left = 0;
        for c in text.chars() {
            if left == 0 {
                out.push(String::new());
                left = 1 + self.below(top);
            }
            left -= 1;
            out.last_mut().unwrap().push(c);
        }
        out
    }

    /// Up to `most` characters, many of which mean something to some format.
    pub fn text(&mut self, most: usize) -> String {
        const ODD: [char; 16] = [
            '"', '\\', '\n', '\r', '\t', ' ', '{', ':', 'é', '✓', '𝄞', '\u{1}', '\u{7f}', '\u{2028}',
            '\u{FFFD}', '%',
        ];
        let odd = 1 + self.below(8);
        (0..self.size(most))
            .map(|_| match self.below(10) {
                n if n < odd => char::from(b'a' + self.byte() % 26),
                _ => ODD[self.below(ODD.len())],
            })
            .collect()
    }

    /// Exactly `length` characters of `alphabet`, which is ASCII.
    pub fn word(&mut self, alphabet: &str, length: usize) -> String {
        (0..length).map(|_| char::from(alphabet.as_bytes()[self.below(alphabet.len())])).collect()
    }
}
