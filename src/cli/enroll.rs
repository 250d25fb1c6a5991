//! `ac7 enroll`: one-time codes for a member.
use std::io::{self, BufRead, Write};

use super::error::Error;
use super::flags::{Operands, Parsed};
use super::terminal;
use super::terminal::Screen;
use super::{Group, Verb, environment, qr, team_file, text};
use crate::identity::{self, KekPlace, TeamFile, TotpSecret};
use crate::sys::clock::now_ms;

/// How often a wrong code may be typed.
const TRIES: usize = 3;

pub const VERB: Verb = Verb {
    name: "enroll",
    group: Group::Team,
    summary: "Set up one-time codes for a member, with a QR code",
    operands: Operands::None,
    flags: &[team_file::MEMBER, team_file::CONFIG, team_file::DB],
    examples: &[
        ("ac7 enroll --member ann", "scan the code, type what the authenticator shows"),
        ("ac7 enroll --member ann --db /var/lib/ac7/ac7.db", "end the sessions there"),
    ],
    exits: &[
        ("0", "done"),
        ("1", "it failed, or the code was not confirmed: the old secret still holds"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7-enroll(8)", "ac7-serve(8)"],
    page: "ac7-enroll",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, path) = (VERB.name, team_file::config(parsed, &environment));
    let name = team_file::member(parsed, verb)?;
    let failed = team_file::failed(verb);
    let (file, _) = TeamFile::load(&path).map_err(&failed)?;
    if file.member(&name).is_none() {
        return Err(failed(identity::Error::NoMember(name)));
    }
    let secret = TotpSecret::new();
    // Before anybody scans anything: without a key it would be in vain.
    let sealed = secret.seal(&KekPlace::of(&path), &name).map_err(&failed)?;
    let (uri, screen) = (secret.uri(&file.team.name, &name), Screen::stdout());
    let mut out = io::stdout();
    if let Some(drawn) = qr::draw(&uri, screen.utf8, screen.colour) {
        write!(out, "{drawn}")?;
    }
    writeln!(out, "{uri}")?;
    out.flush()?;
    let ask = |question: &str| {
        terminal::hint(format_args!("{question}"));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).ok()?;
        Some(line.trim().to_string()).filter(|code| !code.is_empty())
    };
    match confirmed(&secret, ask, now_ms) {
        Confirmed::Yes => {}
        Confirmed::Gave => return Err(Error::failed(verb, "no code was given; nothing was changed")),
        Confirmed::Wrong => {
            return Err(Error::failed(verb, format!("{TRIES} codes were wrong; nothing was changed")));
        }
    }
    TeamFile::update(&path, |file| file.set_totp(&name, sealed)).map_err(&failed)?;
    team_file::with_main(parsed, &environment, verb, |store| {
        store.forget_totp(&name)?;
        store.end_sessions(&name, None)
    })?;
    terminal::say(format_args!(
        "ac7 {verb}: {} can log in with codes of this secret alone",
        text::line(&name, true)
    ));
    Ok(0)
}

/// How the question for a code ended.
#[derive(Debug, PartialEq, Eq)]
enum Confirmed {
    Yes,
    /// Nothing was typed.
    Gave,
    Wrong,
}

fn confirmed(secret: &TotpSecret, ask: impl Fn(&str) -> Option<String>, now: impl Fn() -> u64) -> Confirmed {
    for left in (0..TRIES).rev() {
        let Some(typed) = ask("Code that the authenticator shows (empty to give up): ") else {
            return Confirmed::Gave;
        };
        let code: String = typed.chars().filter(|c| *c != ' ').collect();
        if secret.step_of(&code, now()).is_some() {
            return Confirmed::Yes;
        }
        if left > 0 {
            terminal::say(format_args!("That is not the code of now; is the clock right?"));
        }
    }
    Confirmed::Wrong
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn three_tries_and_no_more() {
        // The secret and the first code of RFC 6238's vectors.
        let secret = TotpSecret::parse(b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap();
        for (typed, want, left) in [
            (&["287082"][..], Confirmed::Yes, 0),
            (&["287 082"], Confirmed::Yes, 0),
            (&["1", "x", "287082"], Confirmed::Yes, 0),
            (&["1", "2", "3", "287082"], Confirmed::Wrong, 1),
            (&["1", "", "287082"], Confirmed::Gave, 1),
            (&[], Confirmed::Gave, 0),
        ] {
            let answers = RefCell::new(typed.iter().rev().collect::<Vec<_>>());
            let ask =
                |_: &str| answers.borrow_mut().pop().map(|a| (*a).to_string()).filter(|a| !a.is_empty());
            assert_eq!(confirmed(&secret, ask, || 59_000), want, "{typed:?}");
            assert_eq!(answers.borrow().len(), left, "{typed:?}");
        }
    }
}
