//! Who runs this process, and where.
use std::env;
use std::fs;

/// The login name: that of `/etc/passwd` for our user id, else `$USER` or `$LOGNAME`, else the id itself. Characters
/// that a member's name may not have become `-`.
#[must_use]
pub fn login_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = in_passwd(&passwd, uid)
        .or_else(|| env::var("USER").ok())
        .or_else(|| env::var("LOGNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| uid.to_string());
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    name.chars().take(128).map(fit).collect()
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

fn in_passwd(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_id() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:1000::/home/ann:/bin/sh\n";
        for (uid, want) in [(0, Some("root")), (1000, Some("ann")), (7, None)] {
            assert_eq!(in_passwd(passwd, uid).as_deref(), want);
        }
        assert!(!login_name().is_empty());
        assert!(at_host().starts_with(&format!("{}@", login_name())));
    }
}
