//! The capture worker: one thread that turns what the tap brings into redacted events.
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::exchange::Captured;
use super::extract;
use super::reassemble::{Connection, Limits};
use super::redact;
use super::tap::{Message, Queue};
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
            while let Some(messages) = queue.take() {
                for message in messages {
                    let done = tunnels.process(message, |mut event| {
                        redact::event(&mut event, &rules);
                        let json = extract::fit(&mut event);
                        take(&mut consumer, &event, json);
                    });
                    queue.pool.take_back(done);
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
    ends: u8,
}

impl Tunnels {
    /// Work a message in; gives its bytes back, which are done with.
    fn process(&mut self, message: Message, mut event: impl FnMut(Event)) -> Vec<u8> {
        let mut done = Vec::new();
        match message {
            Message::Open { tunnel, target } => {
                let connection = Connection::new(target, self.limits, extract::may_be_model_call);
                self.open.insert(tunnel, Tunnel { connection, ends: 0 });
            }
            Message::Data { tunnel, side, bytes, at } => {
                if let Some(tunnel) = self.open.get_mut(&tunnel) {
                    tunnel.connection.feed(side, &bytes, at, &mut self.captured);
                }
                done = bytes;
            }
            Message::Gap { tunnel, side, lost, at } => {
                if let Some(tunnel) = self.open.get_mut(&tunnel) {
                    tunnel.connection.gap(side, lost, at, &mut self.captured);
                }
            }
            Message::End { tunnel: number, side, at } => {
                if let Some(tunnel) = self.open.get_mut(&number) {
                    tunnel.connection.end(side, at, &mut self.captured);
                    tunnel.ends += 1;
                    if tunnel.ends == 2 {
                        self.open.remove(&number);
                    }
                }
            }
            Message::Event(ready) => event(*ready),
        }
        for captured in self.captured.drain(..) {
            event(extract::event(&captured));
        }
        done
    }
}
