//! The team's server: who is in the team, what its agents did.
//!
//! Comes in: HTTP requests of anybody who reaches the port. Goes out: JSON answers, one log line for each request.
//! The way of a request: [`edge`] (TLS, limits, framing, `Host`) → private socket → [`server`] (workers) → [`router`]
//! (route, [`auth`]) → a file in [`handlers`] → store. Handlers open no sockets and no files. Streams wait in the edge
//! until the [`hub`] wakes them, and then ask again.
mod activity_reader;
mod activity_writer;
mod auth;
mod call;
mod certificate;
mod counters;
mod downgrade;
mod edge;
mod editor;
mod fanout;
mod handlers;
mod hub;
mod live;
mod log;
mod pieces;
mod presence;
mod prompt;
mod query;
mod quota;
mod retention;
mod router;
mod serve;
mod server;
mod settings;
mod socket_dir;
mod sse;
mod uploads;
mod uses;
mod viewer;
mod webpush;

pub use edge::Limits;
pub use log::Log;
pub use router::routes;
pub use serve::{ServeOptions, serve};
pub use viewer::{Viewer, view};

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use activity_reader::Readers;
use activity_writer::ActivityWriter;
use certificate::LiveCertificate;
use counters::Counters;
use edge::{Edge, Porter};
use editor::Editor;
use hub::Hub;
use live::{LiveTeam, Watch};
use presence::Presence;
use router::Service;
use server::{Answering, Server};
use uploads::Uploads;
use uses::{Keeper, Uses};

use crate::http1::Headers;
use crate::identity::{self, KekPlace, hash_of};
use crate::store;
use crate::store::activity::Parser;
use crate::store::files::{self, Files};
use crate::store::main::Store;
use crate::sys::clock::now_ms;
use crate::sys::user::host_name;
use crate::tls::{BadIdentity, server_config};

/// How long requests in work may take when the broker stops.
const GRACE: Duration = Duration::from_secs(10);
/// Request workers: enough that many uploads can wait for the same commit.
const WORKERS: usize = 16;

/// What a broker needs to start.
pub struct Config {
    /// A socket that listens already; `host` and `port` do not count then.
    pub listener: Option<TcpListener>,
    /// Name or address to listen on; flag or variable, else the team file's, else `127.0.0.1`.
    pub host: Option<String>,
    /// Port to listen on, 0 for any; flag or variable, else the team file's, else 8717.
    pub port: Option<u16>,
    /// The team file, `ac7.json`.
    pub config_path: PathBuf,
    /// The main database; it is made if there is none.
    pub db: PathBuf,
    /// Whether to serve HTTPS with a certificate of our own making.
    pub self_signed: bool,
    /// The activity database; it is made if there is none.
    pub activity_db: PathBuf,
    pub limits: Limits,
    pub log: Log,
}

/// What the edge asks.
struct Door {
    /// The host that the broker was told to listen on.
    bound: String,
    /// This machine's name, if it listens on every address: `--tls self-signed` vouches for it, too.
    own: Option<String>,
    team: Arc<LiveTeam>,
    /// Knows the sessions.
    main: Arc<Store>,
}

impl Porter for Door {
    fn host_allowed(&self, value: &str) -> bool {
        let own = self.own.as_ref().is_some_and(|own| edge::allowed(value, own, &[]));
        own || edge::allowed(value, &self.bound, &self.team.current().hosts)
    }

    /// A session whose place is lost for a moment is none.
    fn is_member(&self, headers: &Headers) -> bool {
        match headers.get("authorization") {
            Some(value) => {
                let known = |token| self.team.current().authenticate(token, now_ms()).is_some();
                auth::bearer(value).is_some_and(known)
            }
            None => headers.get("cookie").and_then(auth::cookie_of).is_some_and(|text| {
                let session = self.main.session(&hash_of(text), now_ms());
                session.is_ok_and(|session| session.is_some())
            }),
        }
    }

    fn file_bytes(&self) -> usize {
        self.team.settings().files.max_bytes
    }
}

/// A running broker. [`Broker::stop`] ends it; dropping it does not.
pub struct Broker {
    address: SocketAddr,
    edge: Edge,
    server: Server,
    service: Arc<Service>,
    watch: Watch,
    keeper: Keeper,
}

