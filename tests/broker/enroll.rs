//! Devices that ask for a token.
use std::fs;
use std::sync::Mutex;
use std::thread;

use ac7::identity::{TeamFile, mint};
use serde_json::{Value, json};

use crate::corpus;
use crate::rig::{Reply, Rig, wait_for};

#[test]
fn the_corpus_is_right() {
    corpus::play("enrolment");
}

fn post(rig: &Rig, path: &str, token: &str, body: &Value) -> Reply {
    rig.call("POST", path, token, &body.to_string())
}

/// The device's code and the people's.
fn ask(rig: &Rig) -> (String, String) {
    let reply = post(rig, "/enroll", "", &json!({"labelHint": "box"}));
    assert_eq!(reply.status, 200, "{}", reply.error());
    let text = |name: &str| reply.json()[name].as_str().unwrap().to_string();
    (text("deviceCode"), text("userCode"))
}

fn poll(rig: &Rig, device: &str) -> Reply {
    post(rig, "/enroll/poll", "", &json!({"deviceCode": device}))
}

fn bind(rig: &Rig, code: &str, name: &str) -> Reply {
    post(rig, "/enroll/approve", &rig.ann, &json!({"mode": "bind", "userCode": code, "memberName": name}))
}

fn main_db(rig: &Rig) -> rusqlite::Connection {
    rusqlite::Connection::open(rig.folder.join("ac7.db")).unwrap()
}

fn tokens(rig: &Rig, name: &str) -> usize {
    TeamFile::load(&rig.config()).unwrap().0.member(name).unwrap().tokens.len()
}

#[test]
fn codes_are_understood_as_people_type_them() {
    let rig = Rig::new();
    for typed in [
        &|code: &str| code.to_lowercase() as String,
        &|code: &str| code.replace('-', ""),
        &|code: &str| code.replace('0', "o").replace('1', "l"),
        &|code: &str| format!(" {} ", code.replace('1', "I").replace('-', " - ")),
    ] as [&dyn Fn(&str) -> String; 4]
    {
        let (_, code) = ask(&rig);
        let typed = typed(&code);
        assert_eq!(bind(&rig, &typed, "bob").status, 200, "{code} typed as {typed}");
    }
    let (_, code) = ask(&rig);
    let reject = post(&rig, "/enroll/reject", &rig.ann, &json!({"userCode": code.to_lowercase()}));
    assert_eq!(reject.status, 204);
}

#[test]
fn the_page_has_the_name_by_which_the_client_came() {
    let rig = Rig::new();
    for (headers, want) in [
        ("", "http://localhost/enroll"),
        ("Origin: https://localhost\r\n", "https://localhost/enroll"),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n", "http://localhost/enroll"),
    ] {
        let reply = rig.call_with("POST", "/enroll", "", "{}", headers).json();
        assert_eq!(reply["verificationUri"], want, "{headers}");
        let code = reply["userCode"].as_str().unwrap();
        assert_eq!(reply["verificationUriComplete"], format!("{want}?code={code}"));
    }
    let evil = "Origin: https://evil.example\r\n";
    for path in ["/enroll", "/enroll/poll"] {
        assert_eq!(rig.call_with("POST", path, "", "{}", evil).status, 403, "{path}");
    }
}

