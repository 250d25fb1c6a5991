//! The thread that hands notices to push services, and tries again later where that is worth it.
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::json;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::address::{Outward, check, origin};
use super::encrypt::Receiver;
use super::token::authorization;
use super::{Notice, Whom};
use crate::broker::live::LiveTeam;
use crate::broker::log::Log;
use crate::client::Backoff;
use crate::identity::{KekPlace, VapidKeys, WebPush};
use crate::store;
use crate::store::main::{Store, Subscription};
use crate::sys::clock::now_ms;
use crate::sys::thread::{self, Joinable};
use crate::team::Level;
use crate::tls::{self, Roots};

/// Notices that may wait for the thread.
const QUEUED: usize = 256;
/// Posts that may wait for their time.
const WAITING: usize = 1024;
/// How often one is tried.
const TRIES: u32 = 6;
/// The waits between: 1, 2, 4 … s.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// What a push service may ask us to wait at most.
const MOST_ASKED: Duration = Duration::from_secs(3600);
/// How long a push service is to keep a notice for a browser that is not there, s.
const LIFE: u32 = 24 * 3600;
/// For one request, and for connecting.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The way to the thread. Dropping it ends the thread, with a request that is under way.
pub struct Sender {
    queue: Option<SyncSender<Notice>>,
    shared: Arc<Shared>,
    thread: Option<Joinable>,
}

/// What both sides of the queue know.
#[derive(Default)]
struct Shared {
    /// Made when the first notice goes out: reading the system's certificates takes a while.
    agent: OnceLock<Agent>,
    stopping: AtomicBool,
    /// Notices that the queue had no place for.
    dropped: AtomicU64,
}

impl Sender {
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(store: Arc<Store>, team: Arc<LiveTeam>, kek: KekPlace, log: Log) -> io::Result<Sender> {
        let (queue, notices) = sync_channel(QUEUED);
        let shared = Arc::new(Shared::default());
        let mut work = Work {
            shared: shared.clone(),
            private: Arc::default(),
            store,
            team,
            kek,
            log,
            keys: None,
            waiting: VecDeque::new(),
        };
        let thread = thread::spawn("push", 1 << 20, move || work.run(&notices))?;
        Ok(Sender { queue: Some(queue), shared, thread: Some(thread) })
    }

    /// Let some hear of something, if there is a place for it.
    pub fn offer(&self, notice: Notice) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(_)) = queue.try_send(notice) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        drop(self.queue.take());
        if let Some(agent) = self.shared.agent.get() {
            agent.clone().shutdown();
        }
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// The pair that signs, and the setting that it was opened from; `None` where it cannot be opened.
struct Keys {
    of: WebPush,
    pair: Option<VapidKeys>,
}

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    /// Whether private networks will do.
    private: Arc<AtomicBool>,
    store: Arc<Store>,
    team: Arc<LiveTeam>,
    kek: KekPlace,
    log: Log,
    keys: Option<Keys>,
    /// In no order; there are few.
    waiting: VecDeque<Post>,
}

/// One notice for one browser.
struct Post {
    member: String,
    to: Subscription,
    payload: Arc<str>,
    level: Level,
    tries: u32,
    backoff: Backoff,
    due: Instant,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Taken,
    /// The subscription is no more.
    Gone,
    /// Later, perhaps; after so long if the push service said so.
    Later(Option<Duration>, String),
    Refused(String),
}

