//! `GET /healthz`: whether the broker answers at all.
use serde_json::json;

use crate::broker::call::Answer;

/// Anybody may ask.
pub fn get() -> Answer {
    Answer::json(200, &json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}
