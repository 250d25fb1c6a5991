//! Messages: who gets what, in which order, and who is here.
use std::thread;
use std::time::Duration;

use ac7::broker::Limits;
use serde_json::{Value, json};

use crate::events::Stream;
use crate::rig::{Reply, Rig, wait_for};

fn push(rig: &Rig, token: &str, body: &Value) -> Reply {
    rig.ask("POST", "/push", token, body)
}

/// Send, and give the message.
fn sent(rig: &Rig, token: &str, body: &Value) -> Value {
    let reply = push(rig, token, body);
    assert_eq!(reply.status, 200, "{}", reply.error());
    reply.json()["message"].clone()
}

fn subscribe(rig: &Rig, name: &str, token: &str, headers: &str) -> Stream {
    Stream::open(rig, &format!("/subscribe?name={name}"), token, headers)
}

/// The bodies of a list of messages.
fn bodies(reply: &Reply) -> Vec<String> {
    let list = reply.json()["messages"].as_array().expect("messages").clone();
    list.iter().map(|m| m["body"].as_str().unwrap().to_string()).collect()
}

/// What the roster says about one member.
fn presence(rig: &Rig, name: &str) -> Value {
    let roster = rig.get("/roster").json();
    let of = |p: &&Value| p["name"] == name;
    roster["connected"].as_array().unwrap().iter().find(of).cloned().unwrap_or(Value::Null)
}

#[test]
fn requests_and_answers_are_those_of_the_corpus() {
    crate::corpus::play("messages");
}

