//! Changes of the tree, each inside of one transaction that is given up if something stands in the way.
use std::io;

use rusqlite::Connection;

use super::Collide;
use super::Refused;
use super::blobs::{Blobs, Content, Hash};
use super::entries::{self, Entry, FileFacts};
use super::path::{FsPath, MOST};
use crate::store::error::Fault;

/// Files and folders in one home.
pub(super) const MOST_ENTRIES: u64 = 10_000;
/// How many numbers are tried for a name that is taken.
const MOST_NUMBERS: u32 = 1000;

/// Why a transaction is given up.
pub(super) enum No {
    Fault(Fault),
    Stop(Stop),
}

/// What is no fault of the database.
pub(super) enum Stop {
    Disk(io::Error),
    Refused(Refused),
}

impl From<rusqlite::Error> for No {
    fn from(error: rusqlite::Error) -> No {
        No::Fault(error.into())
    }
}

impl From<Refused> for No {
    fn from(refused: Refused) -> No {
        No::Stop(Stop::Refused(refused))
    }
}

/// A file to be.
pub struct NewFile<'a> {
    pub path: &'a FsPath,
    pub content: &'a Content,
    pub mime: &'a str,
    pub collide: Collide,
    pub by: &'a str,
}

impl NewFile<'_> {
    /// Gives the entry, and the content that it had before.
    pub(super) fn write(
        &self,
        db: &Connection,
        blobs: &Blobs,
        quota: u64,
        now_ms: u64,
    ) -> Result<(Entry, Vec<Hash>), No> {
        let (path, old) = self.place(db)?;
        let missing = missing_above(db, &path)?;
        let old_size = old.as_ref().map_or(0, |(_, facts)| facts.size);
        let more = self.content.size.saturating_sub(old_size);
        room(db, &path, more, missing.len() as u64 + u64::from(old.is_none()), quota)?;
        blobs.settle(self.content).map_err(|error| No::Stop(Stop::Disk(error)))?;
        add_folders(db, &missing, self.by, now_ms)?;
        let (hash, size) = (self.content.hash, self.content.size);
        let facts = FileFacts { hash, size, mime: self.mime.to_string() };
        match &old {
            Some((id, _)) => entries::replace(db, *id, &facts, now_ms)?,
            None => entries::add(db, &path, Some(&facts), self.by, now_ms)?,
        }
        let before = old.map(|(_, facts)| facts.hash).filter(|old| *old != hash);
        Ok((found(db, &path)?, before.into_iter().collect()))
    }

    /// Where it goes, and the file that is there.
    fn place(&self, db: &Connection) -> Result<(FsPath, Option<(i64, FileFacts)>), No> {
        if self.path.is_home() {
            return Err(Refused::Home.into());
        }
        let Some(there) = entries::find(db, self.path.as_str())? else {
            return Ok((self.path.clone(), None));
        };
        match (self.collide, there.file) {
            (Collide::Replace, Some(facts)) => Ok((self.path.clone(), Some((there.id, facts)))),
            (Collide::Replace, None) => Err(Refused::IsFolder(self.path.clone()).into()),
            (Collide::Refuse, _) => Err(Refused::Exists(self.path.clone()).into()),
            (Collide::Number, _) => {
                for number in 1..=MOST_NUMBERS {
                    let path = self.path.numbered(number).map_err(Refused::Path)?;
                    if entries::find(db, path.as_str())?.is_none() {
                        return Ok((path, None));
                    }
                }
                Err(Refused::Exists(self.path.clone()).into())
            }
        }
    }
}

pub(super) fn make_folder(
    db: &Connection,
    path: &FsPath,
    parents: bool,
    by: &str,
    now_ms: u64,
) -> Result<Entry, No> {
    if path.owner().is_none() {
        return Err(Refused::Home.into());
    }
    match entries::find(db, path.as_str())? {
        Some(entry) if entry.file.is_none() && parents => return Ok(entry),
        Some(_) => return Err(Refused::Exists(path.clone()).into()),
        None => {}
    }
    let mut missing = missing_above(db, path)?;
    // A home is there for every member, whether something was put into it or not.
    if let Some(first) = missing.iter().find(|folder| !parents && !folder.is_home()) {
        return Err(Refused::Missing(first.clone()).into());
    }
    missing.push(path.clone());
    room(db, path, 0, missing.len() as u64, u64::MAX)?;
    add_folders(db, &missing, by, now_ms)?;
    found(db, path)
}

pub(super) fn rename(
    db: &Connection,
    from: &FsPath,
    to: &FsPath,
    by: &str,
    quota: u64,
    now_ms: u64,
) -> Result<Entry, No> {
    if from.is_home() || to.is_home() {
        return Err(Refused::Home.into());
    }
    found(db, from)?;
    if to.is_in(from) && to != from {
        return Err(Refused::Inside(from.clone()).into());
    }
    if entries::find(db, to.as_str())?.is_some() {
        return Err(Refused::Exists(to.clone()).into());
    }
    let tree = entries::measure(db, from)?;
    if tree.longest - from.as_str().len() + to.as_str().len() > MOST {
        return Err(Refused::Path("of something in it would be longer than 1024 bytes").into());
    }
    let missing = missing_above(db, to)?;
    if from.owner() == to.owner() {
        room(db, to, 0, missing.len() as u64, u64::MAX)?;
    } else {
        room(db, to, tree.bytes, tree.count + missing.len() as u64, quota)?;
    }
    add_folders(db, &missing, by, now_ms)?;
    entries::rename(db, from, to, now_ms)?;
    found(db, to)
}

/// Gives the contents that nothing may refer to any more.
pub(super) fn remove(db: &Connection, path: &FsPath, recursive: bool) -> Result<Vec<Hash>, No> {
    if path.is_home() {
        return Err(Refused::Home.into());
    }
    found(db, path)?;
    if !recursive && entries::measure(db, path)?.count > 1 {
        return Err(Refused::NotEmpty(path.clone()).into());
    }
    Ok(entries::remove(db, path)?)
}

fn found(db: &Connection, path: &FsPath) -> Result<Entry, No> {
    entries::find(db, path.as_str())?.ok_or_else(|| Refused::Missing(path.clone()).into())
}

/// The folders above a path that are not there, from the top down.
fn missing_above(db: &Connection, path: &FsPath) -> Result<Vec<FsPath>, No> {
    let mut missing = Vec::new();
    for folder in path.above() {
        match entries::find(db, folder.as_str())? {
            None => missing.push(folder),
            Some(entry) if entry.file.is_some() => return Err(Refused::NotFolder(folder).into()),
            Some(_) => {}
        }
    }
    Ok(missing)
}

fn add_folders(db: &Connection, folders: &[FsPath], by: &str, now_ms: u64) -> rusqlite::Result<()> {
    folders.iter().try_for_each(|folder| entries::add(db, folder, None, by, now_ms))
}

/// Whether the home of a path has room for so many more bytes and entries.
fn room(db: &Connection, path: &FsPath, more: u64, entries: u64, quota: u64) -> Result<(), No> {
    let owner = path.owner().unwrap_or_default().to_string();
    let (used, count) = entries::used(db, &owner)?;
    if count + entries > MOST_ENTRIES && entries > 0 {
        return Err(Refused::TooMany { owner }.into());
    }
    if more > 0 && used.saturating_add(more) > quota {
        return Err(Refused::Quota { owner, quota, used, more }.into());
    }
    Ok(())
}
