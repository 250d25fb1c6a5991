//! Server-sent events: nothing missed, nothing twice, nobody held up.
use std::io::Read;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use ac7::broker::Limits;
use ac7::identity::TeamFile;
use serde_json::json;

use crate::events::Stream;
use crate::rig::{Rig, request, threads, upload, wait_for};

const ANN: &str = "/members/ann/activity/stream";

/// Ann's activity from after `last`.
fn after(rig: &Rig, last: i64) -> Stream {
    Stream::open(rig, ANN, &rig.ann, &format!("Last-Event-ID: {last}\r\n"))
}

fn append(rig: &Rig, times: impl IntoIterator<Item = u64>) {
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(times)).status, 201);
}

/// Events of about `size` bytes each, as a body.
fn large(events: usize, size: usize) -> String {
    let event = |i| json!({"kind": "objective_open", "ts": i, "objectiveId": "x".repeat(size)});
    json!({"events": (0..events).map(event).collect::<Vec<_>>()}).to_string()
}

#[test]
fn rows_come_as_they_are_stored_to_whoever_may_read_them() {
    let rig = Rig::new();
    append(&rig, [1]);
    let mut stream = Stream::open(&rig, ANN, &rig.ann, "");
    for (name, want) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
        ("x-ac7-protocol", "1"),
    ] {
        assert_eq!(stream.headers.get(name), Some(want));
    }
    assert!(["x-ac7-wait", "x-ac7-last"].iter().all(|name| stream.headers.get(name).is_none()));
    let mut other = Stream::open(&rig, "/members/bob/activity/stream", &rig.ann, "");
    append(&rig, [2, 3]);
    assert_eq!(rig.call("POST", "/members/bob/activity", &rig.bob, &upload([9])).status, 201);
    append(&rig, [4]);
    let rows: Vec<_> = (0..3).map(|_| stream.row()).collect();
    assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 3, 5]);
    let mut listed = rig.get("/members/ann/activity?limit=3").json()["activity"].as_array().unwrap().clone();
    listed.reverse();
    assert_eq!(rows.into_iter().map(|r| r.1).collect::<Vec<_>>(), listed);
    assert_eq!(other.row().0, 4);

    for (path, token, headers, want) in [
        (ANN, "", "", 401),
        (ANN, rig.bob.as_str(), "", 403),
        ("/members/bob/activity/stream", &rig.bob, "", 200),
        ("/members/zed/activity/stream", &rig.ann, "", 200),
        (ANN, &rig.ann, "Last-Event-ID: x\r\n", 400),
        (ANN, &rig.ann, "Last-Event-ID: -1\r\n", 400),
        // A client cannot play the edge.
        (ANN, &rig.ann, "X-AC7-Follow: 0\r\nX-AC7-Wait: y\r\n", 200),
    ] {
        assert_eq!(Stream::open(&rig, path, token, headers).status, want, "{path} {headers}");
    }
    assert_eq!(rig.call("HEAD", ANN, &rig.ann, "").status, 200);
    assert_eq!(rig.call("POST", ANN, &rig.ann, "").status, 405);
}

#[test]
fn white_space_and_kinds_that_old_clients_do_not_know_do_no_harm() {
    let rig = Rig::new();
    let mut stream = Stream::open(&rig, ANN, &rig.ann, "");
    let body = "{\"events\":[{\r\n\"kind\":\n\n\"objective_open\",\"ts\":1,\r\"objectiveId\":\"a\\nb\"}]}";
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, body).status, 201);
    assert_eq!(stream.row().1["event"]["objectiveId"], "a\nb");
    let usage = json!({"inputTokens": 1, "outputTokens": 1});
    let entry = json!({
        "kind": "openai_chat", "startedAt": 1, "endedAt": 2,
        "request": {"model": "m", "maxTokens": null, "temperature": null, "system": null, "messages": [],
                    "tools": null},
        "response": {"stopReason": null, "stopSequence": null, "messages": [], "usage": usage, "status": 200},
    });
    let body = json!({"events": [{"kind": "llm_exchange", "ts": 1, "duration": 1, "entry": entry}]});
    let stored = rig.call("POST", "/members/ann/activity", &rig.ann, &body.to_string());
    assert_eq!(stored.status, 201, "{}", stored.error());
    assert_eq!(stream.row().1["event"]["kind"], "opaque_http");
    let mut typed = Stream::open(&rig, &format!("{ANN}?typed=all"), &rig.ann, "Last-Event-ID: 1\r\n");
    assert_eq!(typed.row().1["event"]["entry"]["kind"], "openai_chat");
}

