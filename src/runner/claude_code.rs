//! A session of Claude Code as a member of a team, in order; taken down in reverse.
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;

use super::capturing::{Capturing, Look, Watchers};
use super::child;
use super::error::Error;
use super::mcp_config::{self, Placed};
use super::options::{AgentOptions, CaptureOptions, Destination};
use super::session::{self, Outcome};
use super::team::{self, Inbox, Team, Trace, channel};
use super::under_way::{Counter, UnderWay};
use crate::agents::claude_code::{self, Arguments, Plan};
use crate::agents::{Agent, Variables, doctor};
use crate::client::Client;
use crate::sys::limits;
use crate::sys::log::Log;

/// Says a line to the user before the terminal is the agent's.
pub type Say<'a> = &'a dyn Fn(&str);

/// Run Claude Code and see to its end. Standard input, output and error and the terminal are the agent's from its start
/// to its end.
///
/// # Errors
/// What kept the session from starting; nothing is left of it then. Once the agent runs, nothing that fails here stops
/// it.
pub fn run(options: &AgentOptions, say: Say<'_>) -> Result<Outcome, Error> {
    let program = Agent::ClaudeCode.find().map_err(Error::NoAgent)?;
    preflight(Agent::ClaudeCode, options)?;
    let log = Arc::new(Log::session(Agent::ClaudeCode.verb()));
    if options.unsafe_tls {
        UNSAFE.iter().for_each(|line| say(line));
    }
    match &options.destination {
        Destination::Local { .. } | Destination::File { .. } => alone(options, program, &log),
        Destination::Broker { url, token } => {
            let client = session::connect(url, token.as_deref(), options.ca_cert.as_deref())?;
            member(options, &client, program, &log, say)
        }
    }
}

/// Look at what a start needs, unless told not to.
pub(super) fn preflight(agent: Agent, options: &AgentOptions) -> Result<(), Error> {
    if options.skip_doctor {
        return Ok(());
    }
    let checks = doctor::preflight(agent);
    // Without a trace neither loopback nor certificates are needed; the first two checks are the others.
    let needed = if options.capture.is_some() { checks.len() } else { 2 };
    let failed = checks.into_iter().take(needed).find(doctor::Check::failed);
    failed.map_or(Ok(()), |failed| Err(Error::Preflight(failed)))
}

/// What is said to whoever turns validation off in the agent.
pub(super) const UNSAFE: [&str; 6] = [
    "+----------------------------------------------------------------------+",
    "| --unsafe-tls: the agent validates no certificate. Whoever is between |",
    "| it and a server that is not decrypted here can read and change what  |",
    "| they say. ac7 itself validates all the same; a root of your own is   |",
    "| better trusted with AC7_CA_CERT.                                     |",
    "+----------------------------------------------------------------------+",
];

/// Capture into the local database or a file, and nothing else.
fn alone(options: &AgentOptions, program: PathBuf, log: &Arc<Log>) -> Result<Outcome, Error> {
    let signals = child::catch_signals().map_err(|why| Error::System { what: "catch signals", why })?;
    let start = |capture: &CaptureOptions| {
        let sink = || session::sink(&options.destination, capture, log);
        Capturing::start(capture, sink, Watchers::default(), log)
    };
    let capturing = options.capture.as_ref().map(start).transpose()?;
    let environment = environment(options, capturing.as_ref());
    let (code, elapsed) = run_child(program, options.arguments.clone(), (&environment, &[]), signals, log)?;
    let captured = capturing.map(|c| c.finish(Vec::new, log));
    Ok(Outcome { code, elapsed, captured, notes: Vec::new() })
}

