//! `ac7 tail`: read along what the team says.
use std::collections::HashSet;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::codes::coded;
use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal::{self, Screen};
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, text};
use crate::client::{self, Backoff, Client, Failure, segment};
use crate::team::{Level, Message};

pub const VERB: Verb = Verb {
    name: "tail",
    group: Group::Team,
    summary: "Show messages, and new ones as they come",
    operands: Operands::None,
    flags: &[
        &[
            Flag::value("channel", "SLUG", "Only what is said in this channel"),
            Flag::value("with", "NAME", "Only what you and this member say to each other"),
            Flag::value("limit", "N", "So many earlier messages first, up to 500").or("20"),
            Flag::switch("no-follow", "Show the earlier ones and end"),
            Flag::switch("json", "One JSON object a line"),
        ],
        broker::ACCESS,
    ],
    examples: &[
        ("ac7 tail", "everything that is for you, until interrupted"),
        ("ac7 tail --channel general --no-follow", "the last 20 messages of a channel"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-tail(1)", "ac7-push(1)"],
    page: "ac7-tail",
    run,
};

/// Waits between tries to get a stream that broke off again.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Which messages are shown.
enum Wanted {
    All,
    /// The channel's id on the wire.
    Thread(String),
    Between(String, String),
}

impl Wanted {
    fn takes(&self, message: &Message) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Thread(thread) => message.thread() == Some(thread),
            Wanted::Between(me, other) => {
                let (from, to) = (message.from.as_deref(), message.to.as_deref());
                message.thread().is_none()
                    && ((from == Some(me) && to == Some(other)) || (from == Some(other) && to == Some(me)))
            }
        }
    }
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let (channel, with) = (parsed.text("channel")?, parsed.text("with")?);
    if channel.is_some() && with.is_some() {
        return Err(parsed.conflict("channel", "with"));
    }
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| *n <= 500);
    let limit = parsed.read("limit", "it is not a number up to 500", number)?.unwrap_or(20);
    let client = broker::connect(parsed, verb)?;
    let failed = broker::failed(verb);
    let me = client.briefing().map_err(&failed)?.name;
    let mut history = format!("/history?limit={limit}");
    let wanted = match (channel, with) {
        (Some(slug), _) => {
            history.push_str(&format!("&channel={}", segment(&slug)));
            let found =
                client.json("GET", &format!("/channels/{}", segment(&slug)), None).map_err(&failed)?;
            Wanted::Thread(format!("chan:{}", found["channel"]["id"].as_str().unwrap_or_default()))
        }
        (None, Some(name)) => {
            history.push_str(&format!("&with={}", segment(&name)));
            Wanted::Between(me.clone(), name)
        }
        (None, None) => Wanted::All,
    };
    let stream = format!("/subscribe?name={}", segment(&me));
    let apart = client.apart();
    // Before the history: what is said meanwhile comes with the stream, and is not shown twice.
    let first =
        if parsed.has("no-follow") { None } else { Some(apart.events(&stream, None).map_err(&failed)?) };
    let mut printer = Printer { json: parsed.has("json"), screen: Screen::stdout(), shown: HashSet::new() };
    let answer = client.json("GET", &history, None).map_err(&failed)?;
    for message in answer["messages"].as_array().into_iter().flatten().rev() {
        printer.print(message)?;
    }
    match first {
        Some(first) => follow(&apart, &stream, first, &wanted, &mut printer),
        None => Ok(0),
    }
}

/// Print what comes, until the process is interrupted, nobody reads any more, or the broker takes the token no longer.
fn follow(
    client: &Client,
    path: &str,
    mut events: client::Events,
    wanted: &Wanted,
    printer: &mut Printer,
) -> Result<u8, Error> {
    let (mut last, mut wait) = (None, Backoff::new(FIRST, LONGEST));
    loop {
        // Whatever ends a stream, a new one tells whether there is more to come.
        while let Ok(Some(event)) = events.next_event() {
            wait.reset();
            last = event.id.or(last);
            let message: Option<Value> = serde_json::from_str(&event.data).ok();
            let message = message.filter(|_| event.name == "message");
            if let Some(value) = message
                && Message::from_json(&value).is_ok_and(|message| wanted.takes(&message))
            {
                printer.print(&value)?;
            }
        }
        events = loop {
            thread::sleep(wait.failed());
            match client.events(path, last.as_deref()) {
                Ok(events) => break events,
                Err(error) if matches!(error.failure(), Some(Failure::Status(400..=499, _))) => {
                    return Err(broker::failed(VERB.name)(error));
                }
                Err(error) => terminal::say(coded(&format!("ac7 tail: {error}; trying again"))),
            }
        };
    }
}

