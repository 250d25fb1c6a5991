//! Events of a member's activity stream and their wire JSON; nothing else.
//!
//! Comes in: facts from capture, or JSON from the wire. Goes out: JSON, or facts. No I/O, no clock.
//! `from_json` takes what [`to_json`](Event::to_json) gives and more: unknown fields are ignored, since later
//! versions add some; a field of the wrong type is refused with its path.
mod entry;
mod opaque;
mod read;
#[cfg(test)]
mod tests;
mod visit;

pub use entry::{
    About, Block, LlmEntry, LlmRequest, LlmResponse, Message, Overage, Provider, Session, Tool, Usage,
};
pub use opaque::OpaqueEntry;
pub use read::{Invalid, Reader, deeper};
pub use visit::{Visitor, visit_value};

use serde_json::{Value, json};

/// One thing that happened, as it is stored and sent. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened; for an exchange, when its last byte arrived.
    pub ts: u64,
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    ObjectiveOpen {
        objective_id: String,
    },
    ObjectiveClose {
        objective_id: String,
        result: String,
    },
    /// A model call that was understood.
    Llm {
        duration: u64,
        entry: Box<LlmEntry>,
    },
    /// Any other exchange, a tunnel (method `CONNECT`) or a note (method `NOTE`).
    Opaque {
        duration: u64,
        entry: Box<OpaqueEntry>,
    },
}

/// The kinds an event may have on the wire.
pub const KINDS: [&str; 4] = ["objective_open", "objective_close", "llm_exchange", "opaque_http"];

/// The results an `objective_close` may have.
pub const CLOSE_RESULTS: [&str; 4] = ["done", "cancelled", "reassigned", "runner_shutdown"];

impl Event {
    /// The event's kind on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::ObjectiveOpen { .. } => KINDS[0],
            What::ObjectiveClose { .. } => KINDS[1],
            What::Llm { .. } => KINDS[2],
            What::Opaque { .. } => KINDS[3],
        }
    }

    /// A model call that ended when its entry says.
    #[must_use]
    pub fn llm(entry: LlmEntry) -> Event {
        let (ts, duration) = (entry.ended_at, entry.ended_at.saturating_sub(entry.started_at));
        Event { ts, what: What::Llm { duration, entry: Box::new(entry) } }
    }

    /// Another exchange that ended when its entry says.
    #[must_use]
    pub fn opaque(entry: OpaqueEntry) -> Event {
        let (ts, duration) = (entry.ended_at, entry.ended_at.saturating_sub(entry.started_at));
        Event { ts, what: What::Opaque { duration, entry: Box::new(entry) } }
    }

    /// The event's wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (kind, ts) = (self.kind(), self.ts);
        match &self.what {
            What::ObjectiveOpen { objective_id } => {
                json!({"kind": kind, "ts": ts, "objectiveId": objective_id})
            }
            What::ObjectiveClose { objective_id, result } => {
                json!({"kind": kind, "ts": ts, "objectiveId": objective_id, "result": result})
            }
            What::Llm { duration, entry } => {
                json!({"kind": kind, "ts": ts, "duration": duration, "entry": entry.to_json()})
            }
            What::Opaque { duration, entry } => {
                json!({"kind": kind, "ts": ts, "duration": duration, "entry": entry.to_json()})
            }
        }
    }

    /// An event from its wire JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn from_json(value: &Value) -> Result<Event, Invalid> {
        Event::read(&Reader::new(value))
    }

    /// An event at a reader's place.
    ///
    /// # Errors
    /// As [`Event::from_json`].
    pub fn read(at: &Reader<'_>) -> Result<Event, Invalid> {
        let ts = at.field("ts").uint()?;
        let what = match at.field("kind").str()? {
            "objective_open" => What::ObjectiveOpen { objective_id: at.field("objectiveId").string()? },
            "objective_close" => What::ObjectiveClose {
                objective_id: at.field("objectiveId").string()?,
                result: at.field("result").one_of(&CLOSE_RESULTS)?.to_string(),
            },
            "llm_exchange" => What::Llm {
                duration: at.field("duration").uint()?,
                entry: Box::new(LlmEntry::read(&at.field("entry"))?),
            },
            "opaque_http" => What::Opaque {
                duration: at.field("duration").uint()?,
                entry: Box::new(OpaqueEntry::read(&at.field("entry"))?),
            },
            _ => return Err(at.field("kind").invalid("is not a known kind")),
        };
        Ok(Event { ts, what })
    }
}