#[test]
fn ten_devices_an_hour_may_ask() {
    let rig = Rig::new();
    for _ in 0..10 {
        ask(&rig);
    }
    let late = post(&rig, "/enroll", "", &json!({}));
    assert_eq!(late.status, 429, "{}", late.error());
    let wait: u64 = late.headers.get("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    main_db(&rig).execute("UPDATE enrolment SET created = created - 3600000 WHERE id = 1", []).unwrap();
    ask(&rig);
    assert_eq!(post(&rig, "/enroll", "", &json!({})).status, 429, "one has gone, one has come");
    // Another address, though the same database.
    main_db(&rig).execute("UPDATE enrolment SET network = '10.0.0.1'", []).unwrap();
    ask(&rig);
}

#[test]
fn a_token_is_given_to_one_alone() {
    let rig = Rig::new();
    let (device, code) = ask(&rig);
    let approved = bind(&rig, &code, "bob").json();
    assert_eq!((tokens(&rig, "bob"), &approved["tokenInfo"]["label"]), (2, &json!("box")));
    let got = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let reply = poll(&rig, &device);
                if reply.status == 200 {
                    got.lock().unwrap().push(reply.json()["token"].as_str().unwrap().to_string());
                }
            });
        }
    });
    let got = got.into_inner().unwrap();
    let [token] = got.as_slice() else { panic!("{} tokens were given", got.len()) };
    assert_eq!(rig.call("GET", "/briefing", token, "").json()["name"], "bob");

    // Neither the token nor the device's code is anywhere in the clear.
    for name in ["ac7.json", "ac7.db", "ac7.db-wal"] {
        let bytes = fs::read(rig.folder.join(name)).unwrap_or_default();
        for secret in [token, &device] {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{name}");
        }
    }
    let log = rig.log.text();
    assert!(!log.contains(token) && !log.contains(&device) && !log.contains(&code), "{log}");
}

#[test]
fn of_many_approvals_at_the_same_time_one_counts() {
    let rig = Rig::new();
    let (device, code) = ask(&rig);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(|| bind(&rig, &code, "bob").status)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|s| matches!(s, 200 | 409)), "{statuses:?}");
    assert_eq!(tokens(&rig, "bob"), 2, "exactly one was minted");
    let token = poll(&rig, &device).json()["token"].as_str().unwrap().to_string();
    assert_eq!(rig.call("GET", "/briefing", &token, "").status, 200);
}

#[test]
fn a_lost_key_mints_nothing() {
    let rig = Rig::new();
    let (device, code) = ask(&rig);
    let key = rig.folder.join("ac7.json.kek");
    let kept = fs::read(&key).unwrap();
    let create = json!({"mode": "create", "userCode": code, "memberName": "dan", "role": {"title": "x"},
                        "permissions": []});
    for spoilt in [None, Some("no key")] {
        match spoilt {
            None => fs::remove_file(&key).unwrap(),
            Some(text) => fs::write(&key, text).unwrap(),
        }
        for reply in [bind(&rig, &code, "bob"), post(&rig, "/enroll/approve", &rig.ann, &create)] {
            assert_eq!(reply.status, 500);
            assert!(reply.error().contains("key (KEK) is missing"), "{}", reply.error());
        }
        assert_eq!(fs::read(&key).is_ok(), spoilt.is_some(), "no key was made in passing");
    }
    let said = || rig.log.text();
    wait_for("the log", || said().contains("KekResolutionError: cannot encrypt enrolmentToken of dan: "));
    assert!(said().contains("restore it") && said().contains("ac7 enroll --member bob"), "{}", said());
    assert_eq!(
        (tokens(&rig, "bob"), rig.get("/members").json()["members"].as_array().unwrap().len()),
        (1, 2)
    );
    assert_eq!(poll(&rig, &device).json()["error"], "authorization_pending");

    // The key comes back, and goes before the token is fetched: it waits.
    fs::write(&key, &kept).unwrap();
    assert_eq!(bind(&rig, &code, "bob").status, 200);
    fs::write(&key, "no key").unwrap();
    let later = || main_db(&rig).execute("UPDATE enrolment SET polled = polled - 5000", []).unwrap();
    later();
    assert_eq!(poll(&rig, &device).status, 500);
    fs::write(&key, &kept).unwrap();
    later();
    assert_eq!(poll(&rig, &device).status, 200);
}

