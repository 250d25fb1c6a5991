//! The way from the relay to the capture worker: copies of bytes, in a box for each tunnel, that never block.
//!
//! A tunnel's first piece puts its box on the list of those that have something; what follows until the worker comes
//! by only lands in the box. The worker runs at low priority, and a lock that it holds while it does not run would hold
//! the relay up: so it holds each one only to exchange full for empty, and the tunnels share none but that list.
use std::mem;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::exchange::{Side, Target};
use super::pool::Pool;
use crate::activity::Event;
use crate::sys::clock;

/// What the worker has to look at.
pub enum Ready {
    /// A tunnel has something in its box.
    Box(Arc<Mailbox>),
    /// An event that needs no reassembly: a tunnel or a refused upstream.
    Event(Box<Event>),
}

/// Something of one direction of a tunnel.
#[derive(Debug)]
pub struct Piece {
    pub side: Side,
    /// When it was passed on, ms since the epoch.
    pub at: u64,
    pub what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// So many bytes, which stand in [`Mail::bytes`] behind those of the pieces before.
    Bytes(usize),
    /// Bytes in a buffer of the pool.
    Buffer(Vec<u8>),
    /// So many bytes went by that nobody wanted to see, see [`Mailbox::unwanted`].
    Unseen(u64),
    /// There was no room: so many bytes are missing here.
    Gap(u64),
    /// No more bytes will come this way.
    End,
}

/// Bytes that may wait for the worker.
const MAX_BYTES: usize = 16 << 20;
/// What a piece counts for beside its bytes: small ones cost more than these.
const PIECE_BYTES: usize = 64;
/// Chunks from this size on are copied into a buffer of the pool.
const BUFFER: usize = 4 * 1024;
/// What an empty box may keep for later: a thousand tunnels may be idle.
const KEPT_BYTES: usize = 2 * 1024;
const KEPT_PIECES: usize = 16;
/// While traffic flows the worker looks at the list this often instead of being woken for every chunk.
const POLL: Duration = Duration::from_millis(1);
/// Looks in vain before the worker goes to sleep until it is woken.
const POLLS_BEFORE_SLEEP: u32 = 20;

#[derive(Default)]
struct State {
    ready: Vec<Ready>,
    /// Whether the worker waits to be woken.
    asleep: bool,
    closed: bool,
}

/// What the relay threads and the worker share.
#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    tunnels: AtomicU64,
    /// Bytes that wait, see [`MAX_BYTES`].
    waiting: AtomicUsize,
    /// Where the buffers come from and go back to.
    pub pool: Arc<Pool>,
}

