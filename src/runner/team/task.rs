//! A thread that talks to the broker until it is told to end.
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::client::Client;
use crate::sys::thread::{self, Joinable};

/// How long a thread may take to notice that it is to end.
const END: Duration = Duration::from_millis(500);
/// TLS and the JSON of a long answer; only what is touched is paid for.
const STACK: usize = 1 << 20;

/// A running thread with a client of its own. Its owner tells it to end by its own means, then calls
/// [`Task::finish`]; dropping detaches.
pub struct Task {
    client: Client,
    thread: Joinable,
    ended: Receiver<()>,
}

impl Task {
    /// Start `work` with a client whose requests can be aborted without disturbing others.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(
        name: &str,
        client: &Client,
        work: impl FnOnce(&Client) + Send + 'static,
    ) -> io::Result<Task> {
        let client = client.apart();
        let (ending, ended) = sync_channel(0);
        let own = client.clone();
        let thread = thread::spawn(name, STACK, move || {
            // Gone when the thread has ended, also if it panicked.
            let _ending = ending;
            work(&own);
        })?;
        Ok(Task { client, thread, ended })
    }

    /// Give the thread `patience` to end by itself, then end its requests. One inside a name lookup or a TCP connect
    /// cannot be called back: it has nothing left to do, and nobody has to wait for it.
    pub fn finish(self, patience: Duration) {
        let mut ended = self.ended.recv_timeout(patience);
        if ended == Err(RecvTimeoutError::Timeout) {
            self.client.abort();
            ended = self.ended.recv_timeout(END);
        }
        if ended != Err(RecvTimeoutError::Timeout) {
            self.thread.join();
        }
    }
}