#[test]
fn a_token_that_nobody_fetched_goes_when_its_enrolment_does() {
    let mut rig = Rig::new();
    let (_, first) = ask(&rig);
    assert_eq!(bind(&rig, &first, "bob").status, 200);
    // What a broker leaves that was killed between the two files: the hash here, nothing but the id there.
    ask(&rig);
    rig.stop();
    let cut_off = mint("box", "enroll", 1).token;
    main_db(&rig).execute("UPDATE enrolment SET token_id = ? WHERE decided IS NULL", [&cut_off.id]).unwrap();
    TeamFile::update(&rig.config(), |file| file.add_token("bob", cut_off)).unwrap();
    rig.start();
    let (kept, code) = ask(&rig);
    assert_eq!(bind(&rig, &code, "bob").status, 200);
    assert_eq!(poll(&rig, &kept).status, 200);
    assert_eq!(tokens(&rig, "bob"), 4, "as long as they may still be fetched they stay");

    rig.stop();
    main_db(&rig).execute("UPDATE enrolment SET expires = expires - 300000", []).unwrap();
    rig.start();
    wait_for("the tokens to go", || tokens(&rig, "bob") == 2);
    let labels = rig.get("/members/bob/tokens").json();
    assert_eq!(labels["tokens"][1]["origin"], "enroll", "the one that was fetched stays: {labels}");
    wait_for("the log", || rig.log.text().contains("tokens that nobody fetched are revoked"));

    // An hour after it began an enrolment is forgotten.
    rig.stop();
    main_db(&rig).execute("UPDATE enrolment SET expires = expires - 3300000", []).unwrap();
    rig.start();
    let rows =
        || main_db(&rig).query_row("SELECT count(*) FROM enrolment", [], |r| r.get::<_, i64>(0)).unwrap();
    wait_for("the rows to go", || rows() == 0);
}

#[test]
fn an_approval_that_broke_off_can_be_done_again() {
    let rig = Rig::new();
    let (device, code) = ask(&rig);
    let cut_off = mint("box", "enroll", 1).token;
    main_db(&rig).execute("UPDATE enrolment SET token_id = ?", [&cut_off.id]).unwrap();
    TeamFile::update(&rig.config(), |file| file.add_token("bob", cut_off)).unwrap();
    assert_eq!(bind(&rig, &code, "bob").status, 200);
    assert_eq!(tokens(&rig, "bob"), 2, "the first one is gone");
    assert_eq!(poll(&rig, &device).status, 200);
}

#[test]
fn who_is_deleted_before_the_device_comes_back_gets_nothing() {
    let rig = Rig::new();
    let (device, code) = ask(&rig);
    assert_eq!(bind(&rig, &code, "bob").status, 200);
    assert_eq!(rig.call("DELETE", "/members/bob", &rig.ann, "").status, 204);
    assert_eq!(poll(&rig, &device).json()["error"], "access_denied");
}

#[test]
fn control_characters_do_not_get_into_lists() {
    let rig = Rig::new();
    assert_eq!(post(&rig, "/enroll", "", &json!({"labelHint": "\u{1b}[2J"})).status, 400);
    let (_, code) = ask(&rig);
    let body = json!({"mode": "bind", "userCode": code, "memberName": "bob", "label": "a\nb"});
    assert_eq!(post(&rig, "/enroll/approve", &rig.ann, &body).json()["details"][0]["path"], "label");
    let body = json!({"userCode": code, "reason": "\u{9b}31m"});
    assert_eq!(post(&rig, "/enroll/reject", &rig.ann, &body).json()["details"][0]["path"], "reason");
    for (path, method, body) in [
        ("/team", "PATCH", json!({"name": "a\u{7}"})),
        ("/members/bob", "PATCH", json!({"role": {"title": "a\nb"}})),
    ] {
        let reply = rig.call(method, path, &rig.ann, &body.to_string());
        assert_eq!(
            (reply.status, reply.error().ends_with("holds control characters")),
            (400, true),
            "{path}"
        );
    }
}
