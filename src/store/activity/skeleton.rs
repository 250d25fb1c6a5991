//! An event's text without its lists, and how the two become one again.
//!
//! Where a list stood the skeleton has one control character (U+0001 to U+0004, by [`List`]), which JSON text cannot
//! contain. A list's blocks each follow a *lead*: the text between the block before and this one, from the list's
//! first byte on (`[{"role":"user","content":[`, `,`, `]},{"role":"assistant","content":[`). What follows the last
//! block is in the skeleton. So every byte comes back, whatever a later version or another client puts in between.
//!
//! At the end of the skeleton stand the controls that were taken out of blocks, each as U+0005, list number,
//! position of the block in the list, position in the block, and the text that goes there.
use std::fmt::{self, Write};

use serde_core::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::walk::{List, Listed, Seen, Span};

/// Precedes a control.
const CONTROL: char = '\u{5}';

/// The member that clients move from block to block between calls.
const MOVING: &str = "cache_control";

fn hole(list: List) -> char {
    char::from(list as u8 + 1)
}

/// A control that was taken out of a block: which one, and the text with the comma that came out with it.
pub(super) struct Control {
    pub list: List,
    pub ordinal: usize,
    pub span: Span,
}

/// The lists with blocks, as they follow each other in the text.
fn split_off(seen: &Seen) -> Vec<(List, &Listed, usize)> {
    let mut lists: Vec<_> = List::ALL
        .into_iter()
        .filter_map(|list| {
            let listed = seen.lists[list as usize].as_ref()?;
            Some((list, listed, listed.blocks.last()?.span.end as usize))
        })
        .collect();
    lists.sort_by_key(|(_, listed, _)| listed.span.start);
    lists
}

/// The event's text with empty lists: what is left to be checked when the blocks have been.
pub(super) fn emptied(text: &str, seen: &Seen) -> String {
    let mut out = String::new();
    let mut at = seen.span.start as usize;
    for (list, listed, _) in split_off(seen) {
        out.push_str(&text[at..listed.span.start as usize]);
        out.push_str(if list == List::System { "\"\"" } else { "[]" });
        at = listed.span.end as usize;
    }
    out.push_str(&text[at..seen.span.end as usize]);
    out
}

/// The skeleton; `controls` are positions in `text`, `blocks` begin where [`Seen`] says.
pub(super) fn take(text: &str, seen: &Seen, controls: &[Control]) -> String {
    let mut out = String::new();
    let mut at = seen.span.start as usize;
    for (list, listed, end) in split_off(seen) {
        out.push_str(&text[at..listed.span.start as usize]);
        out.push(hole(list));
        at = end;
    }
    out.push_str(&text[at..seen.span.end as usize]);
    for control in controls {
        let block = seen.lists[control.list as usize].as_ref().map(|l| l.blocks[control.ordinal].span);
        let offset = control.span.start - block.unwrap_or_default().start;
        let (list, ordinal) = (control.list as u8, control.ordinal);
        let _ = write!(out, "{CONTROL}{list} {ordinal} {offset} {}", control.span.of(text));
    }
    out
}

/// Put an event together: `piece(list, write)` calls `write(lead, block)` for each block of a list in order.
///
/// `None` if the skeleton's controls do not fit its blocks, which only damage can cause.
pub(super) fn fill<E>(
    skeleton: &str,
    size: usize,
    mut pieces: impl FnMut(List, &mut dyn FnMut(&str, &str)) -> Result<(), E>,
) -> Result<Option<String>, E> {
    let mut parts = skeleton.split(CONTROL);
    let body = parts.next().unwrap_or_default();
    let Some(controls) = parts.map(read_control).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let mut out = String::with_capacity(size);
    let mut rest = body;
    let mut fits = true;
    while let Some(at) = rest.find(|c| matches!(c, '\u{1}'..='\u{4}')) {
        out.push_str(&rest[..at]);
        let list = List::ALL[usize::from(rest.as_bytes()[at] - 1)];
        rest = &rest[at + 1..];
        let mut mine = controls.iter().filter(|c| c.0 == list as usize).peekable();
        let mut ordinal = 0;
        pieces(list, &mut |lead, block| {
            out.push_str(lead);
            match mine.next_if(|c| c.1 == ordinal) {
                Some((_, _, offset, text)) if block.is_char_boundary(*offset) => {
                    out.push_str(&block[..*offset]);
                    out.push_str(text);
                    out.push_str(&block[*offset..]);
                }
                Some(_) => fits = false,
                None => out.push_str(block),
            }
            ordinal += 1;
        })?;
        fits &= mine.next().is_none();
    }
    out.push_str(rest);
    Ok(fits.then_some(out))
}

