//! Rows as a page of its own carries them: what many of them repeat stands there once.
//!
//! A call repeats its whole conversation. Each of its lists (system, tools, messages) is a chain whose steps several calls
//! share, so that a call which goes on with a conversation adds its new steps alone; its answer goes on from its messages,
//! as the next call does. What else a call has is short and stands as it is. Texts of steps, and of rows that are no calls,
//! go into one table. `fileSource` in `source.js` puts rows together again.
use std::collections::HashMap;
use std::mem;

use serde_json::{Value, json};

use super::inert;

/// Shorter texts stand where they are used.
const SHORT: usize = 32;
/// Begins the text that stands for one of the table, and every other text that begins so.
const MARK: char = '@';

/// Collects rows.
pub struct Packer {
    strings: Table<String>,
    /// Steps: the step before and the item. The first stands for the beginning of every chain.
    steps: Table<(usize, String)>,
    rows: Vec<String>,
}

/// Values, each once, in the order in which they came.
struct Table<T> {
    places: HashMap<T, usize>,
}

impl<T: Eq + std::hash::Hash> Table<T> {
    fn place(&mut self, value: T) -> usize {
        let next = self.places.len();
        *self.places.entry(value).or_insert(next)
    }

    fn into_list(self) -> Vec<T> {
        let mut all: Vec<(T, usize)> = self.places.into_iter().collect();
        all.sort_by_key(|(_, place)| *place);
        all.into_iter().map(|(value, _)| value).collect()
    }
}

impl Default for Packer {
    fn default() -> Packer {
        let steps = Table { places: HashMap::from([((0, "null".to_string()), 0)]) };
        Packer { strings: Table { places: HashMap::new() }, steps, rows: Vec::new() }
    }
}

impl Packer {
    /// Add a row. `event` is whole; its `brief` says which messages are new in it.
    pub fn add(&mut self, id: i64, member: &str, created_at: u64, mut event: Value) {
        match event.get_mut("entry").filter(|entry| entry["request"].is_object()) {
            Some(entry) => self.lists(entry),
            None => event = self.text_of(&event),
        }
        let row = json!({"id": id, "memberName": member, "createdAt": created_at, "event": event});
        self.rows.push(row.to_string());
    }

    /// Put the last steps of their chains in the places of a call's lists.
    fn lists(&mut self, entry: &mut Value) {
        let parts = entry["request"]["systemParts"].as_array().cloned().unwrap_or_default();
        let mut last = 0;
        for place in ["/request/system", "/request/tools", "/request/messages", "/response/messages"] {
            let before = mem::take(&mut last);
            let Some(list) = entry.pointer_mut(place) else { continue };
            last = match list.take() {
                Value::Array(items) if place == "/response/messages" => self.chain(before, &items),
                Value::Array(items) => self.chain(0, &items),
                Value::String(text) => self.chain(0, &system(&text, &parts)),
                _ => continue,
            };
            *list = json!(last);
        }
    }

    /// Steps that go on from one; the last of them.
    fn chain(&mut self, mut at: usize, items: &[Value]) -> usize {
        for item in items {
            let item = self.text_of(item).to_string();
            at = self.steps.place((at, item));
        }
        at
    }

    /// The value with its long texts in the table.
    fn text_of(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.len() >= SHORT => {
                Value::String(format!("{MARK}{}", self.strings.place(text.clone())))
            }
            Value::String(text) if text.starts_with(MARK) => Value::String(format!("{MARK}{text}")),
            Value::Array(items) => items.iter().map(|item| self.text_of(item)).collect(),
            Value::Object(fields) => {
                Value::Object(fields.iter().map(|(name, item)| (name.clone(), self.text_of(item))).collect())
            }
            other => other.clone(),
        }
    }

    /// Everything as JSON that a page can hold; `from` says where it came from.
    #[must_use]
    pub fn into_json(self, from: &str, made: u64) -> String {
        let (parents, items): (Vec<usize>, Vec<String>) = self.steps.into_list().into_iter().unzip();
        let strings = json!(self.strings.into_list());
        let (items, rows, from) = (items.join(","), self.rows.join(","), json!(from));
        let parents = json!(parents);
        inert(&format!(
            r#"{{"v":1,"from":{from},"made":{made},"strings":{strings},"parents":{parents},"items":[{items}],"rows":[{rows}]}}"#
        ))
    }
}

