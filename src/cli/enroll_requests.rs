//! `ac7 enroll-requests`: let devices in that asked with `ac7 connect`, or turn them away.
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, format, team_file, terminal, text};
use crate::sys::clock::now_ms;

const PAGE: &str = "ac7-enroll-requests";
const SEE_ALSO: &[&str] = &["ac7-enroll-requests(8)", "ac7-connect(1)"];

const LISTING: &[Flag] = &[Flag::switch("json", "One JSON object a line")];
const ANSWER: &[Flag] = &[Flag::switch("json", "The broker's answer as one JSON object")];

/// What only a new member has.
const TRAITS: &[Flag] = &[
    Flag::value("title", "TEXT", "The new member's role").or("member"),
    Flag::value("description", "TEXT", "The role in a sentence"),
    Flag::value("instructions", "TEXT", "What the new member is told beyond what the team is told"),
    Flag::value("permission", "NAME", "A permission or preset of the new member").many(),
];

pub const VERB: Verb = Verb {
    name: "enroll-requests",
    group: Group::Team,
    summary: "List the devices that ask for a token",
    operands: Operands::None,
    flags: &[LISTING, broker::ACCESS],
    examples: &[
        ("ac7 enroll-requests", "who asks, from where, until when"),
        ("ac7 enroll-requests --json", "the same for programs"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: list,
};

/// The same by its whole name.
pub const LIST: Verb = Verb { name: "enroll-requests list", ..VERB };

pub const APPROVE: Verb = Verb {
    name: "enroll-requests approve",
    group: Group::Team,
    summary: "Let a device in as a member",
    operands: Operands::One("CODE"),
    flags: &[
        &[
            Flag::value("member", "NAME", "Whose device it is"),
            Flag::switch("create", "The member is a new one"),
            Flag::value("label", "TEXT", "How the token is listed").or("what the device asks for"),
        ],
        TRAITS,
        ANSWER,
        broker::ACCESS,
    ],
    examples: &[
        ("ac7 enroll-requests approve 7Q2M-XD4R --member bob", "one more token for bob"),
        ("ac7 enroll-requests approve 7Q2M-XD4R --member cat --create", "a new member"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: approve,
};

pub const REJECT: Verb = Verb {
    name: "enroll-requests reject",
    group: Group::Team,
    summary: "Turn a device away",
    operands: Operands::One("CODE"),
    flags: &[&[Flag::value("reason", "TEXT", "What the device is told")], broker::ACCESS],
    examples: &[
        ("ac7 enroll-requests reject 7Q2M-XD4R", "no reason given"),
        ("ac7 enroll-requests reject 7Q2M-XD4R --reason 'not ours'", "up to 256 characters"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: SEE_ALSO,
    page: PAGE,
    run: reject,
};

fn list(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let client = broker::connect(parsed, verb)?;
    let answer = client.json("GET", "/enroll/pending", None).map_err(broker::failed(verb))?;
    let waiting = answer["enrollments"].as_array().cloned().unwrap_or_default();
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        for one in &waiting {
            writeln!(out, "{}", text::json_line(&one.to_string()))?;
        }
        return Ok(0);
    }
    if waiting.is_empty() {
        terminal::say(format_args!("ac7 {verb}: no device asks for a token"));
        return Ok(0);
    }
    let (now, utf8) = (now_ms(), terminal::utf8());
    let mut rows = vec![["CODE", "LABEL", "FROM", "CLIENT", "ASKED", "LASTS"].map(str::to_string).to_vec()];
    rows.extend(waiting.iter().map(|one| {
        let shown = |name: &str, columns| {
            let text = text::line(one[name].as_str().filter(|t| !t.is_empty()).unwrap_or("-"), utf8);
            text::cut(&text, columns, utf8)
        };
        let time = |name: &str| one[name].as_u64().unwrap_or(now);
        vec![
            shown("userCode", 16),
            shown("labelHint", 32),
            shown("sourceIp", 45),
            shown("sourceUa", 24),
            format::ago(time("createdAt"), now),
            format::duration(time("expiresAt").saturating_sub(now)),
        ]
    }));
    write!(out, "{}", team_file::table(&rows))?;
    Ok(0)
}

fn approve(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, code) = (APPROVE.name, code(parsed));
    let body = approval(parsed, &code)?;
    let client = broker::connect(parsed, verb)?;
    let answer = client.json("POST", "/enroll/approve", Some(&body)).map_err(broker::failed(verb))?;
    if parsed.has("json") {
        writeln!(io::stdout(), "{}", text::json_line(&answer.to_string()))?;
    } else {
        let shown = |value: &Value| text::line(value.as_str().unwrap_or("?"), terminal::utf8());
        let (name, label) = (shown(&answer["member"]["name"]), shown(&answer["tokenInfo"]["label"]));
        terminal::say(format_args!("ac7 {verb}: the device gets a token of {name}, listed as {label}"));
    }
    Ok(0)
}

/// The body of an approval.
fn approval(parsed: &Parsed, code: &str) -> Result<Value, Error> {
    let (verb, create) = (APPROVE.name, parsed.has("create"));
    let name = team_file::member(parsed, verb)?;
    let mut body = Map::new();
    body.insert("mode".into(), json!(if create { "create" } else { "bind" }));
    body.insert("userCode".into(), json!(code));
    body.insert("memberName".into(), json!(name));
    if let Some(label) = parsed.text("label")? {
        body.insert("label".into(), json!(label));
    }
    if create {
        let title = parsed.text("title")?.unwrap_or_else(|| "member".to_string());
        let description = parsed.text("description")?.unwrap_or_default();
        body.insert("role".into(), json!({"title": title, "description": description}));
        body.insert("instructions".into(), json!(parsed.text("instructions")?.unwrap_or_default()));
        body.insert("permissions".into(), json!(parsed.all("permission")?));
    } else if let Some(flag) = TRAITS.iter().find(|flag| parsed.has(flag.name)) {
        let why = format!("--{} is for a new member", flag.name);
        return Err(Error::Refused { verb, why, fix: "--create, or ac7 member update" });
    }
    Ok(Value::Object(body))
}

fn reject(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, mut body) = (REJECT.name, json!({"userCode": code(parsed)}));
    if let Some(reason) = parsed.text("reason")? {
        body["reason"] = json!(reason);
    }
    let client = broker::connect(parsed, verb)?;
    client.json("POST", "/enroll/reject", Some(&body)).map_err(broker::failed(verb))?;
    terminal::say(format_args!("ac7 {verb}: the device is turned away"));
    Ok(0)
}

fn code(parsed: &Parsed) -> String {
    parsed.operands.first().map(|code| code.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    fn read(words: &[&str]) -> Result<Value, Error> {
        let words = words.iter().map(OsString::from).collect();
        approval(&flags::parse(APPROVE.name, APPROVE.flags, APPROVE.operands, words)?, "C")
    }

    #[test]
    fn what_is_approved() {
        let bind = json!({"mode": "bind", "userCode": "C", "memberName": "bob"});
        assert_eq!(read(&["C", "--member", "bob"]).unwrap(), bind);
        let words = ["C", "--member", "cat", "--create", "--permission", "operator", "--label", "box"];
        let create = json!({
            "mode": "create", "userCode": "C", "memberName": "cat", "label": "box",
            "role": {"title": "member", "description": ""}, "instructions": "", "permissions": ["operator"],
        });
        assert_eq!(read(&words).unwrap(), create);
        for (words, want) in [
            (&["C"][..], "--member is required"),
            (&["--member", "bob"], "CODE is missing"),
            (&["C", "--member", "bob", "--title", "x"], "--title is for a new member"),
        ] {
            let error = read(words).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
            assert_eq!(error.code(), 2);
        }
    }
}
