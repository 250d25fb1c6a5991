//! What codex does, in words for whoever watches.
use serde_json::Value;

/// The end of a turn.
pub fn turn(turn: &Value) -> String {
    match text(turn, "status") {
        "failed" => format!("turn failed: {}", text(&turn["error"], "message")),
        "" => "turn ended".to_string(),
        status => format!("turn {status}"),
    }
}

/// Something within a turn that has ended. What the model thinks, and what it was told, is in the trace.
pub fn item(item: &Value) -> Option<String> {
    let status = text(item, "status");
    Some(match text(item, "type") {
        "agentMessage" => text(item, "text").to_string(),
        "commandExecution" => {
            let end =
                item["exitCode"].as_i64().map_or_else(|| status.to_string(), |code| format!("exit {code}"));
            format!("$ {} ({end})", text(item, "command"))
        }
        "fileChange" => {
            let changes = item["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
            let paths: Vec<&str> = changes.iter().map(|change| text(change, "path")).collect();
            format!("changed {} ({status})", paths.join(", "))
        }
        "mcpToolCall" => format!("{}: {} ({status})", text(item, "server"), text(item, "tool")),
        "webSearch" => format!("searched for {}", text(item, "query")),
        _ => return None,
    })
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_what_is_worth_one() {
        let done = |value: Value| item(&value);
        for (got, want) in [
            (done(json!({"type": "agentMessage", "text": "hello"})), Some("hello")),
            (
                done(json!({"type": "commandExecution", "command": "ls", "exitCode": 2, "status": "failed"})),
                Some("$ ls (exit 2)"),
            ),
            (
                done(
                    json!({"type": "commandExecution", "command": "ls", "exitCode": null, "status": "declined"}),
                ),
                Some("$ ls (declined)"),
            ),
            (
                done(
                    json!({"type": "fileChange", "changes": [{"path": "a"}, {"path": "b"}], "status": "completed"}),
                ),
                Some("changed a, b (completed)"),
            ),
            (
                done(json!({"type": "mcpToolCall", "server": "ac7", "tool": "send", "status": "completed"})),
                Some("ac7: send (completed)"),
            ),
            (done(json!({"type": "reasoning", "summary": []})), None),
            (Some(turn(&json!({"status": "completed"}))), Some("turn completed")),
            (Some(turn(&json!({"status": "failed", "error": {"message": "m"}}))), Some("turn failed: m")),
        ] {
            assert_eq!(got.as_deref(), want);
        }
    }
}
