use std::fs;
use std::io::Read;

use super::*;
use crate::sys::random;
use crate::team::{Level, Post};

/// Files in a folder that goes away with the test.
struct Temp(PathBuf);

impl Temp {
    fn new() -> (Temp, Files) {
        let temp = Temp(std::env::temp_dir().join(format!("ac7-files-{}", random::hex::<8>())));
        let files = temp.open();
        (temp, files)
    }

    fn open(&self) -> Files {
        let database = self.0.join("ac7.db");
        Files::open(Arc::new(Store::open(&database).unwrap()), &database).unwrap()
    }

    /// The contents that are on the disk, and what is coming in.
    fn contents(&self) -> usize {
        let folders = fs::read_dir(self.0.join("ac7.db-files")).into_iter().flatten().flatten();
        folders.map(|folder| fs::read_dir(folder.path()).unwrap().count()).sum()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn path(text: &str) -> FsPath {
    FsPath::parse(text).unwrap()
}

fn content(files: &Files, text: &str) -> Content {
    let mut upload = files.upload().unwrap();
    upload.put(text.as_bytes()).unwrap();
    upload.finish().unwrap()
}

fn put(files: &Files, at: &str, text: &str, collide: Collide) -> Result<(Entry, bool), Error> {
    let content = content(files, text);
    let new = NewFile { path: &path(at), content: &content, mime: "text/plain", collide, by: "bob" };
    files.write(&new, 100, 7)
}

fn text(files: &Files, at: &str) -> String {
    let mut text = String::new();
    files.read(&path(at)).unwrap().1.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_content_is_stored_once_and_goes_with_its_last_file() {
    let (temp, files) = Temp::new();
    put(&files, "/bob/a", "same", Collide::Refuse).unwrap();
    put(&files, "/bob/d/b", "same", Collide::Refuse).unwrap();
    assert_eq!(temp.contents(), 1);
    files.remove(&path("/bob/a"), false).unwrap();
    assert_eq!((temp.contents(), text(&files, "/bob/d/b").as_str()), (1, "same"));
    put(&files, "/bob/d/b", "other", Collide::Replace).unwrap();
    assert_eq!((temp.contents(), text(&files, "/bob/d/b").as_str()), (1, "other"));
    put(&files, "/bob/d/b", "other", Collide::Replace).unwrap();
    assert_eq!(text(&files, "/bob/d/b"), "other");
    files.remove(&path("/bob/d"), true).unwrap();
    assert_eq!(temp.contents(), 0);
    // What was refused leaves nothing behind.
    put(&files, "/bob/a", "1", Collide::Refuse).unwrap();
    put(&files, "/bob/a", "2", Collide::Refuse).unwrap_err();
    assert_eq!(temp.contents(), 1);
}

#[test]
fn what_a_killed_broker_left_goes_at_the_next_start() {
    let (temp, files) = Temp::new();
    put(&files, "/bob/a", "kept", Collide::Refuse).unwrap();
    // A content with a name and no entry, and one that was still coming in.
    files.blobs.settle(&content(&files, "left")).unwrap();
    std::mem::forget(content(&files, "coming"));
    assert_eq!(temp.contents(), 3);
    drop(files);
    let files = temp.open();
    assert_eq!((temp.contents(), text(&files, "/bob/a").as_str()), (1, "kept"));

    // A database without any entry is taken for the wrong one.
    drop(files);
    fs::rename(temp.0.join("ac7.db"), temp.0.join("elsewhere.db")).unwrap();
    drop(temp.open());
    assert_eq!(temp.contents(), 1);
}

#[test]
fn a_content_that_lost_a_part_is_an_error_until_it_comes_again() {
    let (temp, files) = Temp::new();
    let (entry, _) = put(&files, "/bob/a", "whole", Collide::Refuse).unwrap();
    let name = random::to_hex(&entry.file.unwrap().hash);
    fs::write(temp.0.join("ac7.db-files").join(&name[..2]).join(&name), "who").unwrap();
    assert!(matches!(files.read(&path("/bob/a")), Err(Error::Disk { .. })));
    put(&files, "/bob/b", "whole", Collide::Refuse).unwrap();
    assert_eq!(text(&files, "/bob/a"), "whole");
}

#[test]
fn folders_move_with_all_that_is_in_them() {
    let (_temp, files) = Temp::new();
    for at in ["/bob/d/a", "/bob/d/e/b", "/bob/d0", "/bob/d.x", "/bob/d-/c"] {
        put(&files, at, at, Collide::Refuse).unwrap();
    }
    files.rename(&path("/bob/d"), &path("/bob/n/m"), "bob", 100, 9).unwrap();
    let all = |at| files.list(&path(at)).unwrap().into_iter().map(|e| e.path).collect::<Vec<_>>();
    assert_eq!(all("/bob"), ["/bob/d-", "/bob/d.x", "/bob/d0", "/bob/n"]);
    assert_eq!(all("/bob/n/m"), ["/bob/n/m/a", "/bob/n/m/e"]);
    assert_eq!(text(&files, "/bob/n/m/e/b"), "/bob/d/e/b");
    assert_eq!(all("/"), ["/bob"]);

    let refused = |from: &str, to: &str| match files.rename(&path(from), &path(to), "bob", 5, 9) {
        Err(Error::Refused(refused)) => refused,
        other => panic!("{from} {to}: {other:?}"),
    };
    let long = format!("/bob/{}", "abcdefgh/".repeat(112) + "x");
    files.make_folder(&path("/bob/n/m/long-name-of-a-folder"), false, "bob", 1).unwrap();
    files.make_folder(&path(&format!("/bob/n/m/{}", "y".repeat(120))), false, "bob", 1).unwrap();
    for (from, to, want) in [
        ("/bob/x", "/bob/y", Refused::Missing(path("/bob/x"))),
        ("/bob/n", "/bob/n/m/z", Refused::Inside(path("/bob/n"))),
        ("/bob/n", "/bob/d0", Refused::Exists(path("/bob/d0"))),
        ("/bob/n", "/bob/n", Refused::Exists(path("/bob/n"))),
        ("/bob/n", "/bob/d0/n", Refused::NotFolder(path("/bob/d0"))),
        ("/bob", "/bob/n/x", Refused::Home),
        ("/bob/n", "/ann", Refused::Home),
        ("/bob/d0", "/ann/d0", Refused::Quota { owner: "ann".into(), quota: 5, used: 0, more: 7 }),
        ("/bob/n", &long, Refused::Path("of something in it would be longer than 1024 bytes")),
    ] {
        assert_eq!(refused(from, to), want, "{from} {to}");
    }
}

#[test]
fn a_home_holds_so_many_bytes_and_entries() {
    let (_temp, files) = Temp::new();
    put(&files, "/bob/a", &"a".repeat(60), Collide::Refuse).unwrap();
    let refused = put(&files, "/bob/b", &"b".repeat(41), Collide::Refuse).unwrap_err().to_string();
    assert!(refused.contains("may hold 100 bytes, it holds 60, and this needs 41 more"), "{refused}");
    // Another home, and what takes the place of something.
    put(&files, "/ann/b", &"b".repeat(41), Collide::Refuse).unwrap();
    put(&files, "/bob/a", &"b".repeat(100), Collide::Replace).unwrap();
    put(&files, "/bob/empty", "", Collide::Refuse).unwrap();
    put(&files, "/bob/a", "less", Collide::Replace).unwrap();

    let fill = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9990)
                INSERT INTO fs_entry (path, parent, owner, created, created_by, updated)
                SELECT '/bob/x' || i, '/bob', 'bob', 1, 'bob', 1 FROM n";
    files.store.write(|db| db.execute_batch(fill)).unwrap();
    put(&files, "/bob/1/2/3/4/5/6", "x", Collide::Refuse).unwrap();
    let refused = put(&files, "/bob/y/z", "x", Collide::Refuse).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refused::TooMany { .. })), "{refused}");
    put(&files, "/bob/y", "x", Collide::Refuse).unwrap();
    put(&files, "/bob/y", "z", Collide::Replace).unwrap();
    files.make_folder(&path("/bob/z"), false, "bob", 1).unwrap_err();
}

