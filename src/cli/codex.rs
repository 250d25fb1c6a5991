//! `ac7 codex`: codex as a member of a team.
use crate::agents::Agent;
use crate::runner::{self, options::CodexOptions};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::summary::Talk;
use super::{Environment, Group, Verb, capture, claude_code, doctor, environment};
use super::{run as run_verb, terminal, text};

const CAPTURE: &[Flag] = &capture::table("agent");

/// Of a message of codex so many characters are shown.
const SHOWN: usize = 1000;

pub const VERB: Verb = Verb {
    name: "codex",
    group: Group::Capture,
    summary: "Run codex as a member of the team",
    operands: Operands::Arguments,
    flags: &[
        capture::TEAM,
        CAPTURE,
        &[
            Flag::value("cwd", "DIR", "Where codex works").or("the current directory"),
            Flag::value("model", "MODEL", "The model, else that of codex's configuration"),
        ],
        claude_code::AGENT,
        capture::TALK,
    ],
    examples: &[
        ("ac7 codex --cwd ~/src/app", "wait for the team's messages, work in a directory"),
        ("ac7 codex --local -- exec 'fix the test'", "your own codex, captured here"),
    ],
    exits: &[
        ("N", "codex's own status; 128+N if we were ended by signal N, or codex was"),
        ("3", "the agent succeeded, and what --fail-on names has happened"),
        ("127", "there is no codex"),
        ("1", "ac7 itself failed, the broker is not there or refuses us, codex has no login"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7(1)", "ac7-claude-code(1)", "ac7-run(1)", "ac7-doctor(1)"],
    page: "ac7-codex",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let options = options(parsed, &environment)?;
    if parsed.has("doctor") {
        return doctor::look_at(Agent::Codex, parsed);
    }
    // What codex says comes from a model: one line, and nothing that could do more to a terminal than stand there.
    let utf8 = terminal::utf8();
    let say =
        |line: &str| terminal::say(format_args!("ac7: {}", text::cut(&text::line(line, utf8), SHOWN, utf8)));
    let talk = Talk::open(parsed, VERB.name)?;
    let outcome = runner::codex(&options, &say).map_err(|why| run_verb::failed(VERB.name, &why))?;
    Ok(talk.tell(&outcome))
}

/// What was typed, checked.
fn options(parsed: &Parsed, env: Environment) -> Result<CodexOptions, Error> {
    Ok(CodexOptions {
        agent: claude_code::options(parsed, env)?,
        cwd: parsed.path("cwd"),
        model: parsed.text("model")?,
        quiet: parsed.has("quiet"),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;
    use crate::runner::options::Destination;

    #[test]
    fn what_is_typed() {
        let line = "--cwd /w --model gpt-5 --quiet --token t --skip-doctor -- -c a=1";
        let words = line.split(' ').map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words).unwrap();
        let options = options(&parsed, &|_| None).unwrap();
        assert_eq!((options.cwd, options.model.as_deref()), (Some("/w".into()), Some("gpt-5")));
        assert!(options.quiet && options.agent.skip_doctor);
        assert_eq!(options.agent.arguments, ["-c", "a=1"].map(OsString::from));
        let url = "http://127.0.0.1:8717".to_string();
        assert_eq!(options.agent.destination, Destination::Broker { url, token: Some("t".into()) });
    }
}
