//! Splitting a system prompt, which is one JSON string, at the parts it was sent in.
use super::walk::Span;

/// The parts of the JSON string at `span` (with its quotes), whose decoded lengths in bytes are `lengths` and which
/// are joined by one newline each. One part if the lengths do not fit or there are none; none if it is empty.
pub(super) fn system(text: &str, span: Span, lengths: &[usize]) -> Vec<Span> {
    let inner = Span { start: span.start + 1, end: span.end - 1 };
    if inner.start >= inner.end {
        return Vec::new();
    }
    parts(inner.of(text), lengths)
        .map(|parts| {
            let start = inner.start as usize;
            parts.into_iter().map(|(from, to)| Span::new(start + from, start + to)).collect()
        })
        .unwrap_or_else(|| vec![inner])
}

fn parts(inner: &str, lengths: &[usize]) -> Option<Vec<(usize, usize)>> {
    let mut out = Vec::with_capacity(lengths.len());
    let mut at = 0;
    for (i, length) in lengths.iter().enumerate() {
        if i > 0 {
            at += inner[at..].starts_with("\\n").then_some(2)?;
        }
        let from = at;
        at = advance(inner, from, *length)?;
        out.push((from, at));
    }
    (at == inner.len() && !out.is_empty()).then_some(out)
}

/// Where the text stands after `length` decoded bytes from `at` on.
fn advance(inner: &str, mut at: usize, mut length: usize) -> Option<usize> {
    let bytes = inner.as_bytes();
    while length > 0 {
        let plain = &bytes[at..bytes.len().min(at.checked_add(length)?)];
        let run = plain.iter().position(|b| *b == b'\\').unwrap_or(plain.len());
        (at, length) = (at + run, length - run);
        if length == 0 {
            break;
        }
        let (raw, decoded) = escape(&bytes[at..])?;
        (at, length) = (at + raw, length.checked_sub(decoded)?);
    }
    inner.is_char_boundary(at).then_some(at)
}

/// Length of the escape sequence here, and of what it stands for in UTF-8.
fn escape(bytes: &[u8]) -> Option<(usize, usize)> {
    let unit = |from: usize| {
        let hex = std::str::from_utf8(bytes.get(from..from + 4)?).ok()?;
        u32::from_str_radix(hex, 16).ok()
    };
    match bytes.get(..2)? {
        b"\\u" => match unit(2)? {
            0xd800..=0xdbff => {
                let low = bytes.get(6..8)? == b"\\u" && (0xdc00..=0xdfff).contains(&unit(8)?);
                low.then_some((12, 4))
            }
            code => Some((6, char::from_u32(code)?.len_utf8())),
        },
        [b'\\', _] => Some((2, 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Span, system};

    #[test]
    fn splits_where_the_decoded_lengths_say() {
        let parts = ["bill", "say \"ä\" €\n\t", "", "𝄞 end"];
        let lengths = parts.map(str::len);
        let plain = serde_json::to_string(&parts.join("\n")).unwrap();
        let escaped = plain.replace('ä', "\\u00e4").replace('€', "\\u20AC").replace('𝄞', "\\ud834\\udd1e");
        for json in [plain, escaped] {
            let text = format!("xx{json}yy");
            let found = system(&text, Span::new(2, 2 + json.len()), &lengths);
            let decoded: Vec<String> = found
                .iter()
                .map(|s| serde_json::from_str(&format!("\"{}\"", s.of(&text))).unwrap())
                .collect();
            assert_eq!(decoded, parts, "{json}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_leave_it_whole() {
        let json = r#""ab\ncd\u00e4""#;
        for lengths in [&[][..], &[2], &[2, 3], &[2, 5], &[3, 3], &[7, 0], &[usize::MAX], &[2, 4, 0]] {
            let found = system(json, Span::new(0, json.len()), lengths);
            assert_eq!(found, [Span::new(1, json.len() - 1)], "{lengths:?}");
        }
        for json in [r#""\ud800""#, r#""\ud800\u0041""#, r#""\ud800abcdef""#, r#""\u00""#] {
            for length in 1..9 {
                assert_eq!(system(json, Span::new(0, json.len()), &[length]).len(), 1, "{json}");
            }
        }
        assert_eq!(system(json, Span::new(0, json.len()), &[2, 4]).len(), 2);
        assert_eq!(system("\"\"", Span::new(0, 2), &[0]), []);
    }
}