#[test]
fn what_is_attached_may_be_read_wherever_it_is_moved() {
    let (_temp, files) = Temp::new();
    put(&files, "/bob/a", "x", Collide::Refuse).unwrap();
    files.make_folder(&path("/bob/d"), false, "bob", 1).unwrap();
    let attachment = |at: &str| Attachment {
        path: at.into(),
        name: "n".into(),
        size: 9,
        mime_type: "x/y".into(),
        content: None,
    };
    let attach = |sender: &str, manages, at: &str| {
        let mut one = [attachment(at)];
        files.attach(sender, manages, &mut one).unwrap().map(|()| one[0].size)
    };
    let checked = |from: &str, to: Option<&str>, at: &str| {
        let mut attachments = vec![attachment(at)];
        files.attach(from, false, &mut attachments).unwrap().unwrap();
        let (to, body, data) = (to.map(str::to_string), "x".into(), serde_json::Map::new());
        Post { to, title: None, body, level: Level::Info, data, attachments }
    };
    let send = |from: &str, to: Option<&str>, at: &str| {
        files.store.post(from, checked(from, to, at), 1).unwrap();
    };
    let granted = |at: &str, member: &str| files.is_granted(&path(at), member).unwrap();
    let (missing, forbidden) = (Err(NotAttached::Missing(0)), Err(NotAttached::Forbidden(0)));
    for (sender, manages, at, want) in [
        ("bob", false, "/bob/a", Ok(1)),
        ("bob", false, "/bob/b", missing.clone()),
        ("bob", false, "/bob/d", missing.clone()),
        ("bob", false, "../x", missing),
        ("ann", true, "/bob/a", Ok(1)),
        ("cat", false, "/bob/a", forbidden.clone()),
        ("cat", false, "/bob/b", forbidden),
    ] {
        assert_eq!(attach(sender, manages, at), want, "{sender} {at}");
    }

    send("bob", Some("cat"), "/bob/a");
    files.rename(&path("/bob/a"), &path("/bob/d/a"), "bob", 100, 1).unwrap();
    for (member, want) in [("cat", true), ("dan", false)] {
        assert_eq!(granted("/bob/d/a", member), want, "{member}");
    }
    assert_eq!(files.shared_with("cat").unwrap()[0].path, "/bob/d/a");
    assert!(files.shared_with("bob").unwrap().is_empty(), "one's own");
    assert_eq!(attach("cat", false, "/bob/d/a"), Ok(1), "passed on");
    send("cat", None, "/bob/d/a");
    assert!(granted("/bob/d/a", "dan"), "what is for everybody");

    // A later file of the same name is another one, even for a message that was let attach the first and is sent now.
    let late = checked("cat", Some("cat"), "/bob/d/a");
    files.remove(&path("/bob/d"), true).unwrap();
    put(&files, "/bob/d/a", "secret", Collide::Refuse).unwrap();
    files.store.post("cat", late, 1).unwrap();
    assert!(!granted("/bob/d/a", "cat") && files.shared_with("cat").unwrap().is_empty());
    files.forget("bob").unwrap();
    assert!(files.list(&path("/")).unwrap().is_empty());
}

