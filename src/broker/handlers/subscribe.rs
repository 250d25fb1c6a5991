//! `GET /subscribe`: a member's messages as they come, as server-sent events.
use std::ops::ControlFlow;

use crate::activity::Invalid;
use crate::broker::call::{Answer, Failure};
use crate::broker::edge::HERE;
use crate::broker::fanout::topic;
use crate::broker::router::Authorized;
use crate::broker::sse::{self, Asked, Piece};

/// Messages of one piece at most.
const MOST: usize = 200;

/// From the end, or after `Last-Event-ID`. While it is open, the member is here.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let missing = || Invalid { path: "name".to_string(), message: "is missing".to_string() };
    let name = at.call.query.get("name").ok_or_else(|| Failure::invalid(missing()))?;
    at.caller.must_be(name, &format!("subscribing to {name}'s messages"))?;
    let main = &at.service.main;
    match sse::asked(at.call)? {
        Asked::Begin(given) => {
            let newest = main.last_message()?;
            let mut answer = sse::begin(topic(name), given.map_or(newest, |id| id.min(newest)));
            answer.headers.push((HERE, name.to_string()));
            Ok(answer)
        }
        Asked::After(after) => {
            let rows = main.news(name, after, MOST)?;
            let mut piece = Piece::after(after);
            main.messages(&rows, |row, message| {
                piece.push(row, &message.to_json().to_string());
                if piece.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            piece.more = rows.len() == MOST || rows.last().is_some_and(|last| *last != piece.last);
            Ok(piece.answer())
        }
    }
}
