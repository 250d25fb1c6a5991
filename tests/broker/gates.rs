//! Who gets what.
use serde_json::json;

use crate::corpus;
use crate::rig::{Rig, request, upload, wait_for};

#[test]
fn the_corpus_of_activity_is_right() {
    corpus::play("activity");
}

#[test]
fn everyone_gets_what_is_theirs() {
    let rig = Rig::new();
    let (ann, bob) = (rig.ann.clone(), rig.bob.clone());
    let one = upload([1]);
    let (none, many) = (upload([]), upload(1..=501));
    for (status, method, path, token, body) in [
        (200, "GET", "/healthz", "", ""),
        (200, "HEAD", "/healthz", "", ""),
        (405, "POST", "/healthz", "", ""),
        (401, "GET", "/briefing", "", ""),
        (401, "GET", "/briefing", "ac7_wrong", ""),
        (401, "GET", "/briefing", &ann[..46], ""),
        (200, "GET", "/briefing", &ann, ""),
        (401, "GET", "/roster", "", ""),
        (200, "GET", "/roster", &bob, ""),
        (404, "GET", "/nope", &ann, ""),
        (404, "GET", "/healthz/x", "", ""),
        (404, "GET", "/healthz/", "", ""),
        (400, "GET", "/%ff", "", ""),
        (401, "POST", "/members/ann/activity", "", &one),
        (201, "POST", "/members/ann/activity", &ann, &one),
        (403, "POST", "/members/ann/activity", &bob, &one),
        (403, "POST", "/members/bob/activity", &ann, &one),
        (403, "POST", "/members/zed/activity", &ann, &one),
        (400, "POST", "/members/ann/activity", &ann, &none),
        (400, "POST", "/members/ann/activity", &ann, &many),
        (400, "POST", "/members/ann/activity", &ann, "{bad"),
        (400, "POST", "/members/ann/activity", &ann, ""),
        (400, "POST", "/members/ann/activity", &ann, "[]"),
        (405, "DELETE", "/members/ann/activity", &ann, ""),
        (200, "GET", "/members/ann/activity", &ann, ""),
        (200, "GET", "/members/bob/activity", &ann, ""),
        (200, "GET", "/members/zed/activity", &ann, ""),
        (200, "GET", "/members/bob/activity", &bob, ""),
        (403, "GET", "/members/ann/activity", &bob, ""),
        (400, "GET", "/members/ann/activity?kind=zzz", &ann, ""),
        (400, "GET", "/members/ann/activity?from=yesterday", &ann, ""),
        (400, "GET", "/members/ann/activity?cursor=%20", &ann, ""),
        (200, "GET", "/members/ann/activity/1", &ann, ""),
        (403, "GET", "/members/ann/activity/1", &bob, ""),
        (404, "GET", "/members/bob/activity/1", &ann, ""),
        (404, "GET", "/members/ann/activity/999", &ann, ""),
        (404, "GET", "/members/ann/activity/x", &ann, ""),
    ] {
        let reply = rig.call(method, path, token, body);
        let what = format!("{method} {path} {body:.40}");
        assert_eq!(reply.status, status, "{what}: {}", reply.error());
        assert_eq!(reply.headers.get("x-ac7-protocol"), Some("1"), "{what}");
        assert_eq!(reply.error().contains(' '), status >= 400, "{what}: {}", reply.error());
    }
}

#[test]
fn a_refusal_says_what_is_missing() {
    let rig = Rig::new();
    let read = rig.call("GET", "/members/ann/activity", &rig.bob, "");
    assert_eq!(read.error(), "reading another member's activity requires the activity.read permission");
    let write = rig.call("POST", "/members/bob/activity", &rig.ann, &upload([1]));
    assert_eq!(write.error(), "adding to bob's activity is for bob alone");
    assert_eq!(rig.call("POST", "/roster", &rig.ann, "").headers.get("allow"), Some("GET"));
    assert_eq!(rig.call("GET", "/roster", "", "").headers.get("www-authenticate"), Some("Bearer"));

    let body = json!({"events": [
        {"kind": "objective_open", "ts": 1, "objectiveId": "o"},
        {"kind": "objective_open", "ts": "now", "objectiveId": "o"},
    ]});
    let invalid = rig.call("POST", "/members/ann/activity", &rig.ann, &body.to_string());
    assert_eq!(invalid.status, 400);
    assert_eq!(invalid.json()["details"][0]["path"], "events[1].ts");
    assert_eq!(rig.get("/members/ann/activity").json()["activity"], json!([]), "a part of it was stored");
}

