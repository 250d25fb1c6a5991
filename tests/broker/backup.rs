//! `ac7 backup` beside a broker that works, `ac7 restore`, and going to a newer version and back.
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ac7::store::activity::{Query, Reader};
use rusqlite::Connection;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rig::{Rig, upload, wait_for};

/// Where a broker's parts are.
struct Place(PathBuf);

impl Place {
    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
        command.args(words);
        self.name_parts(&mut command);
        command
    }

    /// Let a command know them.
    fn name_parts(&self, command: &mut Command) {
        command
            .env("AC7_CONFIG_PATH", self.0.join("ac7.json"))
            .env("AC7_DB_PATH", self.0.join("ac7.db"))
            .env("AC7_ACTIVITY_DB_PATH", self.0.join("activity.db"));
    }

    /// Run it, and see that it does what it should.
    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let out = self.run(words);
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// Run it, and see that it fails, with this status and these words.
    #[track_caller]
    fn fails(&self, words: &[&str], code: i32, why: &str) {
        let out = self.run(words);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(code) && said.contains(why), "{words:?}: {:?} {said}", out.status);
    }

    /// The times of all events that are stored.
    fn times(&self) -> BTreeSet<u64> {
        let mut times = BTreeSet::new();
        let reader = Reader::open(&self.0.join("activity.db")).unwrap();
        let every = Query { limit: usize::MAX, ..Query::default() };
        reader
            .list(&every, |row| {
                let event: Value = serde_json::from_str(&row.event).unwrap();
                times.insert(event["ts"].as_u64().unwrap());
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        times
    }

    fn names(&self) -> Vec<String> {
        let found = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let mut names: Vec<_> = found.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What will be something else when it is whole.
    fn temporary(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(".tmp")).collect()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_backup_under_load_holds_all_that_was_answered() {
    let mut rig = Rig::new();
    let text = "the content of a file, ".repeat(4000);
    assert_eq!(rig.call("POST", "/fs/write?path=/bob/a.txt&mime=text/plain", &rig.bob, &text).status, 200);
    let (next, answered, stop) = (AtomicU64::new(1), Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    let count = || answered.lock().unwrap().len();
    let place = Place(rig.folder.clone());
    let archive = rig.folder.join("b.tar");
    let name = archive.to_str().unwrap();
    let before = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(20, Ordering::Relaxed);
                    let reply = rig.call("POST", "/members/ann/activity", &rig.ann, &upload(n..n + 20));
                    assert_eq!(reply.status, 201, "{}", reply.error());
                    answered.lock().unwrap().extend(n..n + 20);
                }
            });
        }
        wait_for("some uploads", || count() > 500);
        let before = answered.lock().unwrap().clone();
        let out = place.run(&["backup", "--with-key", name]);
        let after = count();
        wait_for("uploads to go on", || count() > after);
        stop.store(true, Ordering::Relaxed);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(said.ends_with("the key too: keep it as safe as the broker\n"), "{said}");
        before
    });
    assert_eq!(mode(&archive), 0o600);
    place.fails(&["backup", name], 2, "there is something already");
    let listed = Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!((listed.len(), listed[0], listed[5]), (6, "ac7.json", "manifest.json"), "{listed:?}");

    let other = Place(rig.folder.join("other"));
    other.does(&["restore", "--quiet", name]);
    assert_eq!(other.names(), ["ac7.db", "ac7.db-files", "ac7.json", "ac7.json.kek", "activity.db"]);
    for file in ["ac7.db", "ac7.json", "ac7.json.kek", "activity.db"] {
        assert_eq!(mode(&other.0.join(file)), 0o600, "{file}");
    }
    assert!(other.does(&["check"]).ends_with("activity.db: sound\n"));
    let restored = other.times();
    assert!(before.is_subset(&restored) && before.len() > 500, "{} of {}", restored.len(), before.len());
    assert_eq!(
        fs::read(other.0.join("ac7.json.kek")).unwrap(),
        fs::read(place.0.join("ac7.json.kek")).unwrap()
    );

    // Back over the same broker, which has gone on meanwhile.
    place.fails(&["restore", name], 2, "there is something already");
    place.fails(&["restore", "--replace", name], 1, "a program has it open");
    rig.stop();
    place.does(&["restore", "--replace", name]);
    rig.start();
    assert!(place.times() == restored, "what came after the backup is gone, and nothing else");
    assert_eq!(rig.call("GET", "/fs/read/bob/a.txt", &rig.bob, "").body, text.as_bytes());
    let aside: Vec<String> = place.names().into_iter().filter(|name| name.contains(".before-")).collect();
    for file in ["ac7.db", "ac7.db-files", "ac7.json", "activity.db"] {
        assert!(aside.iter().any(|name| name.starts_with(&format!("{file}.before-"))), "{file}: {aside:?}");
    }
}

