//! `ac7 objectives`: what the team is asked to bring about, and what has become of it.
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal::Screen;
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, text};
use crate::client::segment;
use crate::team::{Objective, ObjectiveEvent, Status};

const PAGE: &str = "ac7-objectives";
const SEE_ALSO: &[&str] = &["ac7-objectives(1)", "ac7-push(1)", "ac7-traces(1)"];
const ID: Operands = Operands::One("ID");
const JSON: &[Flag] = &[Flag::switch("json", "The broker's answer as one JSON object")];

/// A verb of this file.
const fn verb(
    name: &'static str,
    summary: &'static str,
    operands: Operands,
    flags: &'static [&'static [Flag]],
    examples: &'static [(&'static str, &'static str)],
    run: fn(&Parsed) -> Result<u8, Error>,
) -> Verb {
    Verb {
        name,
        group: Group::Team,
        summary,
        operands,
        flags,
        examples,
        exits: SUCCESS_OR_FAILURE,
        see_also: SEE_ALSO,
        page: PAGE,
        run,
    }
}

pub const LIST: Verb = verb(
    "objectives list",
    "List objectives",
    Operands::None,
    &[
        &[
            Flag::value("assignee", "NAME", "Only this member's"),
            Flag::value("status", "STATUS", "Only active, blocked, done or cancelled ones"),
            Flag::value("limit", "N", "Only the newest N, 500 at most"),
        ],
        JSON,
        broker::ACCESS,
    ],
    &[
        ("ac7 objectives list", "those that you take part in, or all if you manage members"),
        ("ac7 objectives list --status blocked", "what does not get on"),
    ],
    list,
);

pub const VIEW: Verb = verb(
    "objectives view",
    "Show an objective and what happened to it",
    ID,
    &[JSON, broker::ACCESS],
    &[
        ("ac7 objectives view ID", "everything about it"),
        ("ac7 objectives view ID --json", "the same for a program"),
    ],
    view,
);

pub const CREATE: Verb = verb(
    "objectives create",
    "Ask a member to bring something about",
    Operands::One("TITLE"),
    &[
        &[
            Flag::value("outcome", "TEXT", "What will be so once it is done; required"),
            Flag::value("assignee", "NAME", "Who is to do it; required"),
            Flag::value("body", "TEXT", "What there is to know"),
            Flag::value("watcher", "NAME", "A member who follows it").many(),
        ],
        JSON,
        broker::ACCESS,
    ],
    &[
        ("ac7 objectives create 'Fix CI' --assignee bob --outcome 'main is green'", "for bob"),
        ("ac7 objectives create T --assignee bob --outcome O --watcher cat", "cat follows it"),
    ],
    create,
);

pub const UPDATE: Verb = verb(
    "objectives update",
    "Block an objective, or take it up again",
    ID,
    &[
        &[
            Flag::value("block", "REASON", "It is blocked, and why"),
            Flag::switch("unblock", "It is active again"),
        ],
        JSON,
        broker::ACCESS,
    ],
    &[
        ("ac7 objectives update ID --block 'waiting for a key'", "it cannot go on"),
        ("ac7 objectives update ID --unblock", "it goes on"),
    ],
    update,
);

pub const COMPLETE: Verb = verb(
    "objectives complete",
    "Say that your objective is done",
    ID,
    &[&[Flag::value("result", "TEXT", "What came of it; required")], JSON, broker::ACCESS],
    &[
        ("ac7 objectives complete ID --result 'merged as 4711'", "done"),
        ("ac7 objectives complete ID --result done --json", "the objective as JSON"),
    ],
    complete,
);

pub const CANCEL: Verb = verb(
    "objectives cancel",
    "Cancel an objective",
    ID,
    &[&[Flag::value("reason", "TEXT", "Why")], JSON, broker::ACCESS],
    &[
        ("ac7 objectives cancel ID", "it is not wanted any more"),
        ("ac7 objectives cancel ID --reason 'fixed upstream'", "and why"),
    ],
    cancel,
);

