//! `/channels`: named conversations. Anybody may make one and join one; what it is called and who else is in it is for
//! its admins, and for those who manage members.
use serde_json::{Value, json};

use super::object;
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::identity::{Permission, TeamFile};
use crate::store::main::{Changer, NoChange};
use crate::sys::clock::now_ms;
use crate::team::{ChannelMember, ChannelRole, ChannelSummary, GENERAL, read_joining, read_slug};

/// `GET`: those where one can post, newest first.
pub fn list(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let channels = at.service.main.channels(&at.caller.member().name)?;
    let team = &at.caller.team;
    let channels: Value = channels.into_iter().map(|channel| seen(team, channel).to_json()).collect();
    Ok(Answer::json(200, &json!({"channels": channels})))
}

/// `POST`: a new one, of which the caller is the admin.
pub fn create(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let slug = read_slug(&object(&at.body)?).map_err(Failure::invalid)?;
    at.say(0, 0)?;
    let made = at.service.main.create_channel(&slug, &at.caller.member().name, now_ms())?;
    Ok(Answer::json(201, &made.map_err(|no| refused(&slug, no))?.to_json()))
}

/// `GET /channels/:slug`: it, and who is in it.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let slug = at.params[0];
    let found = at.service.main.channel(slug, &at.caller.member().name)?;
    Ok(whole(at, found.ok_or_else(|| refused(slug, NoChange::NoChannel))?))
}

/// `PATCH /channels/:slug`: another name. Its messages stay with it.
pub fn rename(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (slug, new) = (at.params[0], read_slug(&object(&at.body)?).map_err(Failure::invalid)?);
    let renamed = at.service.main.rename_channel(slug, &new, changer(at))?;
    let named = |no| refused(if no == NoChange::Taken { &new } else { slug }, no);
    Ok(Answer::json(200, &renamed.map_err(named)?.to_json()))
}

/// `DELETE /channels/:slug`: it is archived, and its messages stay.
pub fn archive(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let slug = at.params[0];
    let archived = at.service.main.archive_channel(slug, changer(at), now_ms())?;
    Ok(Answer::json(200, &archived.map_err(|no| refused(slug, no))?.to_json()))
}

/// `POST …/members`: join, or let another in.
pub fn join(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let slug = at.params[0];
    let body = if at.body.is_empty() { json!({}) } else { object(&at.body)? };
    let (member, role) = read_joining(&body).map_err(Failure::invalid)?;
    let member = member.unwrap_or_else(|| at.caller.member().name.clone());
    if at.caller.team.member(&member).is_none() {
        return Err(Failure::NotFound(format!("there is no member {member}")));
    }
    let joined = at.service.main.join_channel(slug, &member, role, changer(at), now_ms())?;
    Ok(whole(at, joined.map_err(|no| refused(slug, no))?))
}

/// `DELETE …/members/:name`: leave, or put another out.
pub fn leave(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (slug, member) = (at.params[0], at.params[1]);
    let left = at.service.main.leave_channel(slug, member, changer(at))?;
    Ok(whole(at, left.map_err(|no| refused(slug, no))?))
}

fn changer<'a>(at: &Authorized<'a>) -> Changer<'a> {
    let member = at.caller.member();
    Changer { name: &member.name, manages: at.caller.team.allows(member, Permission::MembersManage) }
}

/// What the database does not know: that everybody is in the first channel.
fn seen(team: &TeamFile, summary: ChannelSummary) -> ChannelSummary {
    if summary.channel.id != GENERAL {
        return summary;
    }
    ChannelSummary { my_role: Some(ChannelRole::Member), members: team.members.len(), ..summary }
}

fn whole(at: &Authorized<'_>, (summary, members): (ChannelSummary, Vec<ChannelMember>)) -> Answer {
    let id = summary.channel.id.clone();
    let members: Value = members.iter().map(|member| member.to_json(&id)).collect();
    Answer::json(200, &json!({"channel": seen(&at.caller.team, summary).to_json(), "members": members}))
}

fn refused(slug: &str, no: NoChange) -> Failure {
    match no {
        NoChange::NoChannel => Failure::NotFound(format!("there is no channel {slug}")),
        NoChange::General => {
            Failure::Forbidden(format!("everybody is in the channel {GENERAL}, and it stays as it is"))
        }
        NoChange::Taken => Failure::Conflict(format!("there is a channel {slug} already")),
        NoChange::TooMany { most, own } => {
            let whose = if own { "you have made" } else { "there are" };
            Failure::NoRoom(format!("{whose} {most} channels, which is the most: archive one first"))
        }
        NoChange::Archived => Failure::Gone("the channel is archived".to_string()),
        NoChange::NotAllowed => {
            let name = Permission::MembersManage.name();
            Failure::Forbidden(format!(
                "this is for the channel's admins and requires the {name} permission of others"
            ))
        }
        NoChange::NotAMember => Failure::Conflict("the member is not in the channel".to_string()),
        NoChange::LastAdmin => Failure::Forbidden(
            "the channel's members would have no admin any more: make another one first".to_string(),
        ),
    }
}
