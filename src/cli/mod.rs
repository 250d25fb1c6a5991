//! The command line: what was typed becomes options, the room that does the work is called, its result is shown.
//!
//! Comes in: the words after `ac7`, and the terminal. Goes out: data on standard output, talk on standard error, an
//! exit status. It does no work of its own: every verb reads its table of options ([`flags`]), turns it into the
//! options of one room, and calls that.
mod backup;
mod broker;
mod capture;
mod check;
mod claude_code;
pub mod codes;
mod codex;
pub mod completions;
mod connect;
mod doctor;
mod enroll;
mod enroll_requests;
mod error;
mod export;
pub mod flags;
pub mod format;
pub mod help;
mod hook;
mod logs;
pub mod manual;
mod mcp_bridge;
pub mod mdoc;
mod member;
mod objectives;
mod page;
mod progress;
mod prune_traces;
mod push;
mod qr;
mod roster;
mod rotate;
mod rows;
mod run;
mod serve;
mod service;
mod setup;
mod source;
mod stats;
mod status;
mod summary;
mod tail;
mod team_file;
pub mod terminal;
pub mod text;
mod traces;
mod usage;
pub mod view;

use std::env;
use std::ffi::OsString;

use error::Error;
use flags::{Flag, Operands, Parsed};

use crate::sys::{limits, umask};

/// A verb and everything that is told about it.
pub struct Verb {
    /// One word, or two (`traces show`).
    pub name: &'static str,
    pub group: Group,
    /// What it does, as an imperative without a full stop.
    pub summary: &'static str,
    pub operands: Operands,
    /// Its options; tables are shared where verbs take the same ones.
    pub flags: &'static [&'static [Flag]],
    /// Command lines that can be copied, with what they do.
    pub examples: &'static [(&'static str, &'static str)],
    pub exits: &'static [(&'static str, &'static str)],
    /// Other pages of the manual.
    pub see_also: &'static [&'static str],
    /// What `man` calls its page.
    pub page: &'static str,
    run: fn(&Parsed) -> Result<u8, Error>,
}

/// Where the overview lists a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Capture,
    Read,
    Team,
    Operate,
    Help,
    /// What agents start by themselves.
    Programs,
}

/// Every verb, in the order of the overview.
pub const VERBS: &[&Verb] = &[
    &run::VERB,
    &claude_code::VERB,
    &codex::VERB,
    &traces::VERB,
    &traces::SHOW,
    &page::VERB,
    &export::VERB,
    &stats::VERB,
    &usage::VERB,
    &setup::VERB,
    &member::LIST,
    &member::CREATE,
    &member::UPDATE,
    &member::DELETE,
    &roster::VERB,
    &rotate::VERB,
    &enroll::VERB,
    &connect::VERB,
    &enroll_requests::VERB,
    &enroll_requests::LIST,
    &enroll_requests::APPROVE,
    &enroll_requests::REJECT,
    &objectives::LIST,
    &objectives::VIEW,
    &objectives::CREATE,
    &objectives::UPDATE,
    &objectives::COMPLETE,
    &objectives::CANCEL,
    &objectives::REASSIGN,
    &objectives::WATCH,
    &objectives::DISCUSS,
    &push::VERB,
    &tail::VERB,
    &serve::VERB,
    &status::VERB,
    &logs::VERB,
    &service::INSTALL,
    &service::UNINSTALL,
    &service::START,
    &service::STOP,
    &service::RESTART,
    &service::RELOAD,
    &service::STATUS,
    &service::LOGS,
    &service::SET_ENV,
    &backup::VERB,
    &backup::RESTORE,
    &check::VERB,
    &prune_traces::VERB,
    &doctor::VERB,
    &completions::VERB,
    &help::VERB,
    &mcp_bridge::VERB,
    &hook::VERB,
];

const SUCCESS_OR_FAILURE: &[(&str, &str)] =
    &[("0", "done"), ("1", "it failed"), ("2", "the command line makes no sense")];

/// Do what the words after `ac7` ask for. Gives the exit status; errors have been printed by then.
#[must_use]
pub fn main(args: Vec<OsString>) -> u8 {
    umask::make_private();
    limits::hide_memory();
    dispatch(args).unwrap_or_else(|error| {
        let code = error.code();
        if code != 0 {
            terminal::say(codes::coded(&error.to_string()));
        }
        code
    })
}

fn dispatch(mut args: Vec<OsString>) -> Result<u8, Error> {
    let word =
        |i: usize, args: &[OsString]| args.get(i).and_then(|a| a.to_str()).unwrap_or_default().to_string();
    let first = word(0, &args);
    match first.as_str() {
        "-h" | "--help" => return help::overview(),
        "-V" | "-v" | "--version" => return help::version(),
        _ if args.is_empty() => return help::overview(),
        _ => {}
    }
    let two = format!("{first} {}", word(1, &args));
    let Some(verb) = find(&two).or_else(|| find(&first)) else {
        let known = || VERBS.iter().map(|v| v.name);
        let typed = args.swap_remove(0).to_string_lossy().into_owned();
        // `member` alone begins several verbs.
        let begun = known().find(|name| name.split_once(' ').is_some_and(|(word, _)| word == typed));
        let near = begun.or_else(|| flags::nearest(&typed, known().filter(|name| !name.contains(' '))));
        return Err(Error::UnknownVerb { near, typed });
    };
    let rest = args.split_off(verb.name.split(' ').count());
    let parsed = flags::parse(verb.name, verb.flags, verb.operands, rest)?;
    match (parsed.help, parsed.version) {
        (true, _) => help::of(verb),
        (_, true) => help::version(),
        _ => (verb.run)(&parsed),
    }
}

/// Looks a variable of the environment up; one that is empty counts as absent.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of the environment; one that is empty or not UTF-8 counts as absent.
fn environment(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn find(name: &str) -> Option<&'static Verb> {
    VERBS.iter().copied().find(|verb| verb.name == name)
}
