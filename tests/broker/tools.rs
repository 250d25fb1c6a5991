//! The tools of an agent against the routes that they use.
use std::sync::{Arc, Mutex};

use ac7::client::{Client, Options};
use ac7::mcp::ToolResult;
use ac7::mcp::tools::{Inbox, Tools};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::rig::Rig;

/// A member's tools, and what they have shown of its messages.
struct Member {
    tools: Tools,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Inbox for Seen {
    fn seen(&self, ids: &[&str]) {
        self.0.lock().unwrap().extend(ids.iter().map(|id| (*id).to_string()));
    }
}

impl Member {
    fn new(rig: &Rig, token: &str) -> Member {
        let client =
            Client::new(&format!("http://{}", rig.address()), Some(token), &Options::default()).unwrap();
        let briefing = client.briefing().unwrap();
        let seen = Arc::new(Seen::default());
        Member { tools: Tools::new(client, &briefing.raw, seen.clone()), seen }
    }

    fn call(&self, tool: &str, arguments: &Value) -> String {
        let ToolResult { text, is_error } = self.tools.call(tool, arguments);
        assert!(!is_error, "{tool} {arguments}: {text}");
        text
    }

    fn refused(&self, tool: &str, arguments: &Value) -> String {
        let ToolResult { text, is_error } = self.tools.call(tool, arguments);
        assert!(is_error, "{tool} {arguments}: {text}");
        text
    }
}

/// The word after `msg=`.
fn message_id(text: &str) -> String {
    text.rsplit_once("msg=").unwrap().1.to_string()
}

/// What stands in brackets at the start of lines is a time: leave it out.
fn without_times(text: &str) -> String {
    let plain = |line: &str| match (line.starts_with('['), line.split_once("] ")) {
        (true, Some((_, rest))) => rest.to_string(),
        _ => line.to_string(),
    };
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

#[test]
fn members_are_listed_and_written_to() {
    let rig = Rig::new();
    let (ann, bob) = (Member::new(&rig, &rig.ann), Member::new(&rig, &rig.bob));
    let roster = bob.call("roster", &json!({}));
    let lines: Vec<&str> = roster.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "team T: 2 members"));
    assert!(
        lines[2].starts_with("- bob (engineer): offline, last seen ") && lines[2].ends_with(" UTC (you)"),
        "{roster}"
    );

    let first = ann.call("send", &json!({"to": "bob", "body": "hello", "title": "t", "level": "warning"}));
    let id = message_id(&first);
    assert_eq!(first, format!("delivered to bob: live=0 targets=1 msg={id}"));
    let second = bob.call("broadcast", &json!({"body": "to all"}));
    let other = message_id(&second);
    assert_eq!(second, format!("broadcast delivered: live=0 targets=2 msg={other}"));
    let recent = bob.call("recent", &json!({}));
    let want =
        format!("ann to bob, warning (msg {id})\n  t\n  hello\nbob to all, info (msg {other})\n  to all");
    assert_eq!(without_times(&recent), want);
    assert_eq!(*bob.seen.0.lock().unwrap(), [other, id]);
    assert_eq!(without_times(&bob.call("recent", &json!({"with": "ann", "limit": "1"}))).lines().count(), 3);
    assert_eq!(bob.call("recent", &json!({"limit": 0})), "there are no messages");

    assert_eq!(
        ann.refused("send", &json!({"to": "zed", "body": "x"})),
        "broker error 404: no such agent: zed"
    );
    let long = "x".repeat(65_537);
    assert!(ann.refused("broadcast", &json!({"body": long})).starts_with("broker error 400: "));
}

