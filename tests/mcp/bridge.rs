//! `ac7 mcp-bridge` between an agent and a session.
use std::fs::File;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::run::{TempDir, json_lines};

use crate::rig::{Bridge, Session};

#[test]
fn the_handshake_the_list_and_a_call() {
    let session = Session::start();
    let mut bridge = Bridge::start(session.path());
    let asked = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {"roots": {}, "elicitation": {}},
        "clientInfo": {"name": "claude-code", "version": "2.1.197"},
    });
    let welcome = bridge.ask("initialize", &asked);
    assert_eq!(
        welcome["result"],
        json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"experimental": {"claude/channel": {}}, "tools": {"listChanged": true}},
            "serverInfo": {"name": "ac7", "version": env!("CARGO_PKG_VERSION")},
        })
    );
    assert!(!session.server().is_attached(), "not before the agent is ready for notifications");
    bridge.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(bridge.ask("tools/list", &json!({}))["result"]["tools"][0]["name"], "echo");
    assert!(session.server().is_attached());
    let params = json!({
        "name": "echo",
        "arguments": {"text": "two\nlines, \u{e9}"},
        "_meta": {"claudecode/toolUseId": "t", "progressToken": 2},
    });
    assert_eq!(
        bridge.ask("tools/call", &params)["result"],
        json!({"content": [{"type": "text", "text": "two\nlines, \u{e9}"}], "isError": false})
    );
    assert_eq!(bridge.ask("tools/call", &json!({"name": "nope"}))["result"]["isError"], true);
    // An id may be a text.
    bridge.send(&json!({"jsonrpc": "2.0", "id": "seven", "method": "tools/list"}));
    assert_eq!(bridge.next()["id"], "seven");
    drop(bridge.stdin.take());
    let (code, log) = bridge.end();
    assert_eq!(code, Some(0));
    assert!(json_lines(&log).iter().any(|line| line["event"] == "bridge down"), "{log}");
}

#[test]
fn a_slow_tool_holds_up_neither_pings_nor_other_tools() {
    let session = Session::start();
    let mut bridge = session.bridge();
    let slow = bridge.call("slow", &json!({}));
    assert_eq!(bridge.ask("ping", &Value::Null)["result"], json!({}));
    let echo = bridge.call("echo", &json!({"text": "quick"}));
    assert_eq!(bridge.next()["id"], echo);
    bridge
        .send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": slow}}));
    assert_eq!(bridge.ask("ping", &Value::Null)["result"], json!({}));
    session.script.release();
    let answer = bridge.next();
    assert_eq!((&answer["id"], &answer["result"]["content"][0]["text"]), (&json!(slow), &json!("at last")));
}

#[test]
fn many_calls_at_once_are_all_answered() {
    let session = Session::start();
    let mut bridge = session.bridge();
    let slow: Vec<u64> = (0..12).map(|_| bridge.call("slow", &json!({}))).collect();
    assert_eq!(bridge.ask("ping", &Value::Null)["result"], json!({}));
    session.script.release();
    let mut answered: Vec<u64> = slow.iter().map(|_| bridge.next()["id"].as_u64().unwrap()).collect();
    answered.sort_unstable();
    assert_eq!(answered, slow);
}

