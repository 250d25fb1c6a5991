//! Bytes from one socket to the other: the hot path.
//!
//! Two threads a tunnel, one a direction. Each reads one socket and is the only writer of the other: two threads that
//! encrypt for one connection and write outside the lock would reorder its records. TLS state stands behind a mutex
//! that is held for computation alone. What a direction has written goes to its tap afterwards, never before.
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::ops::DerefMut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::{ConnectionCommon, SideData};

use super::pool::{LARGE, Pool};
use super::tap::Feed;
use crate::sys::thread;

/// What a parked direction holds; larger buffers are lent while bytes move.
const SMALL: usize = 2 * 1024;
/// The most plaintext of one TLS record (RFC 8446 §5.1).
const RECORD: usize = 16 * 1024;
/// When the upstream has ended, the agent may go on; when it sends nothing for so long, the tunnel ends.
const LINGER: Duration = Duration::from_secs(10);
/// An agent that has ended may wait for its answer, over which a model may think for long.
const ANSWER: Duration = Duration::from_secs(10 * 60);
/// Relay threads are many and shallow, in a release build at least.
pub const STACK: usize = if cfg!(debug_assertions) { 512 * 1024 } else { 64 * 1024 };

/// The sockets of a tunnel and how far its directions are.
pub struct Link {
    pub agent: TcpStream,
    upstream: OnceLock<TcpStream>,
    moved: [AtomicU64; 2],
    ended: Mutex<u8>,
    end: Condvar,
}

impl Link {
    /// A tunnel that has an agent and no upstream yet.
    #[must_use]
    pub fn new(agent: TcpStream) -> Arc<Link> {
        Arc::new(Link {
            agent,
            upstream: OnceLock::new(),
            moved: Default::default(),
            ended: Mutex::new(0),
            end: Condvar::new(),
        })
    }

    /// Bytes passed on: up, down.
    #[must_use]
    pub fn moved(&self) -> (u64, u64) {
        (self.moved[0].load(Ordering::Relaxed), self.moved[1].load(Ordering::Relaxed))
    }

    /// Where the tunnel leads; the first one counts.
    pub(super) fn set_upstream(&self, upstream: TcpStream) -> &TcpStream {
        self.upstream.get_or_init(|| upstream)
    }

