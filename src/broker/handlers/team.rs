//! `/team`: what all members share.
use serde_json::json;

use super::object;
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::identity::{Permission, TeamChange, read_preset};

/// `GET /team`.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    Ok(Answer::json(200, &json!({"team": at.caller.team.team.to_json()})))
}

/// `PATCH /team`.
pub fn update(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::TeamManage, "changing the team")?;
    let change = TeamChange::from_json(&object(&at.body)?).map_err(Failure::invalid)?;
    let team = at.service.editor.update(|file| {
        file.change_team(change);
        Ok(file.team.to_json())
    })?;
    Ok(Answer::json(200, &json!({"team": team})))
}

/// `GET /team/presets`.
pub fn presets(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    Ok(Answer::json(200, &json!({"presets": at.caller.team.team.to_json()["permissionPresets"]})))
}

/// `PUT /team/presets/:name`: make it, or change it for everybody who has it. What the caller may not do themselves
/// cannot be put into it: they could have the preset.
pub fn set_preset(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::TeamManage, "changing presets")?;
    let permissions = read_preset(&object(&at.body)?).map_err(Failure::invalid)?;
    let there = at.caller.team.team.presets.iter().find(|(name, _)| name == at.params[0]);
    let is_new = |permission: &&Permission| !there.is_some_and(|(_, set)| set.contains(permission));
    for permission in permissions.iter().filter(is_new) {
        at.caller.must_hold(*permission, &format!("putting {} into a preset", permission.name()))?;
    }
    let (name, leaves) = (at.params[0], permissions.iter().map(|p| p.name()).collect::<Vec<_>>());
    at.service.editor.update(|file| file.set_preset(name, permissions))?;
    Ok(Answer::json(200, &json!({"preset": {"name": name, "permissions": leaves}})))
}

/// `DELETE /team/presets/:name`: whoever has it keeps the other permissions.
pub fn delete_preset(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::TeamManage, "deleting presets")?;
    let name = at.params[0];
    let referenced_by = at.service.editor.update(|file| file.remove_preset(name))?;
    Ok(Answer::json(200, &json!({"deleted": name, "referencedBy": referenced_by})))
}
