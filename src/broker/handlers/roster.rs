//! `GET /roster`: the team, and who was here.
use serde_json::{Value, json};

use super::teammates;
use crate::broker::call::{Answer, Failure};
use crate::broker::presence::Seen;
use crate::broker::router::Authorized;

/// Every member, and when each was here since the broker started.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let presence = |(name, seen): (String, Seen)| {
        let role = seen.role.to_json();
        // No request holds a stream yet, so nobody is connected between requests.
        json!({"name": name, "connected": 0, "createdAt": seen.first, "lastSeen": seen.last, "role": role})
    };
    let connected: Value = at.service.presence.all().into_iter().map(presence).collect();
    Ok(Answer::json(200, &json!({"teammates": teammates(&at.caller.team), "connected": connected})))
}
