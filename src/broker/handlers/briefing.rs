//! `GET /briefing`: everything a session needs to know at its start.
use serde_json::{Value, json};

use super::{fields, teammate, teammates};
use crate::broker::call::{Answer, Failure};
use crate::broker::prompt;
use crate::broker::router::Authorized;
use crate::team::Objective;

/// The caller, its composed prompt as `instructions`, the team, the teammates (the caller among them), and what is asked
/// of it: what is active, then what is blocked.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (team, member) = (&at.caller.team, at.caller.member());
    let mut out = fields(teammate(team, member));
    out.insert("instructions".into(), json!(prompt::compose(team, member)));
    out.insert("team".into(), team.team.to_json());
    out.insert("teammates".into(), teammates(team));
    let open: Value = at.service.main.open_objectives(&member.name)?.iter().map(Objective::to_json).collect();
    out.insert("openObjectives".into(), open);
    Ok(Answer::json(200, &Value::Object(out)))
}
