//! Events as an agent leaves them: conversations that grow, tools, subagents, what else went by.
use serde_json::{Value, json};

/// When they begin, ms since the epoch.
pub const BEGIN: u64 = 1_795_251_600_000;

/// A session of an agent.
pub struct Session {
    id: String,
    at: u64,
    messages: Vec<Value>,
    calls: u64,
}

impl Session {
    pub fn new(id: &str) -> Session {
        Session { id: id.to_string(), at: BEGIN, messages: Vec::new(), calls: 0 }
    }

    /// What the person asks for.
    pub fn ask(&mut self, text: &str) {
        let reminder = "<system-reminder>\nBe brief.\n</system-reminder>";
        self.messages.push(json!({"role": "user", "content": [text_block(reminder), text_block(text)]}));
    }

    /// A call whose answer is these blocks; the results of the tools that it uses are in the next one.
    pub fn call(&mut self, answer: &[Value]) -> Value {
        self.calls += 1;
        let (n, from) = (self.calls, self.at);
        self.at += 2000;
        let uses = answer.iter().any(|block| block["type"] == "tool_use");
        let bill = format!("billing {n}");
        let guide = "You are an agent. You help with code. ".repeat(100);
        let system = format!("{bill}\n{guide}");
        let event = json!({"kind": "llm_exchange", "ts": from + 1500, "duration": 1500, "entry": {
            "kind": "anthropic_messages", "startedAt": from, "endedAt": from + 1500, "firstTokenAt": from + 300,
            "request": {"model": "claude-opus-4-5", "maxTokens": 32000, "temperature": 1, "system": system,
                "systemParts": [bill.len(), guide.len()], "messages": self.messages,
                "tools": [{"name": "Bash", "description": "Runs a command.", "inputSchema": {"type": "object"}}]},
            "response": {"stopReason": if uses { "tool_use" } else { "end_turn" }, "stopSequence": null, "status": 200,
                "messages": [{"role": "assistant", "content": answer}],
                "usage": {"inputTokens": 10, "outputTokens": 100, "cacheReadInputTokens": 5000 * n, "cacheCreationInputTokens": 900}},
            "requestId": format!("req_{n}"), "session": {"id": self.id}, "client": "agent/1", "host": "api.anthropic.com",
            "stream": true}});
        self.messages.push(json!({"role": "assistant", "content": answer}));
        let results: Vec<Value> = answer
            .iter()
            .filter(|block| block["type"] == "tool_use")
            .map(|block| {
                let failed = block["input"]["command"] == "false";
                let content = if failed { "exit status 1" } else { "ok\nall is well" };
                json!({"type": "tool_result", "toolUseId": block["id"], "content": content, "isError": failed})
            })
            .collect();
        if !results.is_empty() {
            self.messages.push(json!({"role": "user", "content": results}));
        }
        event
    }

    /// A call that is refused.
    pub fn refused(&mut self) -> Value {
        let mut event = self.call(&[]);
        self.messages.pop();
        event["entry"]["response"]["status"] = json!(529);
        event["entry"]["response"]["messages"] = json!([]);
        event["entry"]["response"]["usage"] = Value::Null;
        event["entry"]["error"] = json!({"type": "overloaded_error", "message": "Overloaded"});
        event
    }
}

pub fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

pub fn tool(id: &str, command: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"command": command, "description": "Run it"}})
}

/// Sessions of fifty calls each, one after the other.
pub fn long(sessions: u64) -> Vec<Value> {
    let mut events = Vec::new();
    for s in 0..sessions {
        let mut session = Session::new(&format!("session-{s:04}"));
        session.ask(&format!("Request {s}"));
        for i in 0..50 {
            let mut event = session.call(&[tool(&format!("t{s}-{i}"), &format!("step {s}.{i}"))]);
            let shift = 200_000 * s;
            for path in ["/ts", "/entry/startedAt", "/entry/endedAt", "/entry/firstTokenAt"] {
                let at = event.pointer_mut(path).unwrap();
                *at = json!(at.as_u64().unwrap() + shift);
            }
            events.push(event);
        }
    }
    events
}

