//! How many model calls are under way: set by the capture worker, waited for by whoever wants to know.
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The number, and whether anybody still counts.
#[derive(Default)]
pub struct UnderWay {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    calls: usize,
    closed: bool,
}

/// What a wait has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Busy,
    Idle,
    /// Nothing changed in time.
    Same,
    /// Nobody counts any more.
    Closed,
}

impl UnderWay {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many from now on.
    pub fn set(&self, calls: usize) {
        self.lock().calls = calls;
        self.changed.notify_all();
    }

    /// Wake all who wait; there will be no more news.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Wait until there are calls where there were none, or none where there were some, for at most `longest`.
    pub fn wait(&self, busy: bool, longest: Option<Duration>) -> News {
        let deadline = longest.map(|longest| Instant::now() + longest);
        let mut state = self.lock();
        loop {
            if state.closed {
                return News::Closed;
            }
            if (state.calls > 0) != busy {
                return if busy { News::Idle } else { News::Busy };
            }
            state = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return News::Same,
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
