//! Other processes of this machine.
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::geteuid;

/// Whether this user runs a program of that name. Only Linux tells; elsewhere none does.
#[must_use]
pub fn runs(name: &str) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        let ours = entry.metadata().is_ok_and(|m| m.uid() == geteuid().as_raw());
        ours && fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
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
