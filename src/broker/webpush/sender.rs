//! The thread that makes posts of notices, deals them out to the [`Courier`]s, and tries again later where that is worth
//! it.
//!
//! A member has one courier at most: their dead or slow endpoints keep nobody else's notices.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver as Queue, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;
use ureq::http::{Request, Uri};

use super::address::{check, origin};
use super::courier::{Courier, Outcome, Way};
use super::encrypt::Receiver;
use super::token::authorization;
use super::waiting::{Post, Waiting};
use super::{Notice, Whom};
use crate::broker::live::LiveTeam;
use crate::broker::log::Log;
use crate::identity::{KekPlace, VapidKeys, WebPush};
use crate::store;
use crate::store::main::Store;
use crate::sys::clock::now_ms;
use crate::sys::thread::{self, Joinable};
use crate::team::Level;

/// Notices that may wait for the thread.
const QUEUED: usize = 256;
/// Requests that may be under way, each of another member.
const COURIERS: usize = 4;
/// How often a post is tried.
const TRIES: u32 = 6;
/// What a push service may ask us to wait at most.
const MOST_ASKED: Duration = Duration::from_secs(3600);
/// How long a push service is to keep a notice for a browser that is not there, s.
const LIFE: u32 = 24 * 3600;
/// How long the thread waits where there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(300);

/// The way to the thread. Dropping it ends the threads, with the requests that are under way.
pub struct Sender {
    queue: SyncSender<Event>,
    shared: Arc<Shared>,
    thread: Option<Joinable>,
}

/// What the thread hears.
enum Event {
    Notice(Notice),
    /// What became of the post that the courier of this number had.
    Done(usize, Outcome),
    Stop,
}

/// What both sides of the queue know.
#[derive(Default)]
struct Shared {
    way: Arc<Way>,
    /// Notices that the queue had no place for.
    dropped: AtomicU64,
}

impl Sender {
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(store: Arc<Store>, team: Arc<LiveTeam>, kek: KekPlace, log: Log) -> io::Result<Sender> {
        let (queue, events) = sync_channel(QUEUED);
        let shared = Arc::new(Shared::default());
        let seat = |number| {
            let done = queue.clone();
            let done = move |outcome| drop(done.send(Event::Done(number, outcome))); // it fails at the end alone
            Ok(Seat { courier: Courier::start(shared.way.clone(), done)?, post: None })
        };
        let seats = (0..COURIERS).map(seat).collect::<io::Result<Vec<_>>>()?;
        let waiting = Waiting::default();
        let mut work = Work { shared: shared.clone(), store, team, kek, log, keys: None, waiting, seats };
        let thread = thread::spawn("push", 1 << 20, move || work.run(events))?;
        Ok(Sender { queue, shared, thread: Some(thread) })
    }

    /// Let some hear of something, if there is a place for it.
    pub fn offer(&self, notice: Notice) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Event::Notice(notice)) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.way.close();
        // Where there is no place for it the thread is awake, and looks.
        let _ = self.queue.try_send(Event::Stop);
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

/// A courier, and the post that it has.
struct Seat {
    courier: Courier,
    post: Option<Post>,
}

/// What the thread has.
struct Work {
    shared: Arc<Shared>,
    store: Arc<Store>,
    team: Arc<LiveTeam>,
    kek: KekPlace,
    log: Log,
    keys: Option<Keys>,
    waiting: Waiting,
    seats: Vec<Seat>,
}

