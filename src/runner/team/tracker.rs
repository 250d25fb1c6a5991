//! Which objectives are the member's to work on: told to the activity stream whenever that changes.
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::task::Task;
use crate::activity::{Event, What};
use crate::client::{Backoff, Client, segment};
use crate::sys::clock;
use crate::sys::log::Log;

/// Messages about objectives come in bursts: the broker is asked once they have stopped for so long,
const DEBOUNCE: Duration = Duration::from_millis(150);
/// or after this long if they do not.
const LONGEST: Duration = Duration::from_secs(2);
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What has changed.
pub struct Change<'a> {
    /// The member's open objectives, as the broker has them.
    pub open: &'a [Value],
    /// What to put into the activity stream.
    pub events: Vec<Event>,
}

/// A running tracker.
pub struct Tracker {
    task: Task,
    ask: SyncSender<()>,
    open: Arc<Mutex<Vec<String>>>,
}

/// Asks a tracker to look again.
#[derive(Clone)]
pub struct Refresh(SyncSender<()>);

impl Refresh {
    /// Something about objectives may have changed.
    pub fn ask(&self) {
        match self.0.try_send(()) {
            // One question that waits is as good as two.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

impl Tracker {
    /// Start with the objectives that the briefing had; `take` gets every change, on the tracker's thread.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(
        client: &Client,
        me: &str,
        open: Vec<String>,
        log: Arc<Log>,
        take: impl Fn(Change<'_>) + Send + 'static,
    ) -> io::Result<Tracker> {
        let (ask, asked) = sync_channel(1);
        let open = Arc::new(Mutex::new(open));
        let (set, path) = (open.clone(), format!("/objectives?assignee={}", segment(me)));
        let me = me.to_string();
        let task = Task::start("objectives", client, move |client| {
            while wait(&asked) {
                let Some(objectives) = read(client, &path, &asked, &log) else { return };
                let mine = |o: &&Value| is_open(o) && o["assignee"] == me.as_str();
                let mut known = set.lock().unwrap_or_else(PoisonError::into_inner);
                let events = changes(&known, &objectives, &me, clock::now_ms());
                let now: Vec<Value> = objectives.iter().filter(mine).cloned().collect();
                *known = now.iter().map(id_of).collect();
                drop(known);
                take(Change { open: &now, events });
            }
        })?;
        Ok(Tracker { task, ask, open })
    }

    /// How others ask it to look again.
    #[must_use]
    pub fn refresh(&self) -> Refresh {
        Refresh(self.ask.clone())
    }

    /// Look no more. Gives the ids of what is still open. All that [`Tracker::refresh`] gave must be gone by then.
    #[must_use]
    pub fn finish(self) -> Vec<String> {
        let Tracker { task, ask, open } = self;
        drop(ask);
        task.finish(Duration::ZERO);
        std::mem::take(&mut open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wait for a question, and until no more come. False when nobody can ask any more.
fn wait(asked: &Receiver<()>) -> bool {
    if asked.recv().is_err() {
        return false;
    }
    let began = Instant::now();
    loop {
        match asked.recv_timeout(DEBOUNCE) {
            Ok(()) if began.elapsed() < LONGEST => {}
            Ok(()) | Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// The member's objectives, asked for until there is an answer; `None` when it is time to end, or the broker says no.
fn read(client: &Client, path: &str, asked: &Receiver<()>, log: &Log) -> Option<Vec<Value>> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let error = match client.json("GET", path, None) {
            Ok(answer) => return Some(answer["objectives"].as_array().cloned().unwrap_or_default()),
            Err(error) => error,
        };
        log.line("objectives not read", &[("why", json!(error.to_string()))]);
        let until = Instant::now() + backoff.failed();
        loop {
            match asked.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }
}

/// The ids of objectives that are open.
#[must_use]
pub fn open_ids(objectives: &[Value]) -> Vec<String> {
    objectives.iter().filter(|o| is_open(o)).map(id_of).collect()
}

fn is_open(objective: &Value) -> bool {
    matches!(objective["status"].as_str(), Some("active" | "blocked"))
}

fn id_of(objective: &Value) -> String {
    objective["id"].as_str().unwrap_or_default().to_string()
}

/// An objective is the member's from now on.
#[must_use]
pub fn opened(id: &str, ts: u64) -> Event {
    Event { ts, what: What::ObjectiveOpen { objective_id: id.to_string() } }
}

/// It is not any more.
#[must_use]
pub fn closed(id: &str, result: &str, ts: u64) -> Event {
    Event { ts, what: What::ObjectiveClose { objective_id: id.to_string(), result: result.to_string() } }
}

/// From the objectives that were open to those that the broker names now.
fn changes(before: &[String], now: &[Value], me: &str, ts: u64) -> Vec<Event> {
    let mut out = Vec::new();
    for id in before {
        let found = now.iter().find(|o| o["id"] == id.as_str());
        let mine = found.is_some_and(|o| o["assignee"] == me);
        let result = match found.and_then(|o| o["status"].as_str()) {
            Some("done") if mine => "done",
            Some("cancelled") if mine => "cancelled",
            Some("active" | "blocked") if mine => continue,
            // Not the member's any more, whatever became of it.
            _ => "reassigned",
        };
        out.push(closed(id, result, ts));
    }
    let new = now.iter().filter(|o| is_open(o) && o["assignee"] == me).map(id_of);
    out.extend(new.filter(|id| !before.contains(id)).map(|id| opened(&id, ts)));
    out
}

/// A line of the session log for an event of the above.
pub fn tell(log: &Log, event: &Event) {
    match &event.what {
        What::ObjectiveOpen { objective_id } => {
            log.line("objective opened", &[("id", json!(objective_id))]);
        }
        What::ObjectiveClose { objective_id, result } => {
            log.line("objective closed", &[("id", json!(objective_id)), ("result", json!(result))]);
        }
        What::Llm { .. } | What::Opaque { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_once() {
        let o = |id: &str, status: &str, assignee: &str| json!({"id": id, "status": status, "assignee": assignee});
        let before: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(String::from).to_vec();
        let now = [
            o("a", "active", "ann"),
            o("b", "done", "ann"),
            o("c", "cancelled", "ann"),
            o("d", "active", "bob"),
            o("e", "blocked", "ann"),
            o("g", "active", "ann"),
            o("h", "done", "ann"),
            o("i", "active", "bob"),
        ];
        let told: Vec<String> = changes(&before, &now, "ann", 7)
            .iter()
            .map(|event| match &event.what {
                What::ObjectiveOpen { objective_id } => format!("open {objective_id}"),
                What::ObjectiveClose { objective_id, result } => format!("close {objective_id} {result}"),
                _ => String::new(),
            })
            .collect();
        assert_eq!(
            told,
            ["close b done", "close c cancelled", "close d reassigned", "close f reassigned", "open g"]
        );
        assert!(changes(&["a".to_string()], &now[..1], "ann", 7).is_empty());
        assert_eq!(open_ids(&now[..5]), ["a", "d", "e"]);
    }
}
