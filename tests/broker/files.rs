//! `/fs`: files of members, who may see them, and what they may be.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ac7::broker::Limits;
use ac7::identity::TeamFile;
use serde_json::{Value, json};

use crate::identity::{enroll, session};
use crate::rig::{Reply, Rig, request, wait_for};

impl Rig {
    fn put(&self, who: &str, path: &str, query: &str, body: &str) -> Reply {
        self.call("POST", &format!("/fs/write?path={path}{query}"), who, body)
    }

    fn text(&self, who: &str, path: &str) -> String {
        let reply = self.call("GET", &format!("/fs/read{path}"), who, "");
        assert_eq!(reply.status, 200, "{path}: {}", reply.error());
        String::from_utf8(reply.body).unwrap()
    }

    fn names(&self, who: &str, path: &str) -> Vec<String> {
        let list = self.call("GET", &format!("/fs/ls?path={path}"), who, "").json();
        let entries = list["entries"].as_array().unwrap();
        entries.iter().map(|e| e["name"].as_str().unwrap().to_string()).collect()
    }

    fn contents(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.folder.join("ac7.db-files")).into_iter().flatten().flatten();
        folders.flat_map(|f| fs::read_dir(f.path()).unwrap().flatten().map(|e| e.path())).collect()
    }

    /// Give `files` in the team file a value.
    fn set_files(&self, files: &Value) {
        let set = |file: &mut TeamFile| {
            file.more.insert("files".into(), files.clone());
            Ok(())
        };
        TeamFile::update(&self.config(), set).unwrap();
        assert_eq!(self.call("POST", "/reload", &self.ann, "").status, 200);
    }
}

#[test]
fn requests_and_answers_are_those_of_the_corpus() {
    crate::corpus::play("files");
}

#[test]
fn a_file_is_written_listed_read_moved_and_removed() {
    let rig = Rig::new();
    let bob = &rig.bob;
    assert_eq!(rig.names(bob, "/bob"), [""; 0], "a home is there before anything is in it");
    let made = rig.put(bob, "/bob/d/a.txt", "&mime=text/plain&collide=error", "hello").json();
    let entry = &made["entry"];
    assert!(entry["createdAt"].as_u64() > Some(0) && entry["createdAt"] == entry["updatedAt"], "{made}");
    let want = json!({
        "path": "/bob/d/a.txt", "name": "a.txt", "kind": "file", "owner": "bob", "size": 5, "mimeType": "text/plain",
        "hash": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", "createdBy": "bob",
        "createdAt": entry["createdAt"], "updatedAt": entry["updatedAt"],
    });
    assert_eq!((entry, &made["renamed"]), (&want, &json!(false)));
    assert_eq!(rig.call("GET", "/fs/stat?path=/bob/d/a.txt", bob, "").json(), json!({"entry": want}));
    let folder = rig.call("GET", "/fs/stat?path=/bob/d", bob, "").json()["entry"].clone();
    let nothing = [&folder["size"], &folder["mimeType"], &folder["hash"]];
    assert_eq!((folder["kind"].as_str(), nothing), (Some("directory"), [&Value::Null; 3]));

    let read = rig.call("GET", "/fs/read/bob/d/a.txt", bob, "");
    assert_eq!((read.status, &read.body[..]), (200, &b"hello"[..]));
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-length", "5"),
        ("content-disposition", "attachment; filename=\"a.txt\""),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(read.headers.get(name), Some(value), "{name}");
    }
    let head = rig.call("HEAD", "/fs/read/bob/d/a.txt", bob, "");
    assert_eq!((head.headers.get("content-length"), head.body.len()), (Some("5"), 0));

    let moved = rig.call("POST", "/fs/mv", bob, r#"{"from":"/bob/d","to":"/bob/x/y"}"#).json();
    assert_eq!(moved["entry"]["path"], "/bob/x/y");
    assert_eq!(rig.text(bob, "/bob/x/y/a.txt"), "hello");
    assert_eq!(rig.call("GET", "/fs/read/bob/d/a.txt", bob, "").status, 404);
    let full = rig.call("DELETE", "/fs/rm?path=/bob/x", bob, "");
    assert_eq!((full.status, full.error().contains("recursive=true")), (409, true));
    assert_eq!(rig.call("DELETE", "/fs/rm?path=/bob/x&recursive=true", bob, "").status, 204);
    assert_eq!((rig.names(bob, "/bob").len(), rig.contents().len()), (0, 0));
}

