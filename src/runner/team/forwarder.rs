//! The stream of messages from the broker: kept open, resumed where it broke, the member's own echo left out.
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::task::Task;
use super::trouble::Trouble;
use crate::client::{Backoff, Client, Error, Failure, segment};
use crate::sys::log::Log;
use crate::team::Message;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Messages looked at where the stream has no place to go on from.
const RECENT: usize = 50;

/// What comes from the stream.
pub enum News<'a> {
    /// The stream is open, the first time or again: something may have been missed.
    Up,
    Message(&'a Message),
    /// What the member has said or done itself.
    Echo(&'a Message),
}

/// A running forwarder.
pub struct Forwarder {
    task: Task,
    stop: SyncSender<()>,
}

impl Forwarder {
    /// Start: `take` gets what comes, on the forwarder's thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(
        client: &Client,
        me: String,
        trouble: Arc<Trouble>,
        log: Arc<Log>,
        take: impl Fn(&News<'_>) + Send + 'static,
    ) -> io::Result<Forwarder> {
        let (stop, stopped) = sync_channel(0);
        let task = Task::start("forwarder", client, move |client| {
            let mut stream = Stream { client, me, last: None, known: None, trouble, log, take };
            stream.run(&stopped);
        })?;
        Ok(Forwarder { task, stop })
    }

    /// Take nothing more.
    pub fn finish(self) {
        drop(self.stop);
        // It waits for the broker: there is nothing for it to end by itself.
        self.task.finish(Duration::ZERO);
    }
}

struct Stream<'a, F> {
    client: &'a Client,
    me: String,
    /// The last event's id, to go on after it.
    last: Option<String>,
    /// Messages that were there before the stream had a place, or were taken from the history until then.
    known: Option<HashSet<String>>,
    trouble: Arc<Trouble>,
    log: Arc<Log>,
    take: F,
}

impl<F: Fn(&News<'_>)> Stream<'_, F> {
    fn run(&mut self, stopped: &Receiver<()>) {
        let path = format!("/subscribe?name={}", segment(&self.me));
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        self.catch_up();
        loop {
            let why = match self.client.events(&path, self.last.as_deref()) {
                Ok(events) => {
                    backoff.reset();
                    self.log.line("broker stream up", &[("after", json!(self.last))]);
                    (self.take)(&News::Up);
                    self.catch_up();
                    self.follow(events)
                }
                Err(why) => {
                    if let Some(final_word) = is_final(&why) {
                        self.log.line("broker stream refused", &[("why", json!(final_word))]);
                        self.trouble.note(&format!("no more messages: {final_word}"));
                        return;
                    }
                    why.to_string()
                }
            };
            let wait = backoff.failed();
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            match stopped.try_recv() {
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                _ => self.log.line("broker stream down", &[("why", json!(why)), ("retryMs", json!(wait_ms))]),
            }
            if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Take events until the stream ends; gives why it did.
    fn follow(&mut self, mut events: crate::client::Events) -> String {
        loop {
            let event = match events.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return "the broker ended it".to_string(),
                Err(why) => return why.to_string(),
            };
            if event.name == "end" {
                let reason = serde_json::from_str::<Value>(&event.data).ok();
                let reason =
                    reason.as_ref().and_then(|r| r["reason"].as_str()).unwrap_or("it does not say why");
                return format!("the broker ended it: {reason}");
            }
            self.last = event.id.or(self.last.take());
            if event.name != "message" {
                continue;
            }
            let message = serde_json::from_str::<Value>(&event.data)
                .map_err(|why| why.to_string())
                .and_then(|value| Message::from_json(&value).map_err(|why| why.to_string()));
            match message {
                // It was in the history already.
                Ok(message) if self.known.as_ref().is_some_and(|known| known.contains(&message.id)) => {}
                Ok(message) => self.hand_on(&message),
                Err(why) => self.log.line("message not understood", &[("why", json!(why))]),
            }
        }
    }
}

impl<F: Fn(&News<'_>)> Stream<'_, F> {
    fn hand_on(&self, message: &Message) {
        let echo = message.from.as_deref() == Some(&self.me);
        (self.take)(&if echo { News::Echo(message) } else { News::Message(message) });
    }

    /// A stream that breaks before its first event has no place to go on from: what came meanwhile is in the history.
    /// The first look only tells what was there before.
    fn catch_up(&mut self) {
        if self.last.is_some() {
            return;
        }
        let Ok(history) = self.client.json("GET", &format!("/history?limit={RECENT}"), None) else { return };
        let messages = history["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let oldest_first = messages.iter().rev().filter_map(|value| Message::from_json(value).ok());
        let Some(mut known) = self.known.take() else {
            self.known = Some(oldest_first.map(|message| message.id).collect());
            return;
        };
        for message in oldest_first {
            if known.insert(message.id.clone()) {
                self.hand_on(&message);
            }
        }
        self.known = Some(known);
    }
}

/// What the broker will not take back: a revoked token does not come to life again, and asking again is noise.
fn is_final(error: &Error) -> Option<String> {
    match error {
        Error::Answered { failure: Failure::Status(401 | 403, _), .. } => Some(error.to_string()),
        Error::Answered { failure: Failure::Status(404, _), .. } => {
            Some("the broker has no /subscribe".to_string())
        }
        _ => None,
    }
}
