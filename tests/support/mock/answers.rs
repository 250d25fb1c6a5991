//! What the providers say, in their shapes.
use serde_json::{Value, json};

use super::ANSWER;

/// The answer as the pieces in which it is streamed.
const PIECES: [&str; 5] = ["Hello", " from", " the mock.", " ok ✓", " 你好"];

/// A tool call: its name and the JSON of its input.
type Tool<'a> = Option<(&'a str, &'a str)>;

/// One server-sent event.
pub(super) struct Event {
    name: Option<&'static str>,
    data: String,
}

impl Event {
    /// An event whose name is the data's `type`.
    fn typed(name: &'static str, mut data: Value) -> Event {
        let mut whole = json!({"type": name});
        if let (Value::Object(whole), Value::Object(data)) = (&mut whole, &mut data) {
            whole.append(data);
        }
        Event { name: Some(name), data: whole.to_string() }
    }

    fn unnamed(data: impl ToString) -> Event {
        Event { name: None, data: data.to_string() }
    }

    /// As it goes over the wire.
    pub fn text(&self) -> String {
        let name = self.name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        format!("{name}data: {}\n\n", self.data)
    }
}

/// Anthropic's way to end a stream in the middle.
pub(super) fn overloaded() -> Event {
    Event::typed("error", json!({"error": {"type": "overloaded_error", "message": "Overloaded"}}))
}

/// An error as Anthropic words it.
pub(super) fn error(status: u16) -> Value {
    let kind = match status {
        401 => "authentication_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": format!("mock {status}")}})
}

/// A Messages answer in one piece.
pub(super) fn messages(model: &str, tool: Tool, id: &str) -> Value {
    let mut content = vec![json!({"type": "text", "text": ANSWER})];
    if let Some((name, input)) = tool {
        let input: Value = serde_json::from_str(input).unwrap_or_default();
        content
            .push(json!({"type": "tool_use", "id": format!("toolu_mock{id}"), "name": name, "input": input}));
    }
    json!({"id": format!("msg_mock{id}"), "type": "message", "role": "assistant", "model": model, "content": content,
           "stop_reason": stop_reason(tool), "stop_sequence": null,
           "usage": {"input_tokens": 150, "output_tokens": 42, "cache_creation_input_tokens": 20,
                     "cache_read_input_tokens": 100}})
}