#[test]
fn a_stream_goes_on_where_the_last_one_ended() {
    let rig = Rig::new();
    append(&rig, 1..=5);
    let mut stream = after(&rig, 2);
    assert_eq!(stream.rows(3), [3, 4, 5]);
    append(&rig, [6]);
    assert_eq!(stream.rows(1), [6]);
    // Of another database, or of a time that this one does not know: what comes is not missed.
    let mut ahead = after(&rig, 1_000_000);
    append(&rig, [7]);
    assert_eq!(ahead.rows(1), [7]);
    // More than one piece, and an event that is larger than one.
    for (events, size) in [(30, 100_000), (3, 1_000_000), (500, 10)] {
        let sent = rig.call("POST", "/members/ann/activity", &rig.ann, &large(events, size));
        assert_eq!(sent.status, 201);
    }
    let all: Vec<i64> = (1..=540).collect();
    assert_eq!(after(&rig, 0).rows(540), all);
    assert_eq!(stream.rows(534), all[6..]);
}

#[test]
fn no_row_is_missed_and_none_comes_twice_while_uploads_go_on() {
    const UPLOADS: u64 = 60;
    let rig = Rig::new();
    thread::scope(|scope| {
        for member in ["ann", "ann", "bob"] {
            let rig = &rig;
            scope.spawn(move || {
                let token = if member == "ann" { &rig.ann } else { &rig.bob };
                for i in 0..UPLOADS {
                    let path = format!("/members/{member}/activity");
                    assert_eq!(rig.call("POST", &path, token, &upload([i, i, i])).status, 201);
                }
            });
        }
        let mut seen = Vec::new();
        while seen.len() < 2 * 3 * UPLOADS as usize {
            let mut stream = after(&rig, seen.last().copied().unwrap_or(0));
            let left = 2 * 3 * UPLOADS as usize - seen.len();
            seen.extend(stream.rows(left.min(1 + seen.len() % 23)));
        }
        let listed = rig.get("/members/ann/activity?limit=1000").json();
        let mut ids: Vec<i64> =
            listed["activity"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(seen, ids);
    });
}

#[test]
fn silence_is_broken_by_comments() {
    let rig = Rig::with(Limits { keep_alive: Duration::from_millis(50), ..Limits::default() });
    let mut stream = Stream::open(&rig, ANN, &rig.ann, "");
    for _ in 0..3 {
        assert_eq!(stream.block().unwrap().keys().collect::<Vec<_>>(), [""]);
    }
    append(&rig, [1]);
    assert_eq!(stream.row().0, 1);
}

#[test]
fn a_slow_reader_is_dropped_and_holds_nobody_up() {
    let rig = Rig::with(Limits { lag: Duration::from_secs(2), ..Limits::default() });
    let mut slow = Stream::open(&rig, ANN, &rig.ann, "");
    let mut quick = Stream::open(&rig, ANN, &rig.ann, "");
    // More than the system's buffers take.
    let body = large(50, 100_000);
    for _ in 0..6 {
        assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &body).status, 201);
        quick.rows(50);
    }
    thread::sleep(Duration::from_millis(2500)); // it is slow
    let (last, reason) = slow.end();
    assert_eq!(reason, "slow");
    assert!(last < 300, "it was not slow: {last}");
    assert_eq!(after(&rig, last).rows(usize::try_from(300 - last).unwrap()).last(), Some(&300));
}

#[test]
fn a_stream_ends_with_the_right_to_it() {
    let rig = Rig::new();
    let change = |edit: &dyn Fn(&mut TeamFile)| {
        let edited = TeamFile::update(&rig.config(), |file| {
            edit(file);
            Ok(())
        });
        edited.unwrap();
        Instant::now()
    };
    change(&|file| file.members[1].permissions = vec!["activity.read".into()]);
    wait_for("the permission", || rig.call("GET", "/members/ann/activity", &rig.bob, "").status == 200);
    let mut reading = Stream::open(&rig, ANN, &rig.bob, "");
    let mut own = Stream::open(&rig, "/members/bob/activity/stream", &rig.bob, "");
    let began = change(&|file| file.members[1].permissions = Vec::new());
    assert_eq!(reading.end().1, "revoked");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(rig.call("POST", "/members/bob/activity", &rig.bob, &upload([1])).status, 201);
    assert_eq!(own.row().0, 1, "what may go on goes on");
    let began = change(&|file| file.members[1].tokens = Vec::new());
    assert_eq!(own.end().1, "revoked");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    wait_for("the end of both", || rig.log.events("stream ended").len() == 2);
}