impl Work {
    fn run(&mut self, notices: &Queue<Notice>) {
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let now = Instant::now();
            let next = self.waiting.iter().map(|post| post.due).min();
            let wait = next.map_or(LONGEST, |due| due.saturating_duration_since(now));
            match notices.recv_timeout(wait) {
                Ok(notice) => {
                    if let Err(error) = self.take(&notice) {
                        self.log.line("web push failed", &json!({"reason": error.to_string()}));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.send_due();
            self.count_dropped(0);
        }
        self.count_dropped(self.waiting.len() as u64);
    }

    /// Say what was dropped, with those that will not be sent any more.
    fn count_dropped(&self, more: u64) {
        let dropped = self.shared.dropped.swap(0, Ordering::Relaxed) + more;
        if dropped > 0 {
            self.log.line("web push dropped", &json!({"notices": dropped}));
        }
    }

    /// Make a notice one post for each browser.
    fn take(&mut self, notice: &Notice) -> Result<(), store::Error> {
        let members = match &notice.whom {
            Whom::Members(names) => names.clone(),
            Whom::Assignee(id) => {
                self.store.objective(id)?.map(|(objective, _)| objective.assignee).into_iter().collect()
            }
        };
        let Some(public) = self.team.settings().web_push.public_key.clone() else { return Ok(()) };
        let payload: Arc<str> = notice.payload.as_str().into();
        for member in members {
            for to in self.store.subscriptions(&member, &public)? {
                if self.waiting.len() >= WAITING {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                // What a push service asked for holds for all that goes there.
                let same = self.waiting.iter().filter(|post| post.to.endpoint == to.endpoint);
                let due = same.map(|post| post.due).max().unwrap_or_else(Instant::now);
                self.waiting.push_back(Post {
                    member: member.clone(),
                    to,
                    payload: payload.clone(),
                    level: notice.level,
                    tries: 0,
                    backoff: Backoff::new(FIRST, LONGEST),
                    due,
                });
            }
        }
        Ok(())
    }

    /// Send what is due.
    fn send_due(&mut self) {
        for _ in 0..self.waiting.len() {
            let Some(post) = self.waiting.pop_front() else { return };
            let stopping = self.shared.stopping.load(Ordering::Relaxed);
            if stopping || post.due > Instant::now() {
                self.waiting.push_back(post);
                continue;
            }
            self.send(post);
        }
    }

    fn send(&mut self, mut post: Post) {
        // It may have been ended, or the browser may be somebody else's by now.
        if post.tries > 0 && !self.store.is_subscribed(&post.member, &post.to.endpoint).unwrap_or(false) {
            return;
        }
        let host = origin(&post.to.endpoint.parse().unwrap_or_default());
        let said = |log: &Log, event: &str, reason: &str| {
            log.line(event, &json!({"member": post.member, "service": host, "reason": reason}));
        };
        match self.request(&post) {
            Outcome::Taken => {}
            Outcome::Gone => {
                said(&self.log, "web push ended", "the browser has gone or has unsubscribed");
                self.waiting.retain(|other| other.to.endpoint != post.to.endpoint);
                if let Err(error) = self.store.drop_subscription(&post.to.endpoint) {
                    said(&self.log, "web push failed", &error.to_string());
                }
            }
            Outcome::Refused(reason) => said(&self.log, "web push refused", &reason),
            Outcome::Later(_, reason) if post.tries + 1 >= TRIES => {
                said(&self.log, "web push given up", &reason);
            }
            Outcome::Later(asked, _) => {
                let own = post.backoff.failed();
                post.due = Instant::now() + asked.map_or(own, |asked| asked.min(MOST_ASKED));
                post.tries += 1;
                // What holds for this one holds for all that go there.
                let same = self.waiting.iter_mut().filter(|other| other.to.endpoint == post.to.endpoint);
                same.for_each(|other| other.due = other.due.max(post.due));
                self.waiting.push_back(post);
            }
        }
    }

    fn request(&mut self, post: &Post) -> Outcome {
        let refused = |reason: &str| Outcome::Refused(reason.to_string());
        let settings = self.team.settings().web_push.clone();
        self.private.store(settings.private_endpoints, Ordering::Relaxed);
        let uri = match check(&post.to.endpoint, settings.private_endpoints) {
            Ok(uri) => uri,
            Err(bad) => return Outcome::Refused(format!("the endpoint {}", bad.0)),
        };
        let receiver = Receiver { key: post.to.p256dh.clone(), auth: post.to.auth };
        let Ok(body) = receiver.encrypt(post.payload.as_bytes()) else {
            return refused("the subscription's key is none");
        };
        let (subject, public) = (settings.subject.clone(), settings.public_key.clone());
        let (Some(pair), Some(public)) = (self.pair(settings), public) else {
            return refused("there is no key to sign with");
        };
        let claim = authorization(pair, &public, subject.as_deref(), &origin(&uri), now_ms());
        let request = self
            .agent()
            .post(uri)
            .header("Authorization", claim)
            .header("Content-Encoding", "aes128gcm")
            .header("Content-Type", "application/octet-stream")
            .header("TTL", LIFE.to_string())
            .header("Urgency", urgency(post.level));
        match request.send(&body[..]) {
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

    /// The pair that signs. That it cannot be opened is said once for each change of the setting.
    fn pair(&mut self, settings: WebPush) -> Option<&VapidKeys> {
        let stale = self.keys.as_ref().is_none_or(|keys| keys.of != settings);
        if stale {
            let pair = settings.keys(&self.kek).unwrap_or_else(|error| {
                self.log.line("web push is off", &json!({"reason": error.to_string()}));
                None
            });
            self.keys = Some(Keys { of: settings, pair });
        }
        self.keys.as_ref().and_then(|keys| keys.pair.as_ref())
    }

    /// It goes out directly, follows nobody, and trusts whom the system trusts.
    fn agent(&self) -> &Agent {
        self.shared.agent.get_or_init(|| {
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
                .timeout_global(Some(TIMEOUT))
                .user_agent(concat!("ac7/", env!("CARGO_PKG_VERSION")))
                .build();
            Agent::with_parts(config, DefaultConnector::default(), Outward::new(self.private.clone()))
        })
    }
}

/// How soon a browser is to be woken for it (RFC 8030 §5.3).
fn urgency(level: Level) -> &'static str {
    match level {
        Level::Debug => "very-low",
        Level::Info | Level::Notice | Level::Warning => "normal",
        Level::Error | Level::Critical => "high",
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
