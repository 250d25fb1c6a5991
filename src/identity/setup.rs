//! The first team file: a team, its first member with every permission, and that member's token, shown once.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Map;

use super::Error;
use super::file::{TeamFile, beside, lock};
use super::kek::ensure_kek;
use super::member::{Member, Role};
use super::permission::Permission;
use super::team::Team;
use super::token::mint;
use crate::sys::clock::now_ms;
use crate::sys::file::ensure_private_dir;

/// What to set up.
#[derive(Clone, Debug)]
pub struct SetupOptions {
    /// Where the team file goes; its `.kek` goes beside it.
    pub path: PathBuf,
    pub team: String,
    pub directive: Option<String>,
    pub context: Option<String>,
    /// The first member's name.
    pub member: String,
    /// The first member's role title.
    pub title: Option<String>,
}

impl SetupOptions {
    /// The first member's role unless another one is given.
    pub const TITLE: &str = "admin";
    /// The team's directive unless another one is given.
    pub const DIRECTIVE: &str = "Work together and keep the team informed.";
}

/// What was set up.
pub struct SetupDone {
    /// The first member's token. It is nowhere else.
    pub token: String,
    /// The team file.
    pub path: PathBuf,
    /// Whether a `.kek` was there already and was kept.
    pub kept_kek: bool,
}

/// Make a team file and its key.
///
/// # Errors
/// There is a team file already, a name or text breaks a rule of the file, or something cannot be written.
pub fn setup(options: &SetupOptions) -> Result<SetupDone, Error> {
    let path = &options.path;
    let failed = |action, path: &Path, error| Error::Io { action, path: path.to_path_buf(), error };
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        ensure_private_dir(folder).map_err(|e| failed("create", folder, e))?;
    }
    let _held = lock(path)?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::Exists(path.clone()));
    }
    let minted = mint("initial", "bootstrap", now_ms());
    let file = first_file(options, vec![minted.token]);
    TeamFile::from_json(&file.to_json()).map_err(Error::Refused)?;
    let kept_kek = ensure_kek(&beside(path, ".kek"))?;
    file.write(path)?;
    Ok(SetupDone { token: minted.text, path: path.clone(), kept_kek })
}

fn first_file(options: &SetupOptions, tokens: Vec<super::Token>) -> TeamFile {
    let text = |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_string());
    let operator = vec![
        Permission::ObjectivesCreate,
        Permission::ObjectivesCancel,
        Permission::ObjectivesReassign,
        Permission::ObjectivesWatch,
    ];
    TeamFile {
        team: Team {
            name: options.team.clone(),
            directive: text(&options.directive, SetupOptions::DIRECTIVE),
            context: text(&options.context, ""),
            presets: vec![("admin".into(), Permission::ALL.to_vec()), ("operator".into(), operator)],
            more: Map::new(),
        },
        // The permissions themselves, not the preset: editing a preset must not lock the last administrator out.
        members: vec![Member {
            name: options.member.clone(),
            role: Role { title: text(&options.title, SetupOptions::TITLE), description: String::new() },
            instructions: String::new(),
            permissions: Permission::ALL.iter().map(|p| p.name().to_string()).collect(),
            tokens,
            sealed_totp: None,
            more: Map::new(),
        }],
        host: None,
        port: None,
        hosts: Vec::new(),
        more: Map::new(),
    }
}
