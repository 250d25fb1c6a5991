//! Target: the store's parser, and what comes back from the store.
use super::harness::{fuzz, same};
use super::inputs::{events, spoil, twist};
use super::random::Random;
use ac7::activity::Event;
use ac7::store::activity::{Batch, Parser, Reader, Store, Upload};
use ac7::sys::random;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// Levels of nesting that an event may have.
const DEPTH: usize = 100;

fn deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|v| deeper(v, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|v| deeper(v, levels - 1)),
        _ => false,
    }
}

/// Whether an upload's text is to be accepted, by the plain way: all of it parsed, then read.
fn sound(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let events = value.get("events")?.as_array()?;
    let good = |event: &Value| Event::from_json(event).is_ok() && !deeper(event, DEPTH);
    events.iter().all(good).then_some(value)
}

/// An upload, perhaps with something wrong.
fn upload(events: &[Value], random: &mut Random) -> Vec<u8> {
    let mut list: Vec<Value> = Vec::new();
    for _ in 0..random.below(4) {
        let mut one = events[random.below(events.len())].clone();
        if random.one_in(2) {
            (0..=random.size(3)).for_each(|_| twist(&mut one, random));
        }
        list.push(one);
    }
    if random.one_in(3) && list.len() > 1 {
        // As a conversation repeats it.
        list.push(list[0].clone());
    }
    let whole = serde_json::json!({"events": list});
    let mut text =
        if random.one_in(2) { whole.to_string() } else { serde_json::to_string_pretty(&whole).unwrap() };
    if random.one_in(4) {
        text = text.replace('é', "\\u00e9").replace("\"text\"", "\"te\\u0078t\"");
    }
    let mut bytes = text.into_bytes();
    if random.one_in(3) {
        let other = events[random.below(events.len())].to_string();
        spoil(&mut bytes, other.as_bytes(), random);
    }
    bytes
}

#[test]
fn parser() {
    let events = events();
    let shared = Parser::new();
    let mut database = Database::new();
    fuzz("parser", 500, |random| {
        let bytes = upload(&events, random);
        let text = String::from_utf8(bytes.clone()).ok();
        let wanted = text.as_deref().and_then(sound);
        match shared.upload(bytes.clone()) {
            Ok(batch) => {
                let value = wanted.expect("only what is sound is accepted");
                let list = value["events"].as_array().unwrap();
                let briefs: Vec<_> = batch.events().collect();
                assert_eq!(
                    (batch.len(), briefs.len(), batch.is_empty()),
                    (list.len(), list.len(), list.is_empty())
                );
                for (brief, event) in briefs.iter().zip(list) {
                    assert_eq!(brief.kind, event["kind"]);
                    assert_eq!(brief.json, brief.json.trim());
                    same(&serde_json::from_str(brief.json).unwrap(), event, "an event's own text");
                }
                database.add(batch);
            }
            Err(fault) => {
                assert!(!fault.to_string().is_empty());
                // Names that occur twice are refused where either value is wrong; written again they occur once.
                if let Some(value) = wanted {
                    let again = Parser::new().upload(value.to_string().into_bytes());
                    assert!(again.is_ok(), "{:?} {fault}: {value}", again.err());
                }
            }
        }
        if random.one_in(8) {
            let fresh = Parser::new().upload(bytes.clone()).map(|batch| batch.len());
            let again = shared.upload(bytes).map(|batch| batch.len());
            assert_eq!(again, fresh, "what was seen before makes no difference");
        }
    });
    database.check();
}

/// A real database, begun anew from time to time.
struct Database {
    folder: PathBuf,
    batches: Vec<Batch>,
    stored: usize,
}

/// So many uploads go into one transaction, and so many transactions into one file.
const TOGETHER: usize = 200;
const FILES: usize = 5;

impl Database {
    fn new() -> Database {
        let folder = std::env::temp_dir().join(format!("ac7-fuzz-{}", random::hex::<8>()));
        Database { folder, batches: Vec::new(), stored: 0 }
    }

    fn add(&mut self, batch: Batch) {
        self.batches.push(batch);
        if self.batches.len() == TOGETHER {
            self.check();
        }
    }

    /// Append what was gathered; it comes back to the byte.
    fn check(&mut self) {
        let path = self.folder.join("activity.db");
        let mut store = Store::open(&path).unwrap();
        let uploads: Vec<_> =
            self.batches.iter().map(|batch| Upload { member: "ann", batch, key: None }).collect();
        let appended = store.append(&uploads, 1000).unwrap();
        let reader = Reader::open(&path).unwrap();
        for (appended, batch) in appended.iter().zip(&self.batches) {
            assert_eq!(appended.ids.len(), batch.len());
            for (id, brief) in appended.ids.iter().zip(batch.events()) {
                let row = reader.get(*id).unwrap().unwrap();
                same(&row.event.as_str(), &brief.json, "stored, and sent");
            }
        }
        assert_eq!(reader.check(|_, _| {}).unwrap(), [""; 0]);
        self.batches.clear();
        self.stored += 1;
        if self.stored.is_multiple_of(FILES) {
            fs::remove_dir_all(&self.folder).unwrap();
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // There may be none.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