#[test]
fn a_message_is_stamped_by_the_broker_and_reaches_those_it_is_for() {
    let rig = Rig::new();
    let cat = rig.add("cat", &[]);
    let mut streams =
        [("ann", &rig.ann), ("bob", &rig.bob), ("cat", &cat)].map(|(n, t)| subscribe(&rig, n, t, ""));
    let forged =
        json!({"to": "ann", "body": "for you", "from": "cat", "id": "x", "ts": 1, "data": {"from": "cat"}});
    let reply = push(&rig, &rig.bob, &forged).json();
    assert_eq!(reply["delivery"], json!({"live": 1, "targets": 1}));
    let message = &reply["message"];
    assert_eq!((&message["from"], &message["data"]), (&json!("bob"), &json!({"from": "cat"})));
    assert!(message["id"] != "x" && message["ts"].as_u64().unwrap() > 1);
    let reply = push(&rig, &cat, &json!({"body": "for all", "level": "critical", "title": "t"})).json();
    assert_eq!(reply["delivery"], json!({"live": 3, "targets": 3}));
    let own = sent(&rig, &cat, &json!({"to": "cat", "body": "note to self"}));

    // The sender's own streams have it too, each message once.
    let seen = |stream: &mut Stream, n: usize| (0..n).map(|_| stream.row().1).collect::<Vec<_>>();
    assert_eq!(seen(&mut streams[0], 2), [message.clone(), reply["message"].clone()]);
    assert_eq!(seen(&mut streams[1], 2), [message.clone(), reply["message"].clone()]);
    assert_eq!(seen(&mut streams[2], 2), [reply["message"].clone(), own]);

    let history = |token: &str, query: &str| bodies(&rig.call("GET", &format!("/history{query}"), token, ""));
    assert_eq!(history(&rig.ann, ""), ["for all", "for you"]);
    assert_eq!(history(&rig.bob, ""), ["for all", "for you"]);
    assert_eq!(history(&cat, ""), ["note to self", "for all"]);
    assert_eq!(history(&rig.bob, "?with=ann"), ["for you"]);
    assert_eq!(history(&rig.ann, "?with=bob"), ["for you"]);
    assert_eq!(history(&rig.ann, "?with=cat"), [""; 0]);
    assert_eq!(history(&cat, "?with=cat"), ["note to self"]);
    assert_eq!(history(&cat, "?channel=general"), ["for all"]);
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_place() {
    let rig = Rig::new();
    for (status, body, path) in [
        (400, json!({}), "body"),
        (400, json!({"body": ""}), "body"),
        (400, json!({"body": "x".repeat(65537)}), "body"),
        (400, json!({"body": "x", "level": "loud"}), "level"),
        (400, json!({"body": "x", "title": "x".repeat(201)}), "title"),
        (400, json!({"body": "x", "data": "thread"}), "data"),
        (400, json!({"body": "x", "data": {"kind": "objective", "event": "completed"}}), "data.kind"),
        (400, json!({"body": "x", "data": {"thread": "obj:obj-1"}}), "data.thread"),
        (400, json!({"body": "x", "attachments": [{"path": "etc/passwd"}]}), "attachments[0].path"),
        (404, json!({"body": "x", "to": "zed"}), ""),
        (404, json!({"body": "x", "data": {"thread": "chan:nope"}}), ""),
    ] {
        let reply = push(&rig, &rig.bob, &body);
        assert_eq!(reply.status, status, "{body:.80}: {}", reply.error());
        assert_eq!(reply.json()["details"][0]["path"].as_str().unwrap_or_default(), path, "{body:.80}");
    }
    assert_eq!(push(&rig, &rig.bob, &json!({"body": "x", "to": "zed"})).error(), "no such agent: zed");
    assert_eq!(push(&rig, "", &json!({"body": "x"})).status, 401);
    assert_eq!(rig.call("POST", "/push", &rig.bob, "{nope").status, 400);
    assert_eq!(bodies(&rig.get("/history")), [""; 0], "something of it was stored");
    for (status, path) in [
        (400, "/subscribe"),
        (400, "/subscribe?name="),
        (403, "/subscribe?name=ann"),
        (403, "/subscribe?name=zed"),
        (400, "/history?with=ann&channel=general"),
        (404, "/history?channel=nope"),
        (400, "/history?before=yesterday"),
    ] {
        assert_eq!(rig.call("GET", path, &rig.bob, "").status, status, "{path}");
    }
    for (path, token) in [("/subscribe?name=bob", ""), ("/history", ""), ("/roster", "ac7_wrong")] {
        assert_eq!(rig.call("GET", path, token, "").status, 401, "{path}");
    }
}

#[test]
fn history_is_read_page_by_page() {
    let rig = Rig::new();
    // Long ones among them: the answer is more than one piece.
    for i in 0..60 {
        let long = if i % 10 == 0 { "é".repeat(60_000) } else { String::new() };
        sent(&rig, &rig.bob, &json!({"body": format!("{i} {long}")}));
    }
    let number = |body: &String| body.split(' ').next().unwrap().parse::<u32>().unwrap();
    let page = |query: &str| {
        let reply = rig.get(&format!("/history{query}"));
        assert_eq!(reply.status, 200, "{query}: {}", reply.error());
        let messages = reply.json()["messages"].as_array().unwrap().clone();
        (bodies(&reply).iter().map(number).collect::<Vec<_>>(), messages)
    };
    let newest = |n: u32| (60 - n..60).rev().collect::<Vec<_>>();
    for (query, want) in [
        ("", 50),
        ("?limit=abc", 50),
        ("?limit=0", 0),
        ("?limit=7", 7),
        ("?limit=5000", 60),
        ("?channel=general&limit=3", 3),
    ] {
        assert_eq!(page(query).0, newest(want), "{query}");
    }
    // By id nothing is missed, whatever the time; by time what has that time or a later one is left out.
    let (mut all, mut query) = (Vec::new(), "?limit=13".to_string());
    loop {
        let (numbers, messages) = page(&query);
        let Some(last) = messages.last() else { break };
        all.extend(numbers);
        query = format!("?limit=13&before={}", last["id"].as_str().unwrap());
    }
    assert_eq!(all, newest(60));
    let (numbers, messages) = page("?limit=500");
    let ts = |m: &Value| m["ts"].as_u64().unwrap();
    let at = ts(&messages[30]);
    let earlier = messages.iter().filter(|m| ts(m) < at).count();
    assert_eq!(page(&format!("?limit=500&before={at}")).0, numbers[60 - earlier..]);
    assert!(messages.windows(2).all(|two| ts(&two[0]) >= ts(&two[1])));
}

#[test]
fn a_stream_goes_on_where_the_last_one_ended() {
    let rig = Rig::new();
    let say = |body: &str, to: &str| drop(sent(&rig, &rig.ann, &json!({"to": to, "body": body})));
    say("1", "bob");
    let mut stream = subscribe(&rig, "bob", &rig.bob, "");
    say("2", "bob");
    say("not for bob", "ann");
    let (first, message) = stream.row();
    assert_eq!(message["body"], "2", "from the end, unless told otherwise");
    drop(stream);
    say("3", "bob");
    sent(&rig, &rig.ann, &json!({"body": "4"}));
    let mut stream = subscribe(&rig, "bob", &rig.bob, &format!("Last-Event-ID: {first}\r\n"));
    assert_eq!((stream.row().1["body"].clone(), stream.row().1["body"].clone()), (json!("3"), json!("4")));
    let mut whole = subscribe(&rig, "bob", &rig.bob, "Last-Event-ID: 0\r\n");
    let bodies: Vec<_> = (0..4).map(|_| whole.row().1["body"].as_str().unwrap().to_string()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4"]);
    assert_eq!(subscribe(&rig, "bob", &rig.bob, "Last-Event-ID: x\r\n").status, 400);
    // More than one piece.
    for i in 0..450 {
        let long = "x".repeat(if i % 50 == 0 { 60_000 } else { 10 });
        say(&format!("{i} {long}"), "bob");
    }
    for i in 0..450 {
        let body = whole.row().1["body"].as_str().unwrap().to_string();
        assert_eq!(body.split(' ').next(), Some(i.to_string().as_str()));
    }
}

#[test]
fn every_subscriber_gets_everything_in_order() {
    const SUBSCRIBERS: usize = 100;
    const MESSAGES: usize = 200;
    let rig = Rig::with(Limits { lag: Duration::from_secs(60), ..Limits::default() });
    let mut tokens = vec![("bob".to_string(), rig.bob.clone())];
    for i in 1..10 {
        let name = format!("m{i}");
        tokens.push((name.clone(), rig.add(&name, &[])));
    }
    let streams: Vec<Stream> = (0..SUBSCRIBERS)
        .map(|i| {
            let (name, token) = &tokens[i % tokens.len()];
            subscribe(&rig, name, token, "")
        })
        .collect();
    wait_for("all to be here", || presence(&rig, "bob")["connected"] == json!(SUBSCRIBERS / 10));
    thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .enumerate()
            .map(|(i, mut stream)| {
                let (rig, (name, token)) = (&rig, &tokens[i % tokens.len()]);
                let most = if name == "bob" { MESSAGES + MESSAGES / 2 } else { MESSAGES };
                scope.spawn(move || {
                    let mut rows = Vec::new();
                    while rows.len() < most {
                        let (id, message) = stream.row();
                        rows.push((id, message["body"].as_str().unwrap().to_string()));
                        // Some go away in the middle and come again.
                        if i % 7 == 3 && rows.len() == 30 + i {
                            stream = subscribe(rig, name, token, &format!("Last-Event-ID: {id}\r\n"));
                        }
                    }
                    rows
                })
            })
            .collect();
        // Two who send to all at the same time, and one who sends to bob in between.
        let senders = [(&rig.ann, None), (&tokens[1].1, None), (&rig.ann, Some("bob"))].map(|(token, to)| {
            let rig = &rig;
            scope.spawn(move || {
                for i in 0..MESSAGES / 2 {
                    sent(rig, token, &json!({"to": to, "body": i.to_string()}));
                }
            })
        });
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let listed = |token: &str| {
            let all = bodies(&rig.call("GET", "/history?limit=500", token, ""));
            all.into_iter().rev().collect::<Vec<_>>()
        };
        let (all, bobs) = (listed(&tokens[1].1), listed(&rig.bob));
        assert_eq!((all.len(), bobs.len()), (MESSAGES, MESSAGES + MESSAGES / 2));
        for (i, reader) in readers.into_iter().enumerate() {
            let rows = reader.join().unwrap();
            assert!(rows.windows(2).all(|two| two[0].0 < two[1].0));
            let want = if i % tokens.len() == 0 { &bobs } else { &all };
            assert_eq!(&rows.into_iter().map(|row| row.1).collect::<Vec<_>>(), want);
        }
    });
    wait_for("all to have gone", || presence(&rig, "bob")["connected"] == 0);
}

