//! Private files: 0600 from the first byte, written whole or not at all.
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::geteuid;

use super::random;

/// Create a file that must not exist yet, readable by its owner alone (O_EXCL: a planted link is refused).
///
/// # Errors
/// As [`OpenOptions::open`].
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path)
}

/// Make sure that `path` exists and is 0600 from the first byte; an existing file is left as it is.
///
/// SQLite gives its -wal and -shm files the mode of the database file, so that one is made here first.
///
/// # Errors
/// As [`OpenOptions::open`].
pub fn ensure_private(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// Create a directory and its parents, each new one 0700.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn ensure_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Whether `path` is a file of this user whose lock nobody holds: its owner has died.
///
/// Temporary directories are everybody's. A pipe that somebody planted there would hold a plain open for ever, and a
/// link would lead elsewhere: neither is opened, and what another user owns is none of our business.
#[must_use]
pub fn is_abandoned(path: &Path) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return false };
    let ours = file.metadata().is_ok_and(|m| m.is_file() && m.uid() == geteuid().as_raw());
    ours && file.try_lock().is_ok()
}

/// Replace `path` by `bytes` in one step: a new 0600 file beside it, flushed to disk, then renamed over it.
///
/// # Errors
/// Whatever writing, flushing or renaming says; the old file then stands untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = Replacement::begin(path)?;
    fresh.write_all(bytes)?;
    fresh.commit()
}

/// The same for a file of the user's, whose mode it keeps, and whose owner where that is allowed. A new one is 0600.
///
/// # Errors
/// As [`write_atomic`].
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = Replacement::begin(path)?;
    fresh.write_all(bytes)?;
    if let Ok(old) = fs::metadata(path) {
        let now = fresh.file.metadata()?;
        if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
            let _ = fchown(&fresh.file, Some(old.uid()), Some(old.gid()));
        }
        fresh.file.set_permissions(old.permissions())?;
    }
    fresh.commit()
}

/// A new 0600 file that takes the place of another when it is whole; dropped before that, it leaves no trace.
pub struct Replacement<'p> {
    file: File,
    fresh: PathBuf,
    path: &'p Path,
}

impl<'p> Replacement<'p> {
    /// Begin to write what will be `path`.
    ///
    /// # Errors
    /// As [`create_private`].
    pub fn begin(path: &'p Path) -> io::Result<Replacement<'p>> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}.tmp", random::hex::<6>()));
        let fresh = path.with_file_name(name);
        Ok(Replacement { file: create_private(&fresh)?, fresh, path })
    }

    /// Where it is until then, for who writes by name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.fresh
    }

    /// Flush it to disk and put it in its place.
    ///
    /// # Errors
    /// Whatever flushing or renaming says; the old file then stands untouched.
    pub fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.fresh, self.path)
    }
}

impl Write for Replacement<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.fresh); // not there any more once it has its place
    }
}
