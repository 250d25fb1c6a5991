//! Who waits for news of what. It has no thread: whoever has news wakes those who wait, and they go and look for
//! themselves. So nothing is queued here, and a slow one costs nobody anything.
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All who wait.
#[derive(Default)]
pub struct Hub(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    next_id: u64,
    waiting: HashMap<u64, (String, Arc<UnixStream>)>,
}

/// One who waits; dropping it ends that. It can be polled: it is readable after it was woken.
pub struct Waiter<'a> {
    hub: &'a Hub,
    id: u64,
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
        let mut inner = self.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.waiting.insert(id, (topic.to_string(), Arc::new(wake)));
        Ok(Waiter { hub: self, id, woken })
    }

    /// There is news of `topic`.
    pub fn wake(&self, topic: &str) {
        self.wake_those(|waits_for| waits_for == topic);
    }

    /// Everybody should look again.
    pub fn wake_all(&self) {
        self.wake_those(|_| true);
    }

    fn wake_those(&self, which: impl Fn(&str) -> bool) {
        let inner = self.lock();
        let those = inner.waiting.values().filter(|(topic, _)| which(topic));
        let those: Vec<_> = those.map(|(_, wake)| wake.clone()).collect();
        drop(inner);
        for wake in those {
            // One that is full has been woken and not looked yet; one that is closed does not wait any more.
            let _ = (&*wake).write(&[0]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Before looking: what comes from now on wakes again.
    pub fn rearm(&self) {
        let mut scratch = [0; 256];
        while matches!((&self.woken).read(&mut scratch), Ok(n) if n == scratch.len()) {}
    }
}

impl AsFd for Waiter<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.hub.lock().waiting.remove(&self.id);
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
        drop((ann, bob));
        assert!(hub.lock().waiting.is_empty());
    }
}
