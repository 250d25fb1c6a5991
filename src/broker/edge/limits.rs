//! What a client may ask of the edge, in bytes and in time.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The limits. The size of a head is [`crate::http1::Rules::EDGE`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at the same time; one address gets half of them.
    pub clients: usize,
    /// From the first byte of a head to its last, and from a new connection to its first byte.
    pub head: Duration,
    /// From the end of the head to the end of the body.
    pub body: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// From the request's end to the answer's, unless that is a stream.
    pub answer: Duration,
    /// Streams (answers that never end) at the same time; one member gets two thirds of them.
    pub streams: usize,
    /// Between two signs of life on a stream.
    pub keep_alive: Duration,
    /// For one piece of a stream, up to 256 KB or one event; a client that is slower is dropped.
    pub lag: Duration,
    /// One write to a client that does not read.
    pub write: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of a body of somebody without a valid token: strangers must not use up what all bodies together may have.
    pub strangers_body: usize,
    /// Bytes of all bodies of strangers that are held at the same time.
    pub strangers_bodies: usize,
    /// Bytes of all bodies of members that are held at the same time, of all pieces of streams, and of all answers that
    /// wait to be whole.
    pub all_bodies: usize,
    /// Bytes of all files that are coming in: on the disk, not in memory.
    pub all_uploads: usize,
    /// Bytes of the messages, objectives and channels of one member within a day.
    pub said: usize,
    /// Bytes of the disk that activity leaves free: messages, sessions and tokens need some when it is nearly full.
    pub reserve: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            clients: 2048,
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(75),
            answer: Duration::from_secs(120),
            streams: 768,
            keep_alive: Duration::from_secs(15),
            lag: Duration::from_secs(10),
            write: Duration::from_secs(30),
            body_bytes: 8 << 20,
            strangers_body: 64 << 10,
            strangers_bodies: 8 << 20,
            all_bodies: 64 << 20,
            all_uploads: 512 << 20,
            said: 64 << 20,
            reserve: 64 << 20,
        }
    }
}

/// Bytes that may still be held, shared by all connections.
pub struct Budget(AtomicUsize);

impl Budget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Budget {
        Budget(AtomicUsize::new(bytes))
    }

    /// Hold nothing yet.
    #[must_use]
    pub fn hold(&self) -> Held<'_> {
        Held { budget: self, bytes: 0 }
    }
}

/// A part of the budget; it goes back when this is dropped.
pub struct Held<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl Held<'_> {
    /// Hold so many bytes more, or nothing more if the budget has not as many.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self.budget.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn what_is_held_goes_back() {
        let budget = Budget::new(10);
        let mut a = budget.hold();
        assert!(a.grow(4) && a.grow(4));
        let mut b = budget.hold();
        assert!(!b.grow(3) && b.grow(2));
        drop(a);
        assert!(b.grow(8) && !b.grow(1));
    }
}
