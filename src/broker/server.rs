//! The HTTP server behind the edge: tiny_http on the private socket, and the fixed pool of request workers.
use std::io::{self, Cursor, Read};
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;
use tiny_http::{Header, Request, Response};

use super::call::{Answer, Body, Call, Failure, Headers};
use super::edge::FOLLOW;
use super::log::Log;
use super::query::parse_target;
use super::router::Outcome;
use super::socket_dir::SocketDir;
use super::uploads::{BODY, Uploads};
use crate::sys::random;
use crate::sys::thread::{self, Joinable};

/// A worker's stack: JSON nests up to 128 levels.
const STACK: usize = 1 << 20;

/// What answers requests, the body given apart.
pub type Answering = Arc<dyn Fn(&Call, Vec<u8>) -> Outcome + Send + Sync>;

/// The running server. [`Server::stop`] ends it; the edge must have let go of its connections by then.
pub struct Server {
    http: Arc<tiny_http::Server>,
    workers: Vec<Joinable>,
    stopping: Arc<AtomicBool>,
    dir: SocketDir,
}

struct Worker {
    http: Arc<tiny_http::Server>,
    answering: Answering,
    uploads: Arc<Uploads>,
    stopping: Arc<AtomicBool>,
    log: Log,
    /// Distinguishes the requests of this run of the broker.
    run: String,
    count: Arc<AtomicU64>,
}

impl Server {
    /// Listen on a private socket with so many workers; large bodies lie in `uploads`.
    ///
    /// # Errors
    /// The socket cannot be made, or there is no thread to be had.
    pub fn start(
        answering: &Answering,
        uploads: &Arc<Uploads>,
        workers: usize,
        log: &Log,
    ) -> io::Result<Server> {
        let dir = SocketDir::make()?;
        let listener = UnixListener::bind(dir.socket())?;
        let http = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let (http, stopping) = (Arc::new(http), Arc::new(AtomicBool::new(false)));
        let (run, count) = (random::hex::<3>(), Arc::new(AtomicU64::new(0)));
        let mut server = Server { http: http.clone(), workers: Vec::new(), stopping: stopping.clone(), dir };
        for _ in 0..workers {
            let worker = Worker {
                http: http.clone(),
                answering: answering.clone(),
                uploads: uploads.clone(),
                stopping: stopping.clone(),
                log: log.clone(),
                run: run.clone(),
                count: count.clone(),
            };
            match thread::spawn("worker", STACK, move || worker.work()) {
                Ok(thread) => server.workers.push(thread),
                Err(e) => {
                    server.stop();
                    return Err(e);
                }
            }
        }
        Ok(server)
    }

    /// Where the socket is.
    #[must_use]
    pub fn socket(&self) -> std::path::PathBuf {
        self.dir.socket()
    }

    /// Let the workers finish what they have, and join them.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Each call lets go one worker.
        self.workers.iter().for_each(|_| self.http.unblock());
        self.workers.into_iter().for_each(Joinable::join);
        // Its last owner: dropping it wakes and ends its acceptor. The folder goes after it.
        drop(self.http);
        drop(self.dir);
    }
}

impl Worker {
    fn work(&self) {
        loop {
            match self.http.recv() {
                Ok(request) => self.handle(request),
                Err(_) if self.stopping.load(Ordering::Relaxed) => return,
                // Its acceptor has died. The connections there are live on; the edge cannot replace broken ones.
                Err(e) => self.log.line("the private socket failed", &json!({"reason": e.to_string()})),
            }
        }
    }

    fn handle(&self, mut request: Request) {
        let (began, number) = (Instant::now(), self.count.fetch_add(1, Ordering::Relaxed));
        let id = format!("{}-{number}", self.run);
        let method = request.method().to_string();
        // A handler that panics costs this request and nothing else.
        let outcome = catch_unwind(AssertUnwindSafe(|| self.answer(&mut request))).unwrap_or_else(|_| {
            Outcome::failed(&Failure::Internal("a handler panicked; the message stands above".to_string()))
        });
        let peer = header(&request, "x-ac7-peer");
        let mut facts = json!({
            "id": id,
            "peer": peer,
            "member": outcome.member,
            "route": format!("{method} {}", outcome.route),
            "status": outcome.answer.status,
        });
        if let Some(reason) = &outcome.internal {
            facts["reason"] = json!(reason);
        }
        // A stream is logged when it begins; its pieces only if something is wrong.
        let piece = header(&request, FOLLOW).is_some() && outcome.answer.status == 200;
        let broken = request.respond(response(outcome.answer, &id)).err();
        facts["us"] = json!(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        if let Some(error) = broken {
            facts["broken"] = json!(error.to_string());
        }
        // Only the edge itself, which tries its connections, has no peer.
        if peer.is_some() && !piece {
            self.log.line("request", &facts);
        }
    }

    fn answer(&self, request: &mut Request) -> Outcome {
        let Some((path, query)) = parse_target(request.url()) else {
            return Outcome::failed(&Failure::bad("the path or query is not UTF-8 with %XX escapes"));
        };
        let text = |h: &Header| (h.field.to_string(), h.value.to_string());
        let headers = Headers(request.headers().iter().map(text).collect());
        let method = request.method().to_string();
        let body = match self.body(request, headers.get(BODY)) {
            Ok(body) => body,
            Err(e) => return Outcome::failed(&Failure::Internal(format!("the body did not arrive: {e}"))),
        };
        (self.answering)(&Call { method, path, query, headers }, body)
    }

    /// The body, `named` if it waits in memory. The edge has bounded it.
    fn body(&self, request: &mut Request, named: Option<&str>) -> io::Result<Vec<u8>> {
        if let Some(name) = named {
            return self.uploads.bodies.take(name).ok_or_else(|| io::Error::other("the edge has lost it"));
        }
        let mut body = Vec::with_capacity(request.body_length().unwrap_or(0));
        request.as_reader().read_to_end(&mut body)?;
        Ok(body)
    }
}

fn header(request: &Request, name: &'static str) -> Option<String> {
    request.headers().iter().find(|h| h.field.equiv(name)).map(|h| h.value.to_string())
}

/// The answer in tiny_http's terms. The edge adds `X-AC7-Protocol`, since its own answers have it too.
fn response(answer: Answer, id: &str) -> Response<Box<dyn Read + Send>> {
    let (body, length): (Box<dyn Read + Send>, _) = match answer.body {
        Body::Json(text) => {
            let length = text.len();
            (Box::new(Cursor::new(text)), Some(length))
        }
        Body::Stream(stream) => (stream, None),
        Body::Sized(stream, length) => (stream, Some(length)),
    };
    let mut response = Response::new(answer.status.into(), Vec::new(), body, length, None)
        .with_chunked_threshold(usize::MAX);
    let own = || answer.headers.iter().map(|(name, value)| (*name, value.as_str()));
    let usual = [
        ("X-Request-Id", id),
        ("Cache-Control", "no-store"),
        ("Content-Type", "application/json"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let usual = usual.into_iter().filter(|(name, _)| own().all(|(mine, _)| mine != *name));
    for (name, value) in usual.chain(own()) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    response
}
