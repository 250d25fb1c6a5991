//! The socket itself: what it takes, what it refuses, how it ends.
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use support::run::wait_until;

use crate::rig::{Session, is_empty};

#[test]
fn it_is_private_and_leaves_nothing_behind() {
    let mut session = Session::start();
    let path = session.path().to_path_buf();
    assert_eq!(path, Session::place(&session.folder));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut raw = session.connect();
    raw.send("{\"kind\":\"mcp_notification\",\"method\":\"n\"}\n");
    wait_until("the bridge to be attached", || session.server().is_attached().then_some(()));
    session.stop();
    assert_eq!(raw.next(), Some(json!({"kind": "shutdown", "reason": "the test is over"})));
    assert_eq!(raw.next(), None);
    assert!(is_empty(&session.folder));
    assert!(UnixStream::connect(&path).is_err());
    assert_eq!(session.script.events(), ["attached", "detached"]);
}

#[test]
fn malformed_lines_are_answered_and_survived() {
    let session = Session::start();
    let mut raw = session.connect();
    for (line, want) in [
        ("{", "the line is not JSON: EOF while parsing an object at line 1 column 1"),
        ("{}", "kind is missing"),
        (r#"{"kind":"mcp_request","id":1}"#, "method is missing"),
        (r#"{"kind":"mcp_response","id":1,"result":1}"#, "the session asks nothing"),
    ] {
        raw.send(&format!("{line}\n"));
        assert_eq!(raw.next(), Some(json!({"kind": "error", "message": want})), "{line}");
    }
    raw.send(&"x".repeat((8 << 20) + 1));
    raw.send("\n");
    let want = json!({"kind": "error", "message": "the line is longer than 8 MiB"});
    assert_eq!(raw.next(), Some(want));
    assert!(!session.server().is_attached(), "none of that makes a bridge");
    raw.send("{\"kind\":\"mcp_request\",\"id\":\"a\",\"method\":\"no/such\"}\n");
    let answer = raw.next().unwrap();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!("a"), &json!(-32601)));
    assert!(session.server().is_attached());
}

#[test]
fn a_hook_is_no_bridge() {
    let session = Session::start();
    let mut bridge = session.bridge();
    let mut raw = session.connect();
    raw.send("{\"kind\":\"hook\",\"id\":4,\"event\":\"Stop\",\"input\":{\"prompt\":\"x\"}}\n");
    let reply = json!({"kind": "hook_reply", "id": 4, "output": "you said x\nand this is all"});
    assert_eq!(raw.next(), Some(reply));
    session.server().notify("n", Value::Null);
    assert_eq!(bridge.next()["method"], "n");
    assert_eq!(session.script.count("attached"), 1);
}

#[test]
fn a_displaced_bridge_does_not_come_back_by_what_it_had_said_before() {
    let session = Session::start();
    for _ in 0..20 {
        let (mut first, mut second) = (session.connect(), session.connect());
        first.send(&"{\"kind\":\"mcp_request\",\"id\":1,\"method\":\"tools/list\"}\n".repeat(50));
        first.next().unwrap();
        second.send("{\"kind\":\"mcp_request\",\"id\":1,\"method\":\"tools/list\"}\n");
        assert_eq!(second.next().unwrap()["kind"], "mcp_response");
        while first.next().is_some() {}
        session.server().notify("n", Value::Null);
        assert_eq!(second.next().unwrap()["kind"], "mcp_notification");
    }
}

#[test]
fn there_are_16_connections_and_no_more() {
    let session = Session::start();
    let mut held: Vec<_> = (0..16).map(|_| session.connect()).collect();
    // Every one of them is known before the next comes: they are taken in order.
    let mut surplus = session.connect();
    assert_eq!(surplus.next(), Some(json!({"kind": "error", "message": "too many connections"})));
    assert_eq!(surplus.next(), None);
    held.pop();
    wait_until("room for another", || {
        let mut raw = session.connect();
        raw.send("{\"kind\":\"hook\",\"id\":1,\"event\":\"Stop\"}\n");
        (raw.next().unwrap()["kind"] == "hook_reply").then_some(())
    });
}

#[test]
fn a_bridge_that_does_not_read_holds_up_nobody() {
    let mut session = Session::start();
    let mut raw = session.connect();
    raw.send("{\"kind\":\"mcp_notification\",\"method\":\"n\"}\n");
    wait_until("the bridge to be attached", || session.server().is_attached().then_some(()));
    for _ in 0..10_000 {
        session.server().notify("n", json!("x".repeat(1000)));
    }
    let mut hook = session.connect();
    hook.send("{\"kind\":\"hook\",\"id\":1,\"event\":\"Stop\"}\n");
    assert_eq!(hook.next().unwrap()["kind"], "hook_reply");
    session.stop();
    assert!(is_empty(&session.folder));
}

#[test]
fn a_call_that_does_not_end_does_not_keep_the_session() {
    let mut session = Session::start();
    let mut bridge = session.bridge();
    bridge.call("slow", &json!({}));
    wait_until("the call", || (session.script.count("call slow") == 1).then_some(()));
    session.stop();
    assert!(is_empty(&session.folder));
    assert_eq!(session.script.count("detached"), 1);
    assert_eq!(bridge.end().0, Some(0));
}
