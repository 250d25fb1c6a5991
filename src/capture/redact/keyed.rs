//! Secrets that are known by the name they are sent under, in JSON and in forms.
//!
//! The scan is lexical, since a preview may be cut off anywhere and may hold JSON inside a JSON string: there every
//! quote has a backslash before it, one level deeper three, and so on.
use super::REDACTED;

/// Names compared in lower case without `_` and `-`, which takes in `accessToken` and `access-token`.
const NAMES: [&str; 15] = [
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "clientsecret",
    "apikey",
    "password",
    "code",
    "codeverifier",
    // Beyond the design's list: device logins, sessions, signed URLs.
    "devicecode",
    "clientassertion",
    "sessiontoken",
    "passwd",
    "xamzsignature",
    "xamzcredential",
    "xamzsecuritytoken",
];

/// Bytes of user information that are looked through for its end.
const LONGEST_LOGIN: usize = 512;

/// Bytes of the longest spelling of a name.
const LONGEST: usize = 20;

/// Replace the values of all [`NAMES`] and the logins of URLs in `text` and say how many there were.
pub fn replace(text: &mut String) -> usize {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut count, mut done, mut at) = (0, 0, 0);
    while let Some(found) = bytes[at..].iter().position(|b| matches!(b, b'"' | b'=' | b':')) {
        at += found;
        let value = match bytes[at] {
            b'"' => json_value(bytes, at).unwrap_or((at + 1, at + 1)),
            b':' => login(bytes, at).unwrap_or((at + 1, at + 1)),
            _ => form_value(bytes, at).unwrap_or((at + 1, at + 1)),
        };
        let (start, end) = value;
        at = end;
        if start < end && &text[start..end] != REDACTED {
            out.push_str(&text[done..start]);
            out.push_str(REDACTED);
            (count, done) = (count + 1, end);
        }
    }
    if count > 0 {
        out.push_str(&text[done..]);
        *text = out;
    }
    count
}

/// Whether `name` is one of [`NAMES`].
fn is_secret(name: &[u8]) -> bool {
    let plain = || name.iter().filter(|b| !matches!(b, b'_' | b'-')).map(u8::to_ascii_lowercase);
    NAMES.iter().any(|n| plain().eq(n.bytes()))
}

fn is_name(b: u8) -> bool {
    b.is_ascii_alphabetic() || matches!(b, b'_' | b'-')
}

/// The length of the run of backslashes that ends at `at`.
fn backslashes(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rev().take_while(|b| **b == b'\\').count()
}

/// The value of a secret name that the quote at `quote` opens: the inside of a string, or a number.
fn json_value(bytes: &[u8], quote: usize) -> Option<(usize, usize)> {
    let rest = &bytes[quote + 1..];
    let length = rest.iter().take(LONGEST + 1).take_while(|b| is_name(**b)).count();
    let name = &rest[..length];
    if !is_secret(name) {
        return None;
    }
    let level = backslashes(bytes, quote);
    let mut at = quote + 1 + length;
    at = escaped_quote(bytes, at, level)?;
    at += white_space(&bytes[at..]);
    at = (bytes.get(at) == Some(&b':')).then_some(at + 1)?;
    at += white_space(&bytes[at..]);
    if let Some(start) = escaped_quote(bytes, at, level) {
        return Some((start, string_end(bytes, start, level)));
    }
    // `code` is also what errors and exit states have, as a number.
    let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0 && !name.eq_ignore_ascii_case(b"code")).then_some((at, at + digits))
}

fn white_space(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_whitespace()).count()
}

/// The offset past a quote with `level` backslashes before it.
fn escaped_quote(bytes: &[u8], at: usize, level: usize) -> Option<usize> {
    let end = at + level;
    let slashes = bytes.get(at..end)?;
    (slashes.iter().all(|b| *b == b'\\') && bytes.get(end) == Some(&b'"')).then_some(end + 1)
}

/// Where a string ends that began at `start`: before the quote (and its backslashes) that closes it, or at the end
/// of the text. A quote inside it has more backslashes; one with fewer closes a string further out.
fn string_end(bytes: &[u8], start: usize, level: usize) -> usize {
    let mut run = 0;
    for (i, b) in bytes[start..].iter().enumerate() {
        match b {
            b'\\' => run += 1,
            b'"' if run < level || run % (2 * (level + 1)) == level => return start + i - run.min(level),
            _ => run = 0,
        }
    }
    bytes.len()
}

/// The value of a secret name that ends before the equals sign at `equals`, in a form or a query.
fn form_value(bytes: &[u8], equals: usize) -> Option<(usize, usize)> {
    let length = bytes[..equals].iter().rev().take(LONGEST + 1).take_while(|b| is_name(**b)).count();
    let begins = equals - length;
    let is_field = begins == 0 || matches!(bytes[begins - 1], b'&' | b'?' | b'#' | b';');
    if !is_field || !is_secret(&bytes[begins..equals]) {
        return None;
    }
    let ends =
        |b: &u8| b.is_ascii_whitespace() || matches!(b, b'&' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\');
    let value = bytes[equals + 1..].iter().take_while(|b| !ends(b)).count();
    Some((equals + 1, equals + 1 + value))
}

/// The user information of the URL whose scheme the colon at `colon` ends: `user:password` of `//user:password@host`
/// (RFC 3986 §3.2.1).
fn login(bytes: &[u8], colon: usize) -> Option<(usize, usize)> {
    let rest = bytes[colon + 1..].strip_prefix(b"//")?;
    let start = bytes.len() - rest.len();
    let ends = |b: &u8| b.is_ascii_whitespace() || b"/?#\"'<>\\".contains(b);
    let place = rest.split(ends).next().unwrap_or_default();
    let length = place[..place.len().min(LONGEST_LOGIN)].iter().rposition(|b| *b == b'@')?;
    (length > 0).then_some((start, start + length))
}
