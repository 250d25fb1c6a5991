//! `/objectives`: what is asked of whom. Who may do what depends on the part that the caller has in an objective, so it
//! is decided while nobody else can change it.
use serde_json::{Value, json};

use super::{files, listing, object};
use crate::activity::Invalid;
use crate::broker::call::{Answer, Failure};
use crate::broker::fanout::announce;
use crate::broker::router::Authorized;
use crate::identity::{Permission, TeamFile};
use crate::store::main::{Changed, Wanted};
use crate::sys::clock::now_ms;
use crate::team::lifecycle::transition;
use crate::team::{Action, NewObjective, Objective, Status, discussion};

/// What one page has at most, where pages are asked for.
const MOST_OF_PAGE: usize = 500;

/// `GET`: all for those who manage members; for the others those in which they take part. Newest first, and the whole
/// list, as clients expect it; `limit` and `before`, an objective's id, give a part of it.
pub fn list(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (query, caller) = (&at.call.query, at.caller);
    let status = query.get("status").map(|name| {
        let message = || format!("is not one of {}", Status::NAMES.join(", "));
        let invalid = || Failure::invalid(Invalid { path: "status".to_string(), message: message() });
        Status::from_name(name).ok_or_else(invalid)
    });
    let (name, assignee) = (caller.member().name.as_str(), query.get("assignee"));
    let manages = manages(at);
    if let Some(assignee) = assignee {
        let doing = "listing the objectives of another member";
        caller.must_be_or_hold(assignee, Permission::MembersManage, doing)?;
    }
    let involving = (!manages).then_some(name);
    let wanted = Wanted { involving, assignee, status: status.transpose()? };
    let main = &at.service.main;
    let rows = main.objective_rows(wanted, query.get("before"))?;
    let mut rows = rows.ok_or_else(|| {
        let message = "is not the id of an objective".to_string();
        Failure::invalid(Invalid { path: "before".to_string(), message })
    })?;
    rows.truncate(query.limit(usize::MAX, MOST_OF_PAGE));
    let each: listing::Each =
        |main, rows, give| main.each_objective(rows, |objective| give(objective.to_json()));
    Ok(listing::answer(main.clone(), "objectives", rows, each)?)
}

/// `POST`: ask something of somebody.
pub fn create(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::ObjectivesCreate, "creating objectives")?;
    let mut new = NewObjective::from_json(&object(&at.body)?).map_err(Failure::invalid)?;
    let team = &at.caller.team;
    known(team, "assignee", &new.assignee)?;
    all_known(team, "watchers", &new.watchers)?;
    files::attach(at, &mut new.attachments)?;
    // One about the objective, and one about each who watches it.
    at.say(1 + new.watchers.len(), 2 + new.watchers.len())?;
    let originator = &at.caller.member().name;
    let changed = at.service.main.create_objective(new, originator, &managers(team), now_ms())?;
    Ok(told(at, &changed))
}

/// `GET /objectives/:id`: it, and what happened to it.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let id = at.params[0];
    let (objective, events) = at.service.main.objective(id)?.ok_or_else(|| no_such(id))?;
    takes_part(at, &objective, "seeing an objective in which one takes no part")?;
    let events: Value = events.iter().map(|event| event.to_json()).collect();
    Ok(Answer::json(200, &json!({"objective": objective.to_json(), "events": events})))
}

/// `PATCH /objectives/:id`: active or blocked.
pub fn update(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    change(at, Action::update, |at, objective| {
        let doing = "changing the status of another's objective";
        at.caller.must_be_or_hold(&objective.assignee, Permission::MembersManage, doing)
    })
}

/// `POST …/complete`: nobody can say for another that it is done.
pub fn complete(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    change(at, Action::complete, |at, objective| {
        at.caller.must_be(&objective.assignee, "completing an objective of its assignee")
    })
}

/// `POST …/cancel`.
pub fn cancel(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    change(at, Action::cancel, |at, objective| {
        let doing = "cancelling another's objective";
        at.caller.must_be_or_hold(&objective.originator, Permission::ObjectivesCancel, doing)
    })
}

