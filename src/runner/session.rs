//! One session, in order: what it needs, the child, and the way back.
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::child::{self, StartError};
use super::files::{Files, NoPlace};
use super::options::{CaptureOptions, Destination, RunOptions};
use super::totals::Totals;
use super::upstream::{self, BadProxy};
use crate::activity::{Event, What};
use crate::agents::command;
use crate::capture::proxy::{self, Proxy};
use crate::capture::reassemble::Limits;
use crate::capture::redact;
use crate::capture::tap::Queue;
use crate::capture::worker::Worker;
use crate::client::{self, CallerProxy, Client, auth};

use crate::sink::uploader::Uploader;
use crate::sink::{Encoded, LocalSink, Report, Sink};
use crate::sys::log::Log;
use crate::sys::{limits, paths, user};
use crate::tls::{self, SessionCa};

/// Tunnels of the child's own children may still be moving bytes when it ends.
const TUNNELS_GRACE: Duration = Duration::from_secs(2);
/// Open files that are of use: some thousand tunnels.
const FILES: u64 = 16_384;
/// How long the last events may take to where they go.
const DRAIN: Duration = Duration::from_secs(5);

/// What became of a session.
#[derive(Debug)]
pub struct Outcome {
    /// The child's exit code, or 128 and the number of the signal that ended it.
    pub code: u8,
    pub elapsed: Duration,
    /// What was captured; `None` with `--no-trace`.
    pub captured: Option<Captured>,
}

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    pub totals: Totals,
    pub report: Report,
    /// Connections that the child made to the proxy.
    pub connections: u64,
    /// What the user should know besides, a sentence each.
    pub notes: Vec<String>,
}

/// Why there was no session.
#[derive(Debug)]
pub enum Error {
    Trust(tls::Error),
    Proxy(BadProxy),
    Ca(String),
    Files(NoPlace),
    /// The loopback proxy, a thread or the signal handlers could not be had.
    System {
        what: &'static str,
        why: io::Error,
    },
    Client(client::Error),
    /// There is no place for the local database.
    NoHome,
    Pattern(redact::TooShort),
    Start(StartError),
    Wait(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Trust(why) => why.fmt(f),
            Error::Proxy(bad) => write!(f, "cannot use the proxy of {}: {}", bad.variable, bad.why),
            Error::Ca(why) => write!(f, "cannot make the session's certificate authority: {why}"),
            Error::Files(why) => why.fmt(f),
            Error::System { what, why } => write!(f, "cannot {what}: {why}"),
            Error::Client(why) => why.fmt(f),
            Error::NoHome => {
                write!(f, "no place for the database: neither XDG_DATA_HOME nor HOME is an absolute path")
            }
            Error::Pattern(why) => why.fmt(f),
            Error::Start(start) => {
                let what = if start.code() == 127 { "command not found" } else { "cannot execute" };
                write!(f, "{what}: {}: {}", start.program.to_string_lossy().escape_default(), start.why)
            }
            Error::Wait(why) => write!(f, "cannot wait for the command: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// The exit code: as a shell's where the command could not be started, else 1.
    #[must_use]
    pub fn code(&self) -> u8 {
        if let Error::Start(start) = self { start.code() } else { 1 }
    }

    /// What the user can do about it, if there is anything.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        match self {
            Error::Trust(why) => Some(why.fix().to_string()),
            Error::Proxy(_) => {
                Some("--upstream-proxy http://HOST:PORT, or --upstream-proxy none".to_string())
            }
            Error::Files(_) => {
                Some("unset TMPDIR, or point it at a directory that can be written".to_string())
            }
            Error::System { .. } => Some("--no-trace runs the command without the proxy".to_string()),
            Error::Client(why) => why.fix(),
            Error::NoHome => Some("--db PATH".to_string()),
            Error::Ca(_) | Error::Pattern(_) | Error::Start(_) | Error::Wait(_) => None,
        }
    }
}

/// Run a command, captured or not, and see to its end. Standard input, output and error and the terminal are the
/// command's; nothing is printed here.
///
/// # Errors
/// What kept the session from starting. Once the command runs, nothing that fails here stops it.
pub fn run(options: &RunOptions) -> Result<Outcome, Error> {
    let signals = child::catch_signals().map_err(|why| Error::System { what: "catch signals", why })?;
    let started = Instant::now();
    // Without a trace there is nothing to tell, and no file is made.
    let log = Arc::new(if options.capture.is_some() { Log::session("run") } else { Log::default() });
    let capture =
        options.capture.as_ref().map(|c| Capturing::start(c, &options.destination, &log)).transpose()?;
    let environment = capture.as_ref().map(Capturing::environment).unwrap_or_default();
    let child = child::start(&options.command, &environment, signals).map_err(Error::Start)?;
    log.line("child started", &[]);
    // Two descriptors a tunnel; not for the command, which may be too old for so many.
    limits::raise_files(FILES);
    let code = child.wait().map_err(Error::Wait)?;
    log.line("child ended", &[("code", json!(code))]);
    let elapsed = started.elapsed();
    Ok(Outcome { code, elapsed, captured: capture.map(|c| c.finish(&log)) })
}

/// Everything that captures, in the order in which it is taken down.
struct Capturing {
    proxy: Proxy,
    queue: Arc<Queue>,
    worker: Worker<Consumer>,
    files: Files,
}

