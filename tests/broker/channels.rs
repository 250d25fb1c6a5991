//! Channels: who is in them, who reads what is said there.
use serde_json::{Value, json};

use crate::events::Stream;
use crate::rig::{Reply, Rig};

struct Team {
    rig: Rig,
    cat: String,
    dan: String,
}

impl Team {
    fn new() -> Team {
        let rig = Rig::new();
        let (cat, dan) = (rig.add("cat", &[]), rig.add("dan", &[]));
        Team { rig, cat, dan }
    }

    fn ask(&self, who: &str, method: &str, path: &str, body: &Value) -> Reply {
        let token = match who {
            "ann" => &self.rig.ann,
            "bob" => &self.rig.bob,
            "cat" => &self.cat,
            "dan" => &self.dan,
            _ => "",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.rig.call(method, path, token, &body)
    }

    fn done(&self, who: &str, method: &str, path: &str, body: &Value) -> Value {
        let reply = self.ask(who, method, path, body);
        assert!(matches!(reply.status, 200 | 201), "{who}: {method} {path}: {}", reply.error());
        reply.json()
    }

    /// Bob's channel, with cat in it; its id.
    fn channel(&self, slug: &str) -> String {
        let id =
            self.done("bob", "POST", "/channels", &json!({"slug": slug}))["id"].as_str().unwrap().to_string();
        self.done("cat", "POST", &format!("/channels/{slug}/members"), &Value::Null);
        id
    }

    fn say(&self, who: &str, channel: &str, body: &str) -> Reply {
        self.ask(who, "POST", "/push", &json!({"body": body, "data": {"thread": format!("chan:{channel}")}}))
    }

    fn history(&self, who: &str, query: &str) -> Vec<String> {
        let list = self.done(who, "GET", &format!("/history{query}"), &Value::Null);
        let list = list["messages"].as_array().unwrap();
        list.iter().map(|m| m["body"].as_str().unwrap().to_string()).collect()
    }

    fn roles(&self, slug: &str) -> Vec<(String, String)> {
        let channel = self.done("ann", "GET", &format!("/channels/{slug}"), &Value::Null);
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let members = channel["members"].as_array().unwrap();
        assert_eq!(channel["channel"]["memberCount"], members.len());
        members.iter().map(|m| (text(&m["memberName"]), text(&m["role"]))).collect()
    }
}

#[test]
fn requests_and_answers_are_those_of_the_corpus() {
    crate::corpus::play("channels");
}

#[test]
fn every_gate_has_two_sides() {
    let team = Team::new();
    // Ann manages members, bob is the channel's admin, cat a member, dan neither.
    let mut n = 0;
    for (method, path, body, want) in [
        ("GET", "/channels", Value::Null, [200, 200, 200, 200]),
        ("GET", "/channels/:slug", Value::Null, [200, 200, 200, 200]),
        ("PATCH", "/channels/:slug", json!({"slug": "other-:slug"}), [200, 200, 403, 403]),
        ("DELETE", "/channels/:slug", Value::Null, [200, 200, 403, 403]),
        ("POST", "/channels/:slug/members", Value::Null, [200, 200, 200, 200]),
        ("POST", "/channels/:slug/members", json!({"role": "admin"}), [200, 200, 403, 403]),
        ("POST", "/channels/:slug/members", json!({"member": "ann"}), [200, 200, 403, 403]),
        ("POST", "/channels/:slug/members", json!({"member": "cat", "role": "admin"}), [200, 200, 403, 403]),
        ("DELETE", "/channels/:slug/members/cat", Value::Null, [200, 200, 200, 403]),
        ("GET", "/history?channel=:slug", Value::Null, [403, 200, 200, 403]),
        ("PATCH", "/channels/general", json!({"slug": "general2"}), [403; 4]),
        ("DELETE", "/channels/general", Value::Null, [403; 4]),
        ("DELETE", "/channels/general/members/cat", Value::Null, [403; 4]),
        ("POST", "/channels/general/members", Value::Null, [200; 4]),
        ("GET", "/history?channel=general", Value::Null, [200; 4]),
    ] {
        for (who, want) in ["ann", "bob", "cat", "dan"].into_iter().zip(want) {
            n += 1;
            let slug = format!("c{n}");
            team.channel(&slug);
            let before = team.roles(&slug);
            let body: Value = serde_json::from_str(&body.to_string().replace(":slug", &slug)).unwrap();
            let reply = team.ask(who, method, &path.replace(":slug", &slug), &body);
            assert_eq!(reply.status, want, "{who}: {method} {path}: {}", reply.error());
            if want == 403 {
                assert_eq!(team.roles(&slug), before, "{who}: {method} {path} changed something");
            }
        }
        assert_eq!(team.ask("", method, &path.replace(":slug", "c1"), &Value::Null).status, 401, "{path}");
    }
}

#[test]
fn what_is_said_in_a_channel_is_for_its_members_alone() {
    let team = Team::new();
    let id = team.channel("ops");
    let inbox = |who: &str, token: &str, after: &str| {
        Stream::open(&team.rig, &format!("/subscribe?name={who}"), token, after)
    };
    let mut bob = inbox("bob", &team.rig.bob, "");
    let mut dan = inbox("dan", &team.dan, "");
    let said = team.say("cat", &id, "one").json();
    assert_eq!(said["delivery"], json!({"live": 1, "targets": 2}));
    assert_eq!(team.say("dan", &id, "x").status, 403);
    // Whoever manages members manages channels, but is not in them.
    assert_eq!(team.say("ann", &id, "x").status, 403);
    team.done("dan", "POST", "/channels/ops/members", &json!({}));
    assert_eq!(team.say("bob", &id, "two").json()["delivery"], json!({"live": 2, "targets": 3}));
    team.done("dan", "DELETE", "/channels/ops/members/dan", &Value::Null);
    assert_eq!(team.say("bob", &id, "three").status, 200);
    assert_eq!(team.ask("ann", "POST", "/push", &json!({"body": "end"})).status, 200);
    let heard = |stream: &mut Stream| {
        let mut bodies = Vec::new();
        while bodies.last().is_none_or(|last| last != "end") {
            bodies.push(stream.row().1["body"].as_str().unwrap().to_string());
        }
        bodies
    };
    assert_eq!(heard(&mut bob), ["one", "two", "three", "end"], "the sender's own streams have it too");
    assert_eq!(heard(&mut dan), ["two", "end"], "what came while dan was in it");

    assert_eq!(team.history("bob", "?channel=ops"), ["three", "two", "one"]);
    assert_eq!(team.history("bob", ""), ["end", "three", "two", "one"]);
    assert_eq!(team.history("dan", ""), ["end"], "whoever leaves reads no more of it");
    assert_eq!(team.ask("dan", "GET", "/history?channel=ops", &Value::Null).status, 403);
    team.done("dan", "POST", "/channels/ops/members", &Value::Null);
    assert_eq!(team.history("dan", "?channel=ops"), ["three", "two", "one"], "whoever joins reads what was");
    assert_eq!(team.history("dan", ""), ["end"], "but was not sent it");
    assert_eq!(heard(&mut inbox("dan", &team.dan, "Last-Event-ID: 0\r\n")), ["end"]);

    // General is what is for everybody, however it is said.
    assert_eq!(team.say("dan", "general", "hi").json()["delivery"]["targets"], 4);
    assert_eq!(team.history("ann", "?channel=general"), ["hi", "end"]);
    assert_eq!(team.history("bob", "?channel=ops&limit=1"), ["three"]);
}

#[test]
fn members_come_and_go_and_somebody_stays_admin() {
    let team = Team::new();
    team.channel("ops");
    let role = |name: &str, role: &str| (name.to_string(), role.to_string());
    assert_eq!(team.roles("ops"), [role("bob", "admin"), role("cat", "member")]);
    // The last admin stays one while others are there.
    assert_eq!(team.ask("bob", "DELETE", "/channels/ops/members/bob", &Value::Null).status, 403);
    let demote = json!({"member": "bob", "role": "member"});
    assert_eq!(team.ask("ann", "POST", "/channels/ops/members", &demote).status, 403);
    team.done("bob", "POST", "/channels/ops/members", &json!({"member": "cat", "role": "admin"}));
    team.done("bob", "POST", "/channels/ops/members", &json!({"member": "dan"}));
    // Joining again changes nothing.
    team.done("cat", "POST", "/channels/ops/members", &json!({"member": "cat"}));
    assert_eq!(team.roles("ops"), [role("bob", "admin"), role("cat", "admin"), role("dan", "member")]);
    team.done("cat", "POST", "/channels/ops/members", &demote);
    assert_eq!(team.ask("bob", "DELETE", "/channels/ops/members/dan", &Value::Null).status, 403);
    team.done("bob", "DELETE", "/channels/ops/members/bob", &Value::Null);
    assert_eq!(team.ask("cat", "DELETE", "/channels/ops/members/bob", &Value::Null).status, 409);
    team.done("cat", "DELETE", "/channels/ops/members/dan", &Value::Null);
    // Alone, an admin may go; then the channel is for those who manage members.
    team.done("cat", "DELETE", "/channels/ops/members/cat", &Value::Null);
    assert_eq!(team.roles("ops"), []);
    team.done("ann", "POST", "/channels/ops/members", &json!({"member": "dan", "role": "admin"}));
    assert_eq!(team.roles("ops"), [role("dan", "admin")]);
    for (status, who, method, path, body) in [
        (404, "bob", "GET", "/channels/nope", Value::Null),
        (404, "bob", "PATCH", "/channels/nope", json!({"slug": "x"})),
        (404, "bob", "DELETE", "/channels/nope", Value::Null),
        (404, "bob", "POST", "/channels/nope/members", Value::Null),
        (404, "bob", "DELETE", "/channels/nope/members/bob", Value::Null),
        (404, "dan", "POST", "/channels/ops/members", json!({"member": "zed"})),
        (400, "dan", "POST", "/channels/ops/members", json!({"member": 7})),
        (400, "dan", "POST", "/channels/ops/members", json!({"role": "owner"})),
        (400, "bob", "POST", "/channels", json!({})),
        (400, "bob", "POST", "/channels", json!({"slug": "x".repeat(33)})),
        (400, "dan", "PATCH", "/channels/ops", json!({"slug": "a--b"})),
        (403, "dan", "PATCH", "/channels/ops", json!({"slug": "general"})),
    ] {
        let reply = team.ask(who, method, path, &body);
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.error());
    }
    // A member that is deleted is in no channel any more.
    assert_eq!(team.ask("ann", "DELETE", "/members/dan", &Value::Null).status, 204);
    assert_eq!(team.roles("ops"), []);
}

