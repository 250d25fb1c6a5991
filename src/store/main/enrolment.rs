//! Devices that ask for a token: who asked, what was decided, and the sealed token until it is fetched.
//!
//! An approval writes two files, and may break off between them: [`Store::reserve_token`] notes the token's id here
//! before the team file gets its hash, so that [`Store::unfetched_tokens`] finds it whatever happens.
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Store, integer};
use crate::store::column::uint;
use crate::store::error::Error;

/// How long a device may wait, ms.
pub const LIFE_MS: u64 = 300_000;
/// How long an enrolment is remembered, ms: as long as it counts against those who ask.
const MEMORY_MS: u64 = 3_600_000;
/// How many may be asked for in that time from one network, and from all together.
const MOST: [i64; 2] = [10, 1000];
/// The shortest time between two answers to the same device, ms.
const APART_MS: u64 = 2500;

/// A device that asks. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// For people, as in `7Q2M-XD4R`.
    pub user_code: String,
    pub label_hint: Option<String>,
    pub source_ip: Option<String>,
    pub source_ua: Option<String>,
    pub created: u64,
    /// The first moment at which it no longer counts.
    pub expires: u64,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    Done,
    /// Too many were asked for; not before so many ms have passed.
    Later(u64),
    /// One of the codes is in use.
    Taken,
}

/// What a device is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    Pending,
    TooSoon,
    /// Unknown, too old, or fetched: which of them is nobody's business.
    Gone,
    Rejected {
        reason: Option<String>,
    },
    /// [`Store::fetch_token`] takes it.
    Approved {
        id: i64,
        member: String,
        token_id: String,
        sealed: String,
    },
}

/// Whether an enrolment can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It can; `stale` is the token of an approval that broke off.
    Open {
        id: i64,
        label_hint: Option<String>,
        stale: Option<String>,
    },
    No(Undecided),
}

/// Why an enrolment cannot be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecided {
    Unknown,
    Expired,
    /// It has been decided.
    Decided,
}

/// Rows whose token is in the team file and is nobody's: approved or about to be, and never fetched.
const UNFETCHED: &str = "token_id IS NOT NULL AND (decision IS NOT 'approved' OR sealed IS NOT NULL)";

