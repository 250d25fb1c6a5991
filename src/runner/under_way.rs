//! What the model calls of a session amount to: counted by the capture worker, waited for by whoever wants to know.
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Calls that begin and end while others are under way are told so late.
const PATIENCE: Duration = Duration::from_secs(1);

/// Tells how many events wait to be sent, and how many are lost.
pub type Backlog = Box<dyn Fn() -> (u64, u64) + Send + Sync>;

/// The numbers, and whether anybody still counts.
#[derive(Default)]
pub struct UnderWay {
    state: Mutex<State>,
    changed: Condvar,
    backlog: OnceLock<Backlog>,
}

#[derive(Default)]
struct State {
    calls: usize,
    /// Calls that have ended.
    ended: u64,
    counts: Counts,
    closed: bool,
}

/// What there is to count, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Model calls under way.
    pub active: u64,
    /// Model calls that have begun.
    pub total: u64,
    /// Those that have failed.
    pub errors: u64,
    /// Events that wait to be sent.
    pub queued: u64,
    /// Events that are lost.
    pub dropped: u64,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where events go from now on.
    pub fn watch(&self, backlog: Backlog) {
        // A session has one sink; a second would not be the first one's successor.
        let _ = self.backlog.set(backlog);
    }

    /// So many from now on.
    fn set(&self, calls: usize) {
        let mut state = self.lock();
        state.calls = calls;
        state.count();
        drop(state);
        self.changed.notify_all();
    }

    /// Wake all who wait; there will be no more news.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Wait until no call is under way, for at most `longest`.
    pub fn rest(&self, longest: Duration) {
        let busy = |state: &mut State| state.calls > 0 && !state.closed;
        drop(self.changed.wait_timeout_while(self.lock(), longest, busy));
    }

    /// Wait until there is another number of calls than `told`, for at most `longest`. That there are some, or none any
    /// more, is told at once. Gives the counts, and whether they are the last ones.
    pub fn news(&self, told: u64, longest: Option<Duration>) -> (Counts, bool) {
        let begun = Instant::now();
        let mut state = self.lock();
        loop {
            let calls = state.calls as u64;
            let patience = match () {
                () if state.closed || (calls > 0) != (told > 0) => Some(Duration::ZERO),
                () if calls != told => Some(PATIENCE),
                () => longest,
            };
            state = match patience.map(|patience| patience.saturating_sub(begun.elapsed())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let (mut counts, closed) = (Counts { active: state.calls as u64, ..state.counts }, state.closed);
        drop(state);
        // It has a lock of its own.
        (counts.queued, counts.dropped) = self.backlog.get().map_or((0, 0), |backlog| backlog());
        (counts, closed)
    }
}

impl State {
    /// What ended without being told as a call was one that could not be understood; it is no second one.
    fn count(&mut self) {
        self.counts.total = self.counts.total.max(self.ended + self.calls as u64);
    }
}

/// Who counts. When it goes, be it by a panic, nothing is under way any more.
pub struct Counter(Arc<UnderWay>);

impl Counter {
    #[must_use]
    pub fn new(under_way: Arc<UnderWay>) -> Counter {
        Counter(under_way)
    }

    /// So many calls are under way from now on.
    pub fn set(&self, calls: usize) {
        self.0.set(calls);
    }

    /// A call has ended, which has yet to be counted out.
    pub fn ended(&self, failed: bool) {
        let mut state = self.0.lock();
        state.ended += 1;
        state.counts.errors += u64::from(failed);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_under_way_without_a_counter() {
        let under_way = Arc::new(UnderWay::default());
        let now = || under_way.news(9, Some(Duration::ZERO)).0;
        let counter = Counter::new(under_way.clone());
        counter.set(2);
        assert_eq!((now().active, now().total), (2, 2));
        // One ends and another begins before anybody is told.
        counter.ended(true);
        counter.set(2);
        assert_eq!((now().active, now().total, now().errors), (2, 3, 1));
        let held = counter;
        let thread = std::thread::spawn(move || {
            let _counter = held;
            panic!("a panic that this test wants");
        });
        assert!(thread.join().is_err());
        assert_eq!((now().active, now().total, now().errors), (0, 3, 1));
    }

    #[test]
    fn what_waits_is_asked_for_when_it_is_told() {
        let under_way = UnderWay::default();
        assert_eq!(under_way.news(0, Some(Duration::ZERO)), (Counts::default(), false));
        under_way.watch(Box::new(|| (7, 1)));
        under_way.close();
        let want = Counts { queued: 7, dropped: 1, ..Counts::default() };
        assert_eq!(under_way.news(0, None), (want, true));
    }
}
