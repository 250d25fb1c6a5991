//! `ac7 setup`: a team, its first member, a token.
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb, environment, team_file, terminal};
use crate::identity::{self, SetupOptions, setup, valid_name};

pub const VERB: Verb = Verb {
    name: "setup",
    group: Group::Team,
    summary: "Make a team, its first member and a token",
    operands: Operands::None,
    flags: &[
        &[
            Flag::value("team", "NAME", "The team's name"),
            Flag::value("directive", "TEXT", "What the team is there for, told to every agent"),
            Flag::value("context", "TEXT", "What everybody should know, told to every agent"),
            Flag::value("member", "NAME", "The first member's name"),
            Flag::value("title", "TEXT", "The first member's role").or(SetupOptions::TITLE),
            Flag::switch("non-interactive", "Do not ask; --team and --member are required then"),
        ],
        team_file::CONFIG,
    ],
    examples: &[
        ("ac7 setup", "ask for everything that is not given"),
        ("ac7 setup --non-interactive --team T --member ann", "ask for nothing, as in a script"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-setup(8)", "ac7-serve(8)"],
    page: "ac7-setup",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let path = team_file::config(parsed, &environment);
    // Before anything is asked.
    if path.symlink_metadata().is_ok() {
        return Err(failed(&identity::Error::Exists(path)));
    }
    let interactive = !parsed.has("non-interactive") && io::stdin().is_terminal();
    let ask = |question: &str| if interactive { ask(question) } else { None };
    let options = options(parsed, &path, &ask)?;
    let done = setup(&options).map_err(|error| failed(&error))?;
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
    writeln!(io::stdout(), "{}", done.token)?;
    Ok(0)
}

fn failed(error: &identity::Error) -> Error {
    let what = error.to_string().trim_start_matches("setup: ").to_string();
    Error::Failed { verb: VERB.name, what, fix: fix(error) }
}

fn fix(error: &identity::Error) -> Option<String> {
    match error {
        identity::Error::Exists(path) => {
            Some(format!("rm {} to begin anew, which ends every token", terminal::path(path)))
        }
        _ => None,
    }
}

/// What was typed, and what `ask` says about the rest: a line, or `None` where nobody can be asked.
fn options(
    parsed: &Parsed,
    path: &Path,
    ask: &dyn Fn(&str) -> Option<String>,
) -> Result<SetupOptions, Error> {
    let needed = |option: &'static str, question: &str, good: &dyn Fn(&str) -> bool, rule: &str| {
        if let Some(given) = parsed.text(option)? {
            return Ok(given);
        }
        loop {
            match ask(question) {
                None => return Err(Error::MissingOption { verb: VERB.name, option, called: "NAME" }),
                Some(answer) if good(&answer) => return Ok(answer),
                Some(_) => terminal::say(format_args!("It has to be {rule}.")),
            }
        }
    };
    let optional = |option: &'static str, question: &str, most: usize| {
        if let Some(given) = parsed.text(option)? {
            return Ok::<_, Error>(Some(given));
        }
        loop {
            match ask(question).filter(|answer| !answer.is_empty()) {
                Some(answer) if answer.chars().count() > most => {
                    terminal::say(format_args!("It has to be at most {most} characters."));
                }
                answer => return Ok(answer),
            }
        }
    };
    let named = |text: &str| (1..=128).contains(&text.chars().count());
    let directive = format!("What it is there for [{}]: ", SetupOptions::DIRECTIVE);
    Ok(SetupOptions {
        path: path.to_path_buf(),
        team: needed("team", "Name of the team: ", &named, "1 to 128 characters")?,
        directive: optional("directive", &directive, 512)?,
        context: optional("context", "What everybody in it should know [nothing]: ", 4096)?,
        member: needed("member", "Your name in it: ", &valid_name, "1 to 128 of letters, digits, . _ -")?,
        title: optional("title", &format!("Your role [{}]: ", SetupOptions::TITLE), 64)?,
    })
}

/// A line from standard input, without surrounding white space; `None` at its end.
fn ask(question: &str) -> Option<String> {
    terminal::hint(format_args!("{question}"));
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim().to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    /// The options, and the questions that were asked.
    fn read(words: &[&str], answers: &[&str]) -> (Result<SetupOptions, Error>, Vec<String>) {
        let words = words.iter().map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words).unwrap();
        let asked = RefCell::new(Vec::new());
        let ask = |question: &str| {
            asked.borrow_mut().push(question.split(' ').take(2).collect::<Vec<_>>().join(" "));
            answers.get(asked.borrow().len() - 1).map(|a| (*a).to_string())
        };
        (options(&parsed, Path::new("x.json"), &ask), asked.into_inner())
    }

    #[test]
    fn what_is_not_typed_is_asked_for() {
        let typed = ["--team", "The T", "--member", "ann", "--title", "lead", "--directive", "Ship it."];
        let (options, asked) = read(&[&typed[..], &["--context", "c"]].concat(), &[]);
        let options = options.unwrap();
        assert!(asked.is_empty(), "{asked:?}");
        assert_eq!((options.team.as_str(), options.member.as_str()), ("The T", "ann"));
        let rest = [options.title.as_deref(), options.directive.as_deref(), options.context.as_deref()];
        assert_eq!(rest, [Some("lead"), Some("Ship it."), Some("c")]);

        let (options, asked) = read(&[], &["", "T", "", "know", "a b", "ann", &"x".repeat(65), "lead"]);
        let options = options.unwrap();
        let want = [
            "Name of",
            "Name of",
            "What it",
            "What everybody",
            "Your name",
            "Your name",
            "Your role",
            "Your role",
        ];
        assert_eq!(asked, want);
        assert_eq!((options.team.as_str(), options.member.as_str()), ("T", "ann"));
        let rest = [options.title.as_deref(), options.directive.as_deref(), options.context.as_deref()];
        assert_eq!(rest, [Some("lead"), None, Some("know")]);
    }

    #[test]
    fn where_nobody_can_be_asked_the_names_are_required() {
        for (words, option) in [(&[][..], "team"), (&["--team", "T"], "member")] {
            let error = read(words, &[]).0.unwrap_err();
            let want = format!("ac7 setup: --{option} is required\n  fix: ac7 setup --{option} NAME");
            assert_eq!((error.to_string(), error.code()), (want, 2));
        }
        let (options, _) = read(&["--team", "T", "--member", "ann"], &[]);
        assert_eq!(options.unwrap().title, None);
    }
}
