//! `ac7 check`: whether the databases are what they should be.
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::codes::coded;
use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::progress::Progress;
use super::{Environment, Group, Verb, environment, prune_traces, serve, terminal, text};
use crate::store::activity::Reader;
use crate::store::{self, check_structure};

pub const VERB: Verb = Verb {
    name: "check",
    group: Group::Operate,
    summary: "Check that the databases are sound",
    operands: Operands::None,
    flags: &[&[
        Flag::value("db", "PATH", "The main database; else $AC7_DB_PATH").or("./ac7.db"),
        Flag::value("activity-db", "PATH", "The activity database")
            .or("$AC7_ACTIVITY_DB_PATH, see the manual"),
        Flag::switch("quiet", "Say nothing unless something is wrong"),
    ]],
    examples: &[
        ("ac7 check", "the databases of the broker in this directory, else the local one"),
        ("ac7 check --activity-db backup.db", "a copy"),
    ],
    exits: &[
        ("0", "every database is sound"),
        ("1", "something is wrong, or a database cannot be read"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7-check(8)", "ac7-serve(8)"],
    page: "ac7-check",
    run,
};

/// What is to be checked.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    /// `None` where no main database was named and none is there.
    main: Option<PathBuf>,
    /// `None` where only the main one was named, and none is there.
    activity: Option<PathBuf>,
}

fn files(parsed: &Parsed, env: Environment) -> Result<Files, Error> {
    let (named, named_activity) = (parsed.path("db"), parsed.path("activity-db"));
    let (main, beside) = serve::databases(parsed, env);
    let is_named = named.is_some() || env("AC7_DB_PATH").is_some();
    // Whoever names one database means that one; the other is checked if it stands where it belongs.
    let main = (is_named || (named_activity.is_none() && main.exists())).then_some(main);
    let activity = match (named_activity, &named) {
        (Some(activity), _) => Some(activity),
        (None, Some(_)) => beside.exists().then_some(beside),
        (None, None) => prune_traces::usual(env),
    };
    if main.is_none() && activity.is_none() {
        return Err(Error::failed(VERB.name, "no place for the database: HOME is not set"));
    }
    Ok(Files { main, activity })
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let Files { main, activity } = files(parsed, &environment)?;
    let quiet = parsed.has("quiet");
    let mut sound = true;
    if let Some(path) = main {
        sound &= told(&path, check_structure(&path), quiet)?;
    }
    if let Some(path) = activity {
        let mut progress = Progress::new(quiet);
        let found = Reader::open(&path).and_then(|reader| reader.check(|done, of| progress.tell(done, of)));
        progress.clear();
        sound &= told(&path, found, quiet)?;
    }
    Ok(u8::from(!sound))
}

/// Say what was found; gives whether that is nothing.
fn told(path: &Path, found: Result<Vec<String>, store::Error>, quiet: bool) -> Result<bool, Error> {
    let mut out = io::stdout().lock();
    match found {
        Ok(faults) if faults.is_empty() => {
            if !quiet {
                writeln!(out, "{}: sound", terminal::path(path))?;
            }
            Ok(true)
        }
        Ok(faults) => {
            for fault in faults {
                writeln!(out, "{}: {}", terminal::path(path), text::line(&fault, terminal::utf8()))?;
            }
            Ok(false)
        }
        // The other database is worth a look all the same.
        Err(error) => {
            terminal::say(coded(&Error::failed(VERB.name, error).to_string()));
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    #[test]
    fn the_databases_that_are_meant() {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        for (line, env, main, activity) in [
            ("--activity-db x.db", &[][..], "", "x.db"),
            ("--db x.db", &[], "x.db", ""),
            ("--db x.db --activity-db y.db", &[("AC7_DB_PATH", "z.db")], "x.db", "y.db"),
            ("", &[("AC7_DB_PATH", "/b/z.db")], "/b/z.db", "/b/z-activity.db"),
            ("", &[("AC7_ACTIVITY_DB_PATH", "y.db"), ("AC7_PORT", "http")], "", "y.db"),
        ] {
            let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
            let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words).unwrap();
            let env = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string());
            let want = Files { main: path(main), activity: path(activity) };
            assert_eq!(files(&parsed, &env).unwrap(), want, "{line}");
        }
    }
}
