//! Files of members: who has what where, and what is in it.
//!
//! Comes in: contents as bytes, paths, names of members. Goes out: entries, open files, and why something cannot be
//! done. The tree is in the main database ([`entries`], [`grants`]), what files contain lies beside it ([`blobs`]).
//! Who may do what is for the caller to know; only what was granted is known here.
mod blobs;
mod change;
mod entries;
mod grants;
mod path;
#[cfg(test)]
mod tests;

pub use blobs::{Content, Hash, Upload};
pub use change::NewFile;
pub use entries::{Entry, FileFacts};
pub use grants::NotAttached;
pub use path::FsPath;

pub(super) use entries::forget;

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;

use self::blobs::Blobs;
use self::change::{No, Stop};
use super::error::Error as Database;
use super::main::Store;
use crate::sys::random;
use crate::team::Attachment;

/// The files of all members.
pub struct Files {
    store: Arc<Store>,
    blobs: Blobs,
    folder: PathBuf,
}

/// What to do where there is a file already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collide {
    /// Nothing.
    Refuse,
    /// Take another name.
    Number,
    /// Give it the new content.
    Replace,
}

/// Why something is not done, in the sentences the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    Missing(FsPath),
    Exists(FsPath),
    NotFolder(FsPath),
    IsFolder(FsPath),
    NotEmpty(FsPath),
    /// Into itself.
    Inside(FsPath),
    /// A home cannot be removed, moved or written over.
    Home,
    /// What would come of it breaks a rule of paths.
    Path(&'static str),
    Quota {
        owner: String,
        quota: u64,
        used: u64,
        more: u64,
    },
    TooMany {
        owner: String,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Missing(path) => write!(f, "there is nothing at {path}"),
            Refused::Exists(path) => write!(f, "there is something at {path} already"),
            Refused::NotFolder(path) => write!(f, "{path} is not a directory"),
            Refused::IsFolder(path) => write!(f, "{path} is a directory"),
            Refused::NotEmpty(path) => {
                write!(f, "the directory {path} is not empty: recursive=true removes it")
            }
            Refused::Inside(path) => write!(f, "{path} cannot be moved into itself"),
            Refused::Home => f.write_str("a home itself can be listed, but not changed, moved or removed"),
            Refused::Path(why) => write!(f, "the path {why}"),
            Refused::Quota { owner, quota, used, more } => write!(
                f,
                "the home of {owner} may hold {quota} bytes, it holds {used}, and this needs {more} more: remove \
                 files, or raise files.quotaBytes in ac7.json"
            ),
            Refused::TooMany { owner } => {
                write!(
                    f,
                    "the home of {owner} has {} files and directories, the most there may be",
                    change::MOST_ENTRIES
                )
            }
        }
    }
}

/// Why the files could not be read or written.
#[derive(Debug)]
pub enum Error {
    Database(Database),
    /// The disk, beside the database.
    Disk {
        folder: PathBuf,
        error: io::Error,
    },
    Refused(Refused),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Database(error) => write!(f, "{error}"),
            Error::Disk { folder, error } => {
                write!(f, "cannot use the folder of files: {}: {error}", folder.display())
            }
            Error::Refused(refused) => write!(f, "{refused}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Database> for Error {
    fn from(error: Database) -> Error {
        Error::Database(error)
    }
}

/// Where the contents of a main database's files are: `<database>-files`, each as `ab/abcd…`, its SHA-256.
#[must_use]
pub fn folder(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_os_string();
    name.push("-files");
    PathBuf::from(name)
}

/// The contents that are in such a folder: names and places.
#[must_use]
pub fn contents(folder: &Path) -> Vec<(String, PathBuf)> {
    let blobs = Blobs::new(folder.to_path_buf());
    blobs.all().iter().map(|hash| (random::to_hex(hash), blobs.path(hash))).collect()
}

impl Files {
    /// The files of a main database: contents are in [`folder`] beside it. What nothing refers to is removed: a
    /// broker that was killed leaves such.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn open(store: Arc<Store>, database: &Path) -> Result<Files, Error> {
        let folder = folder(database);
        let files = Files { store, blobs: Blobs::new(folder.clone()), folder };
        files.blobs.clear_temp();
        let here = files.blobs.all();
        // Where there is no entry at all, the database may be the wrong one: nothing is removed for that.
        let any = |db: &mut Connection| Ok(db.prepare("SELECT 1 FROM fs_entry")?.exists([])?);
        if !here.is_empty() && files.store.with(any)? {
            files.collect(&here)?;
        }
        Ok(files)
    }

    /// Begin to take in a content.
    ///
    /// # Errors
    /// The disk has no place for it.
    pub fn upload(&self) -> io::Result<Upload> {
        self.blobs.upload()
    }

    /// What is at a path.
    ///
    /// # Errors
    /// Nothing is, or the database cannot be read.
    pub fn stat(&self, path: &FsPath) -> Result<Entry, Error> {
        let found = self.store.with(|db| Ok(entries::find(db, path.as_str())?))?;
        found.ok_or_else(|| Error::Refused(Refused::Missing(path.clone())))
    }

    /// What is in a folder, by name. A home that nothing was put into is empty.
    ///
    /// # Errors
    /// It is none, or the database cannot be read.
    pub fn list(&self, path: &FsPath) -> Result<Vec<Entry>, Error> {
        let both = |db: &mut Connection| {
            Ok((entries::find(db, path.as_str())?, entries::children(db, path.as_str())?))
        };
        match self.store.with(both)? {
            (Some(Entry { file: Some(_), .. }), _) => Err(Error::Refused(Refused::NotFolder(path.clone()))),
            (None, _) if !path.is_home() => Err(Error::Refused(Refused::Missing(path.clone()))),
            (_, children) => Ok(children),
        }
    }

