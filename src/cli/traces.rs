//! `ac7 traces`: recorded calls, as a table or as JSON Lines; `ac7 traces show`: one of them.
use std::fmt::Display;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal::{self, Screen};
use super::view::{self, Line, Table};
use super::{Group, SUCCESS_OR_FAILURE, Verb, text};
use crate::activity::{Event, KINDS};
use crate::store;
use crate::store::activity::{Query, Reader, Row};
use crate::sys::localtime::Zone;
use crate::sys::{clock, duration, paths};

/// How often a database is asked for new rows.
const POLL: Duration = Duration::from_millis(250);
const DEFAULT_LIMIT: usize = 50;
const MOST_LIMIT: usize = 1_000_000;

const PAGE: (&str, &str) = ("ac7-traces", include_str!("../../man/ac7-traces.1"));
/// The option of all verbs that read a database.
pub const DB: Flag = Flag::value("db", "PATH", "The activity database").or("$XDG_DATA_HOME/ac7/activity.db");

pub const VERB: Verb = Verb {
    name: "traces",
    group: Group::Read,
    summary: "List recorded calls, or follow new ones",
    operands: Operands::None,
    flags: &[&[
        DB,
        Flag::value("kind", "KIND", "Only llm_exchange, opaque_http, objective_open or objective_close")
            .many(),
        Flag::value("since", "WHEN", "Not before: 2h, 2026-11-21T10:00"),
        Flag::value("until", "WHEN", "Not after"),
        Flag::value("session", "ID|last", "Only a session whose id begins with ID, or the last one"),
        Flag::value("model", "GLOB", "Only calls of models whose name matches, as claude-*"),
        Flag::value("grep", "TEXT", "Only what contains TEXT, in any case"),
        Flag::switch("errors", "Only what failed"),
        Flag::value("limit", "N", "The last N rows, up to 1000000").or("50"),
        Flag::switch("json", "One JSON object a line"),
        Flag::switch("follow", "Then wait for new rows and show them"),
    ]],
    examples: &[
        ("ac7 traces --session last", "what the last session did"),
        ("ac7 traces --since 2h --errors", "what went wrong in the last two hours"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-traces(1)", "ac7-run(1)"],
    page: PAGE,
    run: list,
};

pub const SHOW: Verb = Verb {
    name: "traces show",
    group: Group::Read,
    summary: "Show one recorded call",
    operands: Operands::One("ID"),
    flags: &[&[
        DB,
        Flag::switch("full", "Fold nothing: the whole system prompt, tools and messages"),
        Flag::switch("raw", "The entry's JSON instead"),
        Flag::switch("no-pager", "Write to the terminal directly"),
    ]],
    examples: &[
        ("ac7 traces show 42", "call 42, with what was new in it"),
        ("ac7 traces show 42 --raw", "the same as JSON, for a program"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-traces(1)", "ac7-run(1)"],
    page: PAGE,
    run: show,
};

/// What a list was asked for.
#[derive(Debug, PartialEq)]
struct ListOptions {
    db: Database,
    query: Query,
    last_session: bool,
    json: bool,
    follow: bool,
}

/// Which database is read.
#[derive(Debug, PartialEq)]
pub enum Database {
    /// The usual one, which need not be there yet.
    Usual(PathBuf),
    Named(PathBuf),
}

impl Database {
    pub fn path(&self) -> &Path {
        match self {
            Database::Usual(path) | Database::Named(path) => path,
        }
    }

    /// Whether nobody named it.
    pub fn is_usual(&self) -> bool {
        matches!(self, Database::Usual(_))
    }
}

/// The database that [`DB`] names, else the local one.
pub fn database(parsed: &Parsed, verb: &'static str) -> Result<Database, Error> {
    match parsed.path("db") {
        Some(path) => Ok(Database::Named(path)),
        None => {
            paths::data_dir().map(|d| Database::Usual(d.join("activity.db"))).ok_or_else(|| Error::Failed {
                verb,
                what: "no place for the database: neither XDG_DATA_HOME nor HOME is an absolute path"
                    .to_string(),
                fix: Some("--db PATH".to_string()),
            })
        }
    }
}

/// What a value that is no [`moment`] is told.
pub const MOMENT: &str = "it is neither a duration as 30d, 2h or 15m nor a time as 2026-11-21T10:00";

/// A time in ms since the epoch: so long ago, or then.
pub fn moment(text: &str, zone: &Zone, now: u64) -> Option<u64> {
    match duration::parse_ms(text) {
        Some(ms) => Some(now.saturating_sub(ms)),
        None => zone.parse_moment(text),
    }
}

fn list_options(parsed: &Parsed, zone: &Zone, now: u64) -> Result<ListOptions, Error> {
    let when = |text: &str| moment(text, zone, now);
    let kind = |text: &str| KINDS.contains(&text).then(|| text.to_string());
    let number = |text: &str| text.parse().ok().filter(|n| *n <= MOST_LIMIT);
    let session = parsed.text("session")?;
    let last_session = session.as_deref() == Some("last");
    Ok(ListOptions {
        db: database(parsed, "traces")?,
        query: Query {
            kinds: parsed.read_all("kind", "it is none of the kinds that --help names", kind)?,
            from: parsed.read("since", MOMENT, when)?,
            to: parsed.read("until", MOMENT, when)?,
            session: session.filter(|_| !last_session),
            model: parsed.text("model")?,
            text: parsed.text("grep")?.filter(|text| !text.is_empty()),
            failed: parsed.has("errors"),
            limit: parsed.read("limit", "it is not a number up to 1000000", number)?.unwrap_or(DEFAULT_LIMIT),
            ..Query::default()
        },
        last_session,
        json: parsed.has("json"),
        follow: parsed.has("follow"),
    })
}

fn failed(error: impl Display) -> Error {
    Error::failed("traces", error)
}

fn list(parsed: &Parsed) -> Result<u8, Error> {
    let screen = Screen::stdout();
    let mut options = list_options(parsed, &screen.zone, clock::now_ms())?;
    let Some(reader) = open(&options)? else { return Ok(0) };
    if options.last_session {
        options.query.session = reader.last_session(None).map_err(failed)?;
        if options.query.session.is_none() {
            say("no session is recorded");
            return Ok(0);
        }
    }
    let seen = reader.last_id().map_err(failed)?;
    let ids = newest(&reader, &options.query)?;
    if ids.is_empty() && !options.follow {
        say("nothing matches");
        return Ok(0);
    }
    let mut printer = Printer { json: options.json, screen, table: None };
    printer.print(&reader, &ids)?;
    if options.follow {
        follow(&reader, &options.query, &mut printer, seen)?;
    }
    Ok(0)
}

/// Print what is stored after row `seen`, until the process is interrupted or nobody reads any more.
fn follow(reader: &Reader, query: &Query, printer: &mut Printer, mut seen: i64) -> Result<(), Error> {
    loop {
        thread::sleep(POLL);
        let mut fresh = Vec::new();
        let each = |row: Row| {
            fresh.push((row.id, at(&row)));
            ControlFlow::Continue(())
        };
        reader.follow(seen, None, each).map_err(failed)?;
        seen = fresh.last().map_or(seen, |(id, _)| *id);
        let mut ids = Vec::new();
        for (id, ts) in fresh {
            if matches(reader, query, id, ts)? {
                ids.push(id);
            }
        }
        printer.print(reader, &ids)?;
    }
}

fn say(what: &str) {
    terminal::say(format_args!("ac7 traces: {what}"));
}

/// The database; `None`, after a word to the user, where nothing was ever recorded. To follow waits for it.
fn open(options: &ListOptions) -> Result<Option<Reader>, Error> {
    let mut told = false;
    loop {
        match (Reader::open(options.db.path()), &options.db) {
            (Ok(reader), _) => return Ok(Some(reader)),
            (Err(store::Error::Missing { .. }), Database::Usual(path)) => {
                if !told {
                    say(&format!("nothing is recorded yet in {}", terminal::path(path)));
                }
                told = true;
            }
            (Err(error), _) => return Err(failed(error)),
        }
        if !options.follow {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// The ids of the newest rows that match, oldest first. Rows can be long: they are read again one by one.
fn newest(reader: &Reader, query: &Query) -> Result<Vec<i64>, Error> {
    let (mut ids, mut query) = (Vec::new(), query.clone());
    let most = query.limit;
    while ids.len() < most {
        query.limit = most - ids.len();
        let each = |row: Row| {
            ids.push(row.id);
            ControlFlow::Continue(())
        };
        query.after = reader.list(&query, each).map_err(failed)?;
        if query.after.is_none() {
            break;
        }
    }
    ids.reverse();
    Ok(ids)
}

/// When the row's event happened.
fn at(row: &Row) -> u64 {
    let event: Option<Value> = serde_json::from_str(&row.event).ok();
    event.and_then(|e| e.get("ts").and_then(Value::as_u64)).unwrap_or(row.created_at)
}

/// Whether a row is among those that a query asks for: the query itself is asked, for that one moment.
fn matches(reader: &Reader, query: &Query, id: i64, ts: u64) -> Result<bool, Error> {
    if query.from.is_some_and(|from| ts < from) || query.to.is_some_and(|to| ts > to) {
        return Ok(false);
    }
    let then = Query { from: Some(ts), to: Some(ts), limit: MOST_LIMIT, ..query.clone() };
    Ok(newest(reader, &then)?.contains(&id))
}

/// Writes rows to standard output.
struct Printer {
    json: bool,
    screen: Screen,
    /// Fitted to the first rows.
    table: Option<Table>,
}

impl Printer {
    fn print(&mut self, reader: &Reader, ids: &[i64]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut lines = Vec::new();
        for id in ids {
            // A row that is gone was pruned meanwhile.
            let Some(row) = reader.get(*id).map_err(failed)? else { continue };
            if self.json {
                writeln!(out, "{}", json_line(&row))?;
            } else {
                lines.push(line(&row, &self.screen));
            }
        }
        if !self.json {
            let screen = &self.screen;
            if self.table.is_none() {
                let table = self.table.insert(Table::fit(&lines, screen));
                out.write_all(table.head(screen).as_bytes())?;
            }
            if let Some(table) = &self.table {
                lines.iter().try_for_each(|line| out.write_all(table.row(line, screen).as_bytes()))?;
            }
        }
        Ok(out.flush()?)
    }
}

fn line(row: &Row, screen: &Screen) -> Line {
    match view_row(row) {
        Ok(row) => Line::of(&row, screen),
        Err(why) => Line::unreadable(row.id, &why, screen),
    }
}

/// The row as views take it.
fn view_row(row: &Row) -> Result<view::Row, String> {
    let json: Value = serde_json::from_str(&row.event).map_err(|e| e.to_string())?;
    let event = Event::from_json(&json).map_err(|e| e.to_string())?;
    Ok(view::Row { id: row.id, member: row.member.clone(), event })
}

/// A row as one line of JSON. The event is given as it was stored, but for characters that a terminal would obey.
fn json_line(row: &Row) -> String {
    let member = Value::String(row.member.clone()).to_string();
    let event = text::json_line(&row.event);
    let member = text::json_line(&member);
    format!(r#"{{"id":{},"memberName":{member},"event":{event},"createdAt":{}}}"#, row.id, row.created_at)
}

fn show(parsed: &Parsed) -> Result<u8, Error> {
    if parsed.has("raw") && parsed.has("full") {
        return Err(parsed.conflict("raw", "full"));
    }
    let verb = SHOW.name;
    let typed = parsed.operands.first().cloned().unwrap_or_default();
    let Some(id) = typed.to_str().and_then(|t| t.parse().ok()) else {
        let why = format!("bad ID: {}: it is not a number", typed.to_string_lossy().escape_default());
        return Err(Error::Refused { verb, why, fix: "ac7 traces lists the ids" });
    };
    let db = database(parsed, verb)?;
    let row =
        Reader::open(db.path()).and_then(|reader| reader.get(id)).map_err(|e| Error::failed(verb, e))?;
    let Some(row) = row else {
        let what = format!("no such row: {id}: {}", terminal::path(db.path()));
        return Err(Error::Failed { verb, what, fix: Some("ac7 traces lists the ids".to_string()) });
    };
    let text = if parsed.has("raw") {
        raw(&row).map_err(|e| Error::failed(verb, e))?
    } else {
        let row = view_row(&row).map_err(|why| Error::Failed {
            verb,
            what: format!("cannot read row {id}: {why}"),
            fix: Some(format!("ac7 traces show {id} --raw")),
        })?;
        view::show(&row, &Screen::stdout(), parsed.has("full"))
    };
    terminal::page(&text, !parsed.has("no-pager"))?;
    Ok(0)
}

/// The entry's JSON, or the event's where it has no entry, laid out for reading.
fn raw(row: &Row) -> serde_json::Result<String> {
    let event: Value = serde_json::from_str(&row.event)?;
    Ok(text::json(&serde_json::to_string_pretty(event.get("entry").unwrap_or(&event))?) + "\n")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    const NOW: u64 = 1_795_251_800_000;

    fn read(line: &str) -> Result<ListOptions, Error> {
        let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        list_options(&flags::parse(VERB.name, VERB.flags, VERB.operands, words)?, &Zone::utc(), NOW)
    }

    #[test]
    fn filters_become_a_query() {
        let line = "--db x --kind llm_exchange --kind opaque_http --since 2h --until 2026-11-21T10:00Z --session 9f3c \
                    --model claude-* --grep Err --errors --limit 7 --json --follow";
        let options = read(line).unwrap();
        let want = Query {
            kinds: vec!["llm_exchange".into(), "opaque_http".into()],
            from: Some(NOW - 7_200_000),
            to: Some(1_795_255_200_000),
            session: Some("9f3c".into()),
            model: Some("claude-*".into()),
            text: Some("Err".into()),
            failed: true,
            limit: 7,
            ..Query::default()
        };
        assert_eq!(options.query, want);
        assert_eq!(options.db, Database::Named("x".into()));
        assert!(options.json && options.follow && !options.last_session);
        let plain = read("--db x").unwrap();
        assert_eq!(plain.query, Query { limit: 50, ..Query::default() });
        let last = read("--db x --session last").unwrap();
        assert!(last.last_session && last.query.session.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, want) in [
            ("--kind all", "ac7 traces: bad --kind: all: it is none of the kinds"),
            ("--since yesterday", "ac7 traces: bad --since: yesterday: it is neither a duration"),
            ("--until 2026-13-01", "ac7 traces: bad --until: "),
            ("--limit -1", "ac7 traces: bad --limit: -1: it is not a number"),
            ("--limit 1000001", "ac7 traces: bad --limit: "),
            ("1042", "ac7 traces: unexpected argument: 1042\n  fix: ac7 traces show 1042"),
        ] {
            let error = read(&format!("--db x {line}")).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}");
            assert_eq!(error.code(), 2);
        }
    }
}
