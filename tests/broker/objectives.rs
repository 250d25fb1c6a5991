//! Objectives: who may do what, what becomes of them, who hears of it.
use serde_json::{Value, json};

use crate::events::Stream;
use crate::rig::{Reply, Rig};

/// A broker with some more members, by what they may do.
struct Team {
    rig: Rig,
    /// May create; the originator of what is made here.
    cat: String,
    /// Watches.
    dan: String,
    /// Nothing at all.
    eve: String,
    /// May cancel, reassign and choose watchers.
    max: String,
}

const NAMES: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "max"];

impl Team {
    fn new() -> Team {
        let rig = Rig::new();
        let (cat, dan, eve) =
            (rig.add("cat", &["objectives.create"]), rig.add("dan", &[]), rig.add("eve", &[]));
        let max = rig.add("max", &["objectives.cancel", "objectives.reassign", "objectives.watch"]);
        Team { rig, cat, dan, eve, max }
    }

    fn token(&self, name: &str) -> &str {
        match name {
            "ann" => &self.rig.ann,
            "bob" => &self.rig.bob,
            "cat" => &self.cat,
            "dan" => &self.dan,
            "eve" => &self.eve,
            "max" => &self.max,
            _ => "",
        }
    }

    fn ask(&self, who: &str, method: &str, path: &str, body: &Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.rig.call(method, path, self.token(who), &body)
    }

    /// Cat asks bob for something, and dan watches. Gives the id.
    fn objective(&self) -> String {
        let body = json!({"title": "T", "outcome": "O", "assignee": "bob", "body": "B", "watchers": ["dan"]});
        let made = self.ask("cat", "POST", "/objectives", &body);
        assert_eq!(made.status, 200, "{}", made.error());
        made.json()["id"].as_str().unwrap().to_string()
    }

    /// The same in a state.
    fn in_state(&self, state: &str) -> String {
        let id = self.objective();
        let (path, who) = (format!("/objectives/{id}"), "bob");
        let reply = match state {
            "active" => return id,
            "blocked" => self.ask(who, "PATCH", &path, &json!({"status": "blocked", "blockReason": "r"})),
            "done" => self.ask(who, "POST", &format!("{path}/complete"), &json!({"result": "R"})),
            _ => self.ask("cat", "POST", &format!("{path}/cancel"), &Value::Null),
        };
        assert_eq!((reply.status, &reply.json()["status"]), (200, &json!(state)), "{}", reply.error());
        id
    }

    fn get(&self, id: &str) -> Value {
        self.ask("ann", "GET", &format!("/objectives/{id}"), &Value::Null).json()
    }

    fn inbox(&self, name: &str) -> Stream {
        let path = format!("/subscribe?name={name}");
        Stream::open(&self.rig, &path, self.token(name), "")
    }
}

/// Every action, its method, the end of its path, a good body, and what the state machine calls it.
fn actions() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    vec![
        ("PATCH", "", json!({"status": "blocked", "blockReason": "why"}), "blocked"),
        ("PATCH", "", json!({"status": "active"}), "unblocked"),
        ("POST", "/complete", json!({"result": "there"}), "completed"),
        ("POST", "/cancel", json!({"reason": "no"}), "cancelled"),
        ("POST", "/reassign", json!({"to": "eve", "note": "n"}), "reassigned"),
        ("POST", "/watchers", json!({"add": ["eve"], "remove": ["dan"]}), "given other watchers"),
    ]
}

#[test]
fn requests_and_answers_are_those_of_the_corpus() {
    crate::corpus::play("objectives");
}

