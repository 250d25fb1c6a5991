//! Whether codex can log in.
use std::env;
use std::path::PathBuf;

use super::Check;
use crate::agents::codex::KEYS;

const LOGIN: &str = "codex login";

/// Whether there is a login in codex's directory, or a key in the environment.
pub fn login() -> Check {
    let set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let folder = env::var_os("CODEX_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let usual = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".codex"));
    let file = folder.or_else(usual).map(|folder| folder.join("auth.json"));
    if let Some(file) = file.filter(|file| file.is_file()) {
        return Check::pass(LOGIN, file.display().to_string());
    }
    match KEYS.iter().find(|name| set(name)) {
        Some(name) => Check::pass(LOGIN, format!("{name} of this environment")),
        None => Check::fail(LOGIN, "no codex auth.json found in ~/.codex", "codex login"),
    }
}
