//! One pass over an upload that finds where the pieces are, without copying or building any of them.
//!
//! serde_json checks the syntax; what is not on the way to a block is skipped over. serde_json does not say where in
//! the text it stands, but everything it lends (keys, raw values) points into the text, and what lies between is
//! only white space, `,`, `:` and brackets.
use std::fmt;

use serde_core::Deserialize;
use serde_core::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::sound::{MAX_DEPTH, parse};
use crate::activity::Invalid;

/// A stretch of the text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        // `find` refuses a text whose positions do not fit.
        Span { start: start as u32, end: end as u32 }
    }

    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The lists of a model call that are split off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    /// A string, in parts.
    System,
    Tools,
    Messages,
    /// The response's messages.
    Answer,
}

impl List {
    pub(super) const ALL: [List; 4] = [List::System, List::Tools, List::Messages, List::Answer];

    /// As in the path of an error.
    pub(super) fn path(self) -> &'static str {
        match self {
            List::System => "entry.request.system",
            List::Tools => "entry.request.tools",
            List::Messages => "entry.request.messages",
            List::Answer => "entry.response.messages",
        }
    }
}

/// A block of a list and the index of the message it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub span: Span,
    pub message: u32,
}

/// A list: the whole value, and its blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub span: Span,
    pub blocks: Vec<Spot>,
}

/// An event: the whole value, its lists, and what is wrong with the messages around the blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub span: Span,
    pub lists: [Option<Listed>; 4],
    /// The value of `systemParts`.
    pub parts: Option<Span>,
    /// The path is relative to the event.
    pub fault: Option<Invalid>,
}

/// Find the events of an upload `{"events": […]}`.
///
/// # Errors
/// The text is not JSON, or there is no such list.
pub(super) fn find(text: &str) -> Result<Vec<Seen>, Invalid> {
    let whole = |message: String| Invalid { path: String::new(), message };
    if u32::try_from(text.len()).is_err() {
        return Err(whole("is larger than 4 GB".into()));
    }
    let mut finder = Finder { text, ..Finder::default() };
    let mut json = serde_json::Deserializer::from_str(text);
    let walk = Walk { at: Place::Upload, after: 0, finder: &mut finder };
    walk.deserialize(&mut json)
        .and_then(|_| json.end())
        .map_err(|e| whole(format!("is not the JSON of an upload: {e}")))?;
    finder
        .events
        .ok_or_else(|| Invalid { path: "events".into(), message: "is missing or not an array".into() })
}

/// Where in the document a value stands, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Upload,
    Events,
    Event,
    Entry,
    Request,
    Response,
    Parts,
    System,
    /// The list itself, for messages and tools.
    Items(List),
    Message(List),
    Role,
    Content(List),
    Block(List),
    /// A member of a message that we do not know: it must be sound all the same.
    Other(List),
}

impl Place {
    /// The place of the member `key` of the object here; `None` if nothing in it matters.
    fn member(self, key: &str) -> Option<Place> {
        Some(match (self, key) {
            (Place::Upload, "events") => Place::Events,
            (Place::Event, "entry") => Place::Entry,
            (Place::Entry, "request") => Place::Request,
            (Place::Entry, "response") => Place::Response,
            (Place::Request, "system") => Place::System,
            (Place::Request, "systemParts") => Place::Parts,
            (Place::Request, "messages") => Place::Items(List::Messages),
            (Place::Request, "tools") => Place::Items(List::Tools),
            (Place::Response, "messages") => Place::Items(List::Answer),
            (Place::Message(_), "role") => Place::Role,
            (Place::Message(list), "content") => Place::Content(list),
            (Place::Message(list), _) => Place::Other(list),
            _ => return None,
        })
    }

    /// The place of an element of the array here.
    fn element(self) -> Option<Place> {
        Some(match self {
            Place::Events => Place::Event,
            Place::Items(List::Tools) => Place::Block(List::Tools),
            Place::Items(list) => Place::Message(list),
            Place::Content(list) => Place::Block(list),
            _ => return None,
        })
    }

    /// Whether a value that begins with `first` is gone into; any other is skipped over.
    fn enters(self, first: u8) -> bool {
        match self {
            Place::Events | Place::Items(_) | Place::Content(_) => first == b'[',
            Place::Upload
            | Place::Event
            | Place::Entry
            | Place::Request
            | Place::Response
            | Place::Message(_) => first == b'{',
            Place::Parts | Place::System | Place::Role | Place::Block(_) | Place::Other(_) => false,
        }
    }
}

#[derive(Default)]
struct Finder<'t> {
    text: &'t str,
    events: Option<Vec<Seen>>,
    now: Seen,
    list: Listed,
    message: u32,
    role: bool,
    content: bool,
}

