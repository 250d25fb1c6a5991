//! What rows are asked for, as SQL.
use std::fmt;
use std::str::FromStr;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension};

use super::facts::{integer, kind_number};
use super::usage::Span;
use crate::store::error::Fault;

/// Which rows to list. Filters that are set must all hold; the default is every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Rows of this member alone.
    pub member: Option<String>,
    /// Any of these kinds; unknown ones match nothing. Empty: any.
    pub kinds: Vec<String>,
    /// Bounds of the event's `ts`, ms since the epoch, inclusive.
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// The model that was asked for; `*`, `?` and `[…]` as in a shell.
    pub model: Option<String>,
    /// A tool that the answer uses.
    pub tool: Option<String>,
    /// HTTP status of the response, first and last.
    pub status: Option<(u16, u16)>,
    /// Only calls that failed: an error status, an error in the stream, no answer.
    pub failed: bool,
    /// Beginning of the session's id.
    pub session: Option<String>,
    /// Rows from a member's taking up this objective to the end of it.
    pub objective: Option<String>,
    /// Only rows within one of these; nothing where the list is empty.
    pub spans: Option<Vec<Span>>,
    /// A text that occurs in the event's JSON, without regard to ASCII case.
    pub text: Option<String>,
    /// Go on after the last row of an earlier list.
    pub after: Option<Cursor>,
    /// At most so many rows.
    pub limit: usize,
}

/// A place in a list, newest first. Its text form is opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) ts: i64,
    pub(super) id: i64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ts, self.id)
    }
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotACursor;

impl fmt::Display for NotACursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not a cursor of this list")
    }
}

impl std::error::Error for NotACursor {}

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Cursor, NotACursor> {
        let (ts, id) = text.split_once('.').ok_or(NotACursor)?;
        Ok(Cursor { ts: ts.parse().map_err(|_| NotACursor)?, id: id.parse().map_err(|_| NotACursor)? })
    }
}

/// The columns of a row, in the order in which `read` takes them.
pub(super) const COLUMNS: &str = "a.id, a.ts, a.member, a.created_at, a.kind, a.provider, a.size, a.system,
     a.offered, a.messages, a.answer, a.skeleton_size, a.skeleton";

/// A `SELECT` with its parameters.
#[derive(Debug, PartialEq)]
pub(super) struct Select {
    pub sql: String,
    pub parameters: Vec<Sql>,
}

impl Select {
    fn and(&mut self, condition: &str, parameters: impl IntoIterator<Item = Sql>) {
        self.sql.push_str(if self.sql.contains(" WHERE ") { " AND " } else { " WHERE " });
        self.sql.push_str(condition);
        self.parameters.extend(parameters);
    }

    fn and_one_of(&mut self, column: &str, values: impl IntoIterator<Item = i64>) {
        let values: Vec<Sql> = values.into_iter().map(Sql::Integer).collect();
        // One value alone lets an index give the order too.
        let condition = match values.len() {
            1 => format!("{column} = ?"),
            n => format!("{column} IN ({})", vec!["?"; n].join(", ")),
        };
        self.and(&condition, values);
    }
}

/// The rows of a query, newest first, without regard to its text and limit.
pub(super) fn newest(query: &Query, conn: &Connection) -> Result<Select, Fault> {
    let mut select = Select { sql: format!("SELECT {COLUMNS} FROM activity a"), parameters: Vec::new() };
    filter(&mut select, query, conn)?;
    select.sql.push_str(" ORDER BY a.ts DESC, a.id DESC");
    Ok(select)
}

/// Add the conditions of a query to a `SELECT … FROM activity a`.
pub(super) fn filter(select: &mut Select, query: &Query, conn: &Connection) -> Result<(), Fault> {
    if let Some(member) = &query.member {
        select.and_one_of("a.member", word(conn, member)?);
    }
    if let Some(session) = &query.session {
        let (from, to) = (session.clone(), format!("{session}\u{10ffff}"));
        let mut found = conn.prepare("SELECT id FROM word WHERE text >= ? AND text < ? LIMIT 2")?;
        let ids: Vec<i64> =
            found.query_map([&from, &to], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        if ids.len() < 2 {
            select.and_one_of("a.session", ids);
        } else {
            // With `+` the index on time gives the order; the one on sessions would have everything sorted.
            let sql = "+a.session IN (SELECT id FROM word WHERE text >= ? AND text < ?)";
            select.and(sql, [Sql::Text(from), Sql::Text(to)]);
        }
    }
    if let Some(model) = &query.model {
        let sql = "a.model IN (SELECT id FROM word WHERE text GLOB ?)";
        select.and(sql, [Sql::Text(model.clone())]);
    }
    if !query.kinds.is_empty() {
        select.and_one_of("a.kind", query.kinds.iter().filter_map(|k| kind_number(k)));
    }
    if let Some(tool) = &query.tool {
        select.and("instr(a.tools, ?) > 0", [Sql::Text(format!("\n{tool}\n"))]);
    }
    if let Some((first, last)) = query.status {
        select.and("a.status BETWEEN ? AND ?", [Sql::Integer(first.into()), Sql::Integer(last.into())]);
    }
    if query.failed {
        select.and("a.failed = 1", []);
    }
    if let Some(objective) = &query.objective {
        let id = Sql::Integer(word(conn, objective)?.unwrap_or(0));
        // Within: the member's last event of this objective up to here opened it; or the row is such an event.
        let sql =
            "(a.objective = ? OR (SELECT o.kind FROM activity o WHERE o.objective = ? AND o.member = a.member
                    AND o.ts <= a.ts ORDER BY o.ts DESC, o.id DESC LIMIT 1) = 0)";
        select.and(sql, [id.clone(), id]);
    }
    if let Some(spans) = &query.spans {
        let mut ends = (u64::MAX, 0);
        let mut parameters = Vec::new();
        for span in spans {
            ends = (ends.0.min(span.from), ends.1.max(span.to));
            let member = Sql::Integer(word(conn, &span.member)?.unwrap_or(0));
            parameters.extend([member, Sql::Integer(integer(span.from)), Sql::Integer(integer(span.to))]);
        }
        // The ends bound the index, which gives the order too; with `+` the members' one does not take its place.
        let within = vec!["(+a.member = ? AND +a.ts BETWEEN ? AND ?)"; spans.len()].join(" OR ");
        let within = if spans.is_empty() { "0" } else { &within };
        select.and("a.ts BETWEEN ? AND ?", [Sql::Integer(integer(ends.0)), Sql::Integer(integer(ends.1))]);
        select.and(&format!("({within})"), parameters);
    }
    if let Some(from) = query.from {
        select.and("a.ts >= ?", [Sql::Integer(integer(from))]);
    }
    let to = query.to.map(integer);
    if let Some(to) = to {
        select.and("a.ts <= ?", [Sql::Integer(to)]);
    }
    if let Some(Cursor { ts, id }) = query.after {
        // The first condition bounds the index, the second is exact.
        let ts = Sql::Integer(ts);
        select.and("a.ts <= ? AND (a.ts < ? OR a.id < ?)", [ts.clone(), ts, Sql::Integer(id)]);
    }
    Ok(())
}

