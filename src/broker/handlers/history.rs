//! `GET /history`: what was said, newest first.
use super::listing;
use super::objectives::takes_part;
use crate::activity::Invalid;
use crate::broker::call::{Answer, Failure};
use crate::broker::router::Authorized;
use crate::store::main::{Before, Within};
use crate::team::GENERAL;

/// All that the caller sent or was sent, or only what is `with` another, in a `channel`, or about an `objective`.
///
/// `before` is a time, or a message's id: several messages may have the same time.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let query = &at.call.query;
    let (main, viewer) = (&at.service.main, at.caller.member().name.as_str());
    let channel: String;
    let within = match (query.get("with"), query.get("channel"), query.get("objective")) {
        (None, None, None) => Within::All,
        (Some(other), None, None) => Within::With(other),
        (None, Some(GENERAL), None) => Within::Everyone,
        (None, Some(slug), None) => {
            let found = main.channel(slug, viewer)?;
            let (found, _) = found.ok_or_else(|| Failure::NotFound(format!("there is no channel {slug}")))?;
            if found.my_role.is_none() {
                return Err(Failure::Forbidden("reading a channel is for its members".to_string()));
            }
            channel = found.channel.id;
            Within::Channel(&channel)
        }
        (None, None, Some(id)) => {
            let found = main.objective(id)?;
            let (objective, _) =
                found.ok_or_else(|| Failure::NotFound(format!("there is no objective {id}")))?;
            takes_part(at, &objective, "reading about an objective in which one takes no part")?;
            Within::Objective(id)
        }
        _ => return Err(Failure::bad("there is one of with, channel and objective, not two")),
    };
    let before = match query.get("before") {
        None => Before::Now,
        Some(text) => text.parse().map_or(Before::Message(text), Before::Time),
    };
    let rows = main.history(viewer, within, before, query.limit(50, 500))?;
    let rows = rows.ok_or_else(|| {
        let message = "is neither a time in ms since the epoch nor the id of a message".to_string();
        Failure::invalid(Invalid { path: "before".to_string(), message })
    })?;
    let each: listing::Each = |main, rows, give| main.messages(rows, |_, message| give(message.to_json()));
    Ok(listing::answer(main.clone(), "messages", rows, each)?)
}
