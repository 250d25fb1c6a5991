//! A session of codex as a member of a team, in order; taken down in reverse.
//!
//! The agent is `codex app-server`, without a screen of its own: its turns begin with what the team says.
mod app_server;
mod home;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

pub use self::home::Error as HomeError;

use self::app_server::{AppServer, Heard};
use self::home::{Callers, CodexHome};
use super::capturing::{Capturing, Look, Watchers};
use super::child::{self, Signalled, StartError};
use super::claude_code::{Say, UNSAFE, preflight, run_child};
use super::error::Error;
use super::options::{CaptureOptions, CodexOptions, Destination};
use super::session::{self, Outcome};
use super::team::{self, Inbox, Team, Trace, channel};
use super::under_way::{Counter, UnderWay};
use crate::agents::codex::{self, Conversation, Message, Opening, Step};
use crate::agents::{Agent, Variables};
use crate::client::Client;
use crate::sys::log::Log;
use crate::sys::{limits, paths};

/// News that may wait for the conversation.
const NEWS: usize = 1024;
/// For so long codex is asked to end by each means, the last of which it cannot refuse.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What the conversation hears.
enum News {
    Codex(Heard),
    Team(Message),
    Signal(i32),
}

/// How a conversation came to its end.
enum Ending {
    /// codex has closed its output.
    Ended,
    /// We got this signal.
    Signal(i32),
    /// It cannot go on.
    Broken(String),
}

/// Run codex and see to its end.
///
/// # Errors
/// What kept the session from starting; nothing is left of it then. Once codex runs, nothing that fails here stops it.
pub fn run(options: &CodexOptions, say: Say<'_>) -> Result<Outcome, Error> {
    let program = Agent::Codex.find().map_err(Error::NoAgent)?;
    preflight(Agent::Codex, &options.agent)?;
    let log = Arc::new(Log::session(Agent::Codex.verb()));
    if options.agent.unsafe_tls {
        UNSAFE.iter().for_each(|line| say(line));
    }
    match &options.agent.destination {
        Destination::Local { .. } | Destination::File { .. } => alone(options, program, &log),
        Destination::Broker { url, token } => {
            let callers = home::callers().map_err(Error::Codex)?;
            let client = session::connect(url, token.as_deref(), options.agent.ca_cert.as_deref())?;
            member(options, &client, &callers, &program, &log, say)
        }
    }
}

/// Capture the user's own codex into the local database or a file, and nothing else.
fn alone(options: &CodexOptions, program: PathBuf, log: &Arc<Log>) -> Result<Outcome, Error> {
    let signals = child::catch_signals().map_err(|why| Error::System { what: "catch signals", why })?;
    let start = |capture: &CaptureOptions| {
        let sink = || session::sink(&options.agent.destination, capture, log);
        Capturing::start(capture, sink, Watchers::default(), log)
    };
    let capturing = options.agent.capture.as_ref().map(start).transpose()?;
    let (set, removed) = environment(options, capturing.as_ref());
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(cwd) = &options.cwd {
        arguments.extend(["--cd".into(), cwd.into()]);
    }
    if let Some(model) = &options.model {
        arguments.extend(["--model".into(), model.into()]);
    }
    arguments.extend(options.agent.arguments.iter().cloned());
    let (code, elapsed) = run_child(program, arguments, (&set, removed), signals, log)?;
    let captured = capturing.map(|c| c.finish(Vec::new, log));
    Ok(Outcome { code, elapsed, captured, notes: Vec::new() })
}

