//! What the broker counts of itself. Nothing of it tells who did what: anybody may see it.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::sys::clock::now_ms;

/// Counters since the start, and what there is now.
pub struct Counters {
    started: Instant,
    /// The same in ms since the epoch: it tells one start from the next.
    started_at: u64,
    /// Connections that are open.
    pub connections: AtomicUsize,
    /// Streams that are open.
    pub streams: AtomicUsize,
    /// Uploads that wait to be written.
    pub uploads: AtomicUsize,
    /// Requests that reached no route: unclean, too large, too slow, from strangers, or too many at once.
    pub refused: AtomicU64,
    /// Connections that were closed, or not taken in, to make room for others.
    pub evicted: AtomicU64,
    /// Streams that ended before their client did, because it was too slow or the broker too busy.
    pub dropped: AtomicU64,
}

impl Counters {
    #[must_use]
    pub fn new() -> Counters {
        Counters {
            started: Instant::now(),
            started_at: now_ms(),
            connections: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Seconds since the start.
    #[must_use]
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// All of them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let now = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        let sum = |n: &AtomicU64| n.load(Ordering::Relaxed);
        json!({
            "startedAt": self.started_at,
            "uptimeSeconds": self.uptime_s(),
            "connections": now(&self.connections),
            "streams": now(&self.streams),
            "uploadsWaiting": now(&self.uploads),
            "requestsRefused": sum(&self.refused),
            "connectionsEvicted": sum(&self.evicted),
            "streamsDropped": sum(&self.dropped),
        })
    }
}

/// Count one more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One of what there is now; dropping it counts it out.
pub struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    #[must_use]
    pub fn enter(counter: &'a AtomicUsize) -> Present<'a> {
        counter.fetch_add(1, Ordering::Relaxed);
        Present(counter)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
