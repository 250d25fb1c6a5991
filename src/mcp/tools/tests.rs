use super::*;
use crate::client::Options;

struct Nothing;

impl Inbox for Nothing {
    fn seen(&self, _: &[&str]) {}
}

fn briefing(permissions: &[&str], outcome: &str) -> Value {
    json!({
        "name": "ann",
        "team": {"name": "T"},
        "permissions": permissions,
        "openObjectives": [
            {"id": "o-1", "status": "active", "title": "Ship it", "outcome": outcome, "assignee": "ann"},
        ],
    })
}

fn tools(permissions: &[&str]) -> Tools {
    // Nobody listens there.
    let client = Client::new("http://127.0.0.1:1", Some("ac7_x"), &Options::default()).unwrap();
    Tools::new(client, &briefing(permissions, "It is shipped"), Arc::new(Nothing))
}

fn names(tools: &Tools) -> Vec<String> {
    list(&json!({"tools": tools.definitions()}), "tools")
        .iter()
        .map(|t| text(t, "name").to_string())
        .collect()
}

#[test]
fn the_list_depends_on_what_the_member_may_do() {
    let plain = names(&tools(&[]));
    assert_eq!(plain.len(), 19);
    for (permission, more) in [
        ("objectives.create", &["objectives_create", "objectives_cancel", "objectives_watchers"][..]),
        ("objectives.cancel", &["objectives_cancel"]),
        ("objectives.watch", &["objectives_watchers"]),
        ("objectives.reassign", &["objectives_reassign"]),
        ("members.manage", &["objectives_reassign"]),
        ("activity.read", &[]),
    ] {
        let mut added = names(&tools(&[permission]));
        added.retain(|name| !plain.contains(name));
        assert_eq!(added, more, "{permission}");
    }
}

#[test]
fn definitions_say_who_is_asked_and_what_is_open() {
    let tools = tools(&[]);
    let all = tools.definitions();
    for tool in all.as_array().unwrap() {
        assert!(text(tool, "description").contains(". You are ann of team T."), "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object");
        assert!(tool["inputSchema"]["properties"].is_object());
    }
    let one = all.as_array().unwrap().iter().find(|tool| tool["name"] == "objectives_list").unwrap();
    let want = "Open objectives:\n- o-1 [active] Ship it\n  assignee: ann\n  outcome: It is shipped";
    assert!(text(one, "description").ends_with(want), "{one}");
    assert!(!tools.update(&briefing(&[], "It is shipped")), "nothing has changed");
    assert!(tools.update(&briefing(&[], "It is sold")));
    assert!(tools.definitions().to_string().contains("It is sold"));
    assert!(tools.update(&json!({})), "a briefing may be poor");
}

#[test]
fn a_digest_has_an_end() {
    let one = json!({"id": "o", "status": "active", "title": "t", "outcome": "\u{e9}".repeat(500), "assignee": "a"});
    let digest = objectives::digest(&vec![one; 23]);
    assert!(digest.ends_with("\nand 3 more") && digest.len() < 20_000);
    assert!(digest.contains("\u{e9}\u{2026}"));
    assert_eq!(objectives::digest(&[]), "");
}

#[test]
fn what_is_missing_is_named_before_the_broker_is_asked() {
    let tools = tools(&[]);
    for (tool, arguments, want) in [
        ("send", json!({"body": "b"}), "send: to is required"),
        ("send", json!({"to": "bob", "body": ""}), "send: body is required"),
        ("broadcast", Value::Null, "broadcast: body is required"),
        (
            "broadcast",
            json!({"body": "b", "level": "loud"}),
            "broadcast: level is not one of debug, info, notice, warning, error, critical",
        ),
        ("channels_post", json!({"body": "b"}), "channels_post: channel is required"),
        ("recent", json!({"with": "bob", "channel": "ops"}), "recent: give with or channel, not both"),
        ("objectives_view", json!({}), "objectives_view: id is required"),
        ("objectives_update", json!({"id": "o"}), "objectives_update: status is required"),
        (
            "objectives_update",
            json!({"id": "o", "status": "blocked"}),
            "objectives_update: blockReason is required",
        ),
        (
            "objectives_update",
            json!({"id": "o", "status": "done"}),
            "objectives_update: status is not one of active, blocked",
        ),
        ("objectives_complete", json!({"id": "o"}), "objectives_complete: result is required"),
        ("objectives_watchers", json!({"id": "o"}), "objectives_watchers: add or remove is required"),
        ("fs_write", json!({"path": "/a/x", "mimeType": "a/b"}), "fs_write: text or base64 is required"),
        (
            "fs_write",
            json!({"path": "/a/x", "mimeType": "a/b", "text": "", "base64": "eA=="}),
            "fs_write: give text or base64, not both",
        ),
        (
            "fs_write",
            json!({"path": "/a/x", "mimeType": "a/b", "base64": "?"}),
            "fs_write: base64 is not base64",
        ),
        ("no_such", json!({}), "there is no tool no_such"),
        ("roster", json!({}), "failed to reach broker at http://127.0.0.1:1: ECONNREFUSED"),
    ] {
        assert_eq!(tools.call(tool, &arguments), ToolResult::failed(want), "{tool} {arguments}");
    }
}

#[test]
fn a_file_too_large_for_a_tool_names_the_request_to_make() {
    let content = "x".repeat((4 << 20) + 1);
    let result =
        tools(&[]).call("fs_write", &json!({"path": "/ann/a b", "mimeType": "text/plain", "text": content}));
    assert_eq!(
        result.text,
        "fs_write: the file is larger than 4 MiB, which is too much for a tool; use POST \
         http://127.0.0.1:1/fs/write?path=%2Fann%2Fa%20b&mime=text%2Fplain&collide=error with your token"
    );
}

#[test]
fn moments_read_as_agents_are_used_to() {
    assert_eq!(crate::mcp::stamp(1_795_838_400_123), "11/28/26 04:00:00 UTC");
}
