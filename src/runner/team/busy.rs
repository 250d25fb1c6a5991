//! Tells the broker whether the member's model is at work.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::task::Task;
use crate::client::{Client, Error, Failure};
use crate::runner::under_way::{News, UnderWay};
use crate::sys::log::Log;

/// The broker believes it for 30 s.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Until the last word is with the broker.
const LAST_WORD: Duration = Duration::from_millis(500);

/// A running reporter.
pub struct Busy {
    task: Task,
    under_way: Arc<UnderWay>,
}

impl Busy {
    /// Start to report what `under_way` says.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(client: &Client, under_way: Arc<UnderWay>, log: Arc<Log>) -> io::Result<Busy> {
        let counted = under_way.clone();
        let task = Task::start("busy", client, move |client| report(client, &counted, &log))?;
        Ok(Busy { task, under_way })
    }

    /// Say that the member is not busy any more, and end.
    pub fn finish(self) {
        self.under_way.close();
        self.task.finish(LAST_WORD);
    }
}

fn report(client: &Client, under_way: &UnderWay, log: &Log) {
    let mut busy = false;
    let mut failed = false;
    loop {
        let news = under_way.wait(busy, busy.then_some(HEARTBEAT));
        let now = match news {
            News::Busy | News::Same => true,
            News::Idle => false,
            News::Closed if busy => false,
            News::Closed => return,
        };
        match client.json("POST", "/presence/busy", Some(&json!({"busy": now}))) {
            Ok(_) => failed = false,
            Err(why) => {
                if !failed {
                    log.line("busy not reported", &[("why", json!(why.to_string()))]);
                }
                failed = true;
                if matches!(why, Error::Answered { failure: Failure::Status(401 | 403 | 404, _), .. }) {
                    return;
                }
            }
        }
        if now != busy {
            log.line("busy", &[("busy", json!(now))]);
        }
        busy = now;
        if news == News::Closed {
            return;
        }
    }
}
