//! A QR code (ISO/IEC 18004) made of characters.
use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code, which scanners need.
const QUIET: i32 = 4;

/// `text` as a code, a line for each line of the terminal; `None` if it is too long for one (2953 bytes).
///
/// With `colour` it is black on white whatever the terminal's colours are; without, what is printed is the light part,
/// as most terminals are dark. Two modules share a character in UTF-8; in ASCII a module is two characters.
#[must_use]
pub fn draw(text: &str, utf8: bool, colour: bool) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    // Outside the code `get_module` says light.
    let ink = |x: i32, y: i32| code.get_module(x, y) == colour;
    let (from, to) = (-QUIET, code.size() + QUIET);
    let mut out = String::new();
    for y in (from..to).step_by(if utf8 { 2 } else { 1 }) {
        out.push_str(if colour { "\x1b[30;107m" } else { "" });
        for x in from..to {
            out.push_str(match (utf8, ink(x, y), ink(x, y + 1)) {
                (true, true, true) => "\u{2588}",
                (true, true, false) => "\u{2580}",
                (true, false, true) => "\u{2584}",
                (false, true, _) => "##",
                (true, false, false) => " ",
                (false, false, _) => "  ",
            });
        }
        out.push_str(if colour { "\x1b[0m\n" } else { "\n" });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules that a drawing shows, dark ones true, without what is around them.
    fn modules(drawn: &str, utf8: bool, colour: bool) -> Vec<Vec<bool>> {
        let mut rows: Vec<Vec<bool>> = Vec::new();
        for line in drawn.lines() {
            let line = line.trim_start_matches("\x1b[30;107m").trim_end_matches("\x1b[0m");
            let chars: Vec<char> = line.chars().step_by(if utf8 { 1 } else { 2 }).collect();
            let half = |inked: &[char]| chars.iter().map(|c| inked.contains(c) == colour).collect();
            if utf8 {
                rows.push(half(&['\u{2588}', '\u{2580}']));
                rows.push(half(&['\u{2588}', '\u{2584}']));
            } else {
                rows.push(half(&['#']));
            }
        }
        let quiet = usize::try_from(QUIET).unwrap();
        let size = rows[0].len() - 2 * quiet;
        assert!(rows[..quiet].iter().flatten().all(|dark| !dark), "the quiet zone");
        rows[quiet..quiet + size].iter().map(|row| row[quiet..quiet + size].to_vec()).collect()
    }

    #[test]
    fn a_drawing_is_the_code_in_every_style() {
        let text = "otpauth://totp/T:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=T";
        let code = QrCode::encode_text(text, QrCodeEcc::Low).unwrap();
        let want: Vec<Vec<bool>> =
            (0..code.size()).map(|y| (0..code.size()).map(|x| code.get_module(x, y)).collect()).collect();
        for (utf8, colour) in [(true, true), (true, false), (false, true), (false, false)] {
            let drawn = draw(text, utf8, colour).unwrap();
            assert_eq!(modules(&drawn, utf8, colour), want, "{utf8} {colour}");
            assert!(utf8 || drawn.is_ascii());
        }
        assert!(draw(&"x".repeat(3000), true, true).is_none());
    }
}
