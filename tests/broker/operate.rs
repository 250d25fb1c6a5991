//! What an operator does to a broker that runs.
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ac7::identity::TeamFile;
use ac7::store::activity::Reader;
use ac7::sys::clock::now_ms;
use serde_json::{Value, json};

use crate::rig::{Rig, request, upload, wait_for};

/// Change fields of the team file that this version of the test knows nothing of.
fn set(rig: &Rig, name: &str, value: &Value) {
    let changed = TeamFile::update(&rig.config(), |file| {
        file.more.insert(name.to_string(), value.clone());
        Ok(())
    });
    changed.unwrap();
}

fn append(rig: &Rig, times: impl IntoIterator<Item = u64>) {
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(times)).status, 201);
}

fn rows(rig: &Rig) -> usize {
    rig.get("/members/ann/activity?limit=1000").json()["activity"].as_array().unwrap().len()
}

#[test]
fn a_reload_says_what_holds_and_what_does_not() {
    let rig = Rig::new();
    let reload = || {
        let reply = rig.call("POST", "/reload", &rig.ann, "");
        (reply.status, reply.json())
    };
    let ok = |applied: Value, restart: Value| {
        (200, json!({"ok": true, "applied": applied, "restartRequired": restart}))
    };
    assert_eq!(reload(), ok(json!([]), json!([])));
    let bob = rig.call("POST", "/reload", &rig.bob, "");
    assert_eq!((bob.status, bob.error().as_str()), (403, "reloading requires the team.manage permission"));
    assert_eq!(rig.call("POST", "/reload", "", "").status, 401);

    // The broker looks by itself too; whoever is first sees the change.
    let quiet = fs::read_to_string(rig.config()).unwrap();
    let lines = rig.log.events("config reloaded").len();
    set(&rig, "port", &json!(9));
    set(&rig, "retentionDays", &json!(30));
    let (status, body) = reload();
    let why = "the broker listens where and how it began to";
    assert_eq!((status, &body["restartRequired"]), (200, &json!([{"field": "port", "why": why}])));
    let seen: Vec<Value> = rig.log.events("config reloaded").split_off(lines);
    assert!(seen.iter().any(|line| line["applied"] == json!(["retentionDays"])), "{seen:?}");

    for (text, want) in [
        ("{\n \"team\": oops", "ac7.json:2:10: "),
        ("{}", "ac7.json: team.name is missing"),
        (&quiet.replacen('{', "{\"retentionDays\": 0,", 1), "retentionDays is not a number of days"),
        (&quiet.replacen('{', "{\"retentionDays\": \"1\",", 1), "retentionDays"),
    ] {
        fs::write(rig.config(), text).unwrap();
        for _ in 0..2 {
            let (status, body) = reload();
            let said = body["error"].as_str().unwrap();
            assert!(status == 422 && body["ok"] == false && said.contains(want), "{status} {body}");
        }
        assert_eq!(rig.get("/briefing").status, 200, "the old state serves");
    }
    fs::write(rig.config(), quiet).unwrap();
    assert_eq!(reload().0, 200);
}

#[test]
fn what_is_too_old_goes_while_uploads_go_on() {
    let rig = Rig::new();
    let now = now_ms();
    let day = 86_400_000;
    for i in 0..10 {
        append(&rig, (0..300).map(|n| now - 10 * day + i * 300 + n));
    }
    append(&rig, [now - 2 * day]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let uploads = scope.spawn(|| {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                append(&rig, [now + n]);
                n += 1;
            }
            n
        });
        set(&rig, "retentionDays", &json!(3));
        wait_for("the old rows to go", || rig.log.events("activity pruned").len() == 1);
        done.store(true, Ordering::Relaxed);
        let uploaded = usize::try_from(uploads.join().unwrap()).unwrap();
        let line = &rig.log.events("activity pruned")[0];
        assert_eq!((&line["rows"], &line["olderThanDays"]), (&json!(3000), &json!(3)));
        let old = format!("/members/ann/activity?to={}", now - 1);
        assert_eq!(rig.get(&old).json()["activity"].as_array().unwrap().len(), 1);
        let new = format!("/members/ann/activity?from={now}&limit=1000");
        assert_eq!(rig.get(&new).json()["activity"].as_array().unwrap().len(), uploaded.min(1000));
    });
    set(&rig, "retentionDays", &json!(1));
    wait_for("the next round", || rig.log.events("activity pruned").len() == 2);
    assert_eq!(rig.get(&format!("/members/ann/activity?to={}", now - 1)).json()["activity"], json!([]));
    assert_eq!(Reader::open(&rig.database()).unwrap().check(|_, _| ()).unwrap(), [""; 0]);
}

#[test]
fn uploads_that_wait_for_the_disk_delay_no_other_request() {
    let rig = Rig::new();
    let blocker = rusqlite::Connection::open(rig.database()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let text = request("POST", "/members/ann/activity", &rig.ann, &upload([1]), "");
    let mut waiting: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    waiting.iter_mut().for_each(|client| client.send(&text));
    for _ in 0..20 {
        assert_eq!(rig.get("/briefing").status, 200);
    }
    blocker.execute_batch("COMMIT").unwrap();
    for client in &mut waiting {
        assert_eq!(client.reply("POST").unwrap().status, 201);
    }
}

#[test]
fn traces_are_pruned_beside_a_broker_that_takes_uploads() {
    let rig = Rig::new();
    let now = now_ms();
    for i in 0..6 {
        append(&rig, (0..500).map(|n| 1 + i * 500 + n));
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let upload = || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                append(&rig, [now + n]);
                n += 1;
            }
            n
        };
        let uploads = [scope.spawn(upload), scope.spawn(upload)];
        let db = rig.database();
        let pruned = Command::new(env!("CARGO_BIN_EXE_ac7"))
            .args(["prune-traces", "--older-than", "1d", "--yes", "--db"])
            .arg(&db)
            .output()
            .unwrap();
        done.store(true, Ordering::Relaxed);
        let uploaded: u64 = uploads.map(|u| u.join().unwrap()).iter().sum();
        let said = String::from_utf8_lossy(&pruned.stdout).into_owned();
        assert!(pruned.status.success() && said.starts_with("deleted 3 000 rows"), "{pruned:?}");
        assert!(uploaded > 0);
        assert_eq!(rows(&rig) as u64, uploaded.min(1000));
        assert_eq!(Reader::open(&db).unwrap().check(|_, _| ()).unwrap(), [""; 0]);
    });
}