#[test]
fn a_stop_ends_streams_at_once() {
    let mut rig = Rig::new();
    append(&rig, [1]);
    let mut streams: Vec<_> = (0..5).map(|_| after(&rig, 0)).collect();
    streams.iter_mut().for_each(|s| assert_eq!(s.rows(1), [1]));
    let began = Instant::now();
    let broker = rig.take();
    let stopping = thread::spawn(move || broker.stop());
    streams.iter_mut().for_each(|s| assert_eq!(s.end(), (0, "stopping".to_string())));
    drop(streams);
    stopping.join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(threads("ac7-"), 0);
}

#[test]
fn one_member_has_two_thirds_of_the_places() {
    let rig = Rig::with(Limits { streams: 6, ..Limits::default() });
    let bobs = ["/members/bob/activity/stream", "/subscribe?name=bob"];
    let mut streams: Vec<_> =
        bobs.iter().cycle().take(4).map(|path| Stream::open(&rig, path, &rig.bob, "")).collect();
    assert!(streams.iter().all(|stream| stream.status == 200));
    for path in bobs {
        assert_eq!(rig.call("GET", path, &rig.bob, "").status, 503, "{path}");
    }
    let anns: Vec<_> = (0..2).map(|_| Stream::open(&rig, ANN, &rig.ann, "")).collect();
    assert!(anns.iter().all(|stream| stream.status == 200));
    assert_eq!(rig.get(ANN).status, 503, "all are taken");
    let count = || rig.get("/healthz?verbose").json()["streams"].clone();
    assert_eq!(count(), json!(6));
    drop(streams.pop());
    wait_for("bob's place", || count() == json!(5));
    assert_eq!(Stream::open(&rig, bobs[0], &rig.bob, "").status, 200);
}

#[test]
fn a_client_that_went_away_leaves_its_place() {
    let rig = Rig::with(Limits { streams: 1, ..Limits::default() });
    let stream = Stream::open(&rig, ANN, &rig.ann, "");
    let refused = rig.get(ANN);
    assert_eq!((refused.status, refused.headers.get("retry-after")), (503, Some("3")));
    drop(stream);
    wait_for("the place", || Stream::open(&rig, ANN, &rig.ann, "").status == 200);
    wait_for("the end of both", || rig.log.events("stream ended").len() == 2);
    for line in rig.log.events("stream ended") {
        assert_eq!(line["reason"], "gone");
    }
    // One that talks without being asked is listened to, and nothing else.
    wait_for("the place", || Stream::open(&rig, ANN, &rig.ann, "").status == 200);
    let mut client = rig.connect();
    wait_for("the place", || {
        client = rig.connect();
        client.send(&request("GET", ANN, &rig.ann, "", ""));
        client.send(&request("GET", "/healthz", "", "", ""));
        let mut head = [0; 12];
        client.stream.read_exact(&mut head).unwrap();
        head == *b"HTTP/1.1 200"
    });
    client.send("and more");
    append(&rig, [1]);
    let mut got = String::new();
    wait_for("the row", || {
        let mut buf = [0; 4096];
        let n = client.stream.read(&mut buf).unwrap();
        got.push_str(&String::from_utf8_lossy(&buf[..n]));
        got.contains("\"memberName\":\"ann\"")
    });
    client.stream.shutdown(Shutdown::Both).unwrap();
}

#[test]
fn waiting_streams_hold_no_worker_and_old_clients_get_no_chunks() {
    let rig = Rig::new();
    let mut streams: Vec<_> = (0..60).map(|_| Stream::open(&rig, ANN, &rig.ann, "")).collect();
    assert_eq!(rig.get("/briefing").status, 200);
    append(&rig, [1]);
    streams.iter_mut().for_each(|s| assert_eq!(s.rows(1), [1]));

    let mut old = rig.connect();
    old.send(&format!("GET {ANN} HTTP/1.0\r\nAuthorization: Bearer {}\r\nLast-Event-ID: 0\r\n\r\n", rig.ann));
    let mut got = Vec::new();
    wait_for("the row", || {
        let mut buf = [0; 4096];
        let n = old.stream.read(&mut buf).unwrap();
        got.extend_from_slice(&buf[..n]);
        got.ends_with(b"}\n\n")
    });
    let text = String::from_utf8(got).unwrap();
    assert!(text.contains("\r\n\r\nevent: message\nid: 1\ndata: {") && !text.contains("chunked"), "{text}");
}
