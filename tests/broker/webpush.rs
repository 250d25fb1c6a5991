//! Web push: who is told of what, encrypted for their browsers alone, and what happens when that fails.
use std::fs;

use ac7::identity::TeamFile;
use serde_json::{Value, json};
use support::push::{Browser, Posted, PushService};

use crate::rig::{Reply, Rig, wait_for};

impl Rig {
    /// A broker that may push to this machine.
    fn pushing() -> Rig {
        let rig = Rig::new();
        rig.set_web_push(&json!({"subject": "mailto:ops@example.com", "privateEndpoints": true}));
        rig
    }

    fn set_web_push(&self, value: &Value) {
        let set = |file: &mut TeamFile| {
            file.more.insert("webPush".into(), value.clone());
            Ok(())
        };
        TeamFile::update(&self.config(), set).unwrap();
        assert_eq!(self.call("POST", "/reload", &self.ann, "").status, 200);
    }

    fn public_key(&self) -> String {
        let reply = self.get("/push/vapid-public-key");
        assert_eq!(reply.status, 200, "{}", reply.error());
        reply.json()["publicKey"].as_str().unwrap().to_string()
    }

    fn subscribe(&self, token: &str, subscription: &Value) -> Reply {
        self.call("POST", "/push/subscriptions", token, &subscription.to_string())
    }

    /// A browser of a member's at the service.
    fn browser(&self, token: &str, service: &PushService, name: &str) -> Browser {
        let browser = Browser::fresh();
        let reply = self.subscribe(token, &browser.subscription(&service.endpoint(name)));
        assert_eq!(reply.status, 200, "{}", reply.error());
        browser
    }

    fn say(&self, token: &str, message: &Value) {
        let reply = self.call("POST", "/push", token, &message.to_string());
        assert_eq!(reply.status, 200, "{}", reply.error());
    }
}

/// The first so many requests, once they are there.
fn got(service: &PushService, many: usize) -> Vec<Posted> {
    wait_for("the push service", || service.got().len() >= many);
    service.got()
}

#[test]
fn a_message_for_a_member_reaches_its_browser_encrypted() {
    let (rig, service) = (Rig::pushing(), PushService::start());
    let browser = rig.browser(&rig.bob, &service, "bob");
    let public = rig.public_key();
    rig.say(
        &rig.ann,
        &json!({"to": "bob", "title": "Look", "body": "The build is red.", "level": "critical"}),
    );
    let posted = &got(&service, 1)[0];
    assert_eq!(posted.path, "/push/bob");
    for (name, value) in [("content-encoding", "aes128gcm"), ("ttl", "86400"), ("urgency", "high")] {
        assert_eq!(posted.header(name), value, "{name}");
    }
    assert!(!String::from_utf8_lossy(&posted.body).contains("build"));
    let claims = posted.claims(&public);
    assert_eq!(claims["aud"], format!("http://{}", service.address));
    assert_eq!(claims["sub"], "mailto:ops@example.com");
    let life = claims["exp"].as_u64().unwrap() - ac7::sys::clock::now_ms() / 1000;
    assert!((3600..=24 * 3600).contains(&life), "{life}");
    let notice = browser.read(&posted.body);
    for (field, value) in
        [("from", "ann"), ("title", "Look"), ("body", "The build is red."), ("level", "critical")]
    {
        assert_eq!(notice[field], value, "{field}");
    }
    assert_eq!(rig.call("GET", "/history", &rig.bob, "").json()["messages"][0]["id"], notice["id"]);
}

#[test]
fn those_are_told_whom_it_concerns() {
    let (rig, service) = (Rig::pushing(), PushService::start());
    let cat = rig.add("cat", &[]);
    for (token, name) in [(&rig.ann, "ann"), (&rig.bob, "bob"), (&cat, "cat")] {
        drop(rig.browser(token, &service, name));
    }
    // A member's go one after the other: each one's last shows that there was nothing before.
    rig.say(&rig.ann, &json!({"body": "for everybody, so for nobody"}));
    rig.say(&rig.bob, &json!({"to": "bob", "body": "note to self, @bob"}));
    rig.say(&rig.bob, &json!({"body": "mail@cat.example, @catherine"}));
    rig.say(&rig.ann, &json!({"body": "ask @cat, or @bob."}));
    let objective = |assignee: &str| json!({"title": "t", "outcome": "o", "assignee": assignee}).to_string();
    assert_eq!(rig.call("POST", "/objectives", &rig.ann, &objective("bob")).status, 200);
    rig.say(&cat, &json!({"to": "ann", "body": "x"}));
    for (from, to) in [(&cat, "ann"), (&rig.ann, "bob"), (&rig.ann, "cat")] {
        rig.say(from, &json!({"to": to, "body": "the last", "level": "critical"}));
    }
    let is_last = |posted: &Posted| posted.header("urgency") == "high";
    wait_for("each one's last", || service.got().iter().filter(|posted| is_last(posted)).count() == 3);
    let mut paths: Vec<String> = service.got().into_iter().map(|posted| posted.path).collect();
    paths.sort();
    assert_eq!(paths.join(" "), "/push/ann /push/ann /push/bob /push/bob /push/bob /push/cat /push/cat");
}

