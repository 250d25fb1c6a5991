//! Objectives: what one member is asked to bring about, and what happened to it.
use serde_json::{Map, Value, json};

use super::attachment::{Attachment, MOST_ATTACHMENTS};
use super::list;
use super::message::{Level, Post, THREAD};
use crate::activity::{Invalid, Reader};

/// Watchers that one request may name.
const MOST_WATCHERS: usize = 64;

/// Where an objective is. The last two are the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Active,
    Blocked,
    Done,
    Cancelled,
}

impl Status {
    /// The names on the wire, in order.
    pub const NAMES: [&'static str; 4] = ["active", "blocked", "done", "cancelled"];

    const ALL: [Status; 4] = [Status::Active, Status::Blocked, Status::Done, Status::Cancelled];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Status::NAMES[self as usize]
    }

    /// The status of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether somebody still has to do something.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Status::Active | Status::Blocked)
    }
}

/// An objective. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    pub id: String,
    pub title: String,
    pub body: String,
    /// What will be so once it is done.
    pub outcome: String,
    pub status: Status,
    pub assignee: String,
    pub originator: String,
    /// Who else follows it, in the order in which they came.
    pub watchers: Vec<String>,
    pub created_at: u64,
    pub updated_at: u64,
    /// There exactly while it is done.
    pub completed_at: Option<u64>,
    /// There exactly while it is done.
    pub result: Option<String>,
    /// There exactly while it is blocked.
    pub block_reason: Option<String>,
    pub attachments: Vec<Attachment>,
}

impl Objective {
    /// The wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let attachments: Value = self.attachments.iter().map(Attachment::to_json).collect();
        json!({
            "id": self.id,
            "title": self.title,
            "body": self.body,
            "outcome": self.outcome,
            "status": self.status.name(),
            "assignee": self.assignee,
            "originator": self.originator,
            "watchers": self.watchers,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
            "completedAt": self.completed_at,
            "result": self.result,
            "blockReason": self.block_reason,
            "attachments": attachments,
        })
    }

    /// An objective from its wire JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn from_json(value: &Value) -> Result<Objective, Invalid> {
        let at = Reader::new(value);
        let text = |name: &str| at.field(name).string();
        let maybe = |name: &str| at.field(name).optional(Reader::string);
        let status = at.field("status");
        Ok(Objective {
            id: text("id")?,
            title: text("title")?,
            body: text("body")?,
            outcome: text("outcome")?,
            status: Status::from_name(status.str()?).ok_or_else(|| status.invalid("is no status"))?,
            assignee: text("assignee")?,
            originator: text("originator")?,
            watchers: list(&at.field("watchers"), usize::MAX, |r| r.string())?,
            created_at: at.field("createdAt").uint()?,
            updated_at: at.field("updatedAt").uint()?,
            completed_at: at.field("completedAt").optional(Reader::uint)?,
            result: maybe("result")?,
            block_reason: maybe("blockReason")?,
            attachments: list(&at.field("attachments"), usize::MAX, Attachment::read)?,
        })
    }

    /// Whether a member takes part in it: as originator, assignee or watcher.
    #[must_use]
    pub fn involves(&self, name: &str) -> bool {
        self.originator == name || self.assignee == name || self.watchers.iter().any(|w| w == name)
    }

    /// What its messages have as their thread.
    #[must_use]
    pub fn thread(&self) -> String {
        format!("obj:{}", self.id)
    }
}

/// Something that happened to an objective.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectiveEvent {
    pub objective_id: String,
    /// ms since the epoch.
    pub ts: u64,
    /// Who did it.
    pub actor: String,
    pub kind: EventKind,
    /// What belongs to the kind: a reason, a result, a name.
    pub payload: Map<String, Value>,
}

/// What can happen to an objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Assigned,
    Blocked,
    Unblocked,
    Completed,
    Cancelled,
    Reassigned,
    WatcherAdded,
    WatcherRemoved,
}

impl EventKind {
    const ALL: [(EventKind, &'static str); 8] = [
        (EventKind::Assigned, "assigned"),
        (EventKind::Blocked, "blocked"),
        (EventKind::Unblocked, "unblocked"),
        (EventKind::Completed, "completed"),
        (EventKind::Cancelled, "cancelled"),
        (EventKind::Reassigned, "reassigned"),
        (EventKind::WatcherAdded, "watcher_added"),
        (EventKind::WatcherRemoved, "watcher_removed"),
    ];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        EventKind::ALL[self as usize].1
    }

    /// The kind of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }
}

impl ObjectiveEvent {
    /// The wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "objectiveId": self.objective_id,
            "ts": self.ts,
            "actor": self.actor,
            "kind": self.kind.name(),
            "payload": self.payload,
        })
    }

    /// An event from its wire JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn from_json(value: &Value) -> Result<ObjectiveEvent, Invalid> {
        let at = Reader::new(value);
        let (kind, payload) = (at.field("kind"), at.field("payload"));
        Ok(ObjectiveEvent {
            objective_id: at.field("objectiveId").string()?,
            ts: at.field("ts").uint()?,
            actor: at.field("actor").string()?,
            kind: EventKind::from_name(kind.str()?).ok_or_else(|| kind.invalid("is no kind of event"))?,
            payload: payload.optional(Reader::object)?.unwrap_or_default(),
        })
    }

    /// A text of the payload.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.payload.get(name).and_then(Value::as_str)
    }
}

