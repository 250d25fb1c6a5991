//! `ac7 traces`: recorded calls, as a table or as JSON Lines; `ac7 traces show`: one of them.
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::rows::{self, Fresh, Remote, Rows};
use super::source::{self, Source};
use super::terminal::{self, Screen};
use super::view::{self, Line, Table};
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, text};
use crate::activity::{Event, KINDS};
use crate::store;
use crate::store::activity::{Query, Reader, Row};
use crate::sys::localtime::Zone;
use crate::sys::{clock, duration, paths};

/// How often a database is asked for new rows.
const POLL: Duration = Duration::from_millis(250);
const DEFAULT_LIMIT: usize = 50;
const MOST_LIMIT: usize = 1_000_000;

const PAGE: &str = "ac7-traces";
/// The option of all verbs that read a database.
pub const DB: Flag = Flag::value("db", "PATH", "The activity database").or("$XDG_DATA_HOME/ac7/activity.db");

pub const VERB: Verb = Verb {
    name: "traces",
    group: Group::Read,
    summary: "List recorded calls, or follow new ones",
    operands: Operands::None,
    flags: &[
        &[
            Flag::value("kind", "KIND", "Only llm_exchange, opaque_http, objective_open or objective_close")
                .many(),
            Flag::value("since", "WHEN", "Not before: 2h, 2026-11-21T10:00"),
            Flag::value("until", "WHEN", "Not after"),
            Flag::value("session", "ID|last", "Only a session whose id begins with ID, or the last one"),
            Flag::value("member", "NAME", "Only this member's; of a broker, instead of your own"),
            Flag::value("objective", "ID", "Only what was done for this objective, by everybody who had it"),
            Flag::value("model", "GLOB", "Only calls of models whose name matches, as claude-*"),
            Flag::value("grep", "TEXT", "Only what contains TEXT, in any case"),
            Flag::switch("errors", "Only what failed"),
            Flag::value("limit", "N", "The last N rows, up to 1000000").or("50"),
            Flag::switch("json", "One JSON object a line"),
            Flag::switch("follow", "Then wait for new rows and show them"),
        ],
        source::FLAGS,
    ],
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
    flags: &[
        &[
            Flag::switch("full", "Fold nothing: the whole system prompt, tools and messages"),
            Flag::switch("raw", "The entry's JSON instead"),
            Flag::switch("no-pager", "Write to the terminal directly"),
            Flag::value("member", "NAME", "Whose row it is; of a broker, if it is not your own"),
        ],
        source::FLAGS,
    ],
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
        query: Query {
            kinds: parsed.read_all("kind", "it is none of the kinds that --help names", kind)?,
            from: parsed.read("since", MOMENT, when)?,
            to: parsed.read("until", MOMENT, when)?,
            session: session.filter(|_| !last_session),
            member: parsed.text("member")?,
            objective: parsed.text("objective")?,
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

fn failed(error: impl Into<rows::Error>) -> Error {
    rows::failed(VERB.name)(error.into())
}

fn list(parsed: &Parsed) -> Result<u8, Error> {
    let screen = Screen::stdout();
    let mut options = list_options(parsed, &screen.zone, clock::now_ms())?;
    let (member, objective) = (options.query.member.clone(), options.query.objective.clone());
    let rows = match source::of(parsed, VERB.name)? {
        Source::Database(db) => match open(&db, options.follow)? {
            Some(reader) => Rows::Database(Box::new(reader)),
            None => return Ok(0),
        },
        Source::Broker(client) => {
            // An objective's rows are of several members: no stream has them all.
            if options.follow && member.is_none() && objective.is_some() {
                let why = "--follow takes one member's rows".to_string();
                return Err(Error::Refused { verb: VERB.name, why, fix: "--member NAME" });
            }
            let remote = Remote::new(client, member.as_deref(), objective.as_deref());
            Rows::Broker(Box::new(remote.map_err(broker::failed(VERB.name))?))
        }
    };
    if options.last_session {
        options.query.session = rows.last_session(member.as_deref()).map_err(failed)?;
        if options.query.session.is_none() {
            say("no session is recorded");
            return Ok(0);
        }
    }
    // Before the list: what is stored meanwhile is shown, and not twice.
    let fresh = if options.follow { Some(rows.follow().map_err(failed)?) } else { None };
    let ids = rows.newest(&options.query).map_err(failed)?;
    if ids.is_empty() && !options.follow {
        say("nothing matches");
        return Ok(0);
    }
    let mut printer = Printer { json: options.json, screen, table: None };
    printer.print(&rows, &ids)?;
    match fresh {
        Some(fresh) => follow(&rows, &options.query, &mut printer, fresh, ids.last().copied()),
        None => Ok(0),
    }
}

/// Print what comes, until the process is interrupted or nobody reads any more. Rows up to `shown` have been printed.
fn follow(
    rows: &Rows,
    query: &Query,
    printer: &mut Printer,
    mut fresh: Fresh<'_>,
    shown: Option<i64>,
) -> Result<u8, Error> {
    loop {
        if fresh.polls() {
            thread::sleep(POLL);
        }
        let mut ids = Vec::new();
        for (id, ts) in fresh.next_rows().map_err(failed)? {
            if shown.is_none_or(|last| id > last) && matches(rows, query, id, ts)? {
                ids.push(id);
            }
        }
        printer.print(rows, &ids)?;
    }
}

fn say(what: &str) {
    terminal::say(format_args!("ac7 traces: {what}"));
}

/// The database; `None`, after a word to the user, where nothing was ever recorded. To follow waits for it.
fn open(db: &Database, follow: bool) -> Result<Option<Reader>, Error> {
    let mut told = false;
    loop {
        match (Reader::open(db.path()), db) {
            (Ok(reader), _) => return Ok(Some(reader)),
            (Err(store::Error::Missing { .. }), Database::Usual(path)) => {
                if !told {
                    say(&format!("nothing is recorded yet in {}", terminal::path(path)));
                }
                told = true;
            }
            (Err(error), _) => return Err(failed(error)),
        }
        if !follow {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Whether a row is among those that a query asks for: the query itself is asked, for that one moment.
fn matches(rows: &Rows, query: &Query, id: i64, ts: u64) -> Result<bool, Error> {
    if query.from.is_some_and(|from| ts < from) || query.to.is_some_and(|to| ts > to) {
        return Ok(false);
    }
    let then = Query { from: Some(ts), to: Some(ts), limit: MOST_LIMIT, ..query.clone() };
    Ok(rows.newest(&then).map_err(failed)?.contains(&id))
}

/// Writes rows to standard output.
struct Printer {
    json: bool,
    screen: Screen,
    /// Fitted to the first rows.
    table: Option<Table>,
}

impl Printer {
    fn print(&mut self, rows: &Rows, ids: &[i64]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut lines = Vec::new();
        for id in ids {
            // A row that is gone was pruned meanwhile.
            let Some(row) = rows.get(*id).map_err(failed)? else { continue };
            if self.json {
                writeln!(out, "{}", json_line(row.id, &row.member, &row.event, row.created_at))?;
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
pub fn json_line(id: i64, member: &str, event: &str, created_at: u64) -> String {
    let member = text::json_line(&Value::from(member).to_string());
    let event = text::json_line(event);
    format!(r#"{{"id":{id},"memberName":{member},"event":{event},"createdAt":{created_at}}}"#)
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
    let (rows, place) = match source::of(parsed, verb)? {
        Source::Database(db) => {
            let reader = Reader::open(db.path()).map_err(|e| Error::failed(verb, e))?;
            (Rows::Database(Box::new(reader)), terminal::path(db.path()))
        }
        Source::Broker(client) => {
            let place = client.url().to_string();
            let remote = Remote::new(client, parsed.text("member")?.as_deref(), None);
            (Rows::Broker(Box::new(remote.map_err(broker::failed(verb))?)), place)
        }
    };
    let Some(row) = rows.get(id).map_err(|e| Error::failed(verb, e))? else {
        let what = format!("no such row: {id}: {place}");
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
                    --member ann --objective o1 --model claude-* --grep Err --errors --limit 7 --json --follow";
        let options = read(line).unwrap();
        let want = Query {
            kinds: vec!["llm_exchange".into(), "opaque_http".into()],
            from: Some(NOW - 7_200_000),
            to: Some(1_795_255_200_000),
            session: Some("9f3c".into()),
            member: Some("ann".into()),
            objective: Some("o1".into()),
            model: Some("claude-*".into()),
            text: Some("Err".into()),
            failed: true,
            limit: 7,
            ..Query::default()
        };
        assert_eq!(options.query, want);
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
