//! Sessions of people who logged in: a cookie's hash and whose it is.
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, integer};
use crate::store::column::uint;
use crate::store::error::Error;

/// A session that counts. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub member: String,
    pub created: u64,
    /// When it was last moved on, not each use.
    pub seen: u64,
    /// The first moment at which it no longer counts.
    pub expires: u64,
}

impl Store {
    /// Begin a session; `hash` is the SHA-256 of its cookie.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin_session(&self, hash: &[u8; 32], session: &Session) -> Result<(), Error> {
        self.write(|tx| {
            let (created, seen) = (integer(session.created), integer(session.seen));
            tx.execute(
                "INSERT INTO session (hash, member, created, seen, expires) VALUES (?, ?, ?, ?, ?)",
                params![hash, session.member, created, seen, integer(session.expires)],
            )
            .map(drop)
        })
    }

    /// The session of a cookie, unless it has ended by `now_ms`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn session(&self, hash: &[u8; 32], now_ms: u64) -> Result<Option<Session>, Error> {
        self.with(|conn| {
            let sql = "SELECT member, created, seen, expires FROM session WHERE hash = ? AND expires > ?";
            let mut select = conn.prepare(sql)?;
            let found = select.query_row(params![hash, integer(now_ms)], |row| {
                Ok(Session {
                    member: row.get(0)?,
                    created: uint(row, 1)?,
                    seen: uint(row, 2)?,
                    expires: uint(row, 3)?,
                })
            });
            Ok(found.optional()?)
        })
    }

    /// Let a session last longer. One that has been ended meanwhile stays so.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn prolong_session(&self, hash: &[u8; 32], seen_ms: u64, expires_ms: u64) -> Result<(), Error> {
        let values = params![integer(seen_ms), integer(expires_ms), hash];
        self.write(|tx| {
            tx.execute("UPDATE session SET seen = ?, expires = ? WHERE hash = ?", values).map(drop)
        })
    }

    /// End one session.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn end_session(&self, hash: &[u8; 32]) -> Result<(), Error> {
        self.write(|tx| tx.execute("DELETE FROM session WHERE hash = ?", [hash]).map(drop))
    }

    /// End the sessions of a member, but for the one in which this is asked.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn end_sessions(&self, member: &str, except: Option<&[u8; 32]>) -> Result<(), Error> {
        self.write(|tx| end_all(tx, member, except))
    }
}

pub(super) fn end_all(tx: &Transaction<'_>, member: &str, except: Option<&[u8; 32]>) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM session WHERE member = ? AND hash IS NOT ?", params![member, except]).map(drop)
}

pub(super) fn sweep(tx: &Transaction<'_>, now_ms: u64) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM session WHERE expires <= ?", [integer(now_ms)]).map(drop)
}