impl Store {
    /// A device asks; `network` is whose it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin_enrolment(
        &self,
        device_code: &[u8; 32],
        network: Option<&str>,
        new: &Enrolment,
    ) -> Result<Begun, Error> {
        let since = integer(new.created.saturating_sub(MEMORY_MS));
        let wait = |oldest: u64| Begun::Later((oldest + MEMORY_MS).saturating_sub(new.created).max(1));
        self.write(|tx| {
            // The oldest of the newest ones that make up the limit: when it is too old, there is room again.
            let own = "SELECT created FROM enrolment WHERE network IS ? AND created > ?
                       ORDER BY created DESC LIMIT 1 OFFSET ?";
            let found =
                tx.query_row(own, params![network, since, MOST[0] - 1], |row| uint(row, 0)).optional()?;
            let all =
                "SELECT expires - ? FROM enrolment WHERE expires > ? ORDER BY expires DESC LIMIT 1 OFFSET ?";
            let life = integer(LIFE_MS);
            let values = params![life, since + life, MOST[1] - 1];
            let found = found.map_or_else(
                || tx.query_row(all, values, |row| uint(row, 0)).optional(),
                |at| Ok(Some(at)),
            )?;
            if let Some(oldest) = found {
                return Ok(wait(oldest));
            }
            let insert = "INSERT OR IGNORE INTO enrolment
                (device_code, user_code, label_hint, source_ip, source_ua, network, created, expires)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            let values = params![
                device_code,
                new.user_code,
                new.label_hint,
                new.source_ip,
                new.source_ua,
                network,
                integer(new.created),
                integer(new.expires),
            ];
            Ok(if tx.execute(insert, values)? == 1 { Begun::Done } else { Begun::Taken })
        })
    }

    /// A device asks for its token. A question that comes too soon changes nothing, so that one who asks too often
    /// hears the truth from time to time.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn poll_enrolment(&self, device_code: &[u8; 32], now_ms: u64) -> Result<Polled, Error> {
        type Found = (i64, bool, Option<u64>, Polled);
        let read = |row: &Row<'_>| -> rusqlite::Result<Found> {
            let (decision, sealed): (Option<String>, Option<String>) = (row.get(3)?, row.get(4)?);
            let polled = match (decision.as_deref(), sealed) {
                (None, _) => Polled::Pending,
                (Some("rejected"), _) => Polled::Rejected { reason: row.get(5)? },
                (Some(_), None) => Polled::Gone,
                (Some(_), Some(sealed)) => {
                    Polled::Approved { id: row.get(0)?, member: row.get(6)?, token_id: row.get(7)?, sealed }
                }
            };
            let last = row.get::<_, Option<i64>>(2)?.and_then(|at| u64::try_from(at).ok());
            Ok((row.get(0)?, uint::<u64>(row, 1)? <= now_ms, last, polled))
        };
        let select = "SELECT id, expires, polled, decision, sealed, reason, member, token_id
                      FROM enrolment WHERE device_code = ?";
        let found = self.with(|conn| Ok(conn.query_row(select, [device_code], read).optional()?))?;
        let Some((id, false, last, polled)) = found else { return Ok(Polled::Gone) };
        // A clock that was set back must not keep the device waiting.
        if last.is_some_and(|at| (at..at + APART_MS).contains(&now_ms)) {
            return Ok(Polled::TooSoon);
        }
        let update = "UPDATE enrolment SET polled = ?, polls = polls + 1 WHERE id = ? AND polled IS ?";
        let values = params![integer(now_ms), id, last.map(integer)];
        // Of two questions at the same time one is too soon.
        let first = self.write(|tx| tx.execute(update, values))? == 1;
        Ok(if first { polled } else { Polled::TooSoon })
    }

    /// Take the token of an approved enrolment; gives whether it was still there.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn fetch_token(&self, id: i64) -> Result<bool, Error> {
        let update = "UPDATE enrolment SET sealed = NULL WHERE id = ? AND sealed IS NOT NULL";
        Ok(self.write(|tx| tx.execute(update, [id]))? == 1)
    }

    /// The devices that wait for a decision, the oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pending_enrolments(&self, now_ms: u64) -> Result<Vec<Enrolment>, Error> {
        self.with(|conn| {
            let mut select = conn.prepare(
                "SELECT user_code, label_hint, source_ip, source_ua, created, expires FROM enrolment
                 WHERE expires > ? AND decided IS NULL ORDER BY expires",
            )?;
            let rows = select.query_map([integer(now_ms)], |row| {
                Ok(Enrolment {
                    user_code: row.get(0)?,
                    label_hint: row.get(1)?,
                    source_ip: row.get(2)?,
                    source_ua: row.get(3)?,
                    created: uint(row, 4)?,
                    expires: uint(row, 5)?,
                })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Begin to approve: from now on `token_id` is the token that belongs to it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn reserve_token(&self, user_code: &str, token_id: &str, now_ms: u64) -> Result<Reserved, Error> {
        self.write(|tx| {
            let id = match undecided(tx, user_code, now_ms)? {
                Ok(id) => id,
                Err(why) => return Ok(Reserved::No(why)),
            };
            let (label_hint, stale) =
                tx.query_row("SELECT label_hint, token_id FROM enrolment WHERE id = ?", [id], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            tx.execute("UPDATE enrolment SET token_id = ? WHERE id = ?", params![token_id, id])?;
            Ok(Reserved::Open { id, label_hint, stale })
        })
    }

    /// Approve, now that the team file has the token. Gives whether that counts: somebody else may have decided
    /// meanwhile, and the token is to be dropped then.
    ///
    /// # Errors
    /// See [`Error`]; it does not count then, and the token is dropped in time.
    pub fn approve_enrolment(
        &self,
        id: i64,
        token_id: &str,
        member: &str,
        sealed: &str,
        now_ms: u64,
    ) -> Result<bool, Error> {
        let update = "UPDATE enrolment SET decided = ?, decision = 'approved', member = ?, sealed = ?
                      WHERE id = ? AND token_id = ? AND decided IS NULL";
        let values = params![integer(now_ms), member, sealed, id, token_id];
        Ok(self.write(|tx| tx.execute(update, values))? == 1)
    }

    /// Reject; `None` if that is done.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn reject_enrolment(
        &self,
        user_code: &str,
        reason: Option<&str>,
        now_ms: u64,
    ) -> Result<Option<Undecided>, Error> {
        self.write(|tx| {
            let id = match undecided(tx, user_code, now_ms)? {
                Ok(id) => id,
                Err(why) => return Ok(Some(why)),
            };
            let update = "UPDATE enrolment SET decided = ?, decision = 'rejected', reason = ? WHERE id = ?";
            tx.execute(update, params![integer(now_ms), reason, id])?;
            Ok(None)
        })
    }

    /// The ids of tokens that nobody fetched in time. Once they are out of the team file,
    /// [`Store::forget_tokens`] is told.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn unfetched_tokens(&self, now_ms: u64) -> Result<Vec<String>, Error> {
        self.with(|conn| {
            let sql = format!("SELECT token_id FROM enrolment WHERE expires <= ? AND {UNFETCHED}");
            let mut select = conn.prepare(&sql)?;
            let rows = select.query_map([integer(now_ms)], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// These tokens are nowhere any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn forget_tokens(&self, ids: &[String], now_ms: u64) -> Result<(), Error> {
        self.write(|tx| {
            let sql = format!(
                "UPDATE enrolment SET token_id = NULL, sealed = NULL
                 WHERE expires <= ? AND token_id = ? AND {UNFETCHED}"
            );
            let mut update = tx.prepare(&sql)?;
            ids.iter().try_for_each(|id| update.execute(params![integer(now_ms), id]).map(drop))
        })
    }
}

/// The row of a code that waits for a decision.
fn undecided(tx: &Transaction<'_>, user_code: &str, now_ms: u64) -> rusqlite::Result<Result<i64, Undecided>> {
    let select = "SELECT id, decided IS NOT NULL, expires FROM enrolment WHERE user_code = ?";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, uint::<u64>(row, 2)?));
    Ok(match tx.query_row(select, [user_code], read).optional()? {
        None => Err(Undecided::Unknown),
        Some((_, true, _)) => Err(Undecided::Decided),
        Some((_, false, expires)) if expires <= now_ms => Err(Undecided::Expired),
        Some((id, false, _)) => Ok(id),
    })
}

pub(super) fn sweep(tx: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<()> {
    let old = integer(now_ms.saturating_sub(MEMORY_MS - LIFE_MS));
    tx.execute(&format!("DELETE FROM enrolment WHERE expires <= ? AND NOT ({UNFETCHED})"), [old]).map(drop)
}
