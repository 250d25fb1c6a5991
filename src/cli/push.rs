//! `ac7 push`: send a message to a member, a channel or everybody.
use std::io::{self, Read, Write};

use serde_json::{Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, text};
use crate::client::segment;
use crate::team::Level;

pub const VERB: Verb = Verb {
    name: "push",
    group: Group::Team,
    summary: "Send a message to a member, a channel or all",
    operands: Operands::Optional("TEXT"),
    flags: &[
        &[
            Flag::value("to", "NAME", "The member who gets it"),
            Flag::value("channel", "SLUG", "The channel that gets it"),
            Flag::switch("all", "Everybody gets it"),
            Flag::value("title", "TEXT", "A heading, up to 200 characters"),
            Flag::value("level", "LEVEL", "debug, info, notice, warning, error or critical").or("info"),
            Flag::switch("json", "The broker's answer as one JSON object"),
        ],
        broker::ACCESS,
    ],
    examples: &[
        ("ac7 push --to bob 'the build is red'", "a message for bob alone"),
        ("git log -1 | ac7 push --channel general", "standard input, for a channel"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-push(1)", "ac7-tail(1)"],
    page: "ac7-push",
    run,
};

/// The longest body that a broker takes, in characters; of standard input a little more is read, to be refused there.
const MOST: u64 = 4 * 65_536 + 1;

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let (to, channel) = (parsed.text("to")?, parsed.text("channel")?);
    match (&to, &channel, parsed.has("all")) {
        (Some(_), Some(_), _) => return Err(parsed.conflict("to", "channel")),
        (Some(_), _, true) => return Err(parsed.conflict("to", "all")),
        (_, Some(_), true) => return Err(parsed.conflict("channel", "all")),
        (None, None, false) => {
            let why = "nobody is named who gets the message".to_string();
            return Err(Error::Refused { verb, why, fix: "--to NAME, --channel SLUG or --all" });
        }
        _ => {}
    }
    let known = |text: &str| Level::NAMES.contains(&text).then(|| text.to_string());
    let level = parsed.read("level", "it is none of the levels that --help names", known)?;
    let mut message = json!({"body": body(parsed, verb)?, "level": level.as_deref().unwrap_or("info")});
    if let Some(title) = parsed.text("title")? {
        message["title"] = title.into();
    }
    let client = broker::connect(parsed, verb)?;
    let failed = broker::failed(verb);
    let called = match (&to, &channel) {
        (Some(name), _) => {
            message["to"] = name.as_str().into();
            format!("delivered to {name}")
        }
        (None, Some(slug)) => {
            let found = client.json("GET", &format!("/channels/{}", segment(slug)), None).map_err(&failed)?;
            let id = found["channel"]["id"].as_str().unwrap_or_default();
            message["data"] = json!({"thread": format!("chan:{id}")});
            format!("posted to #{slug}")
        }
        (None, None) => "broadcast delivered".to_string(),
    };
    let answer = client.json("POST", "/push", Some(&message)).map_err(&failed)?;
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        writeln!(out, "{}", text::json_line(&answer.to_string()))?;
    } else {
        let number = |name: &str| answer["delivery"][name].as_u64().unwrap_or(0);
        let id = answer["message"]["id"].as_str().unwrap_or_default();
        let line = format!("{called}: live={} targets={} msg={id}", number("live"), number("targets"));
        writeln!(out, "{}", text::line(&line, super::terminal::utf8()))?;
    }
    Ok(0)
}

/// The operand, else standard input without the last line's end.
fn body(parsed: &Parsed, verb: &'static str) -> Result<Value, Error> {
    let unreadable = |why: String| Error::failed(verb, format!("cannot read the message: {why}"));
    match parsed.operands.first() {
        Some(text) => text.to_str().map(Value::from).ok_or_else(|| unreadable("it is not UTF-8".to_string())),
        None => {
            let mut text = String::new();
            io::stdin().take(MOST).read_to_string(&mut text).map_err(|e| unreadable(e.to_string()))?;
            Ok(text.trim_end_matches(['\r', '\n']).into())
        }
    }
}
