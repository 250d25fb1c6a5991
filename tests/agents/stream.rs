//! The stream of messages against a broker that breaks it off, repeats itself, and in the end refuses.
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;
use support::run::Finished;

use crate::team::{claude_code_at, script};

/// What each request for the stream is answered with, and what it said of its place.
struct Stub {
    url: String,
    places: Arc<Mutex<Vec<Option<String>>>>,
}

impl Stub {
    fn start(script: Vec<String>) -> Stub {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let places: Arc<Mutex<Vec<_>>> = Arc::default();
        let asked = places.clone();
        // It ends with the test's process: nothing of it is waited for.
        thread::spawn(move || {
            let script = Arc::new(script);
            for tcp in listener.incoming() {
                let (script, asked) = (script.clone(), asked.clone());
                thread::spawn(move || serve(tcp.unwrap(), &script, &asked));
            }
        });
        Stub { url, places }
    }
}

/// One request a connection.
fn serve(mut tcp: TcpStream, script: &[String], places: &Mutex<Vec<Option<String>>>) {
    let mut head = BufReader::new(tcp.try_clone().unwrap()).lines().map_while(Result::ok);
    let start = head.next().unwrap_or_default();
    let fields: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
    let path = start.split(' ').nth(1).unwrap_or_default();
    let json = |value: serde_json::Value| {
        let body = value.to_string();
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let answer = match path {
        "/briefing" => json(json!({"name": "ann", "instructions": "", "openObjectives": []})),
        "/subscribe?name=ann" => {
            let place = fields.iter().find_map(|f| {
                let (name, value) = f.split_once(": ")?;
                name.eq_ignore_ascii_case("last-event-id").then(|| value.to_string())
            });
            let mut places = places.lock().unwrap();
            places.push(place);
            script.get(places.len() - 1).cloned().unwrap_or_else(|| status(401))
        }
        path if path.starts_with("/history") => {
            let missed = places.lock().unwrap().len() >= 2;
            let messages = [missed.then(|| data("missed", "bob")), Some(data("old", "bob"))];
            json(json!({"messages": messages.into_iter().flatten().collect::<Vec<_>>()}))
        }
        path if path.starts_with("/objectives") => json(json!({"objectives": []})),
        _ => "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_string(),
    };
    let _ = tcp.write_all(answer.as_bytes());
}

fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}")
}

fn stream(events: &[String]) -> String {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    head.to_string() + &events.concat()
}

fn data(id: &str, from: &str) -> serde_json::Value {
    json!({"id": id, "ts": 1, "to": "ann", "from": from, "title": null, "body": format!("body of {id}"),
        "level": "info", "data": {}, "attachments": []})
}

fn message(place: u32, id: &str, from: &str) -> String {
    let data = data(id, from);
    format!("id: {place}\nevent: message\ndata: {data}\n\n")
}

#[test]
fn it_goes_on_where_it_broke_and_tells_nothing_twice() {
    let home = support::ac7!();
    let ac7 = env!("CARGO_BIN_EXE_ac7");
    script(
        &home,
        "claude",
        &format!(
            "touch all; until grep -q 'body of m2' all; do echo '{{}}' | '{ac7}' hook UserPromptSubmit >> all; done\n\
             until grep -q 'broker stream refused' \"$XDG_CACHE_HOME\"/agentc7/session-*.log; do sleep 0.02; done"
        ),
    );
    let stub = Stub::start(vec![
        status(503),
        stream(&[]),
        stream(&[
            message(0, "missed", "bob"),
            message(1, "m1", "bob"),
            message(2, "echo", "ann"),
            "id: 3\nevent: message\ndata: not json\n\n".to_string(),
            ": a comment\n\nid: 4\nevent: news\ndata: {}\n\n".to_string(),
        ]),
        stream(&[
            message(1, "m1", "bob"),
            message(5, "m2", "bob"),
            "event: end\ndata: {\"reason\":\"shutdown\"}\n\n".to_string(),
            message(6, "late", "bob"),
        ]),
        status(401),
    ]);
    let done = Finished::from(&claude_code_at(&home, &stub.url, "ac7_any", &[]).output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let place = |place: &str| Some(place.to_string());
    assert_eq!(*stub.places.lock().unwrap(), [None, None, None, place("4"), place("5")]);
    let all = std::fs::read_to_string(home.join("home/all")).unwrap();
    for (text, times) in [
        ("body of m1", 1),
        ("body of m2", 1),
        ("body of missed", 1),
        ("body of old", 0),
        ("body of echo", 0),
        ("body of late", 0),
    ] {
        assert_eq!(all.matches(text).count(), times, "{text}: {all}");
    }
    assert!(
        done.stderr.contains("ac7: no more messages: the broker refused the token (401)"),
        "{}",
        done.stderr
    );
}