#[test]
fn channels_and_objectives_let_those_read_who_take_part() {
    let (_temp, files) = Temp::new();
    let rows = "INSERT INTO channel (id, uid, slug, creator, created) VALUES (2, 'c', 'c', 'bob', 1);
        INSERT INTO channel_member VALUES (2, 'in', 'member', 1, 0);
        INSERT INTO objective (id, uid, title, body, outcome, status, assignee, originator, created, updated, attachments)
        VALUES (1, 'o', '', '', '', 'active', 'assignee', 'originator', 1, 1, '[]');
        INSERT INTO objective_watcher (objective, member) VALUES (1, 'watcher');
        INSERT INTO message (id, uid, ts, body, level, data, attachments, everyone, channel, objective)
        VALUES (1, 'm1', 1, '', 'info', '{}', '[]', 0, 2, NULL), (2, 'm2', 1, '', 'info', '{}', '[]', 0, NULL, 1);";
    files.store.write(|db| db.execute_batch(rows)).unwrap();
    for (at, attached) in [("/bob/c", "1, NULL"), ("/bob/o", "NULL, 1"), ("/bob/d", "2, NULL")] {
        put(&files, at, "x", Collide::Refuse).unwrap();
        let sql = format!(
            "INSERT INTO attachment (path, message, objective, entry)
             SELECT path, {attached}, id FROM fs_entry WHERE path = '{at}'"
        );
        files.store.write(|db| db.execute_batch(&sql)).unwrap();
    }
    for (member, want) in [
        ("in", &["/bob/c"][..]),
        ("assignee", &["/bob/d", "/bob/o"]),
        ("originator", &["/bob/d", "/bob/o"]),
        ("watcher", &["/bob/d", "/bob/o"]),
        ("out", &[]),
    ] {
        let shared = files.shared_with(member).unwrap();
        assert_eq!(shared.iter().map(|e| e.path.as_str()).collect::<Vec<_>>(), want, "{member}");
        for at in ["/bob/c", "/bob/d", "/bob/o"] {
            assert_eq!(files.is_granted(&path(at), member).unwrap(), want.contains(&at), "{member} {at}");
        }
    }
    files
        .store
        .write(|db| db.execute_batch("DELETE FROM objective_watcher; DELETE FROM channel_member"))
        .unwrap();
    assert!(files.shared_with("watcher").unwrap().is_empty() && files.shared_with("in").unwrap().is_empty());
}