/// An objective to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewObjective {
    /// 1 to 200 characters.
    pub title: String,
    /// 1 to 2048 characters.
    pub outcome: String,
    pub assignee: String,
    /// At most 4096 characters.
    pub body: String,
    pub watchers: Vec<String>,
    pub attachments: Vec<Attachment>,
}

impl NewObjective {
    /// `{title, outcome, assignee, body?, watchers?, attachments?}`.
    ///
    /// # Errors
    /// The path of the first field that is missing or breaks a rule.
    pub fn from_json(value: &Value) -> Result<NewObjective, Invalid> {
        let at = Reader::new(value);
        Ok(NewObjective {
            title: said(&at.field("title"), 200)?,
            outcome: said(&at.field("outcome"), 2048)?,
            assignee: at.field("assignee").text(1, 128)?,
            body: at.field("body").optional(|r| r.text(0, 4096))?.unwrap_or_default(),
            watchers: names(&at.field("watchers"))?,
            attachments: list(&at.field("attachments"), MOST_ATTACHMENTS, Attachment::read)?,
        })
    }
}

/// What somebody wants to do with an objective.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Block { reason: String },
    Unblock,
    Complete { result: String },
    Cancel { reason: Option<String> },
    Reassign { to: String, note: Option<String> },
    Watch { add: Vec<String>, remove: Vec<String> },
}

impl Action {
    /// `PATCH`: `{status, blockReason?}`; the reason is needed to block.
    ///
    /// # Errors
    /// The path of the first field that is missing or breaks a rule.
    pub fn update(value: &Value) -> Result<Action, Invalid> {
        let at = Reader::new(value);
        let reason = at.field("blockReason");
        // A reason alone is one for being blocked.
        let status = at.field("status").optional(|r| r.one_of(&["active", "blocked"]))?;
        match status {
            Some("active") => Ok(Action::Unblock),
            Some(_) => Ok(Action::Block { reason: said(&reason, 2048)? }),
            None if reason.present().is_some() => Ok(Action::Block { reason: said(&reason, 2048)? }),
            None => Err(at.invalid("has neither status nor blockReason")),
        }
    }

    /// `{result}`.
    ///
    /// # Errors
    /// As [`Action::update`].
    pub fn complete(value: &Value) -> Result<Action, Invalid> {
        Ok(Action::Complete { result: said(&Reader::new(value).field("result"), 4096)? })
    }

    /// `{reason?}`.
    ///
    /// # Errors
    /// As [`Action::update`].
    pub fn cancel(value: &Value) -> Result<Action, Invalid> {
        Ok(Action::Cancel { reason: Reader::new(value).field("reason").optional(|r| r.text(0, 2048))? })
    }

    /// `{to, note?}`.
    ///
    /// # Errors
    /// As [`Action::update`].
    pub fn reassign(value: &Value) -> Result<Action, Invalid> {
        let at = Reader::new(value);
        let note = at.field("note").optional(|r| r.text(0, 2048))?;
        Ok(Action::Reassign { to: at.field("to").text(1, 128)?, note })
    }

    /// `{add?, remove?}`, one of them at least.
    ///
    /// # Errors
    /// As [`Action::update`].
    pub fn watch(value: &Value) -> Result<Action, Invalid> {
        let at = Reader::new(value);
        let (add, remove) = (names(&at.field("add"))?, names(&at.field("remove"))?);
        if add.is_empty() && remove.is_empty() {
            return Err(at.invalid("has neither add nor remove"));
        }
        Ok(Action::Watch { add, remove })
    }
}

/// What somebody says about an objective: `{body, title?, attachments?}`, as it will be sent.
///
/// # Errors
/// The path of the first field that is missing or breaks a rule.
pub fn discussion(value: &Value) -> Result<Post, Invalid> {
    let at = Reader::new(value);
    Ok(Post {
        to: None,
        title: at.field("title").optional(|r| r.text(0, 200))?,
        body: at.field("body").text(1, 16384)?,
        level: Level::Info,
        data: Map::new(),
        attachments: list(&at.field("attachments"), MOST_ATTACHMENTS, Attachment::read)?,
    })
}

/// The `data` of a message in an objective's thread, but for what belongs to an event.
pub(super) fn thread_data(objective: &Objective, kind: &str, actor: &str) -> Map<String, Value> {
    let fields = [
        ("kind", kind),
        ("actor", actor),
        ("objective_id", &objective.id),
        ("objective_status", objective.status.name()),
        (THREAD, &objective.thread()),
    ];
    fields.into_iter().map(|(name, text)| (name.to_string(), json!(text))).collect()
}

