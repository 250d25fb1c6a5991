//! Who runs this process.
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

/// The login name and the host's, as in `ann@box`.
#[must_use]
pub fn at_host() -> String {
    let system = rustix::system::uname();
    let plain = |c: char| if c.is_control() { '-' } else { c };
    format!("{}@{}", login_name(), system.nodename().to_string_lossy()).chars().map(plain).collect()
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
