//! The page for one database and one person, on the loopback: what `ac7 view` serves. It can only be read.
//!
//! It stands on the broker's own edge, workers and activity handlers, so the page asks for the same paths. There is no
//! team: whoever has the address that was printed may read, once; it is exchanged for a cookie.
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::activity_reader::Readers;
use super::auth::same_origin;
use super::call::{Answer, Call, Failure};
use super::counters::Counters;
use super::edge::{self, Edge, Limits, Porter};
use super::handlers::{activity, pages, usage};
use super::hub::Hub;
use super::log::Log;
use super::presence::Presence;
use super::router::{Outcome, is_bulk};
use super::server::{Answering, Server};
use super::sse;
use super::uploads::Uploads;
use super::{Error, GRACE};
use crate::http1::Headers;
use crate::store;
use crate::store::activity::Reader;
use crate::sys::random;
use crate::sys::thread::{self, Joinable};
use crate::usage::Prices;
use crate::web::INDEX;

/// What streams wait for.
const NEWS: &str = "rows";
/// How often the database is asked for new rows.
const POLL: Duration = Duration::from_millis(250);
const WORKERS: usize = 4;

/// A running viewer. [`Viewer::stop`] ends it; dropping it does not.
pub struct Viewer {
    /// Where it is, with the token that opens it once.
    url: String,
    edge: Edge,
    server: Server,
    poll: Poll,
}

/// Everybody comes to this door with no more than a request line.
struct Door;

impl Porter for Door {
    fn host_allowed(&self, value: &str) -> bool {
        edge::allowed(value, "localhost", &[])
    }

    fn is_member(&self, _: &Headers) -> bool {
        false
    }

    fn file_bytes(&self) -> usize {
        0
    }
}

struct Service {
    db: PathBuf,
    readers: Arc<Readers>,
    prices: Arc<Prices>,
    /// How the database is called on the page.
    shown: String,
    /// Of the cookie and of the token, which goes when it is used.
    cookie: [u8; 32],
    token: Mutex<Option<[u8; 32]>>,
    /// The cookie's name. Browsers keep cookies by host, not by port: each viewer needs its own.
    name: String,
}

impl Viewer {
    /// Listen on `port` (0 for any) of the loopback, for the database at `db`, which need not be there yet.
    ///
    /// # Errors
    /// The port is not to be had, or a thread.
    pub fn start(db: &Path, shown: &str, port: u16, prices: Prices, log: &Log) -> Result<Viewer, Error> {
        let system = |what| move |error| Error::System { what, error };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| Error::Listen {
            host: "127.0.0.1".to_string(),
            port,
            error,
        })?;
        let address = listener.local_addr().map_err(system("learn the address"))?;
        let (token, secret) = (random::hex::<32>(), random::hex::<32>());
        let readers = Arc::new(Readers::new(db));
        let service = Service {
            db: db.to_path_buf(),
            readers: readers.clone(),
            prices: Arc::new(prices),
            shown: shown.to_string(),
            cookie: hash(&secret),
            token: Mutex::new(Some(hash(&token))),
            name: format!("ac7_view_{}", address.port()),
        };
        let answering: Answering = Arc::new(move |call, _| {
            let answer = service.answer(call, &secret).unwrap_or_else(|failure| failure.answer());
            Outcome { answer, route: "view", member: None, internal: None }
        });
        let hub = Arc::new(Hub::default());
        let poll = Poll::start(readers, hub.clone()).map_err(system("start a thread"))?;
        let uploads = Arc::new(Uploads::new(None, log.clone()));
        let server =
            Server::start(&answering, &uploads, WORKERS, log).map_err(system("open the private socket"))?;
        let edge = edge::Config {
            listener,
            tls: None,
            backend: server.socket(),
            connections: WORKERS,
            bulk: is_bulk,
            upload: |_, _| false,
            uploads,
            porter: Box::new(Door),
            hub,
            presence: Arc::new(Presence::default()),
            counters: Arc::new(Counters::new()),
            limits: Limits { clients: 64, streams: 16, ..Limits::default() },
            log: log.clone(),
        };
        match Edge::start(edge) {
            Ok(edge) => {
                let url = format!("http://{address}/?token={token}");
                Ok(Viewer { url, edge, server, poll })
            }
            Err(error) => {
                server.stop();
                Err(Error::System { what: "start to accept", error })
            }
        }
    }

    /// The address that opens it, once.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// End it.
    pub fn stop(self) {
        self.edge.stop(GRACE);
        self.server.stop();
        drop(self.poll);
    }
}

/// View until SIGINT or SIGTERM. `ready` gets the address.
///
/// # Errors
/// As [`Viewer::start`].
pub fn view(
    db: &Path,
    shown: &str,
    port: u16,
    prices: Prices,
    ready: impl FnOnce(&str),
) -> Result<(), Error> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
        .map_err(|error| Error::System { what: "listen to signals", error })?;
    let viewer = Viewer::start(db, shown, port, prices, &Log::to(Box::new(io::sink())))?;
    ready(viewer.url());
    signals.forever().next();
    viewer.stop();
    Ok(())
}

impl Service {
    fn answer(&self, call: &Call, secret: &str) -> Result<Answer, Failure> {
        if !matches!(call.method.as_str(), "GET" | "HEAD") {
            return Err(Failure::Method(vec!["GET"]));
        }
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        match path[..] {
            [""] => match call.query.get("token") {
                Some(token) => self.exchange(token, secret),
                None => Ok(pages::file(&INDEX, call)),
            },
            ["web", _] => pages::named(call),
            _ => {
                if !self.knows(call) {
                    let error = "open the address that ac7 view printed; it opens once";
                    return Ok(Answer::json(401, &json!({"error": error, "local": true})));
                }
                same_origin(call)?;
                self.data(&path, call)
            }
        }
    }

