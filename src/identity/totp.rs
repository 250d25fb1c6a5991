//! One-time codes (RFC 6238): SHA-1, six digits, steps of 30 s, one step early or late.
use std::fmt::Write;

use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use super::{Error, KekPlace};
use crate::sys::random;

/// The length of a step, ms.
const STEP_MS: u64 = 30_000;

/// Bytes of a secret: those of a SHA-1 (RFC 4226 §4 recommends so many).
const SECRET: usize = 20;

/// The member's field in the team file.
pub(super) const FIELD: &str = "totpSecret";

/// A secret that an authenticator and the broker share.
pub struct TotpSecret([u8; SECRET]);

impl Drop for TotpSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl TotpSecret {
    /// A fresh one.
    #[must_use]
    pub fn new() -> TotpSecret {
        TotpSecret(random::bytes())
    }

    /// From its base32 text, as [`TotpSecret::base32`] gives it.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<TotpSecret> {
        let (mut bits, mut held, mut out) = (0_u32, 0_u32, Zeroizing::new(Vec::with_capacity(text.len())));
        for byte in text {
            let value = ALPHABET.iter().position(|c| c == byte)?;
            bits = bits << 5 | u32::try_from(value).ok()?;
            held += 5;
            if held >= 8 {
                held -= 8;
                out.push(u8::try_from(bits >> held & 0xff).ok()?);
            }
        }
        out.as_slice().try_into().ok().map(TotpSecret)
    }

    /// The secret sealed for a member, as [`Member::totp_secret`](super::Member::totp_secret) takes it.
    ///
    /// # Errors
    /// There is no key to seal with.
    pub fn seal(&self, kek: &KekPlace, member: &str) -> Result<Value, Error> {
        Ok(kek.for_sealing()?.seal(member, FIELD, Zeroizing::new(self.base32()).as_bytes()))
    }

    /// The secret as authenticators take it: base32 (RFC 4648 §6), 32 characters, no padding.
    #[must_use]
    pub fn base32(&self) -> String {
        let (mut bits, mut held, mut out) = (0_u32, 0_u32, String::new());
        for byte in self.0 {
            bits = bits << 8 | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                out.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
            }
        }
        out
    }

    /// The `otpauth:` URI that authenticators read from a QR code, labelled `team:member`.
    #[must_use]
    pub fn uri(&self, team: &str, member: &str) -> String {
        let (team, member) = (escaped(team), escaped(member));
        format!(
            "otpauth://totp/{team}:{member}?secret={}&issuer={team}&algorithm=SHA1&digits=6&period=30",
            self.base32()
        )
    }

    /// The step of which `code` is the code, if it is the one of now (ms since the epoch) or a neighbour of it.
    ///
    /// It always computes all three; whether the step may still be used is for the caller to know.
    #[must_use]
    pub fn step_of(&self, code: &str, now_ms: u64) -> Option<u64> {
        let now = now_ms / STEP_MS;
        let mut found = None;
        for step in now.saturating_sub(1)..=now + 1 {
            // Which digits differ tells nothing that the answer itself does not.
            if self.code(step) == code {
                found = Some(step);
            }
        }
        found
    }

    /// The code of a step (RFC 4226 §5.3).
    fn code(&self, step: u64) -> String {
        let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = sign(&key, &step.to_be_bytes());
        let mac = tag.as_ref();
        let at = usize::from(mac[mac.len() - 1] & 15);
        let number = u32::from_be_bytes([mac[at] & 0x7f, mac[at + 1], mac[at + 2], mac[at + 3]]);
        format!("{:06}", number % 1_000_000)
    }
}

impl Default for TotpSecret {
    fn default() -> TotpSecret {
        TotpSecret::new()
    }
}

/// Whether something has the form of a code.
#[must_use]
pub fn is_code(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit())
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Percent-encoded but for unreserved characters (RFC 3986 §2.3).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the last six of its eight digits.
        let secret = TotpSecret(*b"12345678901234567890");
        for (seconds, want) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let now = seconds * 1000;
            assert_eq!(secret.code(now / STEP_MS), want, "{seconds}");
            for (at, good) in [
                (now - STEP_MS, true),
                (now, true),
                (now + STEP_MS, true),
                (now + 2 * STEP_MS, false),
                (now.saturating_sub(2 * STEP_MS), now < STEP_MS * 2),
            ] {
                let step = secret.step_of(want, at);
                assert_eq!(step, good.then_some(now / STEP_MS), "{seconds} at {at}");
            }
        }
        for wrong in ["", "28708", "2870820", "287083", "٢٨٧٠٨٢"] {
            assert_eq!(secret.step_of(wrong, 59_000), None, "{wrong}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        let secret = TotpSecret(*b"12345678901234567890");
        assert_eq!(secret.base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for _ in 0..50 {
            let fresh = TotpSecret::new();
            assert_eq!(TotpSecret::parse(fresh.base32().as_bytes()).unwrap().0, fresh.0);
        }
        for bad in ["", "GEZDGNBVGY3TQOJQ", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJ1"] {
            assert!(TotpSecret::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_uri_escapes_what_is_special() {
        let secret = TotpSecret(*b"12345678901234567890");
        assert_eq!(
            secret.uri("A & B", "ann.x"),
            "otpauth://totp/A%20%26%20B:ann.x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=A%20%26%20B\
             &algorithm=SHA1&digits=6&period=30"
        );
    }

    #[test]
    fn six_digits_are_a_code() {
        for (text, want) in [("000000", true), ("12345", false), ("1234567", false), ("12345a", false)] {
            assert_eq!(is_code(text), want, "{text}");
        }
    }
}
