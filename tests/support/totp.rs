//! One-time codes, as an authenticator makes them.
use ring::hmac;

/// The code of a step, made from RFC 6238 anew: the broker must agree with somebody else than itself.
#[must_use]
pub fn code(secret: &str, step: u64) -> String {
    let bits: String = secret
        .bytes()
        .map(|c| b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|a| *a == c).unwrap())
        .map(|n| format!("{n:05b}"))
        .collect();
    let key: Vec<u8> =
        (0..bits.len() / 8).map(|i| u8::from_str_radix(&bits[8 * i..8 * i + 8], 2).unwrap()).collect();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key), &step.to_be_bytes());
    let mac = tag.as_ref();
    let at = usize::from(mac[19] & 15);
    let word = u32::from_be_bytes(mac[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}