    /// So many bytes have been passed on.
    pub(super) fn count(&self, way: Way, bytes: usize) {
        self.moved[way as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// End both directions now; blocked reads and writes return.
    pub fn cut(&self) {
        let _ = self.agent.shutdown(Shutdown::Both);
        if let Some(upstream) = self.upstream.get() {
            let _ = upstream.shutdown(Shutdown::Both);
        }
    }

    /// One direction is through. The first one to end watches over the other: an idle stream whose reader is gone
    /// would hold the tunnel for ever.
    pub(super) fn ended(&self, way: Way, broken: bool) {
        let patience = if way == Way::Up { ANSWER } else { LINGER };
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended += 1;
        self.end.notify_all();
        if broken {
            self.cut();
        }
        let mut before = self.moved();
        while *ended < 2 {
            let (guard, wait) =
                self.end.wait_timeout(ended, patience).unwrap_or_else(PoisonError::into_inner);
            ended = guard;
            let now = self.moved();
            if wait.timed_out() && now == before {
                self.cut();
            }
            before = now;
        }
    }
}

/// Which way a direction goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Way {
    /// Where it reads and where it writes.
    pub(super) fn ends(self, link: &Link) -> (&TcpStream, &TcpStream) {
        let upstream = link.upstream.get().expect("set before the directions start");
        match self {
            Way::Up => (&link.agent, upstream),
            Way::Down => (upstream, &link.agent),
        }
    }
}

/// How a direction came to its end.
#[derive(Debug)]
enum End {
    /// The source said that it is done (close_notify).
    Closed,
    /// The source's connection ended without a word.
    Eof,
    /// A socket or a record was broken.
    Broken(Option<rustls::Error>),
}

impl End {
    fn alert(&self) -> Option<rustls::AlertDescription> {
        match self {
            End::Broken(Some(rustls::Error::AlertReceived(alert))) => Some(*alert),
            _ => None,
        }
    }
}

/// What was learnt by the end of a decrypted tunnel.
#[derive(Debug)]
pub struct Learnt {
    /// Whether the agent sent any application data.
    pub spoke: bool,
    /// The alert with which it left instead.
    pub alert: Option<rustls::AlertDescription>,
    /// The upstream left with an alert.
    pub refused: bool,
}

/// A decrypted tunnel, ready to go: both handshakes are done, and the link has its upstream.
pub struct Decrypted {
    pub link: Arc<Link>,
    pub pool: Arc<Pool>,
    /// Shared from the start: moved about by value they would lie on the relay threads' stacks.
    pub agent: Arc<Mutex<rustls::ServerConnection>>,
    pub upstream: Arc<Mutex<rustls::ClientConnection>>,
    /// Get the plaintext after it has been passed on.
    pub up: Feed,
    pub down: Feed,
}

impl Decrypted {
    /// Relay until both directions have ended. `first` is called with the agent's first plaintext and says whether
    /// the feeds are wanted at all.
    ///
    /// # Errors
    /// When no thread can be had for the second direction; nothing has been moved then.
    pub fn run(self, first: impl FnOnce(&[u8]) -> bool) -> io::Result<Learnt> {
        let Decrypted { link, pool, agent, upstream, mut up, mut down } = self;
        let wanted = Arc::new(AtomicBool::new(true));
        let refused = Arc::new(AtomicBool::new(false));
        let back = {
            let (link, pool) = (link.clone(), pool.clone());
            let (wanted, refused) = (wanted.clone(), refused.clone());
            let (agent, upstream) = (agent.clone(), upstream.clone());
            thread::spawn("down", STACK, move || {
                let end = pump(&link, &pool, Way::Down, &upstream, &agent, |bytes: &[u8]| {
                    if wanted.load(Ordering::Relaxed) {
                        down.data(bytes);
                    }
                });
                drop(down);
                refused.store(end.alert().is_some(), Ordering::Relaxed);
                link.ended(Way::Down, matches!(end, End::Broken(_)));
            })?
        };
        let mut first = Some(first);
        let end = pump(&link, &pool, Way::Up, &agent, &upstream, |bytes: &[u8]| {
            if let Some(first) = first.take() {
                wanted.store(first(bytes), Ordering::Relaxed);
            }
            if wanted.load(Ordering::Relaxed) {
                up.data(bytes);
            }
        });
        drop(up);
        link.ended(Way::Up, matches!(end, End::Broken(_)));
        back.join();
        Ok(Learnt { spoke: first.is_none(), alert: end.alert(), refused: refused.load(Ordering::Relaxed) })
    }
}

/// Move plaintext one way until the end of the source.
fn pump<F, G, S, T>(
    link: &Link,
    pool: &Pool,
    way: Way,
    source: &Mutex<F>,
    sink: &Mutex<G>,
    mut passed: impl FnMut(&[u8]),
) -> End
where
    F: DerefMut<Target = ConnectionCommon<S>>,
    G: DerefMut<Target = ConnectionCommon<T>>,
    S: SideData,
    T: SideData,
{
    let (from, mut to) = way.ends(link);
    let mut socket = Source::new(from, pool);
    let mut gone = false;
    // What came along with the handshake's last flight is already inside the source.
    let (mut plain, mut end) = decrypt(source, &[], pool.empty());
    loop {
        if !plain.is_empty() && !gone {
            let mut out = pool.empty();
            encrypt(sink, &plain, &mut out);
            // An upstream that answers early and closes takes no more, but its answer is still on the way down: the
            // rest of the request is read and dropped, as the network would.
            gone = to.write_all(&out).is_err();
            pool.take_back(out);
            if gone && way == Way::Down {
                return End::Broken(None);
            }
            if !gone {
                link.count(way, plain.len());
                passed(&plain);
            }
        }
        pool.take_back(plain);
        if let Some(end) = end {
            finish(sink, to, &end);
            return end;
        }
        (plain, end) = match socket.receive() {
            Ok([]) => (Vec::new(), Some(End::Eof)),
            Ok(bytes) => decrypt(source, bytes, pool.empty()),
            Err(_) => (Vec::new(), Some(End::Broken(None))),
        };
    }
}

/// Put records into the source and append the plaintext that comes out of them to `plain`; gives that, and the end if
/// it is all there will be.
fn decrypt<F, S>(source: &Mutex<F>, mut records: &[u8], mut plain: Vec<u8>) -> (Vec<u8>, Option<End>)
where
    F: DerefMut<Target = ConnectionCommon<S>>,
    S: SideData,
{
    let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        // A connection takes 4 KB at a time and looks for records only when asked to: one look a record is enough.
        let mut fed = 0;
        while !records.is_empty() && fed < RECORD {
            match source.read_tls(&mut records) {
                Ok(count) => fed += count,
                // It is full: there is a whole record in it.
                Err(_) if fed > 0 => break,
                Err(_) => return (plain, Some(End::Broken(None))),
            }
        }
        let state = source.process_new_packets();
        let mut reader = source.reader();
        while let Ok(chunk) = reader.fill_buf() {
            if chunk.is_empty() {
                break;
            }
            plain.extend_from_slice(chunk);
            let count = chunk.len();
            reader.consume(count);
        }
        match state {
            Err(why) => return (plain, Some(End::Broken(Some(why)))),
            Ok(state) if state.peer_has_closed() => return (plain, Some(End::Closed)),
            Ok(_) if records.is_empty() => return (plain, None),
            Ok(_) => {}
        }
    }
}

