//! Messages: one row for each, and whose it is. Writing is here; reading is in [`super::inbox`].
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::{Store, attachment, integer};
use crate::store::column::uint;
use crate::store::error::Error;
use crate::sys::random;
use crate::team::{Message, Post};

/// How far the clock may be behind the last message for that one's time to count: so that the order of times is that
/// of messages, and a clock that was once wrong is not wrong for ever.
const STEP_BACK_MS: u64 = 1000;

/// Who gets a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    Everyone,
    Members(Vec<String>),
}

/// A message that was stored, and who gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub message: Message,
    /// Whom it is for: they are counted.
    pub to: Recipients,
    /// The sender, where it is not among them but gets it on its own streams too.
    pub echo: Option<String>,
}

/// Why a message does not go to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPost {
    NoChannel,
    Archived,
    NotAMember,
}

/// Where a message belongs.
pub(super) enum Place<'a> {
    Everyone,
    /// Between the sender and its recipient.
    Two(&'a str),
    /// A channel's row, and who is in it.
    Channel(i64, Vec<String>),
    /// An objective's row, its audience, and who only finds it in the history.
    Objective {
        id: i64,
        to: Vec<String>,
        quiet: &'a [String],
    },
}

impl Store {
    /// Store what `from` says to one member, or to all.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn post(&self, from: &str, post: Post, now_ms: u64) -> Result<Sent, Error> {
        self.write(|tx| {
            let to = post.to.clone();
            let place = to.as_deref().map_or(Place::Everyone, Place::Two);
            insert(tx, Some(from), post, place, now_ms)
        })
    }

    /// Store what `from` says in the channel with the id `channel`.
    ///
    /// # Errors
    /// See [`Error`]; [`NoPost`] if `from` may not, with nothing stored.
    pub fn post_to_channel(
        &self,
        from: &str,
        channel: &str,
        post: Post,
        now_ms: u64,
    ) -> Result<Result<Sent, NoPost>, Error> {
        self.write(|tx| {
            let sql = "SELECT id, archived IS NOT NULL FROM channel WHERE uid = ?";
            let found = tx.query_row(sql, [channel], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let (id, archived): (i64, bool) = match found {
                Some(found) => found,
                None => return Ok(Err(NoPost::NoChannel)),
            };
            if archived {
                return Ok(Err(NoPost::Archived));
            }
            let mut select = tx.prepare("SELECT member FROM channel_member WHERE channel = ?")?;
            let members = select.query_map([id], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            if !members.iter().any(|member| member == from) {
                return Ok(Err(NoPost::NotAMember));
            }
            insert(tx, Some(from), post, Place::Channel(id, members), now_ms).map(Ok)
        })
    }
}

/// Store a message and whose it is.
pub(super) fn insert(
    tx: &Transaction<'_>,
    from: Option<&str>,
    post: Post,
    place: Place<'_>,
    now_ms: u64,
) -> rusqlite::Result<Sent> {
    let last: Option<u64> = tx
        .prepare("SELECT ts FROM message ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| uint(row, 0))
        .optional()?;
    let ts = last.filter(|last| (now_ms..=now_ms.saturating_add(STEP_BACK_MS)).contains(last));
    let message = post.stamped(random::uuid(), ts.unwrap_or(now_ms), from);
    let (everyone, channel, objective) = match &place {
        Place::Everyone => (true, None, None),
        Place::Two(_) => (false, None, None),
        Place::Channel(id, _) => (false, Some(*id), None),
        Place::Objective { id, .. } => (false, None, Some(*id)),
    };
    let data = Value::Object(message.data.clone()).to_string();
    tx.prepare(
        "INSERT INTO message (uid, ts, sender, recipient, title, body, level, data, attachments, everyone, channel,
                              objective)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        message.id,
        integer(message.ts),
        message.from,
        message.to,
        message.title,
        message.body,
        message.level.name(),
        data,
        attachment::to_text(&message.attachments),
        everyone,
        channel,
        objective,
    ])?;
    let id = tx.last_insert_rowid();
    attachment::record(tx, &message.attachments, Some(id), None)?;
    let mut insert = tx.prepare(
        "INSERT INTO delivery (member, message, peer, quiet) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )?;
    let mut deliver = |member: &str, peer: Option<&str>, quiet: bool| {
        insert.execute(params![member, id, peer, quiet]).map(drop)
    };
    let mut echo = None;
    let to = match place {
        Place::Everyone => Recipients::Everyone,
        Place::Channel(_, members) => Recipients::Members(members),
        Place::Two(to) => {
            deliver(to, from, false)?;
            if let Some(from) = from.filter(|from| *from != to) {
                deliver(from, Some(to), false)?;
                echo = Some(from.to_string());
            }
            Recipients::Members(vec![to.to_string()])
        }
        Place::Objective { to, quiet, .. } => {
            to.iter().try_for_each(|member| deliver(member, None, false))?;
            let own = from.into_iter().chain(quiet.iter().map(String::as_str));
            own.into_iter().try_for_each(|member| deliver(member, None, true))?;
            Recipients::Members(to)
        }
    };
    Ok(Sent { message, to, echo })
}

/// A member was deleted: what it was sent is no longer anybody's that may come to have its name.
pub(super) fn forget(tx: &Transaction<'_>, member: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM delivery WHERE member = ?", [member]).map(drop)
}