impl Finder<'_> {
    /// Where a value begins of which everything before `from` has been read.
    fn begin(&self, from: usize) -> usize {
        let skip = |b: &u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t' | b',' | b':');
        from + self.text.as_bytes()[from..].iter().take_while(|b| skip(b)).count()
    }

    /// Where the bracket is passed that closes what ends at `from`.
    fn close(&self, from: usize) -> usize {
        (self.begin(from) + 1).min(self.text.len())
    }

    fn offset(&self, borrowed: &str) -> usize {
        borrowed.as_ptr() as usize - self.text.as_ptr() as usize
    }

    fn fault(&mut self, list: List, member: &str, message: &str) {
        let path = format!("{}[{}]{member}", list.path(), self.message);
        self.now.fault.get_or_insert(Invalid { path, message: message.into() });
    }

    fn enter(&mut self, at: Place) {
        match at {
            Place::Event => self.now = Seen::default(),
            Place::Items(_) => (self.list, self.message) = (Listed::default(), 0),
            Place::Message(_) => (self.role, self.content) = (false, false),
            _ => {}
        }
    }

    /// The value at `at` was gone into and covers `span`.
    fn leave(&mut self, at: Place, span: Span) {
        match at {
            Place::Event => {
                self.now.span = span;
                let seen = std::mem::take(&mut self.now);
                self.events.get_or_insert_default().push(seen);
            }
            Place::Events => _ = self.events.get_or_insert_default(),
            Place::Items(list) => {
                let listed = Listed { span, blocks: std::mem::take(&mut self.list.blocks) };
                // A repeated member stays in the skeleton.
                self.now.lists[list as usize].get_or_insert(listed);
            }
            Place::Message(list) => {
                if !self.role {
                    self.fault(list, ".role", "is not a string");
                }
                if !self.content {
                    self.fault(list, ".content", "is not an array");
                }
                self.message += 1;
            }
            Place::Content(_) => self.content = true,
            _ => {}
        }
    }

    /// The value at `at` was skipped over and covers `span`.
    fn skipped(&mut self, at: Place, span: Span) {
        let raw = span.of(self.text);
        match at {
            Place::Event => self.events.get_or_insert_default().push(Seen { span, ..Seen::default() }),
            Place::System if raw.starts_with('"') => {
                let whole = Listed { span, blocks: Vec::new() };
                self.now.lists[List::System as usize].get_or_insert(whole);
            }
            Place::Parts => self.now.parts = Some(span),
            Place::Message(list) => {
                self.fault(list, "", "is not an object");
                self.message += 1;
            }
            Place::Role => self.role = raw.starts_with('"') && sound(raw),
            Place::Content(_) => self.content = false,
            Place::Other(list) if !sound(raw) => self.fault(list, "", "has a member that cannot be read"),
            Place::Block(_) => self.list.blocks.push(Spot { span, message: self.message }),
            _ => {}
        }
    }
}

/// Whether a value can be read back: skipping over one leaves lone surrogates and huge numbers unnoticed.
fn sound(raw: &str) -> bool {
    matches!(raw, r#""user""# | r#""assistant""#) || parse(raw, MAX_DEPTH - 5).is_ok()
}

/// A value at a place; everything before `after` has been read. Gives where the value ends.
struct Walk<'a, 't> {
    at: Place,
    after: usize,
    finder: &'a mut Finder<'t>,
}

impl<'de> DeserializeSeed<'de> for Walk<'_, 'de> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<usize, D::Error> {
        let start = self.finder.begin(self.after);
        let first = self.finder.text.as_bytes().get(start).copied().unwrap_or_default();
        if self.at.enters(first) {
            let (at, finder) = (self.at, self.finder);
            finder.enter(at);
            let end = json.deserialize_any(Walk { at, after: start + 1, finder: &mut *finder })?;
            finder.leave(at, Span::new(start, end));
            return Ok(end);
        }
        let raw = <&RawValue>::deserialize(json)?.get();
        let start = self.finder.offset(raw);
        self.finder.skipped(self.at, Span::new(start, start + raw.len()));
        Ok(start + raw.len())
    }
}

impl<'de> Visitor<'de> for Walk<'_, 'de> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut end = self.after;
        while let Some(key) = map.next_key_seed(Key)? {
            // A name with escapes is none of ours.
            if let Some(place) = self.at.member(key.unwrap_or("\\")) {
                let after = key.map_or(end, |key| self.finder.offset(key) + key.len() + 1);
                end = map.next_value_seed(Walk { at: place, after, finder: &mut *self.finder })?;
            } else {
                let raw = map.next_value::<&RawValue>()?.get();
                end = self.finder.offset(raw) + raw.len();
            }
        }
        Ok(self.finder.close(end))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let mut end = self.after;
        let at = self.at.element().ok_or_else(|| A::Error::custom("unexpected array"))?;
        while let Some(next) = seq.next_element_seed(Walk { at, after: end, finder: &mut *self.finder })? {
            end = next;
        }
        Ok(self.finder.close(end))
    }
}

/// A member's name, where it stands in the text as it is; `None` for one with escapes, which is none of ours.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Some(name))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}
