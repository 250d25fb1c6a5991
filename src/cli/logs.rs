//! `ac7 logs`: what sessions on this machine, and the broker's service, have written down.
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal::Screen;
use super::{Group, SUCCESS_OR_FAILURE, Verb, service, terminal, text};
use crate::sys::interrupt::Interrupt;
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
        ("ac7 logs --component broker --follow", "the broker's service, as it goes on"),
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
    fields: Map<String, Value>,
}

impl Wanted {
    /// The line, if it is wanted. One that names no member is about `owner`, whose session it is.
    fn read(&self, component: &str, owner: Option<&str>, text: &str) -> Option<Line> {
        let fields: Map<String, Value> = serde_json::from_str(text).ok()?;
        let at = fields.get("ts").and_then(Value::as_u64).unwrap_or_default();
        let of = |name: &String| member(&fields).or(owner) == Some(name);
        let fits = at >= self.from && self.member.as_ref().is_none_or(of);
        fits.then(|| Line { at, component: component.to_string(), text: text.to_string(), fields })
    }

    fn takes(&self, component: &str) -> bool {
        self.component.as_deref().is_none_or(|wanted| wanted == component)
    }
}

/// The member that a line names.
fn member(fields: &Map<String, Value>) -> Option<&str> {
    fields.get("member").and_then(Value::as_str)
}

/// A session's log, and how far it was read.
struct Session {
    component: String,
    /// Whose session it is: it says so once.
    owner: Option<String>,
    read: u64,
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
    let folder = paths::cache_dir();
    if let Some(folder) = folder.as_deref().filter(|_| wanted.component.as_deref() != Some(BROKER)) {
        terminal::say(format_args!("sessions: {}", terminal::path(&folder.join("session-*.log"))));
        news(folder, &wanted, &mut known, &mut lines);
    }
    let mut out = io::stdout().lock();
    if wanted.takes(BROKER) {
        // Which of them are about the member is seen only here.
        let asked = if wanted.member.is_some() { ASKED } else { most };
        let words = service::log_command(asked, wanted.from / 1000, false).ok();
        // A machine without a service has no lines of one.
        if let Some((mut child, lines_of)) = words.and_then(|words| start(&words)) {
            lines.extend(
                lines_of.lines().map_while(Result::ok).filter_map(|text| wanted.read(BROKER, None, &text)),
            );
            let _ = child.wait(); // what it said is what counts
        }
    }
    lines.sort_by_key(|line| line.at);
    for line in &lines[lines.len().saturating_sub(most)..] {
        writeln!(out, "{}", told(line, json, &screen))?;
    }
    out.flush()?;
    if !follow {
        return Ok(0);
    }
    if wanted.component.as_deref() == Some(BROKER) {
        let words = service::log_command(0, 0, true)?;
        let Some((mut child, lines_of)) = start(&words) else {
            return Err(Error::failed(verb, "the service's log cannot be followed here"));
        };
        for text in lines_of.lines().map_while(Result::ok) {
            if let Some(line) = wanted.read(BROKER, None, &text) {
                writeln!(out, "{}", told(&line, json, &screen))?;
                out.flush()?;
            }
        }
        let _ = child.wait();
        return Ok(0);
    }
    while !interrupt.came() {
        std::thread::sleep(GLANCE);
        let mut lines = Vec::new();
        if let Some(folder) = folder.as_deref() {
            news(folder, &wanted, &mut known, &mut lines);
        }
        lines.sort_by_key(|line| line.at);
        for line in &lines {
            writeln!(out, "{}", told(line, json, &screen))?;
        }
        out.flush()?;
    }
    Ok(0)
}

/// Start a command, shown first, whose output is lines of a log.
fn start(words: &[String]) -> Option<(Child, BufReader<ChildStdout>)> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    terminal::say(format_args!("broker: {}", words.join(" ")));
    let lines = BufReader::new(child.stdout.take()?);
    Some((child, lines))
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
            let named = |text| Some(member(&serde_json::from_str(text).ok()?)?.to_string());
            session.owner = text.lines().find_map(named);
        }
        let Session { component, owner, .. } = session;
        lines.extend(text.lines().filter_map(|text| wanted.read(component, owner.as_deref(), text)));
    }
}

/// The kind of session whose log this is.
fn component(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.strip_prefix("session-")?.strip_suffix(".log")?;
    Some(name.rsplit_once('-')?.0.to_string())
}

/// A line as it is shown.
fn told(line: &Line, json: bool, screen: &Screen) -> String {
    if json {
        return text::json_line(&line.text);
    }
    let event = line.fields.get("event").and_then(Value::as_str).unwrap_or("-");
    let mut out = format!("{} {} {event}", screen.zone.local(line.at), line.component);
    for (name, value) in line.fields.iter().filter(|(name, _)| !matches!(name.as_str(), "ts" | "event")) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        out.push_str(&format!(" {name}={value}"));
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
            assert_eq!(wanted.read("run", Some("bob"), line).is_some(), fits);
        }
        let nameless = r#"{"ts":1000,"event":"x"}"#;
        for (owner, fits) in [(Some("bob"), true), (Some("ann"), false), (None, false)] {
            assert_eq!(wanted(Some("bob"), 0).read("run", owner, nameless).is_some(), fits, "{owner:?}");
        }
        assert!(wanted(None, 0).read("run", None, "no JSON").is_none());
    }
}
