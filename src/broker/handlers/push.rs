//! `POST /push`: say something to a member, to a channel, or to all.
use serde_json::json;

use super::{files, object};
use crate::broker::call::{Answer, Failure};
use crate::broker::fanout::announce;
use crate::broker::router::Authorized;
use crate::store::main::NoPost;
use crate::sys::clock::now_ms;
use crate::team::{GENERAL, Post};

/// The message as the broker has stamped it, and how many it reaches.
pub fn post(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let mut post = Post::from_json(&object(&at.body)?).map_err(Failure::invalid)?;
    let (team, from, main) = (&at.caller.team, at.caller.member().name.as_str(), &at.service.main);
    if let Some(to) = post.to.as_deref().filter(|to| team.member(to).is_none()) {
        return Err(Failure::NotFound(format!("no such agent: {to}")));
    }
    files::attach(at, &mut post.attachments)?;
    at.say(0, 0)?;
    let channel = post.channel().filter(|id| *id != GENERAL).map(str::to_string);
    let sent = match channel {
        None => main.post(from, post, now_ms())?,
        Some(id) => main.post_to_channel(from, &id, post, now_ms())?.map_err(|no| match no {
            NoPost::NoChannel => Failure::NotFound(format!("there is no channel with the id {id}")),
            NoPost::Archived => Failure::Gone("the channel is archived".to_string()),
            NoPost::NotAMember => Failure::Forbidden("posting to a channel is for its members".to_string()),
        })?,
    };
    let delivery = announce(at.service, team, &sent);
    let body = json!({
        "delivery": {"live": delivery.live, "targets": delivery.targets},
        "message": sent.message.to_json(),
    });
    Ok(Answer::json(200, &body))
}
