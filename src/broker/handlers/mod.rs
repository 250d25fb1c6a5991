//! One file for each resource: from a clean, authenticated request to an answer.
//!
//! Handlers open no sockets and no files; what they need is in [`Service`](super::router::Service).
pub mod activity;
pub mod briefing;
pub mod channels;
pub mod enroll;
pub mod files;
pub mod health;
pub mod history;
mod listing;
pub mod members;
pub mod objectives;
pub mod pages;
pub mod presence;
pub mod push;
pub mod reload;
pub mod roster;
pub mod session;
pub mod subscribe;
pub mod subscriptions;
pub mod team;
pub mod tokens;
pub mod usage;

use serde_json::{Map, Value, json};

use super::call::Failure;
use crate::identity::{Member, TeamFile};

/// A member as everybody may see it.
fn teammate(team: &TeamFile, member: &Member) -> Value {
    let permissions: Vec<_> = team.permissions(member).iter().map(|p| p.name()).collect();
    json!({"name": member.name, "role": member.role.to_json(), "permissions": permissions})
}

/// All members as everybody may see them.
fn teammates(team: &TeamFile) -> Value {
    team.members.iter().map(|m| teammate(team, m)).collect()
}

/// The fields of an object, to add to.
fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The JSON of a request's body.
fn object(body: &[u8]) -> Result<Value, Failure> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Failure::bad("the body is not a JSON object")),
        Err(error) => Err(Failure::bad(&format!("the body is not JSON: {error}"))),
    }
}
