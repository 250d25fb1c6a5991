//! Finding a text in events without putting them together: a block that many rows share is searched once.
use std::collections::HashMap;

use super::read::{Pieces, Stored};
use crate::store::error::Fault;

/// Answers that are remembered.
const REMEMBERED: usize = 1_000_000;

/// A search for one text, without regard to ASCII case.
pub(super) struct Search {
    /// The text as JSON has it, with other letters than ASCII as they are and escaped.
    forms: Vec<String>,
    /// Whether the text occurs in a chain up to a node.
    nodes: HashMap<i64, bool>,
    /// Whether it occurs in a block.
    blocks: HashMap<i64, bool>,
    /// Bytes looked through so far.
    pub searched: usize,
}

impl Search {
    pub(super) fn new(text: &str) -> Search {
        let quoted = serde_json::Value::from(text).to_string().to_ascii_lowercase();
        let plain = quoted[1..quoted.len() - 1].to_string();
        let mut escaped = String::new();
        for c in plain.chars() {
            if c.is_ascii() {
                escaped.push(c);
            } else {
                let mut units = [0; 2];
                escaped.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
        let mut forms = vec![plain, escaped];
        forms.dedup();
        Search { forms, nodes: HashMap::new(), blocks: HashMap::new(), searched: 0 }
    }

    fn occurs(&mut self, text: &str) -> bool {
        self.searched += text.len();
        let text = text.to_ascii_lowercase();
        self.forms.iter().any(|form| text.contains(form.as_str()))
    }

    /// Whether the text occurs in a row's event.
    pub(super) fn matches(&mut self, stored: &Stored, pieces: &mut Pieces<'_>) -> Result<bool, Fault> {
        if self.occurs(&Pieces::skeleton(stored)?) {
            return Ok(true);
        }
        for head in stored.heads {
            if head != 0 && self.chain(head, pieces)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn chain(&mut self, head: i64, pieces: &mut Pieces<'_>) -> Result<bool, Fault> {
        if self.nodes.len() + self.blocks.len() > REMEMBERED {
            self.nodes.clear();
            self.blocks.clear();
        }
        // Back to the start or to a node whose answer is known, then forth again.
        let mut found = false;
        let mut unknown = Vec::new();
        let mut at = head;
        while at != 0 {
            if let Some(known) = self.nodes.get(&at) {
                found = *known;
                break;
            }
            let node = pieces.node(at)?;
            unknown.push(node);
            at = node.parent.min(at - 1);
        }
        for node in unknown.into_iter().rev() {
            found = found || self.block(node.block, pieces)? || self.block(node.lead, pieces)?;
            self.nodes.insert(node.id, found);
        }
        Ok(found)
    }

    fn block(&mut self, id: i64, pieces: &mut Pieces<'_>) -> Result<bool, Fault> {
        if let Some(known) = self.blocks.get(&id) {
            return Ok(*known);
        }
        let text = pieces.block(id)?;
        let found = self.occurs(&text);
        self.blocks.insert(id, found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::Search;

    #[test]
    fn finds_text_in_either_spelling() {
        for (text, json, found) in [
            ("hello", r#"{"a":"Say HELLO"}"#, true),
            ("say \"x\"\n", r#"{"a":"say \"X\"\n"}"#, true),
            ("ä€𝄞", r#"{"a":"ä€𝄞"}"#, true),
            ("ä€𝄞", r#"{"a":"\u00E4\u20ac\ud834\udd1e"}"#, true),
            ("hello", r#"{"a":"hell o"}"#, false),
        ] {
            assert_eq!(Search::new(text).occurs(json), found, "{text} in {json}");
        }
    }
}
