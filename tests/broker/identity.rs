//! Members, tokens, one-time codes, sessions, presets: who may do what, and when it holds.
use std::fs;

use ac7::identity::{MemberChange, TeamFile};
use ac7::sys::clock::now_ms;
use serde_json::{Value, json};
use support::totp::code;

use crate::corpus;
use crate::rig::{Reply, Rig, wait_for};

#[test]
fn the_corpora_are_right() {
    corpus::play("members");
    corpus::play("team");
}

/// This step. It and the next one are good for a while, in this order.
fn step() -> u64 {
    now_ms() / 30_000
}

/// A code that is good for nobody's secret here, now or soon.
fn wrong(secrets: &[&str]) -> String {
    let good: Vec<String> =
        secrets.iter().flat_map(|s| (step() - 1..step() + 4).map(|n| code(s, n))).collect();
    (0..).map(|n| format!("{n:06}")).find(|c| !good.contains(c)).unwrap()
}

pub fn enroll(rig: &Rig, name: &str, token: &str) -> String {
    let reply = rig.call("POST", &format!("/members/{name}/enroll-totp"), token, "");
    assert_eq!(reply.status, 200, "{}", reply.error());
    reply.json()["totpSecret"].as_str().unwrap().to_string()
}

fn login(rig: &Rig, body: &Value) -> Reply {
    rig.call("POST", "/session/totp", "", &body.to_string())
}

/// The `Cookie` line that a `Set-Cookie` asks for.
fn cookie(reply: &Reply) -> String {
    let set = reply.headers.get("set-cookie").expect("a cookie");
    format!("Cookie: theme=dark; {}\r\n", set.split(';').next().unwrap())
}

/// Log in by the first good step; the `Cookie` line.
pub fn session(rig: &Rig, name: &str, secret: &str) -> String {
    let reply = login(rig, &json!({"member": name, "code": code(secret, step())}));
    assert_eq!(reply.status, 200, "{}", reply.error());
    cookie(&reply)
}

const ROLE: &str = r#""role": {"title": "x", "description": ""}"#;

