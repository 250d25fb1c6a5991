//! Opening a database file: who may read it, whose it is, how old it is.
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::{Access, access};

use super::error::{Error, Fault};
use super::snapshot::Snapshot;
use crate::sys::file;

/// Whether to stop waiting for a lock early; asked every few milliseconds.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// How long a connection waits for another program's lock.
pub(super) const PATIENCE: Duration = Duration::from_millis(5000);

/// One kind of database.
pub(super) struct Kind {
    /// As in "not an ac7 … database".
    pub name: &'static str,
    /// `PRAGMA application_id`: tells our files from others.
    pub application_id: i64,
    /// The n-th brings a file of version n to n + 1; `PRAGMA user_version` counts them.
    pub migrations: &'static [&'static str],
}

/// That a file of an older version was brought up to this one's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    pub path: PathBuf,
    pub from: i64,
    pub to: i64,
    /// The file as it was before.
    pub copy: PathBuf,
}

impl fmt::Display for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, copy) = (self.path.display(), self.copy.display());
        write!(
            f,
            "the database has schema {} now: {path}; with schema {} it is kept: {copy}",
            self.to, self.from
        )
    }
}

impl Kind {
    fn known(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }

    fn fault(&self, path: &Path, fault: impl Into<Fault>) -> Error {
        match fault.into().at(path) {
            Error::NotOurs { path, .. } => Error::NotOurs { path, kind: self.name },
            other => other,
        }
    }

    /// The file's schema version; 0 for one into which nothing was written.
    pub(super) fn version(&self, conn: &Connection, path: &Path) -> Result<i64, Error> {
        let pragma = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let sql = |e: rusqlite::Error| self.fault(path, e);
        let id = pragma("application_id").map_err(sql)?;
        let found = pragma("user_version").map_err(sql)?;
        let objects: i64 =
            conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
        if id != self.application_id && (id != 0 || found != 0 || objects != 0) {
            return Err(Error::NotOurs { path: path.to_path_buf(), kind: self.name });
        }
        if found > self.known() {
            return Err(Error::Newer { path: path.to_path_buf(), found, known: self.known() });
        }
        Ok(found)
    }

    /// A connection for writing, and whether the file was brought up to date for it. A missing file is made, readable by
    /// its owner alone, and so is a missing directory.
    pub(super) fn open_writer(
        &self,
        path: &Path,
        stop: &Stop,
    ) -> Result<(Connection, Option<Upgrade>), Error> {
        let io = |e: io::Error| match e.kind() {
            ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { path: path.to_path_buf() },
            ErrorKind::StorageFull => Error::Full { path: path.to_path_buf() },
            _ => Error::Open { path: path.to_path_buf(), why: e.to_string() },
        };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            file::ensure_private_dir(parent).map_err(io)?;
        }
        file::ensure_private(path).map_err(io)?;
        let started = Instant::now();
        loop {
            match self.try_open_writer(path, stop) {
                // Two programs that make the file at the same time: going over to WAL does not wait by itself.
                Err(Error::Locked { .. }) if started.elapsed() < PATIENCE && !stop() => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                other => return other,
            }
        }
    }

    fn try_open_writer(&self, path: &Path, stop: &Stop) -> Result<(Connection, Option<Upgrade>), Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags).map_err(|e| self.fault(path, e))?;
        wait_unless(&mut conn, stop.clone()).map_err(|e| self.fault(path, e))?;
        let found = self.version(&conn, path)?;
        let copy = if (1..self.known()).contains(&found) { self.keep_copy(path, found)? } else { None };
        self.set_up(&mut conn, found < self.known()).map_err(|e| self.fault(path, e))?;
        let upgrade =
            copy.map(|copy| Upgrade { path: path.to_path_buf(), from: found, to: self.known(), copy });
        Ok((conn, upgrade))
    }

    /// Keep the file as the older version has it, as `<file>.v<schema>` beside it: whoever goes back to that version
    /// needs it. One that was kept before is replaced. Gives the copy's path, if one was made.
    fn keep_copy(&self, path: &Path, found: i64) -> Result<Option<PathBuf>, Error> {
        let mut name = path.as_os_str().to_os_string();
        name.push(format!(".v{found}"));
        let kept = PathBuf::from(name);
        let failed = |e: io::Error| Error::Open { path: kept.clone(), why: e.to_string() };
        let moment = Snapshot::take(self, path)?;
        if moment.version() != found {
            // Another program was faster.
            return Ok(None);
        }
        let fresh = file::Replacement::begin(&kept).map_err(failed)?;
        moment.copy(fresh.path(), |_, _| ControlFlow::Continue(()))?;
        fresh.commit().map_err(failed)?;
        Ok(Some(kept))
    }

    fn set_up(&self, conn: &mut Connection, outdated: bool) -> rusqlite::Result<()> {
        conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        conn.pragma_update_and_check(None, "wal_autocheckpoint", 1000, |_| Ok(()))?;
        conn.pragma_update(None, "foreign_keys", true)?;
        // After a large transaction the -wal file shrinks to this again.
        conn.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))?;
        if outdated {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Read again under the lock: another program may have been faster.
            let found: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
            for migration in self.migrations.iter().skip(usize::try_from(found).unwrap_or(0)) {
                tx.execute_batch(migration)?;
            }
            tx.pragma_update(None, "application_id", self.application_id)?;
            tx.pragma_update(None, "user_version", self.known())?;
            tx.commit()?;
        }
        Ok(())
    }

    /// A connection that can only read; a running writer is not disturbed.
    pub(super) fn open_reader(&self, path: &Path) -> Result<Connection, Error> {
        let open = |why| Error::Open { path: path.to_path_buf(), why };
        match fs::metadata(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::Missing { path: path.to_path_buf() });
            }
            Err(e) => return Err(open(e.to_string())),
            Ok(file) if !file.is_file() => return Err(open("it is not a file".to_string())),
            // SQLite would not say why. Asked without opening the file: closing it would drop the locks that this
            // process holds on it.
            Ok(_) => access(path, Access::READ_OK).map_err(|e| open(io::Error::from(e).to_string()))?,
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(|e| self.fault(path, e))?;
        conn.busy_timeout(PATIENCE).map_err(|e| self.fault(path, e))?;
        let version = self.version(&conn, path).map_err(|error| match error {
            // In WAL mode readers, too, write an index beside the file, if it is not there.
            Error::ReadOnly { .. } => {
                open("it is in a read-only directory; read a copy elsewhere".to_string())
            }
            other => other,
        })?;
        match version {
            0 => Err(Error::Missing { path: path.to_path_buf() }),
            found if found < self.known() => {
                Err(Error::Older { path: path.to_path_buf(), found, known: self.known() })
            }
            _ => Ok(conn),
        }
    }
}

/// SQLite's busy timeout, except that it can be broken off.
fn wait_unless(conn: &mut Connection, stop: Stop) -> rusqlite::Result<()> {
    let mut since = Instant::now();
    conn.busy_handler(Some(move |tries: i32| {
        if tries == 0 {
            since = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(u64::try_from(tries).unwrap_or(0).clamp(1, 20)));
        since.elapsed() < PATIENCE && !stop()
    }))
}