fn encrypt<G, T>(sink: &Mutex<G>, plain: &[u8], out: &mut Vec<u8>)
where
    G: DerefMut<Target = ConnectionCommon<T>>,
    T: SideData,
{
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    // Writing into memory cannot fail, and the connection's own buffer has no limit: this thread empties it at once.
    let _ = sink.writer().write_all(plain);
    while sink.wants_write() && sink.write_tls(out).is_ok() {}
}

/// Pass the end on as it came: close_notify only for close_notify, else a cut body would look complete.
fn finish<G, T>(sink: &Mutex<G>, mut to: &TcpStream, end: &End)
where
    G: DerefMut<Target = ConnectionCommon<T>>,
    T: SideData,
{
    if matches!(end, End::Closed) {
        let mut out = Vec::new();
        sink.lock().unwrap_or_else(PoisonError::into_inner).send_close_notify();
        encrypt(sink, &[], &mut out);
        let _ = to.write_all(&out);
    }
    if !matches!(end, End::Broken(_)) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// Pass bytes through untouched until both directions have ended, `ahead` first.
///
/// # Errors
/// When no thread can be had for the second direction.
pub fn spliced(link: &Arc<Link>, pool: &Arc<Pool>, upstream: TcpStream, ahead: &[u8]) -> io::Result<()> {
    let mut stream = link.set_upstream(upstream);
    // An upstream that is gone already may have said why: what it said is passed on first.
    if stream.write_all(ahead).is_ok() {
        link.count(Way::Up, ahead.len());
    }
    let back = {
        let (link, pool) = (link.clone(), pool.clone());
        thread::spawn("down", STACK, move || copy(&link, &pool, Way::Down))?
    };
    copy(link, pool, Way::Up);
    back.join();
    Ok(())
}

fn copy(link: &Link, pool: &Pool, way: Way) {
    let (from, mut to) = way.ends(link);
    let mut source = Source::new(from, pool);
    let mut gone = false;
    let broken = loop {
        match source.receive() {
            Ok([]) => break !gone && to.shutdown(Shutdown::Write).is_err(),
            Ok(_) if gone => {}
            Ok(bytes) => {
                let count = bytes.len();
                gone = to.write_all(bytes).is_err();
                // As in [`pump`]: what an upstream said before it closed is still on the way down.
                if gone && way == Way::Down {
                    break true;
                }
                if !gone {
                    link.count(way, count);
                }
            }
            Err(_) => break true,
        }
    };
    drop(source);
    link.ended(way, broken);
}

/// Reads a socket: a little on the stack while it waits, much into a lent buffer while bytes keep coming.
pub(super) struct Source<'a> {
    from: &'a TcpStream,
    pool: &'a Pool,
    lent: Option<Vec<u8>>,
    /// The last read brought much, so there is likely more.
    eager: bool,
}

impl<'a> Source<'a> {
    pub(super) fn new(from: &'a TcpStream, pool: &'a Pool) -> Source<'a> {
        Source { from, pool, lent: None, eager: false }
    }

    /// The next bytes; none at the end of the stream.
    pub(super) fn receive(&mut self) -> io::Result<&[u8]> {
        let mut filled = 0;
        if self.eager {
            filled = self.receive_more(0)?;
        }
        if filled == 0 {
            if let Some(buffer) = self.lent.take() {
                self.pool.take_back(buffer);
            }
            let mut small = [0; SMALL];
            filled = read(self.from, &mut small)?;
            self.buffer()[..filled].copy_from_slice(&small[..filled]);
            if filled == SMALL {
                filled += self.receive_more(filled)?;
            }
        }
        self.eager = filled >= LARGE / 2;
        Ok(&self.buffer()[..filled])
    }

    /// What is there already, behind the first `filled` bytes; 0 if nothing is.
    fn receive_more(&mut self, filled: usize) -> io::Result<usize> {
        let from = self.from;
        match recv(from, &mut self.buffer()[filled..], RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(why) => Err(why.into()),
        }
    }

    fn buffer(&mut self) -> &mut [u8] {
        self.lent.get_or_insert_with(|| self.pool.full())
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.pool.take_back(buffer);
        }
    }
}

fn read(mut from: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
