//! `ac7 export`: recorded calls as one file, for those who have no ac7.
mod har;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use serde_json::Value;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::progress::Progress;
use super::rows::{self, Brief, Remote, Rows};
use super::source::{self, Source};
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, terminal, traces, usage};
use crate::store::activity::{Query, Reader};
use crate::sys::clock::now_ms;
use crate::sys::duration;
use crate::sys::file::Replacement;
use crate::sys::localtime::Zone;
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
            Flag::value("id", "ID", "Only this row").many(),
            Flag::value("session", "ID|last", "Only a session whose id begins with ID, or the last one"),
            Flag::value("objective", "ID", "Only what was done under an objective"),
            Flag::value("since", "WHEN", "Not before: 2h, 2026-11-21T10:00"),
            Flag::value("until", "WHEN", "Not after"),
            Flag::value("member", "NAME", "Only this member's; of a broker, instead of your own"),
        ],
        source::FLAGS,
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
            ..Query::default()
        },
        last_session,
    })
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let mut options = options(parsed, &Zone::system(), now_ms())?;
    let member = options.query.member.clone();
    let (rows, called) = match source::of(parsed, VERB_NAME)? {
        Source::Database(db) => {
            let reader = Reader::open(db.path()).map_err(|e| Error::failed(VERB_NAME, e))?;
            (Rows::Database(Box::new(reader)), terminal::path(db.path()))
        }
        Source::Broker(client) => {
            let called = client.url().to_string();
            let remote = Remote::new(client, member.as_deref(), options.query.objective.as_deref());
            (Rows::Broker(Box::new(remote.map_err(broker::failed(VERB_NAME))?)), called)
        }
    };
    if options.last_session {
        options.query.session = rows.last_session(member.as_deref()).map_err(rows::failed(VERB_NAME))?;
        if options.query.session.is_none() {
            return Err(nothing("no session is recorded"));
        }
    }
    let prices = usage::prices(parsed, VERB_NAME)?.0;
    let mut briefs = rows.briefs(&options.query, &prices).map_err(rows::failed(VERB_NAME))?;
    if !options.ids.is_empty() {
        briefs.retain(|brief| options.ids.contains(&brief.id));
        if let Some(id) = options.ids.iter().find(|id| !briefs.iter().any(|brief| brief.id == **id)) {
            return Err(nothing(&format!("no such row: {id}")));
        }
    }
    if briefs.is_empty() {
        return Err(nothing("nothing matches"));
    }
    let found = Found { rows: &rows, briefs, called: &called };
    let count = match &options.file {
        Some(path) => {
            let failed = |error: io::Error| {
                Error::failed(VERB_NAME, format_args!("{}: {error}", terminal::path(path)))
            };
            let mut file = Replacement::begin(path).map_err(failed)?;
            let mut out = BufWriter::new(&mut file);
            let count = write(found, options.form, &mut out, &failed)?;
            out.flush().map_err(failed)?;
            drop(out);
            file.commit().map_err(failed)?;
            terminal::say(format_args!("ac7 export: {count} rows in {}", terminal::path(path)));
            count
        }
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let count = write(found, options.form, &mut out, &Error::Output)?;
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

/// What is to be written.
struct Found<'a> {
    rows: &'a Rows,
    briefs: Vec<Brief>,
    /// Where they are from, for the reader of a page.
    called: &'a str,
}

/// Write the rows; give how many. One row is held at a time, but for a page, whose table of texts has to be whole.
fn write(
    found: Found<'_>,
    form: Form,
    out: &mut dyn Write,
    failed: &dyn Fn(io::Error) -> Error,
) -> Result<usize, Error> {
    let (mut progress, total) = (Progress::new(false), found.briefs.len() as u64);
    let (mut packer, mut count) = (Packer::default(), 0);
    if form == Form::Har {
        out.write_all(har::head().as_bytes()).map_err(failed)?;
    }
    for (done, brief) in found.briefs.into_iter().enumerate() {
        progress.tell(done as u64, total);
        // A row that is gone was pruned meanwhile.
        let Some(row) = found.rows.whole(&brief).map_err(rows::failed(VERB_NAME))? else { continue };
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
                if !brief.news.is_null() {
                    event["brief"] = brief.news;
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
            let from = format!("{}, exported {}", found.called, Zone::system().local(now_ms()).date());
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