#[test]
fn the_roster_says_who_is_here() {
    let rig = Rig::new();
    let _ = rig.call("GET", "/briefing", &rig.bob, "");
    let before = presence(&rig, "bob");
    assert_eq!((&before["connected"], &before["role"]["title"]), (&json!(0), &json!("engineer")));
    assert_eq!(before.get("busy"), None);
    let one = subscribe(&rig, "bob", &rig.bob, "");
    assert!(one.headers.get("x-ac7-here").is_none(), "that is between broker and edge");
    let two = subscribe(&rig, "bob", &rig.bob, "");
    wait_for("both streams", || presence(&rig, "bob")["connected"] == 2);
    // A stream of activity is not one of messages.
    let _reading = Stream::open(&rig, "/members/bob/activity/stream", &rig.bob, "");
    assert_eq!(push(&rig, &rig.ann, &json!({"to": "bob", "body": "x"})).json()["delivery"]["live"], 2);
    assert_eq!(presence(&rig, "bob")["connected"], 2);
    let here = presence(&rig, "bob")["lastSeen"].as_u64().unwrap();
    wait_for("the clock to go on", || presence(&rig, "bob")["lastSeen"].as_u64().unwrap() > here);
    drop(one);
    wait_for("one to be gone", || presence(&rig, "bob")["connected"] == 1);
    drop(two);
    wait_for("both to be gone", || presence(&rig, "bob")["connected"] == 0);
    let gone = presence(&rig, "bob")["lastSeen"].clone();
    assert!(gone.as_u64().unwrap() >= here);
    assert_eq!(presence(&rig, "bob")["lastSeen"], gone, "gone is gone");
    assert_eq!(push(&rig, &rig.ann, &json!({"to": "bob", "body": "x"})).json()["delivery"]["live"], 0);
    // One that may not have the stream, or whose place is taken, is not here.
    assert_eq!(subscribe(&rig, "bob", &rig.ann, "").status, 403);
    assert_eq!(presence(&rig, "bob")["connected"], 0);
}

