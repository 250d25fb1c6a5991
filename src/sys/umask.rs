//! The umask: private for what is ours, the user's for what others make at our bidding.
use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

static USERS: OnceLock<Mode> = OnceLock::new();

/// From now on nobody but this user gets at what this process makes, and this user does, whatever the umask was.
pub fn make_private() {
    let users = umask(Mode::RWXG | Mode::RWXO);
    USERS.get_or_init(|| users);
}

/// Start a program of the user's with the umask that we were started with.
pub fn lent<T>(start: impl FnOnce() -> T) -> T {
    let Some(users) = USERS.get() else { return start() };
    // For a moment it is that of all our threads, too. They name the mode of each file that they make.
    let ours = umask(*users);
    let started = start();
    umask(ours);
    started
}
