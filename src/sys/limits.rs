//! What the operating system lets this process have.
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raise the soft limit of open files as far as the hard one goes, to `wanted` at most; gives what it is then.
///
/// Children inherit it, and old programs cannot deal with descriptors above 1023: raise it after they have started.
pub fn raise_files(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(wanted, |hard| hard.min(wanted));
    let have = now.current.unwrap_or(wanted);
    if have >= most {
        return have;
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: now.maximum });
    if raised.is_ok() { most } else { have }
}

/// Let nobody read this process's memory: no core is dumped, and no other process of this user may look into it. What
/// it starts is not concerned.
pub fn hide_memory() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        assert_eq!(raise_files(1), before.unwrap_or(1));
        assert_eq!(getrlimit(Resource::Nofile).current, before);
    }
}
