//! The session's certificate files: written privately, locked while the session lives, removed on every way out.
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, test_kill_process};

use crate::sys::{file, paths, random};

/// `<prefix><pid>-<nonce>.pem`, the name that earlier ac7 clients have, and a second file with everything to be trusted.
const CA_PREFIX: &str = "ac7-trace-ca-";
const BUNDLE_PREFIX: &str = "ac7-trace-bundle-";
/// A file this young may belong to a session that is just starting and has not locked it yet.
const YOUNG: Duration = Duration::from_secs(60);

/// A file that is removed when this is dropped.
pub struct Guarded {
    path: PathBuf,
    /// Its lock tells the next start that the session lives.
    _lock: File,
}

impl Guarded {
    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// No directory takes the session's files.
#[derive(Debug)]
pub struct NoPlace {
    tried: Vec<(PathBuf, io::Error)>,
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write the session's certificate")?;
        for (place, why) in &self.tried {
            write!(f, ": {}: {why}", place.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for NoPlace {}

/// The session's files.
pub struct Files {
    pub ca: Guarded,
    pub bundle: Guarded,
    /// The directory, if it is not `$TMPDIR`.
    pub fallback: Option<PathBuf>,
}

impl Files {
    /// Write the CA and the bundle into `$TMPDIR`, or where that cannot be written into a private directory under
    /// the cache directory; files of sessions that were killed are removed first.
    ///
    /// # Errors
    /// Neither place can be written.
    pub fn write(ca: &str, bundle: &str) -> Result<Files, NoPlace> {
        let mut tried = Vec::new();
        let usual = paths::temp_dir();
        let fallback = paths::cache_dir().map(|dir| dir.join("tmp"));
        for (folder, other) in [(Some(usual), false), (fallback, true)] {
            let Some(folder) = folder else { continue };
            match write_in(&folder, other, ca, bundle) {
                Ok((ca, bundle)) => return Ok(Files { ca, bundle, fallback: other.then_some(folder) }),
                Err(why) => tried.push((folder, why)),
            }
        }
        Err(NoPlace { tried })
    }
}

fn write_in(folder: &Path, ours: bool, ca: &str, bundle: &str) -> io::Result<(Guarded, Guarded)> {
    if ours {
        file::ensure_private_dir(folder)?;
    }
    sweep(folder);
    Ok((guarded(folder, CA_PREFIX, ca)?, guarded(folder, BUNDLE_PREFIX, bundle)?))
}

fn guarded(folder: &Path, prefix: &str, text: &str) -> io::Result<Guarded> {
    let path = folder.join(format!("{prefix}{}-{}.pem", std::process::id(), random::hex::<6>()));
    let mut file = file::create_private(&path)?;
    // From here on the file is removed whatever happens.
    let guarded = Guarded { path, _lock: file.try_clone()? };
    // Waits for a sweep that is just looking: a session without the lock would be taken for a dead one.
    let _ = file.lock();
    file.write_all(text.as_bytes())?;
    Ok(guarded)
}

/// Remove what a kill -9 left. A live session holds the lock of its files; the pid is asked too, because file systems
/// exist that do not lock.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(pid_of) else { continue };
        let alive = test_kill_process(pid) != Err(rustix::io::Errno::SRCH);
        let young = entry
            .metadata()
            .and_then(|m| m.modified())
            .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < YOUNG));
        if !(alive && young) && file::is_abandoned(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whose file this is, by its name; `None` for one that [`guarded`] did not name.
fn pid_of(name: &str) -> Option<Pid> {
    let rest = name.strip_prefix(CA_PREFIX).or_else(|| name.strip_prefix(BUNDLE_PREFIX))?;
    let (pid, nonce) = rest.strip_suffix(".pem")?.split_once('-')?;
    let is_ours = nonce.len() == 12 && nonce.bytes().all(|b| b.is_ascii_hexdigit());
    pid.parse().ok().filter(|_| is_ours).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const NONCE: &str = "0123456789ab";

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("files-test-{}", random::hex::<6>()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn files_are_private_and_go_with_their_guard() {
        let folder = folder();
        let (ca, bundle) = write_in(&folder, false, "CA", "BUNDLE").unwrap();
        assert_eq!(fs::read_to_string(ca.path()).unwrap(), "CA");
        assert_eq!(fs::metadata(bundle.path()).unwrap().permissions().mode() & 0o777, 0o600);
        drop((ca, bundle));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn only_files_of_dead_sessions_are_swept() {
        let folder = folder();
        let (live, _bundle) = write_in(&folder, false, "", "").unwrap();
        // A pid that no process can have, one that lives but holds no lock, and a file that is not ours.
        let dead = folder.join(format!("{CA_PREFIX}2147483646-{NONCE}.pem"));
        let reused = folder.join(format!("{BUNDLE_PREFIX}{}-{NONCE}.pem", std::process::id()));
        let foreign = folder.join(format!("{CA_PREFIX}notes.txt"));
        for path in [&dead, &reused, &foreign] {
            File::create(path).unwrap();
        }
        sweep(&folder);
        assert!(!dead.exists() && reused.exists() && foreign.exists() && live.path().exists());
        File::open(&reused).unwrap().set_modified(SystemTime::now() - YOUNG * 2).unwrap();
        sweep(&folder);
        assert!(!reused.exists(), "the pid was given to another process");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_somebody_planted_is_neither_opened_nor_removed() {
        let folder = folder();
        let pipe = folder.join(format!("{CA_PREFIX}2147483646-{NONCE}.pem"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let (target, link) = (folder.join("target"), folder.join(format!("{BUNDLE_PREFIX}1-{NONCE}.pem")));
        File::create(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let (done, waiting) = std::sync::mpsc::channel();
        let place = folder.clone();
        std::thread::spawn(move || {
            sweep(&place);
            done.send(()).unwrap();
        });
        waiting
            .recv_timeout(Duration::from_secs(10))
            .expect("the pipe has no writer and must not be waited for");
        assert!(pipe.exists() && link.exists() && target.exists());
        fs::remove_dir_all(&folder).unwrap();
    }
}
