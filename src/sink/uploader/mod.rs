//! Events on their way to the broker: one thread, one batch at a time, in order, at least once.
//!
//! Comes in: events, which are queued without waiting for anything. Goes out: batches to
//! `POST /members/:name/activity`, each under a key of its own that all its retries share, so that a lost answer
//! stores nothing twice. The queue is bounded; what it had to drop is counted, and a note takes its place.
mod events;
mod queue;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::queue::{Item, Queue, Trouble, USUAL};
use super::{Encoded, Place, Report, Sink};
use crate::client::{Answer, Backoff, Client, Error, Failure};
use crate::sys::random;
use crate::sys::thread::{self, Joinable};

/// Takes a session-log line: what happened, and the facts. Called on the uploader's thread, outside all locks.
pub type Log = Box<dyn Fn(&str, &[(&str, String)]) + Send>;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A TLS handshake and the JSON of an event of 4 MB; only what is touched is paid for.
const STACK: usize = 1 << 20;

/// How long the thread may take to notice that its request was aborted.
const ABORT: Duration = Duration::from_millis(500);

/// Sends events to a broker from a thread of its own.
pub struct Uploader {
    shared: Arc<Shared>,
    client: Client,
    thread: Option<Joinable>,
}

struct Shared {
    state: Mutex<State>,
    /// Wakes the thread: a batch is due, or the phase has changed.
    work: Condvar,
    /// Wakes the owner: the thread has ended.
    ended: Condvar,
    started: Instant,
}

struct State {
    queue: Queue,
    phase: Phase,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Send what is here, then end.
    Draining,
    /// End.
    Stopping,
}

impl Uploader {
    /// Start the thread, with a client of its own: closing may abort the requests of all its clones. It asks the broker for the member's name unless `member` is given; a broker that is down
    /// is asked again and again, while events queue up.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(client: Client, member: Option<String>, log: Log) -> io::Result<Uploader> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { queue: Queue::new(USUAL), phase: Phase::Running, ended: false }),
            work: Condvar::new(),
            ended: Condvar::new(),
            started: Instant::now(),
        });
        let mut sender = Sender {
            shared: Arc::clone(&shared),
            client: client.clone(),
            log,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            phase: Phase::Running,
        };
        let thread = thread::spawn("uploader", STACK, move || {
            let _ended = Ended(Arc::clone(&sender.shared));
            sender.run(member);
        })?;
        Ok(Uploader { shared, client, thread: Some(thread) })
    }

    /// Gives what tells how many events are not stored yet, and how many are lost.
    pub fn backlog(&self) -> impl Fn() -> (u64, u64) + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.lock().queue.backlog()
    }

    /// Stop the thread after at most `grace` and a little, and account for everything.
    fn finish(&mut self, grace: Duration) -> Report {
        let mut state = self.shared.lock();
        // With nothing to send a request can only be for the name, which nobody needs any more.
        state.phase = if state.queue.is_idle() { Phase::Stopping } else { Phase::Draining };
        self.shared.work.notify_all();
        if state.phase == Phase::Draining {
            state = self.shared.wait_for_end(state, grace);
            state.phase = Phase::Stopping;
            self.shared.work.notify_all();
        }
        if !state.ended {
            drop(state);
            self.client.abort();
            state = self.shared.wait_for_end(self.shared.lock(), ABORT);
        }
        let (stored, dropped, reason) = state.queue.finish(self.shared.now());
        let ended = state.ended;
        drop(state);
        // A thread inside a name lookup or a TCP connect cannot be called back. It has nothing left to do and
        // ends by itself in some seconds; the user should not have to wait for that.
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            thread.join();
        }
        let place = Some(Place::Broker(self.client.url().to_string()));
        Report { stored, dropped, reason, place, upgrade: None }
    }
}

impl Sink for Uploader {
    fn push(&mut self, event: Encoded) {
        let now = self.shared.now();
        if self.shared.lock().queue.push(event, now) {
            self.shared.work.notify_one();
        }
    }

    fn close(mut self: Box<Self>, grace: Duration) -> Report {
        self.finish(grace)
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.finish(Duration::ZERO);
        }
    }
}

/// Tells the owner that the thread has ended, also if it panicked.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.ended.notify_all();
    }
}

