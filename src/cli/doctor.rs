//! `ac7 doctor`: what keeps an agent from working here, and what to do about it.
use std::io::{self, Write};

use serde_json::json;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, Verb, terminal, text};
use crate::agents::Agent;
use crate::agents::doctor::{self, Check};

pub const VERB: Verb = Verb {
    name: "doctor",
    group: Group::Operate,
    summary: "Find what keeps an agent from working here",
    operands: Operands::None,
    flags: &[&[
        Flag::value("agent", "claude-code|codex", "The agent to look at").or("those that are installed"),
        Flag::switch("json", "One JSON object a line"),
    ]],
    examples: &[
        ("ac7 doctor", "look at every agent that is installed"),
        ("ac7 doctor --agent codex --json", "look at one, for a script"),
    ],
    exits: &[("0", "nothing failed"), ("1", "a check failed"), ("2", "the command line makes no sense")],
    see_also: &["ac7-doctor(1)", "ac7-run(1)"],
    page: ("ac7-doctor", include_str!("../../man/ac7-doctor.1")),
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let chosen = parsed.read("agent", "it is not claude-code or codex", Agent::of_verb)?;
    let mut checks: Vec<Check> = Vec::new();
    for agent in chosen.map_or_else(installed, |agent| vec![agent]) {
        // Of what two agents share it is enough to hear once.
        let fresh = doctor::preflight(agent).into_iter();
        let fresh: Vec<Check> = fresh.filter(|check| !checks.contains(check)).collect();
        checks.extend(fresh);
    }
    report(&checks, parsed.has("json"))
}

/// The agents whose program is here; if there is none, the first, so that its check says so.
fn installed() -> Vec<Agent> {
    let here: Vec<Agent> = Agent::ALL.into_iter().filter(|agent| agent.find().is_ok()).collect();
    if here.is_empty() { vec![Agent::ALL[0]] } else { here }
}

/// Show checks on standard output; gives the exit status.
fn report(checks: &[Check], as_json: bool) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    for check in checks {
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

/// A check as people read it: `[PASS] name — detail`, and the way out on a line of its own.
fn lines(check: &Check, utf8: bool) -> String {
    let word = check.state.word().to_ascii_uppercase();
    let dash = if utf8 { '—' } else { '-' };
    let mut out = format!("[{word}] {} {dash} {}", check.name, text::line(&check.detail, utf8));
    if let Some(fix) = &check.fix {
        out.push_str("\n  fix: ");
        out.push_str(&text::line(fix, utf8));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::doctor::State;

    #[test]
    fn a_check_is_one_line_and_its_way_out_another() {
        let mut check =
            Check { state: State::Pass, name: "$TMPDIR writable", detail: "/tmp".into(), fix: None };
        assert_eq!(lines(&check, true), "[PASS] $TMPDIR writable — /tmp");
        check =
            Check { state: State::Fail, detail: "/a\x1b[31m\nb".into(), fix: Some("do it".into()), ..check };
        assert_eq!(lines(&check, true), "[FAIL] $TMPDIR writable — /a\\x1b[31m b\n  fix: do it");
        assert_eq!(lines(&check, false), "[FAIL] $TMPDIR writable - /a\\x1b[31m b\n  fix: do it");
    }
}
