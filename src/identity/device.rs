//! The two codes of a device that asks for a token (RFC 8628): a secret for the device itself, and a short one that
//! people read to each other.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::token::hash_of;
use crate::sys::random;

/// What people are not likely to mistake for each other (Crockford's base32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

const PREFIX: &str = "ac7-dc_";

/// Characters of a user code, without its dash.
const USER_CODE: usize = 8;

/// The code of a device; whoever has it gets the token.
pub struct DeviceCode {
    /// `ac7-dc_` and 43 characters of base64url. There is no second copy.
    pub text: String,
    pub hash: [u8; 32],
}

impl DeviceCode {
    /// A fresh one.
    #[must_use]
    pub fn mint() -> DeviceCode {
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::bytes::<32>()));
        DeviceCode { hash: hash_of(&text), text }
    }

    /// The hash of a code that a device shows; `None` for what can be none.
    #[must_use]
    pub fn hash(text: &str) -> Option<[u8; 32]> {
        let rest = text.strip_prefix(PREFIX)?;
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        ((40..=64).contains(&rest.len()) && rest.bytes().all(good)).then(|| hash_of(text))
    }
}

/// A fresh code for people: four characters, a hyphen, four more.
#[must_use]
pub fn user_code() -> String {
    let letters = random::bytes::<USER_CODE>().map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    dashed(&letters)
}

/// The code that somebody typed, as it was shown: without regard to case, dashes and spaces, and with O for 0 and I or
/// L for 1. `None` if it cannot be one.
#[must_use]
pub fn parse_user_code(typed: &str) -> Option<String> {
    let mut letters = Vec::with_capacity(USER_CODE);
    for c in typed.chars().filter(|c| !matches!(c, '-' | ' ')) {
        let c = match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c => c,
        };
        letters.push(ALPHABET.iter().map(|b| char::from(*b)).find(|letter| *letter == c)?);
    }
    (letters.len() == USER_CODE).then(|| dashed(&letters))
}

fn dashed(letters: &[char]) -> String {
    let (front, back) = letters.split_at(USER_CODE / 2);
    front.iter().chain(&['-']).chain(back).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_shape_of_the_contract() {
        let (a, b) = (DeviceCode::mint(), DeviceCode::mint());
        assert_eq!((a.text.len(), DeviceCode::hash(&a.text)), (7 + 43, Some(a.hash)));
        assert_ne!(a.text, b.text);
        for bad in
            ["", "ac7-dc_nope", &a.text[1..], &format!("{}!", a.text), &format!("ac7_{}", "x".repeat(43))]
        {
            assert_eq!(DeviceCode::hash(bad), None, "{bad}");
        }
        for _ in 0..100 {
            let code = user_code();
            assert_eq!(parse_user_code(&code), Some(code));
        }
    }

    #[test]
    fn what_people_type_is_understood() {
        for (typed, want) in [
            ("ABCD-2345", Some("ABCD-2345")),
            ("abcd2345", Some("ABCD-2345")),
            (" ab cd-23 45 ", Some("ABCD-2345")),
            ("OoIi-LlZz", Some("0011-11ZZ")),
            ("ABCD-234", None),
            ("ABCD-23456", None),
            ("ABCD-234U", None),
            ("ABCD_2345", None),
            ("ÀBCD-2345", None),
            ("", None),
        ] {
            assert_eq!(parse_user_code(typed).as_deref(), want, "{typed}");
        }
    }
}