#[test]
fn an_archived_channel_keeps_what_was_said_and_frees_its_name() {
    let team = Team::new();
    let old = team.channel("ops");
    assert_eq!(team.say("cat", &old, "before").status, 200);
    team.channel("dev");
    assert_eq!(team.ask("bob", "PATCH", "/channels/dev", &json!({"slug": "ops"})).status, 409);
    team.done("bob", "PATCH", "/channels/dev", &json!({"slug": "dev"}));
    team.done("bob", "DELETE", "/channels/ops", &Value::Null);
    let archived = team.done("bob", "DELETE", "/channels/ops", &Value::Null);
    assert!(archived["archivedAt"].is_u64());
    assert_eq!(team.say("cat", &old, "x").status, 410);
    assert_eq!(team.ask("dan", "POST", "/channels/ops/members", &Value::Null).status, 410);
    assert_eq!(team.ask("bob", "PATCH", "/channels/ops", &json!({"slug": "x"})).status, 410);
    assert_eq!(team.history("cat", "?channel=ops"), ["before"]);
    let slugs = || {
        let list = team.done("dan", "GET", "/channels", &Value::Null);
        let list = list["channels"].as_array().unwrap();
        list.iter().map(|c| c["slug"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(slugs(), ["dev", "general"]);
    let new = team.done("dan", "POST", "/channels", &json!({"slug": "ops"}));
    assert_ne!(new["id"], json!(old));
    assert_eq!(team.roles("ops"), [("dan".to_string(), "admin".to_string())], "the name is the new one's");
    assert_eq!(slugs(), ["ops", "dev", "general"], "newest first");
    assert_eq!(team.history("cat", ""), ["before"]);
}

#[test]
fn a_member_makes_so_many_channels_and_no_more() {
    let rig = Rig::new();
    let make =
        |n: usize| rig.call("POST", "/channels", &rig.bob, &json!({"slug": format!("c{n}")}).to_string());
    for n in 0..100 {
        assert_eq!(make(n).status, 201, "{n}");
    }
    let refused = make(100);
    let why = "you have made 100 channels, which is the most: archive one first";
    assert_eq!((refused.status, refused.error().as_str()), (507, why));
    assert_eq!(rig.call("DELETE", "/channels/c0", &rig.bob, "").status, 200);
    assert_eq!(make(100).status, 201);
}