#[test]
fn every_gate_has_two_sides() {
    let team = Team::new();
    let new = || json!({"title": "T", "outcome": "O", "assignee": "bob"});
    // Who may, in the order of NAMES: ann manages, bob is the assignee, cat the originator, dan watches, max holds the
    // permissions about others' objectives.
    for (method, path, body, may) in [
        ("POST", "/objectives", new(), [1, 0, 1, 0, 0, 0]),
        ("GET", "/objectives/:id", Value::Null, [1, 1, 1, 1, 0, 0]),
        ("GET", "/history?objective=:id", Value::Null, [1, 1, 1, 1, 0, 0]),
        ("POST", "/objectives/:id/discuss", json!({"body": "x"}), [1, 1, 1, 1, 0, 0]),
        ("PATCH", "/objectives/:id", json!({"status": "active"}), [1, 1, 0, 0, 0, 0]),
        ("POST", "/objectives/:id/complete", json!({"result": "R"}), [0, 1, 0, 0, 0, 0]),
        ("POST", "/objectives/:id/cancel", json!({}), [1, 0, 1, 0, 0, 1]),
        ("POST", "/objectives/:id/reassign", json!({"to": "eve"}), [1, 0, 0, 0, 0, 1]),
        ("POST", "/objectives/:id/watchers", json!({"add": ["eve"]}), [1, 0, 1, 0, 0, 1]),
        ("GET", "/objectives?assignee=eve", Value::Null, [1, 0, 0, 0, 1, 0]),
    ] {
        for (who, may) in NAMES.into_iter().zip(may) {
            let id = team.objective();
            let before = team.get(&id);
            let reply = team.ask(who, method, &path.replace(":id", &id), &body);
            let want = if may == 1 { 200 } else { 403 };
            assert_eq!(reply.status, want, "{who}: {method} {path}: {}", reply.error());
            if want == 403 {
                assert_eq!(team.get(&id), before, "{who}: {method} {path} changed something");
            }
        }
        let id = team.objective();
        assert_eq!(team.ask("", method, &path.replace(":id", &id), &body).status, 401, "{method} {path}");
    }
    let refused = team.ask("dan", "POST", "/objectives", &new());
    assert_eq!(refused.error(), "creating objectives requires the objectives.create permission");
    let refused = team.ask("dan", "POST", &format!("/objectives/{}/cancel", team.objective()), &json!({}));
    assert_eq!(refused.error(), "cancelling another's objective requires the objectives.cancel permission");
}

#[test]
fn an_objective_goes_only_where_its_state_allows() {
    let team = Team::new();
    for state in ["active", "blocked", "done", "cancelled"] {
        for (method, end, body, tried) in actions() {
            let id = team.in_state(state);
            let before = team.get(&id);
            // The one who may do it: the assignee his own, whoever manages all but complete.
            let who = if end == "/complete" { "bob" } else { "ann" };
            let reply = team.ask(who, method, &format!("/objectives/{id}{end}"), &body);
            let open = matches!(state, "active" | "blocked");
            assert_eq!(
                reply.status,
                if open { 200 } else { 409 },
                "{tried} while {state}: {}",
                reply.error()
            );
            let after = team.get(&id);
            if !open {
                assert_eq!(reply.error(), format!("the objective is {state}: it cannot be {tried}"));
                assert_eq!(after, before, "{tried} while {state}");
                continue;
            }
            let objective = &after["objective"];
            assert_eq!(&reply.json(), objective);
            let status = objective["status"].as_str().unwrap();
            assert_eq!(objective["blockReason"].is_null(), status != "blocked", "{tried}");
            assert_eq!(objective["result"].is_null(), status != "done", "{tried}");
            assert_eq!(objective["completedAt"].is_null(), status != "done", "{tried}");
        }
    }
}

