//! `ac7 rotate`: a new token for a member, and no other.
use std::io::{self, Write};

use super::error::Error;
use super::flags::{Operands, Parsed};
use super::terminal;
use super::{Group, SUCCESS_OR_FAILURE, Verb, environment, team_file};
use crate::identity::TeamFile;
use crate::sys::clock::now_ms;

pub const VERB: Verb = Verb {
    name: "rotate",
    group: Group::Team,
    summary: "Revoke a member's tokens, print a new one",
    operands: Operands::None,
    flags: &[team_file::MEMBER, team_file::CONFIG, team_file::DB],
    examples: &[
        ("ac7 rotate --member bob", "bob's tokens may have leaked"),
        ("ac7 rotate --member bob --config-path /etc/ac7.json", "those of another team"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-rotate(8)", "ac7-roster(8)"],
    page: ("ac7-rotate", include_str!("../../man/ac7-rotate.8")),
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    rotate(parsed, VERB.name, &team_file::member(parsed, VERB.name)?)
}

/// Rotate, end the sessions, say so, and print the new token.
pub fn rotate(parsed: &Parsed, verb: &'static str, name: &str) -> Result<u8, Error> {
    let path = team_file::config(parsed, &environment);
    let minted =
        TeamFile::update(&path, |file| file.rotate(name, None, now_ms())).map_err(team_file::failed(verb))?;
    terminal::say(format_args!("ac7 {verb}: every other token of {name} is revoked; this one is shown once"));
    // The token first: if the database fails, it is not lost.
    writeln!(io::stdout(), "{}", minted.text)?;
    team_file::with_main(parsed, &environment, verb, |store| store.end_sessions(name, None))?;
    Ok(0)
}
