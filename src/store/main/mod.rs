//! The main database: what flows while the broker runs. Who the members are stands in the team file, not here.
//!
//! Comes in: hashes of session cookies, ids of tokens, steps of one-time codes, devices that ask, and the time; messages
//! and objectives. Goes out: the same, as long as it counts. It holds no secret in the clear. [`Store`] may be used from
//! any thread; a process has one.
mod attachment;
mod channel;
mod enrolment;
mod inbox;
mod message;
mod objective;
mod schema;
mod session;
mod subscription;
#[cfg(test)]
mod team_tests;
#[cfg(test)]
mod tests;
mod token;
mod totp;

pub use channel::{Changer, NoChange};
pub use enrolment::{Begun, Enrolment, LIFE_MS, Polled, Reserved, Undecided};
pub use inbox::{Before, Within};
pub use message::{NoPost, Recipients, Sent};
pub use objective::{Changed, Wanted};
pub use session::Session;
pub use subscription::Subscription;
pub use totp::{Attempt, Tries};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::error::{Error, Fault};
use super::file::{Stop, Upgrade};
use super::files;
use super::snapshot::Snapshot;
use schema::KIND;

/// The main database. Each operation that writes is one transaction; SQLite lets one run after the other, and no lock
/// of ours is held meanwhile.
pub struct Store {
    path: PathBuf,
    /// Connections nobody uses now. There are never more than there were users at the same time.
    idle: Mutex<Vec<Connection>>,
    upgrade: Option<Upgrade>,
}

/// A connection, and whether the file was brought up to date for it.
fn connect(path: &Path) -> Result<(Connection, Option<Upgrade>), Error> {
    KIND.open_writer(path, &(Arc::new(|| false) as Stop))
}

impl Store {
    /// Open the database; it is made, 0600, if it is not there (its directory 0700), and brought up to this version's
    /// schema.
    ///
    /// # Errors
    /// See [`Error`]. Waits up to 5 s for another program's lock.
    pub fn open(path: &Path) -> Result<Store, Error> {
        let (first, upgrade) = connect(path)?;
        Ok(Store { path: path.to_path_buf(), idle: Mutex::new(vec![first]), upgrade })
    }

    /// What was done when it was opened, if an older version had written it.
    #[must_use]
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }

    /// Bytes of the database's files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        super::bytes(&self.path)
    }

    fn give_back(&self, conn: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
    }

    /// A connection that failed is not used again.
    pub(in crate::store) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut conn = idle.map_or_else(|| connect(&self.path).map(|(conn, _)| conn), Ok)?;
        let result = work(&mut conn).map_err(|fault| fault.at(&self.path))?;
        self.give_back(conn);
        Ok(result)
    }

    /// One transaction that writes: all of `work` is on the disk when this returns, or none.
    pub(in crate::store) fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        self.with(|conn| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&tx)?;
            tx.commit()?;
            Ok(result)
        })
    }

    /// One transaction that writes, or gives up: where `work` gives an inner error, nothing is different.
    pub(in crate::store) fn write_or<T, R>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<Result<T, R>, Fault>,
    ) -> Result<Result<T, R>, Error> {
        self.with(|conn| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&tx)?;
            if result.is_ok() {
                tx.commit()?;
            }
            Ok(result)
        })
    }

    /// Whether the file is still there and can be read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        let read = |conn: &mut Connection| {
            Ok(conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?)
        };
        self.path.is_file() && self.with(read).is_ok()
    }

    /// Forget what no longer counts at `now_ms` (since the epoch): sessions that have ended, old failures, times of
    /// tokens that are not among `tokens`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn sweep(&self, now_ms: u64, tokens: &[&str]) -> Result<(), Error> {
        self.write(|tx| {
            session::sweep(tx, now_ms)?;
            totp::sweep(tx, now_ms)?;
            enrolment::sweep(tx, now_ms)?;
            token::sweep(tx, tokens)
        })
    }

    /// Forget everything about a member: for one that was deleted, since a later one may have the same name. What its
    /// files contained stays on the disk until a broker looks for what nothing refers to.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn forget(&self, member: &str) -> Result<(), Error> {
        self.write(|tx| {
            session::end_all(tx, member, None)?;
            totp::forget(tx, member)?;
            message::forget(tx, member)?;
            objective::forget(tx, member)?;
            channel::forget(tx, member)?;
            subscription::forget(tx, member)?;
            files::forget(tx, member)
        })
    }
}

/// A main database as it is now.
///
/// # Errors
/// See [`Error`]: no file, none of ours, a newer one.
pub fn snapshot(path: &Path) -> Result<Snapshot, Error> {
    Snapshot::take(&KIND, path)
}

/// As SQLite has it: times and counts of ours never come near the limit.
pub(in crate::store) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