#[test]
fn a_runner_says_whether_its_member_is_busy() {
    let rig = Rig::new();
    let say = |token: &str, body: &str| rig.call("POST", "/presence/busy", token, body).status;
    for (status, token, body) in [
        (401, "", r#"{"busy":true}"#),
        (400, rig.bob.as_str(), r#"{"busy":"yes"}"#),
        (400, &rig.bob, "{}"),
        (400, &rig.bob, ""),
        (400, &rig.bob, r#"{"busy":true,"active":-1}"#),
        (400, &rig.bob, r#"{"busy":true,"runner":"a\nb"}"#),
        (204, &rig.bob, r#"{"busy":true}"#),
    ] {
        assert_eq!(say(token, body), status, "{body}");
    }
    assert_eq!((&presence(&rig, "bob")["busy"], presence(&rig, "ann").get("busy")), (&json!(true), None));
    assert_eq!(say(&rig.bob, r#"{"busy":false}"#), 204);
    assert_eq!(presence(&rig, "bob").get("busy"), None);
}

#[test]
fn what_runners_count_is_for_those_who_may_read_activity() {
    let rig = Rig::new();
    let agents = |token: &str| rig.call("GET", "/agents", token, "").json();
    // An earlier runner says that much and no more.
    assert_eq!(rig.call("POST", "/presence/busy", &rig.bob, r#"{"busy":true}"#).status, 204);
    let bob = agents(&rig.bob);
    assert_eq!((&bob[0]["id"], &bob[0]["active"], &bob[0]["tier"]), (&json!("bob"), &json!(1), &Value::Null));
    let said = r#"{"busy":true,"runner":"codex","active":2,"total":9,"errors":1,"queued":3,"dropped":4}"#;
    assert_eq!(rig.call("POST", "/presence/busy", &rig.bob, said).status, 204);
    let mut bob = agents(&rig.bob);
    assert!(bob[0]["lastActive"].take().is_u64());
    let want = json!([{"id": "bob", "name": "bob", "tier": "codex", "active": 2, "total": 9, "errors": 1,
                       "lastActive": null, "queued": 3, "dropped": 4}]);
    assert_eq!(bob, want);
    let all = agents(&rig.ann);
    assert_eq!(
        (all.as_array().unwrap().len(), &all[0]["name"], &all[1]["total"]),
        (2, &json!("ann"), &json!(9))
    );
    let health = |token: &str| rig.call("GET", "/health", token, "").json();
    assert_eq!(health(&rig.ann)["agents"][1]["total"], 9);
    for token in ["", "ac7_wrong", &rig.bob] {
        let health = health(token);
        assert_eq!((&health["agents"], &health["status"]), (&json!([]), &json!("ok")), "{health}");
    }
}

#[test]
fn a_broker_that_cannot_read_its_database_says_so() {
    let rig = Rig::new();
    let health = || rig.call("GET", "/health", "", "");
    let well = health();
    let keys: Vec<String> = well.json().as_object().unwrap().keys().cloned().collect();
    let want = ["status", "db", "version", "timestamp", "uptime", "node", "agents", "crons", "mesh"];
    assert_eq!((well.status, keys), (200, want.map(str::to_string).to_vec()));
    std::fs::rename(rig.folder.join("ac7.db"), rig.folder.join("away.db")).unwrap();
    let ill = health();
    assert_eq!(
        (ill.status, &ill.json()["status"], &ill.json()["db"]),
        (503, &json!("degraded"), &json!("error"))
    );
    std::fs::rename(rig.folder.join("away.db"), rig.folder.join("ac7.db")).unwrap();
    assert_eq!(health().status, 200);
}

#[test]
fn a_new_member_of_an_old_name_finds_nothing_that_was_not_for_it() {
    let rig = Rig::new();
    let cat = rig.add("cat", &[]);
    sent(&rig, &rig.ann, &json!({"to": "cat", "body": "a secret"}));
    sent(&rig, &cat, &json!({"to": "ann", "body": "another"}));
    sent(&rig, &cat, &json!({"body": "for all"}));
    let mut stream = subscribe(&rig, "cat", &cat, "");
    assert_eq!(rig.call("DELETE", "/members/cat", &rig.ann, "").status, 204);
    assert_eq!(stream.end().1, "revoked");
    assert_eq!(bodies(&rig.get("/history?with=cat")), ["another", "a secret"], "the others keep theirs");
    let cat = rig.add("cat", &[]);
    assert_eq!(bodies(&rig.call("GET", "/history", &cat, "")), ["for all"]);
    assert_eq!(bodies(&rig.call("GET", "/history?with=ann", &cat, "")), [""; 0]);
    let mut stream = subscribe(&rig, "cat", &cat, "Last-Event-ID: 0\r\n");
    assert_eq!(stream.row().1["body"], "for all");
}

#[test]
fn messages_outlive_the_broker() {
    let mut rig = Rig::new();
    let one = sent(&rig, &rig.ann, &json!({"to": "bob", "body": "1", "data": {"n": 1.50}, "level": "error"}));
    rig.stop();
    rig.start();
    let two = sent(&rig, &rig.ann, &json!({"body": "2"}));
    assert_eq!(rig.call("GET", "/history", &rig.bob, "").json()["messages"], json!([two, one]));
    let mut stream = subscribe(&rig, "bob", &rig.bob, "Last-Event-ID: 0\r\n");
    assert_eq!((stream.row().1, stream.row().1), (one, two));
}

#[test]
fn a_message_is_as_deep_as_all_can_read() {
    let rig = Rig::new();
    let deep = |levels: usize| {
        let data = format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
        rig.call("POST", "/push", &rig.bob, &format!("{{\"body\":\"x\",\"data\":{data}}}"))
    };
    for (levels, status) in [(64, 200), (65, 400), (120, 400), (126, 400)] {
        assert_eq!(deep(levels).status, status, "{levels}");
    }
    assert_eq!(deep(65).json()["details"][0]["path"], "data");
    // Whoever reads it finds it within other things.
    assert_eq!(bodies(&rig.get("/history")), ["x"]);
}

#[test]
fn nobody_says_more_than_a_days_share() {
    let rig = Rig::with(Limits { said: 16 << 10, ..Limits::default() });
    let body = json!({"to": "bob", "body": "x".repeat(3 << 10)});
    for _ in 0..3 {
        sent(&rig, &rig.ann, &body);
    }
    let objective = json!({"title": "t", "outcome": "o", "assignee": "bob", "body": "x".repeat(4000)});
    for (path, body) in [
        ("/push", &body),
        ("/objectives", &objective),
        ("/channels", &json!({"slug": "a", "more": "x".repeat(4000)})),
    ] {
        let reply = rig.call("POST", path, &rig.ann, &body.to_string());
        let wait: u64 = reply.headers.get("retry-after").unwrap().parse().unwrap();
        assert_eq!((reply.status, (1..=24 * 3600).contains(&wait)), (429, true), "{path} {wait}");
        let said = format!("you have said as much as a member may within a day: wait {wait} s");
        assert_eq!(reply.error(), said, "{path}");
    }
    assert_eq!(bodies(&rig.get("/history")).len(), 3);
    // Others may, and whoever reads says nothing.
    sent(&rig, &rig.bob, &json!({"to": "ann", "body": "x"}));
    assert_eq!(rig.get("/briefing").status, 200);
}

#[test]
fn what_the_broker_has_to_tell_counts_for_whoever_makes_it() {
    let rig = Rig::with(Limits { said: 16 << 10, ..Limits::default() });
    let watchers: Vec<String> = (0..8).map(|n| format!("w{n}")).collect();
    watchers.iter().for_each(|name| drop(rig.add(name, &[])));
    let create = |watchers: &[String]| {
        let new = json!({"title": "t", "outcome": "o", "assignee": "bob", "watchers": watchers});
        rig.call("POST", "/objectives", &rig.ann, &new.to_string()).status
    };
    assert_eq!((create(&watchers), create(&watchers), create(&[])), (200, 429, 200));
}
