//! The local database as a sink: a writer thread and a bounded queue before it.
//!
//! The agent must run whatever becomes of the database: what cannot be stored is counted, with the reason. The file
//! is opened by the thread, so that nobody waits for it.
use std::collections::VecDeque;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Encoded, Place, Report, Sink};
use crate::store::activity::{Batch, Parser, Store, Upload};
use crate::store::{Error, Stop, Upgrade};
use crate::sys::clock;
use crate::sys::thread::{self, Joinable};

/// Bytes of JSON that may wait before [`LocalSink::push`] does.
const QUEUE_BYTES: usize = 64 << 20;

/// One transaction takes at most so many events and, but for the last one, so many bytes.
const GROUP_EVENTS: usize = 256;
const GROUP_BYTES: usize = 8 << 20;

/// A commit costs as much for one event as for many: the first one waits this long for company.
const GATHER: Duration = Duration::from_millis(100);

/// The parser of a hostile event recurses some hundred times.
const STACK: usize = 1 << 20;

/// Stores events in a database of this machine. At most 64 MB wait for the disk; then `push` waits too.
pub struct LocalSink {
    shared: Arc<Shared>,
    thread: Option<Joinable>,
    place: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<String>,
    bytes: usize,
    /// Events that the thread has taken and not yet stored or dropped.
    in_hand: u64,
    /// Whether a `push` waits for room.
    waiting: bool,
    /// When the thread has to have ended.
    deadline: Option<Instant>,
    ended: bool,
    stored: u64,
    dropped: u64,
    reason: Option<String>,
    upgrade: Option<Upgrade>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is no more time for a lock that another program holds.
    fn late(&self) -> bool {
        self.lock().deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl State {
    /// Whether there is no point in waiting for more events before a commit.
    fn is_group(&self) -> bool {
        let full = self.queue.len() >= GROUP_EVENTS || self.bytes >= GROUP_BYTES;
        full || self.waiting || self.deadline.is_some()
    }

    fn drop_events(&mut self, count: u64, reason: String) {
        self.dropped += count;
        if count > 0 {
            self.reason = Some(reason);
        }
    }
}

impl LocalSink {
    /// A sink into the database at `path`, whose rows are to belong to `member`. Nothing is opened yet.
    #[must_use]
    pub fn new(path: PathBuf, member: String) -> LocalSink {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let place = path.clone();
        let ended = Ended(shared.clone());
        let started = thread::spawn("store", STACK, move || {
            thread::give_way();
            let ended = ended;
            let shared = ended.0.clone();
            let late = shared.clone();
            let stop: Stop = Arc::new(move || late.late());
            Writer { shared, path, member, stop, parser: Parser::new(), store: None }.run();
        });
        if let Err(e) = &started {
            shared.lock().reason = Some(format!("no thread for the local database: {e}"));
        }
        LocalSink { shared, thread: started.ok(), place }
    }
}

impl Sink for LocalSink {
    fn push(&mut self, event: Encoded) {
        let mut state = self.shared.lock();
        while state.bytes + event.json.len() > QUEUE_BYTES && !state.queue.is_empty() && !state.ended {
            state.waiting = true;
            self.shared.changed.notify_all();
            state = self.shared.wait(state);
        }
        state.waiting = false;
        if state.ended {
            state.dropped += 1;
            return;
        }
        state.bytes += event.json.len();
        state.queue.push_back(event.json);
        let wake = state.queue.len() == 1 || state.is_group();
        drop(state);
        if wake {
            self.shared.changed.notify_all();
        }
    }

    fn close(mut self: Box<Self>, grace: Duration) -> Report {
        self.stop(grace);
        let mut state = self.shared.lock();
        Report {
            stored: state.stored,
            dropped: state.dropped,
            reason: state.reason.take().filter(|_| state.dropped > 0),
            place: Some(Place::Database(mem::take(&mut self.place))),
            upgrade: state.upgrade.take(),
        }
    }
}

impl LocalSink {
    fn stop(&mut self, grace: Duration) {
        self.shared.lock().deadline = Some(Instant::now() + grace);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

impl Drop for LocalSink {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop(Duration::ZERO);
        }
    }
}

/// Held by the thread: however it ends, nobody waits for it any more and what it leaves is counted.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        let left = state.in_hand + state.queue.len() as u64;
        if left > 0 {
            state.dropped += left;
            state.reason.get_or_insert_with(|| "the local database did not keep up".into());
        }
        state.queue.clear();
        (state.bytes, state.in_hand) = (0, 0);
        drop(state);
        self.0.changed.notify_all();
    }
}

struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    member: String,
    stop: Stop,
    parser: Parser,
    store: Option<Store>,
}

impl Writer {
    fn run(mut self) {
        while let Some(group) = self.take() {
            self.store(&group);
        }
    }

    /// The next events; `None` when there will be no more or no time is left.
    fn take(&self) -> Option<Vec<String>> {
        let mut state = self.shared.lock();
        while state.queue.is_empty() {
            if state.deadline.is_some() {
                return None;
            }
            state = self.shared.wait(state);
        }
        let due = Instant::now() + GATHER;
        while !state.is_group() && Instant::now() < due {
            state = self.shared.wait_for(state, due.saturating_duration_since(Instant::now()));
        }
        if state.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        let (mut group, mut size) = (Vec::new(), 0);
        while group.len() < GROUP_EVENTS && size < GROUP_BYTES {
            let Some(event) = state.queue.pop_front() else { break };
            size += event.len();
            group.push(event);
        }
        state.bytes -= size;
        state.in_hand = group.len() as u64;
        drop(state);
        self.shared.changed.notify_all();
        Some(group)
    }

    fn store(&mut self, group: &[String]) {
        match self.parser.events(group.iter().map(String::as_str)) {
            Ok(batch) => {
                let result = self.append(&batch);
                self.count(group.len() as u64, result.map_err(|e| e.to_string()));
            }
            Err(invalid) if group.len() == 1 => {
                self.count(1, Err(format!("an event that is not one: {invalid}")));
            }
            // One is wrong: the others need not suffer.
            Err(_) => group.chunks(1).for_each(|one| self.store(one)),
        }
    }

    fn count(&self, events: u64, result: Result<(), String>) {
        let mut state = self.shared.lock();
        state.in_hand -= events;
        match result {
            Ok(()) => state.stored += events,
            Err(reason) => state.drop_events(events, reason),
        }
    }

    /// Append. A lock is waited for until someone needs the room or the time is up.
    fn append(&mut self, batch: &Batch) -> Result<(), Error> {
        loop {
            match self.try_append(batch) {
                Err(Error::Locked { .. }) if !(self.stop)() && !self.shared.lock().waiting => {}
                other => return other,
            }
        }
    }

    fn try_append(&mut self, batch: &Batch) -> Result<(), Error> {
        let store = match &mut self.store {
            Some(store) => store,
            None => {
                let store = Store::open_unless(&self.path, &self.stop)?;
                self.shared.lock().upgrade = store.upgrade().cloned();
                self.store.insert(store)
            }
        };
        store.append(&[Upload { member: &self.member, batch, key: None }], clock::now_ms()).map(drop)
    }
}
