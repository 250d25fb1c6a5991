//! The folder of the private socket: nobody else can enter it, and it goes away with the broker.
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::file::{create_private, ensure_private_dir, is_abandoned};
use crate::sys::{paths, random};

/// How the folders are called, before a random end.
const PREFIX: &str = "ac7-broker-";
/// The longest path that a Unix socket may have on every system.
const MAX_PATH: usize = 103;

/// A folder of mode 0700, removed when this is dropped. A lock on a file in it tells it from one that a killed broker
/// left.
pub struct SocketDir {
    path: PathBuf,
    _lock: File,
}

impl SocketDir {
    /// Make the folder in the temporary directory, or in `/tmp` where that one's name is too long for a socket.
    ///
    /// Folders of brokers that were killed are removed on the way.
    ///
    /// # Errors
    /// Whatever making the folder or the lock says.
    pub fn make() -> io::Result<SocketDir> {
        let place = paths::temp_dir();
        let fits = place.as_os_str().len() + PREFIX.len() + "0123456789abcdef/http".len() <= MAX_PATH;
        let place = if fits { place } else { PathBuf::from("/tmp") };
        sweep(&place);
        // Under its final name only once it is locked, so that no sweep takes it for an abandoned one.
        let nonce = random::hex::<8>();
        let (fresh, path) = (place.join(format!(".ac7-new-{nonce}")), place.join(format!("{PREFIX}{nonce}")));
        ensure_private_dir(&fresh)?;
        let made = create_private(&fresh.join("lock")).and_then(|lock| {
            lock.lock()?;
            fs::rename(&fresh, &path)?;
            Ok(SocketDir { path, _lock: lock })
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&fresh);
        }
        made
    }

    /// Where the socket goes.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("http")
    }
}

impl Drop for SocketDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Remove the folders whose lock nobody holds. What is not ours cannot be opened or removed and stays.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let ours = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
        if ours && is_abandoned(&path.join("lock")) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_what_nobody_holds_is_swept() {
        let held = SocketDir::make().unwrap();
        assert_eq!(fs::metadata(&held.path).unwrap().permissions().mode() & 0o777, 0o700);
        let place = held.path.parent().unwrap();
        let left = place.join(format!("{PREFIX}{}", random::hex::<8>()));
        ensure_private_dir(&left).unwrap();
        create_private(&left.join("lock")).unwrap();
        let another = SocketDir::make().unwrap();
        assert!(!left.exists() && held.path.exists() && another.path.exists());
        let gone = held.path.clone();
        drop(held);
        assert!(!gone.exists());
    }
}
