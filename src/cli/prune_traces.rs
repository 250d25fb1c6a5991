//! `ac7 prune-traces`: delete old rows of an activity database.
use std::io::{self, BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::progress::Progress;
use super::{Environment, Group, Verb, environment, format, serve, terminal};
use crate::store::activity::{Pruned, Store, count_older};
use crate::sys::interrupt::Interrupt;
use crate::sys::localtime::Zone;
use crate::sys::{clock, duration, paths};

pub const VERB: Verb = Verb {
    name: "prune-traces",
    group: Group::Operate,
    summary: "Delete old traces from an activity database",
    operands: Operands::None,
    flags: &[&[
        Flag::value("older-than", "DURATION", "Delete what is older: 30d, 24h, 60m, 3600s, 500ms"),
        Flag::value("db", "PATH", "The activity database").or("$AC7_ACTIVITY_DB_PATH, see the manual"),
        Flag::switch("yes", "Do not ask"),
        Flag::switch("vacuum", "Then give free space back; nobody else may write meanwhile"),
        Flag::switch("quiet", "Say nothing unless it fails"),
    ]],
    examples: &[
        ("ac7 prune-traces --older-than 30d", "ask, then delete"),
        ("ac7 prune-traces --older-than 90d --yes --quiet", "the same from cron"),
    ],
    exits: &[
        ("0", "done, or nothing was old enough"),
        ("1", "it failed, or the answer was not yes"),
        ("2", "the command line makes no sense, or --yes is missing without a terminal"),
        ("128+N", "ended by signal N (130 for ^C); what was deleted stays deleted"),
    ],
    see_also: &["ac7-prune-traces(8)", "ac7-serve(8)"],
    page: "ac7-prune-traces",
    run,
};

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    older_than: u64,
    db: PathBuf,
    yes: bool,
    vacuum: bool,
    quiet: bool,
}

fn options(parsed: &Parsed, env: Environment) -> Result<Options, Error> {
    let verb = VERB.name;
    let why = "it is not a duration as 30d, 24h, 60m, 3600s or 500ms";
    let Some(older_than) = parsed.read("older-than", why, duration::parse_ms)? else {
        return Err(Error::MissingOption { verb, option: "older-than", called: "30d" });
    };
    let db = match parsed.path("db") {
        Some(db) => db,
        None => {
            let what =
                "no place for the database: neither XDG_DATA_HOME nor HOME is an absolute path".to_string();
            usual(env).ok_or_else(|| Error::Failed { verb, what, fix: Some("--db PATH".to_string()) })?
        }
    };
    if db.as_os_str() == ":memory:" {
        let why = "nothing to prune: :memory: is a database of one process".to_string();
        return Err(Error::Refused { verb, why, fix: "--db PATH" });
    }
    let has = |name| parsed.has(name);
    Ok(Options { older_than, db, yes: has("yes"), vacuum: has("vacuum"), quiet: has("quiet") })
}

/// The database that `ac7 serve` would use here, if the environment names it or it is there; else the local one. `None` without a
/// home directory.
pub fn usual(env: Environment) -> Option<PathBuf> {
    let broker = serve::databases(&Parsed::default(), env).1;
    if env("AC7_ACTIVITY_DB_PATH").or_else(|| env("AC7_DB_PATH")).is_some() || broker.exists() {
        return Some(broker);
    }
    paths::data_dir().map(|directory| directory.join("activity.db"))
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let options = options(parsed, &environment)?;
    if !options.yes && !io::stdin().is_terminal() {
        let why = "not confirmed: standard input is no terminal".to_string();
        return Err(Error::Refused { verb, why, fix: "--yes" });
    }
    let failed = |error: crate::store::Error| Error::failed(verb, error);
    let cutoff = clock::now_ms().saturating_sub(options.older_than);
    let count = count_older(&options.db, cutoff).map_err(failed)?;
    let what = format!("older than {} in {}", Zone::system().local(cutoff), terminal::path(&options.db));
    if count > 0 && !options.yes && !confirmed(&format!("Delete {} {what}?", format::counted(count, "row"))) {
        terminal::say(format_args!("ac7 {verb}: nothing was deleted"));
        return Ok(1);
    }
    let mut store = Store::open(&options.db).map_err(failed)?;
    let interrupt = Interrupt::listen().map_err(|e| Error::failed(verb, e))?;
    let mut progress = Progress::new(options.quiet);
    let pruned = store.prune(cutoff, |pruned| {
        progress.tell(pruned.done, pruned.total);
        if interrupt.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    progress.clear();
    let Pruned { done, total } = pruned.map_err(failed)?;
    if interrupt.came() && (done < total || options.vacuum) {
        terminal::say(format_args!(
            "ac7 {verb}: interrupted: {} of {} deleted",
            format::count(done),
            format::counted(total, "row")
        ));
        return Ok(interrupt.code());
    }
    if !options.quiet {
        println!("deleted {} {what}", format::counted(done, "row"));
    }
    // From here on a signal may end us: SQLite undoes what is not whole.
    drop(interrupt);
    if options.vacuum {
        let size = || options.db.metadata().map_or(0, |m| m.len());
        let before = size();
        store.vacuum().map_err(failed)?;
        if !options.quiet {
            println!("vacuumed: {}, before {}", format::bytes(size()), format::bytes(before));
        }
    }
    Ok(0)
}

/// Ask; only y and yes mean yes.
pub fn confirmed(question: &str) -> bool {
    terminal::hint(format_args!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    fn read(line: &str, env: &[(&str, &str)]) -> Result<Options, Error> {
        let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words)?;
        options(&parsed, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string()))
    }

    #[test]
    fn the_database_that_is_meant() {
        for (line, env, want) in [
            ("--db x.db", &[("AC7_ACTIVITY_DB_PATH", "a.db")][..], "x.db"),
            ("", &[("AC7_ACTIVITY_DB_PATH", "a.db"), ("AC7_DB_PATH", "/b/ac7.db")], "a.db"),
            ("", &[("AC7_DB_PATH", "/b/team.sqlite")], "/b/team-activity.sqlite"),
            ("", &[("AC7_DB_PATH", "plain")], "plain-activity"),
        ] {
            let options = read(&format!("--older-than 1d {line}"), env).unwrap();
            assert_eq!(options.db, PathBuf::from(want), "{line} {env:?}");
        }
    }

    #[test]
    fn what_is_typed() {
        let options = read("--older-than 7D --db x --yes --vacuum --quiet", &[]).unwrap();
        let want = Options { older_than: 604_800_000, db: "x".into(), yes: true, vacuum: true, quiet: true };
        assert_eq!(options, want);
        for (line, want) in [
            (
                "--db x",
                "ac7 prune-traces: --older-than is required\n  fix: ac7 prune-traces --older-than 30d",
            ),
            ("--older-than 30 --db x", "ac7 prune-traces: bad --older-than: 30: it is not a duration"),
            ("--older-than 1d --db :memory:", "ac7 prune-traces: nothing to prune: :memory: is"),
        ] {
            let error = read(line, &[]).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}");
            assert_eq!(error.code(), 2);
        }
    }
}
