//! Who waits for news of what. It has no thread: whoever has news wakes those who wait, and they go and look for
//! themselves. So nothing is queued here, and a slow one costs nobody anything.
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All who wait.
#[derive(Default)]
pub struct Hub(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next_id: u64,
    /// By topic, each with its id: news costs as much as there are who wait for it.
    waiting: HashMap<String, Vec<(u64, Arc<Bell>)>>,
}

/// What wakes one who waits.
struct Bell {
    wake: UnixStream,
    /// Whether it has rung since the other looked: ringing again would only cost.
    rung: AtomicBool,
}

/// One who waits; dropping it ends that. It can be polled: it is readable after it was woken.
pub struct Waiter<'a> {
    hub: &'a Hub,
    topic: String,
    id: u64,
    bell: Arc<Bell>,
    woken: UnixStream,
}

impl Hub {
    /// Be woken from now on when there is news of `topic`.
    ///
    /// # Errors
    /// There is no file descriptor to be had: one who waits takes two.
    pub fn wait_for(&self, topic: &str) -> io::Result<Waiter<'_>> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let bell = Arc::new(Bell { wake, rung: AtomicBool::new(false) });
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.waiting.entry(topic.to_string()).or_default().push((id, bell.clone()));
        Ok(Waiter { hub: self, topic: topic.to_string(), id, bell, woken })
    }

    /// There is news of `topic`.
    pub fn wake(&self, topic: &str) {
        self.wake_each([topic]);
    }

    /// There is news of each of these.
    pub fn wake_each<'t>(&self, topics: impl IntoIterator<Item = &'t str>) {
        let inner = self.lock();
        let those = topics.into_iter().filter_map(|topic| inner.waiting.get(topic)).flatten();
        let those: Vec<_> = those.map(|(_, bell)| bell.clone()).collect();
        drop(inner);
        those.iter().for_each(|bell| bell.ring());
    }

    /// Everybody should look again.
    pub fn wake_all(&self) {
        let those: Vec<_> = self.lock().waiting.values().flatten().map(|(_, bell)| bell.clone()).collect();
        those.iter().for_each(|bell| bell.ring());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // One that is closed does not wait any more.
            let _ = (&self.wake).write(&[0]);
        }
    }
}

impl Waiter<'_> {
    /// Before looking: what comes from now on wakes again.
    pub fn rearm(&self) {
        let mut scratch = [0; 16];
        while matches!((&self.woken).read(&mut scratch), Ok(n) if n == scratch.len()) {}
        // Last: one that rings in between leaves no byte, but its news is there to be seen from here on.
        self.bell.rung.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Waiter<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut inner = self.hub.lock();
        if let Some(those) = inner.waiting.get_mut(&self.topic) {
            those.retain(|(id, _)| *id != self.id);
            if those.is_empty() {
                inner.waiting.remove(&self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn those_who_wait_for_it_are_woken_and_nobody_else() {
        let hub = Hub::default();
        let woken = |waiter: &Waiter<'_>| {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            poll(&mut [PollFd::new(waiter, PollFlags::IN)], Some(&now)).unwrap() == 1
        };
        let (ann, bob) = (hub.wait_for("ann").unwrap(), hub.wait_for("bob").unwrap());
        // However often, nobody is waited for.
        (0..100_000).for_each(|_| hub.wake("ann"));
        assert!(woken(&ann) && !woken(&bob));
        ann.rearm();
        assert!(!woken(&ann));
        hub.wake_all();
        assert!(woken(&ann) && woken(&bob));
        ann.rearm();
        bob.rearm();
        let another = hub.wait_for("ann").unwrap();
        hub.wake_each(["ann", "cat"]);
        assert!(woken(&ann) && woken(&another) && !woken(&bob));
        drop((ann, bob, another));
        assert!(hub.lock().waiting.is_empty());
    }
}
