//! The binary framing of Amazon's `application/vnd.amazon.eventstream`, over a slice.
//!
//! A message: total length (4 bytes), length of the headers (4), checksum of these (4), headers, payload, checksum
//! of the whole (4); big endian. The checksums are not verified: the bytes come from a TLS record, and a broken
//! length is found out at the next message.

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Headers whose value is a string, in wire order.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    pub payload: &'a [u8],
    /// Offset in the slice just past the message.
    pub end: usize,
}

impl<'a> Frame<'a> {
    /// The header `name` (`:event-type`, `:message-type`, `:exception-type`), lossily decoded; empty if absent.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(n, _)| *n == name.as_bytes());
        found.map_or_else(String::new, |(_, v)| String::from_utf8_lossy(v).into_owned())
    }
}

/// The complete messages of `bytes`, up to the first that makes no sense.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = frame(bytes, at)?;
        at = frame.end;
        Some(frame)
    })
}

fn frame(bytes: &[u8], at: usize) -> Option<Frame<'_>> {
    let rest = bytes.get(at..)?;
    let total = number(rest.get(..4)?);
    let head = number(rest.get(4..8)?);
    let payload_at = head.checked_add(12)?;
    let payload_end = total.checked_sub(4)?;
    rest.get(..total)?;
    let headers = headers(rest.get(12..payload_at)?)?;
    Some(Frame { headers, payload: rest.get(payload_at..payload_end)?, end: at + total })
}

/// A big-endian number of at most 4 bytes.
fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
}

fn headers(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut out = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*length))?;
        let (kind, rest) = rest.split_first()?;
        let (rest, size) = match kind {
            0 | 1 => (rest, 0),
            2 => (rest, 1),
            3 => (rest, 2),
            4 => (rest, 4),
            5 | 8 => (rest, 8),
            6 | 7 => (rest.get(2..)?, number(rest.get(..2)?)),
            9 => (rest, 16),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(size)?;
        if *kind == 7 {
            out.push((name, value));
        }
        bytes = rest;
    }
    Some(out)
}

/// A message with string headers and zero checksums, for tests.
#[cfg(test)]
pub(super) fn encode(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let mut out = Vec::new();
    for length in [head.len() + payload.len() + 16, head.len()] {
        out.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.extend_from_slice(&[0; 4]);
    out
}

#[cfg(test)]
mod tests {
    use super::{encode, frames};

    #[test]
    fn messages_are_told_apart_and_a_cut_one_is_left_out() {
        let mut bytes = encode(&[(":event-type", "chunk"), (":message-type", "event")], b"{}");
        let first = bytes.len();
        bytes.extend(encode(&[], b"second"));
        let whole = bytes.len();
        let got: Vec<_> =
            frames(&bytes).map(|f| (f.header(":event-type"), f.payload.to_vec(), f.end)).collect();
        let want = [("chunk".to_string(), b"{}".to_vec(), first), (String::new(), b"second".to_vec(), whole)];
        assert_eq!(got, want);
        for cut in 0..whole {
            assert_eq!(frames(&bytes[..cut]).count(), usize::from(cut >= first), "cut at {cut}");
        }
    }

    #[test]
    fn headers_of_every_type_are_skipped_over() {
        let values: [(u8, &[u8]); 9] = [
            (0, b""),
            (1, b""),
            (2, b"1"),
            (3, b"12"),
            (4, b"1234"),
            (5, b"12345678"),
            (6, b"\0\x02ab"),
            (8, b"12345678"),
            (9, b"1234567890123456"),
        ];
        let mut head = Vec::new();
        for (kind, value) in values {
            head.extend_from_slice(&[1, b'x', kind]);
            head.extend_from_slice(value);
        }
        head.extend_from_slice(b"\x01s\x07\0\x02ok");
        let mut bytes = Vec::new();
        for length in [head.len() + 16, head.len()] {
            bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&[0; 4]);
        let got: Vec<_> = frames(&bytes).map(|f| f.header("s")).collect();
        assert_eq!(got, ["ok"]);
    }

    #[test]
    fn nonsense_ends_the_stream() {
        for bytes in [
            &b"\0\0\0\x03\0\0\0\0aaaaaaaaaaaa"[..],
            b"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
            b"\0\0\0\x10\0\0\0\x09aaaaaaaaaaaa",
        ] {
            assert_eq!(frames(bytes).count(), 0);
        }
        let mut unknown_type = encode(&[("a", "b")], b"");
        unknown_type[14] = 99;
        assert_eq!(frames(&unknown_type).count(), 0);
    }
}