#[test]
fn what_is_no_whole_backup_is_not_restored() {
    let rig = Rig::new();
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(1..9)).status, 201);
    let place = Place(rig.folder.clone());
    let archive = rig.folder.join("b.tar");
    place.does(&["backup", "--quiet", archive.to_str().unwrap()]);
    let whole = fs::read(&archive).unwrap();
    let other = Place(rig.folder.join("other"));
    let bad = rig.folder.join("bad.tar");
    let manifest = whole.windows(13).position(|w| w == b"manifest.json").unwrap();
    let swapped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (bytes, why) in [
        (Vec::new(), ""),
        (whole[..manifest].to_vec(), ""),
        ([&whole[..manifest], &[0; 1024]].concat(), "its manifest is missing or does not fit"),
        (whole[..whole.len() / 2].to_vec(), ""),
        (swapped(600), "its manifest is missing or does not fit"),
        (swapped(manifest - 700), "its manifest is missing or does not fit"),
        (swapped(3), "it is not a tar archive"),
        (b"something else altogether".repeat(100), "it is not a tar archive"),
    ] {
        fs::write(&bad, bytes).unwrap();
        other.fails(&["restore", bad.to_str().unwrap()], 1, why);
        assert_eq!(other.names(), [""; 0]);
    }
    // A log that outlived its database is not played into the one that comes.
    let log = other.0.join("activity.db-wal");
    fs::copy(place.0.join("activity.db-wal"), &log).unwrap();
    other.fails(&["restore", archive.to_str().unwrap()], 2, "there is something already: ");
    other.does(&["restore", "--replace", archive.to_str().unwrap()]);
    let names = other.names();
    assert!(!log.exists() && names.iter().any(|n| n.starts_with("activity.db.before-")), "{names:?}");
    assert_eq!(other.times(), (1..9).collect());
    fs::remove_dir_all(&other.0).unwrap();
    // Without the key it says so; with it in place beforehand it is kept.
    let said = other.does(&["restore", archive.to_str().unwrap()]);
    assert!(said.contains("The key is not in it"), "{said}");
    place.fails(&["backup", "/nonexistent/b.tar"], 1, "No such file or directory");
    other.fails(&["backup", "--with-key", other.0.join("k.tar").to_str().unwrap()], 1, "ac7.json.kek: ");
    let full = other.0.join("full.tar");
    // No file may become larger than this: as if the disk were full.
    let limited = "trap '' XFSZ; ulimit -f 16; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", limited, "sh", env!("CARGO_BIN_EXE_ac7"), "backup", full.to_str().unwrap()]);
    other.name_parts(&mut command);
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.starts_with("ac7 backup: "), "{said}");
    assert!(!other.names().iter().any(|name| name.contains("tar")), "{:?}", other.names());
}

#[test]
fn an_upgrade_keeps_a_copy_and_a_newer_file_is_refused() {
    let mut rig = Rig::new();
    rig.stop();
    let main = rig.folder.join("ac7.db");
    // As the version before this one left it.
    let old = Connection::open(&main).unwrap();
    old.execute_batch("DROP TABLE push_subscription; PRAGMA user_version = 4").unwrap();
    old.execute_batch("INSERT INTO totp VALUES ('ann', 7)").unwrap();
    old.close().unwrap();
    rig.start();
    rig.stop();
    let kept = rig.folder.join("ac7.db.v4");
    assert_eq!(mode(&kept), 0o600);
    let told = rig.log.events("database upgraded");
    let [told] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&told["from"], &told["to"]), (&json!(4), &json!(5)));
    assert_eq!((told["database"].as_str(), told["copy"].as_str()), (main.to_str(), kept.to_str()));
    let version = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let used: i64 =
            conn.query_row("SELECT step FROM totp WHERE member = 'ann'", [], |row| row.get(0)).unwrap();
        (version, used)
    };
    assert_eq!((version(&kept), version(&main)), ((4, 7), (5, 7)));

    // A verb that comes before the broker does the same, and says so once.
    let place = Place(rig.folder.clone());
    fs::copy(&kept, &main).unwrap();
    fs::remove_file(&kept).unwrap();
    let roster = || String::from_utf8(place.run(&["roster"]).stderr).unwrap();
    let (first, second) = (roster(), roster());
    let says =
        format!("ac7 roster: the database has schema 5 now: {}; with schema 4 it is kept: ", main.display());
    assert_eq!((first, second), (format!("{says}{}\n", kept.display()), String::new()));
    assert_eq!((version(&kept), version(&main)), ((4, 7), (5, 7)));

    let newer = |path: &Path| {
        let conn = Connection::open(path).unwrap();
        conn.pragma_update(None, "user_version", 99).unwrap();
    };
    newer(&main);
    let why = "it has schema 99 of a newer ac7, this one knows up to";
    place.fails(&["serve", "--port", "0"], 1, why);
    place.fails(&["backup", rig.folder.join("b.tar").to_str().unwrap()], 1, why);
    newer(&rig.database());
    place.fails(&["stats", "--db", rig.database().to_str().unwrap()], 1, why);
    place.fails(&["check"], 1, "this one knows up to 1 [newer-file]\n");
    place.fails(&["prune-traces", "--older-than", "1d", "--yes"], 1, why);
}

