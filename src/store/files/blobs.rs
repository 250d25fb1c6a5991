//! What files contain, on the disk: `<folder>/ab/abcd…`, named by SHA-256, each content once.
//!
//! A content comes in as an [`Upload`] in `<folder>/tmp`, is on the disk before it gets its name, and has its name
//! before the transaction commits that refers to it. One that nothing refers to is removed inside a transaction that
//! found no reference, so that none can come up meanwhile.
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use crate::sys::file::{create_private, ensure_private_dir};
use crate::sys::random;

/// SHA-256 of a content.
pub type Hash = [u8; 32];

/// The folder of contents. It is made when the first one comes.
pub struct Blobs {
    folder: PathBuf,
}

/// A content that is coming in. Dropped, it is gone.
pub struct Upload {
    temp: Temp,
    file: File,
    digest: Context,
    size: u64,
}

/// A content that is on the disk, and has no name yet. Dropped, it is gone.
pub struct Content {
    temp: Temp,
    pub hash: Hash,
    pub size: u64,
}

/// Removes the file when dropped; once renamed, it is not there any more.
struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Upload {
    /// Take the next bytes.
    ///
    /// # Errors
    /// The disk does not.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// All bytes have come.
    ///
    /// # Errors
    /// The disk does not have them.
    pub fn finish(self) -> io::Result<Content> {
        self.file.sync_all()?;
        let mut hash = Hash::default();
        hash.copy_from_slice(self.digest.finish().as_ref());
        Ok(Content { temp: self.temp, hash, size: self.size })
    }
}

impl Blobs {
    pub(super) fn new(folder: PathBuf) -> Blobs {
        Blobs { folder }
    }

    /// Begin to take in a content.
    ///
    /// # Errors
    /// The disk has no place for it.
    pub(super) fn upload(&self) -> io::Result<Upload> {
        let folder = self.folder.join("tmp");
        ensure_private_dir(&folder)?;
        let path = folder.join(random::hex::<16>());
        let file = create_private(&path)?;
        Ok(Upload { temp: Temp(path), file, digest: Context::new(&SHA256), size: 0 })
    }

    /// Give a content its name. What is there under that name already is the same, unless the disk has lost a part.
    pub(super) fn settle(&self, content: &Content) -> io::Result<()> {
        let path = self.path(&content.hash);
        if fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == content.size) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.folder);
        ensure_private_dir(folder)?;
        fs::rename(&content.temp.0, &path)?;
        // The name, too, must be there after a loss of power.
        File::open(folder)?.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }

    /// Open a content of so many bytes.
    pub(super) fn open(&self, hash: &Hash, size: u64) -> io::Result<File> {
        let file = File::open(self.path(hash))?;
        if file.metadata()?.len() == size {
            return Ok(file);
        }
        Err(io::Error::new(ErrorKind::InvalidData, "the content has lost a part"))
    }

    /// Remove a content. One that cannot be removed stays until the next start.
    pub(super) fn remove(&self, hash: &Hash) {
        let _ = fs::remove_file(self.path(hash));
    }

    /// Remove what came in and was never finished. Only where nothing is coming in.
    pub(super) fn clear_temp(&self) {
        for file in entries(&self.folder.join("tmp")) {
            let _ = fs::remove_file(file);
        }
    }

    /// Every content that is there.
    pub(super) fn all(&self) -> Vec<Hash> {
        let folders = entries(&self.folder);
        folders.iter().flat_map(|folder| entries(folder)).filter_map(|file| hash_of(&file)).collect()
    }

    pub(super) fn path(&self, hash: &Hash) -> PathBuf {
        let name = random::to_hex(hash);
        self.folder.join(&name[..2]).join(name)
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map(|found| found.flatten().map(|e| e.path()).collect()).unwrap_or_default()
}

/// The hash that is the name of a file, if it is one.
fn hash_of(file: &Path) -> Option<Hash> {
    let name = file.file_name()?.to_str().filter(|name| name.len() == 64 && name.is_ascii())?;
    let mut hash = Hash::default();
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}