/// A text that says something, of at most `most` characters.
fn said(at: &Reader<'_>, most: usize) -> Result<String, Invalid> {
    let text = at.text(1, most)?;
    if text.trim().is_empty() { Err(at.invalid("is blank")) } else { Ok(text) }
}

fn names(at: &Reader<'_>) -> Result<Vec<String>, Invalid> {
    list(at, MOST_WATCHERS, |r| r.text(1, 128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_the_limits() {
        let long = |n: usize| "é".repeat(n);
        let new = |change: Value| {
            let mut value = json!({"title": "t", "outcome": "o", "assignee": "a"});
            for (name, field) in change.as_object().unwrap() {
                value[name] = field.clone();
            }
            NewObjective::from_json(&value).err()
        };
        for (change, wrong) in [
            (json!({}), None),
            (json!({"title": long(200), "outcome": long(2048), "body": long(4096)}), None),
            (json!({"watchers": vec!["w"; 64]}), None),
            (json!({"title": ""}), Some("title")),
            (json!({"title": " "}), Some("title")),
            (json!({"title": long(201)}), Some("title")),
            (json!({"outcome": null}), Some("outcome")),
            (json!({"outcome": long(2049)}), Some("outcome")),
            (json!({"assignee": ""}), Some("assignee")),
            (json!({"body": long(4097)}), Some("body")),
            (json!({"watchers": vec!["w"; 65]}), Some("watchers")),
            (json!({"watchers": ["w", 1]}), Some("watchers[1]")),
            (json!({"attachments": [{}]}), Some("attachments[0].path")),
        ] {
            let got = new(change.clone()).map(|invalid| invalid.path);
            assert_eq!(got.as_deref(), wrong, "{change:.100}");
        }
        type Read = fn(&Value) -> Result<Action, Invalid>;
        for (read, value, wrong) in [
            (Action::update as Read, json!({"status": "active"}), None),
            (Action::update, json!({"status": "blocked", "blockReason": long(2048)}), None),
            (Action::update, json!({"blockReason": "r"}), None),
            (Action::update, json!({}), Some("")),
            (Action::update, json!({"status": "blocked"}), Some("blockReason")),
            (Action::update, json!({"status": "blocked", "blockReason": ""}), Some("blockReason")),
            (Action::update, json!({"status": "blocked", "blockReason": long(2049)}), Some("blockReason")),
            (Action::update, json!({"status": "done"}), Some("status")),
            (Action::complete, json!({"result": long(4096)}), None),
            (Action::complete, json!({"result": long(4097)}), Some("result")),
            (Action::complete, json!({"result": "\n"}), Some("result")),
            (Action::complete, json!({}), Some("result")),
            (Action::cancel, json!({}), None),
            (Action::cancel, json!({"reason": long(2049)}), Some("reason")),
            (Action::reassign, json!({"to": "a"}), None),
            (Action::reassign, json!({"note": "n"}), Some("to")),
            (Action::reassign, json!({"to": "a", "note": 1}), Some("note")),
            (Action::watch, json!({"add": ["a"]}), None),
            (Action::watch, json!({"add": [], "remove": null}), Some("")),
            (Action::watch, json!({"remove": [""]}), Some("remove[0]")),
        ] {
            let got = read(&value).err().map(|invalid| invalid.path);
            assert_eq!(got.as_deref(), wrong, "{value:.100}");
        }
        for (value, wrong) in [
            (json!({"body": long(16384), "title": "t"}), None),
            (json!({"body": long(16385)}), Some("body")),
            (json!({"body": ""}), Some("body")),
        ] {
            assert_eq!(discussion(&value).err().map(|i| i.path).as_deref(), wrong, "{value:.100}");
        }
    }

    #[test]
    fn objectives_and_events_come_back_from_their_json() {
        let objective = Objective {
            id: "obj-1".into(),
            title: "t".into(),
            body: String::new(),
            outcome: "o".into(),
            status: Status::Blocked,
            assignee: "a".into(),
            originator: "b".into(),
            watchers: vec!["c".into(), "d".into()],
            created_at: 1,
            updated_at: 2,
            completed_at: None,
            result: None,
            block_reason: Some("r".into()),
            attachments: Vec::new(),
        };
        assert_eq!(Objective::from_json(&objective.to_json()).unwrap(), objective);
        assert_eq!(Objective::from_json(&json!({"id": 1})).unwrap_err().path, "id");
        assert!(["a", "b", "c", "d"].iter().all(|name| objective.involves(name)) && !objective.involves("e"));
        for (kind, name) in EventKind::ALL {
            let payload = Map::from_iter([("name".to_string(), json!("x"))]);
            let event = ObjectiveEvent { objective_id: "o".into(), ts: 1, actor: "a".into(), kind, payload };
            assert_eq!(event.to_json()["kind"], name);
            assert_eq!(ObjectiveEvent::from_json(&event.to_json()).unwrap(), event);
        }
        for name in Status::NAMES {
            assert_eq!(Status::from_name(name).unwrap().name(), name);
        }
    }
}
