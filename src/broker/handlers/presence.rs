//! `/presence`: what a runner tells about its member.
use super::object;
use crate::activity::Reader;
use crate::broker::auth::Credential;
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::sys::clock::now_ms;

/// `POST /presence/busy`: whether a model call is in flight. It counts for 30 s, so a runner that is gone is not busy
/// for ever. A person at a browser has no model calls.
pub fn busy(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    if !matches!(at.caller.by, Credential::Token { .. }) {
        let reason = "saying whether a member is busy is for its runner, which has a token";
        return Err(Failure::Forbidden(reason.to_string()));
    }
    let busy = Reader::new(&object(&at.body)?).field("busy").bool().map_err(Failure::invalid)?;
    at.service.presence.says_busy(&at.caller.member().name, busy, now_ms());
    Ok(Answer::empty())
}