#[test]
fn what_breaks_a_rule_is_refused_with_its_place() {
    let team = Team::new();
    let id = team.objective();
    let path = |end: &str| format!("/objectives/{id}{end}");
    let new = |name: &str, value: Value| {
        let mut body = json!({"title": "T", "outcome": "O", "assignee": "bob"});
        body[name] = value;
        body
    };
    for (method, path, body, place) in [
        ("POST", "/objectives".to_string(), new("outcome", Value::Null), "outcome"),
        ("POST", "/objectives".to_string(), new("title", json!("x".repeat(201))), "title"),
        ("POST", "/objectives".to_string(), new("assignee", json!("zed")), "assignee"),
        ("POST", "/objectives".to_string(), new("watchers", json!(["bob", "zed"])), "watchers[1]"),
        (
            "POST",
            "/objectives".to_string(),
            new("attachments", json!([{"path": "x"}])),
            "attachments[0].path",
        ),
        ("PATCH", path(""), json!({"status": "blocked"}), "blockReason"),
        ("PATCH", path(""), json!({"status": "done"}), "status"),
        ("POST", path("/cancel"), json!({"reason": 1}), "reason"),
        ("POST", path("/reassign"), json!({"to": "zed"}), "to"),
        ("POST", path("/reassign"), json!({}), "to"),
        ("POST", path("/watchers"), json!({"add": ["zed"]}), "add[0]"),
        ("POST", path("/discuss"), json!({"body": "x".repeat(16385)}), "body"),
        ("GET", "/objectives?status=open".to_string(), Value::Null, "status"),
        ("GET", "/objectives?before=nope".to_string(), Value::Null, "before"),
    ] {
        let reply = team.ask("ann", method, &path, &body);
        assert_eq!(reply.status, 400, "{method} {path}");
        assert_eq!(reply.json()["details"][0]["path"], place, "{method} {path}: {}", reply.error());
    }
    assert_eq!(team.ask("bob", "POST", &path("/complete"), &Value::Null).status, 400);
    assert_eq!(team.ask("ann", "POST", &path("/watchers"), &json!({"remove": []})).status, 400);
    assert_eq!(team.rig.call("PATCH", &path(""), &team.rig.bob, "{nope").status, 400);
    for (method, end, body, _) in actions() {
        assert_eq!(team.ask("ann", method, &format!("/objectives/nope{end}"), &body).status, 404, "{end}");
    }
    for path in ["/objectives/nope", "/history?objective=nope"] {
        assert_eq!(team.ask("ann", "GET", path, &Value::Null).status, 404, "{path}");
    }
    let lists = team.ask("ann", "GET", &format!("/history?objective={id}&with=bob"), &Value::Null);
    assert_eq!(lists.status, 400);
    assert_eq!(team.get(&id)["events"].as_array().unwrap().len(), 2, "something of it was done");
}

