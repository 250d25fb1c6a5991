//! Where things live, after the XDG base directory specification.
use std::env;
use std::ffi::OsString;
use std::path::{self, PathBuf};

use super::user;

/// `$XDG_DATA_HOME/ac7`, default `~/.local/share/ac7`; `None` without a home.
#[must_use]
pub fn data_dir() -> Option<PathBuf> {
    base("XDG_DATA_HOME", ".local/share").map(|d| d.join("ac7"))
}

/// `$XDG_CACHE_HOME/agentc7` (the name that earlier ac7 clients have), default `~/.cache/agentc7`; `None` without a home.
#[must_use]
pub fn cache_dir() -> Option<PathBuf> {
    base("XDG_CACHE_HOME", ".cache").map(|d| d.join("agentc7"))
}

/// `$XDG_CONFIG_HOME/ac7`, default `~/.config/ac7`; `None` without a home.
#[must_use]
pub fn config_dir() -> Option<PathBuf> {
    base("XDG_CONFIG_HOME", ".config").map(|d| d.join("ac7"))
}

/// `$TMPDIR`, default `/tmp`; always absolute, since what lies there is named to programs that change their directory.
#[must_use]
pub fn temp_dir() -> PathBuf {
    temp(env::var_os("TMPDIR"))
}

/// An empty variable names nothing; a relative path in it is one from the current directory.
fn temp(variable: Option<OsString>) -> PathBuf {
    let named = variable.filter(|v| !v.is_empty()).and_then(|v| path::absolute(v).ok());
    named.unwrap_or_else(|| PathBuf::from("/tmp"))
}

/// The specification says that a relative path in these variables is to be ignored.
fn base(variable: &str, under_home: &str) -> Option<PathBuf> {
    let set = env::var_os(variable).map(PathBuf::from).filter(|p| p.is_absolute());
    set.or_else(|| home().map(|home| home.join(under_home)))
}

/// `$HOME`; where that is not set, as in some CI jobs, the directory that the system has for this user, if it is there.
fn home() -> Option<PathBuf> {
    let set = env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    set.or_else(|| user::home().filter(|home| home.is_dir())).filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temporary_directory_is_absolute() {
        let here = env::current_dir().unwrap();
        for (variable, want) in [
            (None, "/tmp".into()),
            (Some(""), "/tmp".into()),
            (Some("/var/tmp"), "/var/tmp".into()),
            (Some("scratch"), here.join("scratch")),
        ] {
            assert_eq!(temp(variable.map(OsString::from)), want, "{variable:?}");
        }
    }
}
