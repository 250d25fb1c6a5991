//! What the verbs that change the team share: where its files are, and how failures are told.
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::flags::{Flag, Parsed};
use super::{Environment, terminal};
use crate::identity;
use crate::store::main::Store;

/// The option that names the team file.
pub const CONFIG: &[Flag] =
    &[Flag::value("config-path", "PATH", "The team file; else $AC7_CONFIG_PATH").or("./ac7.json")];

/// The option that names the main database.
pub const DB: &[Flag] = &[Flag::value("db", "PATH", "The main database; else $AC7_DB_PATH").or("./ac7.db")];

/// The option that names a member, where it is not the operand.
pub const MEMBER: &[Flag] = &[Flag::value("member", "NAME", "Whom")];

/// The team file that is meant.
pub fn config(parsed: &Parsed, env: Environment) -> PathBuf {
    let given = parsed.path("config-path").or_else(|| env("AC7_CONFIG_PATH").map(PathBuf::from));
    given.unwrap_or_else(|| "./ac7.json".into())
}

/// The main database, if there is one; `Err` is where it was looked for.
fn main_db(parsed: &Parsed, env: Environment) -> Result<PathBuf, PathBuf> {
    let given = parsed.path("db").or_else(|| env("AC7_DB_PATH").map(PathBuf::from));
    let path = given.unwrap_or_else(|| "./ac7.db".into());
    if path.exists() { Ok(path) } else { Err(path) }
}

fn open(path: &Path, verb: &'static str) -> Result<Store, Error> {
    let store = Store::open(path).map_err(|e| Error::failed(verb, e))?;
    if let Some(upgrade) = store.upgrade() {
        terminal::say(format_args!("ac7 {verb}: {upgrade}"));
    }
    Ok(store)
}

/// The member that `--member` names.
pub fn member(parsed: &Parsed, verb: &'static str) -> Result<String, Error> {
    parsed.text("member")?.ok_or(Error::MissingOption { verb, option: "member", called: "NAME" })
}

/// Whether all has its usual place, and no broker has been there yet.
pub fn is_new(parsed: &Parsed, env: Environment) -> bool {
    let named = ["config-path", "db"].into_iter().any(|option| parsed.path(option).is_some());
    let named = named || ["AC7_CONFIG_PATH", "AC7_DB_PATH"].into_iter().any(|name| env(name).is_some());
    !named && main_db(parsed, env).is_err()
}

/// Work on the main database. Where there is none, that is said, and what a broker with another one knows goes on.
pub fn with_main<T>(
    parsed: &Parsed,
    env: Environment,
    verb: &'static str,
    work: impl FnOnce(&Store) -> Result<T, crate::store::Error>,
) -> Result<Option<T>, Error> {
    match main_db(parsed, env) {
        Ok(path) => {
            let failed = |e| Error::failed(verb, e);
            open(&path, verb).and_then(|store| work(&store).map(Some).map_err(failed))
        }
        Err(path) => {
            let path = terminal::path(&path);
            terminal::say(format_args!(
                "ac7 {verb}: there is no database at {path}, so nothing in it to end; --db PATH names another"
            ));
            Ok(None)
        }
    }
}

/// When each token was last used, by id; nothing where there is no main database.
pub fn uses(parsed: &Parsed, env: Environment, verb: &'static str) -> Result<HashMap<String, u64>, Error> {
    match main_db(parsed, env) {
        Ok(path) => {
            let failed = |e| Error::failed(verb, e);
            open(&path, verb).and_then(|store| store.token_uses().map_err(failed))
        }
        Err(_) => Ok(HashMap::new()),
    }
}

/// An error of the team file, with the way out.
pub fn failed(verb: &'static str) -> impl Fn(identity::Error) -> Error {
    move |error| {
        let fix = match &error {
            identity::Error::NoMember(_) => Some("ac7 member list".to_string()),
            identity::Error::MemberExists(name) => Some(format!("ac7 member update {name}")),
            _ => None,
        };
        Error::Failed { verb, what: error.to_string(), fix }
    }
}

/// The columns of a table.
pub fn table(rows: &[Vec<String>]) -> String {
    super::text::columns(rows, usize::MAX).iter().map(|line| format!("{line}\n")).collect()
}
