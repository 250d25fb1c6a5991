//! Text of a trace made safe and fitted for a terminal.
//!
//! A trace holds what a stranger wrote. It may not move the cursor, colour, ring, set titles or turn lines round:
//! every control, bidirectional and invisible tag character is shown as an escape.

/// Whether a character could do more to a terminal than stand there.
fn dangerous(c: char) -> bool {
    c.is_control() // C0, DEL and C1
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // bidirectional
            | '\u{fff9}'..='\u{fffb}' // interlinear annotation
            | '\u{e0000}'..='\u{e007f}') // tags: text that no one sees
}

fn escape_char(c: char, utf8: bool, out: &mut String) {
    use std::fmt::Write;
    if !dangerous(c) && (utf8 || c.is_ascii()) {
        out.push(c);
        return;
    }
    let _ = match u32::from(c) {
        code @ 0..=0xff => write!(out, "\\x{code:02x}"),
        code => write!(out, "\\u{{{code:x}}}"),
    };
}

/// One line: line breaks and runs of white space become one space, everything dangerous an escape.
#[must_use]
pub fn line(text: &str, utf8: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        word.chars().for_each(|c| escape_char(c, utf8, &mut out));
    }
    out
}

/// Several lines: line breaks stay, a tab becomes spaces up to the next multiple of four, the rest is escaped.
#[must_use]
pub fn block(text: &str, utf8: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.replace("\r\n", "\n").chars() {
        let before = out.len();
        match c {
            '\n' => out.push('\n'),
            '\t' => out.extend(std::iter::repeat_n(' ', 4 - column % 4)),
            c => escape_char(c, utf8, &mut out),
        }
        column = if c == '\n' { 0 } else { column + width(&out[before..]) };
    }
    out
}

/// JSON text with the same characters written as `\u` and four digits: the same value, harmless on a terminal.
///
/// Inside JSON strings C0 characters are escaped already; outside they are white space, of which line breaks stay.
#[must_use]
pub fn json(text: &str) -> String {
    use std::fmt::Write;
    if !text.chars().any(|c| dangerous(c) && c != '\n') {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            '\0'..' ' => out.push(' '),
            c if dangerous(c) => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _ = write!(out, "\\u{unit:04x}");
            }),
            c => out.push(c),
        }
    }
    out
}

/// As [`json`], in one line.
#[must_use]
pub fn json_line(text: &str) -> String {
    json(text).replace('\n', " ")
}

/// Columns that a character takes: 0 for combining marks, 2 for East Asian wide ones and emoji (Unicode TR 11, in
/// ranges coarse enough to be read), else 1.
fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f | 0xfeff => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns that a text without line breaks takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// At most `columns` of `text`; what is cut off is shown by an ellipsis.
#[must_use]
pub fn cut(text: &str, columns: usize, utf8: bool) -> String {
    if width(text) <= columns {
        return text.to_string();
    }
    let ellipsis = if utf8 { "\u{2026}" } else { "..." };
    let mut left = columns.saturating_sub(width(ellipsis));
    let mut out = String::new();
    for c in text.chars() {
        match left.checked_sub(char_width(c)) {
            Some(rest) => left = rest,
            None => break,
        }
        out.push(c);
    }
    out.truncate(out.trim_end().len());
    out + ellipsis
}

/// `text` filled up with spaces to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let fill = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(fill))
}

/// Rows of cells as lines: each column as wide as its widest cell, those from column `numbers` on to the right.
#[must_use]
pub fn columns(rows: &[Vec<String>], numbers: usize) -> Vec<String> {
    let count = rows.first().map_or(0, Vec::len);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| self::width(cell)).max();
    let widths: Vec<usize> = (0..count).map(|i| width(i).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            let fill = " ".repeat(width - self::width(cell));
            if i < numbers { format!("{cell}{fill}") } else { format!("{fill}{cell}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

/// `text` in lines of at most `columns`, broken at spaces; a longer word stands alone.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let wide = width(word);
        if used > 0 && used + 1 + wide > columns {
            lines.push(String::new());
            used = 0;
        }
        let Some(last) = lines.last_mut() else { break };
        if used > 0 {
            last.push(' ');
            used += 1;
        }
        last.push_str(word);
        used += wide;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_dangerous_comes_through() {
        let hostile: String = (0..0x20u8)
            .map(char::from)
            .chain(('\u{7f}'..='\u{9f}').chain("\u{202e}\u{2066}\u{e0041}".chars()))
            .collect();
        for shown in [line(&hostile, true), block(&hostile, true), line(&hostile, false), json(&hostile)] {
            assert!(!shown.chars().any(|c| dangerous(c) && c != '\n'), "{shown:?}");
        }
        assert_eq!(line("\u{1b}]0;x\u{7}", true), "\\x1b]0;x\\x07");
        assert_eq!(line("a\u{202e}b\u{9b}", true), "a\\u{202e}b\\x9b");
        assert_eq!(block("a\rb\r\n\tc", true), "a\\x0db\n    c");
        assert_eq!(line("  two\n\nlines\t ", true), "two lines");
        assert_eq!(line("caf\u{e9} \u{4f60}", true), "caf\u{e9} \u{4f60}");
        assert_eq!(line("caf\u{e9} \u{4f60}", false), "caf\\xe9 \\u{4f60}");
    }

    #[test]
    fn escaped_json_is_the_same_value() {
        let value = serde_json::json!({"a\u{202e}": ["\u{9b}31m", "\u{e0041}", "ok \u{2713}", "\u{1b}"]});
        let text = json(&value.to_string());
        assert!(!text.chars().any(dangerous), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.contains("ok \u{2713}"));
        let spaced = json_line("{\r\n\t\"a\": \"\u{85}\"}");
        assert!(!spaced.contains(dangerous), "{spaced:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&spaced).unwrap(),
            serde_json::json!({"a": "\u{85}"})
        );
    }

    #[test]
    fn columns() {
        assert_eq!(width("a\u{301}\u{4f60}\u{1f600}"), 5);
        for (text, columns, utf8, want) in [
            ("short", 5, true, "short"),
            ("longer", 5, true, "long\u{2026}"),
            ("longer", 5, false, "lo..."),
            ("\u{4f60}\u{597d}\u{4f60}", 4, true, "\u{4f60}\u{2026}"),
            ("a bcdef", 3, true, "a\u{2026}"),
        ] {
            assert_eq!(cut(text, columns, utf8), want);
        }
        assert_eq!(pad("\u{4f60}", 4), "\u{4f60}  ");
        assert_eq!(wrap("one two three incomprehensible", 8), ["one two", "three", "incomprehensible"]);
        assert_eq!(wrap("", 8), [""]);
    }
}
