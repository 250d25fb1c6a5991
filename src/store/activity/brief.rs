//! Rows for a list that shows a line each: what a call adds to the one before it, long texts cut.
//!
//! A call repeats its whole conversation, and a page that lists a thousand of them can neither fetch nor hold that. The
//! chains tell what is new without any text being read: only new blocks are.
use std::ops::ControlFlow;

use rusqlite::Statement;
use serde_json::{Map, Value, json};

use super::query::{Cursor, Query};
use super::read::{Pieces, Reader, Row, Stored};
use super::skeleton;
use super::walk::List;
use crate::store::error::{Error, Fault};

/// Characters that are kept of a text.
const KEPT: usize = 400;

/// Calls of the same session before this one; where the wire names no session, of the same hour.
const BEFORE: &str = "SELECT b.id, b.messages, a.session IS NULL FROM activity a JOIN activity b
     ON b.member = a.member AND b.ts <= a.ts AND b.session IS a.session AND (b.ts < a.ts OR b.id < a.id)
     WHERE a.id = ? AND b.messages > 0 AND (a.session IS NOT NULL OR b.ts > a.ts - 3600000)
     ORDER BY b.ts DESC, b.id DESC LIMIT 16";

impl Reader {
    /// As [`Reader::list`], with brief events: a model call has only the messages that are new in it, no system prompt, no tools, its texts
    /// cut, and beside `entry` an object `brief`:
    ///
    /// - `continues`: the earlier call with which it shares most messages, or null;
    /// - `earlier`: how many messages they share, which are left out, and `of`, how many that call had;
    /// - `messages`, `tools`: how many the call has.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list_brief(
        &self,
        query: &Query,
        mut each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<Option<Cursor>, Error> {
        let mut list = || {
            let mut briefs = Briefs::new(self)?;
            self.try_list(query, |pieces, stored| Ok(each(briefs.row(pieces, stored)?)))
        };
        self.at(list())
    }

    /// As [`Reader::follow`], with brief events.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn follow_brief(
        &self,
        after: i64,
        member: Option<&str>,
        mut each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut follow = || {
            let mut briefs = Briefs::new(self)?;
            self.try_follow(after, member, |pieces, stored| Ok(each(briefs.row(pieces, stored)?)))
        };
        self.at(follow())
    }
}

/// Where a call goes on from.
#[derive(Clone, Copy)]
struct From {
    id: i64,
    shared: u64,
    of: u64,
}

struct Briefs<'c> {
    before: Statement<'c>,
}

impl<'c> Briefs<'c> {
    fn new(reader: &'c Reader) -> Result<Briefs<'c>, Fault> {
        Ok(Briefs { before: reader.conn.prepare(BEFORE)? })
    }

    fn row(&mut self, pieces: &mut Pieces<'_>, stored: &Stored) -> Result<Row, Fault> {
        let head = stored.heads[List::Messages as usize];
        let from = if head == 0 { None } else { self.from(pieces, stored.id, head)? };
        let early = from.map_or(0, |from| from.shared);
        let outline = skeleton::outline(&Pieces::skeleton(stored)?, |list, write| {
            for node in pieces.chain(stored.heads[list as usize])? {
                let lead = pieces.block(node.lead)?;
                match list {
                    List::System => {} // a string: nothing between its quotes
                    List::Answer => write(&lead, &pieces.block(node.block)?),
                    List::Messages if node.message >= early => write(&lead, &pieces.block(node.block)?),
                    List::Messages | List::Tools => write(&lead, "0"),
                }
            }
            if list == List::System {
                write("\"", "");
            }
            Ok::<(), Fault>(())
        })?;
        let damaged = || Fault::Damaged(format!("row {} does not fit its blocks", stored.id));
        let mut event: Value =
            outline.and_then(|text| serde_json::from_str(&text).ok()).ok_or_else(damaged)?;
        shorten(&mut event, from);
        pieces.row_of(stored, event.to_string())
    }

    /// As [`Reader::continues`]. Without a session two conversations may begin with the same words: there the whole
    /// of the earlier one must be repeated.
    fn from(&mut self, pieces: &mut Pieces<'_>, id: i64, head: i64) -> Result<Option<From>, Fault> {
        let mut best: Option<From> = None;
        let mut rows = self.before.query([id])?;
        while let Some(row) = rows.next()? {
            let (other, lone): (i64, bool) = (row.get(1)?, row.get(2)?);
            let (shared, of) = (pieces.shared(head, other)?, pieces.messages(other)?);
            if shared > best.map_or(0, |b| b.shared) && (shared == of || !lone) {
                best = Some(From { id: row.get(0)?, shared, of });
            }
        }
        Ok(best)
    }
}

/// Leave out what a line does not show.
fn shorten(event: &mut Value, from: Option<From>) {
    let Some(entry) = event.get_mut("entry").and_then(Value::as_object_mut) else { return };
    if let Some(Value::Object(request)) = entry.get_mut("request") {
        let brief = shorten_request(request, from);
        event["brief"] = brief;
    }
    // The maps of headers are as long as bodies, and no line has them.
    if let Some(entry) = event.get_mut("entry").and_then(Value::as_object_mut) {
        entry.retain(|name, _| !name.ends_with("Headers"));
    }
    cut(event);
}

fn shorten_request(request: &mut Map<String, Value>, from: Option<From>) -> Value {
    let early = usize::try_from(from.map_or(0, |from| from.shared)).unwrap_or(usize::MAX);
    let (mut messages, mut tools) = (0, 0);
    if let Some(Value::Array(list)) = request.get_mut("messages") {
        messages = list.len();
        list.drain(..early.min(messages));
    }
    if let Some(Value::Array(list)) = request.get_mut("tools") {
        tools = list.len();
        list.clear();
    }
    json!({
        "continues": from.map(|from| from.id),
        "earlier": early.min(messages),
        "of": from.map(|from| from.of),
        "messages": messages,
        "tools": tools,
    })
}

/// Cut every text in it.
fn cut(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some((at, _)) = text.char_indices().nth(KEPT) {
                text.truncate(at);
                text.push('\u{2026}');
            }
        }
        Value::Array(items) => items.iter_mut().for_each(cut),
        Value::Object(fields) => fields.values_mut().for_each(cut),
        _ => {}
    }
}
