//! `/presence` and `/agents`: what a runner tells about its member, and what is known of all.
use serde_json::{Value, json};

use super::object;
use crate::activity::{Invalid, Reader};
use crate::broker::auth::Credential;
use crate::broker::call::{Answer, Failure};
use crate::broker::presence::{Presence, Seen, Work};
use crate::broker::router::Authorized;
use crate::identity::Permission;
use crate::sys::clock::now_ms;

/// The longest name of a kind of runner.
const MOST_RUNNER: usize = 32;

/// `POST /presence/busy`: whether a model call is in flight, and what the session amounts to. It counts for 30 s, so a
/// runner that is gone is not busy for ever. A person at a browser has no model calls.
pub fn busy(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    if !matches!(at.caller.by, Credential::Token { .. }) {
        let reason = "saying whether a member is busy is for its runner, which has a token";
        return Err(Failure::Forbidden(reason.to_string()));
    }
    let body = object(&at.body)?;
    let (busy, work) = statement(&Reader::new(&body)).map_err(Failure::invalid)?;
    at.service.presence.says_busy(&at.caller.member().name, busy, work, now_ms());
    Ok(Answer::empty())
}

/// Runners of earlier versions say nothing but `busy`, which is one call then.
fn statement(body: &Reader<'_>) -> Result<(bool, Work), Invalid> {
    let busy = body.field("busy").bool()?;
    let count = |name: &str, else_: u64| {
        let field = body.field(name);
        if field.present().is_some() { field.uint() } else { Ok(else_) }
    };
    let runner = body.field("runner");
    let work = Work {
        runner: runner.present().map(|_| runner.line(1, MOST_RUNNER)).transpose()?,
        active: count("active", busy.into())?,
        total: count("total", 0)?,
        errors: count("errors", 0)?,
        queued: count("queued", 0)?,
        dropped: count("dropped", 0)?,
    };
    Ok((busy, work))
}

/// `GET /agents`: what each member's runner has said of its session. Without activity.read it is the caller's own alone.
pub fn agents(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let all = at.caller.must_hold(Permission::ActivityRead, "").is_ok();
    let only = if all { None } else { Some(at.caller.member().name.as_str()) };
    Ok(Answer::json(200, &rows(&at.service.presence, only)))
}

/// The rows of `GET /agents`: all of them, or that of one member.
pub fn rows(presence: &Presence, only: Option<&str>) -> Value {
    let row = |(name, seen): (String, Seen)| {
        let Seen { worked, work, .. } = seen;
        json!({
            "id": name,
            "name": name,
            "tier": work.runner,
            "active": work.active,
            "total": work.total,
            "errors": work.errors,
            "lastActive": worked,
            "queued": work.queued,
            "dropped": work.dropped,
        })
    };
    let wanted = |(name, _): &(String, Seen)| only.is_none_or(|only| only == name);
    presence.all(now_ms()).into_iter().filter(wanted).map(row).collect()
}
