//! The verb `ac7 serve`: a broker that lives until a signal ends it.
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Broker, Config, Error, Limits, Log, WORKERS};
use crate::sys::limits;
use crate::sys::socket::listening_stdin;

/// File descriptors that are not clients': private socket, databases, log, listener.
const RESERVED: u64 = 64 + 4 * WORKERS as u64;
/// The highest limit that is asked for.
const WANTED_FILES: u64 = 65_536;

/// What the verb was told. What is `None` comes from the team file or is the default.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// `--host`, `AC7_HOST`.
    pub host: Option<String>,
    /// `--port`, `AC7_PORT`.
    pub port: Option<u16>,
    /// `--config-path`, `AC7_CONFIG_PATH`, default `./ac7.json`.
    pub config_path: PathBuf,
    /// `--db`, `AC7_DB_PATH`, default `./ac7.db`.
    pub db: PathBuf,
    /// `--tls self-signed`.
    pub self_signed: bool,
    /// `--activity-db`, `AC7_ACTIVITY_DB_PATH`, default the main file's name with `-activity` before its extension.
    pub activity_db: Option<PathBuf>,
}

impl ServeOptions {
    /// Where the activity database is.
    #[must_use]
    pub fn activity_db(&self) -> PathBuf {
        self.activity_db.clone().unwrap_or_else(|| {
            let mut name = self.db.file_stem().unwrap_or_default().to_os_string();
            name.push("-activity");
            if let Some(extension) = self.db.extension() {
                name.push(".");
                name.push(extension);
            }
            self.db.with_file_name(name)
        })
    }
}

/// Serve until SIGTERM or SIGINT, then drain. SIGHUP reads the team file anew.
///
/// It changes the whole process: no core dumps, no new privileges, as many file descriptors as the system allows.
///
/// # Errors
/// The broker cannot start.
pub fn serve(options: ServeOptions) -> Result<(), Error> {
    // A core would hold tokens and conversations. Both are precautions: without them the broker works as well.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_no_new_privs(true);
    let (clients, streams) = places(limits::raise_files(WANTED_FILES));
    let limits = Limits { clients, streams, ..Limits::default() };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Error::System { what: "listen to signals", error })?;
    let log = Log::stderr();
    let activity_db = options.activity_db();
    let broker = Broker::start(Config {
        listener: listening_stdin(),
        host: options.host,
        port: options.port,
        config_path: options.config_path,
        db: options.db,
        self_signed: options.self_signed,
        activity_db,
        limits: limits.clone(),
        log: log.clone(),
    })?;
    let address = broker.address();
    let certificate = broker.certificate();
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let _ = writeln!(io::stderr(), "ac7 serve: listening on {scheme}://{address}");
    if let Some((path, sha256)) = &certificate {
        let _ = writeln!(io::stderr(), "ac7 serve: certificate {}, SHA-256 {sha256}", path.display());
    }
    log.line(
        "listening",
        &json!({"address": address.to_string(), "clients": limits.clients, "streams": limits.streams}),
    );
    for signal in signals.forever() {
        if signal != SIGHUP {
            log.line("stopping", &json!({"signal": signal}));
            break;
        }
        broker.reload();
    }
    broker.stop();
    log.line("stopped", &json!({}));
    Ok(())
}

/// How many clients, and how many streams among them, a limit of open files allows: one descriptor for a client, two
/// more for a stream.
fn places(files: u64) -> (usize, usize) {
    let free = usize::try_from(files.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    let streams = (free / 8).clamp(4, Limits::default().streams);
    (free.saturating_sub(2 * streams).clamp(16, Limits::default().clients), streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_activity_database_stands_beside_the_main_one() {
        for (db, given, want) in [
            ("ac7.db", None, "ac7-activity.db"),
            ("/x/y/team.sqlite", None, "/x/y/team-activity.sqlite"),
            ("plain", None, "plain-activity"),
            ("ac7.db", Some("/z/a.db"), "/z/a.db"),
        ] {
            let options = ServeOptions {
                host: None,
                port: None,
                config_path: "ac7.json".into(),
                db: db.into(),
                self_signed: false,
                activity_db: given.map(PathBuf::from),
            };
            assert_eq!(options.activity_db(), PathBuf::from(want), "{db}");
        }
    }

    #[test]
    fn the_clients_fit_into_the_open_files() {
        for (files, want) in
            [(0, (16, 4)), (200, (54, 9)), (1024, (672, 112)), (4096, (2048, 496)), (u64::MAX, (2048, 768))]
        {
            assert_eq!(places(files), want, "{files}");
        }
    }
}