#[test]
fn the_scheme_of_the_token_is_read_without_case_and_no_other_is_taken() {
    let rig = Rig::new();
    for (header, want) in [
        (format!("Authorization: bearer {}\r\n", rig.ann), 200),
        (format!("authorization: BEARER  {}\r\n", rig.ann), 200),
        (format!("Authorization: Basic {}\r\n", rig.ann), 401),
        (format!("Authorization: {}\r\n", rig.ann), 401),
        (format!("Cookie: ac7_session={}\r\n", rig.ann), 401),
        ("Authorization: Bearer \r\n".to_string(), 401),
    ] {
        assert_eq!(rig.call_with("GET", "/briefing", "", "", &header).status, want, "{header}");
    }
}

#[test]
fn the_briefing_has_the_shape_of_the_contract() {
    let rig = Rig::new();
    let briefing = rig.call("GET", "/briefing", &rig.bob, "").json();
    assert_eq!((&briefing["name"], &briefing["openObjectives"]), (&json!("bob"), &json!([])));
    assert_eq!(briefing["role"], json!({"title": "engineer", "description": "builds"}));
    assert_eq!(briefing["permissions"], json!([]));
    let team = &briefing["team"];
    assert_eq!((&team["name"], &team["context"]), (&json!("T"), &json!("")));
    assert_eq!(team["permissionPresets"]["admin"].as_array().unwrap().len(), 7);
    let mates = briefing["teammates"].as_array().unwrap();
    let names: Vec<_> = mates.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ann", "bob"]);
    assert_eq!(mates[0].as_object().unwrap().len(), 3, "more than everybody may see: {}", mates[0]);
    let prompt = briefing["instructions"].as_str().unwrap();
    for part in ["You are bob, engineer of the team T. builds", "- ann: admin", "Be quick."] {
        assert!(prompt.contains(part), "{part} is not in {prompt}");
    }
}

#[test]
fn the_roster_shows_who_was_here() {
    let rig = Rig::new();
    rig.call("GET", "/briefing", &rig.bob, "");
    let roster = rig.get("/roster").json();
    assert_eq!(roster["teammates"].as_array().unwrap().len(), 2);
    let connected = roster["connected"].as_array().unwrap();
    assert_eq!(connected.len(), 2);
    assert_eq!((&connected[1]["name"], &connected[1]["connected"]), (&json!("bob"), &json!(0)));
    assert_eq!(connected[1]["role"]["title"], "engineer");
    assert!(connected[1]["lastSeen"].as_u64() >= connected[1]["createdAt"].as_u64());
}

#[test]
fn what_was_uploaded_is_listed_newest_first() {
    let rig = Rig::new();
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(1..=5)).json()["accepted"], 5);
    let times = |query: &str| -> Vec<u64> {
        let list = rig.get(&format!("/members/ann/activity{query}")).json();
        list["activity"].as_array().unwrap().iter().map(|r| r["event"]["ts"].as_u64().unwrap()).collect()
    };
    for (query, want) in [
        ("", vec![5, 4, 3, 2, 1]),
        ("?limit=2", vec![5, 4]),
        ("?limit=0", vec![]),
        ("?limit=abc", vec![5, 4, 3, 2, 1]),
        ("?limit=99999", vec![5, 4, 3, 2, 1]),
        ("?from=2&to=4", vec![4, 3, 2]),
        ("?kind=objective_close", vec![]),
        ("?kind=objective_close&kind=objective_open&to=1", vec![1]),
        ("?objective=o3", vec![5, 4, 3]),
    ] {
        assert_eq!(times(query), want, "{query}");
    }
    let row = &rig.get("/members/ann/activity?limit=1").json()["activity"][0];
    assert_eq!((&row["id"], &row["memberName"]), (&json!(5), &json!("ann")));
    assert!(row["createdAt"].as_u64().unwrap() > 1_600_000_000_000);
    assert_eq!(&rig.get("/members/ann/activity/5").json(), row);
}

