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

/// Takes what the worker makes, on the worker's own thread.
pub trait Consumer: Send + 'static {
    /// One more event, redacted and cut to size, its JSON text, and how many secrets were in it that no login
    /// explains.
    fn take(&mut self, event: &Event, json: String, secrets: usize);

    /// So many model calls are under way from now on; those that have ended have been taken by then.
    fn under_way(&mut self, calls: usize);
}

/// A running worker that feeds a consumer.
pub struct Worker<C> {
    thread: Joinable,
    consumer: Receiver<C>,
}

impl<C: Consumer> Worker<C> {
    /// Start on `queue`. Every event goes to `consumer`, in order.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(
        queue: Arc<Queue>,
        limits: Limits,
        rules: redact::Rules,
        mut consumer: C,
    ) -> io::Result<Worker<C>> {
        let (give, result) = sync_channel(1);
        let thread = thread::spawn("capture", STACK, move || {
            thread::give_way();
            let mut tunnels = Tunnels { limits, open: HashMap::new(), captured: Vec::new(), calls: 0 };
            let (mut ready, mut mail, mut told) = (Vec::new(), Mail::default(), 0);
            while queue.take(&mut ready) {
                for one in ready.drain(..) {
                    let mut event = |mut event: Event| {
                        let secrets = redact::event(&mut event, &rules).strays;
                        let json = extract::fit(&mut event);
                        consumer.take(&event, json, secrets);
                    };
                    match one {
                        Ready::Event(ready) => event(*ready),
                        Ready::Box(mailbox) => {
                            queue.collect(&mailbox, &mut mail);
                            tunnels.process(&mailbox, &mut mail, &queue.pool, &mut event);
                        }
                    }
                    if tunnels.calls != told {
                        told = tunnels.calls;
                        consumer.under_way(told);
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
    /// Model calls under way on all of them.
    calls: usize,
}

struct Tunnel {
    connection: Connection,
    /// By side, how far its stream has been worked in.
    seen: [u64; 2],
    ends: u8,
    /// Model calls under way when it was last looked at.
    calls: usize,
}

impl Tunnels {
    /// Work in what a box held; afterwards `mail` is empty.
    fn process(&mut self, mailbox: &Mailbox, mail: &mut Mail, pool: &Pool, event: &mut impl FnMut(Event)) {
        let captured = &mut self.captured;
        let tunnel = self.open.entry(mailbox.number).or_insert_with(|| {
            let connection = Connection::new(mailbox.target.clone(), self.limits, extract::may_be_model_call);
            Tunnel { connection, seen: [0; 2], ends: 0, calls: 0 }
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
        let calls = tunnel.connection.calls();
        let changed = calls != tunnel.calls;
        tunnel.calls = calls;
        for side in [Side::Agent, Side::Upstream] {
            let seen = tunnel.seen[side as usize];
            mailbox.unwanted(side, seen.saturating_add(tunnel.connection.unwanted(side)));
        }
        let ended = tunnel.ends == 2;
        if ended {
            self.open.remove(&mailbox.number);
        }
        // Summed anew: a number of its own could drift away from what there is.
        if changed || ended {
            self.calls = self.open.values().map(|tunnel| tunnel.calls).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;
    use crate::capture::exchange::Target;

    /// Passes on what it is told.
    struct Told(Sender<String>);

    impl Consumer for Told {
        fn take(&mut self, event: &Event, _: String, _: usize) {
            self.0.send(event.kind().to_string()).unwrap();
        }

        fn under_way(&mut self, calls: usize) {
            self.0.send(format!("{calls} under way")).unwrap();
        }
    }

    #[test]
    fn model_calls_are_under_way_from_their_request_to_the_end_of_their_answer() {
        let queue = Queue::new();
        let rules = redact::Rules::new(&[]).unwrap();
        let (telling, told) = channel();
        let worker = Worker::start(queue.clone(), Limits::default(), rules, Told(telling)).unwrap();
        let post = |path: &str| format!("POST {path} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let tunnel = || queue.open(Target { scheme: "https", host: "a".into(), port: 443 });
        let is_told = |want: &[&str]| {
            for want in want {
                assert_eq!(told.recv_timeout(Duration::from_secs(60)).as_deref(), Ok(*want));
            }
        };
        let kind = "opaque_http"; // `{}` is no request of the Messages API
        let (first, second) = (tunnel(), tunnel());
        let (mut asks, mut answers) = (first.feed(Side::Agent), first.feed(Side::Upstream));
        let (mut cut, end) = (second.feed(Side::Agent), second.feed(Side::Upstream));
        asks.data(post("/v1/messages").as_bytes());
        is_told(&["1 under way"]);
        cut.data(post("/v1/messages").as_bytes());
        is_told(&["2 under way"]);
        answers.data(answer);
        is_told(&[kind, "1 under way"]);
        asks.data(post("/v1/messages/count_tokens").as_bytes());
        answers.data(answer);
        is_told(&[kind]);
        drop((cut, end));
        is_told(&[kind, "0 under way"]);
        drop((asks, answers));
        queue.close();
        assert!(worker.join().is_some() && told.try_recv().is_err());
    }
}
