//! `GET /healthz` and `GET /health`: whether the broker answers at all, and whether it works.
use serde_json::{Value, json};

use super::{fields, presence};
use crate::broker::auth::Caller;
use crate::broker::call::{Answer, Call};
use crate::broker::router::Service;
use crate::identity::Permission;
use crate::sys::clock::now_ms;
use crate::sys::localtime::Zone;

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

/// What monitors of other daemons expect. Whose runners work how much is for those with a token that may read activity.
pub fn whole(service: &Service, call: &Call) -> Answer {
    let works = service.main.is_readable();
    let now = now_ms();
    let at = Zone::utc().local(now);
    let caller =
        call.headers.get("authorization").and_then(|_| Caller::authenticate(service, call, now).ok());
    let reads = |caller: &Caller| caller.must_hold(Permission::ActivityRead, "").is_ok();
    let agents = match caller.filter(reads) {
        Some(_) => presence::rows(&service.presence, None),
        None => json!([]),
    };
    let health = json!({
        "status": if works { "ok" } else { "degraded" },
        "db": if works { "ok" } else { "error" },
        "version": env!("CARGO_PKG_VERSION"),
        "timestamp": format!("{}T{}Z", at.date(), at.clock()),
        "uptime": service.counters.uptime_s(),
        "node": {"id": "ac7", "name": "ac7"},
        "agents": agents,
        "crons": [],
        "mesh": [],
    });
    Answer::json(if works { 200 } else { 503 }, &health)
}
