//! `ac7 doctor`: what keeps an agent from working here, and what to do about it.
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;

use serde_json::json;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, Verb, codes, prune_traces, terminal, text};
use crate::agents::Agent;
use crate::agents::doctor::claude::{self, Seen, stale};
use crate::agents::doctor::{self, Check, State};
use crate::client::auth::Given;
use crate::store::activity::{Query, Reader};
use crate::sys::{paths, process};

/// The one thing that can be repaired.
const REPAIR: &str = "stale-grant-cache";

pub const VERB: Verb = Verb {
    name: "doctor",
    group: Group::Operate,
    summary: "Find what keeps an agent from working here",
    operands: Operands::Optional("REPAIR"),
    flags: &[&[
        Flag::value("agent", "claude-code|codex", "The agent to look at").or("those that are installed"),
        Flag::value("url", "URL", "The broker to look at; else $AC7_URL").or("http://127.0.0.1:8717"),
        Flag::value("token", "TOKEN", "Its token; better AC7_TOKEN, as other users see arguments"),
        Flag::value("ca-cert", "FILE", "Trust the PEM certificates in FILE too").or("$AC7_CA_CERT"),
        Flag::switch("json", "One JSON object a line"),
        Flag::switch("fix", "Carry out REPAIR, stale-grant-cache, which is also the default"),
        Flag::switch("yes", "Repair without asking"),
    ]],
    examples: &[
        ("ac7 doctor", "look at every agent that is installed"),
        ("ac7 doctor --fix stale-grant-cache", "let Claude Code ask anew whether extra usage is on"),
    ],
    exits: &[
        ("0", "nothing failed, or the repair is done"),
        ("1", "a check or the repair failed, or the answer was not yes"),
        ("2", "the command line makes no sense, or --yes is missing without a terminal"),
    ],
    see_also: &["ac7-doctor(1)", "ac7-run(1)"],
    page: "ac7-doctor",
    run,
};

/// What was asked for.
struct Options {
    /// None: those that are installed.
    agent: Option<Agent>,
    broker: Given,
    json: bool,
    repair: bool,
    yes: bool,
}

fn options(parsed: &Parsed) -> Result<Options, Error> {
    let verb = VERB.name;
    let agent = parsed.read("agent", "it is not claude-code or codex", Agent::of_verb)?;
    let repair = parsed.has("fix");
    match parsed.operands.first() {
        Some(operand) if !repair || operand != REPAIR => {
            return Err(Error::SurplusOperand { verb, operand: operand.clone() });
        }
        _ => {}
    }
    if repair && parsed.has("json") {
        return Err(parsed.conflict("fix", "json"));
    }
    if repair && agent == Some(Agent::Codex) {
        let why = "nothing of codex can be repaired".to_string();
        return Err(Error::Refused { verb, why, fix: "ac7 doctor --agent claude-code --fix" });
    }
    Ok(Options { agent, broker: broker(parsed)?, json: parsed.has("json"), repair, yes: parsed.has("yes") })
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let options = options(parsed)?;
    if options.repair {
        return repair(options.yes);
    }
    let agents = options.agent.map_or_else(installed, |agent| vec![agent]);
    examine(&agents, &options.broker, options.json)
}

/// The same for one agent, as its own verb asks for it, which has the same options for the broker.
pub(super) fn look_at(agent: Agent, parsed: &Parsed) -> Result<u8, Error> {
    examine(&[agent], &broker(parsed)?, parsed.has("json"))
}

/// The broker that the options name.
fn broker(parsed: &Parsed) -> Result<Given, Error> {
    Ok(Given { url: parsed.text("url")?, token: parsed.text("token")?, ca_cert: parsed.text("ca-cert")? })
}

/// The agents whose program is here; if there is none, the first, so that its check says so.
fn installed() -> Vec<Agent> {
    let here: Vec<Agent> = Agent::ALL.into_iter().filter(|agent| agent.find().is_ok()).collect();
    if here.is_empty() { vec![Agent::ALL[0]] } else { here }
}

/// Look at these agents and show what was found on standard output; gives the exit status.
fn examine(agents: &[Agent], broker: &Given, as_json: bool) -> Result<u8, Error> {
    let checks = doctor::examine(agents, broker, seen());
    let mut out = io::stdout().lock();
    for check in &checks {
        if as_json {
            let line = json!({
                "state": check.state.word(),
                "name": check.name,
                "detail": check.detail,
                "fix": check.fix,
            });
            writeln!(out, "{}", text::json_line(&line.to_string()))?;
        } else {
            writeln!(out, "{}", lines(check, terminal::utf8()))?;
        }
    }
    Ok(u8::from(checks.iter().any(Check::failed)))
}

