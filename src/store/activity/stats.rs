//! What the database holds and what it takes.
use super::read::Reader;
use crate::store::column::uint;
use crate::store::error::{Error, Fault};

/// ms of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

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
    /// Count everything; reads every row's fixed part.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn stats(&self) -> Result<Stats, Error> {
        self.at(self.try_stats())
    }

    fn try_stats(&self) -> Result<Stats, Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let count = |sql: &str| tx.query_row(sql, [], |row| uint::<u64>(row, 0));
        let mut days = tx.prepare(
            "SELECT word.text, d.day * ?1, d.rows, d.logical, d.stored FROM (
                 SELECT member, ts / ?1 AS day, count(*) AS rows, sum(size) AS logical, sum(added) AS stored
                 FROM activity GROUP BY member, day) d
             JOIN word ON word.id = d.member ORDER BY word.text, d.day",
        )?;
        let days = days.query_map([DAY_MS], |row| {
            Ok(Day {
                member: row.get(0)?,
                day: uint(row, 1)?,
                rows: uint(row, 2)?,
                logical: uint(row, 3)?,
                stored: uint(row, 4)?,
            })
        })?;
        let page = count("PRAGMA page_size")?;
        Ok(Stats {
            days: days.collect::<Result<_, _>>()?,
            blocks: count("SELECT count(*) FROM block")?,
            nodes: count("SELECT count(*) FROM node")?,
            file: page * count("PRAGMA page_count")?,
            free: page * count("PRAGMA freelist_count")?,
        })
    }
}
