//! `ac7 logs`: what sessions on this machine, and the broker's service, have written down.
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal::Screen;
use super::{Group, SUCCESS_OR_FAILURE, Verb, service, terminal, text};
use crate::sys::interrupt::Interrupt;
use crate::sys::thread::{self, Joinable};
use crate::sys::{duration, paths};

pub const VERB: Verb = Verb {
    name: "logs",
    group: Group::Operate,
    summary: "Show the logs of sessions and of the broker's service",
    operands: Operands::None,
    flags: &[&[
        Flag::value("component", "NAME", "broker, or a kind of session: run, claude-code, codex, mcp-bridge"),
        Flag::value("member", "NAME", "Only lines about this member"),
        Flag::value("since", "DURATION", "Only lines of the last 5m, 2h, 1d"),
        Flag::value("lines", "N", "So many lines").or("80"),
        Flag::switch("follow", "And those to come"),
        Flag::switch("json", "The lines as they were written"),
    ]],
    examples: &[
        ("ac7 logs --since 1h", "what happened here"),
        ("ac7 logs --follow", "sessions and the broker's service, as they go on"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-logs(1)", "ac7-service(8)"],
    page: "ac7-logs",
    run,
};

/// The component that is no session.
const BROKER: &str = "broker";
/// So much of the end of each file is looked at.
const TAIL: u64 = 4 << 20;
/// So many lines of the service are looked at for those of one member.
const ASKED: usize = 10_000;
/// New lines are looked for so often.
const GLANCE: Duration = Duration::from_millis(250);
/// Lines of the service that may wait to be shown.
const QUEUE: usize = 256;
/// Bytes of stack of the thread that reads them.
const STACK: usize = 64 << 10;

/// Which lines are wanted.
struct Wanted {
    component: Option<String>,
    member: Option<String>,
    /// ms since the epoch.
    from: u64,
}

/// A line of a log.
struct Line {
    at: u64,
    component: String,
    text: String,
    /// `None` for a line that is no JSON: what the service manager says of the broker, or a panic.
    fields: Option<Map<String, Value>>,
}

impl Line {
    /// What was written, at that time unless it says another one.
    fn of(component: &str, text: &str, at: u64) -> Line {
        let fields: Option<Map<String, Value>> = serde_json::from_str(text).ok();
        let own = fields.as_ref().and_then(|fields| fields.get("ts")).and_then(Value::as_u64);
        Line { at: own.unwrap_or(at), component: component.to_string(), text: text.to_string(), fields }
    }

    /// The member that it names.
    fn member(&self) -> Option<&str> {
        self.fields.as_ref()?.get("member")?.as_str()
    }
}

impl Wanted {
    /// Whether the line is wanted. One that names no member is about `owner`, whose session it is.
    fn fits(&self, line: &Line, owner: Option<&str>) -> bool {
        let of = |name: &String| line.member().or(owner) == Some(name);
        line.at >= self.from && self.member.as_ref().is_none_or(of)
    }

    /// Whether it is this component, or any.
    fn takes(&self, component: &str) -> bool {
        self.component.as_deref().is_none_or(|wanted| wanted == component)
    }

    /// Whether only the broker's lines are wanted.
    fn broker_alone(&self) -> bool {
        self.component.as_deref() == Some(BROKER)
    }
}

/// A session's log, and how far it was read.
struct Session {
    component: String,
    /// Whose session it is: it says so once.
    owner: Option<String>,
    read: u64,
}

/// How far the service's log was read.
#[derive(Default)]
struct Service {
    /// The last line's time: that of a line that has none.
    at: u64,
    /// The last record, where systemd keeps them.
    cursor: Option<String>,
}

impl Service {
    /// A line of the log: a record of systemd's, which has a time, or what the broker wrote itself.
    fn read(&mut self, text: &str) -> Line {
        let record: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
        let own = |name: &str| record.get(name).and_then(Value::as_str);
        let us = own("__REALTIME_TIMESTAMP").and_then(|us| us.parse::<u64>().ok());
        let line = match (us, record.get("MESSAGE")) {
            (Some(us), Some(message)) => Line::of(BROKER, &said(message), us / 1000),
            _ => Line::of(BROKER, text, self.at),
        };
        self.at = line.at;
        self.cursor = own("__CURSOR").map(str::to_string);
        line
    }
}

/// A record's message; systemd gives one that is no text as its bytes.
fn said(message: &Value) -> String {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match message {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            String::from_utf8_lossy(&bytes.iter().filter_map(byte).collect::<Vec<_>>()).into_owned()
        }
        _ => String::new(),
    }
}

/// A command that is followed; dropped, it is ended.
struct Followed {
    child: Child,
    lines: Receiver<String>,
    reader: Option<Joinable>,
}

impl Followed {
    fn start(words: &[String]) -> io::Result<Followed> {
        let (mut child, from) = start(words)?;
        let (to, lines) = sync_channel(QUEUE);
        let pass = move || {
            for text in from.lines().map_while(Result::ok) {
                if to.send(text).is_err() {
                    break;
                }
            }
        };
        match thread::spawn("logs", STACK, pass) {
            Ok(reader) => Ok(Followed { child, lines, reader: Some(reader) }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
        while self.lines.recv().is_ok() {} // until the reader has gone
        if let Some(reader) = self.reader.take() {
            reader.join();
        }
    }
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let screen = Screen::stdout();
    let since = parsed.read("since", "it is not a duration as 5m, 2h or 1d", duration::parse_ms)?;
    let wanted = Wanted {
        component: parsed.text("component")?,
        member: parsed.text("member")?,
        from: since.map_or(0, |since| screen.now.saturating_sub(since)),
    };
    let most: usize =
        parsed.read("lines", "it is not a number of lines", |text| text.parse().ok())?.unwrap_or(80);
    let (follow, json) = (parsed.has("follow"), parsed.has("json"));
    let interrupt = Interrupt::listen().map_err(|e| Error::failed(verb, e))?;

    let mut lines = Vec::new();
    let mut known = HashMap::new();
    let folder = paths::cache_dir().filter(|_| !wanted.broker_alone());
    if let Some(folder) = &folder {
        terminal::say(format_args!("sessions: {}", terminal::path(&folder.join("session-*.log"))));
        news(folder, &wanted, &mut known, &mut lines);
    }
    let mut service = Service::default();
    if wanted.takes(BROKER) {
        // Which of them are about the member is seen only here.
        let asked = if wanted.member.is_some() { ASKED } else { most };
        let words = service::log_command(asked, wanted.from / 1000);
        if let Some((mut child, from)) = available(&wanted, words, start)? {
            let said = from.lines().map_while(Result::ok).map(|text| service.read(&text));
            lines.extend(said.filter(|line| wanted.fits(line, None)));
            let _ = child.wait(); // what it said is what counts
        }
    }
    let mut out = io::stdout().lock();
    let mut show = |lines: &mut Vec<Line>, most: usize| {
        lines.sort_by_key(|line| line.at);
        for line in lines.drain(..).rev().take(most).rev() {
            writeln!(out, "{}", told(&line, json, &screen))?;
        }
        out.flush()
    };
    show(&mut lines, most)?;
    if !follow {
        return Ok(0);
    }
    let mut followed = None;
    if wanted.takes(BROKER) {
        let words = service::follow_command(service.cursor.as_deref());
        followed = available(&wanted, words, Followed::start)?;
    }
    while !interrupt.came() {
        std::thread::sleep(GLANCE);
        if let Some(folder) = &folder {
            news(folder, &wanted, &mut known, &mut lines);
        }
        while let Some(from) = &followed {
            match from.lines.try_recv() {
                Ok(text) => lines.extend(Some(service.read(&text)).filter(|line| wanted.fits(line, None))),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => followed = None,
            }
        }
        show(&mut lines, usize::MAX)?;
        if wanted.broker_alone() && followed.is_none() && !interrupt.came() {
            return Err(Error::failed(verb, "what shows the service's log has ended"));
        }
    }
    Ok(0)
}

/// What shows the service's log. A machine without one has no lines of it, which is said only to who asked for them.
fn available<T>(
    wanted: &Wanted,
    words: Result<Vec<String>, Error>,
    start: impl FnOnce(&[String]) -> io::Result<T>,
) -> Result<Option<T>, Error> {
    let started = words.and_then(|words| {
        start(&words).map_err(|e| {
            let program = words.first().map_or("", String::as_str);
            let fix = Some("ac7 serve without a service logs to its standard error".to_string());
            let what = format!("the service's log cannot be read: {program}: {e}");
            Error::Failed { verb: VERB.name, what, fix }
        })
    });
    match started {
        Ok(started) => Ok(Some(started)),
        Err(error) if wanted.broker_alone() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Start a command, shown then, whose output is lines of a log.
fn start(words: &[String]) -> io::Result<(Child, BufReader<ChildStdout>)> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    terminal::say(format_args!("broker: {}", words.join(" ")));
    let lines = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
    Ok((child, lines))
}

/// What the logs of sessions have that was not read before.
fn news(folder: &Path, wanted: &Wanted, known: &mut HashMap<PathBuf, Session>, lines: &mut Vec<Line>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Some(component) = component(&path).filter(|component| wanted.takes(component)) else { continue };
        let size = path.metadata().map_or(0, |m| m.len());
        let new = || Session { component, owner: None, read: size.saturating_sub(TAIL) };
        let session = known.entry(path.clone()).or_insert_with(new);
        if size <= session.read {
            continue;
        }
        let Ok(mut file) = File::open(&path) else { continue };
        let mut bytes = Vec::new();
        let part = size - session.read;
        if file
            .seek(SeekFrom::Start(session.read))
            .and_then(|_| file.take(part).read_to_end(&mut bytes))
            .is_err()
        {
            continue;
        }
        // A line that is not whole yet is read the next time.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        session.read += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        if session.owner.is_none() && wanted.member.is_some() {
            let named = |text| Line::of("", text, 0).member().map(str::to_string);
            session.owner = text.lines().find_map(named);
        }
        let Session { component, owner, .. } = session;
        let whole = text.lines().map(|text| Line::of(component, text, 0));
        // A session writes JSON alone; what else is there was torn by a full disk or a crash.
        lines.extend(whole.filter(|line| line.fields.is_some() && wanted.fits(line, owner.as_deref())));
    }
}

/// The kind of session whose log this is.
fn component(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix("session-")?.strip_suffix(".log")?;
    Some(name.rsplit_once('-')?.0.to_string())
}

/// A line as it is shown.
fn told(line: &Line, json: bool, screen: &Screen) -> String {
    let Line { at, component, text, fields } = line;
    if json {
        let plain = || json!({"ts": at, "text": text}).to_string();
        return text::json_line(&fields.as_ref().map_or_else(plain, |_| text.clone()));
    }
    let mut out = format!("{} {component} ", screen.zone.local(*at));
    match fields {
        None => out.push_str(text),
        Some(fields) => {
            out.push_str(fields.get("event").and_then(Value::as_str).unwrap_or("-"));
            for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "ts" | "event")) {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                out.push_str(&format!(" {name}={value}"));
            }
        }
    }
    text::line(&out, screen.utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_s_name_says_whose_it_is() {
        for (name, want) in [
            ("session-run-12.log", Some("run")),
            ("session-claude-code-7.log", Some("claude-code")),
            ("session-x.log", None),
            ("other.log", None),
        ] {
            assert_eq!(component(Path::new(name)).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn lines_are_chosen_by_time_and_member() {
        let line = r#"{"ts":1000,"event":"x","member":"ann"}"#;
        let wanted =
            |member: Option<&str>, from| Wanted { component: None, member: member.map(str::to_string), from };
        for (wanted, fits) in [
            (wanted(None, 0), true),
            (wanted(Some("ann"), 1000), true),
            (wanted(Some("bob"), 0), false),
            (wanted(None, 1001), false),
        ] {
            assert_eq!(wanted.fits(&Line::of("run", line, 0), Some("bob")), fits);
        }
        let nameless = Line::of("run", r#"{"ts":1000,"event":"x"}"#, 0);
        for (owner, fits) in [(Some("bob"), true), (Some("ann"), false), (None, false)] {
            assert_eq!(wanted(Some("bob"), 0).fits(&nameless, owner), fits, "{owner:?}");
        }
    }

    #[test]
    fn the_service_s_lines_have_a_time() {
        let mut service = Service::default();
        for (text, at, said, cursor) in [
            ("ac7: before all", 0, "ac7: before all", None),
            (r#"{"ts":7,"event":"x"}"#, 7, r#"{"ts":7,"event":"x"}"#, None),
            ("thread panicked", 7, "thread panicked", None),
            (
                r#"{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"9000900","MESSAGE":"Started ac7."}"#,
                9000,
                "Started ac7.",
                Some("s=1"),
            ),
            (
                r#"{"__REALTIME_TIMESTAMP":"9000900","MESSAGE":"{\"ts\":8,\"event\":\"y\"}"}"#,
                8,
                r#"{"ts":8,"event":"y"}"#,
                None,
            ),
            (r#"{"__REALTIME_TIMESTAMP":"9000","MESSAGE":[104,105,255]}"#, 9, "hi\u{fffd}", None),
        ] {
            let line = service.read(text);
            assert_eq!((line.at, &line.text[..], service.cursor.as_deref()), (at, said, cursor), "{text}");
        }
    }
}
