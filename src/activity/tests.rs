//! Events survive the way to JSON and back, and whatever is wrong with one is named by its path.
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Event, Reader, Visitor, What};

fn fixtures() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/activity");
    let mut all: Vec<(String, Value)> = fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn fixture(name: &str) -> Value {
    fixtures().into_iter().find(|(n, _)| n == name).unwrap().1
}

#[test]
fn events_survive_the_way_to_json_and_back() {
    let all = fixtures();
    assert_eq!(all.len(), 7);
    for (name, value) in all {
        let event = Event::from_json(&value).unwrap();
        assert_eq!(event.to_json(), value, "{name}");
        assert_eq!(event.kind(), value["kind"], "{name}");
        assert_eq!(event.ts, value["ts"].as_u64().unwrap(), "{name}");
    }
}

/// JSON pointer and dotted path of every place in a value, containers before what they contain.
fn places(value: &Value, pointer: &str, path: &str, out: &mut Vec<(String, String)>) {
    out.push((pointer.to_string(), path.to_string()));
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let dot = if path.is_empty() { "" } else { "." };
                places(inner, &format!("{pointer}/{name}"), &format!("{path}{dot}{name}"), out);
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                places(inner, &format!("{pointer}/{i}"), &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

/// Whether any JSON may stand at a path of a fixture: what a client or a model wrote is kept as it was sent.
fn is_free(path: &str) -> bool {
    let raw = [".input", ".raw", ".inputSchema", ".cache_control", ".content[2].content"];
    let additive = ["entry.later", "entry.tunnel", "entry.responseBodyBytes"];
    raw.iter().any(|name| path.contains(name)) || additive.iter().any(|name| path.starts_with(name))
}

#[test]
fn every_field_of_a_wrong_type_is_named() {
    let mut tried = 0;
    for (name, value) in fixtures() {
        let mut all = Vec::new();
        places(&value, "", "", &mut all);
        if name.starts_with("opaque") {
            // Additive there, and kept as they are.
            all.retain(|(_, path)| !path.starts_with("entry.client") && !path.starts_with("entry.session"));
        }
        for (pointer, path) in all {
            let found = value.pointer(&pointer).unwrap();
            // An object in place of a simple value, a text in place of an array: right nowhere.
            let wrong = match found {
                Value::Object(_) => continue,
                Value::Array(_) => json!("wrong"),
                _ => json!({}),
            };
            if is_free(&path) {
                continue;
            }
            let mut broken = value.clone();
            *broken.pointer_mut(&pointer).unwrap() = wrong;
            let error = Event::from_json(&broken).expect_err(&format!("{name}: {path}"));
            let expected = match found {
                Value::Array(_) => "is not an array",
                Value::Bool(_) => "is not true or false",
                _ if path.ends_with("temperature") => "is not a number",
                Value::Number(_) => "is not a whole number",
                Value::String(_) => "is not a string",
                // A null may stand for any of these.
                _ => error.message.as_str(),
            };
            // A response that is null in the fixture may be an object: then its first member is missed.
            let at = if path == "entry.response" { "entry.response.messages" } else { path.as_str() };
            assert_eq!((error.path.as_str(), error.message.as_str()), (at, expected), "{name}");
            tried += 1;
        }
    }
    assert!(tried > 70, "only {tried} places");
}

#[test]
fn every_field_that_must_be_there_is_missed() {
    let table: [(&str, &[&str]); 4] = [
        ("objective_close", &["ts", "kind", "objectiveId", "result"]),
        ("objective_open", &["objectiveId"]),
        (
            "llm_full",
            &[
                "ts",
                "kind",
                "duration",
                "entry.kind",
                "entry.startedAt",
                "entry.endedAt",
                "entry.request.messages",
                "entry.request.messages[0].role",
                "entry.request.messages[0].content",
                "entry.request.messages[0].content[0].type",
                "entry.request.messages[0].content[0].text",
                "entry.request.messages[0].content[1].id",
                "entry.request.messages[0].content[1].name",
                "entry.request.messages[0].content[2].toolUseId",
                "entry.request.messages[0].content[5].text",
                "entry.request.tools[0].name",
                "entry.response.messages",
                "entry.error.type",
                "entry.error.message",
            ],
        ),
        (
            "opaque",
            &[
                "duration",
                "entry.kind",
                "entry.startedAt",
                "entry.endedAt",
                "entry.host",
                "entry.method",
                "entry.url",
            ],
        ),
    ];
    for (name, paths) in table {
        let value = fixture(name);
        let mut all = Vec::new();
        places(&value, "", "", &mut all);
        for path in paths {
            let (pointer, _) = all.iter().find(|(_, p)| p == path).unwrap();
            let (parent, member) = pointer.rsplit_once('/').unwrap();
            let mut broken = value.clone();
            broken.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(member);
            let error = Event::from_json(&broken).expect_err(path);
            assert_eq!(error.to_string(), format!("{path} is missing"), "{name}");
        }
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for (name, pointer, value, want) in [
        ("objective_open", "/kind", json!("objective_lost"), "kind is not a known kind"),
        ("objective_open", "/ts", json!(-1), "ts is not a whole number"),
        ("objective_open", "/ts", json!(1.5), "ts is not a whole number"),
        (
            "objective_close",
            "/result",
            json!("lost"),
            "result is not one of done, cancelled, reassigned, runner_shutdown",
        ),
        ("llm_full", "/entry/kind", json!("cohere"), "entry.kind is not a known kind of model call"),
        ("llm_full", "/entry/response/status", json!(70_000), "entry.response.status is not an HTTP status"),
        (
            "llm_full",
            "/entry/request/messages/0/content/0/type",
            json!("video"),
            "entry.request.messages[0].content[0].type is not a known block",
        ),
        ("opaque", "/entry/kind", json!("transparent"), "entry.kind is not opaque_http"),
        ("opaque", "/entry/status", json!(70_000), "entry.status is not an HTTP status"),
        ("opaque", "/entry/requestHeaders", json!([]), "entry.requestHeaders is not an object"),
        ("opaque", "/entry/requestHeaders/accept", json!(1), "entry.requestHeaders.accept is not a string"),
    ] {
        let mut broken = fixture(name);
        *broken.pointer_mut(pointer).unwrap() = value;
        let error = Event::from_json(&broken).expect_err(want);
        assert_eq!(error.to_string(), want);
    }
    let error = Event::from_json(&json!([])).unwrap_err();
    assert_eq!(error.to_string(), "ts is missing");
    let list = json!({"events": [{}, {"ts": "x"}]});
    let items = Reader::new(&list).field("events").items().unwrap();
    assert_eq!(Event::read(&items[1]).unwrap_err().path, "events[1].ts");
    assert_eq!(Reader::new(&json!(1)).str().unwrap_err().to_string(), "the document is not a string");
}

#[test]
fn unknown_fields_of_later_versions_are_ignored() {
    let mut value = fixture("llm_seed");
    value["later"] = json!(1);
    value["entry"]["later"] = json!({});
    value["entry"]["request"]["later"] = json!([]);
    assert_eq!(Event::from_json(&value).unwrap().to_json(), fixture("llm_seed"));
    let mut value = fixture("opaque");
    value["entry"]["muchLater"] = json!([1]);
    assert_eq!(Event::from_json(&value).unwrap().to_json(), value, "an opaque entry keeps them");
}

#[test]
fn repeated_headers_are_joined() {
    let event = Event::from_json(&fixture("opaque")).unwrap();
    let What::Opaque { mut entry, duration } = event.what else { panic!("it is opaque") };
    entry.request_headers =
        [("Accept", "a"), ("X", "1"), ("accept", "b")].map(|(n, v)| (n.into(), v.into())).to_vec();
    let event = Event { ts: 1, what: What::Opaque { duration, entry } };
    assert_eq!(event.to_json()["entry"]["requestHeaders"], json!({"accept": "a, b", "x": "1"}));
}

/// Puts a mark at the end of every text.
struct Mark(usize);

impl Visitor for Mark {
    fn text(&mut self, text: &mut String) {
        text.push('!');
        self.0 += 1;
    }

    fn value(&mut self, value: &mut Value) {
        super::visit_value(value, &mut |text| self.text(text));
    }
}

#[test]
fn a_walk_sees_every_text_and_keeps_the_parts_of_the_system_prompt() {
    for (name, value) in fixtures() {
        let mut event = Event::from_json(&value).unwrap();
        let mut mark = Mark(0);
        event.visit(&mut mark);
        let marked = event.to_json();
        let mut all = Vec::new();
        places(&marked, "", "", &mut all);
        let texts = all.iter().filter_map(|(pointer, path)| Some((path, marked.pointer(pointer)?.as_str()?)));
        let mut seen = 0;
        for (path, text) in texts {
            // Words of the wire itself, not of a peer.
            let is_own = path.ends_with("kind") || path.ends_with("Sha256");
            let is_block_type = path.ends_with("].type") && !is_free(path);
            assert_eq!(text.ends_with('!'), !is_own && !is_block_type, "{name}: {path} {text}");
            seen += usize::from(text.ends_with('!'));
        }
        // The two parts of one system prompt are two texts, and so are the names of headers.
        let more =
            if name == "llm_full" { 1 } else { all.iter().filter(|(_, p)| p.contains("Headers.")).count() };
        assert_eq!(mark.0, seen + more, "{name}: each once");
        if name == "llm_full" {
            assert_eq!(marked["entry"]["request"]["systemParts"], json!([3, 4]));
        }
    }
    let mut odd = fixture("llm_full");
    odd["entry"]["request"]["systemParts"] = json!([1, 5]);
    let mut event = Event::from_json(&odd).unwrap();
    event.visit(&mut Mark(0));
    let marked = event.to_json();
    assert_eq!(marked["entry"]["request"]["system"], "é\ntwo!");
    assert_eq!(marked["entry"]["request"].get("systemParts"), None, "lengths that do not fit are no lengths");
}