/// The whole session.
fn member(
    options: &CodexOptions,
    client: &Client,
    callers: &Callers,
    program: &Path,
    log: &Arc<Log>,
    say: Say<'_>,
) -> Result<Outcome, Error> {
    let cwd = match &options.cwd {
        Some(cwd) => cwd.canonicalize().map_err(|why| Error::Directory { path: cwd.clone(), why })?,
        None => env::current_dir().map_err(|why| Error::Directory { path: ".".into(), why })?,
    };
    let briefing = client.briefing().map_err(Error::Client)?;
    log.line("briefing", &[("member", json!(briefing.name))]);
    // From here on there is something to be undone; until here a signal simply ends us.
    let signals = child::catch_signals().map_err(|why| Error::System { what: "catch signals", why })?;
    let under_way = options.agent.capture.is_some().then(Arc::<UnderWay>::default);
    let inbox = Arc::new(Inbox::new(under_way.clone(), log.clone()));
    let mut team = Team::open(client.clone(), briefing, inbox.clone(), log)?;
    let capturing = match &options.agent.capture {
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
        agent: Agent::Codex,
        events: capturing.events(),
        under_way,
    });
    let ac7 = env::current_exe().unwrap_or_else(|_| PathBuf::from("ac7"));
    let socket = team.socket().to_string_lossy().into_owned();
    let home = CodexHome::make(paths::cache_dir().as_deref(), callers, &ac7, &[(codex::SOCKET, &socket)])
        .map_err(Error::Codex)?;
    log.line("CODEX_HOME made", &[("path", json!(home.path().to_string_lossy()))]);

    let (news, heard) = sync_channel(NEWS);
    team.start(trace, Box::new(deliver(inbox.clone(), news.clone(), log)))?;
    let (mut set, removed) = environment(options, capturing.as_ref());
    set.push(("CODEX_HOME", home.path().into()));
    let started = Instant::now();
    let said = news.clone();
    let hear = move |heard| drop(said.send(News::Codex(heard)));
    let server = AppServer::start(program, &options.agent.arguments, &cwd, (&set, removed), hear);
    let server = server
        .map_err(|why| Error::Start(StartError { program: program.as_os_str().to_os_string(), why }))?;
    log.line("child started", &[]);
    limits::raise_files(session::FILES);
    let opening = Opening {
        cwd: cwd.to_string_lossy().into_owned(),
        instructions: team.instructions().to_string(),
        model: options.model.clone(),
    };
    let told = Told { inbox: &inbox, say, quiet: options.quiet, log, notes: Vec::new() };
    let (code, mut notes) = attend(server, opening, signals, (news, heard), told)?;
    let elapsed = started.elapsed();

    let open = team.quiet();
    drop(home);
    log.line("CODEX_HOME removed", &[]);
    let captured = capturing.map(|c| c.finish(|| team::shutdown(&open, log), log));
    notes.extend(team.close());
    Ok(Outcome { code, elapsed, captured, notes })
}

/// Takes the team's messages for the conversation.
fn deliver(
    inbox: Arc<Inbox>,
    news: SyncSender<News>,
    log: &Arc<Log>,
) -> impl Fn(&crate::team::Message) + Send + use<> {
    let log = log.clone();
    move |message| {
        if !inbox.put(message) {
            return;
        }
        let text = channel::text(message);
        match news.try_send(News::Team(Message { id: message.id.clone(), text })) {
            // After the end nobody listens.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                log.line("message left to recent", &[("id", json!(message.id)), ("by", json!("codex"))]);
            }
        }
    }
}

/// What to set in the child's environment, and what to take out.
fn environment(
    options: &CodexOptions,
    capturing: Option<&Capturing>,
) -> (Variables, &'static [&'static str]) {
    let mut set: Variables =
        capturing.map(|c| codex::environment(c.place(), |name| env::var_os(name))).unwrap_or_default();
    if options.agent.unsafe_tls {
        set.push(("NODE_TLS_REJECT_UNAUTHORIZED", "0".into()));
    }
    (set, if capturing.is_some() { &codex::REMOVED } else { &[] })
}

/// Who is told what becomes of the conversation.
struct Told<'a> {
    inbox: &'a Inbox,
    say: Say<'a>,
    quiet: bool,
    log: &'a Log,
    notes: Vec<String>,
}

impl Told<'_> {
    /// Carry steps out. Gives why there is no going on, if there is not.
    fn perform(&mut self, steps: Vec<Step>, server: &AppServer) -> Option<String> {
        for step in steps {
            match step {
                Step::Send(what) if server.send(&what) => {}
                Step::Send(_) => return Some("codex does not read what it is told".to_string()),
                Step::Taken(ids) => {
                    self.inbox.taken(&ids);
                }
                Step::Lost(ids, why) => {
                    for id in &ids {
                        self.log.line("message lost", &[("id", json!(id)), ("why", json!(why))]);
                    }
                    self.notes.push(format!("{} did not reach codex: {why}", counted(ids.len())));
                }
                Step::Show(text) if self.quiet => drop(text),
                Step::Show(text) => (self.say)(&format!("codex: {text}")),
                Step::Note(what, detail) => self.log.line(what, &[("detail", json!(detail))]),
                Step::End(why) => return Some(why),
            }
        }
        None
    }
}

