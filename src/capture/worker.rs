//! The capture worker: one thread that turns what the tap brings into redacted events.
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::exchange::{Captured, Side};
use super::extract;
use super::pool::Pool;
use super::reassemble::{Connection, Limits};
use super::redact;
use super::tap::{Mail, Mailbox, Piece, Queue, Ready, What};
use crate::activity::Event;
use crate::sys::thread::{self, Joinable};

/// Decoding goes deep beside extraction; pages are touched only as far as they are needed.
const STACK: usize = extract::STACK + (512 << 10);

/// A running worker that feeds a consumer.
pub struct Worker<C> {
    thread: Joinable,
    consumer: Receiver<C>,
}

impl<C: Send + 'static> Worker<C> {
    /// Start on `queue`. Every event, redacted and cut to size, goes to `take` with its JSON text, in order, from the
    /// worker's own thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(
        queue: Arc<Queue>,
        limits: Limits,
        rules: redact::Rules,
        mut consumer: C,
        take: fn(&mut C, &Event, String),
    ) -> io::Result<Worker<C>> {
        let (give, result) = sync_channel(1);
        let thread = thread::spawn("capture", STACK, move || {
            thread::give_way();
            let mut tunnels = Tunnels { limits, open: HashMap::new(), captured: Vec::new() };
            let (mut ready, mut mail) = (Vec::new(), Mail::default());
            let mut event = |mut event: Event| {
                redact::event(&mut event, &rules);
                let json = extract::fit(&mut event);
                take(&mut consumer, &event, json);
            };
            while queue.take(&mut ready) {
                for one in ready.drain(..) {
                    match one {
                        Ready::Event(ready) => event(*ready),
                        Ready::Box(mailbox) => {
                            queue.collect(&mailbox, &mut mail);
                            tunnels.process(&mailbox, &mut mail, &queue.pool, &mut event);
                        }
                    }
                }
            }
            // The receiver is the worker's owner, who may have gone without asking for the consumer.
            let _ = give.send(consumer);
        })?;
        Ok(Worker { thread, consumer: result })
    }

    /// Wait until the closed queue is worked off, and get the consumer back; `None` if the worker has panicked.
    pub fn join(self) -> Option<C> {
        self.thread.join();
        self.consumer.recv().ok()
    }
}

/// The tunnels that are open, by number.
struct Tunnels {
    limits: Limits,
    open: HashMap<u64, Tunnel>,
    captured: Vec<Captured>,
}

struct Tunnel {
    connection: Connection,
    /// By side, how far its stream has been worked in.
    seen: [u64; 2],
    ends: u8,
}

impl Tunnels {
    /// Work in what a box held; afterwards `mail` is empty.
    fn process(&mut self, mailbox: &Mailbox, mail: &mut Mail, pool: &Pool, event: &mut impl FnMut(Event)) {
        let captured = &mut self.captured;
        let tunnel = self.open.entry(mailbox.number).or_insert_with(|| {
            let connection = Connection::new(mailbox.target.clone(), self.limits, extract::may_be_model_call);
            Tunnel { connection, seen: [0; 2], ends: 0 }
        });
        let mut bytes = &mail.bytes[..];
        for Piece { side, at, what } in mail.pieces.drain(..) {
            let connection = &mut tunnel.connection;
            let count = match what {
                What::Bytes(count) => {
                    let (these, rest) = bytes.split_at(count);
                    bytes = rest;
                    connection.feed(side, these, at, captured);
                    count as u64
                }
                What::Buffer(bytes) => {
                    connection.feed(side, &bytes, at, captured);
                    let count = bytes.len() as u64;
                    pool.take_back(bytes);
                    count
                }
                What::Unseen(count) => {
                    connection.unseen(side, count, at, captured);
                    count
                }
                What::Gap(lost) => {
                    connection.gap(side, lost, at, captured);
                    lost
                }
                What::End => {
                    connection.end(side, at, captured);
                    tunnel.ends += 1;
                    0
                }
            };
            tunnel.seen[side as usize] += count;
            for captured in captured.drain(..) {
                event(extract::event(&captured));
            }
        }
        mail.bytes.clear();
        for side in [Side::Agent, Side::Upstream] {
            let seen = tunnel.seen[side as usize];
            mailbox.unwanted(side, seen.saturating_add(tunnel.connection.unwanted(side)));
        }
        if tunnel.ends == 2 {
            self.open.remove(&mailbox.number);
        }
    }
}
