//! `GET /healthz`: whether the broker answers at all.
use serde_json::{Value, json};

use super::fields;
use crate::broker::call::{Answer, Call};
use crate::broker::router::Service;

/// Anybody may ask; with `verbose` also how much there is to do, and what was turned away.
pub fn get(service: &Service, call: &Call) -> Answer {
    let mut out = fields(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}));
    if call.query.has("verbose") {
        out.extend(fields(service.counters.to_json()));
        let (main, activity) = (service.main.bytes(), service.readers.bytes());
        out.extend(fields(json!({"databases": {"main": main, "activity": activity}})));
    }
    Answer::json(200, &Value::Object(out))
}
