//! The activity database from outside: real SQLite files, read back and looked into with plain SQL.
#![cfg(test)]
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use ac7::activity::{Event, KINDS};
use ac7::sink::{Encoded, LocalSink, Place, Report, Sink};
use ac7::store::Error;
use ac7::store::activity::{Appended, Parser, Pruned, Query, Reader, Row, Store, Upload, count_older};
use ac7::sys::random;
use rusqlite::Connection;
use serde_json::{Value, json};

/// A directory that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("ac7-store-{}", random::hex::<8>()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn db(&self) -> PathBuf {
        self.0.join("activity.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Pseudo-random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// A session as the real agent repeats it: a first system block that changes, a control that moves.
struct Session {
    id: String,
    calls: u64,
    messages: Vec<Value>,
}

impl Session {
    fn new(id: &str) -> Session {
        Session { id: id.into(), calls: 0, messages: Vec::new() }
    }

    /// The next call: two messages more than the last one, the second of several blocks.
    fn call(&mut self, ts: u64) -> String {
        let n = self.calls;
        self.calls += 1;
        if n > 0 {
            self.messages.push(json!({"role": "assistant", "content": Session::answer(&self.id, n - 1)}));
        }
        let mut asked =
            vec![json!({"type": "text", "text": format!("{} asks \"{n}\" \u{1f600}\n", self.id)})];
        if n > 0 {
            let result = json!({"type": "tool_result", "toolUseId": format!("t{}", n - 1), "content": "x".repeat(300), "isError": false});
            asked.insert(0, result);
        }
        self.messages.push(json!({"role": "user", "content": asked}));
        let mut sent = self.messages.clone();
        let blocks = sent.last_mut().unwrap()["content"].as_array_mut().unwrap();
        blocks.last_mut().unwrap()["cache_control"] = json!({"type": "ephemeral"});
        let system = [format!("billing {n}"), "You are a \"tool\"\tuser.\n".repeat(20), "Ende, schön".into()];
        json!({"kind": "llm_exchange", "ts": ts, "duration": 5, "entry": {
            "kind": "anthropic_messages", "startedAt": ts.saturating_sub(5), "endedAt": ts,
            "request": {"model": "claude-x", "maxTokens": 9, "temperature": 1.0, "system": system.join("\n"),
                "systemParts": system.iter().map(String::len).collect::<Vec<_>>(), "messages": sent,
                "tools": [{"name": "Bash", "description": "runs", "inputSchema": {"type": "object"}},
                    {"name": "Read", "description": null, "inputSchema": {}, "cache_control": {"type": "ephemeral"}}]},
            "response": {"stopReason": "tool_use", "stopSequence": null, "status": 200,
                "messages": [{"role": "assistant", "content": Session::answer(&self.id, n)}],
                "usage": {"inputTokens": 7, "outputTokens": 2, "cacheCreationInputTokens": 0, "cacheReadInputTokens": 5}},
            "session": {"id": self.id}}})
        .to_string()
    }

    fn answer(id: &str, n: u64) -> Value {
        json!([{"type": "thinking", "text": format!("{id} thinks {n}")},
            {"type": "tool_use", "id": format!("t{n}"), "name": "Bash", "input": {"command": format!("echo {n}")}}])
    }
}

fn opaque(ts: u64, url: &str, status: u64) -> String {
    json!({"kind": "opaque_http", "ts": ts, "duration": 1, "entry": {"kind": "opaque_http", "startedAt": ts, "endedAt": ts,
        "host": "example.org", "method": "GET", "url": url, "status": status, "requestHeaders": {"a": "b"},
        "responseHeaders": {}, "requestBodyPreview": null, "responseBodyPreview": "hello"}})
    .to_string()
}

fn append_as(store: &mut Store, parser: &Parser, member: &str, events: &[String]) -> Appended {
    let batch = parser.events(events.iter().map(String::as_str)).unwrap();
    store.append(&[Upload { member, batch: &batch, key: None }], 1000).unwrap().remove(0)
}

fn append(path: &Path, events: &[String]) -> Appended {
    append_as(&mut Store::open(path).unwrap(), &Parser::new(), "ann", events)
}

fn list(reader: &Reader, query: &Query) -> Vec<Row> {
    let mut rows = Vec::new();
    reader
        .list(query, |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

fn all() -> Query {
    Query { limit: usize::MAX, ..Query::default() }
}

fn count(path: &Path, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    Connection::open(path).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn sound(path: &Path) {
    assert_eq!(Reader::open(path).unwrap().check(|_, _| {}).unwrap(), [""; 0]);
}

#[test]
fn every_event_comes_back_byte_for_byte() {
    let folder = Folder::new();
    let mut session = Session::new("s1");
    let mut events: Vec<String> = (1..20).map(|i| session.call(i * 10)).collect();
    // The same in the spelling of another serializer, and with what no serializer of ours makes.
    events.extend(events.clone().iter().map(|e| {
        let spaced = e.replace("\",\"", "\", \"").replace("\":", "\" : ").replace("},{", "} ,\n {");
        format!(" {}\t", spaced.replace("ö", "\\u00f6"))
    }));
    events.push(r#"{"kind":"objective_open","ts":1,"objectiveId":"o1","new":[1.50,1e3,-0]}"#.into());
    events.push(opaque(5, "/a", 200));
    events.push(
        r#"{"ts":1,"kind":"llm_exchange","duration":0,"entry":{"kind":"openai_chat","startedAt":0,"endedAt":0,
        "request":{"messages":[{"content":[],"role":"system"},{"content":[{"type":"text","text":"a"}],"role":"user","x":[{}]},
        {"role":"user","content":[]},{"role":"user","content":[{"type":"unknown"},{"cache_control":1,"type":"unknown"}]},
        {"role":"tool","content":[ ]}],"messages":[],"system":"","tools":[],"systemParts":[9]},"response":null}}"#
            .into(),
    );
    let ids = append(&folder.db(), &events).ids;
    let reader = Reader::open(&folder.db()).unwrap();
    for (id, event) in ids.iter().zip(&events) {
        let row = reader.get(*id).unwrap().unwrap();
        assert_eq!(row.event, event.trim(), "to the byte, but for what stands around it");
        assert_eq!((row.member.as_str(), row.created_at), ("ann", 1000));
        let value: Value = serde_json::from_str(event).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&row.event).unwrap(), value);
        assert_eq!(row.kind, value["kind"]);
        assert_eq!(
            row.provider.map(|p| p.kind()),
            value["entry"]["kind"].as_str().filter(|k| *k != KINDS[3])
        );
    }
    assert_eq!(reader.get(9999).unwrap(), None);
    sound(&folder.db());
}

#[test]
fn parts_can_go_where_they_are_needed() {
    fn sent<T: Send>() {}
    fn shared<T: Sync + Send>() {}
    sent::<Store>();
    sent::<Reader>();
    sent::<ac7::store::activity::Batch>();
    shared::<Parser>();
}

#[test]
fn a_conversation_is_stored_once() {
    let folder = Folder::new();
    let mut session = Session::new("s1");
    let events: Vec<String> = (1..=40).map(|i| session.call(i)).collect();
    // Over several uploads and processes, as it happens.
    for part in events.chunks(7) {
        append(&folder.db(), part);
    }
    // 2 shared system parts, 2 tools, and for each call a billing line, a question, a result (all but the first the
    // same id's), thoughts and a use of a tool; and the few texts between blocks.
    let leads = 9;
    let blocks = 2 + 2 + 40 + 40 + 39 + 40 + 40;
    assert!(
        (blocks..=blocks + leads).contains(&count(&folder.db(), "block")),
        "{}",
        count(&folder.db(), "block")
    );
    // Chains: a billing line a call over 2 nodes; 2 tools; messages: 1 + 39 × 4; answers: 2 a call.
    assert_eq!(count(&folder.db(), "node"), (2 + 40) + 2 + (1 + 39 * 4) + 80);
    assert_eq!(count(&folder.db(), "block_key"), count(&folder.db(), "block"));
    let bytes: usize = events.iter().map(String::len).sum();
    let stats = Reader::open(&folder.db()).unwrap().stats(|_, _| ()).unwrap();
    assert_eq!((stats.days.len(), stats.days[0].rows), (1, 40));
    assert_eq!(stats.days[0].logical, bytes as u64);
    assert!(stats.days[0].stored < bytes as u64 / 8, "{} of {bytes}", stats.days[0].stored);
    assert!(stats.file >= stats.days[0].stored);
    sound(&folder.db());
}

#[test]
fn says_what_is_new_in_a_call() {
    let folder = Folder::new();
    let (mut one, mut two) = (Session::new("s1"), Session::new("s2"));
    let mut events: Vec<String> = (1..=4).map(|i| one.call(i)).collect();
    events.push(two.call(5));
    let mut fork: Value = serde_json::from_str(&one.call(6)).unwrap();
    fork["entry"]["request"]["messages"][2]["content"][1]["text"] = "else".into();
    events.push(fork.to_string());
    events.push(one.call(7));
    let ids = append(&folder.db(), &events).ids;
    let reader = Reader::open(&folder.db()).unwrap();
    assert_eq!(reader.shared_messages(ids[0], ids[3]).unwrap(), Some(1));
    assert_eq!(reader.shared_messages(ids[3], ids[2]).unwrap(), Some(5));
    assert_eq!(reader.shared_messages(ids[3], ids[4]).unwrap(), Some(0));
    assert_eq!(
        reader.shared_messages(ids[3], ids[5]).unwrap(),
        Some(2),
        "a message that differs in part is not shared"
    );
    assert_eq!(reader.shared_messages(ids[3], 9999).unwrap(), None);
    let continues = |id| reader.continues(id).unwrap().map(|c| (c.id, c.messages));
    assert_eq!(continues(ids[0]), None);
    assert_eq!(continues(ids[3]), Some((ids[2], 5)));
    assert_eq!(continues(ids[4]), None, "another session");
    assert_eq!(continues(ids[6]), Some((ids[3], 7)), "not the fork in between");

    let (mut brief, mut followed) = (Vec::new(), Vec::new());
    let query = Query { limit: 100, ..Query::default() };
    let each = |row: Row| {
        brief.push((row.id, serde_json::from_str::<Value>(&row.event).unwrap()));
        ControlFlow::Continue(())
    };
    assert_eq!(reader.list_brief(&query, each).unwrap(), None);
    brief.reverse();
    reader
        .follow_brief(0, None, |row| {
            followed.push((row.id, serde_json::from_str(&row.event).unwrap()));
            ControlFlow::Continue(())
        })
        .unwrap();
    brief.sort_by_key(|(id, _)| *id);
    assert_eq!(followed, brief);
    for ((id, brief), event) in brief.iter().zip(&events) {
        let whole: Value = serde_json::from_str(event).unwrap();
        let (messages, about) = (&whole["entry"]["request"]["messages"], &brief["brief"]);
        let earlier = continues(*id).map_or(0, |(_, shared)| shared);
        let from = usize::try_from(earlier).unwrap();
        assert_eq!((&about["earlier"], &about["tools"]), (&json!(earlier), &json!(2)), "{id}");
        assert_eq!(about["continues"], json!(continues(*id).map(|(id, _)| id)), "{id}");
        assert_eq!(about["messages"], messages.as_array().unwrap().len(), "{id}");
        let new = brief["entry"]["request"]["messages"].as_array().unwrap();
        assert_eq!(new.len(), messages.as_array().unwrap().len() - from, "{id}");
        let text = |message: &Value| message["content"][0]["text"].clone();
        assert_eq!(new.first().map(text), messages.get(from).map(text), "{id}");
        assert_eq!(brief["entry"]["response"]["usage"], whole["entry"]["response"]["usage"]);
        assert!(brief.to_string().len() < 4000, "{brief}");
    }
}

#[test]
fn refuses_what_is_not_an_event_and_says_where() {
    let good: Value = serde_json::from_str(&Session::new("s").call(9)).unwrap();
    let mut deep = String::from("1");
    for _ in 0..97 {
        deep = format!("[{deep}]");
    }
    let request = "/entry/request";
    let cases: Vec<(&str, &str, Value, &str)> = vec![
        ("", "kind", json!("x"), "events[1].kind"),
        ("", "ts", json!(-1), "events[1].ts"),
        ("", "duration", json!(1.5), "events[1].duration"),
        ("", "entry", json!([]), "events[1].entry.kind"),
        ("/entry", "kind", json!("opaque_http"), "events[1].entry.kind"),
        (request, "model", json!(5), "events[1].entry.request.model"),
        (request, "messages", json!({}), "events[1].entry.request.messages"),
        (request, "messages", json!([5]), "events[1].entry.request.messages[0].role"),
        (request, "messages", json!([{"content": []}]), "events[1].entry.request.messages[0].role"),
        (
            request,
            "messages",
            json!([{"role": "a", "content": "b"}]),
            "events[1].entry.request.messages[0].content",
        ),
        (
            request,
            "messages",
            json!([{"role": "a", "content": [{"type": "unknown"}]}, 5]),
            "events[1].entry.request.messages[1]",
        ),
        (
            request,
            "messages",
            json!([{"content": [{"type": "unknown"}]}]),
            "events[1].entry.request.messages[0].role",
        ),
        (request, "tools", json!([{"name": "a"}, {}]), "events[1].entry.request.tools[1].name"),
        (request, "system", json!(["a"]), "events[1].entry.request.system"),
        (
            "/entry/response/messages/0/content/1",
            "id",
            json!(1),
            "events[1].entry.response.messages[0].content[1].id",
        ),
        (
            "/entry/request/messages/0/content/0",
            "type",
            json!("x"),
            "events[1].entry.request.messages[0].content[0].type",
        ),
        (
            "/entry/request/messages/0/content/0",
            "more",
            serde_json::from_str(&deep).unwrap(),
            "events[1].entry.request.messages[0].content[0]",
        ),
        (
            "/entry/request/messages/0",
            "more",
            serde_json::from_str(&deep).unwrap(),
            "events[1].entry.request.messages[0]",
        ),
        ("", "more", serde_json::from_str(&format!("[[[{deep}]]]")).unwrap(), "events[1]"),
    ];
    let parser = Parser::new();
    for (place, member, value, path) in cases {
        let mut bad = good.clone();
        bad.pointer_mut(place).unwrap()[member] = value;
        let body = json!({"events": [good, bad]}).to_string().into_bytes();
        // Twice: what a batch remembered before it was refused must not let it pass.
        for _ in 0..2 {
            let refused = parser.upload(body.clone()).map(|_| ()).unwrap_err();
            assert_eq!(refused.path, path, "{}", refused.message);
        }
        let ours = Event::from_json(&bad).is_err();
        assert!(ours || member == "more", "no stricter than the event types: {path}");
    }
    let nested = |levels: usize| format!("{{\"events\":{}", "[".repeat(levels)).into_bytes();
    for (body, path) in [
        (b"".to_vec(), ""),
        (b"[]".to_vec(), "events"),
        (b"{\"events\":{}}".to_vec(), "events"),
        (b"{\"events\":[1]}".to_vec(), "events[0].ts"),
        (b"{\"events\":[{}]}x".to_vec(), ""),
        (b"{\"events\":[\xff]}".to_vec(), ""),
        (br#"{"events":[{"kind":"objective_open","ts":1,"objectiveId":"\ud800"}]}"#.to_vec(), "events[0]"),
        (nested(2_000_000), ""),
        (format!("{{\"events\":[{}", "{\"entry\":".repeat(500_000)).into_bytes(), ""),
    ] {
        assert_eq!(parser.upload(body).map(|_| ()).unwrap_err().path, path);
    }
    assert_eq!(parser.upload(b"{\"events\":[]}".to_vec()).unwrap().len(), 0);
}

#[test]
fn a_lone_surrogate_is_found_wherever_it_hides() {
    let good = Session::new("s").call(9);
    let parser = Parser::new();
    assert!(parser.events([good.as_str()]).is_ok());
    for (from, to) in [
        ("\"role\":\"user\"", "\"role\":\"\\ud800\""),
        ("\"role\":\"user\"", "\"role\":\"user\",\"x\":\"\\ud800\""),
        ("\"role\":\"user\"", "\"role\":\"user\",\"\\u0078\":\"\\ud800\""),
        ("\"role\":\"user\"", "\"role\":\"user\",\"\\ud800\":1"),
        ("\"type\":\"ephemeral\"", "\"type\":\"\\ud800\""),
        ("billing", "\\ud800"),
        ("s asks", "\\ud800"),
        ("runs", "\\ud800"),
        ("claude-x", "\\ud800"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert!(parser.events([bad.as_str()]).is_err(), "{to} for {from}");
    }
}

/// A name may be written with escapes: whoever reads the event back takes it for what it means.
#[test]
fn names_with_escapes_are_names() {
    let good = Session::new("s").call(9);
    let parser = Parser::new();
    for (from, to, valid) in [
        ("\"role\":\"user\"", "\"\\u0072ole\":\"user\"", true),
        ("\"role\":\"user\"", "\"role\":\"user\",\"\\u0072ole\":5", false),
        ("\"role\":\"user\"", "\"role\":\"user\",\"r\\u006fle\":null", false),
        ("\"role\":\"user\"", "\"\\u0072ole\":5,\"role\":\"user\"", true),
        ("\"role\":\"user\",\"content\":", "\"role\":\"user\",\"\\u0063ontent\":", true),
        ("\"role\":\"user\",\"content\":[", "\"role\":\"user\",\"\\u0063ontent\":[5,", false),
        ("\"messages\":", "\"\\u006dessages\":", true),
        ("\"messages\":[", "\"\\u006dessages\":[5,", false),
    ] {
        let event = good.replacen(from, to, 1);
        assert_ne!(event, good, "{from}");
        let value: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(Event::from_json(&value).is_ok(), valid, "{to}");
        assert_eq!(parser.events([event.as_str()]).is_ok(), valid, "{to}");
    }
}

/// Changed bytes: the parser never panics, takes what the event types take and nothing else, and gives it back.
#[test]
fn agrees_with_the_event_types_on_damaged_uploads() {
    let folder = Folder::new();
    let parser = Parser::new();
    let mut session = Session::new("s");
    session.call(8);
    // What follows repeats what was before, in the upload and in the one before it.
    let good = [opaque(7, "/", 200), session.call(9), session.call(10)].join(" , ");
    let good = format!("{{\"events\": [{good}]}}").into_bytes();
    let mut dice = Dice(5);
    let (mut taken, mut refused) = (Vec::new(), 0);
    for _ in 0..4000 {
        let mut body = good.clone();
        for _ in 0..=dice.roll(2) {
            let at = dice.roll(body.len() as u64) as usize;
            match dice.roll(3) {
                0 => body[at] = b"{}[],:\"\\ 0aun\xc3"[dice.roll(14) as usize],
                1 => _ = body.remove(at),
                _ => body.insert(at, good[dice.roll(good.len() as u64) as usize]),
            }
        }
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        let events = value.as_ref().and_then(|v| v["events"].as_array());
        let valid = events.is_some_and(|events| events.iter().all(|e| Event::from_json(e).is_ok()));
        let batch = parser.upload(body.clone());
        assert_eq!(batch.is_ok(), valid, "{:?}: {}", batch.err(), String::from_utf8_lossy(&body));
        match (batch, events) {
            (Ok(batch), Some(events)) => taken.push((batch, events.clone())),
            _ => refused += 1,
        }
    }
    let uploads: Vec<_> = taken.iter().map(|(batch, _)| Upload { member: "ann", batch, key: None }).collect();
    let done = Store::open(&folder.db()).unwrap().append(&uploads, 1).unwrap();
    let reader = Reader::open(&folder.db()).unwrap();
    for (appended, (batch, events)) in done.iter().zip(&taken) {
        assert_eq!((appended.ids.len(), batch.len()), (events.len(), events.len()));
        for (id, (event, brief)) in appended.ids.iter().zip(events.iter().zip(batch.events())) {
            let row = reader.get(*id).unwrap().unwrap();
            assert_eq!(
                (row.event.as_str(), row.kind, row.provider),
                (brief.json, brief.kind, brief.provider)
            );
            assert_eq!(&serde_json::from_str::<Value>(&row.event).unwrap(), event);
        }
    }
    assert!(taken.len() > 300 && refused > 300, "{} taken, {refused} refused", taken.len());
    sound(&folder.db());
}

#[test]
fn the_same_key_stores_once_within_a_day() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let folder = Folder::new();
    let mut store = Store::open(&folder.db()).unwrap();
    let batch = Parser::new().events([opaque(1, "/", 200).as_str(), &opaque(2, "/", 200)]).unwrap();
    let mut upload = |member, key, now| {
        store.append(&[Upload { member, batch: &batch, key: Some(key) }], now).unwrap().remove(0)
    };
    assert_eq!(upload("ann", "k", 1000), Appended { accepted: 2, ids: vec![1, 2], replayed: false });
    assert_eq!(upload("ann", "k", 2000), Appended { accepted: 2, ids: vec![], replayed: true });
    assert_eq!(upload("bob", "k", 2000).ids, [3, 4], "another member's key");
    assert_eq!(upload("ann", "l", 2000).ids, [5, 6], "another key");
    assert!(upload("ann", "k", 999 + DAY).replayed);
    assert!(!upload("ann", "k", 1000 + DAY).replayed, "a day later");
    assert_eq!(upload("ann", "k", 3000 + 3 * DAY).ids, [9, 10]);
    drop(store);
    assert_eq!(count(&folder.db(), "upload"), 1, "old keys are gone");
    assert_eq!(count(&folder.db(), "activity"), 10);
}

#[test]
fn one_transaction_holds_many_uploads_or_none() {
    let folder = Folder::new();
    let parser = Parser::new();
    let mut store = Store::open(&folder.db()).unwrap();
    let mut session = Session::new("s");
    let batches: Vec<_> = (1..4).map(|i| parser.events([session.call(i).as_str()]).unwrap()).collect();
    let uploads: Vec<_> =
        batches.iter().map(|batch| Upload { member: "ann", batch, key: Some("same") }).collect();
    let done = store.append(&uploads, 5).unwrap();
    assert_eq!(done.iter().map(|d| d.replayed).collect::<Vec<_>>(), [false, true, true]);
    // A full disk: the transaction leaves nothing, and what was remembered of it does not lead astray later.
    let other = Connection::open(folder.db()).unwrap();
    other.execute_batch("CREATE TRIGGER full BEFORE INSERT ON activity WHEN NEW.ts = 77 BEGIN SELECT RAISE(ABORT, 'no'); END").unwrap();
    let before = (count(&folder.db(), "block"), count(&folder.db(), "node"));
    let fresh = parser.events([session.call(9).as_str(), &session.call(77)]).unwrap();
    let upload = Upload { member: "bob", batch: &fresh, key: None };
    assert!(matches!(store.append(&[upload], 5), Err(Error::Other { .. })));
    assert_eq!((count(&folder.db(), "block"), count(&folder.db(), "node")), before);
    other.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(store.append(&[upload], 5).unwrap()[0].ids, [2, 3]);
    sound(&folder.db());
}

#[test]
fn a_process_that_dies_within_a_transaction_leaves_nothing_of_it() {
    let folder = Folder::new();
    append(&folder.db(), &[opaque(1, "/", 200)]);
    // What the disk holds when a process is killed: the files as they are while its transaction is open.
    let mut writer = Connection::open(folder.db()).unwrap();
    writer.pragma_update(None, "cache_size", 1).unwrap();
    let tx = writer.transaction().unwrap();
    for ts in 0..2000 {
        tx.execute("INSERT INTO word (text, refs) VALUES (?, 1)", [format!("{ts}{}", "x".repeat(500))])
            .unwrap();
    }
    let dead = folder.0.join("dead.db");
    fs::copy(folder.db(), &dead).unwrap();
    fs::copy(folder.0.join("activity.db-wal"), folder.0.join("dead.db-wal")).unwrap();
    assert!(fs::metadata(folder.0.join("dead.db-wal")).unwrap().len() > 100_000, "it had been written");
    drop(tx);
    append(&dead, &[opaque(2, "/", 200)]);
    assert_eq!(count(&dead, "word"), 1);
    sound(&dead);
}

#[test]
fn filters_pages_and_orders() {
    let folder = Folder::new();
    let parser = Parser::new();
    let mut store = Store::open(&folder.db()).unwrap();
    let mut session = Session::new("session-1");
    let mut failed: Value = serde_json::from_str(&session.call(50)).unwrap();
    failed["entry"]["response"] =
        json!({"stopReason": null, "stopSequence": null, "messages": [], "usage": null, "status": 529});
    failed["entry"]["request"]["model"] = "gpt-5".into();
    let open = |ts| format!(r#"{{"kind":"objective_open","ts":{ts},"objectiveId":"o1"}}"#);
    let close = |ts| format!(r#"{{"kind":"objective_close","ts":{ts},"objectiveId":"o1","result":"done"}}"#);
    // Not in the order of time, as uploads of several runs come.
    let events = [
        session.call(30),
        opaque(10, "/Needle", 200),
        open(20),
        close(40),
        failed.to_string(),
        opaque(50, "/b", 404),
    ];
    append_as(&mut store, &parser, "ann", &events);
    append_as(&mut store, &parser, "bob", &[opaque(35, "/c", 200)]);
    let reader = Reader::open(&folder.db()).unwrap();
    let ids = |query: Query| {
        list(&reader, &Query { limit: query.limit.max(100), ..query })
            .iter()
            .map(|r| r.id)
            .collect::<Vec<_>>()
    };
    let q = Query::default;
    let some = |s: &str| Some(s.to_string());
    assert_eq!(ids(q()), [6, 5, 4, 7, 1, 3, 2], "newest event first, then newest row");
    assert_eq!(ids(Query { member: some("bob"), ..q() }), [7]);
    assert_eq!(ids(Query { member: some("eve"), ..q() }), [0; 0]);
    assert_eq!(ids(Query { from: Some(30), to: Some(40), ..q() }), [4, 7, 1], "bounds are inclusive");
    assert_eq!(ids(Query { kinds: vec!["objective_open".into(), "objective_close".into()], ..q() }), [4, 3]);
    assert_eq!(ids(Query { kinds: vec!["no such".into()], ..q() }), [0; 0]);
    assert_eq!(ids(Query { model: some("gpt-*"), ..q() }), [5]);
    assert_eq!(ids(Query { model: some("claude-x"), ..q() }), [1]);
    assert_eq!(ids(Query { tool: some("Bash"), ..q() }), [1]);
    assert_eq!(ids(Query { tool: some("Ba"), ..q() }), [0; 0]);
    assert_eq!(ids(Query { status: Some((400, 499)), ..q() }), [6]);
    assert_eq!(ids(Query { failed: true, ..q() }), [6, 5]);
    assert_eq!(ids(Query { session: some("session"), ..q() }), [5, 1]);
    assert_eq!(ids(Query { session: some("session-2"), ..q() }), [0; 0]);
    assert_eq!(ids(Query { objective: some("o1"), ..q() }), [4, 1, 3], "bob's row is not in ann's objective");
    assert_eq!(ids(Query { text: some("needle"), ..q() }), [2], "in a skeleton");
    assert_eq!(ids(Query { text: some("ASKS \"0\""), ..q() }), [5, 1], "in a block");
    assert_eq!(ids(Query { text: some("thinks 0"), ..q() }), [1], "in an answer");
    assert_eq!(ids(Query { text: some("schön"), failed: true, ..q() }), [5]);
    assert_eq!(ids(Query { text: some("nowhere"), ..q() }), [0; 0]);
    // Page by page.
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let query = Query { limit: 2, after, ..q() };
        after = reader
            .list(&query, |row| {
                seen.push(row.id);
                ControlFlow::Continue(())
            })
            .unwrap();
        let Some(cursor) = after else { break };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }
    assert_eq!(seen, [6, 5, 4, 7, 1, 3, 2]);
    assert!("12".parse::<ac7::store::activity::Cursor>().is_err());
    let follow = |after, member| {
        let mut ids = Vec::new();
        reader
            .follow(after, member, |row| {
                ids.push(row.id);
                ControlFlow::Continue(())
            })
            .unwrap();
        ids
    };
    assert_eq!(follow(4, None), [5, 6, 7]);
    assert_eq!(follow(4, Some("ann")), [5, 6]);
    assert_eq!(follow(reader.last_id().unwrap(), None), [0; 0]);
    assert_eq!(reader.last_session(None).unwrap().as_deref(), Some("session-1"));
    assert_eq!(reader.last_session(Some("bob")).unwrap(), None);
}

#[test]
fn a_list_may_break_off_and_go_on() {
    let folder = Folder::new();
    append(&folder.db(), &[opaque(1, "/", 200), opaque(2, "/", 200), opaque(3, "/", 200)]);
    let reader = Reader::open(&folder.db()).unwrap();
    let mut first = 0;
    let next = reader
        .list(&all(), |row| {
            first = row.id;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(first, 3);
    assert_eq!(list(&reader, &Query { after: next, ..all() }).len(), 2);
    assert_eq!(reader.list(&Query { limit: 0, ..all() }, |_| panic!("no row is wanted")).unwrap(), None);
}

#[test]
fn reads_while_another_connection_writes() {
    let folder = Folder::new();
    let path = folder.db();
    append(&path, &[opaque(1, "/", 200)]);
    let (go, wait) = mpsc::channel::<()>();
    let (said, hear) = mpsc::channel::<()>();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut conn = Connection::open(&path).unwrap();
            let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
            tx.execute("UPDATE word SET text = 'eve'", []).unwrap();
            said.send(()).unwrap();
            wait.recv().unwrap();
            tx.rollback().unwrap();
        }
    });
    hear.recv().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(list(&reader, &all())[0].member, "ann", "not what is not committed");
    go.send(()).unwrap();
    writer.join().unwrap();
    // And the other way round: a reader in the middle of a list stops no writer and sees no new row.
    let mut seen = 0;
    reader
        .list(&all(), |_| {
            seen += 1;
            append(&path, &[opaque(2, "/", 200)]);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((seen, list(&reader, &all()).len()), (1, 2));
}

#[test]
fn several_programs_append_to_one_file() {
    let folder = Folder::new();
    let path = folder.db();
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let path = path.clone();
            std::thread::spawn(move || {
                let (mut store, parser) = (Store::open(&path).unwrap(), Parser::new());
                let mut session = Session::new("shared");
                for i in 1..15 {
                    append_as(&mut store, &parser, &format!("m{n}"), &[session.call(i)]);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(count(&path, "activity"), 42);
    assert_eq!(count(&path, "node"), (2 + 14) + 2 + (1 + 13 * 4) + 28, "all three share the chains");
    sound(&path);
}

/// Random uploads and prunes by two stores on one file, against a plain list of what should be there.
#[test]
fn pruning_leaves_what_is_needed_and_nothing_else() {
    for seed in 0..4 {
        let folder = Folder::new();
        let path = folder.db();
        let mut dice = Dice(seed);
        let mut stores = [Store::open(&path).unwrap(), Store::open(&path).unwrap()];
        let parser = Parser::new();
        let mut sessions = [Session::new("s0"), Session::new("s1"), Session::new("s0")];
        let mut there: Vec<(u64, String)> = Vec::new();
        for step in 1..60 {
            let store = &mut stores[dice.roll(2) as usize];
            if dice.roll(5) == 0 {
                let cutoff = dice.roll(step * 10 + 1);
                let old = there.iter().filter(|(ts, _)| *ts < cutoff).count() as u64;
                assert_eq!(count_older(&path, cutoff).unwrap(), old);
                let pruned = store.prune(cutoff, |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(pruned, Pruned { done: old, total: old });
                there.retain(|(ts, _)| *ts >= cutoff);
            } else {
                // Now and then out of order in time, so that not only the oldest ends of chains go.
                let ts = step * 10 - dice.roll(step.min(30) * 5);
                let event = match dice.roll(6) {
                    0 => opaque(ts, "/x", 200),
                    n => sessions[n as usize % 3].call(ts + 5),
                };
                let ts = serde_json::from_str::<Value>(&event).unwrap()["ts"].as_u64().unwrap();
                append_as(
                    store,
                    &parser,
                    if dice.roll(2) == 0 { "ann" } else { "bob" },
                    std::slice::from_ref(&event),
                );
                there.push((ts, event));
            }
            if step % 10 == 0 {
                sound(&path);
                let mut rows = list(&Reader::open(&path).unwrap(), &all());
                rows.sort_by_key(|row| row.id);
                let events: Vec<_> = rows.iter().map(|row| &row.event).collect();
                assert_eq!(events, there.iter().map(|(_, event)| event).collect::<Vec<_>>(), "seed {seed}");
            }
        }
        let last = stores[0].prune(u64::MAX, |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(last.done, there.len() as u64);
        for table in ["activity", "node", "block", "block_key", "word"] {
            assert_eq!(count(&path, table), 0, "{table}");
        }
        stores[1].vacuum().unwrap();
        assert_eq!(Reader::open(&path).unwrap().stats(|_, _| ()).unwrap().free, 0);
        // What was pruned may come again.
        let id = append_as(&mut stores[1], &parser, "ann", &[sessions[0].call(1)]).ids[0];
        assert!(id > 1, "ids are never used again");
        sound(&path);
    }
}

#[test]
fn a_prune_can_be_broken_off() {
    let folder = Folder::new();
    let events: Vec<String> = (0..450).map(|ts| opaque(ts, "/", 200)).collect();
    append(&folder.db(), &events);
    let mut store = Store::open(&folder.db()).unwrap();
    let mut told = Vec::new();
    let pruned = store.prune(440, |at| {
        told.push(at);
        if at.done >= 400 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!(pruned.unwrap(), Pruned { done: 400, total: 440 });
    assert_eq!(told.iter().map(|p| p.done).collect::<Vec<_>>(), [200, 400]);
    assert_eq!(list(&Reader::open(&folder.db()).unwrap(), &all()).len(), 50);
    sound(&folder.db());
}

#[test]
fn files_are_private_and_broken_ones_are_named() {
    let folder = Folder::new();
    let path = folder.0.join("new/deep/activity.db");
    assert!(matches!(Reader::open(&path), Err(Error::Missing { .. })));
    let store = Store::open(&path).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.clone()), 0o600);
    assert_eq!(mode(path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(path.with_extension("db-shm")), 0o600);
    assert_eq!(mode(folder.0.join("new")), 0o700);
    assert_eq!(mode(folder.0.join("new/deep")), 0o700);
    drop(store);
    let pragma =
        |name: &str, value: i64| Connection::open(&path).unwrap().pragma_update(None, name, value).unwrap();
    pragma("user_version", 9);
    let newer = Error::Newer { path: path.clone(), found: 9, known: 1 };
    assert_eq!(Store::open(&path).err(), Some(newer.clone()));
    assert_eq!(Reader::open(&path).err(), Some(newer));
    pragma("user_version", 1);
    pragma("application_id", 7);
    let foreign = Error::NotOurs { path: path.clone(), kind: "activity" };
    assert_eq!(Store::open(&path).err(), Some(foreign.clone()));
    assert_eq!(Reader::open(&path).err(), Some(foreign));
    let text = folder.0.join("letter.txt");
    fs::write(&text, "Dear Sir or Madam, ".repeat(100)).unwrap();
    assert_eq!(Store::open(&text).err(), Some(Error::NotOurs { path: text.clone(), kind: "activity" }));
    assert_eq!(fs::read(&text).unwrap().len(), 1900, "left as it was");
    let other = folder.0.join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert_eq!(Store::open(&other).err(), Some(Error::NotOurs { path: other.clone(), kind: "activity" }));
    for bad in ["/proc/nope/a.db", "/dev/null/a.db"] {
        assert!(matches!(Store::open(Path::new(bad)), Err(Error::Open { .. })), "{bad}");
    }
    assert!(matches!(Store::open(&folder.0), Err(Error::Open { .. })), "a directory");
}

#[test]
fn damage_is_reported_not_returned() {
    let folder = Folder::new();
    let mut session = Session::new("s");
    let events: Vec<String> = (1..200).map(|i| session.call(i)).collect();
    append(&folder.db(), &events);
    Connection::open(folder.db())
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
    let sound_bytes = fs::read(folder.db()).unwrap();
    let pages = sound_bytes.len() / 4096;
    let mut dice = Dice(3);
    let mut reported = 0;
    for _ in 0..25 {
        let mut bytes = sound_bytes.clone();
        let page = 1 + dice.roll(pages as u64 - 1) as usize;
        for _ in 0..40 {
            bytes[page * 4096 + dice.roll(4096) as usize] = dice.roll(256) as u8;
        }
        let path = folder.0.join("damaged.db");
        fs::write(&path, &bytes).unwrap();
        // Whatever is read must be an event that was stored, or an error; the check must not miss a wrong one.
        let reader = Reader::open(&path).unwrap();
        let mut wrong = 0;
        let read = reader.list(&all(), |row| {
            wrong += usize::from(!events.contains(&row.event));
            ControlFlow::Continue(())
        });
        let faults = reader.check(|_, _| {});
        if wrong > 0 || read.is_err() {
            reported += 1;
            assert!(faults.is_err() || faults.is_ok_and(|f| !f.is_empty()), "page {page}");
        }
        fs::remove_file(&path).unwrap();
    }
    assert!(reported > 5, "the damage did not hit anything: {reported}");
}

fn encoded(json: String) -> Encoded {
    Encoded { ts: 1, kind: KINDS[3], json }
}

fn sink(path: &Path, events: &[String], grace: Duration) -> Report {
    let mut sink = Box::new(LocalSink::new(path.to_path_buf(), "ann".into()));
    for event in events {
        sink.push(encoded(event.clone()));
    }
    sink.close(grace)
}

#[test]
fn the_local_sink_stores_in_order_and_reports() {
    let folder = Folder::new();
    let path = folder.0.join("share/ac7/activity.db");
    let mut session = Session::new("s");
    let events: Vec<String> =
        (1..400).map(|i| if i % 9 == 0 { session.call(i) } else { opaque(i, "/", 200) }).collect();
    let mut with_junk = events.clone();
    with_junk.insert(100, "{\"kind\":\"nonsense\"}".into());
    with_junk.insert(200, "]}".into());
    let report = sink(&path, &with_junk, Duration::from_secs(30));
    assert_eq!((report.stored, report.dropped), (399, 2));
    assert!(report.reason.unwrap().contains("not one"));
    assert_eq!(report.place, Some(Place::Database(path.clone())));
    let mut stored = list(&Reader::open(&path).unwrap(), &all());
    stored.reverse();
    assert_eq!(stored.iter().map(|row| &row.event).collect::<Vec<_>>(), events.iter().collect::<Vec<_>>());
    assert!(stored.iter().all(|row| row.member == "ann" && row.created_at > 1_600_000_000_000));
    let nothing = sink(&path, &[], Duration::from_secs(5));
    assert_eq!((nothing.stored, nothing.dropped, nothing.reason), (0, 0, None));
}

#[test]
fn the_local_sink_survives_a_database_that_cannot_be_written() {
    let folder = Folder::new();
    let event = [opaque(1, "/", 200), opaque(2, "/", 200)];
    append(&folder.db(), &event);
    // A file that says that only later versions may write it is read-only for every user, root too.
    let mut bytes = fs::read(folder.db()).unwrap();
    bytes[18] = 9;
    fs::write(folder.db(), bytes).unwrap();
    let foreign = folder.0.join("foreign");
    fs::write(&foreign, "x".repeat(999)).unwrap();
    for (path, why) in [
        (folder.db(), "it is read-only"),
        (PathBuf::from("/proc/nope/a.db"), "cannot open the database: /proc/nope/a.db"),
        (foreign, "it is not an ac7 activity database"),
    ] {
        let report = sink(&path, &event, Duration::from_secs(30));
        assert_eq!((report.stored, report.dropped), (0, 2), "{why}");
        assert!(report.reason.as_ref().unwrap().contains(why), "{:?}", report.reason);
    }
}

#[test]
fn a_reader_says_why_it_cannot_read() {
    let folder = Folder::new();
    let error = Reader::open(&folder.0).err().unwrap().to_string();
    assert_eq!(error, format!("cannot open the database: {}: it is not a file", folder.0.display()));
}

#[test]
fn the_local_sink_waits_for_a_lock_but_not_for_ever() {
    let folder = Folder::new();
    append(&folder.db(), &[opaque(1, "/", 200)]);
    let mut other = Connection::open(folder.db()).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let report = sink(&folder.db(), &[opaque(2, "/", 200)], Duration::from_secs(2));
    assert_eq!((report.stored, report.dropped), (0, 1));
    assert!(report.reason.unwrap().contains("locked"));
    let mut patient = Box::new(LocalSink::new(folder.db(), "ann".into()));
    patient.push(encoded(opaque(3, "/", 200)));
    lock.rollback().unwrap();
    let report = patient.close(Duration::from_secs(30));
    assert_eq!((report.stored, report.dropped, report.reason), (1, 0, None));
    assert_eq!(count(&folder.db(), "activity"), 2);
}

#[test]
fn a_full_queue_makes_push_wait_and_loses_nothing() {
    let folder = Folder::new();
    Store::open(&folder.db()).unwrap();
    let mut other = Connection::open(folder.db()).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let (said, hear) = mpsc::channel();
    let path = folder.db();
    // Made beforehand: from the first push on, five seconds are left until the lock costs events.
    let events: Vec<_> = (0..100).map(|i| encoded(opaque(i, &"x".repeat(1 << 20), 200))).collect();
    let pusher = std::thread::spawn(move || {
        let mut sink = Box::new(LocalSink::new(path, "ann".into()));
        // One group in hand, 64 MB in the queue, and some more.
        for (i, event) in events.into_iter().enumerate() {
            sink.push(event);
            said.send(i).unwrap();
        }
        sink.close(Duration::from_secs(60))
    });
    let mut pushed = 0;
    while pushed < 60 {
        pushed = hear.recv_timeout(Duration::from_secs(60)).expect("there is room for 64 MB");
    }
    while let Ok(i) = hear.recv_timeout(Duration::from_millis(300)) {
        pushed = i;
    }
    assert!(pushed < 80, "waits after some 72 MB, not after {pushed}");
    lock.rollback().unwrap();
    let report = pusher.join().unwrap();
    assert_eq!((report.stored, report.dropped), (100, 0));
}
