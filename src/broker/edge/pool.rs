//! The fixed pool of connections to the HTTP server behind the edge.
//!
//! It is fixed because that server never recovers when it runs out of file descriptors: it duplicates each socket it
//! accepts and panics if it cannot. So it accepts a known number of them at the start, and another only for one that
//! broke. Each is tried before the next is opened: connections that come at the same time may be queued behind one
//! that lives as long as we do, and never be served.
//!
//! Requests that may wait long for a disk get no more than three quarters of it: a burst of them delays no others.
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::input::{Input, SMALL};
use crate::http1::{Framer, Part, Rules};

/// How long a new connection may take to answer, and how many more are tried.
const TRIAL: Duration = Duration::from_secs(1);
const TRIES: usize = 2;

/// The pool.
pub struct Pool {
    path: PathBuf,
    /// How many may be lent as [`Use::Bulk`].
    most_bulk: usize,
    inner: Mutex<Inner>,
    /// A connection has come back or may be opened: for one of each use who waits.
    freed: [Condvar; 2],
}

struct Inner {
    free: Vec<Connection>,
    /// Every connection there is, lent or free.
    all: HashMap<u64, Arc<UnixStream>>,
    next_id: u64,
    /// How many more may be opened.
    missing: usize,
    /// Whether somebody is opening one: it is done by one thread at a time.
    opening: bool,
    /// How many are lent as [`Use::Bulk`].
    bulk: usize,
    closed: bool,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// What should be answered at once.
    Prompt,
    /// What comes in bursts and may take its time.
    Bulk,
}

struct Connection {
    id: u64,
    stream: Arc<UnixStream>,
}

/// A connection that is lent. It goes back if [`Lease::give_back`] is called; dropped, it is closed and another may be
/// opened in its place.
pub struct Lease<'a> {
    pool: &'a Pool,
    wanted_for: Use,
    connection: Option<Connection>,
}

impl Pool {
    /// Open `size` connections to the socket at `path`.
    ///
    /// # Errors
    /// As [`UnixStream::connect`].
    pub fn open(path: PathBuf, size: usize) -> io::Result<Pool> {
        let (free, all) = (Vec::with_capacity(size), HashMap::with_capacity(size));
        let inner = Inner { free, all, next_id: 0, missing: size, opening: false, bulk: 0, closed: false };
        let most_bulk = size - size.div_ceil(4);
        let pool = Pool { path, most_bulk, inner: Mutex::new(inner), freed: Default::default() };
        // All are taken before the first goes back, so all are opened.
        let leases =
            (0..size).map(|_| pool.take(Use::Prompt, Duration::ZERO)).collect::<io::Result<Vec<_>>>()?;
        leases.into_iter().for_each(Lease::give_back);
        Ok(pool)
    }

    /// Borrow a connection; wait for one at most `patience`.
    ///
    /// # Errors
    /// `TimedOut` if none came free, `NotConnected` after [`Pool::close`], or as [`UnixStream::connect`].
    pub fn take(&self, wanted_for: Use, patience: Duration) -> io::Result<Lease<'_>> {
        let until = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            if inner.closed {
                return Err(io::ErrorKind::NotConnected.into());
            }
            let allowed = wanted_for == Use::Prompt || inner.bulk < self.most_bulk;
            if allowed && let Some(connection) = inner.free.pop() {
                inner.bulk += usize::from(wanted_for == Use::Bulk);
                return Ok(Lease { pool: self, wanted_for, connection: Some(connection) });
            }
            if allowed && inner.missing > 0 && !inner.opening {
                inner.missing -= 1;
                inner.opening = true;
                inner.bulk += usize::from(wanted_for == Use::Bulk);
                break;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            inner = self.freed[wanted_for as usize]
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(inner);
        let stream = self.connect().map(Arc::new);
        let mut inner = self.lock();
        inner.opening = false;
        self.freed.iter().for_each(Condvar::notify_all);
        let stream = stream.inspect_err(|_| {
            inner.missing += 1;
            inner.bulk -= usize::from(wanted_for == Use::Bulk);
        })?;
        let id = inner.next_id;
        inner.next_id += 1;
        inner.all.insert(id, stream.clone());
        Ok(Lease { pool: self, wanted_for, connection: Some(Connection { id, stream }) })
    }

