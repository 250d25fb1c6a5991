//! The way from the relay to the capture worker: copies of bytes through a bounded queue that never blocks.
use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exchange::{Side, Target};
use super::pool::Pool;
use crate::activity::Event;
use crate::sys::clock;

/// What the worker gets. Times are ms since the epoch.
#[derive(Debug)]
pub enum Message {
    Open {
        tunnel: u64,
        target: Target,
    },
    Data {
        tunnel: u64,
        side: Side,
        bytes: Vec<u8>,
        at: u64,
    },
    /// The queue was full: so many bytes are missing here.
    Gap {
        tunnel: u64,
        side: Side,
        lost: u64,
        at: u64,
    },
    /// No more bytes will come this way.
    End {
        tunnel: u64,
        side: Side,
        at: u64,
    },
    /// An event that needs no reassembly: a tunnel or a refused upstream.
    Event(Box<Event>),
}

/// Bytes that may wait for the worker.
const MAX_BYTES: usize = 8 << 20;
/// Messages that may wait: small ones cost more than their bytes.
const MAX_MESSAGES: usize = 65_536;
/// While traffic flows the worker looks into the queue this often instead of being woken for every chunk.
const POLL: Duration = Duration::from_millis(1);
/// Looks in vain before the worker goes to sleep until it is woken.
const POLLS_BEFORE_SLEEP: u32 = 20;

#[derive(Default)]
struct State {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Whether the worker waits to be woken.
    asleep: bool,
    closed: bool,
}

/// The queue, shared by the relay threads and the worker.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    tunnels: AtomicU64,
    /// Where the buffers come from and go back to.
    pub pool: Arc<Pool>,
}

impl Queue {
    /// A new, empty queue.
    #[must_use]
    pub fn new() -> Arc<Queue> {
        Arc::default()
    }

    /// Put a small message in, even if the queue is full: it may not be lost.
    fn put(&self, message: Message) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.messages.push_back(message);
            self.wake(state);
        }
    }

    /// Put bytes in, with the gap before them if there is one; `false` if there is no room for them.
    fn put_data(&self, tunnel: u64, side: Side, bytes: Vec<u8>, lost: u64) -> bool {
        let at = clock::now_ms();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed || state.bytes + bytes.len() > MAX_BYTES || state.messages.len() >= MAX_MESSAGES {
            return false;
        }
        if lost > 0 {
            state.messages.push_back(Message::Gap { tunnel, side, lost, at });
        }
        state.bytes += bytes.len();
        state.messages.push_back(Message::Data { tunnel, side, bytes, at });
        self.wake(state);
        true
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// An event that needs no reassembly.
    pub fn event(&self, event: Event) {
        self.put(Message::Event(Box::new(event)));
    }

    /// Announce a decrypted connection to `target`.
    pub fn open(self: &Arc<Queue>, target: Target) -> Tap {
        let tunnel = self.tunnels.fetch_add(1, Ordering::Relaxed);
        self.put(Message::Open { tunnel, target });
        Tap { queue: self.clone(), tunnel }
    }

    /// Take everything that waits, in order; waits until there is something. `None` once the queue is closed and
    /// empty. For the worker alone.
    pub fn take(&self) -> Option<VecDeque<Message>> {
        let mut polls = 0;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !state.messages.is_empty() {
                state.bytes = 0;
                return Some(mem::take(&mut state.messages));
            }
            if state.closed {
                return None;
            }
            if polls < POLLS_BEFORE_SLEEP {
                polls += 1;
                let waited = self.wake.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
            } else {
                state.asleep = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                polls = 0;
            }
        }
    }

    /// Take nothing more; the worker ends when it has seen what is here.
    pub fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.wake.notify_all();
    }
}

/// One tunnel's end of the queue. Each direction has its own [`Feed`].
pub struct Tap {
    queue: Arc<Queue>,
    tunnel: u64,
}

impl Tap {
    /// The feed of one direction.
    #[must_use]
    pub fn feed(&self, side: Side) -> Feed {
        Feed { queue: self.queue.clone(), tunnel: self.tunnel, side, lost: 0 }
    }
}

/// One direction of one tunnel. Dropping it tells the worker that no more bytes will come.
pub struct Feed {
    queue: Arc<Queue>,
    tunnel: u64,
    side: Side,
    /// Bytes that found no room since the last message that did.
    lost: u64,
}

impl Feed {
    /// Hand over a copy of what was passed on. Never blocks; what finds no room is told as a gap.
    pub fn data(&mut self, bytes: Vec<u8>) {
        let size = bytes.len() as u64;
        if self.queue.put_data(self.tunnel, self.side, bytes, self.lost) {
            self.lost = 0;
        } else {
            self.lost += size;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let (tunnel, side, at) = (self.tunnel, self.side, clock::now_ms());
        if self.lost > 0 {
            self.queue.put(Message::Gap { tunnel, side, lost: self.lost, at });
        }
        self.queue.put(Message::End { tunnel, side, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { scheme: "https", host: "a.example".into(), port: 443 }
    }

    #[test]
    fn a_full_queue_loses_bytes_and_says_how_many() {
        let queue = Queue::new();
        let mut feed = queue.open(target()).feed(Side::Upstream);
        let chunk = vec![7; 1 << 20];
        for _ in 0..20 {
            feed.data(chunk.clone());
        }
        let first = queue.take().unwrap();
        assert_eq!(first.len(), 1 + 8, "the announcement and 8 MB");
        feed.data(vec![1, 2, 3]);
        drop(feed);
        queue.close();
        let rest: Vec<_> = queue.take().unwrap().into();
        assert!(
            matches!(rest[0], Message::Gap { lost: 12_582_912, side: Side::Upstream, .. }),
            "{:?}",
            rest[0]
        );
        assert!(matches!(&rest[1], Message::Data { bytes, .. } if bytes == &[1, 2, 3]));
        assert!(matches!(rest[2], Message::End { .. }));
        assert!(queue.take().is_none());
    }

    #[test]
    fn a_loss_at_the_very_end_is_told_too() {
        let queue = Queue::new();
        let mut feed = queue.open(target()).feed(Side::Agent);
        for _ in 0..9 {
            feed.data(vec![0; 1 << 20]);
        }
        drop(feed);
        let all: Vec<_> = queue.take().unwrap().into();
        assert!(matches!(all[all.len() - 2], Message::Gap { lost: 1_048_576, .. }));
    }

    #[test]
    fn a_sleeping_worker_is_woken() {
        let queue = Queue::new();
        let other = queue.clone();
        let worker = std::thread::spawn(move || other.take().map(|m| m.len()));
        while !queue.state.lock().unwrap().asleep {
            std::thread::yield_now();
        }
        queue.open(target());
        assert_eq!(worker.join().unwrap(), Some(1));
    }
}