impl Queue {
    /// A new, empty queue.
    #[must_use]
    pub fn new() -> Arc<Queue> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, ready: Ready) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.ready.push(ready);
        let wake = mem::take(&mut state.asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    /// Whether there is room for `bytes` more; it is taken then.
    fn reserve(&self, bytes: usize) -> bool {
        let cost = bytes + PIECE_BYTES;
        let fits = self.waiting.fetch_add(cost, Ordering::Relaxed) + cost <= MAX_BYTES;
        if !fits {
            self.waiting.fetch_sub(cost, Ordering::Relaxed);
        }
        fits
    }

    /// An event that needs no reassembly.
    pub fn event(&self, event: Event) {
        self.put(Ready::Event(Box::new(event)));
    }

    /// Announce a decrypted connection to `target`.
    pub fn open(self: &Arc<Queue>, target: Target) -> Tap {
        let number = self.tunnels.fetch_add(1, Ordering::Relaxed);
        let (mail, unwanted) = Default::default();
        Tap { queue: self.clone(), mailbox: Arc::new(Mailbox { number, target, mail, unwanted }) }
    }

    /// Take what is there, in order, into `ready`, which is empty; waits until there is something. `false` once the
    /// queue is closed and nothing is left. For the worker alone.
    pub fn take(&self, ready: &mut Vec<Ready>) -> bool {
        let mut polls = 0;
        let mut state = self.lock();
        while state.ready.is_empty() {
            if state.closed {
                return false;
            }
            state = if polls < POLLS_BEFORE_SLEEP {
                polls += 1;
                self.wake.wait_timeout(state, POLL).unwrap_or_else(PoisonError::into_inner).0
            } else {
                polls = 0;
                state.asleep = true;
                self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
        mem::swap(&mut state.ready, ready);
        true
    }

    /// Exchange what is in a box for the emptied `mail`. For the worker alone.
    pub fn collect(&self, mailbox: &Mailbox, mail: &mut Mail) {
        if mail.bytes.capacity() > KEPT_BYTES {
            mail.bytes = Vec::new();
        }
        if mail.pieces.capacity() > KEPT_PIECES {
            mail.pieces = Vec::new();
        }
        mem::swap(&mut *mailbox.lock(), mail);
        let cost = |piece: &Piece| match &piece.what {
            What::Bytes(count) => count + PIECE_BYTES,
            What::Buffer(bytes) => bytes.len() + PIECE_BYTES,
            What::Unseen(_) | What::Gap(_) | What::End => 0,
        };
        self.waiting.fetch_sub(mail.pieces.iter().map(cost).sum(), Ordering::Relaxed);
    }

    /// Take nothing more; the worker ends when it has seen what is here.
    pub fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }
}

/// What has come through a tunnel and was not looked at yet.
#[derive(Default)]
pub struct Mail {
    pub pieces: Vec<Piece>,
    /// The bytes of all [`What::Bytes`], one behind the other.
    pub bytes: Vec<u8>,
}

/// A tunnel, and what of it waits for the worker.
pub struct Mailbox {
    pub number: u64,
    pub target: Target,
    /// On the list of those that are ready as long as it has pieces.
    mail: Mutex<Mail>,
    /// By side: where in its stream the bytes begin that the worker wants to see.
    unwanted: [AtomicU64; 2],
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of what `side` sends, the bytes before offset `until` need not be copied: they are only counted.
    pub fn unwanted(&self, side: Side, until: u64) {
        self.unwanted[side as usize].store(until, Ordering::Relaxed);
    }
}

/// One tunnel's end of the queue. Each direction has its own [`Feed`].
pub struct Tap {
    queue: Arc<Queue>,
    mailbox: Arc<Mailbox>,
}

impl Tap {
    /// The feed of one direction.
    #[must_use]
    pub fn feed(&self, side: Side) -> Feed {
        Feed {
            queue: self.queue.clone(),
            mailbox: self.mailbox.clone(),
            side,
            passed: 0,
            unseen: 0,
            lost: 0,
            at: 0,
        }
    }
}

/// One direction of one tunnel. Dropping it tells the worker that no more bytes will come.
pub struct Feed {
    queue: Arc<Queue>,
    mailbox: Arc<Mailbox>,
    side: Side,
    /// Bytes so far.
    passed: u64,
    /// Unwanted bytes that the worker has not been told of.
    unseen: u64,
    /// Bytes that found no room since the last piece that did.
    lost: u64,
    /// When the last bytes came.
    at: u64,
}

impl Feed {
    /// Hand over a copy of what was passed on. Never blocks; what finds no room is told as a gap.
    pub fn data(&mut self, bytes: &[u8]) {
        let unwanted = self.mailbox.unwanted[self.side as usize].load(Ordering::Relaxed);
        let here = unwanted.saturating_sub(self.passed).min(bytes.len() as u64);
        self.passed += bytes.len() as u64;
        self.unseen += here;
        self.at = clock::now_ms();
        // The worker is told at the end of what it does not want.
        if here > 0 && self.passed < unwanted {
            return;
        }
        let bytes = &bytes[here as usize..];
        if bytes.is_empty() || self.queue.reserve(bytes.len()) {
            self.post(bytes, false);
        } else {
            self.lost += bytes.len() as u64;
        }
    }

    /// Put into the box what there is to tell: what was not, `bytes`, for which there is room, and the end.
    fn post(&mut self, bytes: &[u8], end: bool) {
        let (side, at) = (self.side, self.at);
        let buffer = (bytes.len() >= BUFFER).then(|| {
            let mut buffer = self.queue.pool.empty();
            buffer.extend_from_slice(bytes);
            What::Buffer(buffer)
        });
        let mut guard = self.mailbox.lock();
        let mail = &mut *guard;
        let before = mail.pieces.len();
        let mut put = |what, at| mail.pieces.push(Piece { side, at, what });
        if self.unseen > 0 {
            put(What::Unseen(mem::take(&mut self.unseen)), at);
        }
        if self.lost > 0 {
            put(What::Gap(mem::take(&mut self.lost)), at);
        }
        if let Some(buffer) = buffer {
            put(buffer, at);
        } else if !bytes.is_empty() {
            put(What::Bytes(bytes.len()), at);
            mail.bytes.extend_from_slice(bytes);
        }
        if end {
            put(What::End, clock::now_ms());
        }
        let first = before == 0 && !mail.pieces.is_empty();
        drop(guard);
        if first {
            self.queue.put(Ready::Box(self.mailbox.clone()));
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.post(&[], true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { scheme: "https", host: "a.example".into(), port: 443 }
    }

    /// What the box that is ready holds.
    fn collected(queue: &Queue) -> (Vec<(Side, What)>, Vec<u8>) {
        let mut ready = Vec::new();
        assert!(queue.take(&mut ready));
        let [Ready::Box(mailbox)] = &ready[..] else { panic!("{} are ready", ready.len()) };
        let mut mail = Mail::default();
        queue.collect(mailbox, &mut mail);
        (mail.pieces.into_iter().map(|piece| (piece.side, piece.what)).collect(), mail.bytes)
    }

    #[test]
    fn what_passes_both_ways_is_one_piece_of_news() {
        let queue = Queue::new();
        let tap = queue.open(target());
        let (mut up, mut down) = (tap.feed(Side::Agent), tap.feed(Side::Upstream));
        up.data(b"ask");
        down.data(b"answer");
        down.data(&[7; BUFFER]);
        drop(up);
        let want = vec![
            (Side::Agent, What::Bytes(3)),
            (Side::Upstream, What::Bytes(6)),
            (Side::Upstream, What::Buffer(vec![7; BUFFER])),
            (Side::Agent, What::End),
        ];
        assert_eq!(collected(&queue), (want, b"askanswer".to_vec()));
        drop(down);
        assert_eq!(collected(&queue).0, vec![(Side::Upstream, What::End)]);
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
        queue.close();
        assert!(!queue.take(&mut Vec::new()));
    }

    #[test]
    fn a_full_queue_loses_bytes_and_says_how_many() {
        let queue = Queue::new();
        let mut feed = queue.open(target()).feed(Side::Upstream);
        let chunk = vec![7; MAX_BYTES / 8];
        for _ in 0..20 {
            feed.data(&chunk);
        }
        assert_eq!(collected(&queue).0.len(), 7, "with what the pieces themselves count for, 8 do not fit");
        feed.data(&[1, 2, 3]);
        let lost = 13 * chunk.len() as u64;
        let want = vec![(Side::Upstream, What::Gap(lost)), (Side::Upstream, What::Bytes(3))];
        assert_eq!(collected(&queue), (want, vec![1, 2, 3]));
        for _ in 0..8 {
            feed.data(&chunk);
        }
        drop(feed);
        let mut last = collected(&queue).0.split_off(7);
        assert_eq!(last.pop(), Some((Side::Upstream, What::End)));
        assert_eq!(
            last,
            vec![(Side::Upstream, What::Gap(chunk.len() as u64))],
            "a loss at the very end is told too"
        );
    }

    #[test]
    fn unwanted_bytes_are_told_by_their_number() {
        let queue = Queue::new();
        let tap = queue.open(target());
        let mut feed = tap.feed(Side::Upstream);
        feed.data(b"abcd");
        assert_eq!(collected(&queue).1, b"abcd");
        tap.mailbox.unwanted(Side::Upstream, 10);
        tap.mailbox.unwanted(Side::Agent, 99);
        for bytes in [&b"ef"[..], b"gh", b"ijkl"] {
            assert!(queue.lock().ready.is_empty(), "nothing is told before the end");
            feed.data(bytes);
        }
        let want = vec![(Side::Upstream, What::Unseen(6)), (Side::Upstream, What::Bytes(2))];
        assert_eq!(collected(&queue), (want, b"kl".to_vec()));
        tap.mailbox.unwanted(Side::Upstream, 14);
        feed.data(b"mn");
        assert_eq!(collected(&queue).0, vec![(Side::Upstream, What::Unseen(2))], "exactly to the end");
        tap.mailbox.unwanted(Side::Upstream, u64::MAX);
        feed.data(b"o");
        drop(feed);
        let want = vec![(Side::Upstream, What::Unseen(1)), (Side::Upstream, What::End)];
        assert_eq!(collected(&queue).0, want);
    }

    #[test]
    fn a_sleeping_worker_is_woken() {
        let queue = Queue::new();
        let other = queue.clone();
        let worker = std::thread::spawn(move || {
            let mut ready = Vec::new();
            other.take(&mut ready);
            ready.len()
        });
        while !queue.lock().asleep {
            std::thread::yield_now();
        }
        queue.open(target()).feed(Side::Agent).data(b"x");
        assert_eq!(worker.join().unwrap(), 1);
    }
}