/// What the newest calls in the local database tell; nothing where there is none, or none that can be read.
fn seen() -> Seen {
    let mut seen = Seen::default();
    let path = paths::data_dir().map(|folder| folder.join("activity.db"));
    if let Some(reader) = path.and_then(|path| Reader::open(&path).ok()) {
        let query = Query { kinds: vec!["llm_exchange".into()], limit: 20, ..Query::default() };
        // A database that breaks off has told what it has told.
        let _ = reader.list(&query, |row| {
            if let Ok(event) = serde_json::from_str(&row.event) {
                seen.add(&event);
            }
            ControlFlow::Continue(())
        });
    }
    seen
}

/// A check as people read it: `[PASS] name — detail`, and the way out on a line of its own.
fn lines(check: &Check, utf8: bool) -> String {
    let word = check.state.word().to_ascii_uppercase();
    let dash = if utf8 { '—' } else { '-' };
    let mut out = format!("[{word}] {} {dash} {}", check.name, text::line(&check.detail, utf8));
    if let Some(fix) = &check.fix {
        out.push_str("\n  fix: ");
        out.push_str(&text::line(fix, utf8));
    }
    if check.state == State::Pass { out } else { codes::coded(&out) }
}

/// Cut the stale cache out of Claude Code's state, after having asked.
fn repair(yes: bool) -> Result<u8, Error> {
    let verb = VERB.name;
    if !yes && !io::stdin().is_terminal() {
        let why = "not confirmed: standard input is no terminal".to_string();
        return Err(Error::Refused { verb, why, fix: "--yes" });
    }
    let failed = |error: stale::Error| Error::Failed {
        verb,
        what: error.to_string(),
        fix: error.fix().map(str::to_string),
    };
    let (_, path) = claude::places().ok_or_else(|| Error::failed(verb, "HOME is not set"))?;
    let shown = terminal::path(&path);
    let keys = stale::found(&path).map_err(failed)?;
    if keys.is_empty() {
        println!("nothing to repair: {shown} has neither {}", stale::KEYS.join(" nor "));
        return Ok(0);
    }
    for (key, about) in &keys {
        println!("{key}: {about}");
    }
    if process::runs("claude") {
        terminal::say("a claude runs: it may write back what it remembers; better end it first");
    }
    if !yes && !prune_traces::confirmed(&format!("Cut this out of {shown}?")) {
        terminal::say(format_args!("ac7 {verb}: nothing was changed"));
        return Ok(1);
    }
    let copy = stale::cut_out(&path).map_err(failed)?;
    println!("cut out of {shown}; as it was: {}", terminal::path(&copy));
    terminal::say("to have it asked anew, which costs some tokens:");
    terminal::say("  claude --print --max-turns 1 'reply with exactly: refresh-ok'");
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    #[test]
    fn a_check_is_one_line_and_its_way_out_another() {
        let mut check =
            Check { state: State::Pass, name: "$TMPDIR writable", detail: "/tmp".into(), fix: None };
        assert_eq!(lines(&check, true), "[PASS] $TMPDIR writable — /tmp");
        check =
            Check { state: State::Fail, detail: "/a\x1b[31m\nb".into(), fix: Some("do it".into()), ..check };
        assert_eq!(lines(&check, true), "[FAIL] $TMPDIR writable — /a\\x1b[31m b [no-temp]\n  fix: do it");
        assert_eq!(lines(&check, false), "[FAIL] $TMPDIR writable - /a\\x1b[31m b [no-temp]\n  fix: do it");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, want) in [
            ("--agent gemini", "ac7 doctor: bad --agent: gemini: it is not claude-code or codex"),
            ("stale-grant-cache", "ac7 doctor: unexpected argument: stale-grant-cache"),
            ("--fix everything", "ac7 doctor: unexpected argument: everything"),
            ("--fix --json", "ac7 doctor: --fix and --json exclude each other"),
            ("--fix --agent codex", "ac7 doctor: nothing of codex can be repaired"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words).unwrap();
            let error = options(&parsed).err().unwrap();
            assert!(error.to_string().starts_with(want), "{error}");
            assert_eq!(error.code(), 2);
        }
    }
}
