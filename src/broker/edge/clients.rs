//! The clients that are connected: how many there may be, who has to go when there are too many, who is still here.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::counters::{Counters, count};
use crate::sys::thread::Joinable;

/// Threads that may still be ending above the number of clients.
const ENDING: usize = 64;

/// The value of `waiting_since` while a request is being served.
const WORKING: u64 = u64::MAX;

/// One connection.
pub struct Client {
    id: u64,
    pub stream: TcpStream,
    /// The peer's address.
    pub ip: IpAddr,
    /// Since when the client owes us a complete request, in ms of [`Clients::born`]; [`WORKING`] if it does not.
    waiting_since: AtomicU64,
}

/// All connections, and the threads that serve them.
///
/// When there are as many as may be, the connection that has been waiting longest is closed for the new one: whoever
/// opens connections and sends nothing takes places from himself. One address gets half of them at most.
pub struct Clients {
    born: Instant,
    most: usize,
    counters: Arc<Counters>,
    inner: Mutex<Inner>,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    open: HashMap<u64, Arc<Client>>,
    threads: HashMap<u64, Joinable>,
    /// Threads that are past their last step and can be joined.
    ended: Vec<u64>,
}

impl Clients {
    /// Room for `most` connections.
    #[must_use]
    pub fn new(most: usize, counters: Arc<Counters>) -> Clients {
        Clients { born: Instant::now(), most, counters, inner: Mutex::default(), ended: Condvar::new() }
    }

    /// Take in a connection. `None`: every place that it could take is held by a request that is being served.
    #[must_use]
    pub fn admit(&self, stream: TcpStream, ip: IpAddr) -> Option<Arc<Client>> {
        let mut inner = self.lock();
        let of_network = inner.open.values().filter(|c| network(c.ip) == network(ip)).count();
        // Whether one goes or this one is turned away: somebody has to.
        if of_network >= self.most.div_ceil(2) {
            count(&self.counters.evicted);
            inner.evict(|c| network(c.ip) == network(ip))?;
        } else if inner.open.len() >= self.most {
            count(&self.counters.evicted);
            inner.evict(|_| true)?;
        }
        let id = inner.next_id;
        inner.next_id += 1;
        let client = Arc::new(Client { id, stream, ip, waiting_since: AtomicU64::new(self.now()) });
        inner.open.insert(id, client.clone());
        Some(client)
    }

    /// Close whoever has been waiting longest, to have its file descriptor back.
    pub fn evict_one(&self) {
        if self.lock().evict(|_| true).is_some() {
            count(&self.counters.evicted);
        }
    }

    /// Keep the thread that serves a client, to join it later.
    pub fn keep(&self, client: &Client, thread: Joinable) {
        self.lock().threads.insert(client.id, thread);
    }

    /// The last step of a client's thread, and of a client that got none.
    pub fn leave(&self, client: &Client) {
        let mut inner = self.lock();
        inner.open.remove(&client.id);
        inner.ended.push(client.id);
        self.ended.notify_all();
    }

    /// Join the threads that have ended; give the number of the others. While there are too many of them, wait for some
    /// to end, 100 ms at most.
    pub fn reap(&self) -> usize {
        let mut inner = self.lock();
        if inner.threads.len() >= self.most_threads() && inner.ended.is_empty() {
            let wait = self.ended.wait_timeout(inner, Duration::from_millis(100));
            inner = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        let ended = std::mem::take(&mut inner.ended);
        let done: Vec<Joinable> = ended.iter().filter_map(|id| inner.threads.remove(id)).collect();
        let left = inner.threads.len();
        drop(inner);
        done.into_iter().for_each(Joinable::join);
        left
    }

    /// The most threads there may be, counting those that are ending.
    #[must_use]
    pub fn most_threads(&self) -> usize {
        self.most + ENDING
    }

    /// The client owes us a request from now on.
    pub fn waiting(&self, client: &Client) {
        client.waiting_since.store(self.now(), Ordering::Relaxed);
    }

    /// The client's request is complete: it is not closed to make room.
    pub fn working(&self, client: &Client) {
        client.waiting_since.store(WORKING, Ordering::Relaxed);
    }

    /// End all connections: those with a request in work once it is answered, the others at once; after `grace` all,
    /// and `force` is called to wake threads that wait for something else. All threads are joined.
    pub fn finish(&self, grace: Duration, force: impl FnOnce()) {
        let until = Instant::now() + grace;
        let mut inner = self.lock();
        // What the client has sent already can still be read, so a request that just came is served.
        inner.open.values().for_each(|c| drop(c.stream.shutdown(Shutdown::Read)));
        while !inner.open.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self.ended.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inner.open.values().for_each(|c| drop(c.stream.shutdown(Shutdown::Both)));
        let threads: Vec<Joinable> = inner.threads.drain().map(|(_, thread)| thread).collect();
        drop(inner);
        force();
        threads.into_iter().for_each(Joinable::join);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(WORKING - 1)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Close the connection that has been waiting longest among those `which`. Its thread ends by itself.
    fn evict(&mut self, which: impl Fn(&Client) -> bool) -> Option<()> {
        let since = |c: &Client| c.waiting_since.load(Ordering::Relaxed);
        let waiting = self.open.values().filter(|c| which(c) && since(c) != WORKING);
        let id = waiting.min_by_key(|c| since(c))?.id;
        let client = self.open.remove(&id)?;
        let _ = client.stream.shutdown(Shutdown::Both);
        Some(())
    }
}

/// Who counts as one: an IPv4 address, or the /64 that one IPv6 customer has.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_one_that_waits_longest_goes_and_no_network_has_more_than_half() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clients = Clients::new(4, Arc::new(Counters::new()));
        let mut far = Vec::new();
        let mut enter = |ip: &str| {
            far.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let admitted = clients.admit(listener.accept().unwrap().0, ip.parse().unwrap());
            // The order of waiting is known to the millisecond.
            let now = clients.now();
            while clients.now() == now {
                std::hint::spin_loop();
            }
            admitted
        };
        let a = enter("10.0.0.1").unwrap();
        let b = enter("10.0.0.1").unwrap();
        let _other = enter("2001:db8::1").unwrap();
        // A third of the same address takes the place of the first, though there is room.
        let c = enter("10.0.0.1").unwrap();
        assert_eq!((&a.stream).read(&mut [0]).unwrap(), 0);
        clients.leave(&a);
        // One that is served keeps its place.
        clients.working(&b);
        let d = enter("::ffff:10.0.0.1").unwrap();
        assert_eq!((&c.stream).read(&mut [0]).unwrap(), 0);
        clients.working(&d);
        assert!(enter("10.0.0.1").is_none());
        // A /64 counts as one.
        assert!(enter("2001:db8::2").is_some());
        assert!(enter("2001:db8:0:0:ffff::3").is_some());
        assert_eq!(clients.lock().open.len(), 4);
        // For c, for d, for the one that found no place, and for the last one.
        assert_eq!(clients.counters.evicted.load(Ordering::Relaxed), 4);
    }
}
