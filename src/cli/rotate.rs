//! `ac7 rotate`: a new token for a member, and no other; or a new key pair for web push.
use std::io::{self, Write};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal;
use super::{Group, SUCCESS_OR_FAILURE, Verb, environment, team_file};
use crate::identity::{KekPlace, TeamFile};
use crate::store::main::Store;
use crate::sys::clock::now_ms;

pub const VERB: Verb = Verb {
    name: "rotate",
    group: Group::Team,
    summary: "Replace a member's tokens, or the key of web push",
    operands: Operands::None,
    flags: &[
        team_file::MEMBER,
        &[Flag::switch("vapid", "The key pair of web push; browsers have to subscribe again")],
        team_file::CONFIG,
        team_file::DB,
    ],
    examples: &[
        ("ac7 rotate --member bob", "bob's tokens may have leaked"),
        ("ac7 rotate --vapid", "the key that sealed the old pair (KEK) is lost"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-rotate(8)", "ac7-roster(8)"],
    page: "ac7-rotate",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    match (parsed.has("vapid"), parsed.get("member")) {
        (true, Some(_)) => Err(parsed.conflict("vapid", "member")),
        (true, None) => vapid(parsed),
        (false, _) => rotate(parsed, VERB.name, &team_file::member(parsed, VERB.name)?),
    }
}

/// Make a new pair, forget who subscribed with the old one, say so, and print the public key.
fn vapid(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, path) = (VERB.name, team_file::config(parsed, &environment));
    let failed = team_file::failed(verb);
    TeamFile::load(&path).map_err(&failed)?;
    // Made if it is lost: what it sealed cannot be opened any more.
    let kek = KekPlace::of(&path).for_sealing().map_err(&failed)?;
    let public = TeamFile::update(&path, |file| Ok(file.new_vapid(&kek))).map_err(&failed)?;
    writeln!(io::stdout(), "{public}")?;
    let forget = |store: &Store| store.drop_subscriptions_but(&public);
    let gone = team_file::with_main(parsed, &environment, verb, forget)?.unwrap_or(0);
    terminal::say(format_args!(
        "ac7 {verb}: web push has a new key pair; subscriptions that ended with the old one: {gone}"
    ));
    Ok(0)
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
