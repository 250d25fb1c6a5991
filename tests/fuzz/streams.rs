//! Answers of every provider as streams: what was said, in random deltas and any spelling the framing allows.
use super::inputs::{amazon_frame, body, socket_call};
use super::random::Random;
use ac7::capture::exchange::{Captured, Exchange, Headers, RequestHead, ResponseHead, Target};
use serde_json::{Value, json};

/// A wire format, and how its streams are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Anthropic,
    Bedrock,
    Chat,
    Responses,
    Socket,
    Gemini,
    Converse,
}

pub const WIRES: [Wire; 7] =
    [Wire::Anthropic, Wire::Bedrock, Wire::Chat, Wire::Responses, Wire::Socket, Wire::Gemini, Wire::Converse];

/// What a model says: perhaps thoughts, perhaps a text, and uses of tools.
#[derive(Debug, Default)]
pub struct Said {
    pub thinking: Option<String>,
    pub text: Option<String>,
    pub tools: Vec<Tool>,
}

#[derive(Debug)]
pub struct Tool {
    pub id: String,
    pub name: String,
    pub input: Value,
}

impl Said {
    pub fn any(random: &mut Random) -> Said {
        let mut text = |chance| (!random.one_in(chance)).then(|| format!("x{}", random.text(80)));
        let (thinking, text) = (text(2), text(4));
        let tools = (0..random.below(3)).map(|n| Tool {
            id: format!("call_{n}"),
            name: random.pick(&["Bash", "Read", "mcp__x"]).to_string(),
            input: json!({"command": random.text(60), "n": [1, {"deep": random.text(20)}], "x": null}),
        });
        Said { thinking, text, tools: tools.collect() }
    }

    /// The content of the answer, as events have it.
    pub fn content(&self) -> Vec<Value> {
        let thinking = self.thinking.iter().map(|t| json!({"type": "thinking", "text": t}));
        let text = self.text.iter().map(|t| json!({"type": "text", "text": t}));
        let tools = self
            .tools
            .iter()
            .map(|t| json!({"type": "tool_use", "id": t.id, "name": t.name, "input": t.input}));
        thinking.chain(text).chain(tools).collect()
    }

    /// The call as the reassembler gives it out.
    pub fn captured(&self, wire: Wire, random: &mut Random) -> Captured {
        let messages = match wire {
            Wire::Anthropic | Wire::Bedrock => self.anthropic(random),
            Wire::Chat => self.chat(random),
            Wire::Responses | Wire::Socket => self.responses(random),
            Wire::Gemini => self.gemini(random),
            Wire::Converse => self.converse(random),
        };
        let (target, asked) = wire.request(random);
        let head = |kind: &str| Headers(vec![("content-type".into(), kind.into())]);
        let request =
            RequestHead { method: "POST".into(), target: target.into(), headers: head("application/json") };
        let target = Target { scheme: "https", host: "a.example".into(), port: 443 };
        let amazon = |message: Value| match wire {
            Wire::Bedrock => amazon_frame(&json!({"event": "chunk", "chunk": message})),
            _ => amazon_frame(&message),
        };
        let (kind, answer) = match wire {
            Wire::Socket => {
                let response = ResponseHead { status: 101, headers: Headers::default() };
                return socket_call(target, request, response, asked.to_string().into_bytes(), &messages);
            }
            Wire::Bedrock | Wire::Converse => {
                ("application/vnd.amazon.eventstream", messages.into_iter().flat_map(amazon).collect())
            }
            Wire::Gemini if random.one_in(2) => {
                ("application/json", Value::Array(messages).to_string().into_bytes())
            }
            _ => ("text/event-stream; charset=utf-8", sse(&messages, wire == Wire::Chat, random)),
        };
        Captured::Exchange(Box::new(Exchange {
            target,
            request,
            request_body: body(asked.to_string().into_bytes(), None, 1000),
            response: Some(ResponseHead { status: 200, headers: head(kind) }),
            response_body: body(answer, None, 2000),
            started_at: 1000,
            ended_at: 9000,
        }))
    }

