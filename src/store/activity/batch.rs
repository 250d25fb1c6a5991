//! From the JSON text of an upload to what is stored: checked, split, hashed and deflated, outside of any lock on a
//! database.
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{Context, SHA256};

use super::facts::{self, Facts};
use super::lately::{Hashed, Lately, Past, Remembered};
use super::skeleton::{self, Control};
use super::sound::{MAX_DEPTH, parse};
use super::split;
use super::walk::{self, List, Seen, Span};
use crate::activity::{Block, Event, Invalid, Provider, Reader, Tool, What};
use crate::store::pack::Packer;
use crate::store::recent::Recent;

/// How many checked pieces are remembered, at least.
const REMEMBERED: usize = 16_384;

/// SHA-256 of a piece's text.
pub(super) type Hash = [u8; 32];

/// Reads uploads. One is enough for all threads: it remembers which pieces it has checked, so that what a
/// conversation repeats is hashed and no more.
pub struct Parser {
    memory: Mutex<Memory>,
    lately: Lately,
}

struct Memory {
    /// By what a piece was checked as, since a good tool is not a good block.
    checked: Recent<(u8, Hash), ()>,
    packer: Packer,
}

/// Events, ready to be stored.
pub struct Batch {
    pub(super) text: String,
    pub(super) pieces: Vec<Piece>,
    pub(super) events: Vec<Parsed>,
}

/// An event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brief<'a> {
    /// One of [`crate::activity::KINDS`].
    pub kind: &'static str,
    /// Whose wire a model call speaks.
    pub provider: Option<Provider>,
    /// The event's JSON, as it came.
    pub json: &'a str,
}

/// A text that is stored once: a block, without the control that moves, or a lead.
pub(super) struct Piece {
    pub hash: Hash,
    span: Span,
    cut: Option<Span>,
    /// As it is to be stored; absent where it was seen lately and so is probably stored already.
    pub packed: Option<Vec<u8>>,
    /// What it was checked as in this batch: a bit per list.
    checked: u8,
}

impl Piece {
    /// The text that was hashed.
    pub(super) fn raw<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.cut {
            None => Cow::Borrowed(self.span.of(text)),
            Some(cut) => {
                let (before, after) =
                    (Span { end: cut.start, ..self.span }, Span { start: cut.end, ..self.span });
                Cow::Owned([before.of(text), after.of(text)].concat())
            }
        }
    }
}

/// A step of a chain; `lead` and `block` count the batch's pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub lead: u32,
    pub block: u32,
    pub message: u32,
}

pub(super) struct Parsed {
    pub span: Span,
    pub facts: Facts,
    pub skeleton: Vec<u8>,
    pub skeleton_size: usize,
    /// By [`List`], in order.
    pub lists: [Vec<Step>; 4],
}