#[test]
fn those_concerned_hear_of_every_step_once() {
    let team = Team::new();
    let mut inboxes = NAMES.map(|name| (name, team.inbox(name)));
    let id = team.objective();
    let path = |end: &str| format!("/objectives/{id}{end}");
    let done = |who: &str, method: &str, end: &str, body: Value| {
        let reply = team.ask(who, method, &path(end), &body);
        assert_eq!(reply.status, 200, "{who} {end}: {}", reply.error());
    };
    done("bob", "PATCH", "", json!({"status": "blocked", "blockReason": "no key"}));
    done("bob", "PATCH", "", json!({"status": "blocked", "blockReason": "no key"}));
    done("ann", "PATCH", "", json!({"status": "active"}));
    done("dan", "POST", "/discuss", json!({"body": "which key?", "title": "q"}));
    done("max", "POST", "/watchers", json!({"add": ["eve"], "remove": ["dan"]}));
    done("max", "POST", "/reassign", json!({"to": "eve", "note": "n"}));
    done("eve", "POST", "/complete", json!({"result": "out"}));
    // A last one that all get, so that nobody waits for what does not come.
    assert_eq!(team.ask("ann", "POST", "/push", &json!({"body": "end"})).status, 200);
    let all = [
        ("cat", "assigned"),
        ("cat", "watcher_added"),
        ("bob", "blocked"),
        ("ann", "unblocked"),
        ("dan", ""),
        ("max", "watcher_added"),
        ("max", "watcher_removed"),
        ("max", "reassigned"),
        ("eve", "completed"),
    ];
    let until_taken_off = [&all[..5], &all[6..7]].concat();
    for (name, stream) in &mut inboxes {
        let mut heard = Vec::new();
        loop {
            let message = stream.row().1;
            if message["body"] == "end" {
                break;
            }
            assert_eq!(
                (&message["to"], &message["data"]["thread"]),
                (&Value::Null, &json!(format!("obj:{id}")))
            );
            assert_eq!(message["data"]["actor"], message["from"]);
            heard.push((
                message["from"].as_str().unwrap().to_string(),
                message["data"]["event"].as_str().unwrap_or_default().to_string(),
            ));
        }
        let heard: Vec<_> = heard.iter().map(|(from, event)| (from.as_str(), event.as_str())).collect();
        let want = match *name {
            // ann manages, cat asked for it.
            "ann" | "cat" => &all[..],
            // Up to the moment it went to another, that one included.
            "bob" => &all[..8],
            // Dan is taken off with the same request that puts eve on.
            "dan" => &until_taken_off[..],
            // From the moment eve was put on.
            "eve" => &all[5..],
            // Max does things, but has no part in it.
            _ => &[],
        };
        assert_eq!(heard, want, "{name}");
    }
    // In the history there is what one was told or did, and for who had the objective what became of it.
    let told = |name: &str| {
        let reply = team.ask(name, "GET", "/history?limit=100", &Value::Null);
        reply.json()["messages"].as_array().unwrap().len() - 1
    };
    assert_eq!(NAMES.map(told), [9, 9, 9, 6, 4, 3]);
    let thread = team.ask("ann", "GET", &format!("/history?objective={id}"), &Value::Null);
    assert_eq!(thread.json()["messages"].as_array().unwrap().len(), 9, "each once");

    let events = team.get(&id)["events"].clone();
    let kinds: Vec<_> = events.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, all.iter().map(|(_, kind)| *kind).filter(|kind| !kind.is_empty()).collect::<Vec<_>>());
    assert_eq!(events[6]["payload"], json!({"from": "bob", "to": "eve", "note": "n"}));
}

