//! Tells the broker whether the member's model is at work, and what its calls amount to.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::task::Task;
use crate::agents::Agent;
use crate::client::{Client, Error, Failure};
use crate::runner::under_way::{Counts, UnderWay};
use crate::sys::log::Log;

/// The broker believes it for 30 s.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Events that waited when the model came to rest have been sent by then.
const SETTLED: Duration = Duration::from_secs(2);
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
    pub fn start(client: &Client, agent: Agent, under_way: Arc<UnderWay>, log: Arc<Log>) -> io::Result<Busy> {
        let counted = under_way.clone();
        let task = Task::start("busy", client, move |client| report(client, agent, &counted, &log))?;
        Ok(Busy { task, under_way })
    }

    /// Say that the member is not busy any more, and end.
    pub fn finish(self) {
        self.under_way.close();
        self.task.finish(LAST_WORD);
    }
}

fn report(client: &Client, agent: Agent, under_way: &UnderWay, log: &Log) {
    let mut told = Counts::default();
    let mut failed = false;
    loop {
        let busy = told.active > 0;
        let patience = match told.queued {
            0 if !busy => None,
            _ if busy || failed => Some(HEARTBEAT),
            _ => Some(SETTLED),
        };
        let (mut counts, last) = under_way.news(told.active, patience);
        if last {
            if !busy {
                return;
            }
            counts.active = 0;
        }
        match client.json("POST", "/presence/busy", Some(&statement(agent, counts))) {
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
        if (counts.active > 0) != busy {
            log.line("busy", &[("busy", json!(counts.active > 0))]);
        }
        told = counts;
        if last {
            return;
        }
    }
}

fn statement(agent: Agent, counts: Counts) -> Value {
    json!({
        "busy": counts.active > 0,
        "runner": agent.verb(),
        "active": counts.active,
        "total": counts.total,
        "errors": counts.errors,
        "queued": counts.queued,
        "dropped": counts.dropped,
    })
}