#[test]
fn files_are_written_read_moved_and_attached() {
    let rig = Rig::new();
    let (ann, bob) = (Member::new(&rig, &rig.ann), Member::new(&rig, &rig.bob));
    assert_eq!(bob.call("fs_mkdir", &json!({"path": "/bob/d"})), "made /bob/d/");
    let text = json!({"path": "/bob/d/a b.txt", "mimeType": "text/plain", "text": "two\nlines \u{e9}"});
    assert_eq!(bob.call("fs_write", &text), "wrote /bob/d/a b.txt (12 bytes)");
    assert!(bob.refused("fs_write", &text).starts_with("broker error 409: "));
    let mut beside = text.clone();
    beside["collide"] = "suffix".into();
    assert!(bob.call("fs_write", &beside).ends_with(" (12 bytes, another name because the first is taken)"));
    let code = STANDARD.encode([0, 159, 255]);
    let binary = json!({"path": "/bob/b.bin", "mimeType": "image/png", "base64": code});
    assert_eq!(bob.call("fs_write", &binary), "wrote /bob/b.bin (3 bytes)");
    let empty = json!({"path": "/bob/empty", "mimeType": "text/plain", "text": ""});
    assert_eq!(bob.call("fs_write", &empty), "wrote /bob/empty (0 bytes)");
    assert_eq!(
        bob.call("fs_ls", &json!({})),
        "- /bob/b.bin (3 bytes, image/png)\n- /bob/d/\n- /bob/empty (0 bytes, text/plain)"
    );
    assert_eq!(bob.call("fs_read", &json!({"path": "/bob/d/a b.txt"})), "two\nlines \u{e9}");
    assert_eq!(bob.call("fs_read", &json!({"path": "/bob/b.bin"})), code);
    let stat = bob.call("fs_stat", &json!({"path": "/bob/b.bin"}));
    assert!(stat.starts_with(
        "path: /bob/b.bin\nname: b.bin\nkind: file\nowner: bob\nsize: 3\nmimeType: image/png\nhash: "
    ));
    assert!(stat.lines().last().unwrap().ends_with(" UTC"), "{stat}");
    let moved = json!({"from": "/bob/b.bin", "to": "/bob/d/c.bin"});
    assert_eq!(bob.call("fs_mv", &moved), "moved /bob/b.bin to /bob/d/c.bin");

    // Carl may read what he was sent, and no more.
    rig.call(
        "POST",
        "/members",
        &rig.ann,
        r#"{"name":"carl","role":{"title":"t","description":""},"permissions":[]}"#,
    );
    let token = rig.call("POST", "/members/carl/rotate-token", &rig.ann, "").json()["token"].clone();
    let carl = Member::new(&rig, token.as_str().unwrap());
    assert_eq!(carl.call("fs_shared", &json!({})), "there are no files");
    assert!(carl.refused("fs_read", &json!({"path": "/bob/d/c.bin"})).starts_with("broker error 403: "));
    let sent = bob.call("send", &json!({"to": "carl", "body": "see", "attachments": ["/bob/d/c.bin"]}));
    assert_eq!(carl.call("fs_shared", &json!({})), "- /bob/d/c.bin (3 bytes, image/png)");
    assert_eq!(carl.call("fs_read", &json!({"path": "/bob/d/c.bin"})), code);
    let recent = without_times(&carl.call("recent", &json!({})));
    assert_eq!(
        recent,
        format!("bob to carl, info (msg {})\n  see\nattached: /bob/d/c.bin", message_id(&sent))
    );
    let attach = |path: &str| json!({"to": "carl", "body": "see", "attachments": path});
    assert_eq!(bob.refused("send", &attach("/bob/d")), "send: attachments: /bob/d is a directory");
    assert!(bob.refused("send", &attach("/bob/nothing")).starts_with("broker error 404: "));

    assert!(bob.refused("fs_rm", &json!({"path": "/bob/d"})).starts_with("broker error 409: "));
    assert_eq!(bob.call("fs_rm", &json!({"path": "/bob/d", "recursive": true})), "removed /bob/d");
    assert_eq!(ann.call("fs_ls", &json!({"path": "/bob"})), "- /bob/empty (0 bytes, text/plain)");
    assert!(bob.refused("fs_ls", &json!({"path": "relative"})).starts_with("broker error 400: "));
}

#[test]
fn a_file_too_large_for_a_tool_is_not_fetched() {
    let rig = Rig::new();
    let bob = Member::new(&rig, &rig.bob);
    let path = "/fs/write?path=/bob/big&mime=text/plain";
    assert_eq!(rig.call("POST", path, &rig.bob, &"x".repeat((4 << 20) + 1)).status, 200);
    let said = bob.refused("fs_read", &json!({"path": "/bob/big"}));
    assert!(
        said.ends_with(&format!("use GET http://{}/fs/read/bob/big with your token", rig.address())),
        "{said}"
    );
}

