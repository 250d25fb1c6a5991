//! `ac7 setup`: a team, its first member, a token.
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Environment, Group, SUCCESS_OR_FAILURE, Verb, environment, terminal};
use crate::identity::{self, SetupOptions, setup};

pub const VERB: Verb = Verb {
    name: "setup",
    group: Group::Team,
    summary: "Make a team, its first member and a token",
    operands: Operands::None,
    flags: &[&[
        Flag::value("team", "NAME", "The team's name; asked for if not given"),
        Flag::value("member", "NAME", "The first member's name; asked for if not given"),
        Flag::value("directive", "TEXT", "What the team is there for, told to every agent"),
        Flag::value("title", "TEXT", "The first member's role").or("admin"),
        Flag::value("config-path", "PATH", "The team file; else $AC7_CONFIG_PATH").or("./ac7.json"),
        Flag::switch("non-interactive", "Do not ask; --team and --member are required then"),
    ]],
    examples: &[
        ("ac7 setup", "ask for the names"),
        ("ac7 setup --non-interactive --team T --member ann", "ask for nothing, as in a script"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-setup(8)", "ac7-serve(8)"],
    page: ("ac7-setup", include_str!("../../man/ac7-setup.8")),
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let interactive = !parsed.has("non-interactive") && io::stdin().is_terminal();
    let ask = |question: &str| if interactive { ask(question) } else { None };
    let options = options(parsed, &environment, &ask)?;
    let done = setup(&options).map_err(|error| Error::Failed {
        verb: VERB.name,
        fix: fix(&error),
        what: error.to_string().trim_start_matches("setup: ").to_string(),
    })?;
    let file = terminal::path(&done.path);
    terminal::say(format_args!(
        "ac7 setup: wrote {file}: {} is the first member, with every permission",
        options.member
    ));
    if done.kept_kek {
        terminal::say(format_args!("ac7 setup: kept {file}.kek; tokens and TOTP enrolments are new"));
    }
    terminal::say(format_args!(
        "ac7 setup: this token is shown once; give it to ac7 run as AC7_TOKEN; now: ac7 serve"
    ));
    println!("{}", done.token);
    Ok(0)
}

fn fix(error: &identity::Error) -> Option<String> {
    match error {
        identity::Error::Exists(path) => {
            Some(format!("rm {} to begin anew, which ends every token", terminal::path(path)))
        }
        _ => None,
    }
}

/// What was typed, and what `ask` says about names that were not.
fn options(
    parsed: &Parsed,
    env: Environment,
    ask: &dyn Fn(&str) -> Option<String>,
) -> Result<SetupOptions, Error> {
    let needed = |option: &'static str, question: &str| match parsed.text(option)?.or_else(|| ask(question)) {
        Some(name) => Ok(name),
        None => Err(Error::MissingOption { verb: VERB.name, option, called: "NAME" }),
    };
    let path = parsed.path("config-path").or_else(|| env("AC7_CONFIG_PATH").map(PathBuf::from));
    Ok(SetupOptions {
        path: path.unwrap_or_else(|| "./ac7.json".into()),
        team: needed("team", "Name of the team: ")?,
        member: needed("member", "Your name in it (letters, digits, . _ -): ")?,
        directive: parsed.text("directive")?,
        context: None,
        title: parsed.text("title")?,
    })
}

/// A line from standard input, without surrounding white space; `None` if there is none.
fn ask(question: &str) -> Option<String> {
    terminal::hint(format_args!("{question}"));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).ok()?;
    Some(line.trim().to_string()).filter(|answer| !answer.is_empty())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    fn read(words: &[&str], answers: &[&str]) -> Result<SetupOptions, Error> {
        let words = words.iter().map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words)?;
        let answer = |question: &str| {
            let which = usize::from(question.starts_with("Your"));
            answers.get(which).map(|a| (*a).to_string())
        };
        options(&parsed, &|_| None, &answer)
    }

    #[test]
    fn names_are_typed_or_asked_for() {
        let typed = ["--team", "The T", "--member", "ann", "--title", "lead", "--directive", "Ship it."];
        let options = read(&typed, &["other", "bob"]).unwrap();
        assert_eq!((options.team.as_str(), options.member.as_str()), ("The T", "ann"));
        assert_eq!(
            (options.title.as_deref(), options.directive.as_deref()),
            (Some("lead"), Some("Ship it."))
        );
        assert_eq!(options.path, PathBuf::from("./ac7.json"));
        let asked = read(&["--config-path", "x.json"], &["other", "bob"]).unwrap();
        assert_eq!((asked.team.as_str(), asked.member.as_str()), ("other", "bob"));
        assert_eq!((asked.path, asked.title), (PathBuf::from("x.json"), None));
        for (words, option) in [(&[][..], "team"), (&["--team", "T"], "member")] {
            let error = read(words, &[]).unwrap_err();
            let want = format!("ac7 setup: --{option} is required\n  fix: ac7 setup --{option} NAME");
            assert_eq!((error.to_string(), error.code()), (want, 2));
        }
    }
}
