//! Reading messages: what is new for a member, and what was said.
//!
//! A member's messages come from several places: those for everybody, those of its channels, its own deliveries. Each
//! has an index in the order of messages; of each only as many ids are taken as are wanted, then they are merged.
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde_json::Value;

use super::{Store, attachment, integer};
use crate::store::column::uint;
use crate::store::error::{Error, Fault};
use crate::team::{Level, Message};

/// Which messages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within<'a> {
    /// All that the viewer sent or was sent.
    All,
    /// Those between the viewer and another.
    With(&'a str),
    /// Those for everybody.
    Everyone,
    /// Those of a channel, by its id.
    Channel(&'a str),
    /// Those of an objective, by its id.
    Objective(&'a str),
}

/// Where a list of messages begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before<'a> {
    Now,
    /// Before a time, ms since the epoch.
    Time(u64),
    /// Before a message, by its id.
    Message(&'a str),
}

impl Store {
    /// The row of the newest message; 0 if there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn last_message(&self) -> Result<i64, Error> {
        self.with(
            |conn| Ok(conn.query_row("SELECT coalesce(max(id), 0) FROM message", [], |row| row.get(0))?),
        )
    }

    /// The rows of the first messages for `member` after the row `after`, `most` at most, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn news(&self, member: &str, after: i64, most: usize) -> Result<Vec<i64>, Error> {
        let limit = integer(most as u64);
        self.with(|conn| {
            // All places as of the same moment: what is committed in between would be passed over in one of them.
            let tx = conn.transaction()?;
            let mut found = ids(&tx, sql::NEWS_OWN, params![member, after, limit])?;
            found.extend(ids(&tx, sql::NEWS_EVERYONE, params![after, limit])?);
            for (channel, since) in channels_of(&tx, member)? {
                found.extend(ids(&tx, sql::NEWS_CHANNEL, params![channel, after.max(since), limit])?);
            }
            found.sort_unstable();
            found.truncate(most);
            Ok(found)
        })
    }

    /// The rows of the last messages within something that `viewer` may see, `most` at most, newest first. `None`: there
    /// is no message of the id before which they are wanted.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn history(
        &self,
        viewer: &str,
        within: Within<'_>,
        before: Before<'_>,
        most: usize,
    ) -> Result<Option<Vec<i64>>, Error> {
        let limit = integer(most as u64);
        self.with(|conn| {
            let tx = conn.transaction()?;
            let Some(before) = row_of(&tx, before)? else { return Ok(None) };
            let found = match within {
                Within::With(other) => ids(&tx, sql::PAST_WITH, params![viewer, other, before, limit])?,
                Within::Everyone => ids(&tx, sql::PAST_EVERYONE, params![before, limit])?,
                Within::Channel(id) => ids(&tx, sql::PAST_CHANNEL, params![id, before, limit])?,
                Within::Objective(id) => ids(&tx, sql::PAST_OBJECTIVE, params![id, before, limit])?,
                Within::All => {
                    let mut found = ids(&tx, sql::PAST_OWN, params![viewer, before, limit])?;
                    found.extend(ids(&tx, sql::PAST_EVERYONE, params![before, limit])?);
                    for (channel, since) in channels_of(&tx, viewer)? {
                        let values = params![channel, since, before, limit];
                        found.extend(ids(&tx, sql::PAST_JOINED, values)?);
                    }
                    found.sort_unstable_by(|a, b| b.cmp(a));
                    found.truncate(most);
                    found
                }
            };
            Ok(Some(found))
        })
    }

    /// The messages of these rows, in this order, until `each` has enough.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn messages(
        &self,
        rows: &[i64],
        mut each: impl FnMut(i64, Message) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.with(|conn| {
            let mut select = conn.prepare(sql::MESSAGE)?;
            for id in rows {
                let parts = select.query_row([id], Parts::read)?;
                if each(*id, parts.message()?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// The queries: of each place those after a row, and those before one.
pub(super) mod sql {
    pub const NEWS_OWN: &str = "SELECT message FROM delivery WHERE member = ? AND message > ? AND quiet = 0
                                ORDER BY message LIMIT ?";
    pub const NEWS_EVERYONE: &str = "SELECT id FROM message INDEXED BY message_everyone
                                     WHERE everyone = 1 AND id > ? ORDER BY id LIMIT ?";
    pub const NEWS_CHANNEL: &str = "SELECT id FROM message INDEXED BY message_channel
                                    WHERE channel = ? AND id > ? ORDER BY id LIMIT ?";
    pub const PAST_OWN: &str =
        "SELECT message FROM delivery WHERE member = ? AND message < ? ORDER BY message DESC LIMIT ?";
    pub const PAST_EVERYONE: &str = "SELECT id FROM message INDEXED BY message_everyone
                                     WHERE everyone = 1 AND id < ? ORDER BY id DESC LIMIT ?";
    pub const PAST_JOINED: &str = "SELECT id FROM message INDEXED BY message_channel
                                   WHERE channel = ? AND id > ? AND id < ? ORDER BY id DESC LIMIT ?";
    pub const PAST_WITH: &str = "SELECT message FROM delivery INDEXED BY delivery_peer
                                 WHERE member = ? AND peer = ? AND message < ? ORDER BY message DESC LIMIT ?";
    pub const PAST_CHANNEL: &str = "SELECT id FROM message INDEXED BY message_channel
                                    WHERE channel = (SELECT id FROM channel WHERE uid = ?) AND id < ?
                                    ORDER BY id DESC LIMIT ?";
    pub const PAST_OBJECTIVE: &str = "SELECT id FROM message INDEXED BY message_objective
                                      WHERE objective = (SELECT id FROM objective WHERE uid = ?) AND id < ?
                                      ORDER BY id DESC LIMIT ?";
    pub const CHANNELS: &str = "SELECT channel, since FROM channel_member WHERE member = ?";
    pub const BY_TIME: &str = "SELECT id FROM message WHERE ts < ? ORDER BY ts DESC, id DESC LIMIT 1";
    pub const MESSAGE: &str = "SELECT uid, ts, recipient, sender, title, body, level, data, attachments
                               FROM message WHERE id = ?";
}

fn ids(conn: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<Vec<i64>> {
    conn.prepare(sql)?.query_map(values, |row| row.get(0))?.collect()
}

/// The channels that a member is in, each with the last message before it joined.
fn channels_of(conn: &Connection, member: &str) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut select = conn.prepare(sql::CHANNELS)?;
    select.query_map([member], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// The first row that is too new.
fn row_of(conn: &Connection, before: Before<'_>) -> rusqlite::Result<Option<i64>> {
    match before {
        Before::Now => Ok(Some(i64::MAX)),
        Before::Time(ts) => {
            let mut select = conn.prepare(sql::BY_TIME)?;
            let last: Option<i64> = select.query_row([integer(ts)], |row| row.get(0)).optional()?;
            Ok(Some(last.map_or(0, |last| last + 1)))
        }
        Before::Message(uid) => {
            let mut select = conn.prepare("SELECT id FROM message WHERE uid = ?")?;
            select.query_row([uid], |row| row.get(0)).optional()
        }
    }
}

/// A row as it is stored.
struct Parts {
    message: Message,
    level: String,
    data: String,
    attachments: String,
}

impl Parts {
    fn read(row: &Row<'_>) -> rusqlite::Result<Parts> {
        let message = Message {
            id: row.get(0)?,
            ts: uint(row, 1)?,
            to: row.get(2)?,
            from: row.get(3)?,
            title: row.get(4)?,
            body: row.get(5)?,
            level: Level::Info,
            data: serde_json::Map::new(),
            attachments: Vec::new(),
        };
        Ok(Parts { message, level: row.get(6)?, data: row.get(7)?, attachments: row.get(8)? })
    }

    fn message(self) -> Result<Message, Fault> {
        let Value::Object(data) = serde_json::from_str(&self.data).unwrap_or_default() else {
            return Err(Fault::Damaged("a message whose data is no object".to_string()));
        };
        let level = Level::from_name(&self.level);
        let level = level.ok_or_else(|| Fault::Damaged(format!("a message of the level {}", self.level)))?;
        let attachments = attachment::from_text(&self.attachments)?;
        Ok(Message { level, data, attachments, ..self.message })
    }
}
