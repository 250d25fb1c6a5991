//! The capture worker: one thread that turns what the tap brings into redacted events.
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::exchange::Captured;
use super::reassemble::{Connection, Limits};
use super::redact;
use super::tap::{Message, Queue, Side};
use super::{extract, fit};
use crate::activity::Event;
use crate::sys::thread::{self, Joinable};

/// Decoding and JSON go deep; the pages are touched only as far as they are needed.
const STACK: usize = 4 << 20;

/// A running worker that feeds a consumer.
pub struct Worker<C> {
    thread: Joinable,
    consumer: Receiver<C>,
}

impl<C: Send + 'static> Worker<C> {
    /// Start on `queue`; every event goes to `take` with the consumer, in order, from the worker's own thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(
        queue: Arc<Queue>,
        rules: redact::Rules,
        mut consumer: C,
        take: fn(&mut C, &Event),
    ) -> io::Result<Worker<C>> {
        let (give, result) = sync_channel(1);
        let thread = thread::spawn("capture", STACK, move || {
            let mut tunnels = HashMap::new();
            while let Some(messages) = queue.take() {
                for message in messages {
                    process(message, &mut tunnels, |mut event| {
                        redact::event(&mut event, &rules);
                        fit::event(&mut event);
                        take(&mut consumer, &event);
                    });
                }
            }
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