fn counted(messages: usize) -> String {
    if messages == 1 { "1 message".to_string() } else { format!("{messages} messages") }
}

/// Lead the conversation to its end; gives the exit code and what the user should know.
fn attend(
    mut server: AppServer,
    opening: Opening,
    signals: Signalled,
    (news, heard): (SyncSender<News>, Receiver<News>),
    mut told: Told<'_>,
) -> Result<(u8, Vec<String>), Error> {
    // A signal is not worth waiting for whoever is slow: it is tried again with the next one.
    let watch = signals
        .watch(move |number| drop(news.try_send(News::Signal(number))))
        .map_err(|why| Error::System { what: "start a thread", why })?;
    let mut conversation = Conversation::new(opening);
    let ending = converse(&mut conversation, &server, &heard, &mut told);
    if !matches!(ending, Ending::Ended) {
        let steps = conversation.end();
        // Whether it reads this does not matter any more.
        let _ = told.perform(steps, &server);
    }
    wind_down(&mut conversation, &mut server, &heard, &mut told);
    let left = conversation.left().len();
    // Whoever still has something to say would wait for us.
    drop(heard);
    let word = server.last_word();
    let status = server.reap().map_err(Error::Wait)?;
    drop(watch);
    let code = child::code(status);
    told.log.line("child ended", &[("code", json!(code))]);
    let Told { mut notes, .. } = told;
    if left > 0 {
        notes.push(format!("{} did not reach codex: the session has ended", counted(left)));
    }
    Ok((exit_code(ending, status, word, &mut notes), notes))
}

fn exit_code(ending: Ending, status: ExitStatus, word: Option<String>, notes: &mut Vec<String>) -> u8 {
    let (code, why) = match ending {
        Ending::Signal(number) => return u8::try_from(128 + number).unwrap_or(1),
        Ending::Ended if status.success() => return 0,
        Ending::Ended => (child::code(status), format!("codex ended by itself: {status}")),
        Ending::Broken(why) => (1, why),
    };
    notes.push(why);
    notes.extend(word.map(|word| format!("the last that codex wrote: {word}")));
    code
}

fn converse(
    conversation: &mut Conversation,
    server: &AppServer,
    heard: &Receiver<News>,
    told: &mut Told<'_>,
) -> Ending {
    if let Some(why) = told.perform(conversation.begin(), server) {
        return Ending::Broken(why);
    }
    loop {
        let news = match conversation.wake() {
            Some(at) => heard.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = Instant::now();
        let steps = match news {
            Ok(News::Codex(Heard::Said(said))) => conversation.receive(&said, now),
            Ok(News::Codex(Heard::Noise)) => vec![Step::Note("codex said what is no JSON", String::new())],
            Ok(News::Codex(Heard::Ended)) | Err(RecvTimeoutError::Disconnected) => return Ending::Ended,
            Ok(News::Team(message)) => conversation.message(message, now),
            Ok(News::Signal(number)) => return Ending::Signal(number),
            Err(RecvTimeoutError::Timeout) => conversation.tick(now),
        };
        if let Some(why) = told.perform(steps, server) {
            return Ending::Broken(why);
        }
    }
}

/// Close its input, wait, ask it to end, wait, end it. What it says meanwhile is still heard. A signal of ours ends it
/// at once.
fn wind_down(
    conversation: &mut Conversation,
    server: &mut AppServer,
    heard: &Receiver<News>,
    told: &mut Told<'_>,
) {
    server.close_input();
    for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
        if let Some(signal) = signal {
            told.log.line("child asked to end", &[("signal", json!(format!("{signal:?}")))]);
            server.signal(signal);
        }
        let until = Instant::now() + PATIENCE;
        let mut silent = false;
        while !(silent && server.has_ended()) && Instant::now() < until {
            match heard.recv_timeout(LOOK) {
                Ok(News::Codex(Heard::Said(said))) => {
                    let steps = conversation.receive(&said, Instant::now());
                    // There is nobody to send to.
                    let steps = steps.into_iter().filter(|step| !matches!(step, Step::Send(_))).collect();
                    let _ = told.perform(steps, server);
                }
                Ok(News::Signal(_)) => server.signal(Signal::KILL),
                Ok(_) => {}
                Err(_) => silent = true,
            }
        }
        if server.has_ended() {
            return;
        }
    }
}