/// `POST …/reassign`.
pub fn reassign(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    change(at, Action::reassign, |at, _| {
        // Other brokers ask for the right to manage members instead.
        if manages(at) {
            return Ok(());
        }
        at.caller.must_hold(Permission::ObjectivesReassign, "reassigning objectives")
    })
}

/// `POST …/watchers`.
pub fn watch(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    change(at, Action::watch, |at, objective| {
        let doing = "choosing who watches another's objective";
        at.caller.must_be_or_hold(&objective.originator, Permission::ObjectivesWatch, doing)
    })
}

/// `POST …/discuss`: say something to all who take part.
pub fn discuss(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (id, team, from) = (at.params[0], &at.caller.team, at.caller.member().name.as_str());
    let sent = at.service.main.discuss(id, from, &managers(team), now_ms(), |objective| {
        takes_part(at, objective, "discussing an objective in which one takes no part")?;
        let mut post = discussion(&object(&at.body)?).map_err(Failure::invalid)?;
        files::attach(at, &mut post.attachments)?;
        at.say(0, 0)?;
        Ok::<_, Failure>(post)
    })?;
    let sent = sent.ok_or_else(|| no_such(id))??;
    announce(at.service, team, &sent);
    Ok(Answer::json(200, &sent.message.to_json()))
}

/// Do with an objective what the body says, if the caller may.
fn change(
    at: &mut Authorized<'_>,
    read: fn(&Value) -> Result<Action, Invalid>,
    may: fn(&Authorized<'_>, &Objective) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let (id, team, actor) = (at.params[0], &at.caller.team, at.caller.member().name.as_str());
    let now = now_ms();
    let changed = at.service.main.change_objective(id, &managers(team), now, |objective| {
        // First: whoever may not do it learns nothing else.
        may(at, objective)?;
        // A request without a body says nothing beyond its path.
        let body = if at.body.is_empty() { json!({}) } else { object(&at.body)? };
        let action = read(&body).map_err(Failure::invalid)?;
        let messages = match &action {
            Action::Watch { add, remove } => add.len() + remove.len(),
            _ => 1,
        };
        at.say(messages, 2 + objective.watchers.len() + messages)?;
        match &action {
            Action::Reassign { to, .. } => known(team, "to", to)?,
            Action::Watch { add, .. } => all_known(team, "add", add)?,
            _ => {}
        }
        transition(objective, action, actor, now).map_err(|refused| Failure::Conflict(refused.to_string()))
    })?;
    let changed = changed.ok_or_else(|| no_such(id))??;
    Ok(told(at, &changed))
}

/// Wake those who are told, and give the objective.
fn told(at: &Authorized<'_>, changed: &Changed) -> Answer {
    for sent in &changed.sent {
        announce(at.service, &at.caller.team, sent);
    }
    Answer::json(200, &changed.objective.to_json())
}

/// Let whoever belongs to the objective's thread pass: who takes part in it, and who manages members.
///
/// # Errors
/// 403.
pub fn takes_part(at: &Authorized<'_>, objective: &Objective, doing: &str) -> Result<(), Failure> {
    if objective.involves(&at.caller.member().name) {
        return Ok(());
    }
    at.caller.must_hold(Permission::MembersManage, doing)
}

fn manages(at: &Authorized<'_>) -> bool {
    at.caller.team.allows(at.caller.member(), Permission::MembersManage)
}

/// Those who are told about every objective.
fn managers(team: &TeamFile) -> Vec<String> {
    let manages = team.members.iter().filter(|member| team.allows(member, Permission::MembersManage));
    manages.map(|member| member.name.clone()).collect()
}

fn known(team: &TeamFile, field: &str, name: &str) -> Result<(), Failure> {
    if team.member(name).is_some() {
        return Ok(());
    }
    let message = format!("names {name}, who is no member");
    Err(Failure::invalid(Invalid { path: field.to_string(), message }))
}

fn all_known(team: &TeamFile, field: &str, names: &[String]) -> Result<(), Failure> {
    let place = |(i, name): (usize, &String)| known(team, &format!("{field}[{i}]"), name);
    names.iter().enumerate().try_for_each(place)
}

fn no_such(id: &str) -> Failure {
    Failure::NotFound(format!("there is no objective {id}"))
}
