//! One pass over an upload that finds where the pieces are, without copying or building any of them.
//!
//! What is on the way to a block is gone through here; every other value, and every name, is serde_json's to check and
//! to skip over. Calls repeat the conversation: what a list has in common with that of a call before is compared and
//! no more.
use std::sync::Arc;

use serde_core::de::IgnoredAny;
use serde_json::value::RawValue;

use super::lately::Past;
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
    /// So many of the first blocks, and all around them, are those of the event before, or of a call of another
    /// upload: which of them.
    pub same: usize,
    pub lately: Option<usize>,
    elements: Vec<Element>,
}

/// An element of a list: where it ends, and how many blocks there are up to here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Element {
    end: u32,
    blocks: u32,
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

/// Find the events of an upload `{"events": […]}`; `lately` are calls that the first may go on from.
///
/// # Errors
/// The text is not JSON, or there is no such list.
pub(super) fn find(text: &str, lately: &[Arc<Past>]) -> Result<Vec<Seen>, Invalid> {
    let whole = |message: String| Invalid { path: String::new(), message };
    if u32::try_from(text.len()).is_err() {
        return Err(whole("is larger than 4 GB".into()));
    }
    let mut finder = Finder { text, lately, ..Finder::default() };
    match finder.value(Place::Upload) {
        Ok(()) if finder.next().is_none() => {}
        _ => {
            // Where and why is told by who reads the whole of it.
            let why = serde_json::from_str::<IgnoredAny>(text).err();
            let why = why.map_or_else(|| "unknown syntax".to_string(), |e| e.to_string());
            return Err(whole(format!("is not the JSON of an upload: {why}")));
        }
    }
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

/// The text is not JSON.
struct Unsound;

/// What is wrong with a message of which a member, or its name, cannot be read back.
const UNREADABLE: &str = "has a member that cannot be read";

#[derive(Default)]
struct Finder<'t> {
    text: &'t str,
    lately: &'t [Arc<Past>],
    /// Everything before it has been read.
    at: usize,
    events: Option<Vec<Seen>>,
    now: Seen,
    list: Listed,
    message: u32,
    role: bool,
    content: bool,
}

