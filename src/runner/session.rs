//! A command under capture, in order: what it needs, the child, and the way back.
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::capturing::{Captured, Capturing, Watchers};
use super::child;
use super::error::Error;
use super::options::{CaptureOptions, Destination, RunOptions};
use super::under_way::UnderWay;
use super::upstream;
use crate::agents::command;
use crate::client::{self, CallerProxy, Client, auth};
use crate::sink::uploader::Uploader;
use crate::sink::{FileSink, LocalSink, Sink};
use crate::sys::log::Log;
use crate::sys::{limits, paths, user};

/// Open files that are of use: some thousand tunnels.
pub(super) const FILES: u64 = 16_384;

/// What became of a session.
#[derive(Debug)]
pub struct Outcome {
    /// The child's exit code, or 128 and the number of the signal that ended it.
    pub code: u8,
    pub elapsed: Duration,
    /// What was captured; `None` with `--no-trace`.
    pub captured: Option<Captured>,
    /// What else the user should know, a sentence each.
    pub notes: Vec<String>,
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
    let start = |capture: &CaptureOptions| {
        let sink = || sink(&options.destination, capture, &log);
        Capturing::start(capture, sink, Watchers::default(), &log)
    };
    let capture = options.capture.as_ref().map(start).transpose()?;
    let environment = capture
        .as_ref()
        .map(|c| command::environment(c.place(), |name| std::env::var_os(name)))
        .unwrap_or_default();
    let child = child::start(&options.command, &environment, &[], signals).map_err(Error::Start)?;
    log.line("child started", &[]);
    // Two descriptors a tunnel; not for the command, which may be too old for so many.
    limits::raise_files(FILES);
    let code = child.wait().map_err(Error::Wait)?;
    log.line("child ended", &[("code", json!(code))]);
    let elapsed = started.elapsed();
    let captured = capture.map(|c| c.finish(Vec::new, &log));
    Ok(Outcome { code, elapsed, captured, notes: Vec::new() })
}

/// Where the events go. Neither a database that cannot be written nor a broker that is down keeps the command from
/// running: the sink opens its way by itself, on a thread of its own. A file is there at once, or the user is told.
pub(super) fn sink(
    destination: &Destination,
    options: &CaptureOptions,
    log: &Arc<Log>,
) -> Result<Box<dyn Sink>, Error> {
    match destination {
        Destination::Local { db } => local(db.as_deref()),
        Destination::File { path } => {
            let sink = FileSink::create(path, &user::login_name());
            Ok(Box::new(sink.map_err(|why| Error::Output { path: path.clone(), why })?))
        }
        Destination::Broker { url, token } => {
            let client = connect(url, token.as_deref(), options.ca_cert.as_deref())?;
            upload(client, None, None, log)
        }
    }
}

/// A sink into the local database.
fn local(db: Option<&std::path::Path>) -> Result<Box<dyn Sink>, Error> {
    let usual = || paths::data_dir().map(|dir| dir.join("activity.db"));
    let path = db.map(std::path::Path::to_path_buf).or_else(usual).ok_or(Error::NoHome)?;
    Ok(Box::new(LocalSink::new(path, user::login_name())))
}

/// A sink to the broker, with a client of its own. Without a `member` the broker is asked for the name. `under_way` is
/// told what waits there.
pub(super) fn upload(
    client: Client,
    member: Option<String>,
    under_way: Option<&UnderWay>,
    log: &Arc<Log>,
) -> Result<Box<dyn Sink>, Error> {
    let log = log.clone();
    let line = move |what: &str, fields: &[(&str, String)]| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, json!(value))).collect();
        log.line(what, &fields);
    };
    let uploader = Uploader::start(client, member, Box::new(line));
    let uploader = uploader.map_err(|why| Error::System { what: "start a thread", why })?;
    if let Some(under_way) = under_way {
        under_way.watch(Box::new(uploader.backlog()));
    }
    Ok(Box::new(uploader))
}

/// A client for the broker that the options or the environment name; nothing is sent yet.
pub(super) fn connect(
    url: &str,
    token: Option<&str>,
    ca_cert: Option<&std::path::Path>,
) -> Result<Client, Error> {
    let given = auth::Given {
        url: Some(url.to_string()),
        token: token.map(str::to_string),
        ..auth::Given::default()
    };
    // A saved login counts here: somebody named this broker, or there would be another destination.
    let access = auth::from_environment(&given).map_err(Error::Client)?;
    let ca_certs = ca_cert.or(access.ca_cert.as_deref()).into_iter().map(Into::into).collect();
    let proxy = CallerProxy::from_vars(url, upstream::variable);
    let how = client::Options { ca_certs, proxy, ..client::Options::default() };
    let token = access.require_token().map_err(Error::Client)?;
    Client::new(url, Some(token), &how).map_err(Error::Client)
}