impl Batch {
    /// How many events it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The events, as they came.
    pub fn events(&self) -> impl Iterator<Item = Brief<'_>> {
        self.events.iter().map(|event| Brief {
            kind: facts::kind(event.facts.kind).unwrap_or_default(),
            provider: facts::provider(event.facts.provider),
            json: event.span.of(&self.text),
        })
    }
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// A parser that remembers nothing yet.
    #[must_use]
    pub fn new() -> Parser {
        let memory = Memory { checked: Recent::new(REMEMBERED), packer: Packer::new() };
        Parser { memory: Mutex::new(memory), lately: Lately::default() }
    }

    /// Read the body of an upload, `{"events": […]}`; it may hold any number of events, also none.
    ///
    /// # Errors
    /// What is wrong first, with its path (`events[3].entry.request.model`): not JSON, or not events as
    /// [`Event::from_json`] takes them, or nested deeper than 100 levels.
    pub fn upload(&self, body: Vec<u8>) -> Result<Batch, Invalid> {
        let text = String::from_utf8(body).map_err(|e| Invalid {
            path: String::new(),
            message: format!("is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()),
        })?;
        self.text(text)
    }

    /// Read events that are each a JSON text.
    ///
    /// # Errors
    /// As [`Parser::upload`].
    pub fn events<'e>(&self, events: impl IntoIterator<Item = &'e str>) -> Result<Batch, Invalid> {
        let mut text = String::from("{\"events\":[");
        for (i, event) in events.into_iter().enumerate() {
            text.push_str(if i > 0 { "," } else { "" });
            text.push_str(event);
        }
        text.push_str("]}");
        self.text(text)
    }

    fn text(&self, text: String) -> Result<Batch, Invalid> {
        let lately = self.lately.calls();
        let found = walk::find(&text, &lately)?;
        let mut pieces = Pieces {
            text: &text,
            lately: &lately,
            known: HashMap::new(),
            leads: Vec::new(),
            before: Default::default(),
            list: Vec::new(),
        };
        let mut split = Vec::with_capacity(found.len());
        for seen in found {
            split.push(pieces.split(seen));
        }
        let past = split.last().and_then(|last| pieces.past(&last.seen));
        let goes_on = |split: &Split| split.seen.lists[List::Messages as usize].as_ref()?.lately;
        let goes_on_from = split.iter().find_map(goes_on).map(|i| &lately[i]);
        let mut pieces = pieces.list;
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let events = split
            .into_iter()
            .enumerate()
            .map(|(i, split)| {
                check(&text, &mut pieces, &mut memory, split).map_err(|e| {
                    let dot = if e.path.is_empty() { "" } else { "." };
                    Invalid { path: format!("events[{i}]{dot}{}", e.path), message: e.message }
                })
            })
            .collect::<Result<_, _>>()?;
        drop(memory);
        if let Some(past) = past {
            self.lately.put(past, goes_on_from);
        }
        Ok(Batch { text, pieces, events })
    }
}

/// An event with its blocks hashed.
struct Split {
    seen: Seen,
    controls: Vec<Control>,
    lists: [Vec<Step>; 4],
}

/// The pieces of a batch, each once.
struct Pieces<'t> {
    text: &'t str,
    lately: &'t [Arc<Past>],
    known: HashMap<Hash, u32>,
    /// Leads of which a conversation has a handful: found without hashing.
    leads: Vec<(&'t str, u32)>,
    /// The blocks of the event before, by list: most of them stand at the same place again.
    before: [Vec<Known>; 4],
    list: Vec<Piece>,
}

/// A block that was hashed.
struct Known {
    span: Span,
    cut: Option<Span>,
    piece: u32,
    /// The piece of what leads to it.
    lead: u32,
}

impl Known {
    /// The same at another place.
    fn moved(&self, span: Span) -> Known {
        Known { span, cut: moved(self.cut, self.span, span), ..*self }
    }
}

/// What is cut out of a block that has moved.
fn moved(cut: Option<Span>, from: Span, to: Span) -> Option<Span> {
    let moved = |at: u32| at - from.start + to.start;
    cut.map(|cut| Span { start: moved(cut.start), end: moved(cut.end) })
}

