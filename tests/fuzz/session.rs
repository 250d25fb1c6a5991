//! Target: the frames between a session and its agent's side.
use super::harness::fuzz;
use super::inputs::{spoil, twist};
use super::random::Random;
use ac7::mcp::ipc::Frame;
use serde_json::{Value, json};

fn frames() -> [Value; 8] {
    [
        json!({"kind": "mcp_request", "id": 1, "method": "tools/call", "params": {"name": "send"}}),
        json!({"kind": "mcp_response", "id": "a", "result": {"tools": []}}),
        json!({"kind": "mcp_response", "id": 2, "error": {"code": -32601, "message": "no"}}),
        json!({"kind": "mcp_notification", "method": "n", "params": {"content": "é"}}),
        json!({"kind": "hook", "id": 1, "event": "Stop", "input": {"stop_hook_active": false}}),
        json!({"kind": "hook_reply", "id": 1, "output": "o"}),
        json!({"kind": "shutdown", "reason": "r"}),
        json!({"kind": "error", "message": "m", "id": 3}),
    ]
}

fn line(frames: &[Value], random: &mut Random) -> Vec<u8> {
    let mut frame = frames[random.below(frames.len())].clone();
    (0..random.below(3)).for_each(|_| twist(&mut frame, random));
    let mut line = frame.to_string().into_bytes();
    if random.one_in(3) {
        let other = frames[random.below(frames.len())].to_string();
        spoil(&mut line, other.as_bytes(), random);
    }
    line
}

#[test]
fn session() {
    let frames = frames();
    fuzz("session", 2000, |random| match Frame::decode(&line(&frames, random)) {
        Ok(frame) => {
            let again = frame.clone().encode();
            assert!(again.ends_with('\n') && again.lines().count() == 1, "one line: {again:?}");
            assert_eq!(Frame::decode(again.as_bytes()).expect("what we say is understood"), frame);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    });
}
