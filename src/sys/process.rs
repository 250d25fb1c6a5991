//! Other processes of this machine, and those that are ours to see to.
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, geteuid, waitid, waitpid};

/// Whether this user runs a program of that name. Only Linux tells; elsewhere none does.
#[must_use]
pub fn runs(name: &str) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        let ours = entry.metadata().is_ok_and(|m| m.uid() == geteuid().as_raw());
        ours && fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

/// Wait until a child has ended, without reaping it, so that its pid stays its own.
///
/// What was left to us meanwhile is reaped: the first process of a container inherits whatever lost its parent there,
/// and an agent that starts many programs would fill the table of processes with the dead.
pub fn wait_for_end(child: Pid) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    if inherits() {
        while matches!(waitid(WaitId::Pid(child), ended | WaitIdOptions::NOHANG), Ok(None)) {
            // Somebody has ended: the child, or a stranger.
            match waitid(WaitId::All, ended) {
                Err(Errno::INTR) => {}
                _ if reap_others(child) => {}
                _ => break,
            }
        }
    }
    while matches!(waitid(WaitId::Pid(child), ended), Err(Errno::INTR)) {}
}

/// Whether processes that lose their parent become ours.
fn inherits() -> bool {
    #[cfg(target_os = "linux")]
    return rustix::process::getpid().is_init()
        || rustix::process::child_subreaper().is_ok_and(|set| set.is_some());
    #[cfg(not(target_os = "linux"))]
    false
}

/// Reap what has ended but for `child`; says whether there was anything. Each is named, as nobody but the owner of
/// `child` may reap that one.
fn reap_others(child: Pid) -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut reaped = false;
    for list in lists {
        let pids = list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
        for pid in pids.filter(|pid| *pid != child) {
            reaped |= matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(Some(_)));
        }
    }
    reaped
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn this_one_runs() {
        if let Ok(own) = std::fs::read_to_string("/proc/self/comm") {
            assert!(runs(own.trim_end()));
        }
        assert!(!runs("no such program"));
    }
}
