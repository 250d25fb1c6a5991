//! `/members`: who is in the team, for those who manage it.
use serde_json::{Value, json};

use super::{fields, object, teammate, teammates};
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::identity::{Member, MemberChange, NewMember, Permission, TeamFile};
use crate::sys::clock::now_ms;

/// `GET`: everybody, with their instructions for those who may change them.
pub fn list(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let team = &at.caller.team;
    let members = if team.allows(at.caller.member(), Permission::MembersManage) {
        team.members.iter().map(|m| whole(team, m)).collect()
    } else {
        teammates(team)
    };
    Ok(Answer::json(200, &json!({"members": members})))
}

/// `POST`: a new member, and the token that is shown this once.
pub fn create(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::MembersManage, "creating members")?;
    let new = NewMember::from_json(&object(&at.body)?).map_err(Failure::invalid)?;
    let (name, by) = (new.name.clone(), at.caller.member().name.as_str());
    if at.caller.team.member(&name).is_none() {
        // Whoever had this name before may have been deleted behind our back.
        at.service.files.forget(&name)?;
    }
    let (member, token) = at.service.editor.update(|file| {
        let token = file.add_member(new, Some(by), now_ms())?;
        Ok((file.member(&name).map(|m| teammate(file, m)), token))
    })?;
    Ok(Answer::json(200, &json!({"member": member, "token": token})))
}

/// `PATCH /members/:name`.
pub fn update(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::MembersManage, "changing members")?;
    let change = MemberChange::from_json(&object(&at.body)?).map_err(Failure::invalid)?;
    let name = at.params[0];
    let member = at.service.editor.update(|file| {
        file.change_member(name, change)?;
        Ok(file.member(name).map(|m| whole(file, m)))
    })?;
    Ok(Answer::json(200, &json!(member)))
}

/// `DELETE /members/:name`: tokens and sessions end with the member.
pub fn delete(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::MembersManage, "deleting members")?;
    let name = at.params[0];
    at.service.editor.update(|file| file.remove_member(name))?;
    at.service.files.forget(name)?;
    Ok(Answer::empty())
}

/// A member with everything but the tokens.
fn whole(team: &TeamFile, member: &Member) -> Value {
    let mut out = fields(teammate(team, member));
    out.insert("instructions".into(), json!(member.instructions));
    Value::Object(out)
}