/// The whole session.
fn member(
    options: &AgentOptions,
    client: &Client,
    program: PathBuf,
    log: &Arc<Log>,
    say: Say<'_>,
) -> Result<Outcome, Error> {
    let briefing = client.briefing().map_err(Error::Client)?;
    log.line("briefing", &[("member", json!(briefing.name))]);
    // From here on there is something to be undone; until here a signal simply ends us.
    let signals = child::catch_signals().map_err(|why| Error::System { what: "catch signals", why })?;
    let under_way = options.capture.is_some().then(Arc::<UnderWay>::default);
    let inbox = Arc::new(Inbox::new(under_way.clone(), log.clone()));
    let mut team = Team::open(client.clone(), briefing, inbox.clone(), log)?;
    let capturing = match &options.capture {
        None => None,
        Some(capture) => {
            let looking = inbox.clone();
            let look: Look = Box::new(move |event, json| looking.look(event, json));
            let counter = under_way.clone().map(Counter::new);
            let watchers = Watchers { counter, look: Some(look) };
            let sink =
                || session::upload(client.apart(), Some(team.me().to_string()), under_way.as_deref(), log);
            Some(Capturing::start(capture, sink, watchers, log)?)
        }
    };
    let trace = capturing.as_ref().zip(under_way).map(|(capturing, under_way)| Trace {
        agent: Agent::ClaudeCode,
        events: capturing.events(),
        under_way,
    });
    let mut notes = Vec::new();
    let (mut config, arguments) = configure(options, &team, &mut notes, log);
    banner(&arguments, &notes, options.quiet, say);
    let notify = team.notifier();
    let deliver = move |message: &crate::team::Message| {
        if inbox.put(message) {
            notify(channel::METHOD, channel::params(message));
        }
    };
    team.start(trace, Box::new(deliver))?;
    let mut environment = environment(options, capturing.as_ref());
    environment.extend(claude_code::member_environment(team.socket(), |name| env::var_os(name)));
    let (code, elapsed) = run_child(program, arguments.all, (&environment, &[]), signals, log)?;

    let open = team.quiet();
    let mut notes = Vec::new();
    if let Placed::InFile(guard) = &mut config {
        notes.extend(guard.restore());
        log.line(".mcp.json restored", &[]);
    }
    let captured = capturing.map(|c| c.finish(|| team::shutdown(&open, log), log));
    notes.extend(team.close());
    Ok(Outcome { code, elapsed, captured, notes })
}

/// Put our server where Claude Code finds it, and our options before the user's.
fn configure(options: &AgentOptions, team: &Team, notes: &mut Vec<String>, log: &Log) -> (Placed, Arguments) {
    let ac7 = env::current_exe().unwrap_or_else(|_| PathBuf::from("ac7"));
    let entry = claude_code::server_entry(&ac7, team.socket());
    let config = match env::current_dir() {
        _ if claude_code::ignores_project(&options.arguments) => {
            Placed::Inline { why: "--strict-mcp-config is given".to_string() }
        }
        Ok(here) => mcp_config::place(&here, &entry, notes),
        Err(why) => Placed::Inline { why: why.to_string() },
    };
    match &config {
        Placed::InFile(_) => log.line(".mcp.json merged", &[]),
        Placed::Inline { why } => {
            log.line(".mcp.json left alone", &[("why", json!(why))]);
            notes.push(format!(".mcp.json is left alone, the agent gets --mcp-config: {why}"));
        }
    }
    let plan = Plan {
        ac7: &ac7,
        instructions: team.instructions(),
        inline: matches!(config, Placed::Inline { .. }).then_some(&entry),
        refuses_to_skip: rustix::process::geteuid().is_root()
            && env::var_os("IS_SANDBOX").is_none_or(|value| value != "1"),
    };
    let arguments = claude_code::arguments(&options.arguments, &plan, |path| fs::read_to_string(path));
    log.line("options injected", &[("options", json!(arguments.injected))]);
    (config, arguments)
}

/// What was done to the agent's options, in a few lines.
fn banner(arguments: &Arguments, notes: &[String], quiet: bool, say: Say<'_>) {
    notes.iter().for_each(|note| say(note));
    if !quiet && !arguments.injected.is_empty() {
        say(&format!("claude gets {}", arguments.injected.join(", ")));
    }
    for (option, why) in &arguments.suppressed {
        say(&format!("{option} is left out: {why}"));
    }
}

fn environment(options: &AgentOptions, capturing: Option<&Capturing>) -> Variables {
    let mut set =
        capturing.map(|c| claude_code::environment(c.place(), |name| env::var_os(name))).unwrap_or_default();
    if options.unsafe_tls {
        set.push(("NODE_TLS_REJECT_UNAUTHORIZED", "0".into()));
    }
    set
}

/// Run the agent with the terminal as its own; `environment` is what is set and what is removed.
pub(super) fn run_child(
    program: PathBuf,
    arguments: Vec<OsString>,
    (set, removed): (&Variables, &[&str]),
    signals: child::Signalled,
    log: &Log,
) -> Result<(u8, std::time::Duration), Error> {
    let started = Instant::now();
    let command: Vec<OsString> = std::iter::once(program.into_os_string()).chain(arguments).collect();
    let child = child::start(&command, set, removed, signals).map_err(Error::Start)?;
    log.line("child started", &[]);
    limits::raise_files(session::FILES);
    let code = child.wait().map_err(Error::Wait)?;
    log.line("child ended", &[("code", json!(code))]);
    Ok((code, started.elapsed()))
}
