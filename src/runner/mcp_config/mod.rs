//! Our entry in a project's `.mcp.json` while a session lives, and the file as it was afterwards.
//!
//! The file is backed up to `<pid>-mcp-<nonce>.json` in the temporary directory, with a record beside it that says
//! which file it was and that is locked while the session lives: the next start in that directory finds the record of
//! a session that was killed, and brings the file back. Whoever changes the file holds the lock of its directory.
pub mod edit;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::edit::Without;
use crate::agents::claude_code::SOCKET;
use crate::sys::{clock, file, paths, random};

const NAME: &str = ".mcp.json";
/// A backup is called `<pid>-mcp-<nonce>.json`, as earlier ac7 clients call it; its record has this ending instead.
const RECORD: &str = ".about";
/// Others hold the directory's lock for milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Where our entry is.
pub enum Placed {
    /// In the file.
    InFile(Guard),
    /// Nowhere: it has to be given on the command line. `why` continues `.mcp.json is left alone: `.
    Inline { why: String },
}

/// The file has our entry; dropping this brings the file back.
pub struct Guard {
    record: Record,
    /// The lock tells the next start that the session lives.
    about: PathBuf,
    _lock: File,
    restored: bool,
}

/// What has to be known to bring a file back.
#[derive(Clone, Debug, PartialEq)]
struct Record {
    /// Where the agent was started.
    directory: PathBuf,
    /// The file, links followed.
    target: PathBuf,
    /// A copy of it as it was; `None` if there was none.
    backup: Option<PathBuf>,
    /// Our entry.
    entry: Value,
}

/// Put `entry` into the `.mcp.json` of `directory`. Sentences for the user are appended to `notes`.
pub fn place(directory: &Path, entry: &Value, notes: &mut Vec<String>) -> Placed {
    let placed = lock(directory).and_then(|_lock| {
        let folders = folders();
        for folder in &folders {
            recover(folder, directory, notes);
        }
        put(directory, entry, &folders, notes)
    });
    placed.unwrap_or_else(|why| Placed::Inline { why: why.to_string() })
}

/// Where backups are kept: the first that can be written.
fn folders() -> Vec<PathBuf> {
    let fallback = paths::cache_dir().map(|dir| dir.join("tmp"));
    std::iter::once(paths::temp_dir()).chain(fallback).collect()
}

