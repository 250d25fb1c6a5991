//! `GET /roster`: the team, and who is and was here.
use serde_json::{Value, json};

use super::teammates;
use crate::broker::call::{Answer, Failure};
use crate::broker::presence::Seen;
use crate::broker::router::Authorized;
use crate::sys::clock::now_ms;

/// Every member, and when each was here since the broker started.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let presence = |(name, seen): (String, Seen)| {
        let mut out = json!({
            "name": name,
            "connected": seen.connected,
            "createdAt": seen.first,
            "lastSeen": seen.last,
            "role": seen.role.to_json(),
        });
        if seen.busy {
            out["busy"] = json!(true);
        }
        out
    };
    let connected: Value = at.service.presence.all(now_ms()).into_iter().map(presence).collect();
    Ok(Answer::json(200, &json!({"teammates": teammates(&at.caller.team), "connected": connected})))
}
