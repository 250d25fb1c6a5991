//! A database as it is at one moment, copied while others write to it.
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::error::{Error, Fault};
use super::file::{Kind, PATIENCE};

/// Pages that are copied at once.
const PAGES: i32 = 1024;

/// A moment of a database. As long as this lives the moment can be copied, however much is written meanwhile; the
/// database's -wal file grows until then.
pub struct Snapshot {
    conn: Connection,
    path: PathBuf,
    version: i64,
}

impl Snapshot {
    /// The database at `path` as it is now, of this version's schema or an older one.
    pub(super) fn take(kind: &Kind, path: &Path) -> Result<Snapshot, Error> {
        if !path.exists() {
            return Err(Error::Missing { path: path.to_path_buf() });
        }
        let begin = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let conn = Connection::open_with_flags(path, flags)?;
            conn.busy_timeout(PATIENCE)?;
            conn.execute_batch("BEGIN")?;
            Ok(conn)
        };
        let conn = begin().map_err(|e: rusqlite::Error| Fault::from(e).at(path))?;
        // This reads, and so begins the moment.
        match kind.version(&conn, path)? {
            0 => Err(Error::Missing { path: path.to_path_buf() }),
            version => Ok(Snapshot { conn, path: path.to_path_buf(), version }),
        }
    }

    /// Write it to the empty file at `to`; `progress` gets how many pages are done, and of how many, and may break off.
    /// Gives whether it is whole.
    ///
    /// # Errors
    /// See [`Error`]; what is at `to` then is of no use.
    pub fn copy(
        &self,
        to: &Path,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        let mut copy = || {
            let mut copy = Connection::open(to)?;
            {
                let backup = Backup::new(&self.conn, &mut copy)?;
                while backup.step(PAGES)? != StepResult::Done {
                    let state = backup.progress();
                    let count = |pages: i32| u64::try_from(pages).unwrap_or_default();
                    let done = count(state.pagecount - state.remaining);
                    if progress(done, count(state.pagecount)).is_break() {
                        return Ok(false);
                    }
                }
            }
            copy.close().map_err(|(_, e)| e)?;
            Ok(true)
        };
        copy().map_err(|e: rusqlite::Error| Fault::from(e).at(to))
    }

    /// The version of its schema.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Where the database is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a program has the database at `path` open.
///
/// # Errors
/// See [`Error`].
pub fn is_in_use(path: &Path) -> Result<bool, Error> {
    let try_alone = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        // In WAL mode everyone who has the file open holds a lock on it.
        conn.pragma_update_and_check(None, "locking_mode", "exclusive", |_| Ok(()))?;
        conn.execute_batch("BEGIN IMMEDIATE; COMMIT")
    };
    match try_alone().map_err(|e: rusqlite::Error| Fault::from(e).at(path)) {
        Ok(()) => Ok(false),
        Err(Error::Locked { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