/// Two turns with a failing tool, a refused call, a tunnel and a loss.
pub fn story() -> Vec<Value> {
    let mut session = Session::new("5e55-0001");
    session.ask("Fix the failing test, please");
    let mut events = vec![
        session.call(&[
            json!({"type": "thinking", "text": "Look first."}),
            text_block("I look at it."),
            tool("t1", "cargo test"),
        ]),
        session.call(&[tool("t2", "false")]),
        session.call(&[text_block("It is fixed now.")]),
    ];
    session.ask("Now commit it");
    events.push(session.refused());
    events.push(session.call(&[tool("t3", "git commit")]));
    events.push(session.call(&[text_block("Committed.")]));
    events.push(opaque(
        "github.com",
        "CONNECT",
        "github.com:443",
        &json!({"tunnel": {"reason": "scope", "bytesUp": 100, "bytesDown": 70_000}}),
    ));
    events.push(opaque(
        "ac7",
        "NOTE",
        "ac7:dropped",
        &json!({"note": {"count": 3, "reason": "the queue was full"}}),
    ));
    events.push(opaque("api.anthropic.com", "GET", "/api/hello", &json!({"status": 200})));
    events
}

pub fn opaque(host: &str, method: &str, url: &str, more: &Value) -> Value {
    let mut entry = json!({"kind": "opaque_http", "startedAt": BEGIN + 9000, "endedAt": BEGIN + 9100, "host": host, "method": method,
        "url": url, "status": null, "requestHeaders": {}, "responseHeaders": {}, "requestBodyPreview": null, "responseBodyPreview": null});
    entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"kind": "opaque_http", "ts": BEGIN + 9100, "duration": 100, "entry": entry})
}

/// Text that would do something if it were taken for more than text.
pub const HOSTILE: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script><a href=\"javascript:pwned=1\">x</a>\
     </script></style></textarea>\u{1b}[31m\u{1b}]0;t\u{7}\u{202e}gnp\u{2066}\u{200b}\u{0}\u{9b}1m{{7*7}}${7*7}";

/// A call and a request in which every text is hostile.
pub fn hostile() -> Vec<Value> {
    let mut session = Session::new(HOSTILE);
    session.ask(HOSTILE);
    let uses = json!({"type": "tool_use", "id": HOSTILE, "name": HOSTILE, "input": {"command": HOSTILE, HOSTILE: HOSTILE}});
    let unknown = json!({"type": "unknown", "raw": {"type": HOSTILE, "x": HOSTILE}});
    let mut first =
        session.call(&[json!({"type": "thinking", "text": HOSTILE}), text_block(HOSTILE), unknown, uses]);
    let second = session.call(&[text_block(HOSTILE)]);
    let entry = &mut first["entry"];
    for name in ["requestId", "client", "host", "servedModel", "id"] {
        entry[name] = json!(HOSTILE);
    }
    entry["request"]["model"] = json!(HOSTILE);
    entry["request"]["system"] = json!(HOSTILE);
    entry["request"]["systemParts"] = json!([]);
    entry["request"]["tools"] =
        json!([{"name": HOSTILE, "description": HOSTILE, "inputSchema": {HOSTILE: HOSTILE}}]);
    entry["response"]["stopReason"] = json!(HOSTILE);
    entry["error"] = json!({"type": HOSTILE, "message": HOSTILE});
    let more = json!({"status": 200, "requestHeaders": {HOSTILE: HOSTILE}, "responseHeaders": {HOSTILE: HOSTILE}, "requestBodyPreview": HOSTILE,
        "responseBodyPreview": HOSTILE});
    let tunnel = json!({"tunnel": {"reason": HOSTILE, "alert": HOSTILE, "bytesUp": 1, "bytesDown": 1}});
    let opened = json!({"kind": "objective_open", "ts": BEGIN, "objectiveId": HOSTILE});
    vec![
        first,
        second,
        opaque(HOSTILE, HOSTILE, HOSTILE, &more),
        opaque(HOSTILE, "CONNECT", HOSTILE, &tunnel),
        opened,
    ]
}