#[test]
fn every_gate_has_two_sides() {
    let rig = Rig::new();
    let new = format!(r#"{{"name": "cat", {ROLE}, "permissions": ["operator"]}}"#);
    let unused = "00000000-0000-4000-8000-000000000000";
    let token = |name: &str| format!("/members/{name}/tokens/{unused}");
    let (bobs, anns, zeds) = (token("bob"), token("ann"), token("zed"));
    // Route, body, and the status for bob, who may nothing, and then for ann, who may everything.
    for (method, path, body, bob, ann) in [
        ("GET", "/members", "", 200, 200),
        ("POST", "/members", new.as_str(), 403, 200),
        ("PATCH", "/members/cat", r#"{"instructions": "i"}"#, 403, 200),
        ("PATCH", "/members/bob", r#"{"permissions": ["team.manage"]}"#, 403, 0),
        ("PATCH", "/members/zed", r#"{"instructions": "i"}"#, 403, 404),
        ("DELETE", "/members/cat", "", 403, 204),
        ("DELETE", "/members/cat", "", 403, 404),
        ("GET", "/members/bob/tokens", "", 200, 200),
        ("GET", "/members/ann/tokens", "", 403, 200),
        ("GET", "/members/zed/tokens", "", 403, 404),
        ("DELETE", &bobs, "", 404, 404),
        ("DELETE", &anns, "", 403, 404),
        ("DELETE", &zeds, "", 403, 404),
        ("POST", "/members/ann/rotate-token", "", 403, 0),
        ("POST", "/members/zed/rotate-token", "", 403, 404),
        ("POST", "/members/bob/enroll-totp", "", 200, 200),
        ("POST", "/members/ann/enroll-totp", "", 403, 200),
        ("POST", "/members/zed/enroll-totp", "", 403, 404),
        ("GET", "/team", "", 200, 200),
        ("PATCH", "/team", r#"{"context": "c"}"#, 403, 200),
        ("GET", "/team/presets", "", 200, 200),
        ("PUT", "/team/presets/lead", r#"{"permissions": ["activity.read"]}"#, 403, 200),
        ("DELETE", "/team/presets/lead", "", 403, 200),
        ("DELETE", "/team/presets/lead", "", 403, 404),
        ("GET", "/session", "", 200, 200),
        ("POST", "/session/logout", "", 204, 204),
    ] {
        for (who, token, want) in
            [("nobody", "", 401), ("a liar", "ac7_x", 401), ("bob", &rig.bob, bob), ("ann", &rig.ann, ann)]
        {
            if want == 0 {
                continue; // it would change what the further lines begin with
            }
            let reply = rig.call(method, path, token, body);
            assert_eq!(reply.status, want, "{who} {method} {path}: {}", reply.error());
            let permission = if path.starts_with("/team") { "team.manage" } else { "members.manage" };
            if want == 403 {
                let said = reply.error();
                assert!(said.ends_with(&format!("requires the {permission} permission")), "{path}: {said}");
            }
        }
    }
}

#[test]
fn nobody_gets_by_a_preset_what_they_may_not_do() {
    let rig = Rig::new();
    let change = r#"{"permissions": ["team.manage", "operator"]}"#;
    assert_eq!(rig.call("PATCH", "/members/bob", &rig.ann, change).status, 200);
    let set = |name: &str, permissions: &[&str]| {
        let body = json!({"permissions": permissions}).to_string();
        rig.call("PUT", &format!("/team/presets/{name}"), &rig.bob, &body)
    };
    for (name, permissions, missing) in [
        ("operator", &["members.manage"][..], Some("members.manage")),
        ("lead", &["team.manage", "activity.read"], Some("activity.read")),
        // What is there stays, and what one has may be given.
        ("admin", &["members.manage", "activity.read"], None),
        ("operator", &["objectives.create", "team.manage"], None),
        ("operator", &[], None),
    ] {
        let reply = set(name, permissions);
        let said = missing.map(|p| format!("putting {p} into a preset requires the {p} permission"));
        let want = if missing.is_some() { 403 } else { 200 };
        assert_eq!((reply.status, reply.error()), (want, said.unwrap_or_default()), "{name} {permissions:?}");
    }
}

#[test]
fn what_breaks_the_contract_is_refused_with_its_place() {
    let rig = Rig::new();
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let long = format!(r#"{{"instructions": "{}"}}"#, "x".repeat(8193));
    for (method, path, body, path_of_fault) in [
        ("POST", "/members", "{nope".to_string(), None),
        ("POST", "/members", deep, None),
        ("POST", "/members", "[]".into(), None),
        ("POST", "/members", format!(r#"{{"name": "b b", {ROLE}, "permissions": []}}"#), Some("name")),
        ("POST", "/members", format!(r#"{{"name": "../x", {ROLE}, "permissions": []}}"#), Some("name")),
        ("POST", "/members", format!(r#"{{"name": "x'; --", {ROLE}, "permissions": []}}"#), Some("name")),
        ("POST", "/members", r#"{"name": "x", "permissions": []}"#.into(), Some("role.title")),
        ("POST", "/members", format!(r#"{{"name": "x", {ROLE}}}"#), Some("permissions")),
        (
            "POST",
            "/members",
            format!(r#"{{"name": "x", {ROLE}, "permissions": ["fly"]}}"#),
            Some("permissions[0]"),
        ),
        ("PATCH", "/members/bob", "{}".into(), Some("")),
        ("PATCH", "/members/bob", long, Some("instructions")),
        ("PATCH", "/team", r#"{"name": ""}"#.into(), Some("name")),
        ("PATCH", "/team", r#"{"context": 7}"#.into(), Some("context")),
        (
            "PUT",
            "/team/presets/lead",
            r#"{"permissions": ["activity.read", "fly"]}"#.into(),
            Some("permissions[1]"),
        ),
        ("PUT", "/team/presets/a%20b", r#"{"permissions": []}"#.into(), Some("preset")),
        ("PUT", "/team/presets/team.manage", r#"{"permissions": []}"#.into(), Some("preset")),
        ("POST", "/session/totp", r#"{"code": "1"}"#.into(), Some("code")),
        ("POST", "/session/totp", r#"{"code": 123456}"#.into(), Some("code")),
        ("POST", "/session/totp", r#"{"code": "123456", "member": 7}"#.into(), Some("member")),
    ] {
        let reply = rig.call(method, path, &rig.ann, &body);
        assert_eq!(reply.status, 400, "{method} {path} {body:.60}");
        let place = reply.json()["details"][0]["path"].as_str().map(str::to_string);
        assert_eq!(place.as_deref(), path_of_fault, "{method} {path} {body:.60}: {}", reply.error());
    }
    let before = rig.get("/members").json();
    assert_eq!(before["members"].as_array().unwrap().len(), 2, "nothing of it was done");
}

#[test]
fn a_member_comes_changes_and_goes() {
    let rig = Rig::new();
    let new = format!(r#"{{"name": "cat", {ROLE}, "instructions": "i", "permissions": ["operator"]}}"#);
    let made = rig.call("POST", "/members", &rig.ann, &new).json();
    let operator =
        json!(["objectives.create", "objectives.cancel", "objectives.reassign", "objectives.watch"]);
    assert_eq!(made["member"]["permissions"], operator);
    let cat = made["token"].as_str().unwrap();
    assert_eq!(rig.call("GET", "/briefing", cat, "").status, 200, "at once");
    assert_eq!(rig.call("POST", "/members", &rig.ann, &new).status, 409);

    let seen = |token: &str| rig.call("GET", "/members", token, "").json()["members"][2].clone();
    assert_eq!(seen(&rig.ann)["instructions"], "i");
    assert_eq!(seen(&rig.bob).get("instructions"), None);
    let change = r#"{"instructions": "j", "role": {"title": "y"}, "permissions": ["members.manage"]}"#;
    let changed = rig.call("PATCH", "/members/cat", &rig.ann, change).json();
    assert_eq!(
        changed,
        json!({"name": "cat", "role": {"title": "y", "description": ""},
               "permissions": ["members.manage"], "instructions": "j"})
    );
    assert_eq!(seen(cat), changed, "the new right holds at once");

    let secret = enroll(&rig, "cat", cat);
    let cookie = session(&rig, "cat", &secret);
    assert_eq!(rig.call_with("GET", "/session", "", "", &cookie).status, 200);
    assert_eq!(rig.call("DELETE", "/members/cat", &rig.ann, "").status, 204);
    assert_eq!(rig.call("GET", "/briefing", cat, "").status, 401, "the token ends at once");
    assert_eq!(rig.call_with("GET", "/session", "", "", &cookie).status, 401, "and so does the session");
    rig.call("POST", "/members", &rig.ann, &new);
    assert_eq!(rig.call_with("GET", "/session", "", "", &cookie).status, 401, "a namesake is another one");
}

#[test]
fn somebody_always_manages_members() {
    let rig = Rig::new();
    for (method, path, body) in
        [("PATCH", "/members/ann", r#"{"permissions": []}"#), ("DELETE", "/members/ann", "")]
    {
        let refused = rig.call(method, path, &rig.ann, body);
        assert_eq!(refused.status, 409);
        assert!(refused.error().contains("members.manage"), "{}", refused.error());
    }
    rig.call("PATCH", "/members/bob", &rig.ann, r#"{"permissions": ["admin"]}"#);
    assert_eq!(rig.call("DELETE", "/members/ann", &rig.ann, "").status, 204);
    assert_eq!(rig.call("DELETE", "/team/presets/admin", &rig.bob, "").status, 409, "it is all bob has");
    assert_eq!(rig.call("GET", "/members", &rig.bob, "").status, 200);
}

#[test]
fn a_deleted_preset_breaks_nobody() {
    let rig = Rig::new();
    let lead = r#"{"permissions": ["activity.read", "objectives.create"]}"#;
    let put = rig.call("PUT", "/team/presets/lead", &rig.ann, lead);
    assert_eq!(
        put.json(),
        json!({"preset": {"name": "lead", "permissions": ["activity.read", "objectives.create"]}})
    );
    rig.call("PATCH", "/members/bob", &rig.ann, r#"{"permissions": ["lead", "objectives.watch"]}"#);
    assert_eq!(rig.call("GET", "/members/ann/activity", &rig.bob, "").status, 200);
    let gone = rig.call("DELETE", "/team/presets/lead", &rig.ann, "").json();
    assert_eq!(gone, json!({"deleted": "lead", "referencedBy": ["bob"]}));
    let bob = rig.call("GET", "/briefing", &rig.bob, "");
    assert_eq!((bob.status, &bob.json()["permissions"]), (200, &json!(["objectives.watch"])));
    assert_eq!(rig.call("GET", "/members/ann/activity", &rig.bob, "").status, 403);
}

#[test]
fn a_rotation_ends_every_other_way_in() {
    let rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let other = session(&rig, "bob", &secret);
    let own = login(&rig, &json!({"member": "bob", "code": code(&secret, step() + 1)}));
    let own = cookie(&own);
    let rotated = rig.call_with("POST", "/members/bob/rotate-token", "", "", &own);
    assert_eq!(rotated.status, 200, "{}", rotated.error());
    let (fresh, info) = (rotated.json()["token"].clone(), rotated.json()["tokenInfo"].clone());
    assert_eq!(
        [&info["memberName"], &info["label"], &info["origin"], &info["createdBy"], &info["lastUsedAt"]],
        [&json!("bob"), &json!("rotated"), &json!("rotate"), &json!("bob"), &Value::Null]
    );
    assert_eq!(rig.call("GET", "/briefing", &rig.bob, "").status, 401);
    assert_eq!(rig.call("GET", "/briefing", fresh.as_str().unwrap(), "").status, 200);
    assert_eq!(rig.call_with("GET", "/session", "", "", &other).status, 401);
    assert_eq!(rig.call_with("GET", "/session", "", "", &own).status, 200, "the one that asked goes on");

    let tokens = rig.call("GET", "/members/bob/tokens", &rig.ann, "").json();
    assert_eq!(tokens["tokens"].as_array().unwrap().len(), 1);
    assert!(tokens["tokens"][0]["lastUsedAt"].is_u64(), "{tokens}");
    assert!(!tokens.to_string().contains("sha256") && !tokens.to_string().contains("ac7_"), "{tokens}");
    let path = format!("/members/bob/tokens/{}", info["id"].as_str().unwrap());
    assert_eq!(rig.call("DELETE", &path, fresh.as_str().unwrap(), "").status, 204);
    assert_eq!(rig.call("GET", "/briefing", fresh.as_str().unwrap(), "").status, 401);
    assert_eq!(rig.call("DELETE", &path, &rig.ann, "").status, 404);
}

#[test]
fn the_last_use_of_a_token_outlives_the_broker() {
    let mut rig = Rig::new();
    let used = |rig: &Rig| rig.get("/members/bob/tokens").json()["tokens"][0]["lastUsedAt"].as_u64();
    assert_eq!(used(&rig), None);
    rig.call("GET", "/briefing", &rig.bob, "");
    let before = used(&rig);
    assert!(before.is_some());
    rig.stop();
    rig.start();
    assert_eq!(used(&rig), before);
}

#[test]
fn a_code_opens_a_session_once() {
    let rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let now = step();
    let reply = login(&rig, &json!({"member": "bob", "code": code(&secret, now)}));
    assert_eq!(reply.status, 200, "{}", reply.error());
    let (body, set) = (reply.json(), reply.headers.get("set-cookie").unwrap().to_string());
    assert_eq!((&body["member"], &body["permissions"]), (&json!("bob"), &json!([])));
    assert_eq!(body["role"]["title"], "engineer");
    let week = 7 * 24 * 3600 * 1000;
    assert!(body["expiresAt"].as_u64().unwrap().abs_diff(now_ms() + week) < 60_000);
    assert!(set.ends_with("; Path=/; Max-Age=604800; HttpOnly; SameSite=Strict"), "{set}");
    let mine = cookie(&reply);
    assert_eq!(rig.call_with("GET", "/session", "", "", &mine).json(), body);
    assert_eq!(rig.call("GET", "/session", &rig.bob, "").json()["expiresAt"], Value::Null);

    let again = login(&rig, &json!({"member": "bob", "code": code(&secret, now)}));
    assert_eq!((again.status, again.error().as_str()), (401, "invalid code"));
    assert_eq!(login(&rig, &json!({"code": code(&secret, now)})).status, 401, "nor without a name");
    let next = login(&rig, &json!({"code": code(&secret, now + 1)}));
    assert_eq!((next.status, &next.json()["member"]), (200, &json!("bob")));
    let early = login(&rig, &json!({"member": "ann", "code": code(&secret, now + 1)}));
    assert_eq!(early.status, 401, "the code of another");

    let out = rig.call_with("POST", "/session/logout", "", "", &mine);
    assert_eq!(out.status, 204);
    assert!(out.headers.get("set-cookie").unwrap().starts_with("ac7_session=; Path=/; Max-Age=0;"));
    assert_eq!(rig.call_with("GET", "/session", "", "", &mine).status, 401);
    assert_eq!(rig.call_with("GET", "/briefing", "", "", &cookie(&next)).status, 200, "others go on");
    let log = rig.log.text();
    for hidden in [&secret, &code(&secret, now), mine.split_once("session=").unwrap().1.trim()] {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

#[test]
fn guessing_ends_soon() {
    let rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let anns = enroll(&rig, "ann", &rig.ann);
    let bad = wrong(&[&secret, &anns]);
    let later = |reply: &Reply| {
        let wait: u64 = reply.headers.get("retry-after").unwrap().parse().unwrap();
        assert!((1..=900).contains(&wait), "{wait}");
        reply.status
    };
    for _ in 0..5 {
        assert_eq!(login(&rig, &json!({"member": "bob", "code": bad})).status, 401);
    }
    let right = json!({"member": "bob", "code": code(&secret, step())});
    assert_eq!(later(&login(&rig, &right)), 429, "even the right one");
    session(&rig, "ann", &anns);
    for i in 0..10 {
        // What can be no name counts as none.
        let body = if i % 2 == 0 { json!({"code": bad}) } else { json!({"code": bad, "member": "z d"}) };
        assert_eq!(login(&rig, &body).status, 401);
    }
    assert_eq!(later(&login(&rig, &json!({"code": code(&anns, step() + 1)}))), 429);
    assert_eq!(later(&login(&rig, &json!({"code": bad, "member": "z\u{e9}d"}))), 429);
    let named = login(&rig, &json!({"member": "ann", "code": code(&anns, step() + 1)}));
    assert_eq!(named.status, 200, "who says who they are is not locked out with the rest");

    let fresh = enroll(&rig, "bob", &rig.bob);
    session(&rig, "bob", &fresh);
}

#[test]
fn guessing_tells_nothing_about_names() {
    let rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let bad = wrong(&[&secret]);
    // With a code, without one, and nobody.
    let rounds = |rig: &Rig| {
        let [bob, ann, zed] = ["bob", "ann", "zed"].map(|name| {
            let tries = (0..7).map(|_| login(rig, &json!({"member": name, "code": bad})));
            let told = tries.map(|reply| {
                let mut names: Vec<String> = reply.headers.0.iter().map(|(name, _)| name.clone()).collect();
                names.sort();
                // But for the seconds.
                let text = reply.error().replace(|c: char| c.is_ascii_digit(), "");
                (reply.status, text, names)
            });
            told.collect::<Vec<_>>()
        });
        assert_eq!(bob, zed);
        assert_eq!(ann, zed);
        zed.iter().map(|(status, ..)| *status).collect::<Vec<_>>()
    };
    assert_eq!(rounds(&rig), [401, 401, 401, 401, 401, 429, 429]);
    rusqlite::Connection::open(rig.folder.join("ac7.db"))
        .unwrap()
        .execute("DELETE FROM totp_failure", [])
        .unwrap();
    fs::remove_file(rig.folder.join("ac7.json.kek")).unwrap();
    assert_eq!(rounds(&rig), [500, 500, 500, 500, 500, 429, 429]);
}

#[test]
fn a_cookie_serves_our_own_pages_alone() {
    let rig = Rig::new();
    let secret = enroll(&rig, "ann", &rig.ann);
    let mine = session(&rig, "ann", &secret);
    let body = r#"{"context": "c"}"#;
    for (headers, want) in [
        ("", 200),
        ("Sec-Fetch-Site: same-origin\r\n", 200),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("Sec-Fetch-Site: same-site\r\nOrigin: http://localhost\r\n", 403),
        ("Origin: http://localhost\r\n", 200),
        ("Origin: http://localhost:3000\r\n", 403),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ] {
        let reply = rig.call_with("PATCH", "/team", "", body, &format!("{mine}{headers}"));
        assert_eq!(reply.status, want, "{headers}");
        let read = rig.call_with("GET", "/team", "", "", &format!("{mine}{headers}"));
        assert_eq!(read.status, 200, "reading changes nothing, and the answer is not for the page");
        let token = rig.call_with("PATCH", "/team", &rig.ann, body, headers);
        assert_eq!(token.status, 200, "no browser sends a token by itself");
    }
    let evil = "Origin: https://evil.example\r\n";
    let code = json!({"member": "ann", "code": code(&secret, step() + 1)}).to_string();
    assert_eq!(rig.call_with("POST", "/session/totp", "", &code, evil).status, 403);
    let tls = rig.call_with("POST", "/session/totp", "", &code, "Origin: https://localhost\r\n");
    assert!(tls.headers.get("set-cookie").unwrap().ends_with("; Secure"), "{tls:?}");
    let both = format!("{mine}Authorization: Bearer ac7_wrong\r\n");
    assert_eq!(rig.call_with("GET", "/team", "", "", &both).status, 401, "a bad token is not made good");
}

#[test]
fn a_lost_key_stops_one_time_codes_alone() {
    let rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let key = rig.folder.join("ac7.json.kek");
    let kept = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let body = json!({"member": "bob", "code": code(&secret, step())});
    let failed = login(&rig, &body);
    assert_eq!(failed.status, 500);
    crate::rig::wait_for("the log", || rig.log.text().contains("KekResolutionError"));
    let said = rig.log.text();
    assert!(said.contains("KekResolutionError: cannot decrypt totpSecret of bob: "), "{said}");
    assert!(said.contains("ac7 enroll --member bob"), "{said}");
    assert_eq!(rig.call("GET", "/briefing", &rig.bob, "").status, 200);
    assert_eq!(rig.call("POST", "/members/ann/rotate-token", &rig.ann, "").status, 200);

    fs::write(&key, kept).unwrap();
    assert_eq!(login(&rig, &body).status, 200, "a key that is put back counts at once");
    fs::remove_file(&key).unwrap();
    let fresh = enroll(&rig, "bob", &rig.bob);
    session(&rig, "bob", &fresh);
}

#[test]
fn sessions_and_codes_outlive_the_broker() {
    let mut rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let now = step();
    let reply = login(&rig, &json!({"member": "bob", "code": code(&secret, now)}));
    let mine = cookie(&reply);
    rig.stop();
    // A session that was not used for some time, and is now, is moved on.
    let main = rusqlite::Connection::open(rig.folder.join("ac7.db")).unwrap();
    main.execute("UPDATE session SET seen = seen - 660000, expires = expires - 660000", []).unwrap();
    drop(main);
    rig.start();
    let seen = rig.call_with("GET", "/session", "", "", &mine);
    assert_eq!(seen.status, 200);
    assert!(seen.json()["expiresAt"].as_u64() >= reply.json()["expiresAt"].as_u64());
    assert_eq!(cookie(&seen), mine, "the browser is told, too");
    let again = rig.call_with("GET", "/session", "", "", &mine);
    assert_eq!(again.headers.get("set-cookie"), None, "and not with every request");
    assert_eq!(login(&rig, &json!({"member": "bob", "code": code(&secret, now)})).status, 401);
}

#[test]
fn a_change_on_the_disk_ends_sessions_of_who_is_gone() {
    let rig = Rig::new();
    let secret = enroll(&rig, "bob", &rig.bob);
    let mine = session(&rig, "bob", &secret);
    let change = |change: &dyn Fn(&mut TeamFile) -> Result<(), ac7::identity::Error>| {
        TeamFile::update(&rig.config(), change).unwrap();
    };
    change(&|file| {
        let permissions = Some(vec!["activity.read".to_string()]);
        file.change_member("bob", MemberChange { role: None, instructions: None, permissions })
    });
    let permissions = || rig.call_with("GET", "/session", "", "", &mine).json()["permissions"].clone();
    crate::rig::wait_for("the right", || permissions() == json!(["activity.read"]));
    change(&|file| file.remove_member("bob"));
    crate::rig::wait_for("the end", || rig.call_with("GET", "/session", "", "", &mine).status == 401);
}

#[test]
fn who_gets_a_former_member_s_name_gets_nothing_else_of_theirs() {
    let mut rig = Rig::new();
    let mut bob = rig.bob.clone();
    let done = |rig: &Rig, method, path: &str, token: &str, body: &Value| {
        let reply = rig.ask(method, path, token, body);
        assert!(reply.status < 300, "{method} {path}: {}", reply.error());
        reply.json()
    };
    // What bob has of each kind.
    let has = |rig: &Rig, bob: &str| {
        let count = |path: &str, list: &str| {
            let reply = rig.call("GET", path, bob, "");
            assert_eq!(reply.status, 200, "{path}: {}", reply.error());
            reply.json()[list].as_array().unwrap().len()
        };
        [("/history", "messages"), ("/objectives", "objectives"), ("/fs/ls?path=/bob", "entries")]
            .map(|(path, list)| count(path, list))
    };
    for running in [true, false] {
        done(&rig, "POST", "/push", &rig.ann, &json!({"to": "bob", "body": "for your eyes alone"}));
        let objective = json!({"title": "t", "outcome": "o", "assignee": "ann", "watchers": ["bob"]});
        done(&rig, "POST", "/objectives", &rig.ann, &objective);
        assert_eq!(rig.call("POST", "/fs/write?path=/bob/a.txt&mime=text/plain", &bob, "x").status, 200);
        assert!(has(&rig, &bob).iter().all(|n| *n > 0), "{:?}", has(&rig, &bob));
        if !running {
            rig.stop();
        }
        let nowhere = rig.folder.join("nowhere.db");
        let member = |words: &[&str], db: &std::path::Path| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ac7"));
            command.arg("member").args(words).arg("--config-path").arg(rig.config()).arg("--db").arg(db);
            let out = command.output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.success(), "{words:?}: {said}");
            (String::from_utf8(out.stdout).unwrap().trim().to_string(), said)
        };
        // Removed where the database was not at hand: it still has all of that.
        let (_, said) = member(&["delete", "bob", "--yes"], &nowhere);
        assert!(said.contains("there is no database at "), "{said}");
        let (token, said) = member(&["create", "bob"], &rig.folder.join("ac7.db"));
        assert_eq!(said, "ac7 member create: bob is a member; this token is shown once\n");
        if !running {
            rig.start();
        }
        wait_for("the new token", || rig.call("GET", "/briefing", &token, "").status == 200);
        assert_eq!(rig.call("GET", "/briefing", &bob, "").status, 401);
        assert_eq!(has(&rig, &token), [0, 0, 0]);
        bob = token;
    }
}
