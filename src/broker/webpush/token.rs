//! What tells a push service who sends (VAPID, RFC 8292): a signed claim for its origin alone.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::identity::VapidKeys;

/// How long a claim counts, s; a push service takes 24 h at most.
const LIFE: u64 = 12 * 3600;
/// Whom a push service may write to where the team file does not say.
const NOBODY: &str = "mailto:ac7@localhost";

/// The value of `Authorization` for a push service at `origin` (`https://host[:port]`).
pub fn authorization(
    keys: &VapidKeys,
    public: &str,
    subject: Option<&str>,
    origin: &str,
    now_ms: u64,
) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"aud": origin, "exp": now_ms / 1000 + LIFE, "sub": subject.unwrap_or(NOBODY)});
    let text = format!("{}.{}", part(json!({"typ": "JWT", "alg": "ES256"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(keys.sign(text.as_bytes()));
    format!("vapid t={text}.{signature}, k={public}")
}
