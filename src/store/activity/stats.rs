//! What the database holds and what it takes.
use std::collections::BTreeMap;

use super::read::Reader;
use crate::store::column::uint;
use crate::store::error::{Error, Fault};

/// ms of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Rows that are counted in one go.
const ROWS: i64 = 10_000;

/// A member's rows of one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Day {
    pub member: String,
    /// The first ms of the day (UTC) in which the events happened.
    pub day: u64,
    pub rows: u64,
    /// Bytes of the events' JSON.
    pub logical: u64,
    /// Bytes that these rows made the file grow by when they were stored, without SQLite's free space. What several
    /// days share counts for the day that stored it first, also after that one's rows are pruned.
    pub stored: u64,
}

/// The whole database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// By member's name, then day.
    pub days: Vec<Day>,
    pub blocks: u64,
    pub nodes: u64,
    /// Bytes of the file, and how many of them are free pages. What the -wal file holds is counted in.
    pub file: u64,
    pub free: u64,
}

impl Reader {
    /// Count everything; reads every row's fixed part. `progress` gets rows done and rows in all, about.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn stats(&self, progress: impl FnMut(u64, u64)) -> Result<Stats, Error> {
        self.at(self.try_stats(progress))
    }

    fn try_stats(&self, mut progress: impl FnMut(u64, u64)) -> Result<Stats, Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let count = |sql: &str| tx.query_row(sql, [], |row| uint::<u64>(row, 0));
        let ends = "SELECT coalesce(min(id), 0), coalesce(max(id), 0) FROM activity";
        let (first, last): (i64, i64) = tx.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut some = tx.prepare(
            "SELECT word.text, d.day * ?1, d.rows, d.logical, d.stored FROM (
                 SELECT member, ts / ?1 AS day, count(*) AS rows, sum(size) AS logical, sum(added) AS stored
                 FROM activity WHERE id BETWEEN ?2 AND ?3 GROUP BY member, day) d
             JOIN word ON word.id = d.member",
        )?;
        let mut sums: BTreeMap<(String, u64), [u64; 3]> = BTreeMap::new();
        // In the order in which the rows lie in the file, in pieces so that there is something to tell.
        let mut from = first;
        while from <= last {
            let to = from.saturating_add(ROWS - 1).min(last);
            let mut rows = some.query([DAY_MS, from, to])?;
            while let Some(row) = rows.next()? {
                let sum = sums.entry((row.get(0)?, uint(row, 1)?)).or_default();
                for (i, sum) in sum.iter_mut().enumerate() {
                    *sum += uint::<u64>(row, 2 + i)?;
                }
            }
            progress((to - first + 1).unsigned_abs(), (last - first + 1).unsigned_abs());
            from = to.saturating_add(1);
        }
        let day = |((member, day), [rows, logical, stored]): ((String, u64), [u64; 3])| Day {
            member,
            day,
            rows,
            logical,
            stored,
        };
        let page = count("PRAGMA page_size")?;
        Ok(Stats {
            days: sums.into_iter().map(day).collect(),
            blocks: count("SELECT count(*) FROM block")?,
            nodes: count("SELECT count(*) FROM node")?,
            file: page * count("PRAGMA page_count")?,
            free: page * count("PRAGMA freelist_count")?,
        })
    }
}
