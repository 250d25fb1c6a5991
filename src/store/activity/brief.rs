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

/// Calls of the same session before this one.
const BEFORE: &str =
    "SELECT b.id, b.messages FROM activity a JOIN activity b ON b.session = a.session AND b.ts <= a.ts
     WHERE a.id = ? AND (b.ts < a.ts OR b.id < a.id) AND b.member = a.member AND b.messages > 0
     ORDER BY b.ts DESC, b.id DESC LIMIT 16";

/// The same where the wire names no session: calls of the last hour.
const LONE: &str = "SELECT b.id, b.messages FROM activity a JOIN activity b
     ON b.member = a.member AND b.ts BETWEEN a.ts - 3600000 AND a.ts
     WHERE a.id = ? AND a.session IS NULL AND (b.ts < a.ts OR b.id < a.id) AND b.session IS NULL AND b.messages > 0
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
    lone: Statement<'c>,
}

impl<'c> Briefs<'c> {
    fn new(reader: &'c Reader) -> Result<Briefs<'c>, Fault> {
        Ok(Briefs { before: reader.conn.prepare(BEFORE)?, lone: reader.conn.prepare(LONE)? })
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
        let best = best(&mut self.before, pieces, id, head, false)?;
        if best.is_some() { Ok(best) } else { self::best(&mut self.lone, pieces, id, head, true) }
    }
}

/// Of the calls before row `id` the one that shares most messages with the chain up to `head`; `whole` asks for all of
/// its messages.
fn best(
    before: &mut Statement<'_>,
    pieces: &mut Pieces<'_>,
    id: i64,
    head: i64,
    whole: bool,
) -> Result<Option<From>, Fault> {
    let mut best: Option<From> = None;
    let mut rows = before.query([id])?;
    while let Some(row) = rows.next()? {
        let (other, most) = (row.get(1)?, best.map_or(0, |b| b.shared));
        let of = pieces.messages(other)?;
        // It cannot share more than it has.
        if of > most {
            let shared = pieces.shared(head, other)?;
            if shared > most && (shared == of || !whole) {
                best = Some(From { id: row.get(0)?, shared, of });
            }
        }
    }
    Ok(best)
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

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::schema::KIND;
    use super::{BEFORE, LONE};

    #[test]
    fn the_calls_before_are_found_by_an_index() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(KIND.migrations[0]).unwrap();
        for (sql, index) in [
            (BEFORE, "SEARCH b USING INDEX activity_session (session=? AND ts<?)"),
            (LONE, "SEARCH b USING INDEX activity_member (member=? AND ts>? AND ts<?)"),
        ] {
            let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let lines = explain.query_map([1], |row| row.get(3)).unwrap();
            let plan = lines.collect::<Result<Vec<String>, _>>().unwrap().join("; ");
            assert!(plan.contains(index) && !plan.contains("SCAN"), "{plan}");
        }
    }
}
