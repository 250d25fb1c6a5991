//! Who runs this process, and where.
use std::env;
use std::fs;
use std::path::PathBuf;

/// The login name: that of `/etc/passwd` for our user id, else `$USER` or `$LOGNAME`, else the id itself. Characters
/// that a member's name may not have become `-`.
#[must_use]
pub fn login_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd_field(&passwd, uid, 0)
        .map(str::to_string)
        .or_else(|| env::var("USER").ok())
        .or_else(|| env::var("LOGNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| uid.to_string());
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().take(128).map(fit).collect()
}

/// The home directory that `/etc/passwd` has for our user id.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd_field(&passwd, rustix::process::getuid().as_raw(), 5).map(PathBuf::from)
}

/// What this machine is called.
#[must_use]
pub fn host_name() -> String {
    let plain = |c: char| if c.is_control() { '-' } else { c };
    rustix::system::uname().nodename().to_string_lossy().chars().map(plain).collect()
}

/// The login name and the host's, as in `ann@box`.
#[must_use]
pub fn at_host() -> String {
    format!("{}@{}", login_name(), host_name())
}

/// A field of a user's line in `/etc/passwd`, counted from 0; the name is the first.
fn passwd_field(passwd: &str, uid: u32, field: usize) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let ours = line.split(':').nth(2)?.parse() == Ok(uid);
        line.split(':').nth(field).filter(|_| ours)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        for (uid, name, home) in
            [(0, Some("root"), Some("/root")), (1000, Some("ann"), Some("/home/ann")), (7, None, None)]
        {
            assert_eq!((passwd_field(passwd, uid, 0), passwd_field(passwd, uid, 5)), (name, home));
        }
        assert!(!login_name().is_empty());
        assert!(at_host().starts_with(&format!("{}@", login_name())));
    }
}
