//! Cutting an event to what every reader accepts: 4 MB of JSON, previews of 4096 bytes, no deep nesting.
use serde_json::Value;

use super::opaque::PREVIEW;
use crate::activity::{Event, Visitor, What, visit_value};

/// Bytes of an event's JSON, at most.
pub const LIMIT: usize = 4 * 1024 * 1024;

/// Levels of a raw value, at most: an event may have 100 (JSON parsers stop at 128), and seven of its own are around
/// the value of a block.
const DEPTH: usize = 93;

/// A raw value with more JSON than this counts as one text when an event is too long.
const LARGE_VALUE: usize = 64 * 1024;

/// A text is not cut to less than this while there is something else to drop.
const STUMP: usize = 64;

/// Cut `event` to the limits and give its JSON text, one line of at most [`LIMIT`] bytes.
///
/// The longest texts are cut first and `truncated` is set. Call it after redaction: half a secret is not recognised.
#[must_use]
pub fn fit(event: &mut Event) -> String {
    fit_to(event, LIMIT)
}

/// [`fit`] with another limit.
pub(super) fn fit_to(event: &mut Event, limit: usize) -> String {
    if let What::Opaque { entry, .. } = &mut event.what {
        for preview in
            [&mut entry.request_body_preview, &mut entry.response_body_preview].into_iter().flatten()
        {
            cut(preview, PREVIEW, |_| 1);
        }
    }
    event.visit(&mut Flatten { bytes: usize::MAX });
    let mut json = event.to_json().to_string();
    if json.len() <= limit {
        return json;
    }
    mark(event);
    event.visit(&mut Flatten { bytes: LARGE_VALUE.min(limit / 8) });
    while json.len() > limit {
        let mut lengths = Lengths(Vec::new());
        event.visit(&mut lengths);
        let ceiling = ceiling(lengths.0, json.len() - limit);
        // If only stumps would stay, it is the number of messages that makes it long: the oldest go.
        if ceiling >= STUMP || !shed(event) {
            event.visit(&mut Ceiling(ceiling));
        }
        json = event.to_json().to_string();
    }
    json
}

/// Say in the event that something is missing.
fn mark(event: &mut Event) {
    match &mut event.what {
        What::Llm { entry, .. } => entry.about.truncated = true,
        What::Opaque { entry, .. } => {
            entry.more.insert("truncated".into(), Value::Bool(true));
        }
        What::ObjectiveOpen { .. } | What::ObjectiveClose { .. } => {}
    }
}

/// Drop a good part of what an event has many of; false if there is nothing left to drop.
fn shed(event: &mut Event) -> bool {
    match &mut event.what {
        What::Llm { entry, .. } => {
            let request = &mut entry.request;
            match request.messages.as_mut_slice() {
                [only] if only.content.len() > 1 => {
                    only.content.drain(..only.content.len().div_ceil(2));
                }
                [_, ..] => {
                    request.messages.drain(..request.messages.len().div_ceil(2));
                }
                [] => {
                    let dropped = request.tools.take().is_some() | request.system.take().is_some();
                    request.system_parts.clear();
                    return dropped || entry.response.take().is_some();
                }
            }
            true
        }
        What::Opaque { entry, .. } => {
            let before = entry.request_headers.len() + entry.response_headers.len() + entry.more.len();
            entry.request_headers.clear();
            entry.response_headers.clear();
            entry.more.retain(|name, _| name == "truncated");
            before > entry.more.len()
        }
        What::ObjectiveOpen { .. } | What::ObjectiveClose { .. } => false,
    }
}

/// The length to which texts must be cut so that `excess` bytes go.
fn ceiling(mut lengths: Vec<usize>, excess: usize) -> usize {
    lengths.sort_unstable_by(|a, b| b.cmp(a));
    let mut sum = 0;
    for (i, length) in lengths.iter().enumerate() {
        sum += length;
        let next = lengths.get(i + 1).copied().unwrap_or(0);
        // Cutting the `i + 1` longest to `next` bytes frees this much.
        if sum - next * (i + 1) >= excess {
            return (sum - excess) / (i + 1);
        }
    }
    0
}

/// Bytes that JSON needs for a byte of a string.
fn json_length(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

/// Cut a text to at most `length` bytes as `measure` counts them, at a character's border.
fn cut(text: &mut String, length: usize, measure: fn(u8) -> usize) {
    let mut sum = 0;
    let too_long = text.bytes().position(|b| {
        sum += measure(b);
        sum > length
    });
    if let Some(end) = too_long {
        let border = (0..=end).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(border.unwrap_or(0));
    }
}

/// What each text takes up in JSON.
struct Lengths(Vec<usize>);

impl Visitor for Lengths {
    fn text(&mut self, text: &mut String) {
        self.0.push(text.bytes().map(json_length).sum());
    }

    fn value(&mut self, value: &mut Value) {
        visit_value(value, &mut |text| self.text(text));
    }
}

/// Cuts each text to what may take up so many bytes in JSON.
struct Ceiling(usize);

impl Visitor for Ceiling {
    fn text(&mut self, text: &mut String) {
        cut(text, self.0, json_length);
    }

    fn value(&mut self, value: &mut Value) {
        visit_value(value, &mut |text| self.text(text));
    }
}

/// Turns raw values that are too deep, or whose JSON has more than `bytes`, into that JSON as one text.
struct Flatten {
    bytes: usize,
}

impl Visitor for Flatten {
    fn text(&mut self, _: &mut String) {}

    fn value(&mut self, value: &mut Value) {
        if value.is_string() {
            return;
        }
        if deeper_than(value, DEPTH) || (self.bytes < usize::MAX && value.to_string().len() > self.bytes) {
            *value = Value::String(value.to_string());
        }
    }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|v| deeper_than(v, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|v| deeper_than(v, levels - 1)),
        _ => false,
    }
}
