//! `ac7 export`: recorded calls as one file, for those who have no ac7.
mod har;

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::progress::Progress;
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, terminal, traces, usage};
use crate::client::{Client, segment};
use crate::store::activity::{Query, Reader, Row};
use crate::sys::clock::now_ms;
use crate::sys::duration;
use crate::sys::file::Replacement;
use crate::sys::localtime::Zone;
use crate::usage::{Prices, cost_of};
use crate::web::{Packer, standalone};

pub const VERB: Verb = Verb {
    name: "export",
    group: Group::Read,
    summary: "Write recorded calls to one file",
    operands: Operands::None,
    flags: &[
        &[
            Flag::value(
                "html",
                "FILE",
                "A page that opens from disk and needs nothing else; - is standard output",
            ),
            Flag::value("jsonl", "FILE", "One JSON object a line, as traces --json"),
            Flag::value("har", "FILE", "An HTTP Archive"),
            traces::DB,
            Flag::value("id", "ID", "Only this row").many(),
            Flag::value("session", "ID|last", "Only a session whose id begins with ID, or the last one"),
            Flag::value("objective", "ID", "Only what was done under an objective"),
            Flag::value("since", "WHEN", "Not before: 2h, 2026-11-21T10:00"),
            Flag::value("until", "WHEN", "Not after"),
            Flag::value("member", "NAME", "Only of this member; from a broker you are the default"),
        ],
        broker::ACCESS,
    ],
    examples: &[
        ("ac7 export --html run.html --session last", "what the last session did, to be sent to somebody"),
        ("ac7 export --jsonl - --since 1d", "the last day, for a program"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-export(1)", "ac7-view(1)", "ac7-traces(1)"],
    page: "ac7-export",
    run,
};

const VERB_NAME: &str = "export";
/// Rows that a broker is asked for at a time.
const PAGE: usize = 500;

/// What the file is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Html,
    Jsonl,
    Har,
}

#[derive(Debug, PartialEq)]
struct Options {
    form: Form,
    /// `None` for standard output.
    file: Option<PathBuf>,
    ids: Vec<i64>,
    query: Query,
    last_session: bool,
}

fn options(parsed: &Parsed, zone: &Zone, now: u64) -> Result<Options, Error> {
    let mut asked: Option<(&str, Form, PathBuf)> = None;
    for (name, form) in [("html", Form::Html), ("jsonl", Form::Jsonl), ("har", Form::Har)] {
        let Some(path) = parsed.path(name) else { continue };
        if let Some((first, ..)) = &asked {
            return Err(parsed.conflict(first, name));
        }
        asked = Some((name, form, path));
    }
    let Some((_, form, path)) = asked else {
        let why = "nothing is said about what to write".to_string();
        return Err(Error::Refused { verb: VERB_NAME, why, fix: "--html FILE, --jsonl FILE or --har FILE" });
    };
    let moment = "it is neither a duration as 30d, 2h or 15m nor a time as 2026-11-21T10:00";
    let when = |text: &str| match duration::parse_ms(text) {
        Some(ms) => Some(now.saturating_sub(ms)),
        None => zone.parse_moment(text),
    };
    let session = parsed.text("session")?;
    let last_session = session.as_deref() == Some("last");
    Ok(Options {
        form,
        file: Some(path).filter(|path| path.as_os_str() != "-"),
        ids: parsed.read_all("id", "it is not a number", |text| text.parse().ok())?,
        query: Query {
            member: parsed.text("member")?,
            from: parsed.read("since", moment, when)?,
            to: parsed.read("until", moment, when)?,
            session: session.filter(|_| !last_session),
            objective: parsed.text("objective")?,
            limit: PAGE,
            ..Query::default()
        },
        last_session,
    })
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let mut options = options(parsed, &Zone::system(), now_ms())?;
    let source = Source::open(parsed, &mut options.query)?;
    if options.last_session {
        options.query.session = source.last_session(&options.query)?;
        if options.query.session.is_none() {
            return Err(nothing("no session is recorded"));
        }
    }
    let mut rows = source.rows(&options.query)?;
    if !options.ids.is_empty() {
        rows.retain(|(id, _)| options.ids.contains(id));
        if let Some(id) = options.ids.iter().find(|id| !rows.iter().any(|(found, _)| found == *id)) {
            return Err(nothing(&format!("no such row: {id}")));
        }
    }
    if rows.is_empty() {
        return Err(nothing("nothing matches"));
    }
    rows.reverse();
    let count = match &options.file {
        Some(path) => {
            let failed = |error: io::Error| {
                Error::failed(VERB_NAME, format_args!("{}: {error}", terminal::path(path)))
            };
            let mut file = Replacement::begin(path).map_err(failed)?;
            let mut out = BufWriter::new(&mut file);
            let count = write(&source, rows, options.form, &mut out, &failed)?;
            out.flush().map_err(failed)?;
            drop(out);
            file.commit().map_err(failed)?;
            terminal::say(format_args!("ac7 export: {count} rows in {}", terminal::path(path)));
            count
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let count = write(&source, rows, options.form, &mut out, &Error::Output)?;
            out.flush()?;
            count
        }
    };
    if count == 0 {
        terminal::say("ac7 export: none of the rows is an exchange");
    }
    Ok(0)
}

fn nothing(what: &str) -> Error {
    Error::failed(VERB_NAME, what)
}

/// Write the rows; give how many. One row is held at a time, but for a page, whose table of texts has to be whole.
fn write(
    source: &Source,
    rows: Vec<(i64, Value)>,
    form: Form,
    out: &mut dyn Write,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<usize, Error> {
    let (mut progress, total) = (Progress::new(false), rows.len() as u64);
    let (mut packer, mut count) = (Packer::default(), 0);
    if form == Form::Har {
        out.write_all(har::head().as_bytes()).map_err(failed)?;
    }
    for (done, (id, brief)) in rows.into_iter().enumerate() {
        progress.tell(done as u64, total);
        // A row that is gone was pruned meanwhile.
        let Some(row) = source.row(id)? else { continue };
        let event = || serde_json::from_str::<Value>(&row.event).map_err(|e| Error::failed(VERB_NAME, e));
        match form {
            Form::Jsonl => {
                writeln!(out, "{}", traces::json_line(row.id, &row.member, &row.event, row.created_at))
                    .map_err(failed)?;
            }
            Form::Har => {
                let Some(entry) = har::entry(&event()?) else { continue };
                let comma = if count > 0 { ",\n" } else { "" };
                write!(out, "{comma}{entry}").map_err(failed)?;
            }
            Form::Html => {
                let mut event = event()?;
                if !brief.is_null() {
                    event["brief"] = brief;
                }
                packer.add(row.id, &row.member, row.created_at, event);
            }
        }
        count += 1;
    }
    progress.clear();
    match form {
        Form::Html => {
            let (head, tail) = standalone();
            let from = format!("{}, exported {}", source.called(), Zone::system().local(now_ms()).date());
            let data = packer.into_json(&from, now_ms());
            [head.as_str(), &data, tail]
                .iter()
                .try_for_each(|text| out.write_all(text.as_bytes()))
                .map_err(failed)?;
        }
        Form::Har => out.write_all(har::TAIL.as_bytes()).map_err(failed)?,
        Form::Jsonl => {}
    }
    Ok(count)
}

/// A row, wherever it comes from.
struct Found {
    id: i64,
    member: String,
    created_at: u64,
    event: String,
}

/// Where rows come from.
enum Source {
    Local { reader: Reader, called: String, prices: Prices },
    Broker { client: Client, member: String },
}

impl Source {
    /// The broker if one is named on the command line, else the database. Of a broker one member's rows are read, of
    /// the caller unless the query names another.
    fn open(parsed: &Parsed, query: &mut Query) -> Result<Source, Error> {
        if parsed.text("url")?.is_none() {
            let db = traces::database(parsed, VERB_NAME)?;
            let reader = Reader::open(db.path()).map_err(|e| Error::failed(VERB_NAME, e))?;
            let prices = usage::prices(parsed, VERB_NAME)?.0;
            return Ok(Source::Local { reader, called: terminal::path(db.path()), prices });
        }
        if parsed.path("db").is_some() {
            return Err(parsed.conflict("db", "url"));
        }
        let client = broker::connect(parsed, VERB_NAME)?;
        let member = match query.member.take() {
            Some(name) => name,
            None => client.briefing().map_err(broker::failed(VERB_NAME))?.name,
        };
        Ok(Source::Broker { client, member })
    }

    fn called(&self) -> String {
        match self {
            Source::Local { called, .. } => called.clone(),
            Source::Broker { client, member } => format!("{member} at {}", client.url()),
        }
    }

    /// The rows of a query, newest first: their ids, and what is new in each if it is a call.
    fn rows(&self, query: &Query) -> Result<Vec<(i64, Value)>, Error> {
        let mut found = Vec::new();
        match self {
            Source::Local { reader, prices, .. } => {
                let mut query = query.clone();
                loop {
                    let each = |row: Row| {
                        let event = serde_json::from_str(&row.event).unwrap_or(Value::Null);
                        let mut brief = event.get("brief").cloned().unwrap_or(Value::Null);
                        if let Some(cost) = cost_of(&event, prices) {
                            brief["cost"] = json!(cost);
                        }
                        found.push((row.id, brief));
                        ControlFlow::Continue(())
                    };
                    query.after = reader.list_brief(&query, each).map_err(|e| Error::failed(VERB_NAME, e))?;
                    if query.after.is_none() {
                        return Ok(found);
                    }
                }
            }
            Source::Broker { .. } => {
                let mut cursor = String::new();
                loop {
                    let mut page = self.page(query, &cursor)?;
                    let rows = page["activity"].as_array_mut().map(std::mem::take).unwrap_or_default();
                    found.extend(
                        rows.into_iter()
                            .filter_map(|mut row| Some((row["id"].as_i64()?, row["event"]["brief"].take()))),
                    );
                    match page["next"].as_str() {
                        Some(next) => cursor = next.to_string(),
                        None => return Ok(found),
                    }
                }
            }
        }
    }

    /// A page of the broker's list, after `cursor` if it is not empty.
    fn page(&self, query: &Query, cursor: &str) -> Result<Value, Error> {
        let Source::Broker { client, member } = self else { return Ok(Value::Null) };
        let mut path = format!("/members/{}/activity?typed=all&view=brief&limit={PAGE}", segment(member));
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        for (name, value) in [
            ("from", number(query.from)),
            ("to", number(query.to)),
            ("session", query.session.clone()),
            ("objective", query.objective.clone()),
            ("cursor", Some(cursor.to_string()).filter(|c| !c.is_empty())),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", segment(&value)));
            }
        }
        client.json("GET", &path, None).map_err(broker::failed(VERB_NAME))
    }

    /// The session of the newest call.
    fn last_session(&self, query: &Query) -> Result<Option<String>, Error> {
        match self {
            Source::Local { reader, .. } => {
                reader.last_session(query.member.as_deref()).map_err(|e| Error::failed(VERB_NAME, e))
            }
            Source::Broker { .. } => {
                let page = self.page(&Query::default(), "")?;
                let rows = page["activity"].as_array().map(Vec::as_slice).unwrap_or_default();
                let session =
                    |row: &Value| row["event"]["entry"]["session"]["id"].as_str().map(str::to_string);
                Ok(rows.iter().find_map(session))
            }
        }
    }

    fn row(&self, id: i64) -> Result<Option<Found>, Error> {
        match self {
            Source::Local { reader, .. } => {
                let row = reader.get(id).map_err(|e| Error::failed(VERB_NAME, e))?;
                Ok(row.map(|row| Found {
                    id,
                    member: row.member,
                    created_at: row.created_at,
                    event: row.event,
                }))
            }
            Source::Broker { client, member } => {
                let path = format!("/members/{}/activity/{id}?typed=all", segment(member));
                let row = client.json("GET", &path, None).map_err(broker::failed(VERB_NAME))?;
                let created_at = row["createdAt"].as_u64().unwrap_or(0);
                Ok(Some(Found { id, member: member.clone(), created_at, event: row["event"].to_string() }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    fn read(line: &str) -> Result<Options, Error> {
        let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words)?;
        options(&parsed, &Zone::utc(), 10_000_000)
    }

    #[test]
    fn one_form_and_any_filters() {
        let line = "--har x.har --id 3 --id 4 --session s1 --objective o --since 1h --member bob";
        let query = Query {
            member: Some("bob".into()),
            from: Some(6_400_000),
            session: Some("s1".into()),
            objective: Some("o".into()),
            limit: PAGE,
            ..Query::default()
        };
        let want = Options {
            form: Form::Har,
            file: Some("x.har".into()),
            ids: vec![3, 4],
            query,
            last_session: false,
        };
        assert_eq!(read(line).unwrap(), want);
        let plain = read("--html - --session last").unwrap();
        assert!(plain.file.is_none() && plain.last_session && plain.query.session.is_none());
        for (line, want) in [
            ("", "ac7 export: nothing is said about what to write"),
            ("--html a --jsonl b", "ac7 export: --html and --jsonl"),
            ("--html a --id x", "ac7 export: bad --id: x: it is not a number"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}");
            assert_eq!(error.code(), 2);
        }
    }
}