/// A Messages answer as a stream.
pub(super) fn messages_events(model: &str, tool: Tool, id: &str) -> Vec<Event> {
    let usage = json!({"input_tokens": 150, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100,
                       "output_tokens": 1});
    let message = json!({"id": format!("msg_mock{id}"), "type": "message", "role": "assistant", "model": model,
                         "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
    let start = |index: usize, block: Value| {
        Event::typed("content_block_start", json!({"index": index, "content_block": block}))
    };
    let delta = |index: usize, delta: Value| {
        Event::typed("content_block_delta", json!({"index": index, "delta": delta}))
    };
    let stop = |index: usize| Event::typed("content_block_stop", json!({"index": index}));

    let mut events =
        vec![Event::typed("message_start", json!({"message": message})), Event::typed("ping", json!({}))];
    events.push(start(0, json!({"type": "text", "text": ""})));
    events.extend(PIECES.iter().map(|piece| delta(0, json!({"type": "text_delta", "text": piece}))));
    events.push(stop(0));
    if let Some((name, input)) = tool {
        let block = json!({"type": "tool_use", "id": format!("toolu_mock{id}"), "name": name, "input": {}});
        events.push(start(1, block));
        let letters: Vec<char> = input.chars().collect();
        events.extend(letters.chunks(7).map(|piece| {
            delta(1, json!({"type": "input_json_delta", "partial_json": piece.iter().collect::<String>()}))
        }));
        events.push(stop(1));
    }
    let end = json!({"usage": {"output_tokens": 42},
                     "delta": {"stop_reason": stop_reason(tool), "stop_sequence": null}});
    events.push(Event::typed("message_delta", end));
    events.push(Event::typed("message_stop", json!({})));
    events
}

/// An OpenAI Responses answer as a stream.
pub(super) fn responses_events(model: &str, tool: Tool, id: &str) -> Vec<Event> {
    let response = |status: &str, output: &[Value]| {
        json!({"id": format!("resp_mock{id}"), "object": "response", "model": model, "status": status,
               "output": output})
    };
    let with = |item: &Value, field: &str, value: Value| {
        let mut item = item.clone();
        item[field] = value;
        item["status"] = "in_progress".into();
        Event::typed("response.output_item.added", json!({"output_index": 0, "item": item}))
    };
    let mut events =
        vec![Event::typed("response.created", json!({"response": response("in_progress", &[])}))];
    let item = if let Some((name, input)) = tool {
        let item = json!({"type": "function_call", "id": format!("fc_mock{id}"), "call_id": format!("call_mock{id}"),
                          "name": name, "arguments": input, "status": "completed"});
        events.push(with(&item, "arguments", "".into()));
        let done = json!({"item_id": format!("fc_mock{id}"), "output_index": 0, "arguments": input});
        events.push(Event::typed("response.function_call_arguments.done", done));
        item
    } else {
        let item = json!({"type": "message", "id": format!("msg_mock{id}"), "role": "assistant",
                          "status": "completed",
                          "content": [{"type": "output_text", "text": ANSWER, "annotations": []}]});
        events.push(with(&item, "content", json!([])));
        let place = |key: &str, text: &str| {
            let mut data = json!({"item_id": format!("msg_mock{id}"), "output_index": 0, "content_index": 0});
            data[key] = text.into();
            data
        };
        events.extend(PIECES.iter().map(|p| Event::typed("response.output_text.delta", place("delta", p))));
        events.push(Event::typed("response.output_text.done", place("text", ANSWER)));
        item
    };
    events.push(Event::typed("response.output_item.done", json!({"output_index": 0, "item": item})));
    let mut last = response("completed", &[item]);
    last["usage"] = json!({"input_tokens": 150, "input_tokens_details": {"cached_tokens": 100},
                           "output_tokens": 42, "output_tokens_details": {"reasoning_tokens": 7},
                           "total_tokens": 192});
    events.push(Event::typed("response.completed", json!({"response": last})));
    events
}

/// A Chat Completions answer in one piece.
pub(super) fn chat(model: &str) -> Value {
    json!({"id": "chatcmpl-mock01", "object": "chat.completion", "created": 1, "model": model,
           "choices": [{"index": 0, "finish_reason": "stop",
                        "message": {"role": "assistant", "content": ANSWER}}],
           "usage": {"prompt_tokens": 150, "completion_tokens": 42, "total_tokens": 192}})
}

/// A Chat Completions answer as a stream.
pub(super) fn chat_events(model: &str) -> Vec<Event> {
    let chunk = |key: &str, value: Value| {
        let mut data = json!({"id": "chatcmpl-mock01", "object": "chat.completion.chunk", "created": 1,
                              "model": model, "choices": []});
        data[key] = value;
        Event::unnamed(data)
    };
    let choice = |delta: Value, reason: Value| {
        chunk("choices", json!([{"index": 0, "delta": delta, "finish_reason": reason}]))
    };
    let mut events: Vec<Event> =
        PIECES.iter().map(|p| choice(json!({"role": "assistant", "content": p}), Value::Null)).collect();
    events.push(choice(json!({}), "stop".into()));
    events.push(chunk("usage", json!({"prompt_tokens": 150, "completion_tokens": 42, "total_tokens": 192})));
    events.push(Event::unnamed("[DONE]"));
    events
}

fn stop_reason(tool: Tool) -> &'static str {
    if tool.is_some() { "tool_use" } else { "end_turn" }
}