#[test]
fn an_objective_from_its_beginning_to_its_end() {
    let rig = Rig::new();
    let (ann, bob) = (Member::new(&rig, &rig.ann), Member::new(&rig, &rig.bob));
    assert_eq!(bob.call("objectives_list", &json!({})), "there are no objectives");
    let new = json!({"title": "Ship it", "outcome": "It is shipped", "assignee": "bob", "body": "Soon", "watchers": "bob"});
    assert!(bob.refused("objectives_create", &new).starts_with("broker error 403: "));
    let made = ann.call("objectives_create", &new);
    let id = made.strip_prefix("created ").unwrap().strip_suffix(": assigned to bob").unwrap().to_string();
    assert_eq!(bob.call("objectives_list", &json!({"status": "active"})), format!("- {id} [active] Ship it"));

    let update = |status: &str, reason: Value| json!({"id": id, "status": status, "blockReason": reason});
    let blocked = update("blocked", "no key".into());
    assert_eq!(bob.call("objectives_update", &blocked), format!("updated {id}: status=blocked"));
    let view = bob.call("objectives_view", &json!({"id": id}));
    for line in [
        &format!("- {id} [blocked] Ship it"),
        "outcome: It is shipped",
        "body: Soon",
        "assignee: bob",
        "originator: ann",
        "blocked by: no key",
    ] {
        assert!(view.lines().any(|l| l == line), "{line} in {view}");
    }
    let events = without_times(&view);
    assert!(events.contains("assigned by ann ") && events.contains("blocked by bob {"), "{view}");
    let active = update("active", Value::Null);
    assert_eq!(bob.call("objectives_update", &active), format!("updated {id}: status=active"));

    let said = bob.call("objectives_discuss", &json!({"id": id, "body": "nearly"}));
    assert_eq!(said, format!("posted to {id}: msg={}", message_id(&said)));
    assert!(ann.call("recent", &json!({"limit": 1})).contains("nearly"));
    let watch = ann.call("objectives_watchers", &json!({"id": id, "remove": ["bob"]}));
    assert_eq!(watch, format!("watchers of {id}: nobody"));
    let given = ann.call("objectives_reassign", &json!({"id": id, "to": "ann", "note": "mine"}));
    assert_eq!(given, format!("reassigned {id} to ann"));
    let result = json!({"id": id, "result": "shipped"});
    assert!(bob.refused("objectives_complete", &result).starts_with("broker error 403: "));
    assert!(ann.call("objectives_complete", &result).starts_with(&format!("completed {id}. ")));
    assert!(ann.call("objectives_view", &json!({"id": id})).contains("\nresult: shipped\n"));
    assert!(ann.refused("objectives_cancel", &json!({"id": id})).starts_with("broker error 409: "));

    let other = ann.call("objectives_create", &new).split([' ', ':']).nth(1).unwrap().to_string();
    let cancelled = ann.call("objectives_cancel", &json!({"id": other, "reason": "no"}));
    assert_eq!(cancelled, format!("cancelled {other}"));
    assert_eq!(
        ann.refused("objectives_view", &json!({"id": "a/b"})).split(':').next(),
        Some("broker error 404")
    );
}

#[test]
fn the_briefing_decides_what_is_listed() {
    let rig = Rig::new();
    let (ann, bob) = (Member::new(&rig, &rig.ann), Member::new(&rig, &rig.bob));
    let count = |member: &Member| member.tools.definitions().as_array().unwrap().len();
    assert_eq!((count(&ann), count(&bob)), (23, 19));
    let outcome = "Everybody can log in";
    ann.call("objectives_create", &json!({"title": "t", "outcome": outcome, "assignee": "bob"}));
    let briefing = rig.call("GET", "/briefing", &rig.bob, "").json();
    assert!(bob.tools.update(&briefing), "there is an objective now");
    assert!(bob.tools.definitions().to_string().contains(outcome));
    assert!(!bob.tools.update(&briefing));
    rig.call("PATCH", "/members/bob", &rig.ann, r#"{"permissions":["objectives.reassign"]}"#);
    assert!(bob.tools.update(&rig.call("GET", "/briefing", &rig.bob, "").json()));
    assert_eq!(count(&bob), 20);
}

#[test]
fn channels_are_listed_read_and_written_to() {
    let rig = Rig::new();
    let (ann, bob) = (Member::new(&rig, &rig.ann), Member::new(&rig, &rig.bob));
    assert_eq!(bob.call("channels_list", &json!({})), "- #general (2 members, joined)");
    let id = rig.call("POST", "/channels", &rig.ann, r#"{"slug":"ops"}"#).json()["id"].clone();
    let listed = bob.call("channels_list", &json!({}));
    assert_eq!(listed, "- #ops (1 member)\n- #general (2 members, joined)");
    let post = |channel: &str| json!({"channel": channel, "body": "up", "level": "notice"});
    assert!(bob.refused("channels_post", &post("ops")).starts_with("broker error 403: "));
    rig.call("POST", "/channels/ops/members", &rig.bob, "{}");
    for channel in ["ops", "#ops", id.as_str().unwrap()] {
        let said = bob.call("channels_post", &post(channel));
        assert_eq!(said, format!("posted to #ops: live=0 targets=2 msg={}", message_id(&said)));
    }
    bob.call("channels_post", &post("general"));
    let recent = without_times(&ann.call("recent", &json!({"channel": "ops"})));
    assert_eq!(
        recent.lines().filter(|l| l.starts_with("bob to chan:") && l.contains(", notice (")).count(),
        3
    );
    assert!(bob.refused("channels_post", &post("nope")).starts_with("broker error 404: "));
    assert!(bob.refused("recent", &json!({"channel": "nope"})).starts_with("broker error 404: "));
    rig.call("DELETE", "/channels/ops", &rig.ann, "");
    assert!(bob.refused("channels_post", &post(id.as_str().unwrap())).starts_with("broker error 410: "));
    assert_eq!(ann.call("recent", &json!({"channel": "ops", "limit": 1})).lines().count(), 2);
}
