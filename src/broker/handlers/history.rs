//! `GET /history`: what was said, newest first.
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::objectives::takes_part;
use crate::activity::Invalid;
use crate::broker::call::{Answer, Body, Failure};
use crate::broker::router::Authorized;
use crate::store;
use crate::store::main::{Before, Store, Within};
use crate::team::GENERAL;

/// The answer is read from the database in pieces of about so many bytes: 500 messages can be long ones.
const PIECE: usize = 256 << 10;

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
    let listing = Listing::start(main.clone(), rows)?;
    Ok(Answer { status: 200, headers: Vec::new(), body: listing.into_body() })
}

/// `{"messages":[…]}`, piece by piece.
struct Listing {
    main: Arc<Store>,
    rows: Vec<i64>,
    /// So many rows are in the text, or were.
    listed: usize,
    /// Text that has not been given out: `text[given..]`.
    text: Vec<u8>,
    given: usize,
    done: bool,
}

impl Listing {
    fn start(main: Arc<Store>, rows: Vec<i64>) -> Result<Listing, store::Error> {
        let text = b"{\"messages\":[".to_vec();
        let mut listing = Listing { main, rows, listed: 0, text, given: 0, done: false };
        listing.piece()?;
        Ok(listing)
    }

    /// The text itself if the first piece was the last.
    fn into_body(self) -> Body {
        if self.done { Body::Json(self.text) } else { Body::Stream(Box::new(self)) }
    }

    fn piece(&mut self) -> Result<(), store::Error> {
        let (text, listed) = (&mut self.text, &mut self.listed);
        self.main.messages(&self.rows[*listed..], |_, message| {
            if *listed > 0 {
                text.push(b',');
            }
            text.extend_from_slice(message.to_json().to_string().as_bytes());
            *listed += 1;
            if text.len() >= PIECE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if self.listed == self.rows.len() {
            self.text.extend_from_slice(b"]}");
            self.done = true;
        }
        Ok(())
    }
}

impl Read for Listing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() && !self.done {
            self.text.clear();
            self.given = 0;
            self.piece().map_err(io::Error::other)?;
        }
        let n = (&self.text[self.given..]).read(buf)?;
        self.given += n;
        Ok(n)
    }
}
