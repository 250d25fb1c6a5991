//! Traces as text: pure functions from rows to strings. No I/O, no clock: the [`Screen`] says how text is laid out.
//!
//! Whatever comes from a trace passes through [`text`](super::text), which leaves nothing in it that a terminal obeys.
mod show;
mod table;

pub use show::show;
pub use table::{Line, Table};

use serde_json::Value;

use super::text;
use crate::activity::{Block, Event, LlmEntry, OpaqueEntry};

#[cfg(doc)]
use super::terminal::Screen;

/// A row of the activity stream.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: i64,
    /// Whose it is.
    pub member: String,
    pub event: Event,
}

/// What went wrong in a model call, in one line: the provider's error, a status, a missing answer.
fn trouble(entry: &LlmEntry) -> Option<String> {
    let status = entry.response.as_ref().and_then(|r| r.status).filter(|s| *s >= 400);
    match (&entry.about.error, status, &entry.response) {
        (Some((kind, message)), _, _) => Some(format!("{kind}: {message}")),
        (None, Some(status), _) => Some(format!("HTTP {status}")),
        (None, None, None) => Some("no answer".to_string()),
        (None, None, Some(_)) => None,
    }
}

/// A block in one line: `Bash: cargo test`, `"The test fails because"`.
fn gist(block: &Block, utf8: bool) -> String {
    match block {
        Block::Text { text, .. } => format!("\"{}\"", text::line(text, utf8)),
        Block::ToolUse { name, input, .. } => {
            let name = text::line(name, utf8);
            match argument(input) {
                Some(argument) => format!("{name}: {}", text::line(&argument, utf8)),
                None => name,
            }
        }
        Block::ToolResult { content, is_error, .. } => {
            let kind = if *is_error { "error" } else { "result" };
            format!("{kind}: {}", text::line(&result_text(content), utf8))
        }
        Block::Image { media_type, .. } => {
            format!("[image {}]", text::line(media_type.as_deref().unwrap_or("of unknown type"), utf8))
        }
        Block::Thinking { text } => format!("(thinking) {}", text::line(text, utf8)),
        Block::Unknown { raw } => text::line(&raw.to_string(), utf8),
    }
}