pub const REASSIGN: Verb = verb(
    "objectives reassign",
    "Give an objective to another member",
    ID,
    &[
        &[
            Flag::value("to", "NAME", "Who is to do it now; required"),
            Flag::value("note", "TEXT", "What the new one should know"),
        ],
        JSON,
        broker::ACCESS,
    ],
    &[
        ("ac7 objectives reassign ID --to cat", "cat has it now"),
        ("ac7 objectives reassign ID --to cat --note 'bob is away'", "and why"),
    ],
    reassign,
);

pub const WATCH: Verb = verb(
    "objectives watch",
    "Add and remove those who follow an objective",
    ID,
    &[
        &[
            Flag::value("add", "NAME", "A member who follows it from now on").many(),
            Flag::value("remove", "NAME", "A member who no longer does").many(),
        ],
        JSON,
        broker::ACCESS,
    ],
    &[
        ("ac7 objectives watch ID --add cat", "cat hears of it"),
        ("ac7 objectives watch ID --add cat --remove dan", "cat instead of dan"),
    ],
    watch,
);

pub const DISCUSS: Verb = verb(
    "objectives discuss",
    "Say something about an objective",
    ID,
    &[
        &[
            Flag::value("body", "TEXT", "What is said; required"),
            Flag::value("title", "TEXT", "A heading, up to 200 characters"),
        ],
        JSON,
        broker::ACCESS,
    ],
    &[
        ("ac7 objectives discuss ID --body 'which branch?'", "all who take part get it"),
        ("ac7 objectives discuss ID --title Q --body 'which branch?'", "with a heading"),
    ],
    discuss,
);

/// Ask the broker about the objective that the operand names (`tail` follows it in the path), or about all of them.
fn ask(
    parsed: &Parsed,
    verb: &'static str,
    method: &str,
    tail: &str,
    body: Option<Map<String, Value>>,
) -> Result<Value, Error> {
    let client = broker::connect(parsed, verb)?;
    let path = match parsed.operands.first().filter(|_| verb != CREATE.name) {
        Some(id) => format!("/objectives/{}{tail}", segment(&id.to_string_lossy())),
        None => format!("/objectives{tail}"),
    };
    client.json(method, &path, body.map(Value::Object).as_ref()).map_err(broker::failed(verb))
}

/// Fields for a body: those that were given.
fn given(parsed: &Parsed, names: &[(&'static str, &'static str)]) -> Result<Map<String, Value>, Error> {
    let mut body = Map::new();
    for (field, flag) in names {
        if let Some(text) = parsed.text(flag)? {
            body.insert((*field).to_string(), text.into());
        }
    }
    Ok(body)
}

fn required(
    parsed: &Parsed,
    verb: &'static str,
    option: &'static str,
    called: &'static str,
) -> Result<(), Error> {
    if parsed.has(option) { Ok(()) } else { Err(Error::MissingOption { verb, option, called }) }
}

/// Print the answer as JSON, or what `say` makes of the objective in it.
fn tell(
    parsed: &Parsed,
    verb: &'static str,
    answer: &Value,
    say: impl FnOnce(&Objective) -> String,
) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        writeln!(out, "{}", text::json_line(&answer.to_string()))?;
    } else {
        let screen = Screen::stdout();
        writeln!(out, "{}", text::line(&say(&objective(answer, verb)?), screen.utf8))?;
    }
    Ok(0)
}

fn objective(value: &Value, verb: &'static str) -> Result<Objective, Error> {
    Objective::from_json(value)
        .map_err(|e| Error::failed(verb, format!("the broker's answer is no objective: {e}")))
}

