//! Start, change, stop.
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ac7::broker::{Broker, Config, Limits, Log};
use ac7::identity::{TeamFile, mint};
use ac7::sys::file::write_atomic;
use ac7::sys::user::host_name;

use crate::rig::{Rig, request, threads, upload, wait_for};

#[test]
fn a_restart_keeps_what_was_accepted() {
    let mut rig = Rig::new();
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(1..=3)).status, 201);
    rig.stop();
    rig.start();
    let rows = rig.get("/members/ann/activity").json();
    assert_eq!(rows["activity"].as_array().unwrap().len(), 3);
}

#[test]
fn an_edited_team_file_counts_within_a_second() {
    let rig = Rig::new();
    let fresh = mint("new", "rotate", 0);
    assert_eq!(rig.call("GET", "/briefing", &fresh.text, "").status, 401);
    let change = |edit: &dyn Fn(&mut TeamFile)| {
        TeamFile::update(&rig.config(), |file| {
            edit(file);
            Ok(())
        })
        .unwrap();
        let began = Instant::now();
        move || assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed())
    };
    let in_time = change(&|file| file.members[1].tokens = vec![fresh.token.clone()]);
    wait_for("the new token", || rig.call("GET", "/briefing", &fresh.text, "").status == 200);
    in_time();
    assert_eq!(rig.call("GET", "/briefing", &rig.bob, "").status, 401, "a token that was taken away");

    let named =
        |host: &str| rig.status_of(format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
    assert_eq!(named("ac7.example.org"), 421);
    let in_time = change(&|file| file.hosts = vec!["ac7.example.org".into()]);
    wait_for("the new name", || named("ac7.example.org") == 200);
    in_time();
}

#[test]
fn a_broker_on_every_address_has_this_machines_name() {
    let mut rig = Rig::new();
    let text = format!("GET /healthz HTTP/1.1\r\nHost: {}:8717\r\n\r\n", host_name());
    assert_eq!(rig.status_of(text.as_bytes()), 421, "on the loopback it has not");
    TeamFile::update(&rig.config(), |file| {
        file.host = Some("0.0.0.0".into());
        Ok(())
    })
    .unwrap();
    rig.stop();
    rig.start();
    assert_eq!(rig.status_of(text.as_bytes()), 200);
    assert_eq!(rig.status_of(b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n"), 421);
}

#[test]
fn a_broken_team_file_changes_nothing() {
    let rig = Rig::new();
    let good = fs::read_to_string(rig.config()).unwrap();
    // In one step: an edit that is seen half done would be one more refusal.
    let edit = |text: &str| write_atomic(&rig.config(), text.as_bytes()).unwrap();
    edit("{\n  \"team\": oops");
    wait_for("the refusal", || rig.log.events("config refused").len() == 1);
    let said = rig.log.events("config refused")[0]["error"].as_str().unwrap().to_string();
    assert!(said.contains("ac7.json:2:11: "), "{said}");
    assert_eq!(rig.get("/briefing").status, 200);

    edit("{\"team\": 7}");
    wait_for("the second refusal", || rig.log.events("config refused").len() == 2);
    let said = rig.log.events("config refused")[1]["error"].to_string();
    assert!(said.contains("team.name is missing"), "{said}");

    fs::remove_file(rig.config()).unwrap();
    wait_for("the third refusal", || rig.log.events("config refused").len() == 3);
    assert_eq!(rig.get("/briefing").status, 200);

    edit(&good);
    wait_for("the reload", || !rig.log.events("config reloaded").is_empty());
    assert_eq!(rig.log.events("config refused").len(), 3, "one line for each change");
}

#[test]
fn a_stop_answers_what_is_in_work_and_ends_every_thread() {
    let mut rig = Rig::new();
    let blocker = rusqlite::Connection::open(rig.database()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut idle = rig.connect();
    idle.send(&request("GET", "/healthz", "", "", ""));
    assert_eq!(idle.reply("GET").unwrap().status, 200);
    let mut working = rig.upload_in_work();

    let address = rig.address();
    let broker = rig.take();
    let stopping = thread::spawn(move || broker.stop());
    assert!(idle.is_closed(), "idle connections end at once");
    wait_for("the port to close", || std::net::TcpStream::connect(address).is_err());
    assert!(!stopping.is_finished());
    blocker.execute_batch("COMMIT").unwrap();
    let reply = working.reply("POST").unwrap();
    assert_eq!((reply.status, reply.headers.get("connection")), (201, Some("close")));
    stopping.join().unwrap();

    assert_eq!(threads("ac7-"), 0);
    let sockets = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let ours = sockets.filter(|e| {
        let name = e.file_name().into_string().unwrap();
        // A test of another program may have one; only ours is unlocked.
        name.starts_with("ac7-broker-")
            && !name.starts_with("ac7-broker-test-")
            && fs::File::open(e.path().join("lock")).is_ok_and(|f| f.try_lock().is_ok())
    });
    assert_eq!(ours.count(), 0);
    rig.start();
    assert_eq!(rig.get("/members/ann/activity").json()["activity"].as_array().unwrap().len(), 1);
}

#[test]
fn a_start_that_fails_says_why_and_leaves_no_thread() {
    let mut rig = Rig::new();
    let try_start = |port, config| {
        let started = Broker::start(Config {
            listener: None,
            host: None,
            port: Some(port),
            config_path: config,
            db: rig.folder.join("ac7.db"),
            self_signed: false,
            activity_db: rig.database(),
            limits: Limits::default(),
            log: Log::to(Box::new(rig.log.clone())),
        });
        started.err().expect("it cannot start").to_string()
    };
    let port = rig.address().port();
    assert_eq!(try_start(port, rig.config()), format!("EADDRINUSE: address already in use 127.0.0.1:{port}"));
    let missing = rig.folder.join("none.json");
    let said = try_start(0, missing.clone());
    assert_eq!(said, format!("there is no config at {}: `ac7 setup` makes one", missing.display()));
    fs::write(&missing, "{").unwrap();
    assert!(try_start(0, missing).contains("none.json:1:1: "), "no line and column");
    rig.stop();
    assert_eq!(threads("ac7-"), 0);
}

#[test]
fn uploads_from_many_clients_share_commits_and_all_arrive() {
    let rig = Rig::new();
    thread::scope(|scope| {
        for t in 0..16 {
            let rig = &rig;
            scope.spawn(move || {
                let mut client = rig.connect();
                for i in 0..25 {
                    client.send(&request(
                        "POST",
                        "/members/ann/activity",
                        &rig.ann,
                        &upload([t * 100 + i]),
                        "",
                    ));
                    assert_eq!(client.reply("POST").unwrap().status, 201);
                }
            });
        }
    });
    let rows = rig.get("/members/ann/activity?limit=1000").json();
    assert_eq!(rows["activity"].as_array().unwrap().len(), 400);
}

#[test]
fn a_disk_that_is_nearly_full_is_for_messages() {
    let rig = Rig::with(Limits { reserve: u64::MAX, ..Limits::default() });
    let refused = rig.call("POST", "/members/ann/activity", &rig.ann, &upload([1]));
    assert_eq!((refused.status, refused.headers.get("retry-after")), (503, Some("3")));
    assert_eq!(rig.call("POST", "/push", &rig.ann, r#"{"body": "x"}"#).status, 200);
    assert_eq!(rig.get("/members/ann/activity").json()["activity"].as_array().unwrap().len(), 0);
    wait_for("the log", || rig.log.text().contains("the disk is nearly full: "));
}
