//! What secrets look like, as a table, and one pass over a text that finds them.
use std::fmt;

use super::REDACTED;

/// What follows a prefix for it to be a secret.
#[derive(Clone, Copy)]
enum Tail {
    /// At least `min` bytes of a class; the secret goes on as long as the class does.
    Run { class: fn(u8) -> bool, min: usize },
    /// The rest of a JSON web token.
    Jwt,
    /// The rest of a PEM block, if it is a private key.
    Pem,
}

/// One kind of secret.
struct Pattern {
    /// How it begins; at least 3 ASCII bytes.
    prefix: String,
    tail: Tail,
    /// Bytes of the prefix that are no secret and stay.
    keep: usize,
    /// Whether a letter or digit right before it makes it part of a longer word.
    at_word: bool,
}

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

fn dashed(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

/// base64url, which is also what most vendors make their tokens of.
fn token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// token68 of RFC 9110 §11.2.
fn credentials(b: u8) -> bool {
    token(b) || matches!(b, b'.' | b'~' | b'+' | b'/' | b'=')
}

/// Prefix, class and least length of what follows, bytes of the prefix that stay. `sk-` takes in `sk-ant-`, `sk-proj-`.
type Row = (&'static [&'static str], fn(u8) -> bool, usize, usize);
const TABLE: [Row; 13] = [
    (&["sk-"], token, 20, 0),
    (&["sk_live_", "rk_live_"], word, 20, 0),
    (&["AKIA"], upper, 16, 0),
    (&["ghp_", "gho_", "ghs_", "ghu_", "ghr_"], word, 20, 0),
    (&["github_pat_"], word, 22, 0),
    (&["xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-"], dashed, 10, 0),
    (&["AIza"], token, 35, 0),
    (&["glpat-"], token, 20, 0),
    (&["npm_"], alphanumeric, 36, 0),
    (&["hf_"], alphanumeric, 30, 0),
    (&["ac7_"], token, 43, 0),
    (&["Bearer ", "bearer "], credentials, 20, 7),
    (&["Basic "], credentials, 20, 6),
];

/// A prefix given by the user that would match too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooShort(String);

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--redact-pattern \"{}\": a prefix needs at least 3 characters", self.0)
    }
}

impl std::error::Error for TooShort {}

/// All patterns, prepared for scanning.
///
/// A secret begins at a place whose next three bytes leave a common bit in `next`: bit n stands for pattern n, the
/// last bit for all further ones. Few places of clean text do, so that most of it costs three look-ups a byte.
pub struct Rules {
    patterns: Vec<Pattern>,
    next: [[u64; 256]; 3],
}

impl Default for Rules {
    fn default() -> Rules {
        let mut patterns = Vec::new();
        for (prefixes, class, min, keep) in TABLE {
            for prefix in prefixes {
                let tail = Tail::Run { class, min };
                patterns.push(Pattern { prefix: (*prefix).to_string(), tail, keep, at_word: true });
            }
        }
        for (prefix, tail, at_word) in [("eyJ", Tail::Jwt, true), ("-----BEGIN ", Tail::Pem, false)] {
            patterns.push(Pattern { prefix: prefix.to_string(), tail, keep: 0, at_word });
        }
        Rules::prepared(patterns)
    }
}

impl Rules {
    /// The built-in patterns, and secrets that begin with one of the user's `prefixes` and go on with at least 8
    /// of `[A-Za-z0-9_-]`, wherever they stand.
    ///
    /// # Errors
    /// A prefix of less than 3 bytes.
    pub fn new(prefixes: &[String]) -> Result<Rules, TooShort> {
        let mut patterns = Rules::default().patterns;
        for prefix in prefixes {
            if prefix.len() < 3 {
                return Err(TooShort(prefix.clone()));
            }
            let tail = Tail::Run { class: token, min: 8 };
            patterns.push(Pattern { prefix: prefix.clone(), tail, keep: 0, at_word: false });
        }
        Ok(Rules::prepared(patterns))
    }

    fn prepared(patterns: Vec<Pattern>) -> Rules {
        let mut next = [[0; 256]; 3];
        for (n, pattern) in patterns.iter().enumerate() {
            for (table, byte) in next.iter_mut().zip(pattern.prefix.bytes()) {
                table[usize::from(byte)] |= 1 << n.min(63);
            }
        }
        Rules { patterns, next }
    }

    /// Whether there is a secret in `text`.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        self.search(text.as_bytes(), 0, &mut Memory::default()).is_some()
    }

    /// Replace every secret in `text` and say how many there were.
    pub fn replace(&self, text: &mut String) -> usize {
        let mut memory = Memory::default();
        let Some(first) = self.search(text.as_bytes(), 0, &mut memory) else { return 0 };
        let mut out = String::with_capacity(text.len());
        let (mut count, mut done) = (0, 0);
        let mut found = Some(first);
        while let Some((start, end)) = found {
            // Both lie beside an ASCII byte or at an end of the text, hence on borders of characters.
            out.push_str(&text[done..start]);
            out.push_str(REDACTED);
            (count, done) = (count + 1, end);
            found = self.search(text.as_bytes(), done, &mut memory);
        }
        out.push_str(&text[done..]);
        *text = out;
        count
    }

    /// The first secret that begins at `from` or later: where to cut and where to go on. At `from` a word may begin:
    /// what is before it is no part of the text any more.
    fn search(&self, text: &[u8], from: usize, memory: &mut Memory) -> Option<(usize, usize)> {
        let [first, second, third] = &self.next;
        let mut at = from;
        loop {
            let here =
                |w: &[u8]| first[usize::from(w[0])] & second[usize::from(w[1])] & third[usize::from(w[2])];
            at += text.get(at..)?.windows(3).position(|w| here(w) != 0)?;
            let bits = here(&text[at..at + 3]);
            let at_word = at == from || starts_word(text, at);
            let longest = self
                .patterns
                .iter()
                .enumerate()
                .filter(|(n, _)| bits >> n.min(&63) & 1 == 1)
                .filter_map(|(_, pattern)| Some((pattern.end(text, at, at_word, memory)?, pattern.keep)))
                .max_by_key(|(end, _)| *end);
            if let Some((end, keep)) = longest {
                return Some((at + keep, end));
            }
            at += 1;
        }
    }
}