/// The parts in which a system prompt was sent; all of it where their lengths do not fit.
fn system(text: &str, lengths: &[Value]) -> Vec<Value> {
    let (mut parts, mut rest) = (Vec::new(), text);
    for (i, length) in lengths.iter().enumerate() {
        let length = length.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        let from = if i == 0 { Some(rest) } else { rest.strip_prefix('\n') };
        match from.and_then(|from| from.split_at_checked(length)) {
            Some((part, after)) => {
                parts.push(Value::from(part));
                rest = after;
            }
            None => return vec![Value::from(text)],
        }
    }
    if rest.is_empty() && !parts.is_empty() { mem::take(&mut parts) } else { vec![Value::from(text)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(messages: &[Value], bill: usize) -> Value {
        let guide = "You are an agent. ".repeat(400);
        let first = format!("bill {bill}");
        json!({"kind": "llm_exchange", "ts": 1, "duration": 1, "brief": {"earlier": 0, "messages": messages.len()}, "entry": {
            "kind": "anthropic_messages", "startedAt": 0, "endedAt": 1,
            "request": {"model": "m", "system": format!("{first}\n{guide}"), "systemParts": [first.len(), guide.len()],
                "tools": [{"name": "Bash", "description": "Runs. ".repeat(500), "inputSchema": {}}], "messages": messages},
            "response": {"messages": [{"role": "assistant", "content": [{"type": "text", "text": "@x </script>"}]}]}}})
    }

    #[test]
    fn a_conversation_is_carried_once() {
        let (mut packer, mut messages, mut logical) = (Packer::default(), Vec::new(), 0);
        for i in 0..200 {
            let text = format!("step {i}: {}", "what was found ".repeat(20));
            messages.push(json!({"role": "user", "content": [{"type": "text", "text": text}]}));
            let event = call(&messages, i);
            logical += event.to_string().len();
            packer.add(1, "ann", 2, event);
        }
        let json = packer.into_json("x", 3);
        assert!(json.len() * 20 < logical, "{} of {logical}", json.len());
        assert!(!json.contains('<'));
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["rows"].as_array().unwrap().len(), 200);
        // 200 messages and answers, a tool, two parts of each system prompt, and the beginning.
        assert_eq!(value["items"].as_array().unwrap().len(), 200 + 200 + 1 + 400 + 1);
        let entry = &value["rows"][0]["event"]["entry"];
        let answer = usize::try_from(entry["response"]["messages"].as_u64().unwrap()).unwrap();
        assert_eq!(value["items"][answer]["content"][0]["text"], "@@x </script>");
        assert_eq!(value["parents"][answer], entry["request"]["messages"], "it goes on from what was asked");
        assert_eq!(value["parents"][0], 0);
    }

    #[test]
    fn a_system_prompt_is_split_where_it_was_joined() {
        for (text, lengths, want) in [
            ("a\nbc", json!([1, 2]), vec!["a", "bc"]),
            ("a\nbc", json!([1, 3]), vec!["a\nbc"]),
            ("a\nbc", json!([4]), vec!["a\nbc"]),
            ("a\nbc", json!([]), vec!["a\nbc"]),
            ("\u{e4}x", json!([1, 2]), vec!["\u{e4}x"]),
            ("", json!([0]), vec![""]),
        ] {
            assert_eq!(system(text, lengths.as_array().unwrap()), want, "{text}");
        }
    }
}
