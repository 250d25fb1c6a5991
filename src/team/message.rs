//! Messages: what a member says to another, to a channel or to all, and what the broker tells about objectives.
use serde_json::{Map, Value, json};

use super::attachment::{Attachment, MOST_ATTACHMENTS};
use super::list;
use crate::activity::{Invalid, Reader, deeper};

/// The field of a message's `data` that says which conversation it belongs to: `chan:<id>` or `obj:<id>`.
pub const THREAD: &str = "thread";

/// Bytes of `data`, as JSON.
const MOST_DATA: usize = 64 << 10;
/// Levels of nesting of `data`: readers' parsers have limits (serde_json 128), and find it within lists and frames.
const DEEPEST_DATA: usize = 64;

/// How much a message matters, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
    Critical,
}

impl Level {
    /// The names on the wire, in order.
    pub const NAMES: [&'static str; 6] = ["debug", "info", "notice", "warning", "error", "critical"];

    const ALL: [Level; 6] =
        [Level::Debug, Level::Info, Level::Notice, Level::Warning, Level::Error, Level::Critical];

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        Level::NAMES[self as usize]
    }

    /// The level of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    fn read(at: &Reader<'_>) -> Result<Level, Invalid> {
        let name = at.one_of(&Level::NAMES)?;
        Level::from_name(name).ok_or_else(|| at.invalid("is no level"))
    }
}

/// A message as the broker has stamped it.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: String,
    /// When the broker had it, ms since the epoch.
    pub ts: u64,
    /// The one it is for; `None` for a channel, a thread or everybody.
    pub to: Option<String>,
    /// Who sent it; `None` for the broker itself.
    pub from: Option<String>,
    pub title: Option<String>,
    pub body: String,
    pub level: Level,
    /// Whatever the sender wants programs to know; [`THREAD`] means something to the broker too.
    pub data: Map<String, Value>,
    pub attachments: Vec<Attachment>,
}

impl Message {
    /// The wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let attachments: Value = self.attachments.iter().map(Attachment::to_json).collect();
        json!({
            "id": self.id,
            "ts": self.ts,
            "to": self.to,
            "from": self.from,
            "title": self.title,
            "body": self.body,
            "level": self.level.name(),
            "data": self.data,
            "attachments": attachments,
        })
    }

    /// A message from its wire JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn from_json(value: &Value) -> Result<Message, Invalid> {
        let at = Reader::new(value);
        Ok(Message {
            id: at.field("id").string()?,
            ts: at.field("ts").uint()?,
            to: at.field("to").optional(Reader::string)?,
            from: at.field("from").optional(Reader::string)?,
            title: at.field("title").optional(Reader::string)?,
            body: at.field("body").string()?,
            level: Level::read(&at.field("level"))?,
            data: at.field("data").optional(Reader::object)?.unwrap_or_default(),
            attachments: list(&at.field("attachments"), usize::MAX, Attachment::read)?,
        })
    }

    /// The conversation that it belongs to, as `data` has it.
    #[must_use]
    pub fn thread(&self) -> Option<&str> {
        self.data.get(THREAD).and_then(Value::as_str)
    }
}

/// What somebody wants to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    pub to: Option<String>,
    /// At most 200 characters.
    pub title: Option<String>,
    /// 1 to 65536 characters.
    pub body: String,
    pub level: Level,
    pub data: Map<String, Value>,
    pub attachments: Vec<Attachment>,
}

impl Post {
    /// `{to?, title?, body, level?, data?, attachments?}`. Other fields count for nothing: who sends and when is not for
    /// the sender to say.
    ///
    /// # Errors
    /// The path of the first field that is missing or breaks a rule. What only the broker says, it says itself:
    /// `data.kind` is not `objective` or `objective_discuss`, `data.thread` is no objective's.
    pub fn from_json(value: &Value) -> Result<Post, Invalid> {
        let at = Reader::new(value);
        let data = at.field("data");
        let post = Post {
            to: at.field("to").optional(|r| r.text(1, 128))?,
            title: at.field("title").optional(|r| r.text(0, 200))?,
            body: at.field("body").text(1, 65536)?,
            level: at.field("level").optional(Level::read)?.unwrap_or(Level::Info),
            data: data.optional(Reader::object)?.unwrap_or_default(),
            attachments: list(&at.field("attachments"), MOST_ATTACHMENTS, Attachment::read)?,
        };
        let whole = Value::Object(post.data.clone());
        if deeper(&whole, DEEPEST_DATA) {
            return Err(data.invalid("is nested more than 64 levels deep"));
        }
        if whole.to_string().len() > MOST_DATA {
            return Err(data.invalid("is longer than 64 KiB"));
        }
        let says = |name: &str| post.data.get(name).and_then(Value::as_str).unwrap_or_default();
        if matches!(says("kind"), "objective" | "objective_discuss") {
            return Err(data.field("kind").invalid("is for the broker to say"));
        }
        let thread = says(THREAD);
        if thread.starts_with("obj:") {
            return Err(data.field(THREAD).invalid("is an objective's: discuss the objective instead"));
        }
        if thread.starts_with("chan:") && post.to.is_some() {
            return Err(data.field(THREAD).invalid("is a channel's, but the message is for one member"));
        }
        Ok(post)
    }