/// What earlier failures say about later candidates of the same text; without it some texts take quadratic time.
#[derive(Default)]
struct Memory {
    /// No JSON web token begins before this offset.
    no_jwt_before: usize,
}

impl Pattern {
    /// Where a secret of this kind that begins at `start` ends; `None` if none does. `at_word`: a word begins there.
    fn end(&self, text: &[u8], start: usize, at_word: bool, memory: &mut Memory) -> Option<usize> {
        let rest = &text[start..];
        if !rest.starts_with(self.prefix.as_bytes()) || (self.at_word && !at_word) {
            return None;
        }
        let tail = &rest[self.prefix.len()..];
        match self.tail {
            Tail::Run { class, min } => {
                let length = run(tail, class);
                (length >= min).then_some(start + self.prefix.len() + length)
            }
            Tail::Jwt => jwt(text, start, memory),
            Tail::Pem => pem(tail).map(|length| start + self.prefix.len() + length),
        }
    }
}

/// How many bytes at the start of `text` are of the class.
fn run(text: &[u8], class: fn(u8) -> bool) -> usize {
    text.iter().take_while(|b| class(**b)).count()
}

/// Whether a word can begin at `at`: what is before is no letter or digit, or is one that only ends an escape.
fn starts_word(text: &[u8], at: usize) -> bool {
    let before = &text[..at];
    if !before.last().is_some_and(u8::is_ascii_alphanumeric) {
        return true;
    }
    match before {
        // `\n` in JSON or source text; the letters of `\disk` and the like are no escapes.
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f'] => true,
        // `\u003d`
        [.., b'\\', b'u', a, b, c, d] if [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()) => true,
        // `%3D`, unless it stands for a letter or digit itself.
        [.., b'%', high, low] => {
            let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (Some(high), Some(low)) = (digit(high), digit(low)) else { return false };
            let byte = high << 4 | low;
            byte.is_ascii() && !byte.is_ascii_alphanumeric()
        }
        // The `m` that ends a terminal's colour code, `ESC [ 1 ; 32 m`.
        [.., b'm'] => {
            let parameters = before[..at - 1].iter().rev().take(16);
            let end = parameters.take_while(|b| b.is_ascii_digit() || **b == b';').count();
            before[..at - 1 - end].ends_with(b"[")
        }
        _ => false,
    }
}

/// Three base64url parts, the first two of which start with `eyJ` (`{"`). A text that ends within the second or
/// third was cut off.
fn jwt(text: &[u8], start: usize, memory: &mut Memory) -> Option<usize> {
    if start < memory.no_jwt_before {
        return None;
    }
    let header = start + run(&text[start..], token);
    let payload = text[header..].strip_prefix(b".").filter(|p| p.starts_with(b"eyJ"));
    let end = payload.and_then(|payload| {
        let end = header + 1 + run(payload, token);
        let signature = text[end..].strip_prefix(b".");
        match signature {
            None => (end == text.len()).then_some(end),
            Some(signature) => Some(end + 1 + run(signature, token)),
        }
    });
    if end.is_none() {
        // Every later start within this run of base64url would find the same end.
        memory.no_jwt_before = header;
    }
    end
}

/// Bytes of base64 without a break that tell a key from the mere mention of its first line.
const KEY_LINE: usize = 24;

/// Bytes that a key may have between its first and last line.
const KEY_LENGTH: usize = 32 * 1024;

/// The length of a private key after `-----BEGIN `, with its last line if that is there. The lines may be separated
/// by escapes, line numbers or marks of quotation.
fn pem(tail: &[u8]) -> Option<usize> {
    let label = tail.iter().take(48).take_while(|b| upper(**b) || **b == b' ').count();
    let kind = &tail[..label];
    if !kind.ends_with(b"PRIVATE KEY") && !kind.ends_with(b"PRIVATE KEY BLOCK") {
        return None;
    }
    let body = tail[label..].strip_prefix(b"-----")?;
    let body_at = tail.len() - body.len();
    // No further than the next line of dashes: each byte is looked at for one block alone.
    let next = find(&body[..body.len().min(KEY_LENGTH)], b"-----");
    let closed = next.filter(|n| body[*n..].starts_with(b"-----END "));
    let length = closed.unwrap_or_else(|| {
        let stop = next.unwrap_or(body.len());
        body[..stop].iter().take_while(|b| may_be_inside(**b)).count()
    });
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    if !body[..length].split(|b| !is_base64(b)).any(|line| line.len() >= KEY_LINE) {
        return None;
    }
    let last = match closed {
        None => 0,
        Some(n) => {
            let label = &body[n + 9..];
            let length = label.iter().take(48).take_while(|b| upper(**b) || **b == b' ').count();
            9 + length + if label[length..].starts_with(b"-----") { 5 } else { 0 }
        }
    };
    Some(body_at + length + last)
}

/// What stands inside a key that has no end: base64, white space, escapes, header lines, marks of quotation.
fn may_be_inside(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || b.is_ascii_whitespace()
        || matches!(b, b'+' | b'/' | b'=' | b'\\' | b':' | b',' | b'>' | b'|' | 0x80..)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}
