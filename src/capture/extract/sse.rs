//! Server-sent events as the WHATWG HTML standard parses them (§9.2.6), over a slice.
use std::borrow::Cow;

/// One dispatched event.
#[derive(Debug, PartialEq, Eq)]
pub struct SseEvent<'a> {
    /// The `event` field; empty where none was sent.
    pub name: &'a [u8],
    /// The `data` lines joined with `\n`. The bytes are as they came, also where they are not UTF-8.
    pub data: Cow<'a, [u8]>,
    /// Offset in the slice just past the blank line that dispatched the event.
    pub end: usize,
}

/// The events of `bytes`. What follows the last blank line is not an event, as the standard says.
#[must_use]
pub fn events(bytes: &[u8]) -> SseEvents<'_> {
    let at = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    SseEvents { bytes, at }
}

/// Iterator over events; linear in the slice.
#[derive(Debug)]
pub struct SseEvents<'a> {
    bytes: &'a [u8],
    /// Start of the next line; `at <= bytes.len()`.
    at: usize,
}

impl<'a> SseEvents<'a> {
    /// The next line without its end (CRLF, LF or CR); `None` where no complete line is left.
    fn line(&mut self) -> Option<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|b| matches!(b, b'\n' | b'\r'))?;
        let end = if rest[length..].starts_with(b"\r\n") { 2 } else { 1 };
        self.at += length + end;
        Some(&rest[..length])
    }
}

impl<'a> Iterator for SseEvents<'a> {
    type Item = SseEvent<'a>;

    fn next(&mut self) -> Option<SseEvent<'a>> {
        let mut name: &[u8] = b"";
        let mut data: Option<Cow<'a, [u8]>> = None;
        while let Some(line) = self.line() {
            if line.is_empty() {
                if let Some(data) = data.take() {
                    return Some(SseEvent { name, data, end: self.at });
                }
                name = b"";
                continue;
            }
            // A line that starts with a colon has an empty field name and is a comment.
            let colon = line.iter().position(|b| *b == b':');
            let (field, value) = match colon {
                Some(at) => (&line[..at], &line[at + 1..]),
                None => (line, &line[line.len()..]),
            };
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match field {
                b"event" => name = value,
                b"data" => match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(before) => {
                        let before = before.to_mut();
                        before.push(b'\n');
                        before.extend_from_slice(value);
                    }
                },
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::events;

    fn read(text: &[u8]) -> Vec<(String, String, usize)> {
        let text_of = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        events(text).map(|e| (text_of(e.name), text_of(&e.data), e.end)).collect()
    }

    #[test]
    fn the_standard_in_a_table() {
        type Want = &'static [(&'static str, &'static str, usize)];
        let table: &[(&[u8], Want)] = &[
            (b"", &[]),
            (b"data: a\n\n", &[("", "a", 9)]),
            (b"data:a\r\n\r\n", &[("", "a", 10)]),
            (b"data:a\r\r", &[("", "a", 8)]),
            (b"data:  a\n\n", &[("", " a", 10)]),
            (b"\xEF\xBB\xBFdata: a\n\n", &[("", "a", 12)]),
            (b"event: x\ndata: a\n\ndata: b\n\n", &[("x", "a", 18), ("", "b", 27)]),
            (b"data: a\ndata: b\ndata\n\n", &[("", "a\nb\n", 22)]),
            (b": ping\n\ndata: a\n:\n\n", &[("", "a", 19)]),
            (b"event: lost\n\ndata: a\n\n", &[("", "a", 22)]),
            (b"event: a\nevent: b\ndata\n\n", &[("b", "", 24)]),
            (b"id: 1\nretry: 5\nDATA: x\nother\ndata: a\n\n", &[("", "a", 38)]),
            (b"data: a\n\ndata: not dispatched\n", &[("", "a", 9)]),
            (b"data: a\n\ndata: not ended", &[("", "a", 9)]),
            (b"data: a: b\n\n", &[("", "a: b", 12)]),
            (b"data: \xFF\n\n", &[("", "\u{FFFD}", 9)]),
            (b"data: a\r\n\r\ndata: b\n\r\n", &[("", "a", 11), ("", "b", 21)]),
        ];
        for (text, want) in table {
            let got = read(text);
            let got: Vec<_> = got.iter().map(|(n, d, e)| (n.as_str(), d.as_str(), *e)).collect();
            assert_eq!(got, *want, "{}", String::from_utf8_lossy(text));
        }
    }
}