    /// What others let a member read, by path.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn shared_with(&self, member: &str) -> Result<Vec<Entry>, Error> {
        Ok(self.store.with(|db| Ok(grants::shared_with(db, member)?))?)
    }

    /// Whether a member was given what is at a path to read.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn is_granted(&self, path: &FsPath, member: &str) -> Result<bool, Error> {
        let granted = |db: &mut Connection| match entries::find(db, path.as_str())? {
            Some(entry) => Ok(grants::is_granted(db, entry.id, member)?),
            None => Ok(false),
        };
        Ok(self.store.with(granted)?)
    }

    /// Check what a sender attaches to a message or an objective, and say of each file what is known about it; `manages`
    /// is whether the sender may read everybody's.
    ///
    /// # Errors
    /// The database cannot be read; or why it cannot be attached.
    pub fn attach(
        &self,
        sender: &str,
        manages: bool,
        attachments: &mut [Attachment],
    ) -> Result<Result<(), NotAttached>, Error> {
        if attachments.is_empty() {
            return Ok(Ok(()));
        }
        Ok(self.store.with(|db| Ok(grants::attach(db, sender, manages, attachments)?))?)
    }

    /// A file and its content.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(&self, path: &FsPath) -> Result<(Entry, File), Error> {
        let mut last = None;
        loop {
            let entry = self.stat(path)?;
            let Some(facts) = &entry.file else {
                return Err(Error::Refused(Refused::IsFolder(path.clone())));
            };
            match self.blobs.open(&facts.hash, facts.size) {
                Ok(file) => return Ok((entry, file)),
                // Replaced or removed between the two looks.
                Err(error) if error.kind() == ErrorKind::NotFound && last != Some(facts.hash) => {
                    last = Some(facts.hash);
                }
                Err(error) => return Err(self.disk(error)),
            }
        }
    }

    /// Put a content at a path, or near it; missing folders above are made. Gives the entry, and whether it has another
    /// name than was asked for.
    ///
    /// # Errors
    /// [`Refused`], or it cannot be written; then nothing is different.
    pub fn write(&self, new: &NewFile<'_>, quota: u64, now_ms: u64) -> Result<(Entry, bool), Error> {
        let (entry, old) = self.transact(|db| new.write(db, &self.blobs, quota, now_ms))?;
        self.drop_contents(&old);
        let renamed = entry.path != new.path.as_str();
        Ok((entry, renamed))
    }

    /// Make a folder. With `parents`, those above as well, and one that is there already is fine.
    ///
    /// # Errors
    /// [`Refused`], or it cannot be written.
    pub fn make_folder(&self, path: &FsPath, parents: bool, by: &str, now_ms: u64) -> Result<Entry, Error> {
        self.transact(|db| change::make_folder(db, path, parents, by, now_ms))
    }

    /// Move a file, or a folder with all that is in it; missing folders above the new place are made. What was granted
    /// moves along.
    ///
    /// # Errors
    /// [`Refused`], or it cannot be written.
    pub fn rename(
        &self,
        from: &FsPath,
        to: &FsPath,
        by: &str,
        quota: u64,
        now_ms: u64,
    ) -> Result<Entry, Error> {
        self.transact(|db| change::rename(db, from, to, by, quota, now_ms))
    }

    /// Remove a file, or a folder; one that is not empty only if `recursive`.
    ///
    /// # Errors
    /// [`Refused`], or it cannot be written.
    pub fn remove(&self, path: &FsPath, recursive: bool) -> Result<(), Error> {
        let old = self.transact(|db| change::remove(db, path, recursive))?;
        self.drop_contents(&old);
        Ok(())
    }

    /// Forget everything about a member, files and what they contain as well.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn forget(&self, member: &str) -> Result<(), Error> {
        let old = self.store.with(|db| Ok(entries::contents(db, member)?))?;
        self.store.forget(member)?;
        self.drop_contents(&old);
        Ok(())
    }

    /// Remove contents that a transaction that is on the disk let go of. What is left over if this fails is removed at
    /// the next start.
    fn drop_contents(&self, hashes: &[Hash]) {
        if !hashes.is_empty() {
            let _ = self.collect(hashes);
        }
    }

    /// Remove those contents that nothing refers to. The transaction is there to keep others from referring to them.
    fn collect(&self, hashes: &[Hash]) -> Result<(), Database> {
        self.store.write(|db| {
            for hash in hashes {
                if !entries::refers(db, hash)? {
                    self.blobs.remove(hash);
                }
            }
            Ok(())
        })
    }

    fn transact<T>(&self, work: impl FnOnce(&Connection) -> Result<T, No>) -> Result<T, Error> {
        let done = self.store.write_or(|db| match work(db) {
            Ok(value) => Ok(Ok(value)),
            Err(No::Fault(fault)) => Err(fault),
            Err(No::Stop(stop)) => Ok(Err(stop)),
        })?;
        done.map_err(|stop| match stop {
            Stop::Refused(refused) => Error::Refused(refused),
            Stop::Disk(error) => self.disk(error),
        })
    }

    fn disk(&self, error: io::Error) -> Error {
        Error::Disk { folder: self.folder.clone(), error }
    }
}
