//! What a run was asked to do, with nothing left to check: combinations that make no sense cannot be expressed.
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::capture::dial::{ConnectTo, UpstreamProxy};
use crate::capture::scope::{HostPattern, Scope};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The program and its arguments; at least one word.
    pub command: Vec<OsString>,
    /// Where events go.
    pub destination: Destination,
    /// What is captured; `None` runs the command as it is.
    pub capture: Option<CaptureOptions>,
}

/// A session of an agent that takes part in a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// The agent's own arguments.
    pub arguments: Vec<OsString>,
    /// The broker; with anything else there is capture alone.
    pub destination: Destination,
    /// What is captured; `None` captures nothing.
    pub capture: Option<CaptureOptions>,
    /// A PEM file with roots for the broker beside the system's.
    pub ca_cert: Option<PathBuf>,
    /// Start whatever is missing.
    pub skip_doctor: bool,
    /// The agent is to validate no certificates.
    pub unsafe_tls: bool,
    /// Leave out what is said of success.
    pub quiet: bool,
}

/// A session of codex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodexOptions {
    pub agent: AgentOptions,
    /// Where it works, if not here.
    pub cwd: Option<PathBuf>,
    /// The model, if not the one of its configuration.
    pub model: Option<String>,
    /// Do not tell what it does.
    pub quiet: bool,
}

/// Where events go.
#[derive(Clone, PartialEq, Eq)]
pub enum Destination {
    /// The local activity database, at this path or at its usual place.
    Local { db: Option<PathBuf> },
    /// A file of JSON Lines.
    File { path: PathBuf },
    /// A broker; without a token the run is refused.
    Broker { url: String, token: Option<String> },
}

impl fmt::Debug for Destination {
    /// Tokens do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Local { db } => write!(f, "Local({db:?})"),
            Destination::File { path } => write!(f, "File({})", path.display()),
            Destination::Broker { url, token } => write!(f, "Broker({url}, token: {})", token.is_some()),
        }
    }
}

/// How a session is captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureOptions {
    pub scope: Scope,
    /// Model hosts beyond the known ones.
    pub trace_hosts: Vec<HostPattern>,
    /// If not empty: these hosts and nothing else, whatever the scope.
    pub trace_only: Vec<HostPattern>,
    /// Never these.
    pub trace_skip: Vec<HostPattern>,
    /// In the order typed; the first that fits counts.
    pub connect_to: Vec<ConnectTo>,
    /// A PEM file with roots beside the system's.
    pub ca_cert: Option<PathBuf>,
    pub upstream_proxy: ProxyChoice,
    /// Beginnings of further secrets, 3 to 64 characters each.
    pub redact_patterns: Vec<String>,
    /// Bytes of each message of a model call that are kept, if not the usual number.
    pub retain: Option<usize>,
}

/// Which proxy the upstreams are reached through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxyChoice {
    /// What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY of the caller say.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one, for every host that NO_PROXY does not name.
    Url(UpstreamProxy),
}