/// The same for an event that is to be looked over only: without the controls, which would not fit blocks that are left out.
pub(super) fn outline<E>(
    skeleton: &str,
    pieces: impl FnMut(List, &mut dyn FnMut(&str, &str)) -> Result<(), E>,
) -> Result<Option<String>, E> {
    fill(skeleton.split(CONTROL).next().unwrap_or_default(), skeleton.len(), pieces)
}

fn read_control(text: &str) -> Option<(usize, usize, usize, &str)> {
    let mut fields = text.splitn(4, ' ');
    let mut number = || fields.next()?.parse().ok();
    let (list, ordinal, offset) = (number()?, number()?, number()?);
    Some((list, ordinal, offset, fields.next()?))
}

/// The `cache_control` member of a block, with the comma that goes with it; the block is at `start` in the text.
pub(super) fn control(block: &str, start: usize) -> Option<Span> {
    if !block.contains("\"cache_control\"") {
        return None;
    }
    let mut json = serde_json::Deserializer::from_str(block);
    let (from, to) = json.deserialize_map(Moving(block)).ok()??;
    Some(Span::new(start + from, start + to))
}

/// Finds the moving member of the object that is this text.
struct Moving<'t>(&'t str);

impl<'de> Visitor<'de> for Moving<'de> {
    type Value = Option<(usize, usize)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let offset = |borrowed: &str| borrowed.as_ptr() as usize - self.0.as_ptr() as usize;
        // Where the value before ended, and where the first member is if it was the one and takes the comma after it.
        let (mut before, mut first, mut found) = (None, None, None);
        while let Some(key) = map.next_key_seed(Key)? {
            if let (Some(from), Some(next)) = (first.take(), key) {
                found = Some((from, offset(next) - 1));
            }
            let raw = map.next_value::<&RawValue>()?.get();
            let end = offset(raw) + raw.len();
            if key == Some(MOVING) && found.is_none() {
                match before {
                    Some(from) => found = Some((from, end)),
                    None => first = key.map(|key| offset(key) - 1),
                }
            }
            before = Some(end);
        }
        Ok(found)
    }
}

/// A member's name, where it stands in the text as it is; `None` for one with escapes, which is none of ours.
struct Key;

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

#[cfg(test)]
mod tests {
    use super::control;

    #[test]
    fn finds_the_moving_member_with_its_comma() {
        for (block, left) in [
            (
                r#"{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}"#,
                r#"{"type":"text","text":"a"}"#,
            ),
            (r#"{"type": "text" , "cache_control" : null , "text": 1}"#, r#"{"type": "text" , "text": 1}"#),
            (r#"{ "cache_control": [1, {"a":2}], "text": 1}"#, r#"{ "text": 1}"#),
            (r#"{"a":1,"cache_control":2,"cache_control":3}"#, r#"{"a":1,"cache_control":3}"#),
        ] {
            let span = control(block, 100).unwrap();
            let (from, to) = (span.start as usize - 100, span.end as usize - 100);
            assert_eq!(format!("{}{}", &block[..from], &block[to..]), left);
        }
        for block in [
            r#"{"cache_control":1}"#,
            r#"{"text":"\"cache_control\""}"#,
            r#"{"text":"cache_control"}"#,
            r#"{"input":{"cache_control":1}}"#,
            r#"["cache_control"]"#,
        ] {
            assert!(control(block, 0).is_none(), "{block}");
        }
    }
}