/// The rows that were stored after row `after`, oldest first.
pub(super) fn since(conn: &Connection, member: Option<&str>, after: i64) -> Result<Select, Fault> {
    let mut select = Select { sql: format!("SELECT {COLUMNS} FROM activity a"), parameters: Vec::new() };
    select.and("a.id > ?", [Sql::Integer(after)]);
    if let Some(member) = member {
        // With `+` the row order serves, which the index on members would not.
        select.and_one_of("+a.member", word(conn, member)?);
    }
    select.sql.push_str(" ORDER BY a.id");
    Ok(select)
}

/// The id of a word.
pub(super) fn word(conn: &Connection, text: &str) -> Result<Option<i64>, Fault> {
    Ok(conn.query_row("SELECT id FROM word WHERE text = ?", [text], |row| row.get(0)).optional()?)
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, params_from_iter};

    use super::super::schema::KIND;
    use super::{Query, Select, Span, newest, since};

    fn plan(conn: &Connection, select: &Select) -> String {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {}", select.sql)).unwrap();
        let lines = explain.query_map(params_from_iter(&select.parameters), |row| row.get(3)).unwrap();
        lines.collect::<Result<Vec<String>, _>>().unwrap().join("; ")
    }

    #[test]
    fn every_list_follows_an_index_and_sorts_nothing() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(KIND.migrations[0]).unwrap();
        conn.execute_batch("INSERT INTO word VALUES (1, 'ann', 1), (2, 'session', 1), (3, 'o1', 1)").unwrap();
        let text = |s: &str| Some(s.to_string());
        let after = Some("5.5".parse().unwrap());
        let q = Query::default;
        let span = |member: &str, from| Span { member: member.into(), from, to: u64::MAX };
        for (query, index) in [
            (q(), "SCAN a USING INDEX activity_ts"),
            (Query { from: Some(1), to: Some(2), ..q() }, "SEARCH a USING INDEX activity_ts (ts>? AND ts<?)"),
            (Query { after, ..q() }, "SEARCH a USING INDEX activity_ts (ts<?)"),
            (Query { member: text("ann"), ..q() }, "SEARCH a USING INDEX activity_member (member=?)"),
            (
                Query { member: text("ann"), from: Some(1), after, ..q() },
                "SEARCH a USING INDEX activity_member (member=? AND ts>? AND ts<?)",
            ),
            (Query { session: text("sess"), ..q() }, "SEARCH a USING INDEX activity_session (session=?)"),
            (Query { session: text(""), ..q() }, "USING INDEX activity_ts"),
            (Query { model: text("claude*"), ..q() }, "USING INDEX activity_ts"),
            (
                Query { objective: text("o1"), ..q() },
                "o USING INDEX activity_objective (objective=? AND ts<?)",
            ),
            (
                Query { spans: Some(vec![span("ann", 1), span("bob", 2)]), ..q() },
                "SEARCH a USING INDEX activity_ts (ts>? AND ts<?)",
            ),
            (
                Query { kinds: vec!["opaque_http".into()], tool: text("Bash"), failed: true, ..q() },
                "SCAN a USING INDEX activity_ts",
            ),
        ] {
            let plan = plan(&conn, &newest(&query, &conn).unwrap());
            assert!(plan.contains(index), "{query:?}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{query:?}: {plan}");
        }
        for member in [None, Some("ann")] {
            let plan = plan(&conn, &since(&conn, member, 7).unwrap());
            assert_eq!(plan, "SEARCH a USING INTEGER PRIMARY KEY (rowid>?)");
        }
    }
}
