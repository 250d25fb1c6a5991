//! What happens once a message is stored: whoever has a stream of it is woken, and goes and looks.
//!
//! It has no thread and keeps nothing: a member that is not here finds the message when it comes.
use super::router::Service;
use super::webpush::Notice;
use crate::identity::TeamFile;
use crate::store::main::{Recipients, Sent};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Open streams of those it is for.
    pub live: usize,
    /// How many members it is for.
    pub targets: usize,
}

/// What the [`Hub`](super::hub::Hub) calls the messages of a member.
#[must_use]
pub fn topic(member: &str) -> String {
    format!("inbox/{member}")
}

/// Wake those who get a message.
pub fn announce(service: &Service, team: &TeamFile, sent: &Sent) -> Delivery {
    let targets: Vec<&str> = match &sent.to {
        Recipients::Everyone => team.members.iter().map(|m| m.name.as_str()).collect(),
        Recipients::Members(names) => {
            names.iter().map(String::as_str).filter(|name| team.member(name).is_some()).collect()
        }
    };
    let live = service.presence.live(targets.iter().copied());
    let topics: Vec<String> = targets.iter().copied().chain(sent.echo.as_deref()).map(topic).collect();
    service.hub.wake_each(topics.iter().map(String::as_str));
    if let Some(notice) = Notice::of(&sent.message, &targets) {
        service.webpush.offer(notice);
    }
    Delivery { live, targets: targets.len() }
}