#[test]
fn a_cursor_leads_through_all_rows_once() {
    let rig = Rig::new();
    rig.call("POST", "/members/ann/activity", &rig.ann, &upload([7; 7]));
    let (mut ids, mut query) = (Vec::new(), String::new());
    loop {
        let page = rig.get(&format!("/members/ann/activity?limit=3{query}")).json();
        ids.extend(page["activity"].as_array().unwrap().iter().map(|r| r["id"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => query = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids, [7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn a_list_of_many_megabytes_arrives_whole() {
    let rig = Rig::new();
    let texts: Vec<String> = (0..9).map(|i| format!("{i}").repeat(400_000)).collect();
    for (ts, text) in texts.iter().enumerate() {
        let entry = json!({
            "kind": "anthropic_messages", "startedAt": 1, "endedAt": 2, "response": null,
            "request": {"model": "m", "maxTokens": 1, "temperature": null, "system": text, "messages": [], "tools": null},
        });
        let event = json!({"kind": "llm_exchange", "ts": ts, "duration": 1, "entry": entry});
        let stored =
            rig.call("POST", "/members/ann/activity", &rig.ann, &json!({"events": [event]}).to_string());
        assert_eq!(stored.status, 201);
    }
    let check = |list: &serde_json::Value, from: usize, to: usize| {
        let rows = list["activity"].as_array().unwrap();
        let got: Vec<_> =
            rows.iter().map(|r| r["event"]["entry"]["request"]["system"].as_str().unwrap()).collect();
        let want: Vec<_> = texts[from..to].iter().rev().map(String::as_str).collect();
        assert!(got == want, "{} rows of {from} to {to}", got.len());
    };
    let whole = rig.get("/members/ann/activity");
    assert_eq!(whole.headers.get("transfer-encoding"), Some("chunked"));
    check(&whole.json(), 0, 9);
    assert!(whole.json()["next"].is_null());

    let five = rig.get("/members/ann/activity?limit=5").json();
    check(&five, 4, 9);
    let cursor = five["next"].as_str().unwrap();
    check(&rig.get(&format!("/members/ann/activity?cursor={cursor}")).json(), 0, 4);

    // A client that knows no chunks gets the same, ended by the connection.
    let mut old = rig.connect();
    old.send(&format!("GET /members/ann/activity HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n", rig.ann));
    let old = old.reply("GET").unwrap();
    assert_eq!(old.headers.get("transfer-encoding"), None);
    check(&old.json(), 0, 9);
}

#[test]
fn a_repeated_upload_is_stored_once() {
    let rig = Rig::new();
    let post = |token: &str, name: &str, key: &str| {
        let header = format!("Idempotency-Key: {key}\r\n");
        rig.call_with("POST", &format!("/members/{name}/activity"), token, &upload([1, 2]), &header)
    };
    for _ in 0..2 {
        let reply = post(&rig.ann, "ann", "k-1");
        assert_eq!((reply.status, reply.json()["accepted"].as_u64()), (201, Some(2)));
    }
    assert_eq!(post(&rig.bob, "bob", "k-1").status, 201, "another member's key is another key");
    assert_eq!(post(&rig.ann, "ann", "k-2").status, 201);
    assert_eq!(rig.get("/members/ann/activity").json()["activity"].as_array().unwrap().len(), 4);
    assert_eq!(rig.get("/members/bob/activity").json()["activity"].as_array().unwrap().len(), 2);
    for bad in ["", "a b", &"k".repeat(65)] {
        assert_eq!(post(&rig.ann, "ann", bad).status, 400, "{bad}");
    }
}

#[test]
fn older_clients_get_kinds_they_know() {
    let rig = Rig::new();
    let entry = json!({
        "kind": "openai_chat", "startedAt": 1, "endedAt": 2, "host": "api.openai.com",
        "request": {"model": "gpt-x", "maxTokens": null, "temperature": null, "system": null,
                    "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "tools": null},
        "response": {"stopReason": "stop", "stopSequence": null, "status": 200, "usage": null,
                     "messages": [{"role": "assistant", "content": [{"type": "text", "text": "world"}]}]},
    });
    let event = json!({"kind": "llm_exchange", "ts": 2, "duration": 1, "entry": entry});
    rig.call("POST", "/members/ann/activity", &rig.ann, &json!({"events": [event]}).to_string());

    let typed = &rig.get("/members/ann/activity?typed=all").json()["activity"][0]["event"];
    assert_eq!((&typed["kind"], &typed["entry"]["kind"]), (&json!("llm_exchange"), &json!("openai_chat")));
    for path in ["/members/ann/activity", "/members/ann/activity/1"] {
        let answer = rig.get(path).json();
        let event = if path.ends_with('1') { &answer["event"] } else { &answer["activity"][0]["event"] };
        assert_eq!((&event["kind"], &event["entry"]["kind"]), (&json!("opaque_http"), &json!("opaque_http")));
        assert_eq!(
            (&event["entry"]["host"], &event["entry"]["status"]),
            (&json!("api.openai.com"), &json!(200))
        );
        let preview = |name: &str| event["entry"][name].as_str().unwrap().to_string();
        assert!(preview("requestBodyPreview").contains("hello"), "{event}");
        assert!(preview("responseBodyPreview").contains("world"), "{event}");
    }
}

#[test]
fn the_log_has_each_request_and_no_secret() {
    let rig = Rig::new();
    let spoof = "X-AC7-Peer: 6.6.6.6\r\n";
    let body = upload([1]).replace("o1", "secret-body");
    let path = "/members/ann/activity?q=secret-query";
    let reply = rig.call_with("POST", path, &rig.ann, &body, spoof);
    rig.call("GET", "/members/ann/activity/secret-path", &rig.bob, "");
    // A line is written after its answer.
    wait_for("two lines", || rig.log.events("request").len() == 2);
    let lines = rig.log.events("request");
    let (first, id) = (&lines[0], reply.headers.get("x-request-id").unwrap());
    assert_eq!((&first["id"], &first["member"]), (&json!(id), &json!("ann")));
    assert_eq!((&first["route"], &first["status"]), (&json!("POST /members/:name/activity"), &json!(201)));
    assert_eq!(first["peer"], "127.0.0.1");
    assert!(first["us"].is_u64());
    let text = rig.log.text();
    for secret in [&rig.ann, &rig.bob, "secret-body", "secret-query", "secret-path", "6.6.6.6"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn a_connection_serves_pipelined_requests_in_order() {
    let rig = Rig::new();
    let mut client = rig.connect();
    let post = |ts| request("POST", "/members/ann/activity", &rig.ann, &upload([ts]), "");
    let all: String = (1..=20).map(post).collect();
    client.send(&all);
    client.send(&request("GET", "/members/ann/activity?limit=1", &rig.ann, "", "Connection: close\r\n"));
    for _ in 1..=20 {
        assert_eq!(client.reply("POST").unwrap().status, 201);
    }
    let last = client.reply("GET").unwrap();
    assert_eq!(last.headers.get("connection"), Some("close"));
    assert_eq!(last.json()["activity"][0]["event"]["ts"], 20);
    assert!(client.is_closed());
}

#[test]
fn health_tells_how_much_there_is_but_not_of_whom() {
    let rig = Rig::new();
    let health = |query: &str| rig.call("GET", &format!("/healthz{query}"), "", "").json();
    assert_eq!(health("").as_object().unwrap().keys().collect::<Vec<_>>(), ["status", "version"]);
    let mut stream = rig.connect();
    stream.send(&request("GET", "/members/ann/activity/stream", &rig.ann, "", ""));
    wait_for("the stream", || health("?verbose")["streams"] == 1);
    assert_eq!(rig.call("GET", "/healthz", "", "").status, 200);
    let refused = health("?verbose")["requestsRefused"].as_u64().unwrap();
    rig.status_of(b"hello world\r\n\r\n");
    let told = health("?verbose=1");
    assert_eq!(told["requestsRefused"].as_u64(), Some(refused + 1));
    assert!(told["connections"].as_u64() >= Some(2), "the stream and this one: {told}");
    let numbers = told.as_object().unwrap().iter().filter(|(_, value)| value.is_u64()).count();
    assert_eq!(numbers + 3, told.as_object().unwrap().len(), "{told}");
    for database in ["main", "activity"] {
        assert!(told["databases"][database].as_u64() > Some(0), "{told}");
    }
    drop(stream);
    wait_for("its end", || health("?verbose")["streams"] == 0);
}
