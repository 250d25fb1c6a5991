//! What can be wrong with a database, in the sentences the user sees.
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why a database could not be opened, read or written. `path` is the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file or its directory cannot be opened or made.
    Open { path: PathBuf, why: String },
    /// A reader found no file, or one into which nothing was ever written.
    Missing { path: PathBuf },
    /// The file or the file system takes no writes.
    ReadOnly { path: PathBuf },
    /// Another program held the lock for longer than we wait (5 s).
    Locked { path: PathBuf },
    /// The disk is full.
    Full { path: PathBuf },
    /// A later ac7 made the file: its schema is `found`, ours ends at `known`.
    Newer { path: PathBuf, found: i64, known: i64 },
    /// A reader found a schema that a writer of this version would first bring up to date.
    Older { path: PathBuf, found: i64, known: i64 },
    /// Something else than this kind of ac7 database.
    NotOurs { path: PathBuf, kind: &'static str },
    /// The file contradicts itself.
    Corrupt { path: PathBuf, why: String },
    /// Anything else SQLite says.
    Other { path: PathBuf, why: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Open { path, why } => write!(f, "cannot open the database: {}: {why}", path.display()),
            Error::Missing { path } => {
                write!(f, "there is no database yet: {}: nothing was stored", path.display())
            }
            Error::ReadOnly { path } => {
                write!(f, "cannot write the database: {}: it is read-only", path.display())
            }
            Error::Locked { path } => write!(
                f,
                "cannot use the database: {}: another program has kept it locked for 5 s",
                path.display()
            ),
            Error::Full { path } => {
                write!(f, "cannot write the database: {}: the disk is full", path.display())
            }
            Error::Newer { path, found, known } => write!(
                f,
                "cannot open the database: {}: it has schema {found} of a newer ac7, this one knows up to {known}",
                path.display()
            ),
            Error::Older { path, found, known } => write!(
                f,
                "cannot read the database: {}: it has schema {found}, the next write brings it to {known}",
                path.display()
            ),
            Error::NotOurs { path, kind } => {
                write!(f, "cannot open the database: {}: it is not an ac7 {kind} database", path.display())
            }
            Error::Corrupt { path, why } => {
                write!(f, "the database is damaged: {}: {why}", path.display())
            }
            Error::Other { path, why } => write!(f, "the database failed: {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// A failure inside the room, before the file's name is added.
#[derive(Debug)]
pub(super) enum Fault {
    Sql(rusqlite::Error),
    /// Stored data that cannot be what was stored.
    Damaged(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(e: rusqlite::Error) -> Fault {
        Fault::Sql(e)
    }
}

impl Fault {
    pub(super) fn at(self, path: &Path) -> Error {
        let path = path.to_path_buf();
        match self {
            Fault::Damaged(why) => Error::Corrupt { path, why },
            Fault::Sql(
                e @ (rusqlite::Error::IntegralValueOutOfRange(..) | rusqlite::Error::InvalidColumnType(..)),
            ) => Error::Corrupt { path, why: e.to_string() },
            Fault::Sql(e) => match e.sqlite_error_code() {
                Some(ErrorCode::CannotOpen) => Error::Open { path, why: e.to_string() },
                Some(ErrorCode::ReadOnly) => Error::ReadOnly { path },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked { path },
                Some(ErrorCode::DiskFull) => Error::Full { path },
                Some(ErrorCode::NotADatabase) => Error::NotOurs { path, kind: "" },
                Some(ErrorCode::DatabaseCorrupt) => Error::Corrupt { path, why: e.to_string() },
                _ => Error::Other { path, why: e.to_string() },
            },
        }
    }
}