impl Pieces<'_> {
    fn add(&mut self, span: Span, cut: Option<Span>) -> u32 {
        let mut hash = Context::new(&SHA256);
        let start = cut.map_or(span.end, |cut| cut.start);
        hash.update(Span { end: start, ..span }.of(self.text).as_bytes());
        if let Some(cut) = cut {
            hash.update(Span { start: cut.end, ..span }.of(self.text).as_bytes());
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        self.hashed(key, span, cut)
    }

    fn hashed(&mut self, key: Hash, span: Span, cut: Option<Span>) -> u32 {
        *self.known.entry(key).or_insert_with(|| {
            self.list.push(Piece { hash: key, span, cut, packed: None, checked: 0 });
            self.list.len() as u32 - 1
        })
    }

    fn lead(&mut self, span: Span) -> u32 {
        let text = span.of(self.text);
        if let Some((_, piece)) = self.leads.iter().find(|(lead, _)| *lead == text) {
            return *piece;
        }
        let piece = self.add(span, None);
        if self.leads.len() < 8 {
            self.leads.push((text, piece));
        }
        piece
    }

    /// A block of another upload and its lead, at their places in this one.
    fn remembered(&mut self, past: &Hashed, span: Span, lead: Span) -> Known {
        let cut = moved(past.cut, past.span, span);
        let lead = self.hashed(past.lead, lead, None);
        Known { span, cut, piece: self.hashed(past.block, span, cut), lead }
    }

    /// What to remember of the last event.
    fn past(&self, seen: &Seen) -> Option<Past> {
        let hash = |piece: u32| self.list[piece as usize].hash;
        let mut past = Past::default();
        for list in [List::Tools, List::Messages] {
            let Some(listed) = &seen.lists[list as usize] else { continue };
            let hashed =
                |k: &Known| Hashed { span: k.span, cut: k.cut, block: hash(k.piece), lead: hash(k.lead) };
            past.lists[list as usize] = Some(Remembered {
                text: listed.span.of(self.text).to_string(),
                listed: listed.clone(),
                blocks: self.before[list as usize].iter().map(hashed).collect(),
            });
        }
        (seen.fault.is_none() && past.lists.iter().any(Option::is_some)).then_some(past)
    }

    /// A block's piece; `before` stood at its place in the event before.
    fn block(&mut self, list: List, span: Span, lead: u32, before: Option<&Known>) -> Known {
        if let Some(same) = before.filter(|b| b.span.of(self.text) == span.of(self.text)) {
            return Known { lead, ..same.moved(span) };
        }
        let cut = match list {
            List::System => None,
            _ => skeleton::control(span.of(self.text), span.start as usize),
        };
        Known { span, cut, piece: self.add(span, cut), lead }
    }

    fn split(&mut self, mut seen: Seen) -> Split {
        if let Some(listed) = &mut seen.lists[List::System as usize] {
            let lengths = seen.parts.and_then(|s| serde_json::from_str::<Vec<usize>>(s.of(self.text)).ok());
            listed.blocks = split::system(self.text, listed.span, &lengths.unwrap_or_default())
                .into_iter()
                .map(|span| walk::Spot { span, message: 0 })
                .collect();
        }
        let mut controls = Vec::new();
        let lists = List::ALL.map(|list| {
            let Some(listed) = &seen.lists[list as usize] else { return Vec::new() };
            let before = std::mem::take(&mut self.before[list as usize]);
            let past = listed.lately.and_then(|i| self.lately[i].list(list));
            let mut end = listed.span.start;
            let mut steps = Vec::with_capacity(listed.blocks.len());
            for (ordinal, spot) in listed.blocks.iter().enumerate() {
                let lead = Span { start: end, end: spot.span.start };
                let past = past.and_then(|past| past.blocks.get(ordinal));
                let known = match (past, before.get(ordinal)) {
                    (Some(past), _) if ordinal < listed.same => self.remembered(past, spot.span, lead),
                    (None, Some(same)) if ordinal < listed.same => same.moved(spot.span),
                    (_, before) => {
                        let lead = self.lead(lead);
                        self.block(list, spot.span, lead, before)
                    }
                };
                controls.extend(known.cut.map(|span| Control { list, ordinal, span }));
                steps.push(Step { lead: known.lead, block: known.piece, message: spot.message });
                end = spot.span.end;
                self.before[list as usize].push(known);
            }
            steps
        });
        Split { seen, controls, lists }
    }
}

