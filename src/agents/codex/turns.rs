//! The conversation with `codex app-server`: JSON-RPC without its version field, one object a line.
//!
//! Comes in: messages for the agent, what the server said, the time. Goes out: what to send, and what to tell others.
//! Nothing is read, written or waited for here.
//!
//! A message waits for others for a moment, then all that have come begin a turn, or are put into the one that runs.
//! Until there is a thread they wait; where a turn refuses them, its state is learnt anew and they are offered once more.
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::show;

/// Messages that come within this time of the first go together.
const BUNDLE: Duration = Duration::from_millis(200);
/// Messages that may wait; of more the oldest are dropped.
const MOST: usize = 1000;
/// So often a message is offered.
const OFFERS: u8 = 2;

/// What the conversation begins with.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Where the agent works.
    pub cwd: String,
    /// What the broker wants the agent to be told.
    pub instructions: String,
    /// The model, if not the one of codex's configuration.
    pub model: Option<String>,
}

/// A message for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    /// As the model will see it.
    pub text: String,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Step {
    Send(Value),
    /// A turn has taken these messages.
    Taken(Vec<String>),
    /// These messages are given up, and why.
    Lost(Vec<String>, String),
    /// Something for the user, which may have more than one line.
    Show(String),
    /// A change of state for the session log.
    Note(&'static str, String),
    /// The conversation cannot go on.
    End(String),
}

/// The state of the thread, as the server names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    NotLoaded,
    Idle,
    Active,
    SystemError,
}

struct Waiting {
    message: Message,
    /// How often it was offered.
    offers: u8,
}

/// A request that has not been answered.
enum Asked {
    Initialize,
    ThreadStart,
    /// These messages were offered, to begin a turn or to the one that runs.
    Offer(Vec<Waiting>),
    ThreadRead,
    Interrupt,
}

/// A conversation.
pub struct Conversation {
    opening: Opening,
    thread: Option<String>,
    status: Status,
    /// The turn that runs, once its id is known.
    turn: Option<String>,
    /// The turn that ended last: its beginning may be told after its end.
    ended: Option<String>,
    waiting: VecDeque<Waiting>,
    /// When those that wait are to go.
    due: Option<Instant>,
    asked: Vec<(u64, Asked)>,
    last: u64,
}

impl Conversation {
    #[must_use]
    pub fn new(opening: Opening) -> Conversation {
        Conversation {
            opening,
            thread: None,
            status: Status::NotLoaded,
            turn: None,
            ended: None,
            waiting: VecDeque::new(),
            due: None,
            asked: Vec::new(),
            last: 0,
        }
    }

    /// The first words.
    pub fn begin(&mut self) -> Vec<Step> {
        let client = json!({"name": "ac7", "title": "ac7", "version": env!("CARGO_PKG_VERSION")});
        vec![self.ask("initialize", &json!({"clientInfo": client}), Asked::Initialize)]
    }

    /// A message for the agent came in.
    pub fn message(&mut self, message: Message, now: Instant) -> Vec<Step> {
        self.due.get_or_insert(now + BUNDLE);
        self.waiting.push_back(Waiting { message, offers: 0 });
        let mut steps = Vec::new();
        if self.waiting.len() > MOST {
            let oldest = self.waiting.pop_front().map(|waiting| waiting.message.id);
            steps.extend(oldest.map(|id| Step::Lost(vec![id], "too many messages wait".to_string())));
        }
        steps
    }

