//! `GET /roster`: the team, and who was here.
use serde_json::{Value, json};

use super::teammates;
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;

/// Every member, and the presence of those that were seen since the broker started.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let team = &at.caller.team;
    let seen = at.service.presence.all();
    let connected: Value = seen
        .iter()
        .map(|(name, seen)| {
            let role = team.member(name).map(|m| m.role.to_json());
            // No request holds a stream yet, so nobody is connected between requests.
            json!({"name": name, "connected": 0, "createdAt": seen.first, "lastSeen": seen.last, "role": role})
        })
        .collect();
    Ok(Answer::json(200, &json!({"teammates": teammates(team), "connected": connected})))
}