#[test]
fn the_pair_is_made_once_and_its_private_half_is_sealed() {
    let mut rig = Rig::new();
    let key = rig.public_key();
    assert_eq!(rig.public_key(), key);
    let file: Value = serde_json::from_slice(&fs::read(rig.config()).unwrap()).unwrap();
    assert_eq!(file["webPush"]["publicKey"], key);
    assert_eq!(file["webPush"]["privateKey"]["v"], 1);
    rig.stop();
    rig.start();
    assert_eq!(rig.public_key(), key);
    assert_eq!(rig.call("GET", "/push/vapid-public-key", "", "").status, 401);
}

#[test]
fn subscriptions_are_checked_and_ended_by_their_owner() {
    let rig = Rig::new();
    let good = Browser::fresh().subscription("https://push.example/a");
    let with = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    for (body, wrong) in [
        (json!({}), "endpoint"),
        (with("/endpoint", json!("http://push.example/a")), "endpoint"),
        (with("/endpoint", json!("https://127.0.0.1/a")), "endpoint"),
        (with("/endpoint", json!("https://169.254.169.254/a")), "endpoint"),
        (with("/endpoint", json!("https://[::1]:8717/a")), "endpoint"),
        (with("/endpoint", json!("http://localhost/a")), "endpoint"),
        (with("/endpoint", json!("file:///etc/passwd")), "endpoint"),
        (with("/endpoint", json!(7)), "endpoint"),
        (with("/keys", json!({})), "keys.p256dh"),
        (with("/keys/p256dh", json!("AAAA")), "keys.p256dh"),
        (with("/keys/p256dh", json!("BAAA".to_string() + &"A".repeat(83))), "keys.p256dh"),
        (with("/keys/auth", json!("AAAA")), "keys.auth"),
        (with("/keys/auth", json!("not base64")), "keys.auth"),
    ] {
        let reply = rig.subscribe(&rig.bob, &body);
        assert_eq!((reply.status, &reply.json()["details"][0]["path"]), (400, &json!(wrong)), "{body}");
    }
    assert_eq!(rig.call("POST", "/push/subscriptions", "", "{}").status, 401);

    let first = rig.subscribe(&rig.bob, &good).json();
    assert!(
        first["createdAt"].as_u64() > Some(0) && first["endpoint"] == "https://push.example/a",
        "{first}"
    );
    assert_eq!(rig.subscribe(&rig.bob, &good).json(), first, "the same browser");
    let id = first["id"].as_str().unwrap();
    let end = |token: &str| rig.call("DELETE", &format!("/push/subscriptions/{id}"), token, "").status;
    assert_eq!((end(&rig.ann), end(&rig.bob), end(&rig.bob)), (404, 204, 404));
}

#[test]
fn a_busy_service_is_asked_again_and_a_gone_browser_is_forgotten() {
    let (rig, service) = (Rig::pushing(), PushService::start());
    let browser = rig.browser(&rig.bob, &service, "bob");
    service.answer(429, "Retry-After: 0\r\n");
    service.answer(503, "");
    rig.say(&rig.ann, &json!({"to": "bob", "body": "again"}));
    let posted = got(&service, 3);
    assert_eq!(browser.read(&posted[2].body)["body"], "again");

    service.answer(410, "");
    rig.say(&rig.ann, &json!({"to": "bob", "body": "gone"}));
    got(&service, 4);
    wait_for("the subscription to end", || !rig.log.events("web push ended").is_empty());
    // To whoever is forgotten nothing is sent: the next is another's.
    drop(rig.browser(&rig.ann, &service, "ann"));
    rig.say(&rig.ann, &json!({"to": "bob", "body": "unheard"}));
    rig.say(&rig.bob, &json!({"to": "ann", "body": "heard"}));
    assert_eq!(got(&service, 5)[4].path, "/push/ann");

    // What it will not take is not tried again; the log names the service, not the endpoint.
    service.answer(413, "");
    rig.say(&rig.bob, &json!({"to": "ann", "body": "too large"}));
    wait_for("the refusal", || !rig.log.events("web push refused").is_empty());
    assert_eq!(service.got().len(), 6);
    assert!(rig.log.text().contains("answered 413") && !rig.log.text().contains("/push/ann"));
}