/// The argument that says most about a tool's call.
fn argument(input: &Value) -> Option<String> {
    const TELLING: [&str; 9] =
        ["command", "cmd", "file_path", "path", "pattern", "url", "query", "description", "prompt"];
    let object = match input {
        Value::Object(object) if object.is_empty() => return None,
        Value::Object(object) => object,
        Value::Null => return None,
        Value::String(text) => return Some(text.clone()),
        other => return Some(other.to_string()),
    };
    let telling = TELLING.iter().find_map(|name| object.get(*name)).or_else(|| object.values().next())?;
    Some(match telling {
        Value::String(text) => text.clone(),
        Value::Array(words) if words.iter().all(Value::is_string) => {
            words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    })
}

/// A tool's result as text: a string as it is, text blocks joined, anything else as JSON.
fn result_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(blocks) => {
            let part = |block: &Value| match block.get("text").and_then(Value::as_str) {
                Some(text) => text.to_string(),
                None => block.to_string(),
            };
            blocks.iter().map(part).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// An exchange that is no model call, in one line.
fn opaque_gist(entry: &OpaqueEntry, utf8: bool) -> String {
    let number = |object: &Value, name: &str| object.get(name).and_then(Value::as_u64).unwrap_or(0);
    let word = |object: &Value, name: &str| {
        object.get(name).and_then(Value::as_str).map(|s| text::line(s, utf8)).unwrap_or_default()
    };
    if let Some(tunnel) = entry.more.get("tunnel") {
        let bytes = number(tunnel, "bytesUp").saturating_add(number(tunnel, "bytesDown"));
        let reason = word(tunnel, "reason");
        let place = text::line(&entry.url, utf8);
        return format!("tunnelled {place}: {reason}, {}", super::format::bytes(bytes));
    }
    if let Some(note) = entry.more.get("note") {
        let what = entry.url.strip_prefix("ac7:").unwrap_or(&entry.url);
        let count = super::format::count(number(note, "count"));
        return format!("{count} {}: {}", text::line(what, utf8), word(note, "reason"));
    }
    // An upstream that could not be had: its URL is host and port, and the preview says why.
    if entry.method == "CONNECT" {
        let why = entry.response_body_preview.as_deref().unwrap_or_default();
        return format!("refused {}: {}", text::line(&entry.url, utf8), text::line(why, utf8));
    }
    let place = match entry.url.split_once("://") {
        Some((_, place)) => place.to_string(),
        None => format!("{}{}", entry.host, entry.url),
    };
    let place = place.split(['?', '#']).next().unwrap_or_default();
    format!("{} {}", text::line(&entry.method, utf8), text::line(place, utf8))
}

/// Tokens that went in, and how many of them came from the cache. Anthropic counts cached tokens beside the input,
/// the others inside of it.
fn tokens_in(entry: &LlmEntry) -> Option<(u64, u64)> {
    let usage = entry.response.as_ref()?.usage.as_ref()?;
    let (input, read) = (usage.input?, usage.cache_read.unwrap_or(0));
    if entry.provider == crate::activity::Provider::Anthropic {
        let beside = read.saturating_add(usage.cache_creation.unwrap_or(0));
        return Some((input.saturating_add(beside), read));
    }
    Some((input, read))
}

/// ms from the request's first byte to the answer's first token.
fn first_token(entry: &LlmEntry) -> Option<u64> {
    entry.about.first_token_at.map(|at| at.saturating_sub(entry.started_at))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::cli::terminal::Screen;
    use crate::sys::localtime::Zone;

    fn file(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/views").join(name)
    }

    #[test]
    fn a_refused_upstream_is_named_once_with_the_reason() {
        let entry = OpaqueEntry {
            host: "a.example".into(),
            method: "CONNECT".into(),
            url: "a.example:443".into(),
            response_body_preview: Some("cannot trust a.example: Expired".into()),
            ..OpaqueEntry::default()
        };
        assert_eq!(opaque_gist(&entry, true), "refused a.example:443: cannot trust a.example: Expired");
    }

    fn rows() -> Vec<Row> {
        let text = fs::read_to_string(file("rows.jsonl")).unwrap();
        let row = |line: &str| {
            let json: Value = serde_json::from_str(line).unwrap();
            Row {
                id: json["id"].as_i64().unwrap(),
                member: json["memberName"].as_str().unwrap().to_string(),
                event: Event::from_json(&json["event"]).unwrap(),
            }
        };
        text.lines().map(row).collect()
    }

    fn screen(columns: Option<usize>, utf8: bool) -> Screen {
        Screen { columns, utf8, colour: false, zone: Zone::utc(), now: 1_795_251_800_000 }
    }

    /// Compare with `fixtures/views/NAME`; `AC7_WRITE_GOLDEN=1` writes it instead, to be read before it is committed.
    fn golden(name: &str, text: &str) {
        if std::env::var_os("AC7_WRITE_GOLDEN").is_some() {
            fs::write(file(name), text).unwrap();
        }
        let want = fs::read_to_string(file(name)).unwrap_or_default();
        assert!(text == want, "{name} differs; it is now:\n{text}");
    }

    fn table(screen: &Screen) -> String {
        let lines: Vec<Line> = rows().iter().map(|row| Line::of(row, screen)).collect();
        let table = Table::fit(&lines, screen);
        table.head(screen) + &lines.iter().map(|line| table.row(line, screen)).collect::<String>()
    }

    #[test]
    fn tables_of_every_width() {
        golden("table-140.txt", &table(&screen(Some(140), true)));
        golden("table-80.txt", &table(&screen(Some(80), true)));
        golden("table-pipe-ascii.txt", &table(&screen(None, false)));
        for columns in [80, 100, 140] {
            let text = table(&screen(Some(columns), true));
            assert!(text.lines().all(|line| text::width(line) <= columns), "{text}");
        }
    }

    #[test]
    fn a_call_and_the_others_in_full() {
        let rows = rows();
        let screen_80 = screen(Some(80), true);
        golden("call.txt", &show(&rows[0], &screen_80, false));
        golden("call-full.txt", &show(&rows[0], &screen_80, true));
        let others: String = rows[1..].iter().map(|row| show(row, &screen_80, false) + "\n").collect();
        golden("others.txt", &others);
    }

    #[test]
    fn no_view_lets_a_trace_write_to_the_terminal() {
        let plain = screen(Some(100), true);
        let ascii = screen(Some(100), false);
        for row in rows() {
            for text in [show(&row, &plain, true), show(&row, &plain, false), table(&plain)] {
                assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
            }
            assert!(show(&row, &ascii, true).is_ascii());
        }
        assert!(table(&ascii).is_ascii());
    }

    #[test]
    fn colour_is_added_to_the_same_words() {
        let coloured = Screen { colour: true, ..screen(Some(140), true) };
        let stripped = |text: String| {
            ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m"].iter().fold(text, |t, code| t.replace(code, ""))
        };
        let text = table(&coloured);
        assert!(text.contains("\x1b[31m"));
        assert_eq!(stripped(text), table(&screen(Some(140), true)));
        let call = show(&rows()[0], &coloured, false);
        assert_eq!(stripped(call), show(&rows()[0], &screen(Some(140), true), false));
    }
}
