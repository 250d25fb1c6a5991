//! Why there was no session, in the words the user sees.
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::child::StartError;
use super::codex::HomeError;
use super::files::NoPlace;
use super::upstream::BadProxy;
use crate::agents::NotFound;
use crate::agents::doctor::Check;
use crate::capture::redact;
use crate::{client, tls};

/// Why there was no session.
#[derive(Debug)]
pub enum Error {
    /// The agent's program is not here.
    NoAgent(NotFound),
    /// What a start needs is not here; the first check that failed.
    Preflight(Check),
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
    /// The file that the events were to go to.
    Output {
        path: PathBuf,
        why: io::Error,
    },
    Pattern(redact::TooShort),
    /// codex's directory.
    Codex(HomeError),
    /// Where the agent is to work.
    Directory {
        path: PathBuf,
        why: io::Error,
    },
    Start(StartError),
    Wait(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoAgent(missing) => missing.fmt(f),
            Error::Preflight(check) => write!(f, "{}: {}", check.name, check.detail),
            Error::Trust(why) => why.fmt(f),
            Error::Proxy(bad) => write!(f, "cannot use the proxy of {}: {}", bad.variable, bad.why),
            Error::Ca(why) => write!(f, "cannot make the session's certificate authority: {why}"),
            Error::Files(why) => why.fmt(f),
            Error::System { what, why } => write!(f, "cannot {what}: {why}"),
            Error::Client(why) => why.fmt(f),
            Error::NoHome => {
                write!(f, "no place for the database: neither XDG_DATA_HOME nor HOME is an absolute path")
            }
            Error::Output { path, why } => write!(f, "cannot write {}: {why}", path.display()),
            Error::Pattern(why) => why.fmt(f),
            Error::Codex(why) => why.fmt(f),
            Error::Directory { path, why } => write!(f, "cannot work in {}: {why}", path.display()),
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
        match self {
            Error::NoAgent(_) => 127,
            Error::Start(start) => start.code(),
            _ => 1,
        }
    }

    /// What the user can do about it, if there is anything.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        match self {
            Error::NoAgent(missing) => Some(missing.fix()),
            Error::Preflight(check) => check.fix.clone(),
            Error::Trust(why) => Some(why.fix().to_string()),
            Error::Proxy(_) => {
                Some("--upstream-proxy http://HOST:PORT, or --upstream-proxy none".to_string())
            }
            Error::Files(_) => {
                Some("unset TMPDIR, or point it at a directory that can be written".to_string())
            }
            Error::System { .. } => Some("--no-trace runs the command without the proxy".to_string()),
            Error::Client(why) => why.fix(),
            Error::NoHome => Some("--db PATH or --output FILE, or set HOME".to_string()),
            Error::Codex(why) => why.fix().map(str::to_string),
            Error::Directory { .. } => Some("--cwd DIR".to_string()),
            Error::Ca(_) | Error::Output { .. } | Error::Pattern(_) | Error::Start(_) | Error::Wait(_) => {
                None
            }
        }
    }
}
