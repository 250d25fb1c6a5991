//! `ac7 claude-code`: Claude Code as a member of a team.
use crate::agents::Agent;
use crate::capture::scope::Scope;
use crate::runner::{self, options::AgentOptions};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::summary::Talk;
use super::{Environment, Group, Verb, capture, doctor, environment, run as run_verb, terminal};

const CAPTURE: &[Flag] = &capture::table("agent");

/// Options of every agent's verb.
pub const AGENT: &[Flag] = &[
    Flag::switch("doctor", "Only look at what keeps the agent from working here"),
    Flag::switch("skip-doctor", "Start without looking first"),
    Flag::switch("unsafe-tls", "Let the agent validate no certificates"),
];

pub const VERB: Verb = Verb {
    name: "claude-code",
    group: Group::Capture,
    summary: "Run Claude Code as a member of the team",
    operands: Operands::Arguments,
    flags: &[capture::TEAM, CAPTURE, AGENT, capture::TALK],
    examples: &[
        ("ac7 claude-code", "an interactive session, with the team's messages and tools"),
        ("ac7 claude-code -- -p 'take the next objective'", "one prompt, then the end"),
    ],
    exits: &[
        ("N", "the agent's own status; 128+N if signal N ended it"),
        ("3", "the agent succeeded, and what --fail-on names has happened"),
        ("127", "there is no claude"),
        ("1", "ac7 itself failed, the broker is not there or refuses us"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7(1)", "ac7-run(1)", "ac7-doctor(1)"],
    page: "ac7-claude-code",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let options = options(parsed, &environment)?;
    if parsed.has("doctor") {
        return doctor::look_at(Agent::ClaudeCode, parsed);
    }
    let say = |line: &str| terminal::say(format_args!("ac7: {line}"));
    let talk = Talk::open(parsed, VERB.name)?;
    let outcome = runner::claude_code(&options, &say).map_err(|why| run_verb::failed(VERB.name, &why))?;
    Ok(talk.tell(&outcome))
}

/// What was typed, checked.
pub(super) fn options(parsed: &Parsed, env: Environment) -> Result<AgentOptions, Error> {
    Ok(AgentOptions {
        arguments: parsed.operands.clone(),
        destination: capture::team(parsed, env)?,
        capture: capture::options(parsed, env, Scope::Agent)?,
        ca_cert: capture::ca_cert(parsed, env),
        skip_doctor: parsed.has("skip-doctor"),
        unsafe_tls: parsed.has("unsafe-tls"),
        quiet: parsed.has("quiet") || parsed.has("json"),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;
    use crate::runner::options::Destination;

    fn read(line: &str, env: &[(&str, &str)]) -> Result<AgentOptions, Error> {
        let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words)?;
        options(&parsed, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string()))
    }

    #[test]
    fn an_agent_takes_part_in_a_team_unless_told_otherwise() {
        let broker = |url: &str, token: Option<&str>| Destination::Broker {
            url: url.to_string(),
            token: token.map(str::to_string),
        };
        for (line, env, want) in [
            ("", &[][..], broker("http://127.0.0.1:8717", None)),
            ("", &[("AC7_URL", "https://e"), ("AC7_TOKEN", "t")], broker("https://e", Some("t"))),
            ("--url http://h --token u", &[("AC7_URL", "https://e")], broker("http://h", Some("u"))),
            ("--local", &[("AC7_URL", "https://e")], Destination::Local { db: None }),
            ("--db f", &[], Destination::Local { db: Some("f".into()) }),
        ] {
            assert_eq!(read(line, env).unwrap().destination, want, "{line}");
        }
        let options = read("--skip-doctor -- -p hi --quiet", &[("AC7_CA_CERT", "c.pem")]).unwrap();
        assert_eq!(options.arguments, ["-p", "hi", "--quiet"].map(OsString::from));
        assert!(options.skip_doctor && !options.unsafe_tls && options.ca_cert == Some("c.pem".into()));
        assert_eq!(options.capture.unwrap().scope, Scope::Agent);
        assert_eq!(read("--no-trace", &[]).unwrap().capture, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, want) in [
            ("--local --url http://h", "ac7 claude-code: --local and --url exclude each other"),
            ("--model opus", "ac7 claude-code: unknown option: --model\n  fix: options of the command stand"),
            (
                "hello",
                "ac7 claude-code: unexpected argument: hello\n  fix: what is meant for the agent stands",
            ),
        ] {
            let error = read(line, &[]).unwrap_err();
            assert!(error.to_string().starts_with(want), "{error}");
            assert_eq!(error.code(), 2);
        }
    }
}