/// Check an event and make it ready. The error's path is relative to the event.
fn check(text: &str, pieces: &mut [Piece], memory: &mut Memory, split: Split) -> Result<Parsed, Invalid> {
    let Split { mut seen, mut controls, mut lists } = split;
    let mut value = parse(&skeleton::emptied(text, &seen), MAX_DEPTH)?;
    let mut event = Event::from_json(&value)?;
    if !matches!(event.what, What::Llm { .. }) && seen.lists.iter().any(Option::is_some) {
        // What looks like a model call inside of something else is not ours to split.
        (seen.lists, seen.fault) = Default::default();
        (controls, lists) = Default::default();
        value = parse(seen.span.of(text), MAX_DEPTH)?;
        event = Event::from_json(&value)?;
    }
    if let Some(fault) = seen.fault.take() {
        return Err(fault);
    }
    let mut used = Vec::new();
    let mut passed = Vec::new();
    let mut moved = controls.iter().peekable();
    for list in List::ALL {
        for (i, step) in lists[list as usize].iter().enumerate() {
            pack(text, &mut pieces[step.lead as usize], memory, LEAD);
            let piece = &mut pieces[step.block as usize];
            let unseen = pack(text, piece, memory, list as u8);
            if unseen {
                passed.push((list as u8, piece.hash));
            }
            // A control is not part of what was hashed; the answer's tools are wanted in any case.
            let control = moved.next_if(|c| c.list == list && c.ordinal == i).is_some();
            if unseen || control || list == List::Answer {
                check_block(text, &seen, list, i, &mut used)?;
            }
        }
    }
    for checked in passed {
        memory.checked.put(checked, ());
    }
    let facts = Facts::of(&event, &used);
    let skeleton = skeleton::take(text, &seen, &controls);
    Ok(Parsed {
        span: seen.span,
        facts,
        skeleton: memory.packer.pack_known(skeleton.as_bytes()),
        skeleton_size: skeleton.len(),
        lists,
    })
}

/// What leads are remembered as; the walk has checked them.
const LEAD: u8 = 4;

/// Whether the piece was not seen lately as what it is used as; if so it is deflated too.
fn pack(text: &str, piece: &mut Piece, memory: &mut Memory, used_as: u8) -> bool {
    if piece.checked & (1 << used_as) != 0 {
        return false;
    }
    piece.checked |= 1 << used_as;
    if memory.checked.get(&(used_as, piece.hash)).is_some() {
        return false;
    }
    if piece.packed.is_none() {
        piece.packed = Some(memory.packer.pack(piece.raw(text).as_bytes()));
    }
    if used_as == LEAD {
        memory.checked.put((used_as, piece.hash), ());
    }
    true
}

/// Check one block as its list demands; names of tools that an answer uses go to `used`.
fn check_block(text: &str, seen: &Seen, list: List, i: usize, used: &mut Vec<String>) -> Result<(), Invalid> {
    let Some(listed) = &seen.lists[list as usize] else { return Ok(()) };
    let spot = listed.blocks[i];
    let place = || match list {
        List::System => list.path().to_string(),
        List::Tools => format!("{}[{i}]", list.path()),
        List::Messages | List::Answer => {
            let first = listed.blocks.partition_point(|s| s.message < spot.message);
            format!("{}[{}].content[{}]", list.path(), spot.message, i - first)
        }
    };
    let at = |e: Invalid| {
        let dot = if e.path.is_empty() { "" } else { "." };
        Invalid { path: format!("{}{dot}{}", place(), e.path), message: e.message }
    };
    match list {
        // A part alone need not be sound text; the whole is.
        List::System => parse(listed.span.of(text), MAX_DEPTH).map(drop).map_err(at),
        List::Tools => {
            let value = parse(spot.span.of(text), MAX_DEPTH - 4).map_err(at)?;
            Tool::read(&Reader::new(&value)).map(drop).map_err(at)
        }
        List::Messages | List::Answer => {
            let value = parse(spot.span.of(text), MAX_DEPTH - 6).map_err(at)?;
            if let (Block::ToolUse { name, .. }, List::Answer) =
                (Block::read(&Reader::new(&value)).map_err(at)?, list)
            {
                used.push(name);
            }
            Ok(())
        }
    }
}