/// Where the worker's events go.
struct Consumer {
    totals: Totals,
    sink: Box<dyn Sink>,
    log: Arc<Log>,
}

impl Consumer {
    fn take(&mut self, event: &Event, json: String) {
        self.totals.add(event);
        let kind = event.kind();
        self.sink.push(Encoded { ts: event.ts, kind, json });
        if matches!(event.what, What::Llm { .. }) {
            self.log.line("trace: llm_exchange queued", &[]);
        }
    }
}

impl Capturing {
    fn start(
        options: &CaptureOptions,
        destination: &Destination,
        log: &Arc<Log>,
    ) -> Result<Capturing, Error> {
        let roots = upstream::roots(options.ca_cert.as_deref(), log).map_err(Error::Trust)?;
        let trust = roots.client_config().map_err(Error::Trust)?;
        let dialer = upstream::dialer(options).map_err(Error::Proxy)?;
        let only: Vec<String> = options.trace_only.iter().map(|p| p.host().to_string()).collect();
        let only = (!only.is_empty()).then_some(only);
        let ca = SessionCa::new(only.as_deref()).map_err(|why| Error::Ca(why.to_string()))?;
        let files = Files::write(&ca.pem(), &(roots.pem() + &ca.pem())).map_err(Error::Files)?;
        let sink = sink(destination, options, log)?;
        let queue = Queue::new();
        let consumer = Consumer { totals: Totals::default(), sink, log: log.clone() };
        let usual = Limits::default();
        let limits = Limits { whole: options.retain.unwrap_or(usual.whole), ..usual };
        let redaction = redact::Rules::new(&options.redact_patterns).map_err(Error::Pattern)?;
        let worker = Worker::start(queue.clone(), limits, redaction, consumer, Consumer::take)
            .map_err(|why| Error::System { what: "start a thread", why })?;
        let config = proxy::Config { rules: upstream::rules(options), dialer, trust, ca };
        let proxy = Proxy::start(config, queue.clone(), log.clone())
            .map_err(|why| Error::System { what: "listen on 127.0.0.1", why })?;
        Ok(Capturing { proxy, queue, worker, files })
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let place = command::Place {
            port: self.proxy.port(),
            ca: self.files.ca.path(),
            bundle: self.files.bundle.path(),
        };
        command::environment(place, |name| std::env::var_os(name))
    }

    /// Take everything down, in the order of the data, so that what was seen is stored.
    fn finish(self, log: &Log) -> Captured {
        let Capturing { proxy, queue, worker, files } = self;
        let connections = proxy.accepted();
        proxy.stop(TUNNELS_GRACE);
        queue.close();
        let consumer = worker.join();
        let fallback = files.fallback.clone();
        drop(files);
        log.line("certificates removed", &[]);
        let (totals, report) = match consumer {
            Some(consumer) => (consumer.totals, consumer.sink.close(DRAIN)),
            None => (
                Totals::default(),
                Report { reason: Some("the capture thread failed".into()), ..Report::default() },
            ),
        };
        log.line("sink closed", &[("stored", json!(report.stored)), ("dropped", json!(report.dropped))]);
        let mut notes = Vec::new();
        if let Some(place) = fallback {
            notes.push(format!("$TMPDIR cannot be written; certificates were kept in {}", place.display()));
        }
        if upstream::variable("NODE_TLS_REJECT_UNAUTHORIZED").is_some_and(|value| value == "0") {
            notes.push(
                "NODE_TLS_REJECT_UNAUTHORIZED=0 is not obeyed; AC7_CA_CERT names a root to trust".into(),
            );
        }
        Captured { totals, report, connections, notes }
    }
}

/// Where the events go. Neither a database that cannot be written nor a broker that is down keeps the command from
/// running: the sink opens its way by itself, on a thread of its own.
fn sink(destination: &Destination, options: &CaptureOptions, log: &Arc<Log>) -> Result<Box<dyn Sink>, Error> {
    let no_thread = |why| Error::System { what: "start a thread", why };
    match destination {
        Destination::Local { db } => {
            let path = db.clone().or_else(|| paths::data_dir().map(|dir| dir.join("activity.db")));
            let path = path.ok_or(Error::NoHome)?;
            Ok(Box::new(LocalSink::new(path, user::login_name())))
        }
        Destination::Broker { url, token } => {
            let given =
                auth::Given { url: Some(url.clone()), token: token.clone(), ..auth::Given::default() };
            // A saved login counts here: somebody named this broker, or there would be another destination.
            let access = auth::from_environment(&given).map_err(Error::Client)?;
            let ca_certs =
                options.ca_cert.as_ref().or(access.ca_cert.as_ref()).into_iter().cloned().collect();
            let proxy = CallerProxy::from_vars(url, upstream::variable);
            let how = client::Options { ca_certs, proxy, ..client::Options::default() };
            let token = access.require_token().map_err(Error::Client)?;
            let client = Client::new(url, Some(token), &how).map_err(Error::Client)?;
            let log = log.clone();
            let line = move |what: &str, fields: &[(&str, String)]| {
                let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, json!(value))).collect();
                log.line(what, &fields);
            };
            Ok(Box::new(Uploader::start(client, None, Box::new(line)).map_err(no_thread)?))
        }
    }
}