impl Finder<'_> {
    /// The next byte that is not white space, which is passed.
    fn next(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|b| matches!(b, b' ' | b'\n' | b'\r' | b'\t')).count();
        self.text.as_bytes().get(self.at).copied()
    }

    /// Read the value at `place`.
    fn value(&mut self, place: Place) -> Result<(), Unsound> {
        let first = self.next().ok_or(Unsound)?;
        if !place.enters(first) {
            let span = self.skip()?;
            self.skipped(place, span);
            return Ok(());
        }
        let start = self.at;
        self.enter(place);
        self.at += 1;
        match first {
            b'{' => self.members(place)?,
            _ => self.elements(place)?,
        }
        self.leave(place, Span::new(start, self.at));
        Ok(())
    }

    /// Read an object from behind its bracket on.
    fn members(&mut self, place: Place) -> Result<(), Unsound> {
        let mut first = true;
        while self.more(first, b'}')? {
            first = false;
            if self.next() != Some(b'"') {
                return Err(Unsound);
            }
            let name = self.skip()?.of(self.text);
            if self.next() != Some(b':') {
                return Err(Unsound);
            }
            self.at += 1;
            match self.member(place, name) {
                Some(place) => self.value(place)?,
                None => _ = self.skip()?,
            }
        }
        Ok(())
    }

    /// The place of the member with this name, as it is written: every reader takes an escaped name for what it means.
    fn member(&mut self, place: Place, name: &str) -> Option<Place> {
        if !name.contains('\\') {
            return place.member(&name[1..name.len() - 1]);
        }
        match serde_json::from_str::<String>(name) {
            Ok(name) => place.member(&name),
            Err(_) => {
                // Elsewhere it is found by who reads what is left without the lists.
                if let Place::Message(list) = place {
                    self.fault(list, "", UNREADABLE);
                }
                None
            }
        }
    }

    /// Read an array from behind its bracket on.
    fn elements(&mut self, place: Place) -> Result<(), Unsound> {
        let element = place.element().ok_or(Unsound)?;
        let mut first = true;
        if let Place::Items(list) = place {
            first = !self.repeat(list);
        }
        while self.more(first, b']')? {
            first = false;
            self.value(element)?;
            if let Place::Items(_) = place {
                let (end, blocks) = (self.at as u32, self.list.blocks.len() as u32);
                self.list.elements.push(Element { end, blocks });
            }
        }
        Ok(())
    }

    /// Whether a member or an element follows; a comma, or what closes the list, is passed.
    fn more(&mut self, first: bool, close: u8) -> Result<bool, Unsound> {
        match self.next() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => Err(Unsound),
        }
    }

    /// Skip over the next value.
    fn skip(&mut self) -> Result<Span, Unsound> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<&RawValue>();
        let Some(Ok(raw)) = values.next() else { return Err(Unsound) };
        self.at += values.byte_offset();
        Ok(Span::new(self.at - raw.get().len(), self.at))
    }

    /// Pass the elements that the list has in common with that of the call before; whether there are any.
    fn repeat(&mut self, list: List) -> bool {
        let start = self.at - 1;
        let here = &self.text.as_bytes()[start..];
        let event =
            self.events.as_ref().and_then(|events| events.last()).filter(|event| event.fault.is_none());
        let event = event.and_then(|event| event.lists[list as usize].as_ref());
        let lately = self.lately;
        let past = |i: usize| {
            let past = lately[i].list(list)?;
            Some((common(past.text.as_bytes(), here), &past.listed, Some(i)))
        };
        let best = match event {
            Some(listed) => Some((common(listed.span.of(self.text).as_bytes(), here), listed, None)),
            None => (0..lately.len()).filter_map(past).max_by_key(|(common, ..)| *common),
        };
        let Some((common, before, lately)) = best else { return false };
        // What follows an element must be the same too: a number might go on.
        let from = before.span.start;
        let count = before.elements.partition_point(|e| ((e.end - from) as usize) < common);
        let Some(last) = before.elements[..count].last() else { return false };
        let moved = |at: u32| at - from + start as u32;
        let spot = |spot: &Spot| {
            let span = Span { start: moved(spot.span.start), end: moved(spot.span.end) };
            Spot { span, ..*spot }
        };
        let same = last.blocks as usize;
        let end = moved(last.end) as usize;
        self.list.blocks = before.blocks[..same].iter().map(spot).collect();
        self.list.elements =
            before.elements[..count].iter().map(|e| Element { end: moved(e.end), ..*e }).collect();
        (self.list.same, self.list.lately) = (same, lately);
        self.at = end;
        if list != List::Tools {
            self.message = count as u32;
        }
        true
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
                let listed = Listed { span, ..std::mem::take(&mut self.list) };
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
                let whole = Listed { span, ..Listed::default() };
                self.now.lists[List::System as usize].get_or_insert(whole);
            }
            Place::Parts => self.now.parts = Some(span),
            Place::Message(list) => {
                self.fault(list, "", "is not an object");
                self.message += 1;
            }
            Place::Role => self.role = raw.starts_with('"') && sound(raw),
            Place::Content(_) => self.content = false,
            Place::Other(list) if !sound(raw) => self.fault(list, "", UNREADABLE),
            Place::Block(_) => self.list.blocks.push(Spot { span, message: self.message }),
            _ => {}
        }
    }
}

/// How many bytes two texts have in common from their beginnings on.
fn common(a: &[u8], b: &[u8]) -> usize {
    const STEP: usize = 256;
    let same = |(a, b): &(&[u8], &[u8])| a == b;
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(same).count();
    let rest = steps * STEP;
    rest + a[rest..].iter().zip(&b[rest..]).take_while(|(a, b)| a == b).count()
}

/// Whether a value can be read back: skipping over one leaves lone surrogates and huge numbers unnoticed.
fn sound(raw: &str) -> bool {
    matches!(raw, r#""user""# | r#""assistant""#) || parse(raw, MAX_DEPTH - 5).is_ok()
}
