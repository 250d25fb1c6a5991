//! The threads that speak to push services. Each has one request under way at a time and says what became of it.
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Queue, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::address::Outward;
use crate::sys::thread::{self, Joinable};
use crate::tls::{self, Roots};

/// For connecting, and for one request with everything.
const CONNECT: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Taken,
    /// The subscription is no more.
    Gone,
    /// Later, perhaps; after so long if the push service said so.
    Later(Option<Duration>, String),
    Refused(String),
}

/// How requests go out.
#[derive(Default)]
pub struct Way {
    /// Made when the first notice goes out: reading the system's certificates takes a while.
    agent: OnceLock<Agent>,
    stopping: AtomicBool,
    /// Whether private networks will do.
    pub private: Arc<AtomicBool>,
}

impl Way {
    /// End what is under way; nothing goes out any more.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(agent) = self.agent.get() {
            agent.clone().shutdown();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn send(&self, request: Request<Vec<u8>>) -> Outcome {
        let agent = self.agent();
        if self.is_closed() {
            return Outcome::Later(None, "the broker stops".to_string());
        }
        match agent.run(request) {
            Ok(answer) => {
                let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                judge(answer.status().as_u16(), after)
            }
            Err(ureq::Error::Io(error)) if error.kind() == ErrorKind::PermissionDenied => {
                Outcome::Refused(error.to_string())
            }
            Err(error) => Outcome::Later(None, error.to_string()),
        }
    }

    /// It goes out directly, follows nobody, and trusts whom the system trusts.
    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| {
            let roots = Roots::system();
            let roots = roots.certificates().iter().map(|der| Certificate::from_der(der).to_owned());
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::from(roots.collect::<Vec<_>>()))
                .unversioned_rustls_crypto_provider(tls::provider())
                .build();
            let config = Agent::config_builder()
                .tls_config(tls)
                .proxy(None)
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .timeout_connect(Some(CONNECT))
                .timeout_global(Some(TIMEOUT))
                .user_agent(concat!("ac7/", env!("CARGO_PKG_VERSION")))
                .build();
            Agent::with_parts(config, DefaultConnector::default(), Outward::new(self.private.clone()))
        })
    }
}

/// One of the threads. Dropping it ends and joins the thread, once its request has ended.
pub struct Courier {
    requests: Option<SyncSender<Request<Vec<u8>>>>,
    thread: Option<Joinable>,
}

impl Courier {
    /// `done` hears what became of each request.
    ///
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(way: Arc<Way>, done: impl Fn(Outcome) + Send + 'static) -> io::Result<Courier> {
        let (requests, queue) = sync_channel(1);
        let work = move |queue: Queue<Request<Vec<u8>>>| queue.iter().for_each(|one| done(way.send(one)));
        let thread = thread::spawn("push-send", 1 << 20, move || work(queue))?;
        Ok(Courier { requests: Some(requests), thread: Some(thread) })
    }

    /// Hand it a request; it must have none.
    pub fn hand(&self, request: Request<Vec<u8>>) {
        if let Some(requests) = &self.requests {
            let _ = requests.try_send(request); // there is a place: it has none
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// What a status means (RFC 8030 §5, §8.4); `after` is the `Retry-After` that came with it.
fn judge(status: u16, after: Option<&str>) -> Outcome {
    let seconds = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    match status {
        200..=299 => Outcome::Taken,
        404 | 410 => Outcome::Gone,
        408 | 425 | 429 | 500..=599 => Outcome::Later(seconds, format!("the push service answered {status}")),
        _ => Outcome::Refused(format!("the push service answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_to_do() {
        let later = |status: u16, seconds: Option<u64>| {
            let reason = format!("the push service answered {status}");
            Outcome::Later(seconds.map(Duration::from_secs), reason)
        };
        for (status, after, want) in [
            (200, None, Outcome::Taken),
            (201, None, Outcome::Taken),
            (404, None, Outcome::Gone),
            (410, Some("5"), Outcome::Gone),
            (429, Some("7"), later(429, Some(7))),
            (429, Some("Fri, 31 Dec 1999 23:59:59 GMT"), later(429, None)),
            (503, None, later(503, None)),
            (301, None, Outcome::Refused("the push service answered 301".into())),
            (403, None, Outcome::Refused("the push service answered 403".into())),
            (413, Some("1"), Outcome::Refused("the push service answered 413".into())),
        ] {
            assert_eq!(judge(status, after), want, "{status}");
        }
    }
}