#[test]
fn what_is_no_request_is_refused_and_survived() {
    let session = Session::start();
    let mut bridge = session.bridge();
    let code = |bridge: &mut Bridge| {
        let answer = bridge.next();
        (answer["id"].clone(), answer["error"]["code"].as_i64().unwrap())
    };
    for (line, id, want) in [
        ("{\"jsonrpc\":", Value::Null, -32700),
        ("not json at all", Value::Null, -32700),
        ("\u{fffd}\0", Value::Null, -32700),
        ("7", Value::Null, -32600),
        ("[]", Value::Null, -32600),
        ("{}", Value::Null, -32600),
        (r#"{"id":1,"method":7}"#, Value::Null, -32600),
        (r#"{"id":{},"method":"ping"}"#, Value::Null, -32600),
        (r#"{"id":null,"method":"ping"}"#, Value::Null, -32600),
        (r#"{"id":9,"method":"resources/list"}"#, json!(9), -32601),
        (r#"{"id":10,"method":"tools/call","params":{}}"#, json!(10), -32602),
        (r#"{"id":11,"method":"tools/call"}"#, json!(11), -32602),
    ] {
        bridge.write(&format!("{line}\n"));
        assert_eq!(code(&mut bridge), (id, want), "{line}");
    }
    // None of these has an answer.
    for line in [
        "",
        "  ",
        r#"{"method":"notifications/roots/list_changed"}"#,
        r#"{"method":"no/such/notification"}"#,
        r#"{"id":5,"result":{}}"#,
        r#"{"id":5,"error":{"code":1,"message":"m"}}"#,
    ] {
        bridge.write(&format!("{line}\n"));
    }
    assert_eq!(bridge.ask("ping", &Value::Null)["result"], json!({}));
    bridge.call("echo", &json!({"text": "still here"}));
    assert_eq!(bridge.next()["result"]["content"][0]["text"], "still here");
}

#[test]
fn lines_may_have_8_mib_and_no_more() {
    let session = Session::start();
    let mut bridge = session.bridge();
    let fits = "x".repeat((8 << 20) - 1000);
    bridge.call("echo", &json!({"text": fits}));
    assert_eq!(bridge.next()["result"]["content"][0]["text"].as_str().unwrap().len(), fits.len());
    // As a line it fits, as a frame it does not.
    let id = 4711;
    let frame =
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "echo", "x": ""}});
    let line = frame.to_string();
    let line = line.replace("\"x\":\"\"", &format!("\"x\":\"{}\"", "x".repeat((8 << 20) - line.len())));
    assert_eq!(line.len(), 8 << 20);
    bridge.write(&format!("{line}\n"));
    let refused = bridge.next();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(id), &json!(-32600)));
    // Too long for a line: its id is not known.
    bridge.write(&format!("{line}x\n"));
    let refused = bridge.next();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&Value::Null, &json!(-32600)));
    assert!(refused.to_string().contains("longer than 8 MiB"));
    // Nor may an answer be longer.
    let id = bridge.call("big", &json!({}));
    let refused = bridge.next();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(id), &json!(-32603)));
    assert_eq!(bridge.ask("ping", &Value::Null)["result"], json!({}));
}

#[test]
fn notifications_wait_for_a_bridge() {
    let session = Session::start();
    let params = json!({"content": "hello", "meta": {"from": "bob"}});
    for _ in 0..3 {
        session.server().tools_changed();
    }
    session.server().notify("notifications/claude/channel", params.clone());
    session.server().tools_changed();
    let mut bridge = session.bridge();
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    assert_eq!(bridge.next(), changed);
    let channel = json!({"jsonrpc": "2.0", "method": "notifications/claude/channel", "params": params});
    assert_eq!(bridge.next(), channel);
    session.server().tools_changed();
    assert_eq!(bridge.next(), changed, "three and one before were one");
}

#[test]
fn of_many_notifications_the_last_ones_are_kept() {
    let session = Session::start();
    for n in 0..100 {
        session.server().notify("n", json!(n));
    }
    let mut bridge = session.bridge();
    let kept: Vec<u64> = (0..64).map(|_| bridge.next()["params"].as_u64().unwrap()).collect();
    assert_eq!(kept, (36..100).collect::<Vec<_>>());
}

#[test]
fn the_second_bridge_displaces_the_first() {
    let mut session = Session::start();
    let mut first = session.bridge();
    let mut second = session.bridge();
    let (code, log) = first.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("another bridge has taken this one's place"), "{log}");
    second.call("echo", &json!({"text": "mine"}));
    assert_eq!(second.next()["result"]["content"][0]["text"], "mine");
    session.server().notify("n", Value::Null);
    assert_eq!(second.next()["method"], "n");
    assert!(first.says_nothing_more());
    assert_eq!((session.script.count("attached"), session.script.count("detached")), (2, 0));
    session.stop();
    assert_eq!(second.end().0, Some(0));
    assert_eq!(session.script.count("detached"), 1);
}

