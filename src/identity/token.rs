//! Bearer tokens: 32 random bytes that are shown once, and the SHA-256 that stays.
use std::hint::black_box;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use crate::activity::{Invalid, Reader};
use crate::sys::random;

/// What `origin` may be.
const ORIGINS: [&str; 3] = ["bootstrap", "rotate", "enroll"];

/// What the file keeps of a token. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// A version 4 UUID.
    pub id: String,
    /// SHA-256 of the token's text.
    pub hash: [u8; 32],
    pub label: String,
    /// `bootstrap`, `rotate` or `enroll`.
    pub origin: String,
    pub created_at: u64,
    pub last_used_at: Option<u64>,
    /// The first moment at which it no longer opens anything; `None` for never.
    pub expires_at: Option<u64>,
    /// The member who asked for it; `None` if nobody was asked who they are.
    pub created_by: Option<String>,
    /// Fields this version does not know.
    pub more: Map<String, Value>,
}

/// A fresh token: the text for its owner, and what the file keeps.
pub struct Minted {
    /// `ac7_` and 43 characters of base64url. There is no second copy.
    pub text: String,
    pub token: Token,
}

/// Make a token.
#[must_use]
pub fn mint(label: &str, origin: &str, now: u64) -> Minted {
    let text = format!("ac7_{}", URL_SAFE_NO_PAD.encode(random::bytes::<32>()));
    let token = Token {
        id: random::uuid(),
        hash: hash_of(&text),
        label: label.to_string(),
        origin: origin.to_string(),
        created_at: now,
        last_used_at: None,
        expires_at: None,
        created_by: None,
        more: Map::new(),
    };
    Minted { text, token }
}

/// SHA-256 of a token's text.
#[must_use]
pub fn hash_of(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

/// Whether two hashes are equal, in a time that does not depend on where they differ. ring has deprecated its own
/// comparison; `black_box` keeps the compiler from leaving the loop early.
pub(super) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (x, y)| black_box(all | (x ^ y)));
    difference == 0
}

/// Fields of a token that are not additive.
const FIELDS: [&str; 8] =
    ["id", "hash", "label", "origin", "createdAt", "lastUsedAt", "expiresAt", "createdBy"];

impl Token {
    /// The token's JSON in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("id".into(), json!(self.id));
        out.insert("hash".into(), json!(format!("sha256:{}", random::to_hex(&self.hash))));
        out.insert("label".into(), json!(self.label));
        out.insert("origin".into(), json!(self.origin));
        out.insert("createdAt".into(), json!(self.created_at));
        if let Some(at) = self.last_used_at {
            out.insert("lastUsedAt".into(), json!(at));
        }
        if let Some(at) = self.expires_at {
            out.insert("expiresAt".into(), json!(at));
        }
        if let Some(name) = &self.created_by {
            out.insert("createdBy".into(), json!(name));
        }
        out.extend(self.more.clone());
        Value::Object(out)
    }

    pub(super) fn read(at: &Reader<'_>) -> Result<Token, Invalid> {
        let hash = at.field("hash");
        Ok(Token {
            id: at.field("id").string()?,
            hash: parse_hash(hash.str()?).ok_or_else(|| hash.invalid("is not sha256:<64 hex digits>"))?,
            label: at.field("label").string()?,
            origin: at.field("origin").one_of(&ORIGINS)?.to_string(),
            created_at: at.field("createdAt").uint()?,
            last_used_at: at.field("lastUsedAt").optional(Reader::uint)?,
            expires_at: at.field("expiresAt").optional(Reader::uint)?,
            created_by: at.field("createdBy").optional(Reader::string)?,
            more: super::team::others(at, &FIELDS),
        })
    }
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix("sha256:")?.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let nibble = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_shape_of_the_seed_and_never_repeats() {
        let (a, b) = (mint("laptop", "bootstrap", 5), mint("laptop", "bootstrap", 5));
        assert_eq!(a.text.len(), 4 + 43);
        assert!(a.text.starts_with("ac7_") && !a.text.contains('='));
        assert_ne!(a.text, b.text);
        assert_ne!(a.token.id, b.token.id);
        let id = a.token.id.as_bytes();
        assert_eq!((id.len(), id[14]), (36, b'4'));
        assert!(b"89ab".contains(&id[19]), "{}", a.token.id);
        assert!(same(&a.token.hash, &hash_of(&a.text)));
        assert!(!same(&a.token.hash, &b.token.hash));
        assert!(!a.token.to_json().to_string().contains(&a.text));
    }

    #[test]
    fn hash_of_is_plain_sha256() {
        // FIPS 180-2, the one-block message "abc".
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(random::to_hex(&hash_of("abc")), want);
        assert_eq!(parse_hash(&format!("sha256:{want}")), Some(hash_of("abc")));
        let (short, letters) = (format!("sha256:{}", &want[1..]), format!("sha256:{}", "g".repeat(64)));
        for bad in [want, "sha1:00", short.as_str(), letters.as_str()] {
            assert_eq!(parse_hash(bad), None, "{bad}");
        }
    }
}