fn list(parsed: &Parsed) -> Result<u8, Error> {
    let verb = LIST.name;
    let known = |text: &str| Status::from_name(text).map(|_| text.to_string());
    let status = parsed.read("status", "it is not active, blocked, done or cancelled", known)?;
    let number = |text: &str| text.parse::<u16>().ok().filter(|n| *n <= 500).map(|n| n.to_string());
    let limit = parsed.read("limit", "it is not a number up to 500", number)?;
    let mut query = Vec::new();
    for (name, value) in [("assignee", parsed.text("assignee")?), ("status", status), ("limit", limit)] {
        query.extend(value.map(|value| format!("{name}={}", segment(&value))));
    }
    let answer = ask(parsed, verb, "GET", &format!("?{}", query.join("&")), None)?;
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        writeln!(out, "{}", text::json_line(&answer.to_string()))?;
        return Ok(0);
    }
    let screen = Screen::stdout();
    let mut rows = vec![["ID", "STATUS", "ASSIGNEE", "TITLE"].map(str::to_string).to_vec()];
    for value in answer["objectives"].as_array().into_iter().flatten() {
        let found = objective(value, verb)?;
        rows.push(vec![
            text::line(&found.id, screen.utf8),
            found.status.name().to_string(),
            text::line(&found.assignee, screen.utf8),
            text::cut(&text::line(&found.title, screen.utf8), 60, screen.utf8),
        ]);
    }
    for line in text::columns(&rows, usize::MAX) {
        writeln!(out, "{line}")?;
    }
    Ok(0)
}

fn view(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VIEW.name;
    let answer = ask(parsed, verb, "GET", "", None)?;
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        writeln!(out, "{}", text::json_line(&answer.to_string()))?;
        return Ok(0);
    }
    let events = answer["events"].as_array().into_iter().flatten().map(ObjectiveEvent::from_json);
    let events = events
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::failed(verb, format!("the broker's answer has an event that is none: {e}")))?;
    out.write_all(shown(&objective(&answer["objective"], verb)?, &events, &Screen::stdout()).as_bytes())?;
    Ok(0)
}

/// An objective as people read it: what it is, what is wanted, what happened.
fn shown(found: &Objective, events: &[ObjectiveEvent], screen: &Screen) -> String {
    let line = |text: &str| text::line(text, screen.utf8);
    let mut out = format!("{}\n", screen.style("1", &line(&found.title)));
    let time = |at: u64| {
        let at = screen.zone.local(at);
        format!("{} {} {}", at.date(), at.clock(), at.offset())
    };
    let mut facts = vec![
        ("id", found.id.clone()),
        ("status", found.status.name().to_string()),
        ("assignee", found.assignee.clone()),
        ("originator", found.originator.clone()),
        ("created", time(found.created_at)),
    ];
    facts.extend((!found.watchers.is_empty()).then(|| ("watchers", found.watchers.join(", "))));
    facts.extend(found.block_reason.clone().map(|reason| ("blocked", reason)));
    facts.extend(found.completed_at.map(|at| ("completed", time(at))));
    facts.extend(found.attachments.iter().map(|file| ("attachment", file.path.clone())));
    for (name, value) in facts {
        out.push_str(&format!("{name:<11} {}\n", line(&value)));
    }
    let texts =
        [("Outcome", Some(&found.outcome)), ("Body", Some(&found.body)), ("Result", found.result.as_ref())];
    for (title, value) in texts {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            out.push_str(&format!("\n{}\n{}\n", screen.style("1", title), text::block(value, screen.utf8)));
        }
    }
    out.push_str(&format!("\n{}\n", screen.style("1", "Events")));
    for event in events {
        let facts: Vec<String> = event
            .payload
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| {
                format!("{name}={}", value.as_str().map_or_else(|| value.to_string(), str::to_string))
            })
            .collect();
        let text = format!("{} {} {}", event.actor, event.kind.name(), facts.join(" "));
        out.push_str(&format!("{}  {}\n", time(event.ts), line(text.trim_end())));
    }
    out
}