#[test]
fn a_name_that_is_taken_is_refused_numbered_or_overwritten() {
    let rig = Rig::new();
    let bob = &rig.bob;
    rig.put(bob, "/bob/a.txt", "", "one");
    for (query, status, path) in [
        ("", 409, Value::Null),
        ("&collide=error", 409, Value::Null),
        ("&collide=sometimes", 400, Value::Null),
        ("&collide=suffix", 200, json!("/bob/a-1.txt")),
        ("&collide=suffix", 200, json!("/bob/a-2.txt")),
        ("&collide=overwrite", 200, json!("/bob/a.txt")),
    ] {
        let reply = rig.put(bob, "/bob/a.txt", query, query);
        let made = reply.json();
        assert_eq!((reply.status, &made["entry"]["path"]), (status, &path), "{query}");
        assert_eq!(made["renamed"] == true, query == "&collide=suffix", "{query}");
    }
    assert_eq!(rig.text(bob, "/bob/a.txt"), "&collide=overwrite");
    assert_eq!(rig.contents().len(), 2, "the two suffixed ones are the same, the first content is gone");
    // Upper and lower case are two files.
    rig.put(bob, "/bob/A.TXT", "", "case");
    assert_eq!(rig.names(bob, "/bob"), ["A.TXT", "a-1.txt", "a-2.txt", "a.txt"]);

    let mkdir = |body: &str| rig.call("POST", "/fs/mkdir", bob, body).status;
    for (body, want) in [
        (r#"{"path":"/bob/p/q"}"#, 404),
        (r#"{"path":"/bob/p/q","recursive":true}"#, 200),
        (r#"{"path":"/bob/p/q","recursive":true}"#, 200),
        (r#"{"path":"/bob/p/q"}"#, 409),
        (r#"{"path":"/bob/a.txt","recursive":true}"#, 409),
        (r#"{"path":"/bob/a.txt/b"}"#, 409),
        (r#"{"path":"/"}"#, 403),
        (r#"{"path":7}"#, 400),
        ("{}", 400),
    ] {
        assert_eq!(mkdir(body), want, "{body}");
    }
    for (method, path, body, want) in [
        ("POST", "/fs/write?path=/bob/p&collide=overwrite", "x", 409),
        ("POST", "/fs/write?path=/bob/a.txt/b", "x", 409),
        ("POST", "/fs/write?path=/bob", "x", 400),
        ("POST", "/fs/write?path=/bob/z&mime=text", "x", 400),
        ("POST", "/fs/write", "x", 400),
        ("GET", "/fs/read/bob/p", "", 409),
        ("GET", "/fs/ls?path=/bob/a.txt", "", 409),
        ("GET", "/fs/ls?path=/bob/none", "", 404),
        ("GET", "/fs/stat?path=/bob/none", "", 404),
        ("GET", "/fs/stat", "", 400),
        ("POST", "/fs/mv", r#"{"from":"/bob/p","to":"/bob/p/q/r"}"#, 409),
        ("POST", "/fs/mv", r#"{"from":"/bob/p","to":"/bob/a.txt"}"#, 409),
        ("POST", "/fs/mv", r#"{"from":"/bob/none","to":"/bob/n"}"#, 404),
        ("POST", "/fs/mv", r#"{"from":"/bob","to":"/bob/n"}"#, 400),
        ("POST", "/fs/mv", r#"{"from":"/bob/p"}"#, 400),
        ("DELETE", "/fs/rm?path=/bob/none", "", 404),
        ("DELETE", "/fs/rm?path=/bob&recursive=true", "", 400),
        ("DELETE", "/fs/rm?path=/bob/p&recursive=maybe", "", 400),
        ("PUT", "/fs/write?path=/bob/z", "x", 405),
    ] {
        let reply = rig.call(method, path, bob, body);
        assert_eq!(reply.status, want, "{method} {path} {body}: {}", reply.error());
    }
}

#[test]
fn nothing_leads_out_of_a_home() {
    let rig = Rig::new();
    rig.put(&rig.ann, "/ann/secret", "", "secret");
    for path in [
        "/bob/../ann/secret",
        "/bob/%2e%2e/ann/secret",
        "/bob/%2E./ann/secret",
        "/bob/%252e%252e/ann/secret",
        "/bob/..%2fann%2fsecret",
        "/bob%2f..%2fann%2fsecret",
        "/bob/./a",
        "/bob//a",
        "/bob/a%00",
        "/bob/a%00.txt",
        "/bob/a%5c..%5cb",
        "/bob/a%0d%0aSet-Cookie:x",
        "/bob/%C3%A9",
        "/bob/%ff",
        "/bob/",
        "bob/a",
        "../../etc/passwd",
        "%2fetc%2f..%2fpasswd",
        &format!("/bob/{}", "a".repeat(256)),
        &format!("/bob/{}a", "a/".repeat(510)),
    ] {
        // After /fs/read there is always a slash.
        let read =
            if path.starts_with('/') { format!("/fs/read{path}") } else { format!("/fs/read//{path}") };
        let body = json!({"path": path, "from": path, "to": path}).to_string();
        for (method, target, body) in [
            ("POST", format!("/fs/write?path={path}"), "x"),
            ("GET", read, ""),
            ("GET", format!("/fs/stat?path={path}"), ""),
            ("GET", format!("/fs/ls?path={path}"), ""),
            ("DELETE", format!("/fs/rm?path={path}&recursive=true"), ""),
            ("POST", "/fs/mkdir".to_string(), body.as_str()),
            ("POST", "/fs/mv".to_string(), body.as_str()),
        ] {
            let reply = rig.call(method, &target, &rig.bob, body);
            // What would be another's home is refused as such.
            assert!(matches!(reply.status, 400 | 403), "{method} {target}: {}", reply.status);
            assert!(!String::from_utf8_lossy(&reply.body).contains("passwd:"));
        }
    }
    assert_eq!(rig.text(&rig.ann, "/ann/secret"), "secret");
    assert_eq!(rig.names(&rig.ann, "/"), ["ann"]);
}

#[test]
fn a_home_is_for_its_owner_and_for_those_who_manage_members() {
    let rig = Rig::new();
    let (ann, bob) = (&rig.ann, &rig.bob);
    rig.put(bob, "/bob/a", "", "bobs");
    rig.put(ann, "/ann/a", "", "anns");
    for (method, path, body) in [
        ("GET", "/fs/ls?path=/ann", ""),
        ("GET", "/fs/stat?path=/ann/a", ""),
        ("GET", "/fs/stat?path=/ann/none", ""),
        ("GET", "/fs/stat?path=/", ""),
        ("GET", "/fs/read/ann/a", ""),
        ("GET", "/fs/read/zed/a", ""),
        ("POST", "/fs/write?path=/ann/b", "x"),
        ("POST", "/fs/write?path=/Bob/b", "x"),
        ("POST", "/fs/mkdir", r#"{"path":"/ann/d"}"#),
        ("POST", "/fs/mv", r#"{"from":"/ann/a","to":"/bob/b"}"#),
        ("POST", "/fs/mv", r#"{"from":"/bob/a","to":"/ann/b"}"#),
        ("DELETE", "/fs/rm?path=/ann/a", ""),
    ] {
        let reply = rig.call(method, path, bob, body);
        assert_eq!(
            (reply.status, reply.error().contains("members.manage")),
            (403, true),
            "{method} {path} {body}"
        );
        assert_eq!(rig.call(method, path, "", body).status, 401, "{method} {path} {body}");
    }
    assert_eq!(rig.names(bob, "/"), ["bob"]);
    assert_eq!(rig.names(ann, "/"), ["ann", "bob"]);
    assert_eq!(rig.text(ann, "/bob/a"), "bobs");
    let made = rig.put(ann, "/bob/from-ann", "", "x").json();
    assert_eq!((&made["entry"]["owner"], &made["entry"]["createdBy"]), (&json!("bob"), &json!("ann")));
    assert_eq!(rig.put(ann, "/zed/a", "", "x").status, 404, "no member, no home");
    assert_eq!(rig.call("GET", "/fs/shared", bob, "").json(), json!({"entries": []}));

    // A later member of the same name finds nothing.
    assert_eq!(rig.call("DELETE", "/members/bob", ann, "").status, 204);
    assert_eq!(rig.names(ann, "/"), ["ann"]);
    assert_eq!(rig.contents().len(), 1);
}

#[test]
fn files_may_be_large_and_strangers_may_not_send_them() {
    let rig = Rig::new();
    let large = "0123456789abcdef".repeat((25 << 20) / 16);
    let made = rig.put(&rig.bob, "/bob/large", "", &large);
    assert_eq!((made.status, &made.json()["entry"]["size"]), (200, &json!(25 << 20)), "{}", made.error());
    assert!(rig.text(&rig.bob, "/bob/large") == large);
    // These are refused before anything has come.
    let announced = |target: &str, token: &str, bytes: usize| {
        let head = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {bytes}");
        rig.status_of(format!("POST {target} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes())
    };
    for (target, token, bytes, want) in [
        ("/fs/write?path=/bob/x", rig.bob.as_str(), (25 << 20) + 1, 413),
        ("/fs/write?path=/bob/x", "ac7_wrong", 100_000, 401),
        ("/fs/mkdir", rig.bob.as_str(), 9 << 20, 413),
        ("/fs/writes", rig.bob.as_str(), 9 << 20, 413),
    ] {
        assert_eq!(announced(target, token, bytes), want, "{target}");
    }
    assert!(rig.log.events("refused")[0]["reason"].as_str().unwrap().contains("files.maxBytes"));
    // Without a length it is noticed when the byte comes.
    let chunked = |token: &str, bytes: usize| {
        let head = format!("Host: localhost\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked");
        let body = format!("{bytes:x}\r\n{}\r\n0\r\n\r\n", "z".repeat(bytes));
        rig.status_of(format!("POST /fs/write?path=/bob/c HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes())
    };
    assert_eq!(chunked(&rig.bob, (25 << 20) + 1), 413);
    assert_eq!(chunked(&rig.bob, 100_000), 200);
    assert_eq!(chunked("ac7_wrong", 100_000), 401);
    assert_eq!(rig.names(&rig.bob, "/bob"), ["c", "large"]);
    assert_eq!(rig.contents().len(), 2);

    // What the client does not finish leaves nothing behind.
    let mut client = rig.connect();
    let head = request("POST", "/fs/write?path=/bob/half", &rig.bob, &"x".repeat(200_000), "");
    client.send(&head[..100_000]);
    wait_for("the file to come in", || rig.contents().len() == 3);
    drop(client);
    wait_for("it to be gone", || rig.contents().len() == 2);

    rig.set_files(&json!({"maxBytes": 10}));
    assert_eq!(rig.put(&rig.bob, "/bob/y", "", "0123456789").status, 200);
    assert_eq!(rig.put(&rig.bob, "/bob/z", "", "0123456789x").status, 413);
    assert_eq!(announced("/fs/write?path=/bob/z", &rig.bob, 100_000), 413);
}

#[test]
fn a_session_may_send_large_files_too() {
    let rig = Rig::new();
    let cookie = session(&rig, "bob", &enroll(&rig, "bob", &rig.bob));
    let body = "x".repeat(100_000);
    let write = |cookie: &str| {
        let header = format!("{cookie}Sec-Fetch-Site: same-origin\r\n");
        rig.call_with("POST", "/fs/write?path=/bob/a&collide=overwrite", "", &body, &header).status
    };
    assert_eq!(write(&cookie), 200);
    assert_eq!(write("Cookie: ac7_session=none\r\n"), 401);
}

#[test]
fn files_that_come_in_share_a_part_of_the_disk() {
    let rig = Rig::with(Limits { all_uploads: 250_000, ..Limits::default() });
    let text = request("POST", "/fs/write?path=/bob/a", &rig.bob, &"x".repeat(200_000), "");
    let mut first = rig.connect();
    first.send(&text[..text.len() - 1]);
    wait_for("the first to take its part", || rig.contents().iter().any(|f| size(f) > 100_000));
    assert_eq!(rig.put(&rig.bob, "/bob/b", "", &"y".repeat(200_000)).status, 503);
    first.send(&text[text.len() - 1..]);
    assert_eq!(first.reply("POST").unwrap().status, 200);
    // The part goes back a moment after the answer.
    wait_for("the second to be taken", || {
        rig.put(&rig.bob, "/bob/b", "", &"y".repeat(200_000)).status == 200
    });
}

fn size(file: &PathBuf) -> u64 {
    fs::metadata(file).map_or(0, |m| m.len())
}

#[test]
fn a_home_has_a_quota() {
    let rig = Rig::new();
    rig.set_files(&json!({"quotaBytes": 100}));
    assert_eq!(rig.put(&rig.bob, "/bob/a", "", &"x".repeat(60)).status, 200);
    let full = rig.put(&rig.bob, "/bob/b", "", &"y".repeat(41));
    assert_eq!(full.status, 507);
    assert!(full.error().contains("bob may hold 100 bytes, it holds 60"), "{}", full.error());
    assert_eq!(rig.put(&rig.bob, "/bob/a", "&collide=overwrite", &"y".repeat(100)).status, 200);
    assert_eq!(rig.put(&rig.ann, "/ann/a", "", &"x".repeat(60)).status, 200, "each home has its own");
    let moved = rig.call("POST", "/fs/mv", &rig.ann, r#"{"from":"/ann/a","to":"/bob/c"}"#);
    assert_eq!(moved.status, 507);
    assert_eq!(rig.contents().len(), 2);

    for bad in [json!({"maxBytes": 0}), json!({"quotaBytes": "x"}), json!({"maxBytes": 1_u64 << 40})] {
        let set = |file: &mut TeamFile| {
            file.more.insert("files".into(), bad.clone());
            Ok(())
        };
        TeamFile::update(&rig.config(), set).unwrap();
        assert_eq!(rig.call("POST", "/reload", &rig.ann, "").status, 422, "{bad}");
    }
}

#[test]
fn what_is_executable_in_a_browser_is_sent_as_bytes() {
    let rig = Rig::new();
    for (mime, want) in [
        ("text/html", "application/octet-stream"),
        ("image/svg%2Bxml", "application/octet-stream"),
        ("application/xhtml%2Bxml;charset=utf-8", "application/octet-stream"),
        ("text/javascript", "application/octet-stream"),
        ("image/png", "image/png"),
        ("text/plain;charset=utf-8", "text/plain;charset=utf-8"),
    ] {
        let made = rig.put(&rig.bob, "/bob/a", &format!("&mime={mime}&collide=overwrite"), "<script>");
        let kept = made.json()["entry"]["mimeType"].as_str().unwrap().replace('+', "%2B");
        assert_eq!(kept, mime);
        let read = rig.call("GET", "/fs/read/bob/a", &rig.bob, "");
        assert_eq!(read.headers.get("content-type"), Some(want), "{mime}");
    }
    let header = "Content-Type: text/csv\r\n";
    rig.call_with("POST", "/fs/write?path=/bob/b", &rig.bob, "a,b", header);
    assert_eq!(rig.call("GET", "/fs/read/bob/b", &rig.bob, "").headers.get("content-type"), Some("text/csv"));
}

#[test]
fn contents_are_private_stored_once_and_swept_at_the_start() {
    let mut rig = Rig::new();
    for path in ["/bob/a", "/bob/b", "/bob/c/d"] {
        rig.put(&rig.bob, path, "", "same");
    }
    let contents = rig.contents();
    let [content] = &contents[..] else { panic!("{contents:?}") };
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = content.parent().unwrap();
    assert_eq!((mode(content), mode(folder), mode(folder.parent().unwrap())), (0o600, 0o700, 0o700));
    rig.stop();
    // As a broker leaves it that was killed between the content and its entry, or while one came in.
    let orphan = rig.folder.join("ac7.db-files/ab").join(format!("ab{}", "0".repeat(62)));
    fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    fs::write(&orphan, "left").unwrap();
    let half = rig.folder.join("ac7.db-files/tmp/half");
    fs::write(&half, "ha").unwrap();
    rig.start();
    assert!(!orphan.exists() && !half.exists() && content.exists());
    assert_eq!(rig.text(&rig.bob, "/bob/c/d"), "same");

    // A content that somebody took away is an error of ours, said in the log alone.
    fs::remove_file(content).unwrap();
    assert_eq!(rig.call("GET", "/fs/read/bob/a", &rig.bob, "").status, 500);
    wait_for("the log", || rig.log.text().contains("cannot use the folder of files"));
}

#[test]
fn whoever_is_sent_a_file_may_read_it() {
    let rig = Rig::new();
    let new = json!({"name": "cat", "role": {"title": "x"}, "permissions": []}).to_string();
    let cat = rig.call("POST", "/members", &rig.ann, &new).json()["token"].as_str().unwrap().to_string();
    rig.put(&rig.bob, "/bob/a.txt", "&mime=text/plain", "hello");
    rig.put(&rig.ann, "/ann/b", "", "anns");
    let send = |who: &str, to: &str, path: &str| {
        let file = json!({"path": path, "name": "n", "size": 999, "mimeType": "text/html"});
        let post = json!({"to": to, "body": "see", "attachments": [file]});
        rig.call("POST", "/push", who, &post.to_string())
    };
    let stat = |path: &str| rig.call("GET", &format!("/fs/stat?path={path}"), &cat, "").status;
    assert_eq!(stat("/bob/a.txt"), 403);
    let sent = send(&rig.bob, "cat", "/bob/a.txt");
    let attached = &sent.json()["message"]["attachments"][0];
    assert_eq!(
        (sent.status, &attached["size"], &attached["mimeType"]),
        (200, &json!(5), &json!("text/plain"))
    );
    assert_eq!(rig.text(&cat, "/bob/a.txt"), "hello");
    let shared = rig.call("GET", "/fs/shared", &cat, "").json();
    assert_eq!(shared["entries"][0]["path"], "/bob/a.txt");
    // To read, and nothing more.
    for (method, path, body) in [
        ("POST", "/fs/write?path=/bob/a.txt&collide=overwrite", "x"),
        ("POST", "/fs/mv", r#"{"from":"/bob/a.txt","to":"/cat/a"}"#),
        ("DELETE", "/fs/rm?path=/bob/a.txt", ""),
        ("GET", "/fs/ls?path=/bob", ""),
    ] {
        assert_eq!(rig.call(method, path, &cat, body).status, 403, "{method} {path}");
    }
    for (who, path, want) in [
        (&rig.bob, "/ann/b", 403),
        (&rig.bob, "/ann/none", 403),
        (&rig.bob, "/bob/none", 400),
        (&rig.bob, "/bob", 400),
        (&cat, "/bob/a.txt", 200),
        (&rig.ann, "/bob/a.txt", 200),
    ] {
        let reply = send(who, "bob", path);
        assert_eq!(reply.status, want, "{path}: {}", reply.error());
    }

    assert_eq!(rig.call("POST", "/fs/mv", &rig.bob, r#"{"from":"/bob/a.txt","to":"/bob/d/b"}"#).status, 200);
    assert_eq!((stat("/bob/a.txt"), stat("/bob/d/b")), (403, 200));
    assert_eq!(rig.put(&rig.bob, "/bob/d/b", "&collide=overwrite", "hello again").status, 200);
    assert_eq!(rig.text(&cat, "/bob/d/b"), "hello again", "what is overwritten is the same file");
    assert_eq!(rig.call("DELETE", "/fs/rm?path=/bob/d/b", &rig.bob, "").status, 204);
    rig.put(&rig.bob, "/bob/d/b", "", "another");
    assert_eq!(stat("/bob/d/b"), 403, "a later file of the same name is another one");
}