    fn anthropic(&self, random: &mut Random) -> Vec<Value> {
        let usage = json!({"input_tokens": 3, "output_tokens": 1});
        let start = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage});
        let mut out = vec![json!({"type": "message_start", "message": start})];
        let mut index = 0;
        let mut block = |start: Value, kind: &str, member: &str, text: &str, random: &mut Random| {
            out.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
            for piece in random.deltas(text) {
                out.push(json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, member: piece}}));
                if random.one_in(9) {
                    out.push(json!({"type": "ping"}));
                }
            }
            out.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        };
        if let Some(t) = &self.thinking {
            block(
                json!({"type": "thinking", "thinking": "", "signature": ""}),
                "thinking_delta",
                "thinking",
                t,
                random,
            );
        }
        if let Some(t) = &self.text {
            block(json!({"type": "text", "text": ""}), "text_delta", "text", t, random);
        }
        for t in &self.tools {
            let start = json!({"type": "tool_use", "id": t.id, "name": t.name, "input": {}});
            block(start, "input_json_delta", "partial_json", &spelled(&t.input, random), random);
        }
        out.push(
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": 9}}),
        );
        out.push(json!({"type": "message_stop"}));
        out
    }

    fn chat(&self, random: &mut Random) -> Vec<Value> {
        let chunk = |delta: Value| {
            json!({"id": "c1", "object": "chat.completion.chunk", "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
        };
        let mut out = vec![chunk(json!({"role": "assistant", "content": ""}))];
        for (name, text) in [("reasoning_content", &self.thinking), ("content", &self.text)] {
            let pieces = random.deltas(text.as_deref().unwrap_or(""));
            out.extend(pieces.into_iter().map(|piece| chunk(json!({name: piece}))));
        }
        for (index, t) in self.tools.iter().enumerate() {
            let call = json!({"index": index, "id": t.id, "type": "function",
                "function": {"name": t.name, "arguments": ""}});
            out.push(chunk(json!({"tool_calls": [call]})));
            let arguments = spelled(&t.input, random);
            for piece in random.deltas(&arguments) {
                let call = json!({"index": index, "function": {"arguments": piece}});
                out.push(chunk(json!({"tool_calls": [call]})));
            }
        }
        out.push(json!({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
        out.push(json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}));
        out
    }

    fn responses(&self, random: &mut Random) -> Vec<Value> {
        let mut out = vec![
            json!({"type": "response.created", "response": {"id": "r1", "status": "in_progress", "output": []}}),
        ];
        let mut items = Vec::new();
        // An item; its deltas' kind and text; the event's members beside them.
        let mut whole = Vec::new();
        if let Some(t) = &self.thinking {
            let item =
                json!({"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": t}]});
            let empty = json!({"type": "reasoning", "id": "rs", "summary": []});
            whole.push((item, empty, "response.reasoning_summary_text", "text", t.clone()));
        }
        if let Some(t) = &self.text {
            let part = json!({"type": "output_text", "text": t, "annotations": []});
            let item = json!({"type": "message", "role": "assistant", "content": [part]});
            let empty = json!({"type": "message", "role": "assistant", "content": []});
            whole.push((item, empty, "response.output_text", "text", t.clone()));
        }
        for t in &self.tools {
            let arguments = spelled(&t.input, random);
            let item = |arguments: &str| json!({"type": "function_call", "id": "fc", "call_id": t.id, "name": t.name, "arguments": arguments});
            whole.push((
                item(&arguments),
                item(""),
                "response.function_call_arguments",
                "arguments",
                arguments,
            ));
        }
        for (index, (item, empty, kind, member, text)) in whole.into_iter().enumerate() {
            out.push(json!({"type": "response.output_item.added", "output_index": index, "item": empty}));
            for piece in random.deltas(&text) {
                out.push(json!({"type": format!("{kind}.delta"), "output_index": index, "content_index": 0,
                    "summary_index": 0, "delta": piece}));
            }
            // Any one of these repeats the whole; each may be missing.
            if random.one_in(2) {
                out.push(json!({"type": format!("{kind}.done"), "output_index": index, "content_index": 0,
                    "summary_index": 0, member: text}));
            }
            if random.one_in(2) {
                out.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
            }
            items.push(item);
        }
        let output = if random.one_in(2) { items } else { Vec::new() };
        out.push(
            json!({"type": "response.completed", "response": {"id": "r1", "status": "completed", "model": "m",
            "output": output, "usage": {"input_tokens": 3, "output_tokens": 9}}}),
        );
        out
    }

    fn gemini(&self, random: &mut Random) -> Vec<Value> {
        let mut parts = Vec::new();
        for piece in random.deltas(self.thinking.as_deref().unwrap_or("")) {
            parts.push(json!({"text": piece, "thought": true}));
        }
        for piece in random.deltas(self.text.as_deref().unwrap_or("")) {
            parts.push(json!({"text": piece}));
        }
        for t in &self.tools {
            parts.push(json!({"functionCall": {"id": t.id, "name": t.name, "args": t.input}}));
        }
        parts.push(json!({"text": ""}));
        let mut out = Vec::new();
        while !parts.is_empty() {
            let some: Vec<_> = parts.drain(..1 + random.below(parts.len().min(3))).collect();
            out.push(json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": some}}], "responseId": "g"}));
        }
        out.push(json!({"candidates": [{"index": 0, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 3}}));
        out
    }

    fn converse(&self, random: &mut Random) -> Vec<Value> {
        let event = |name: &str, payload: Value| json!({"event": name, "payload": payload});
        let mut out = vec![event("messageStart", json!({"role": "assistant"}))];
        let mut index = 0;
        let mut block =
            |start: Option<&Tool>, text: &str, delta: &dyn Fn(String) -> Value, random: &mut Random| {
                if let Some(t) = start {
                    let start = json!({"toolUse": {"toolUseId": t.id, "name": t.name}});
                    out.push(event("contentBlockStart", json!({"contentBlockIndex": index, "start": start})));
                }
                for piece in random.deltas(text) {
                    let payload = json!({"contentBlockIndex": index, "delta": delta(piece)});
                    out.push(event("contentBlockDelta", payload));
                }
                out.push(event("contentBlockStop", json!({"contentBlockIndex": index})));
                index += 1;
            };
        if let Some(t) = &self.thinking {
            block(None, t, &|piece| json!({"reasoningContent": {"text": piece}}), random);
        }
        if let Some(t) = &self.text {
            block(None, t, &|piece| json!({"text": piece}), random);
        }
        for t in &self.tools {
            let input = spelled(&t.input, random);
            block(Some(t), &input, &|piece| json!({"toolUse": {"input": piece}}), random);
        }
        out.push(event("messageStop", json!({"stopReason": "end_turn"})));
        out.push(event("metadata", json!({"usage": {"inputTokens": 3, "outputTokens": 9}})));
        out
    }
}

impl Wire {
    /// Path and body of a request.
    fn request(self, random: &mut Random) -> (&'static str, Value) {
        let text = random.text(40);
        let messages = json!([{"role": "user", "content": text}]);
        match self {
            Wire::Anthropic => ("/v1/messages", json!({"model": "m", "stream": true, "messages": messages})),
            Wire::Bedrock => (
                "/model/m/invoke-with-response-stream",
                json!({"anthropic_version": "bedrock-2023-05-31", "messages": messages}),
            ),
            Wire::Chat => {
                ("/v1/chat/completions", json!({"model": "m", "stream": true, "messages": messages}))
            }
            Wire::Responses => ("/v1/responses", json!({"model": "m", "stream": true, "input": text})),
            Wire::Socket => {
                ("/v1/responses", json!({"type": "response.create", "model": "m", "input": text}))
            }
            Wire::Gemini => (
                "/v1beta/models/m:streamGenerateContent",
                json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
            ),
            Wire::Converse => (
                "/model/m/converse-stream",
                json!({"messages": [{"role": "user", "content": [{"text": text}]}]}),
            ),
        }
    }
}

/// JSON text of a value, in one of its spellings.
fn spelled(value: &Value, random: &mut Random) -> String {
    if random.one_in(2) { value.to_string() } else { serde_json::to_string_pretty(value).unwrap() }
}

/// Server-sent events in any spelling of the standard.
fn sse(messages: &[Value], done: bool, random: &mut Random) -> Vec<u8> {
    let mut out = String::new();
    if random.one_in(8) {
        out.push('\u{FEFF}');
    }
    let all_ends = random.pick(&["\n", "\r\n", "\r"]);
    let mixed = random.one_in(3);
    let line = |out: &mut String, text: &str, random: &mut Random| {
        // A lone CR before an LF would be one end, not two.
        let end = if mixed { random.pick(&["\n", "\r\n"]) } else { all_ends };
        out.push_str(text);
        out.push_str(end);
    };
    let texts = messages.iter().map(|message| spelled(message, random)).collect::<Vec<_>>();
    for text in texts.iter().map(String::as_str).chain(done.then_some("[DONE]")) {
        let space = random.pick(&[" ", ""]);
        if random.one_in(5) {
            line(
                &mut out,
                random.pick(&[": comment", ":", "id: 7", "retry: 10", "other", "data-x: y"]),
                random,
            );
        }
        let name = format!("event:{space}some.event");
        let named = random.below(3);
        if named == 0 {
            line(&mut out, &name, random);
        }
        // White space may be broken into lines: each becomes data again.
        for part in text.split('\n') {
            line(&mut out, &format!("data:{space}{part}"), random);
        }
        if named == 1 {
            line(&mut out, &name, random);
        }
        for _ in 0..1 + random.size(2) {
            line(&mut out, "", random);
        }
    }
    out.into_bytes()
}