fn create(parsed: &Parsed) -> Result<u8, Error> {
    let verb = CREATE.name;
    required(parsed, verb, "outcome", "TEXT")?;
    required(parsed, verb, "assignee", "NAME")?;
    let mut body = given(parsed, &[("outcome", "outcome"), ("assignee", "assignee"), ("body", "body")])?;
    let title = parsed.operands.first().map(|title| title.to_string_lossy().into_owned());
    body.insert("title".into(), title.unwrap_or_default().into());
    body.insert("watchers".into(), parsed.all("watcher")?.into());
    let answer = ask(parsed, verb, "POST", "", Some(body))?;
    tell(parsed, verb, &answer, |made| format!("created {}: {} has it", made.id, made.assignee))
}

fn update(parsed: &Parsed) -> Result<u8, Error> {
    let verb = UPDATE.name;
    let body = match (parsed.text("block")?, parsed.has("unblock")) {
        (Some(_), true) => return Err(parsed.conflict("block", "unblock")),
        (None, false) => {
            let why = "nothing to change".to_string();
            return Err(Error::Refused { verb, why, fix: "--block REASON or --unblock" });
        }
        (Some(reason), false) => json!({"status": "blocked", "blockReason": reason}),
        (None, true) => json!({"status": "active"}),
    };
    let answer = ask(parsed, verb, "PATCH", "", body.as_object().cloned())?;
    tell(parsed, verb, &answer, |now| format!("updated {}: status={}", now.id, now.status.name()))
}

fn complete(parsed: &Parsed) -> Result<u8, Error> {
    let verb = COMPLETE.name;
    required(parsed, verb, "result", "TEXT")?;
    let answer = ask(parsed, verb, "POST", "/complete", Some(given(parsed, &[("result", "result")])?))?;
    tell(parsed, verb, &answer, |now| format!("completed {}: {}", now.id, now.title))
}

fn cancel(parsed: &Parsed) -> Result<u8, Error> {
    let verb = CANCEL.name;
    let answer = ask(parsed, verb, "POST", "/cancel", Some(given(parsed, &[("reason", "reason")])?))?;
    tell(parsed, verb, &answer, |now| format!("cancelled {}: {}", now.id, now.title))
}

fn reassign(parsed: &Parsed) -> Result<u8, Error> {
    let verb = REASSIGN.name;
    required(parsed, verb, "to", "NAME")?;
    let body = given(parsed, &[("to", "to"), ("note", "note")])?;
    let answer = ask(parsed, verb, "POST", "/reassign", Some(body))?;
    tell(parsed, verb, &answer, |now| format!("reassigned {}: {} has it", now.id, now.assignee))
}

fn watch(parsed: &Parsed) -> Result<u8, Error> {
    let verb = WATCH.name;
    let (add, remove) = (parsed.all("add")?, parsed.all("remove")?);
    if add.is_empty() && remove.is_empty() {
        let why = "nobody is named".to_string();
        return Err(Error::Refused { verb, why, fix: "--add NAME or --remove NAME" });
    }
    let body = json!({"add": add, "remove": remove});
    let answer = ask(parsed, verb, "POST", "/watchers", body.as_object().cloned())?;
    tell(parsed, verb, &answer, |now| match now.watchers.as_slice() {
        [] => format!("watchers of {}: nobody", now.id),
        names => format!("watchers of {}: {}", now.id, names.join(", ")),
    })
}

fn discuss(parsed: &Parsed) -> Result<u8, Error> {
    let verb = DISCUSS.name;
    required(parsed, verb, "body", "TEXT")?;
    let body = given(parsed, &[("body", "body"), ("title", "title")])?;
    let answer = ask(parsed, verb, "POST", "/discuss", Some(body))?;
    let mut out = io::stdout().lock();
    if parsed.has("json") {
        writeln!(out, "{}", text::json_line(&answer.to_string()))?;
    } else {
        let message = answer.get("message").unwrap_or(&answer);
        let id = message["id"].as_str().unwrap_or_default();
        writeln!(out, "{}", text::line(&format!("said: msg={id}"), super::terminal::utf8()))?;
    }
    Ok(0)
}