    /// The id of the channel that it is for.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.data.get(THREAD).and_then(Value::as_str)?.strip_prefix("chan:")
    }

    /// The message it becomes.
    #[must_use]
    pub fn stamped(self, id: String, ts: u64, from: Option<&str>) -> Message {
        let Post { to, title, body, level, data, attachments } = self;
        Message { id, ts, to, from: from.map(str::to_string), title, body, level, data, attachments }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_keep_the_limits() {
        let long = |n: usize| "é".repeat(n);
        let file = json!({"path": "/b/a", "name": "a", "size": 1, "mimeType": "text/plain"});
        let nested = |n: usize| (0..n).fold(json!(1), |inside, _| json!([inside]));
        let files = |n: usize| json!({"body": "x", "attachments": vec![file.clone(); n]});
        for (value, wrong) in [
            (json!({"body": "x"}), ""),
            (
                json!({"to": "bob", "title": null, "body": "x", "level": "critical", "data": {}, "from": 7}),
                "",
            ),
            (json!({"body": long(65536), "title": long(200)}), ""),
            (files(64), ""),
            (json!({}), "body"),
            (json!([]), "body"),
            (json!({"body": ""}), "body"),
            (json!({"body": 1}), "body"),
            (json!({"body": long(65537)}), "body"),
            (json!({"body": "x", "title": long(201)}), "title"),
            (json!({"body": "x", "to": ""}), "to"),
            (json!({"body": "x", "to": 1}), "to"),
            (json!({"body": "x", "level": "loud"}), "level"),
            (json!({"body": "x", "level": "INFO"}), "level"),
            (json!({"body": "x", "data": []}), "data"),
            (json!({"body": "x", "data": {"a": "x".repeat(64 << 10)}}), "data"),
            (json!({"body": "x", "data": {"a": nested(63)}}), ""),
            (json!({"body": "x", "data": {"a": nested(64)}}), "data"),
            (json!({"body": "x", "data": {"kind": "objective"}}), "data.kind"),
            (json!({"body": "x", "data": {"thread": "obj:1"}}), "data.thread"),
            (json!({"body": "x", "to": "bob", "data": {"thread": "chan:1"}}), "data.thread"),
            (json!({"body": "x", "data": {"thread": "chan:1"}}), ""),
            (json!({"body": "x", "data": {"thread": 1, "kind": "note"}}), ""),
            (files(65), "attachments"),
            (json!({"body": "x", "attachments": [file, {"path": "/b/../a"}]}), "attachments[1].path"),
        ] {
            let got = Post::from_json(&value).err().map_or(String::new(), |invalid| invalid.path);
            assert_eq!(got, wrong, "{value:.120}");
        }
    }

    #[test]
    fn a_message_comes_back_from_its_json_and_nobody_stamps_it_but_the_broker() {
        let file = json!({"path": "/b/a", "name": "a", "size": 1, "mimeType": "text/plain"});
        let sent = json!({"id": "mine", "ts": 1, "from": "ann", "to": "bob", "title": "t", "body": "x",
                          "level": "warning", "data": {"from": "ann", "b": [1.50]}, "attachments": [file]});
        let message = Post::from_json(&sent).unwrap().stamped("id".into(), 7, Some("cat"));
        let json = message.to_json();
        assert_eq!((&json["id"], &json["ts"], &json["from"]), (&json!("id"), &json!(7), &json!("cat")));
        for field in ["to", "title", "body", "level", "data", "attachments"] {
            assert_eq!(json[field], sent[field], "{field}");
        }
        assert_eq!(Message::from_json(&json).unwrap(), message);
        assert_eq!(Message::from_json(&json!({"id": "x"})).unwrap_err().path, "ts");
    }

    #[test]
    fn levels_are_ordered() {
        assert!(Level::Debug < Level::Info && Level::Error < Level::Critical);
        for name in Level::NAMES {
            assert_eq!(Level::from_name(name).unwrap().name(), name);
        }
    }
}