    /// When [`Conversation::tick`] has something to do, if nothing else happens before.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        self.due.filter(|_| self.can_offer())
    }

    /// The time has come, perhaps.
    pub fn tick(&mut self, now: Instant) -> Vec<Step> {
        if self.due.is_some_and(|due| due <= now) { self.offer() } else { Vec::new() }
    }

    /// The last words: those who wait go into the turn that runs, and it is interrupted.
    pub fn end(&mut self) -> Vec<Step> {
        let mut steps = if self.status == Status::Active { self.offer() } else { Vec::new() };
        if let (Some(thread), Some(turn)) = (&self.thread, &self.turn) {
            let params = json!({"threadId": thread, "turnId": turn});
            steps.push(self.ask("turn/interrupt", &params, Asked::Interrupt));
        }
        steps
    }

    /// The ids of messages that no turn has taken.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let offered = self.asked.iter().flat_map(|(_, asked)| match asked {
            Asked::Offer(messages) => messages.as_slice(),
            _ => &[],
        });
        offered.chain(&self.waiting).map(|waiting| waiting.message.id.clone()).collect()
    }

    /// The server said something.
    pub fn receive(&mut self, said: &Value, now: Instant) -> Vec<Step> {
        let method = said.get("method").and_then(Value::as_str);
        let id = said.get("id").filter(|id| !id.is_null());
        let params = said.get("params").unwrap_or(&Value::Null);
        let mut steps = match (method, id) {
            (Some(method), Some(id)) => vec![denied(method, id), Step::Note("request denied", method.into())],
            (Some(method), None) => self.notified(method, params),
            (None, Some(id)) => self.answered(id, said, now),
            (None, None) => Vec::new(),
        };
        steps.extend(self.tick(now));
        steps
    }

    fn ask(&mut self, method: &str, params: &Value, asked: Asked) -> Step {
        self.last += 1;
        self.asked.push((self.last, asked));
        Step::Send(json!({"id": self.last, "method": method, "params": params}))
    }

    /// Whether messages can go now: one offer at a time, or they might overtake each other.
    fn can_offer(&self) -> bool {
        let pending =
            self.asked.iter().any(|(_, asked)| matches!(asked, Asked::Offer(_) | Asked::ThreadRead));
        let ready = match self.status {
            // After a failed call codex is in error until a turn begins; one that does not go away refuses the turn.
            Status::Idle | Status::SystemError => true,
            Status::Active => self.turn.is_some(),
            Status::NotLoaded => false,
        };
        ready && !pending && self.thread.is_some() && !self.waiting.is_empty()
    }

    /// Give those who wait to a turn.
    fn offer(&mut self) -> Vec<Step> {
        if !self.can_offer() {
            return Vec::new();
        }
        self.due = None;
        let mut messages: Vec<Waiting> = self.waiting.drain(..).collect();
        messages.iter_mut().for_each(|waiting| waiting.offers += 1);
        let texts: Vec<&str> = messages.iter().map(|waiting| waiting.message.text.as_str()).collect();
        let input = json!([{"type": "text", "text": texts.join("\n")}]);
        let thread = self.thread.clone();
        let step = match &self.turn {
            Some(turn) if self.status == Status::Active => {
                let params = json!({"threadId": thread, "expectedTurnId": turn, "input": input});
                self.ask("turn/steer", &params, Asked::Offer(messages))
            }
            _ => {
                self.status = Status::Active;
                self.turn = None;
                self.ask("turn/start", &json!({"threadId": thread, "input": input}), Asked::Offer(messages))
            }
        };
        vec![step]
    }

    fn answered(&mut self, id: &Value, said: &Value, now: Instant) -> Vec<Step> {
        let Some(place) = self.asked.iter().position(|(asked, _)| id.as_u64() == Some(*asked)) else {
            return vec![Step::Note("answer to no question", id.to_string())];
        };
        let (_, asked) = self.asked.remove(place);
        let error = said.get("error").map(|error| error["message"].as_str().unwrap_or("no reason given"));
        let result = said.get("result").unwrap_or(&Value::Null);
        match (asked, error) {
            (Asked::Initialize, None) => {
                let Opening { cwd, instructions, model } = &self.opening;
                let mut params = json!({
                    "cwd": cwd,
                    "developerInstructions": instructions,
                    "approvalPolicy": "never",
                    "sandbox": "danger-full-access",
                });
                if let Some(model) = model {
                    params["model"] = json!(model);
                }
                let first = Step::Send(json!({"method": "initialized"}));
                vec![first, self.ask("thread/start", &params, Asked::ThreadStart)]
            }
            (Asked::Initialize, Some(why)) => vec![Step::End(format!("codex refused to initialize: {why}"))],
            (Asked::ThreadStart, Some(why)) => vec![Step::End(format!("codex refused to start: {why}"))],
            (Asked::ThreadStart, None) => {
                let Some(thread) = result["thread"]["id"].as_str() else {
                    return vec![Step::End("codex started a thread without an id".to_string())];
                };
                self.thread = Some(thread.to_string());
                // It may have told its state before.
                if self.status == Status::NotLoaded {
                    self.status = status(&result["thread"]["status"]).unwrap_or(Status::Idle);
                }
                vec![Step::Note("thread started", thread.to_string())]
            }
            (Asked::Offer(messages), None) => {
                let turn = result["turn"]["id"].as_str().or_else(|| result["turnId"].as_str());
                let turn = turn.filter(|turn| self.ended.as_deref() != Some(*turn));
                if self.status == Status::Active && self.turn.is_none() {
                    self.turn = turn.map(str::to_string);
                }
                vec![Step::Taken(ids(&messages))]
            }
            (Asked::Offer(messages), Some(why)) => self.refused(messages, why, now),
            (Asked::ThreadRead, None) => {
                self.status = status(&result["thread"]["status"]).unwrap_or(self.status);
                Vec::new()
            }
            (Asked::ThreadRead | Asked::Interrupt, Some(why)) => {
                vec![Step::Note("request refused", why.to_string())]
            }
            (Asked::Interrupt, None) => vec![Step::Note("turn interrupted", String::new())],
        }
    }

    /// A turn did not take the messages: what it says of its state counts more than what we knew.
    fn refused(&mut self, messages: Vec<Waiting>, why: &str, now: Instant) -> Vec<Step> {
        let mut steps = vec![Step::Note("messages refused", why.to_string())];
        let (again, lost): (Vec<Waiting>, Vec<Waiting>) =
            messages.into_iter().partition(|waiting| waiting.offers < OFFERS);
        if !lost.is_empty() {
            steps.push(Step::Lost(ids(&lost), why.to_string()));
        }
        again.into_iter().rev().for_each(|waiting| self.waiting.push_front(waiting));
        let found = why.rsplit_once("but found `").and_then(|(_, rest)| rest.split_once('`'));
        if let Some((turn, _)) = found {
            (self.status, self.turn) = (Status::Active, Some(turn.to_string()));
        } else if why.contains("no active turn") {
            (self.status, self.turn) = (Status::Idle, None);
        } else if let Some(thread) = &self.thread {
            let params = json!({"threadId": thread});
            steps.push(self.ask("thread/read", &params, Asked::ThreadRead));
        }
        // They have waited for others already.
        self.due = Some(now).filter(|_| !self.waiting.is_empty());
        steps
    }

    fn notified(&mut self, method: &str, params: &Value) -> Vec<Step> {
        // Agents within the agent have threads of their own.
        let thread = params["threadId"].as_str();
        if thread.is_some() && self.thread.is_some() && thread != self.thread.as_deref() {
            return Vec::new();
        }
        let turn = params["turn"]["id"].as_str();
        match method {
            "thread/status/changed" => {
                let Some(status) = status(&params["status"]) else { return Vec::new() };
                self.status = status;
                if status != Status::Active {
                    self.turn = None;
                }
                vec![Step::Note(
                    "thread status",
                    params["status"]["type"].as_str().unwrap_or_default().into(),
                )]
            }
            "turn/started" => {
                if let Some(turn) = turn.filter(|turn| self.ended.as_deref() != Some(*turn)) {
                    (self.status, self.turn) = (Status::Active, Some(turn.to_string()));
                }
                vec![Step::Show("turn started".to_string())]
            }
            "turn/completed" => {
                self.ended = turn.map(str::to_string);
                if turn.is_some() && turn == self.turn.as_deref() {
                    self.turn = None;
                    self.status = Status::Idle;
                }
                vec![Step::Show(show::turn(&params["turn"]))]
            }
            "thread/closed" => vec![Step::End("codex closed the thread".to_string())],
            // One that is not tried again ends the turn, which says so.
            "error" => {
                let what = if params["willRetry"] == true { "codex retries" } else { "codex failed" };
                vec![Step::Note(what, params["error"]["message"].as_str().unwrap_or_default().to_string())]
            }
            "warning" | "configWarning" => {
                let text = params["message"].as_str().or_else(|| params["summary"].as_str());
                vec![Step::Note("codex warns", text.unwrap_or_default().to_string())]
            }
            "mcpServer/startupStatus/updated" => {
                let word = |name: &str| params[name].as_str().unwrap_or_default();
                vec![Step::Note("codex's server", format!("{} {}", word("name"), word("status")))]
            }
            "item/completed" => show::item(&params["item"]).map(Step::Show).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

fn ids(messages: &[Waiting]) -> Vec<String> {
    messages.iter().map(|waiting| waiting.message.id.clone()).collect()
}

fn status(value: &Value) -> Option<Status> {
    match value["type"].as_str()? {
        "notLoaded" => Some(Status::NotLoaded),
        "idle" => Some(Status::Idle),
        "active" => Some(Status::Active),
        "systemError" => Some(Status::SystemError),
        _ => None,
    }
}

/// The answer to whatever the server asks: nobody is here who could approve.
fn denied(method: &str, id: &Value) -> Step {
    let result = match method {
        "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
            json!({"decision": "decline"})
        }
        "execCommandApproval" | "applyPatchApproval" => json!({"decision": "denied"}),
        "item/permissions/requestApproval" => json!({"permissions": {}}),
        "mcpServer/elicitation/request" => json!({"action": "decline", "content": null}),
        "item/tool/requestUserInput" => json!({"answers": {}}),
        "item/tool/call" => json!({"contentItems": [], "success": false}),
        _ => {
            let error = json!({"code": -32601, "message": "ac7 does not do this"});
            return Step::Send(json!({"id": id, "error": error}));
        }
    };
    Step::Send(json!({"id": id, "result": result}))
}

#[cfg(test)]
mod tests;
