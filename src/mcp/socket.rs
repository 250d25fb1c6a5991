//! Where the session's socket lies: private from its first moment, and gone with the session.
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;

use rustix::process::{Pid, geteuid, test_kill_process};

use crate::sys::{file, random};

/// `.ac7-runner-<pid>.sock`, the name that earlier ac7 clients have.
const PREFIX: &str = ".ac7-runner-";
const SUFFIX: &str = ".sock";
/// The longest path that a Unix socket may have on every system.
const MAX_PATH: usize = 103;
/// For sockets that the temporary directory's name is too long for.
const SHORT: &str = "/tmp";

/// A bound socket's place; removed when this is dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// The private folder it lies in, where it could not have its usual name.
    folder: Option<PathBuf>,
}

impl Place {
    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Listen in `folder`, or in a folder of its own in `/tmp` where the path would be too long for a socket. What
/// sessions left that were killed is removed first.
///
/// # Errors
/// The folder cannot be written, or the system has no socket to give.
pub fn bind(folder: &Path) -> io::Result<(UnixListener, Place)> {
    let private = format!("{PREFIX}{}-{}", process::id(), random::hex::<4>());
    let fits = folder.as_os_str().len() + private.len() + "//s".len() <= MAX_PATH;
    let folder = if fits { folder } else { Path::new(SHORT) };
    sweep(folder);
    // In a folder that nobody else can enter first: between being bound and being made private it can be reached.
    let own = folder.join(&private);
    file::ensure_private_dir(&own)?;
    let mut place = Place { path: own.join("s"), folder: Some(own) };
    let listener = UnixListener::bind(&place.path)?;
    fs::set_permissions(&place.path, Permissions::from_mode(0o600))?;
    let usual = folder.join(format!("{PREFIX}{}{SUFFIX}", process::id()));
    if fits && is_free(&usual) {
        fs::rename(&place.path, &usual)?;
        place.path = usual;
        if let Some(own) = place.folder.take() {
            let _ = fs::remove_dir(own);
        }
    }
    Ok((listener, place))
}

/// Whether nothing is there, or a socket of ours that nobody listens on. With our own pid in its name that is one of
/// an earlier process; a live one belongs to a session in another container.
fn is_free(path: &Path) -> bool {
    match fs::symlink_metadata(path) {
        Err(e) => e.kind() == io::ErrorKind::NotFound,
        Ok(_) => {
            is_ours(path)
                && UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        }
    }
}

/// Remove the sockets and folders of processes that are gone.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Some((pid, is_folder)) = name.to_str().and_then(owner) else { continue };
        if test_kill_process(pid) != Err(rustix::io::Errno::SRCH) {
            continue;
        }
        let socket = if is_folder { path.join("s") } else { path.clone() };
        if is_ours(&socket) {
            let _ = fs::remove_file(&socket);
        }
        if is_folder {
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Whose name this is, and whether that of a folder; `None` for a name that [`bind`] does not give.
fn owner(name: &str) -> Option<(Pid, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    let (pid, is_folder) = match rest.strip_suffix(SUFFIX) {
        Some(pid) => (pid, false),
        None => (rest.split_once('-').filter(|(_, nonce)| nonce.len() == 8)?.0, true),
    };
    Some((pid.parse().ok().and_then(Pid::from_raw)?, is_folder))
}

fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket() && m.uid() == geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn folder(end: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("socket-test-{}{end}", random::hex::<6>()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn the_socket_is_private_and_goes_with_its_guard() {
        let folder = folder("");
        let (listener, place) = bind(&folder).unwrap();
        assert_eq!(place.path(), folder.join(format!(".ac7-runner-{}.sock", process::id())));
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(&folder), 1);
        UnixStream::connect(place.path()).unwrap();
        // A second one in the same process does not take the place of the first.
        let (_other, beside) = bind(&folder).unwrap();
        assert_ne!(beside.path(), place.path());
        UnixStream::connect(beside.path()).unwrap();
        drop((listener, place, beside));
        assert_eq!(names(&folder), 0);
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_avoided() {
        let folder = folder(&"x".repeat(100));
        let (_listener, place) = bind(&folder).unwrap();
        let own = place.path().parent().unwrap().to_path_buf();
        assert_eq!((own.parent(), names(&folder)), (Some(Path::new("/tmp")), 0));
        assert_eq!(fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o700);
        UnixStream::connect(place.path()).unwrap();
        drop(place);
        assert!(!own.exists());
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn only_what_the_dead_left_is_swept() {
        let folder = folder("");
        // A pid that no process can have.
        let dead = folder.join(".ac7-runner-2147483646.sock");
        let dead_folder = folder.join(".ac7-runner-2147483646-0123abcd");
        fs::create_dir(&dead_folder).unwrap();
        let (file, other) = (folder.join(".ac7-runner-2147483645.sock"), folder.join(".ac7-runner-x.sock"));
        let living = folder.join(".ac7-runner-1.sock");
        for path in [&file, &other] {
            File::create(path).unwrap();
        }
        let left = folder.join(format!(".ac7-runner-{}.sock", process::id()));
        for path in [&dead, &dead_folder.join("s"), &living, &left] {
            drop(UnixListener::bind(path).unwrap());
        }
        let (_listener, place) = bind(&folder).unwrap();
        assert!(!dead.exists() && !dead_folder.exists());
        assert!(file.exists() && other.exists() && living.exists());
        assert_eq!(place.path(), left, "what an earlier process with our pid left is replaced");
        fs::remove_dir_all(&folder).unwrap();
    }
}