/// Why a broker cannot start.
#[derive(Debug)]
pub enum Error {
    Team(identity::Error),
    Store(store::Error),
    Files(files::Error),
    /// The address is not to be had.
    Listen {
        host: String,
        port: u16,
        error: io::Error,
    },
    /// The certificate.
    Tls(BadIdentity),
    /// Threads, private socket, signals.
    System {
        what: &'static str,
        error: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Team(error) => write!(f, "{error}"),
            Error::Store(error) => write!(f, "{error}"),
            Error::Files(error) => write!(f, "{error}"),
            Error::Tls(error) => write!(f, "{error}"),
            Error::Listen { host, port, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "EADDRINUSE: address already in use {host}:{port}")
            }
            Error::Listen { host, port, error } => write!(f, "cannot listen on {host}:{port}: {error}"),
            Error::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<identity::Error> for Error {
    fn from(error: identity::Error) -> Error {
        Error::Team(error)
    }
}

impl From<files::Error> for Error {
    fn from(error: files::Error) -> Error {
        Error::Files(error)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Store(error)
    }
}

impl Broker {
    /// Open the team file and the database, listen, and serve from then on.
    ///
    /// # Errors
    /// Any of these fails. Whatever was started by then is stopped.
    pub fn start(config: Config) -> Result<Broker, Error> {
        let log = config.log;
        let system = |what| move |error| Error::System { what, error };
        let hub = Arc::new(Hub::default());
        let team = Arc::new(LiveTeam::open(&config.config_path, hub.clone(), log.clone())?);
        let file = team.current();
        let (listener, host) = match config.listener {
            Some(listener) => (listener, None),
            None => {
                let host =
                    config.host.or_else(|| file.host.clone()).unwrap_or_else(|| "127.0.0.1".to_string());
                let port = config.port.or(file.port).unwrap_or(8717);
                let bound = TcpListener::bind((host.as_str(), port));
                let failed = |error| Error::Listen { host: host.clone(), port, error };
                (bound.map_err(failed)?, Some(host))
            }
        };
        let address = listener.local_addr().map_err(system("learn the address of the socket"))?;
        let host = host.unwrap_or_else(|| address.ip().to_string());
        let certificate = LiveCertificate::open(&team, config.self_signed, &host, address, log.clone());
        let certificate = certificate.map_err(Error::Tls)?;
        let reserve = config.limits.reserve;
        let activity =
            ActivityWriter::start(&config.activity_db, reserve, hub.clone(), team.clone(), log.clone())?;
        let main = Arc::new(Store::open(&config.db)?);
        log.upgrade(main.upgrade());
        let counters = Arc::new(Counters::new());
        let presence = Arc::new(Presence::default());
        let files = Arc::new(Files::open(main.clone(), &config.db)?);
        let uploads = Arc::new(Uploads::new(Some(files.clone()), log.clone()));
        let uses = Arc::new(Uses::new(main.clone()));
        let webpush = webpush::Sender::start(
            main.clone(),
            team.clone(),
            KekPlace::of(&config.config_path),
            log.clone(),
        )
        .map_err(system("start a thread"))?;
        let service = Arc::new(Service {
            team: team.clone(),
            editor: Editor::new(&config.config_path, team.clone()),
            main: main.clone(),
            files,
            uploads: uploads.clone(),
            uses: uses.clone(),
            certificate: certificate.clone(),
            presence: presence.clone(),
            webpush,
            quota: quota::Quota::new(config.limits.said),
            hub: hub.clone(),
            counters: counters.clone(),
            activity,
            parser: Parser::new(),
            readers: Arc::new(Readers::new(&config.activity_db)),
        });
        let watch = Watch::start(team.clone(), certificate.clone()).map_err(system("start a thread"))?;
        let editor = Editor::new(&config.config_path, team.clone());
        let keeper =
            Keeper::start(uses, editor, team.clone(), log.clone()).map_err(system("start a thread"))?;
        let serving = service.clone();
        let answering: Answering = Arc::new(move |call, body| router::answer(&serving, call, body));
        let server =
            Server::start(&answering, &uploads, WORKERS, &log).map_err(system("open the private socket"))?;
        let edge = edge::Config {
            listener,
            tls: certificate.map(|certificate| server_config(certificate)),
            backend: server.socket(),
            connections: WORKERS,
            bulk: router::is_bulk,
            upload: router::is_upload,
            uploads,
            porter: Box::new(Door {
                bound: host,
                own: address.ip().is_unspecified().then(host_name),
                team,
                main,
            }),
            hub,
            presence,
            counters,
            limits: config.limits,
            log,
        };
        match Edge::start(edge) {
            Ok(edge) => Ok(Broker { address, edge, server, service, watch, keeper }),
            Err(error) => {
                server.stop();
                Err(Error::System { what: "start to accept", error })
            }
        }
    }

    /// The address that clients reach it at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate's file and its SHA-256, if the broker speaks HTTPS.
    #[must_use]
    pub fn certificate(&self) -> Option<(PathBuf, String)> {
        self.service.certificate.as_ref().map(|certificate| certificate.shown())
    }

    /// Read the team file and the certificate now; the log says what came of it.
    pub fn reload(&self) {
        let _ = self.service.team.reload(); // the log has it
        if let Some(certificate) = &self.service.certificate {
            let _ = certificate.reload(); // as well
        }
    }

    /// Accept no more, answer what is in work (10 s at most), write what was accepted, end every thread.
    pub fn stop(self) {
        self.edge.stop(GRACE);
        self.server.stop();
        drop(self.watch);
        drop(self.keeper);
        // The last owner of the writer: dropping it commits and joins.
        drop(self.service);
    }
}
