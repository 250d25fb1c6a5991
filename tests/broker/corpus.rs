//! Walks out of `fixtures/wire`: its README says what a line means.
use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::rig::Rig;

/// Play the walk of this name.
pub fn play(name: &str) {
    let rig = Rig::new();
    let cat = rig.add("cat", &["objectives.create"]);
    let tokens = [("", ""), ("ann", &rig.ann), ("bob", &rig.bob), ("cat", &cat)];
    let text = fs::read_to_string(format!("fixtures/wire/{name}.jsonl")).unwrap();
    let mut known = BTreeMap::new();
    let mut played = 0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let line = known.iter().fold(line.to_string(), |line, (name, id): (&String, &String)| {
            line.replace(&format!("{{{name}}}"), id)
        });
        let step: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        if let Some(ms) = step["wait"].as_i64() {
            pass(&rig, ms);
            continue;
        }
        let (method, path) = step["do"].as_str().unwrap().split_once(' ').unwrap();
        let who = step["who"].as_str().unwrap_or_default();
        let token = tokens.iter().find(|(name, _)| *name == who).map_or(who, |(_, token)| token);
        let body = step.get("send").map(Value::to_string).unwrap_or_default();
        let reply = rig.call(method, path, token, &body);
        assert_eq!(reply.status, step["status"], "{line}: {}", reply.error());
        let got = reply.json();
        assert!(fits(&step["get"], &got, &mut known), "want {line}\n got {got}");
        played += 1;
    }
    assert!(played > 0);
}

/// Let time pass for devices that wait.
fn pass(rig: &Rig, ms: i64) {
    let main = rusqlite::Connection::open(rig.folder.join("ac7.db")).unwrap();
    let sql = "UPDATE enrolment SET created = created - ?1, expires = expires - ?1, polled = polled - ?1";
    main.execute(sql, [ms]).unwrap();
}

/// Whether an answer is the one that is wanted; notes the ids that have a name.
fn fits(want: &Value, got: &Value, known: &mut BTreeMap<String, String>) -> bool {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len()
                && want.iter().all(|(k, v)| got.get(k).is_some_and(|got| fits(v, got, known)))
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len() && want.iter().zip(got).all(|(want, got)| fits(want, got, known))
        }
        (Value::String(text), got) => match (text.as_str(), got) {
            ("<ms>", got) => got.as_u64().is_some_and(|ms| ms > 1_600_000_000_000),
            ("<id>" | "<text>", Value::String(got)) => !got.is_empty(),
            ("<sentence>", Value::String(got)) => got.contains(' '),
            (text, Value::String(got)) => {
                match text.strip_prefix("<id as ").and_then(|rest| rest.strip_suffix('>')) {
                    Some(name) => known.insert(name.to_string(), got.clone()).is_none(),
                    None => text == got,
                }
            }
            _ => false,
        },
        (want, got) => want == got,
    }
}