    /// Close every connection, lent ones too: whoever reads one gets its end. No more are lent.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.free.clear();
        inner.all.drain().for_each(|(_, stream)| drop(stream.shutdown(Shutdown::Both)));
        self.freed.iter().for_each(Condvar::notify_all);
    }

    /// A connection that has answered once.
    fn connect(&self) -> io::Result<UnixStream> {
        let mut tries = 0;
        loop {
            let stream = UnixStream::connect(&self.path)?;
            match answers(&stream) {
                Ok(()) => return Ok(stream),
                Err(e) if tries == TRIES => return Err(e),
                Err(_) => tries += 1,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Send a request without a client, which the log leaves out, and read the answer.
fn answers(mut stream: &UnixStream) -> io::Result<()> {
    let deadline = Instant::now() + TRIAL;
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n")?;
    let (mut framer, mut input) = (Framer::responses(Rules::CAPTURE), Input::new(stream));
    loop {
        let mut rest = input.unread();
        let had = rest.len();
        let part = framer.next(&mut rest).map_err(io::Error::other)?;
        let (ended, dry, used) = (part == Some(Part::End), part.is_none(), had - rest.len());
        input.consume(used);
        if ended {
            return Ok(());
        }
        if dry && input.fill(SMALL, deadline)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

impl Lease<'_> {
    /// The connection.
    ///
    /// # Panics
    /// Never: it is taken out only when the lease ends.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        &self.connection.as_ref().expect("a lease has its connection until it ends").stream
    }

    fn end(&self, inner: &mut Inner) {
        inner.bulk -= usize::from(self.wanted_for == Use::Bulk);
        self.pool.freed.iter().for_each(Condvar::notify_one);
    }

    /// The last answer was read to its end: somebody else may have the connection.
    pub fn give_back(mut self) {
        if let Some(connection) = self.connection.take() {
            let mut inner = self.pool.lock();
            inner.free.push(connection);
            self.end(&mut inner);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.stream.shutdown(Shutdown::Both);
            let mut inner = self.pool.lock();
            inner.all.remove(&connection.id);
            inner.missing += 1;
            self.end(&mut inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;
    use crate::sys::random;

    #[test]
    fn a_broken_connection_is_replaced_and_no_more_are_opened() {
        let path = std::env::temp_dir().join(format!("ac7-pool-{}", random::hex::<6>()));
        let server = tiny_http::Server::http_unix(&path).unwrap();
        let server = Arc::new(server);
        let answering = server.clone();
        let answers = thread::spawn(move || {
            while let Ok(request) = answering.recv() {
                request.respond(tiny_http::Response::empty(204)).unwrap();
            }
        });

        // More than tiny_http starts with.
        let pool = Pool::open(path.clone(), 9).unwrap();
        let bulk: Vec<_> = (0..6).map(|_| pool.take(Use::Bulk, Duration::ZERO).unwrap()).collect();
        assert!(pool.take(Use::Bulk, Duration::from_millis(1)).is_err());
        drop(pool.take(Use::Prompt, Duration::ZERO).unwrap());
        bulk.into_iter().for_each(Lease::give_back);
        let mut leases: Vec<_> = (0..9).map(|_| pool.take(Use::Prompt, Duration::ZERO).unwrap()).collect();
        let late = pool.take(Use::Prompt, Duration::from_millis(1)).err().unwrap();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        drop(leases.pop());
        let replaced = pool.take(Use::Prompt, Duration::from_secs(5)).unwrap();
        assert_eq!(pool.lock().next_id, 11);
        leases.pop().unwrap().give_back();
        pool.take(Use::Bulk, Duration::ZERO).unwrap().give_back();
        assert_eq!(pool.lock().next_id, 11);
        assert_eq!(pool.lock().bulk, 0);

        // Closing wakes whoever reads, and whoever waits.
        let (tell, told) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = replaced.stream();
                stream.set_read_timeout(None).unwrap();
                tell.send(()).unwrap();
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            });
            told.recv().unwrap();
            pool.close();
        });
        assert_eq!(
            pool.take(Use::Prompt, Duration::from_secs(5)).err().unwrap().kind(),
            io::ErrorKind::NotConnected
        );
        server.unblock();
        answers.join().unwrap();
        drop(server);
        let _ = fs::remove_file(path);
    }
}