impl Shared {
    /// The state is sound after a panic: each change of it is complete or has not begun.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn wait_for_end<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        let waited = self.ended.wait_timeout_while(state, longest, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Wait for the next batch; `None` when it is time to end.
    fn next(&self) -> Option<Vec<Item>> {
        let mut state = self.lock();
        loop {
            let due = state.queue.due(self.now());
            match (state.phase, due) {
                (Phase::Stopping, _) | (Phase::Draining, None) => return None,
                (Phase::Draining, Some(_)) | (_, Some(Duration::ZERO)) => return Some(state.queue.cut()),
                (Phase::Running, Some(wait)) => {
                    let waited = self.work.wait_timeout(state, wait);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                (Phase::Running, None) => {
                    state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Wait before the next try: for `length`, or until the phase is another than the one the caller knows of (the
    /// owner may have begun to close since it last looked). `None` when it is time to end.
    fn pause(&self, length: Duration, known: Phase) -> Option<Phase> {
        let waited = self.work.wait_timeout_while(self.lock(), length, |state| state.phase == known);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        match state.phase {
            Phase::Stopping => None,
            Phase::Draining if state.queue.is_idle() => None,
            phase => Some(phase),
        }
    }
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Stored,
    /// The broker will not have these bytes (status).
    Refused(u16),
    Failed(Failed),
}

/// What to do after a request that did nothing.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// Again, and not before the broker's own wish, if it has one.
    Retry(Trouble, Option<Duration>),
    /// Nothing any more, and why.
    Final(String),
}

fn judge_status(status: u16, retry_after: Option<Duration>) -> Verdict {
    Verdict::Failed(match status {
        200..=299 => return Verdict::Stored,
        400 | 413 => return Verdict::Refused(status),
        // Final for the session: a token that was revoked does not come back, and asking again is noise.
        401 | 403 => Failed::Final(format!("the broker refused the token ({status})")),
        404 => Failed::Final("the broker does not know this member (404)".to_string()),
        _ => Failed::Retry(Trouble::Status(status), retry_after),
    })
}

fn judge_error(error: &Error) -> Failed {
    match error {
        Error::Unreachable { failure, .. } | Error::Briefing { failure, .. } => match failure {
            Failure::Status(401 | 403, _) => Failed::Final(failure.to_string()),
            Failure::Status(404, _) => Failed::Final("no ac7 broker answers there (404)".to_string()),
            Failure::Status(status, _) => Failed::Retry(Trouble::Status(*status), None),
            other if other.is_distrust() => Failed::Retry(Trouble::Distrust(other.to_string()), None),
            _ => Failed::Retry(Trouble::Silent, None),
        },
        Error::BadAnswer { .. } => Failed::Retry(Trouble::Distrust(error.to_string()), None),
        // Without a token there is nothing to wait for.
        other => Failed::Final(other.to_string()),
    }
}

/// The fate of a batch.
enum Sent {
    Stored,
    Refused(u16),
    /// Unknown; it is time to end.
    Ended,
}

/// The facts of a log line.
type Facts = Vec<(&'static str, String)>;

/// The thread's own half.
struct Sender {
    shared: Arc<Shared>,
    client: Client,
    log: Log,
    backoff: Backoff,
    /// The last phase that was seen while waiting for another try.
    phase: Phase,
}

impl Sender {
    fn run(&mut self, member: Option<String>) {
        let Some(member) = member.or_else(|| self.ask_name()) else { return };
        while let Some(items) = self.shared.next() {
            if !self.deliver(&member, items) {
                return;
            }
        }
    }

    /// The member's name from the broker; `None` if it will not tell, or it is time to end.
    fn ask_name(&mut self) -> Option<String> {
        loop {
            self.shared.lock().queue.asked(self.shared.now());
            let error = match self.client.briefing() {
                Ok(briefing) => {
                    self.shared.lock().queue.answered(self.shared.now());
                    self.backoff.reset();
                    return Some(briefing.name);
                }
                Err(error) => error,
            };
            let facts = vec![("error", error.to_string())];
            if !self.failed("briefing failed", facts, judge_error(&error)) {
                return None;
            }
        }
    }

    /// See a batch through. False when it is time to end.
    fn deliver(&mut self, member: &str, mut items: Vec<Item>) -> bool {
        loop {
            let status = match self.send(member, &items) {
                Sent::Stored => return true,
                Sent::Ended => return false,
                Sent::Refused(status) => status,
            };
            let simpler = match items.as_slice() {
                [Item::Event(event)] => events::as_opaque(event),
                _ => None,
            };
            let Some(opaque) = simpler else {
                self.shared.lock().queue.refused(items, status, self.shared.now());
                return true;
            };
            items = vec![Item::Event(opaque)];
        }
    }

    /// Send the same bytes under the same key until their fate is known.
    fn send(&mut self, member: &str, items: &[Item]) -> Sent {
        let body = body_of(items);
        let key = random::hex::<16>();
        loop {
            let began = self.shared.now();
            self.shared.lock().queue.asked(began);
            let sent = self.client.append_activity(member, &body, &key);
            let now = self.shared.now();
            let mut facts = vec![
                ("events", items.len().to_string()),
                ("bytes", body.len().to_string()),
                ("ms", (now - began).as_millis().to_string()),
            ];
            let verdict = match sent {
                Ok(Answer { status, retry_after, error, .. }) => {
                    facts.push(("status", status.to_string()));
                    facts.extend(error.map(|text| ("error", text)));
                    judge_status(status, retry_after)
                }
                Err(error) => {
                    facts.push(("error", error.to_string()));
                    Verdict::Failed(judge_error(&error))
                }
            };
            match verdict {
                Verdict::Stored => {
                    self.backoff.reset();
                    self.shared.lock().queue.stored(now);
                    (self.log)("batch sent", &facts);
                    return Sent::Stored;
                }
                Verdict::Refused(status) => {
                    self.backoff.reset();
                    (self.log)("batch failed", &facts);
                    return Sent::Refused(status);
                }
                Verdict::Failed(failed) => {
                    if !self.failed("batch failed", facts, failed) {
                        return Sent::Ended;
                    }
                }
            }
        }
    }

    /// Wait for the next try. False if there is none, or it is time to end.
    fn failed(&mut self, what: &str, mut facts: Facts, failed: Failed) -> bool {
        let (trouble, wish) = match failed {
            Failed::Retry(trouble, wish) => (trouble, wish),
            Failed::Final(why) => {
                self.shared.lock().queue.give_up(&why);
                facts.push(("givenUp", why));
                (self.log)(what, &facts);
                return false;
            }
        };
        self.shared.lock().queue.failed(trouble, self.shared.now());
        let wait = self.backoff.failed().max(wish.unwrap_or_default()).min(LONGEST_WAIT);
        facts.push(("retryMs", wait.as_millis().to_string()));
        (self.log)(what, &facts);
        let Some(phase) = self.shared.pause(wait, self.phase) else { return false };
        if phase != self.phase {
            // What was a fair wait for a session is too long for its last seconds.
            self.phase = phase;
            self.backoff.reset();
        }
        true
    }
}

fn body_of(items: &[Item]) -> Vec<u8> {
    let jsons: Vec<&str> = items.iter().map(Item::json).collect();
    format!(r#"{{"events":[{}]}}"#, jsons.join(",")).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Failed, Item, Trouble, Verdict, body_of, judge_error, judge_status};
    use crate::client::{Error, Failure};
    use crate::sink::Encoded;

    fn retry(trouble: Trouble) -> Failed {
        Failed::Retry(trouble, None)
    }

    fn last(why: &str) -> Failed {
        Failed::Final(why.to_string())
    }

    #[test]
    fn statuses() {
        let wish = Some(Duration::from_secs(7));
        for (status, want) in [
            (200, Verdict::Stored),
            (201, Verdict::Stored),
            (400, Verdict::Refused(400)),
            (413, Verdict::Refused(413)),
            (401, Verdict::Failed(last("the broker refused the token (401)"))),
            (403, Verdict::Failed(last("the broker refused the token (403)"))),
            (404, Verdict::Failed(last("the broker does not know this member (404)"))),
            (302, Verdict::Failed(Failed::Retry(Trouble::Status(302), wish))),
            (409, Verdict::Failed(Failed::Retry(Trouble::Status(409), wish))),
            (429, Verdict::Failed(Failed::Retry(Trouble::Status(429), wish))),
            (503, Verdict::Failed(Failed::Retry(Trouble::Status(503), wish))),
        ] {
            assert_eq!(judge_status(status, wish), want, "{status}");
        }
    }

    #[test]
    fn failures() {
        let distrust = retry(Trouble::Distrust(Failure::UnknownIssuer.to_string()));
        for (failure, want) in [
            (Failure::Refused, retry(Trouble::Silent)),
            (Failure::TimedOut, retry(Trouble::Silent)),
            (Failure::Closed, retry(Trouble::Silent)),
            (Failure::UnknownIssuer, distrust),
            (Failure::Status(500, None), retry(Trouble::Status(500))),
            (Failure::Status(204, None), retry(Trouble::Status(204))),
            (Failure::Status(401, None), last("the broker refused the token (401)")),
            (Failure::Status(404, None), last("no ac7 broker answers there (404)")),
        ] {
            let error = Error::Briefing { url: "http://b".into(), failure: failure.clone() };
            assert_eq!(judge_error(&error), want, "{failure:?}");
        }
        assert_eq!(judge_error(&Error::NoToken { near: None }), last("--token or AC7_TOKEN is required"));
    }

    #[test]
    fn a_batch_is_one_document_in_order() {
        let event = |json: &str| Encoded { ts: 1, kind: "opaque_http", json: json.to_string() };
        let items = [Item::Note(event("{}")), Item::Event(event(r#"{"a":1}"#))];
        assert_eq!(body_of(&items), br#"{"events":[{},{"a":1}]}"#);
        assert_eq!(body_of(&items[..1]), br#"{"events":[{}]}"#);
    }
}
