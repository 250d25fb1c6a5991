//! What the stored calls used, summed.
use rusqlite::{ToSql, params_from_iter};

use super::facts;
use super::query::{self, Query, Select};
use super::read::Reader;
use crate::activity::Provider;
use crate::store::column::uint;
use crate::store::error::{Error, Fault};

/// ms of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// No call has more tokens; whoever claims it must not make every sum overflow.
const MOST: i64 = 1_000_000_000_000;

/// Calls of one member to one model on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    pub member: String,
    /// What was asked for; `None` where the wire does not say.
    pub model: Option<String>,
    /// Whose wire it was: providers count cached input differently.
    pub provider: Option<Provider>,
    /// The first ms of the day (UTC).
    pub day: u64,
    pub calls: u64,
    pub failed: u64,
    /// As the provider counts them.
    pub input: u64,
    pub output: u64,
    pub cache_creation: u64,
    pub cache_read: u64,
}

/// A time in which a member worked on something, in ms since the epoch, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub member: String,
    pub from: u64,
    /// `u64::MAX` while it goes on.
    pub to: u64,
}

impl Reader {
    /// Sum up the model calls of a query; its text, cursor and limit do not count.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn usage(&self, query: &Query) -> Result<Vec<Used>, Error> {
        self.at(self.try_usage(query))
    }

    fn try_usage(&self, query: &Query) -> Result<Vec<Used>, Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let sum = |column: &str| format!("sum(min(coalesce(a.{column}, 0), {MOST}))");
        let sums = ["input", "output", "cache_creation", "cache_read"].map(sum).join(", ");
        let sql = format!(
            "SELECT m.text, w.text, a.provider, a.ts / {DAY_MS} * {DAY_MS} AS day, count(*), sum(a.failed), {sums}
                 FROM activity a JOIN word m ON m.id = a.member LEFT JOIN word w ON w.id = a.model"
        );
        let mut select = Select { sql, parameters: Vec::new() };
        query::filter(
            &mut select,
            &Query { kinds: vec!["llm_exchange".into()], after: None, ..query.clone() },
            &tx,
        )?;
        select.sql.push_str(" GROUP BY a.member, a.model, a.provider, day");
        let mut found = tx.prepare(&select.sql)?;
        let rows = found.query_map(params_from_iter(select.parameters), |row| {
            Ok(Used {
                member: row.get(0)?,
                model: row.get(1)?,
                provider: facts::provider(row.get(2)?),
                day: uint(row, 3)?,
                calls: uint(row, 4)?,
                failed: uint(row, 5)?,
                input: uint(row, 6)?,
                output: uint(row, 7)?,
                cache_creation: uint(row, 8)?,
                cache_read: uint(row, 9)?,
            })
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// When members worked on which objectives (or on `only` this one), as their activity tells it: from each
    /// `objective_open` to the next `objective_close`. By objective, then in the order in which they began.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn objective_spans(&self, only: Option<&str>) -> Result<Vec<(String, Span)>, Error> {
        self.at(self.try_objective_spans(only))
    }

    fn try_objective_spans(&self, only: Option<&str>) -> Result<Vec<(String, Span)>, Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let which = if only.is_some() { "o.text = ?1" } else { "a.objective IS NOT NULL" };
        let mut select = tx.prepare(&format!(
            "SELECT o.text, m.text, a.ts, a.kind = ?2 FROM activity a JOIN word o ON o.id = a.objective
                 JOIN word m ON m.id = a.member WHERE {which} ORDER BY a.objective, a.member, a.ts, a.id"
        ))?;
        let open = facts::kind_number("objective_open").unwrap_or_default();
        let mut spans: Vec<(String, Span)> = Vec::new();
        let mut rows = select.query([&only as &dyn ToSql, &open])?;
        while let Some(row) = rows.next()? {
            let (objective, member): (String, String) = (row.get(0)?, row.get(1)?);
            let (ts, opens): (u64, bool) = (uint(row, 2)?, row.get(3)?);
            let last =
                spans.last_mut().filter(|(o, s)| *o == objective && s.member == member && s.to == u64::MAX);
            match (last, opens) {
                (Some((_, span)), false) => span.to = ts,
                // Opened again without a close: a runner that was killed; it goes on.
                (Some(_), true) | (None, false) => {}
                (None, true) => spans.push((objective, Span { member, from: ts, to: u64::MAX })),
            }
        }
        spans.sort_by(|(a, x), (b, y)| (a, x.from).cmp(&(b, y.from)));
        Ok(spans)
    }
}