#[test]
fn lists_have_what_one_takes_part_in() {
    let team = Team::new();
    let blocked = team.in_state("blocked");
    let active = team.objective();
    let done = team.in_state("done");
    let body = json!({"title": "own", "outcome": "O", "assignee": "cat"});
    let own = team.ask("cat", "POST", "/objectives", &body).json()["id"].as_str().unwrap().to_string();
    let list = |who: &str, query: &str| {
        let reply = team.ask(who, "GET", &format!("/objectives{query}"), &Value::Null);
        assert_eq!(reply.status, 200, "{who} {query}: {}", reply.error());
        let list = reply.json()["objectives"].as_array().unwrap().clone();
        list.iter().map(|o| o["id"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let (a, b, d, o) = (&active, &blocked, &done, &own);
    for (who, query, want) in [
        ("ann", "", vec![o, d, a, b]),
        ("ann", "?status=active", vec![o, a]),
        ("ann", "?assignee=bob", vec![d, a, b]),
        ("ann", "?assignee=bob&status=done", vec![d]),
        ("ann", "?assignee=zed", vec![]),
        ("bob", "", vec![d, a, b]),
        ("bob", "?assignee=bob&status=blocked", vec![b]),
        ("cat", "", vec![o, d, a, b]),
        ("cat", "?assignee=cat", vec![o]),
        ("dan", "", vec![d, a, b]),
        ("dan", "?status=active", vec![a]),
        ("dan", "?assignee=dan", vec![]),
        ("eve", "", vec![]),
        ("max", "?status=active", vec![]),
        // Pages, for those who ask for them.
        ("ann", "?limit=3", vec![o, d, a]),
        ("ann", &format!("?limit=3&before={a}"), vec![b]),
        ("ann", &format!("?before={o}&status=done"), vec![d]),
        ("dan", &format!("?limit=1&before={o}"), vec![d]),
        ("ann", "?limit=0", vec![]),
        ("ann", "?limit=abc", vec![o, d, a, b]),
        ("ann", "?limit=99999", vec![o, d, a, b]),
    ] {
        assert_eq!(list(who, query), want.into_iter().cloned().collect::<Vec<_>>(), "{who} {query}");
    }
    // What is open is in the briefing: what is active, then what is blocked.
    let open = |who: &str| {
        let briefing = team.ask(who, "GET", "/briefing", &Value::Null).json();
        let open = briefing["openObjectives"].as_array().unwrap().clone();
        open.iter().map(|o| o["id"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(open("bob"), [active.clone(), blocked.clone()]);
    assert_eq!(open("cat"), std::slice::from_ref(&own));
    assert_eq!(open("dan"), [""; 0]);
    // One that is reassigned is on the other's plate.
    assert_eq!(
        team.ask("max", "POST", &format!("/objectives/{active}/reassign"), &json!({"to": "eve"})).status,
        200
    );
    assert_eq!((open("bob"), open("eve")), (vec![blocked.clone()], vec![active.clone()]));
    assert_eq!(list("bob", ""), [done.clone(), blocked.clone()]);
}

#[test]
fn of_two_who_act_at_the_same_time_one_is_told_no() {
    let team = Team::new();
    for _ in 0..10 {
        let id = team.objective();
        let (complete, cancel) = (format!("/objectives/{id}/complete"), format!("/objectives/{id}/cancel"));
        let (a, b) = std::thread::scope(|scope| {
            let one = scope.spawn(|| team.ask("bob", "POST", &complete, &json!({"result": "R"})).status);
            let two = scope.spawn(|| team.ask("cat", "POST", &cancel, &Value::Null).status);
            (one.join().unwrap(), two.join().unwrap())
        });
        assert_eq!((a.min(b), a.max(b)), (200, 409));
        let after = team.get(&id);
        assert_eq!(after["events"].as_array().unwrap().len(), 3);
        assert_eq!(after["objective"]["status"], if a == 200 { "done" } else { "cancelled" });
    }
}

#[test]
fn what_a_deleted_member_was_asked_stays_asked_of_its_name() {
    let team = Team::new();
    let id = team.objective();
    for name in ["bob", "dan", "cat"] {
        assert_eq!(team.ask("ann", "DELETE", &format!("/members/{name}"), &Value::Null).status, 204);
    }
    let objective = team.get(&id)["objective"].clone();
    assert_eq!((&objective["assignee"], &objective["originator"]), (&json!("bob"), &json!("cat")));
    assert_eq!(objective["watchers"], json!([]));
    // Those who are gone are not told, and not counted.
    assert_eq!(
        team.ask("ann", "PATCH", &format!("/objectives/{id}"), &json!({"status": "active"})).status,
        200
    );
    assert_eq!(
        team.ask("ann", "POST", &format!("/objectives/{id}/reassign"), &json!({"to": "eve"})).status,
        200
    );
    assert_eq!(
        team.ask("eve", "POST", &format!("/objectives/{id}/complete"), &json!({"result": "R"})).status,
        200
    );
}

#[test]
fn a_long_list_comes_in_pieces_and_whole() {
    let team = Team::new();
    let body = "x".repeat(4096);
    // More than one piece, with texts that have to be escaped.
    let ids: Vec<Value> = (0..100)
        .map(|n| {
            let new = json!({"title": format!("{n}"), "outcome": "\"\n", "assignee": "bob", "body": body});
            team.ask("cat", "POST", "/objectives", &new).json()["id"].clone()
        })
        .collect();
    let reply = team.ask("ann", "GET", "/objectives", &Value::Null);
    let found: Vec<Value> =
        reply.json()["objectives"].as_array().unwrap().iter().rev().map(|o| o["id"].clone()).collect();
    assert!(reply.body.len() > 256 << 10 && found == ids, "{} of 100", found.len());
}

#[test]
fn objectives_outlive_the_broker() {
    let mut team = Team::new();
    let id = team.in_state("blocked");
    let before = team.get(&id);
    team.rig.stop();
    team.rig.start();
    assert_eq!(team.get(&id), before);
}