#[test]
fn a_private_network_is_not_reached_even_by_name() {
    let rig = Rig::new();
    let service = PushService::start();
    // This passes, since names are looked up when something is sent; the system reads it as 127.0.0.1.
    let subscription = Browser::fresh().subscription("https://2130706433:8443/x");
    assert_eq!(rig.subscribe(&rig.bob, &subscription).status, 200);
    rig.say(&rig.ann, &json!({"to": "bob", "body": "x"}));
    wait_for("the refusal", || !rig.log.events("web push refused").is_empty());
    let refused = &rig.log.events("web push refused")[0];
    assert!(refused["reason"].as_str().unwrap().contains("private networks"), "{refused}");

    // A setting that is taken back holds for what was subscribed under it.
    rig.set_web_push(&json!({"privateEndpoints": true}));
    drop(rig.browser(&rig.ann, &service, "ann"));
    let mut section = TeamFile::load(&rig.config()).unwrap().0.more["webPush"].clone();
    section["privateEndpoints"] = json!(false);
    rig.set_web_push(&section);
    rig.say(&rig.bob, &json!({"to": "ann", "body": "x"}));
    wait_for("the refusal", || rig.log.events("web push refused").len() == 2);
    assert!(service.got().is_empty());
}

#[test]
fn a_lost_key_turns_push_off_and_nothing_else() {
    let (mut rig, service) = (Rig::pushing(), PushService::start());
    drop(rig.browser(&rig.bob, &service, "bob"));
    rig.stop();
    fs::remove_file(rig.folder.join("ac7.json.kek")).unwrap();
    rig.start();
    for _ in 0..2 {
        rig.say(&rig.ann, &json!({"to": "bob", "body": "unheard"}));
    }
    wait_for("both refusals", || rig.log.events("web push refused").len() == 2);
    let off = rig.log.events("web push is off");
    let reason = off[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("KekResolutionError: cannot decrypt vapidPrivateKey"), "{reason}");
    assert!(reason.contains("ac7 rotate --vapid") && reason.contains("ac7 enroll"), "{reason}");
    assert_eq!((off.len(), service.got().len()), (1, 0));
    let key = rig.get("/push/vapid-public-key");
    assert_eq!((key.status, key.error().contains("KEK")), (500, true));
    assert_eq!(rig.get("/healthz").status, 200);
}

#[test]
fn a_new_pair_ends_what_was_subscribed_with_the_old_one() {
    let (rig, service) = (Rig::pushing(), PushService::start());
    drop(rig.browser(&rig.bob, &service, "bob"));
    let old = rig.public_key();
    let section = json!({"privateEndpoints": true});
    rig.set_web_push(&section);
    assert_ne!(rig.public_key(), old);
    drop(rig.browser(&rig.ann, &service, "ann"));
    rig.say(&rig.ann, &json!({"to": "bob", "body": "unheard"}));
    rig.say(&rig.bob, &json!({"to": "ann", "body": "heard"}));
    assert_eq!(got(&service, 1)[0].path, "/push/ann");
}

#[test]
fn one_members_dead_endpoints_keep_nobody_elses_notices() {
    let (rig, service) = (Rig::pushing(), PushService::start());
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for n in 0..20 {
        let endpoint = format!("http://{}/{n}", dead.local_addr().unwrap());
        assert_eq!(rig.subscribe(&rig.bob, &Browser::fresh().subscription(&endpoint)).status, 200);
    }
    // They take connections and say nothing: all of them together keep the broker for minutes.
    for _ in 0..20 {
        rig.say(&rig.ann, &json!({"to": "bob", "body": "unheard"}));
    }
    let _held = dead.accept().unwrap();
    drop(rig.browser(&rig.ann, &service, "ann"));
    rig.say(&rig.bob, &json!({"to": "ann", "body": "heard"}));
    assert_eq!(got(&service, 1)[0].path, "/push/ann");
    // Nor can they fill the places in which notices wait.
    wait_for("the dropped ones", || !rig.log.events("web push dropped").is_empty());
}

#[test]
fn the_broker_stops_while_a_push_service_keeps_it_waiting() {
    let mut rig = Rig::pushing();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/x", silent.local_addr().unwrap());
    assert_eq!(rig.subscribe(&rig.bob, &Browser::fresh().subscription(&endpoint)).status, 200);
    rig.say(&rig.ann, &json!({"to": "bob", "body": "x"}));
    let _held = silent.accept().unwrap();
    rig.stop();
    assert_eq!(crate::rig::threads("ac7-push"), 0);
}