fn lock(directory: &Path) -> io::Result<File> {
    let (file, began) = (File::open(directory)?, Instant::now());
    while let Err(why) = file.try_lock() {
        if began.elapsed() > LOCK_WAIT {
            return Err(why.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

fn put(directory: &Path, entry: &Value, folders: &[PathBuf], notes: &mut Vec<String>) -> io::Result<Placed> {
    let inline = |why: String| Ok(Placed::Inline { why });
    let path = directory.join(NAME);
    let target = match path.canonicalize() {
        Ok(target) => target,
        Err(why) if why.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => path,
        Err(why) => return Err(why),
    };
    let mut original = match fs::read(&target) {
        Ok(bytes) => Some(bytes),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(why),
    };
    let text = |bytes: &Option<Vec<u8>>| match bytes.as_deref().map(str::from_utf8).transpose() {
        Ok(text) => Ok(text.map(str::to_string)),
        Err(_) => Err("it is not UTF-8"),
    };
    let mut before = match text(&original) {
        Ok(before) => before,
        Err(why) => return inline(why.to_string()),
    };
    if let Some((now, socket)) = before.as_deref().and_then(|now| Some((now, edit::socket_of(now)?))) {
        if is_live(Path::new(&socket)) {
            return inline(format!("a session that runs has its entry there ({socket})"));
        }
        if let Without::Text(text) = edit::without(now, Some("{}"), &socket) {
            file::replace(&target, text.as_bytes())?;
            notes.push(format!("{NAME}: took out the entry of a session that is dead ({socket})"));
            original = Some(text.clone().into_bytes());
            before = Some(text);
        }
    }
    let merged = match edit::with(before.as_deref(), entry) {
        Ok(merged) => merged,
        Err(why) => return inline(why.to_string()),
    };
    let mut guard = back_up(directory, &target, original.as_deref(), entry, folders)?;
    if let Err(why) = file::replace(&guard.record.target, merged.as_bytes()) {
        // Here, because the guard would wait for the lock that we hold.
        guard.restored = true;
        finish(&guard.record, &guard.about);
        return Err(why);
    }
    Ok(Placed::InFile(guard))
}

/// Make the copy and the record. Until the file is changed the guard restores nothing but removes them.
fn back_up(
    directory: &Path,
    target: &Path,
    original: Option<&[u8]>,
    entry: &Value,
    folders: &[PathBuf],
) -> io::Result<Guard> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders {
        let stem = folder.join(format!("{}-mcp-{}", std::process::id(), random::hex::<6>()));
        let (backup, about) = (stem.with_extension("json"), stem.with_extension(&RECORD[1..]));
        let record = Record {
            directory: directory.to_path_buf(),
            target: target.to_path_buf(),
            backup: original.is_some().then(|| backup.clone()),
            entry: entry.clone(),
        };
        let written = file::ensure_private_dir(folder)
            .and_then(|()| original.map_or(Ok(()), |bytes| file::create_private(&backup)?.write_all(bytes)))
            .and_then(|()| {
                let mut lock = file::create_private(&about)?;
                lock.lock()?;
                lock.write_all(record.to_json().to_string().as_bytes())?;
                Ok(lock)
            });
        match written {
            Ok(lock) => return Ok(Guard { record, about, _lock: lock, restored: false }),
            Err(why) => {
                let _ = fs::remove_file(&backup);
                let _ = fs::remove_file(&about);
                failed = why;
            }
        }
    }
    Err(failed)
}

impl Guard {
    /// Bring the file back, once. Gives a sentence for the user where that was not simply done.
    pub fn restore(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.restored, true) {
            return None;
        }
        // Whoever holds the lock for longer than that is stuck; the file is to come back all the same.
        let _lock = lock(&self.record.directory);
        finish(&self.record, &self.about)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Bring a file back and remove its backup; the caller has the directory's lock.
fn finish(record: &Record, about: &Path) -> Option<String> {
    let shown = record.target.display();
    let told = match record.restore() {
        Ok(told) => told.map(|what| format!("{shown}: {what}")),
        Err(why) => {
            // What could not be brought back must not be lost.
            let kept = record.backup.as_ref().map(|b| format!("; the file as it was is {}", b.display()));
            return Some(format!("{shown} could not be restored: {why}{}", kept.unwrap_or_default()));
        }
    };
    if let Some(backup) = &record.backup {
        let _ = fs::remove_file(backup);
    }
    let _ = fs::remove_file(about);
    told
}

impl Record {
    fn restore(&self) -> io::Result<Option<&'static str>> {
        let original = self.backup.as_ref().map(fs::read).transpose()?;
        let before = original.as_deref().and_then(|bytes| str::from_utf8(bytes).ok());
        let now = match fs::read(&self.target) {
            Ok(now) => now,
            // Somebody took it away: that is a change as any other.
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        let untouched = edit::with(before, &self.entry).is_ok_and(|merged| merged.as_bytes() == now);
        if untouched {
            match &original {
                Some(bytes) => file::replace(&self.target, bytes)?,
                None => fs::remove_file(&self.target)?,
            }
            return Ok(None);
        }
        if original.as_ref() == Some(&now) {
            return Ok(None);
        }
        let socket = self.entry.get("env").and_then(|env| env.get(SOCKET)).and_then(Value::as_str);
        let without = str::from_utf8(&now)
            .map_or(Without::Untouched, |now| edit::without(now, before, socket.unwrap_or_default()));
        match without {
            Without::Untouched => return Ok(None),
            Without::Text(text) => file::replace(&self.target, text.as_bytes())?,
            Without::Gone => fs::remove_file(&self.target)?,
        }
        Ok(Some("somebody else has changed it; only the entry of ac7 was taken out"))
    }

    fn to_json(&self) -> Value {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        json!({
            "directory": text(&self.directory),
            "file": text(&self.target),
            "backup": self.backup.as_deref().map(text),
            "entry": self.entry,
            "time": clock::now_ms(),
        })
    }

    fn read(path: &Path) -> Option<Record> {
        let record: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let path = |name: &str| record.get(name).and_then(Value::as_str).map(PathBuf::from);
        Some(Record {
            directory: path("directory")?,
            target: path("file")?,
            backup: path("backup"),
            entry: record.get("entry")?.clone(),
        })
    }
}

/// Bring back what sessions that were killed in `directory` have left, newest first: each had what the one before it
/// left as its original.
fn recover(folder: &Path, directory: &Path, notes: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut dead: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_record))
        .map(|entry| (entry.metadata().and_then(|m| m.modified()).ok(), entry.path()))
        .filter(|(_, path)| file::is_abandoned(path))
        .filter_map(|(at, path)| Some((at, Record::read(&path)?, path)))
        .filter(|(_, record, _)| record.directory == directory)
        .collect();
    dead.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    for (_, record, about) in dead {
        // The names come from a file in a directory that is everybody's; its owner has been checked to be us.
        let told = finish(&record, &about);
        notes.push(told.unwrap_or_else(|| {
            format!("restored {}, which a session that was killed had left changed", record.target.display())
        }));
    }
}

/// Whether [`back_up`] gives such a name to a record.
fn is_record(name: &str) -> bool {
    let parts = name.strip_suffix(RECORD).and_then(|stem| stem.split_once("-mcp-"));
    parts.is_some_and(|(pid, nonce)| {
        pid.parse::<u32>().is_ok() && nonce.len() == 12 && nonce.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Whether a session listens on `socket`. It takes us for nobody's bridge, since we say nothing.
fn is_live(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        // What cannot be asked, as another user's session, is better left alone.
        Err(why) => !matches!(why.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
    }
}

#[cfg(test)]
mod tests;
