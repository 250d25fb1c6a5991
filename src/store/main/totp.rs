//! One-time codes: which steps were used, how often somebody guessed wrong.
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, integer};
use crate::store::column::uint;
use crate::store::error::Error;

/// How long a failure counts, ms.
const WINDOW_MS: u64 = 15 * 60 * 1000;
/// Failures that are kept, all together: strangers may make up names.
const MOST: u32 = 50_000;

/// Whose failures are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tries<'a> {
    /// Those with one name, whether there is a member of that name or not: 5 in 15 minutes.
    Of(&'a str),
    /// Those without a name: 10 in 15 minutes, all together.
    Unnamed,
}

/// Whether a code may be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It may. It counts as a failure until it is accepted or taken back.
    Counted(i64),
    /// Not before so many ms have passed.
    Later(u64),
}

impl Store {
    /// Begin an attempt: it is counted before the code is looked at, so that many at the same time win nothing. While as
    /// many failures are kept as may be, there is none for any name.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin_attempt(&self, tries: Tries<'_>, now_ms: u64) -> Result<Attempt, Error> {
        let (member, limit) = match tries {
            Tries::Of(name) => (Some(name), 5),
            Tries::Unnamed => (None, 10),
        };
        self.write(|tx| {
            // The oldest of the newest failures that make up the limit: when it is too old, there is room again.
            let sql = "SELECT at FROM totp_failure WHERE member IS ? AND at > ? AND at <= ?
                       ORDER BY at DESC LIMIT 1 OFFSET ?";
            let since = integer(now_ms.saturating_sub(WINDOW_MS));
            let values = params![member, since, integer(now_ms), limit - 1];
            let mut found: Option<u64> = tx.query_row(sql, values, |row| uint(row, 0)).optional()?;
            if found.is_none() && is_full(tx, since)? {
                let sql = "SELECT min(at) FROM totp_failure WHERE at > ?";
                found = Some(tx.query_row(sql, [since], |row| uint(row, 0))?);
            }
            if let Some(at) = found {
                return Ok(Attempt::Later((at + WINDOW_MS).saturating_sub(now_ms).max(1)));
            }
            tx.execute(
                "INSERT INTO totp_failure (member, at) VALUES (?, ?)",
                params![member, integer(now_ms)],
            )?;
            Ok(Attempt::Counted(tx.last_insert_rowid()))
        })
    }

    /// An attempt was neither right nor wrong, for a reason of ours.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn take_back_attempt(&self, attempt: i64) -> Result<(), Error> {
        self.write(|tx| tx.execute("DELETE FROM totp_failure WHERE id = ?", [attempt]).map(drop))
    }

    /// The code of an attempt is right for a step of a member. Gives whether it counts: a step is accepted once, and
    /// none before one that was. The attempt is a failure no more, and neither are earlier ones of this member.
    ///
    /// # Errors
    /// See [`Error`]; it does not count then.
    pub fn accept_step(&self, attempt: i64, member: &str, step: u64) -> Result<bool, Error> {
        self.write(|tx| {
            let sql = "INSERT INTO totp (member, step) VALUES (?, ?)
                       ON CONFLICT (member) DO UPDATE SET step = excluded.step WHERE excluded.step > step";
            if tx.execute(sql, params![member, integer(step)])? == 0 {
                return Ok(false);
            }
            tx.execute("DELETE FROM totp_failure WHERE id = ? OR member = ?", params![attempt, member])?;
            Ok(true)
        })
    }

    /// A member has a new secret: steps and failures of the old one count no more.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn forget_totp(&self, member: &str) -> Result<(), Error> {
        self.write(|tx| forget(tx, member))
    }
}

/// Whether as many failures since a time are kept as may be.
fn is_full(tx: &Transaction<'_>, since: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM totp_failure WHERE at > ? LIMIT 1 OFFSET ?";
    tx.prepare(sql)?.exists(params![since, MOST - 1])
}

pub(super) fn forget(tx: &Transaction<'_>, member: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM totp WHERE member = ?", [member])?;
    tx.execute("DELETE FROM totp_failure WHERE member = ?", [member]).map(drop)
}

pub(super) fn sweep(tx: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<()> {
    let old = integer(now_ms.saturating_sub(WINDOW_MS));
    tx.execute("DELETE FROM totp_failure WHERE at <= ?", [old]).map(drop)
}