/// Writes messages to standard output.
struct Printer {
    json: bool,
    screen: Screen,
    /// Ids of what has been written.
    shown: HashSet<String>,
}

impl Printer {
    fn print(&mut self, value: &Value) -> Result<(), Error> {
        let Ok(message) = Message::from_json(value) else { return Ok(()) };
        // The broker's ids are long: a stream of months does not fill the memory.
        if self.shown.len() > 10_000 {
            self.shown.clear();
        }
        if !self.shown.insert(message.id.clone()) {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", text::json_line(&value.to_string()))?;
        } else {
            out.write_all(shown(&message, &self.screen).as_bytes())?;
        }
        Ok(out.flush()?)
    }
}

/// A message as people read it; lines after the first are indented.
fn shown(message: &Message, screen: &Screen) -> String {
    let line = |text: &str| text::line(text, screen.utf8);
    let from = message.from.as_deref().map_or_else(|| "ac7".to_string(), line);
    let place = match (&message.to, message.thread()) {
        (Some(name), _) => format!(" to {}", line(name)),
        (None, Some(thread)) => format!(" in {}", line(thread)),
        (None, None) => String::new(),
    };
    let level = match message.level {
        Level::Debug | Level::Info => String::new(),
        level => format!(" [{}]", level.name()),
    };
    let head = format!("{} {from}{place}{level}:", screen.zone.local(message.ts).clock());
    let mut out = screen.style("1", &head);
    if let Some(title) = &message.title {
        out.push(' ');
        out.push_str(&line(title));
    }
    let body = text::block(&message.body, screen.utf8);
    let short = message.title.is_none() && !body.contains('\n');
    for text in body.lines() {
        out.push_str(if short { " " } else { "\n    " });
        out.push_str(text);
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sys::localtime::Zone;

    fn message(more: &Value) -> Message {
        let mut value = json!({"id": "m", "ts": 0, "to": null, "from": "ann", "title": null, "body": "hello",
                               "level": "info", "data": {}, "attachments": []});
        for (name, field) in more.as_object().unwrap() {
            value[name] = field.clone();
        }
        Message::from_json(&value).unwrap()
    }

    #[test]
    fn a_message_is_a_line_or_an_indented_block() {
        let screen = Screen { columns: None, utf8: true, colour: false, zone: Zone::utc(), now: 0 };
        for (more, want) in [
            (json!({}), "00:00:00 ann: hello\n"),
            (json!({"to": "bob", "level": "warning"}), "00:00:00 ann to bob [warning]: hello\n"),
            (json!({"from": null, "data": {"thread": "obj:7"}}), "00:00:00 ac7 in obj:7: hello\n"),
            (json!({"title": "T", "body": "a\nb\u{1b}"}), "00:00:00 ann: T\n    a\n    b\\x1b\n"),
        ] {
            assert_eq!(shown(&message(&more), &screen), want, "{more}");
        }
    }

    #[test]
    fn only_what_is_wanted_is_taken() {
        let between = Wanted::Between("me".into(), "ann".into());
        let thread = Wanted::Thread("chan:1".into());
        for (more, with, channel) in [
            (json!({"to": "me"}), true, false),
            (json!({"from": "me", "to": "ann"}), true, false),
            (json!({"from": "me", "to": "bob"}), false, false),
            (json!({}), false, false),
            (json!({"data": {"thread": "chan:1"}}), false, true),
            (json!({"data": {"thread": "chan:2"}}), false, false),
        ] {
            let message = message(&more);
            assert_eq!((between.takes(&message), thread.takes(&message)), (with, channel), "{more}");
            assert!(Wanted::All.takes(&message));
        }
    }
}