impl Work {
    fn run(&mut self, events: Queue<Event>) {
        while !self.shared.way.is_closed() {
            let event = match self.next() {
                Some(due) => events.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => events.recv_timeout(IDLE),
            };
            match event {
                Ok(Event::Notice(notice)) => {
                    if let Err(error) = self.take(&notice) {
                        self.log.line("web push failed", &json!({"reason": error.to_string()}));
                    }
                }
                Ok(Event::Done(number, outcome)) => self.done(number, outcome),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.deal();
            self.count_dropped(0);
        }
        let under_way = self.seats.iter().filter(|seat| seat.post.is_some()).count();
        self.count_dropped((self.waiting.len() + under_way) as u64);
        // The couriers may have something to say, which nobody hears any more.
        drop(events);
        self.seats.clear();
    }

    /// When the next post can go; `None` while nothing can but after an event.
    fn next(&self) -> Option<Instant> {
        self.seats.iter().find(|seat| seat.post.is_none())?;
        self.waiting.next(|member| is_busy(&self.seats, member))
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
                if !self.waiting.add(Post::new(&member, to, payload.clone(), notice.level)) {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Give what is due to couriers that have nothing.
    fn deal(&mut self) {
        while let Some(free) = self.seats.iter().position(|seat| seat.post.is_none()) {
            let seats = &self.seats;
            let Some(post) = self.waiting.take(Instant::now(), |member| is_busy(seats, member)) else {
                return;
            };
            // It may have been ended, or the browser may be somebody else's by now.
            if !self.store.is_subscribed(&post.member, &post.to.endpoint).unwrap_or(false) {
                continue;
            }
            match self.request(&post) {
                Ok(request) => {
                    self.seats[free].courier.hand(request);
                    self.seats[free].post = Some(post);
                }
                Err(reason) => self.said("web push refused", &post, &reason),
            }
        }
    }

    /// What became of the post that a courier had.
    fn done(&mut self, number: usize, outcome: Outcome) {
        let Some(mut post) = self.seats[number].post.take() else { return };
        match outcome {
            Outcome::Taken => {}
            Outcome::Gone => {
                self.said("web push ended", &post, "the browser has gone or has unsubscribed");
                self.waiting.forget(&post.to.endpoint);
                if let Err(error) = self.store.drop_subscription(&post.to.endpoint) {
                    self.said("web push failed", &post, &error.to_string());
                }
            }
            Outcome::Refused(reason) => self.said("web push refused", &post, &reason),
            Outcome::Later(_, reason) if post.tries + 1 >= TRIES => {
                self.said("web push given up", &post, &reason);
            }
            Outcome::Later(asked, _) => {
                let own = post.backoff.failed();
                post.tries += 1;
                let wait = asked.map_or(own, |asked| asked.min(MOST_ASKED));
                self.waiting.again(post, Instant::now() + wait);
            }
        }
    }

    /// A line of the log about a post. It names the push service, never the endpoint.
    fn said(&self, event: &str, post: &Post, reason: &str) {
        let host = origin(&post.to.endpoint.parse().unwrap_or_default());
        self.log.line(event, &json!({"member": post.member, "service": host, "reason": reason}));
    }

    /// The request that takes a post to its push service, or why there is none.
    fn request(&mut self, post: &Post) -> Result<Request<Vec<u8>>, String> {
        let settings = self.team.settings().web_push.clone();
        self.shared.way.private.store(settings.private_endpoints, Ordering::Relaxed);
        let uri: Uri = check(&post.to.endpoint, settings.private_endpoints)
            .map_err(|bad| format!("the endpoint {}", bad.0))?;
        let receiver = Receiver { key: post.to.p256dh.clone(), auth: post.to.auth };
        let body = receiver
            .encrypt(post.payload.as_bytes())
            .map_err(|_| "the subscription's key is none".to_string())?;
        let (subject, public) = (settings.subject.clone(), settings.public_key.clone());
        let (Some(pair), Some(public)) = (self.pair(settings), public) else {
            return Err("there is no key to sign with".to_string());
        };
        let claim = authorization(pair, &public, subject.as_deref(), &origin(&uri), now_ms());
        Request::post(uri)
            .header("Authorization", claim)
            .header("Content-Encoding", "aes128gcm")
            .header("Content-Type", "application/octet-stream")
            .header("TTL", LIFE.to_string())
            .header("Urgency", urgency(post.level))
            .body(body)
            .map_err(|error| error.to_string())
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
}

/// Whether a post of a member's is under way.
fn is_busy(seats: &[Seat], member: &str) -> bool {
    seats.iter().any(|seat| seat.post.as_ref().is_some_and(|post| post.member == member))
}

/// How soon a browser is to be woken for it (RFC 8030 §5.3).
fn urgency(level: Level) -> &'static str {
    match level {
        Level::Debug => "very-low",
        Level::Info | Level::Notice | Level::Warning => "normal",
        Level::Error | Level::Critical => "high",
    }
}