#[test]
fn a_restore_that_fails_halfway_changes_nothing() {
    let mut rig = Rig::new();
    let place = Place(rig.folder.clone());
    let text = "kept";
    assert_eq!(rig.call("POST", "/fs/write?path=/bob/a.txt&mime=text/plain", &rig.bob, text).status, 200);
    let archive = rig.folder.join("b.tar");
    place.does(&["backup", "--with-key", "--quiet", archive.to_str().unwrap()]);
    assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(1..9)).status, 201);
    rig.stop();
    // The databases have their places by the time the key does not get its own.
    let key = rig.folder.join("ac7.json.kek");
    fs::rename(&key, rig.folder.join("key")).unwrap();
    fs::create_dir(&key).unwrap();
    let before = place.names();
    place.fails(&["restore", "--replace", archive.to_str().unwrap()], 1, "ac7.json.kek: ");
    assert_eq!(place.names(), before);
    fs::remove_dir(&key).unwrap();
    fs::rename(rig.folder.join("key"), &key).unwrap();
    rig.start();
    assert_eq!(rig.call("GET", "/fs/read/bob/a.txt", &rig.bob, "").body, text.as_bytes());
    let rows = rig.get("/members/ann/activity").json()["activity"].as_array().unwrap().len();
    assert_eq!(rows, 8, "what came after the backup is still there");
}

#[test]
fn a_signal_ends_a_backup_and_a_restore_without_a_trace() {
    let mut rig = Rig::new();
    rig.stop();
    let activity = rig.database();
    let large = Connection::open(&activity).unwrap();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 32)";
    large.execute_batch(&format!("CREATE TABLE large AS {rows} SELECT randomblob(1048576) FROM n")).unwrap();
    large.close().unwrap();
    let place = Place(rig.folder.clone());
    let archive = rig.folder.join("b.tar");
    place.does(&["backup", "--with-key", "--quiet", archive.to_str().unwrap()]);
    let whole = fs::read(&archive).unwrap();
    assert!(whole.len() > 32 << 20);

    // What is read last before the databases, and the archive itself, come through pipes: they wait for us.
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let (key, fed) = (rig.folder.join("ac7.json.kek"), rig.folder.join("fed.tar"));
    let secret = fs::read(&key).unwrap();
    pipe(&key);
    pipe(&fed);
    let other = Place(rig.folder.join("other"));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let old = format!("kept through {code}");
        fs::write(&archive, &old).unwrap();
        let before = place.names();
        let words = ["backup", "--with-key", "--replace", archive.to_str().unwrap()];
        let child = place.command(&words).stderr(Stdio::piped()).spawn().unwrap();
        wait_for("the backup to begin", || place.temporary().iter().any(|name| name.starts_with("b.tar.")));
        kill_process(Pid::from_child(&child), signal).unwrap();
        feed(&key).write_all(&secret).unwrap();
        ended(child, code);
        assert_eq!((place.names(), fs::read_to_string(&archive).unwrap()), (before, old));

        let child = other.command(&["restore", fed.to_str().unwrap()]).stderr(Stdio::piped()).spawn();
        let child = child.unwrap();
        let mut part = feed(&fed);
        part.write_all(&whole[..16 << 20]).unwrap();
        let begun = |name: &String| name.starts_with("activity.db.");
        wait_for("the restore to begin", || other.temporary().iter().any(begun));
        kill_process(Pid::from_child(&child), signal).unwrap();
        drop(part);
        ended(child, code);
        assert_eq!(other.names(), [""; 0]);
    }
}

/// The end of a pipe that feeds who reads the other one.
fn feed(pipe: &Path) -> fs::File {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let open = || fs::OpenOptions::new().write(true).custom_flags(flags).open(pipe);
    let mut opened = None;
    wait_for("a reader", || {
        opened = open().ok();
        opened.is_some()
    });
    let file = opened.unwrap();
    fcntl_setfl(&file, OFlags::empty()).unwrap();
    file
}

/// Wait for one that was ended by a signal in time.
#[track_caller]
fn ended(child: Child, code: i32) {
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), said.as_str()), (Some(code), "interrupted: nothing was changed\n"));
}