#[test]
fn the_bridge_waits_for_a_session_that_is_starting() {
    let folder = TempDir::new();
    let mut bridge = Bridge::start(&Session::place(&folder));
    let id = bridge.request("tools/list", &json!({}));
    let session = Session::start_in(folder);
    assert_eq!(bridge.next()["id"], id);
    assert!(session.server().is_attached());
}

#[test]
fn without_a_session_it_says_where_it_looked() {
    let folder = TempDir::new();
    let path = folder.join("nobody.sock");
    let (code, log) = Bridge::start(&path).end();
    assert_eq!(code, Some(1));
    let want = format!("ac7 mcp-bridge: no session listens at {}: No such file or directory", path.display());
    assert!(log.starts_with(&want), "{log}");
}

#[test]
fn it_is_not_to_be_run_by_hand() {
    for value in [None, Some("")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
        command.arg("mcp-bridge").stdin(Stdio::null()).env_remove("AC7_RUNNER_SOCKET");
        let out = command.envs(value.map(|v| ("AC7_RUNNER_SOCKET", v))).output().unwrap();
        assert_eq!((out.status.code(), out.stdout.len()), (Some(2), 0));
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(
            said.starts_with("ac7 mcp-bridge: AC7_RUNNER_SOCKET is required [no-session]\n  fix: "),
            "{said}"
        );
    }
}

#[test]
fn a_session_that_goes_away_without_a_word_is_a_failure() {
    let folder = TempDir::new();
    let path = folder.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut bridge = Bridge::start(&path);
    drop(listener.accept().unwrap());
    assert_eq!(bridge.end().0, Some(1));
}

#[test]
fn what_a_session_should_not_say_is_survived() {
    let folder = TempDir::new();
    let path = folder.join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let mut bridge = Bridge::start(&path);
    let (mut session, _) = listener.accept().unwrap();
    for line in [
        "nonsense",
        r#"{"kind":"unheard-of"}"#,
        r#"{"kind":"hook","id":1,"event":"Stop"}"#,
        r#"{"kind":"error","message":"whatever"}"#,
        r#"{"kind":"error","message":"not that","id":77}"#,
        r#"{"kind":"mcp_notification","method":"n","params":{"a":1}}"#,
        r#"{"kind":"shutdown","reason":"enough"}"#,
    ] {
        std::io::Write::write_all(&mut session, format!("{line}\n").as_bytes()).unwrap();
    }
    let want = json!({"jsonrpc": "2.0", "id": 77, "error": {"code": -32603, "message": "not that"}});
    assert_eq!(bridge.next(), want);
    assert_eq!(bridge.next(), json!({"jsonrpc": "2.0", "method": "n", "params": {"a": 1}}));
    let (code, log) = bridge.end();
    assert_eq!(code, Some(0));
    let last = json_lines(&log).pop().unwrap();
    assert_eq!((&last["event"], &last["why"]), (&json!("bridge down"), &json!("enough")));
}

#[test]
fn an_agent_that_closes_its_end_still_gets_what_it_asked_for() {
    let session = Session::start();
    let mut bridge = Bridge::start(session.path());
    bridge.write(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    drop(bridge.stdin.take());
    assert_eq!(bridge.next()["id"], 1);
    assert_eq!(bridge.end().0, Some(0));
}

#[test]
fn it_ends_with_the_agent_even_if_somebody_holds_its_input_open() {
    let session = Session::start();
    let go = session.folder.join("go");
    let mut command = Command::new("sh");
    // The agent is the shell; this test holds the other end of the pipe.
    let script = "exec 3<&0; \"$0\" mcp-bridge <&3 3<&- & while [ ! -e \"$1\" ]; do sleep 0.01; done";
    command.args(["-c", script, env!("CARGO_BIN_EXE_ac7")]).arg(&go).env("AC7_RUNNER_SOCKET", session.path());
    let mut bridge = Bridge::run(&mut command);
    assert_eq!(bridge.ask("ping", &Value::Null)["result"], json!({}));
    File::create(&go).unwrap();
    assert!(bridge.says_nothing_more(), "the bridge outlives its agent");
    assert!(bridge.stdin.is_some());
}