    /// The token for the cookie. Once: the address stays in the browser's history.
    fn exchange(&self, token: &str, secret: &str) -> Result<Answer, Failure> {
        let mut open = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if *open != Some(hash(token)) {
            return Err(Failure::Unauthorized);
        }
        *open = None;
        let cookie = format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict", self.name);
        let headers = vec![
            ("Location", "/".to_string()),
            ("Set-Cookie", cookie),
            ("Referrer-Policy", "no-referrer".to_string()),
        ];
        Ok(Answer { status: 303, headers, ..Answer::empty() })
    }

    /// Whether the cookie came along.
    fn knows(&self, call: &Call) -> bool {
        let pairs = call.headers.get("cookie").unwrap_or_default().split(';');
        let mut values = pairs.filter_map(|pair| pair.trim().split_once('='));
        values.any(|(name, value)| name == self.name && hash(value) == self.cookie)
    }

    fn data(&self, path: &[&str], call: &Call) -> Result<Answer, Failure> {
        let member = |name| Some(name).filter(|name| *name != "*");
        match *path {
            ["session"] => {
                let body = json!({"local": self.shown, "permissions": ["activity.read"], "expiresAt": null});
                Ok(Answer::json(200, &body))
            }
            ["members", name, "activity"] if self.db.exists() => {
                activity::rows(&self.readers, member(name), &call.query, &self.prices)
            }
            ["members", _, "activity"] => Ok(Answer::json(200, &json!({"activity": [], "next": null}))),
            ["members", name, "activity", "stream"] if self.db.exists() => {
                let last = || last_id(&self.readers);
                let form = activity::form(&call.query, &self.prices);
                activity::follow(&self.readers, member(name), NEWS.to_string(), call, &form, last)
            }
            ["members", _, "activity", "stream"] => Ok(sse::begin(NEWS.to_string(), 0)),
            ["members", name, "activity", id] => activity::row(&self.readers, member(name), id, &call.query),
            ["usage"] => usage::by_model(&self.readers, None, &call.query, &self.prices),
            _ => Err(Failure::NotFound("there is no such route".to_string())),
        }
    }
}

fn hash(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}

/// The newest row's id; 0 while there is no database.
fn last_id(readers: &Readers) -> Result<i64, store::Error> {
    match readers.with(Reader::last_id) {
        Err(store::Error::Missing { .. }) => Ok(0),
        result => result,
    }
}

/// The thread that looks for new rows; dropping it stops and joins it.
struct Poll {
    stop: Option<SyncSender<()>>,
    thread: Option<Joinable>,
}

impl Poll {
    fn start(readers: Arc<Readers>, hub: Arc<Hub>) -> io::Result<Poll> {
        let (stop, stopped) = sync_channel(0);
        let thread = thread::spawn("poll", 512 << 10, move || poll(&readers, &hub, &stopped))?;
        Ok(Poll { stop: Some(stop), thread: Some(thread) })
    }
}

fn poll(readers: &Readers, hub: &Hub, stopped: &Receiver<()>) {
    let mut seen = last_id(readers).unwrap_or(0);
    while stopped.recv_timeout(POLL) == Err(RecvTimeoutError::Timeout) {
        // What cannot be read now is tried again; the page's own requests say why.
        let newest = last_id(readers).unwrap_or(seen);
        if newest != seen {
            seen = newest;
            hub.wake(NEWS);
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::call::Headers;
    use crate::broker::query::parse_target;

    fn service() -> Service {
        let db = PathBuf::from("/nonexistent/activity.db");
        Service {
            readers: Arc::new(Readers::new(&db)),
            prices: Arc::default(),
            db,
            shown: "x".into(),
            cookie: hash("secret"),
            token: Mutex::new(Some(hash("token"))),
            name: "ac7_view_1".into(),
        }
    }

    fn status(service: &Service, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let (path, query) = parse_target(target).unwrap();
        let headers = headers.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        let call = Call { method: method.into(), path, query, headers: Headers(headers) };
        service.answer(&call, "secret").unwrap_or_else(|failure| failure.answer()).status
    }

    #[test]
    fn the_token_opens_once_and_the_cookie_for_long() {
        let service = service();
        for (target, want) in [("/?token=wrong", 401), ("/?token=token", 303), ("/?token=token", 401)] {
            assert_eq!(status(&service, "GET", target, &[]), want, "{target}");
        }
        for (target, cookie, want) in [
            ("/", "", 200),
            ("/web/app.js", "", 200),
            ("/web/none.js", "", 404),
            ("/session", "", 401),
            ("/session", "ac7_view_1=wrong", 401),
            ("/session", "ac7_view_2=secret", 401),
            ("/session", "a=b; ac7_view_1=secret", 200),
            ("/members/*/activity", "ac7_view_1=secret", 200),
            ("/members/*/activity/1", "ac7_view_1=secret", 500),
            ("/roster", "ac7_view_1=secret", 404),
        ] {
            assert_eq!(status(&service, "GET", target, &[("Cookie", cookie)]), want, "{target} {cookie}");
        }
        let cookie = ("Cookie", "ac7_view_1=secret");
        assert_eq!(status(&service, "POST", "/session", &[cookie]), 405);
        assert_eq!(status(&service, "GET", "/session", &[cookie, ("Sec-Fetch-Site", "cross-site")]), 403);
    }
}
