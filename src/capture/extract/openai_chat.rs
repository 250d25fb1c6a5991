//! OpenAI Chat Completions and its many imitations: `POST …/chat/completions`.
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{
    append, arguments, array, object, str_at, take, take_array, take_some, take_string, uint_at,
};
use super::openai;
use super::reply::{Answer, Merged, Part, error_of};
use crate::activity::{Block, LlmRequest, LlmResponse, Message};

/// A request body; `None` if it is not one.
pub fn request(mut body: Value) -> Option<LlmRequest> {
    body.get("messages")?.as_array()?;
    let tools = take_some(&mut body, "tools").or_else(|| take_some(&mut body, "functions"));
    Some(LlmRequest {
        model: take_string(&mut body, "model"),
        max_tokens: uint_at(&body, &["max_completion_tokens", "max_tokens"]),
        temperature: body.get("temperature").and_then(Value::as_number).cloned(),
        messages: take_array(&mut body, "messages").into_iter().map(message).collect(),
        tools: tools.map(|list| {
            let mut out = Vec::new();
            openai::tools(array(list), &mut out);
            out
        }),
        ..LlmRequest::default()
    })
}

fn message(mut raw: Value) -> Message {
    let role = take_string(&mut raw, "role").unwrap_or_else(|| "assistant".into());
    let mut content = Vec::new();
    // Several servers give the model's reasoning under one of these names.
    for name in ["reasoning_content", "reasoning"] {
        if let Some(text) = take_string(&mut raw, name).filter(|t| !t.is_empty()) {
            content.push(Block::Thinking { text });
        }
    }
    match role.as_str() {
        "tool" | "function" => content.push(Block::ToolResult {
            tool_use_id: take_string(&mut raw, "tool_call_id")
                .or_else(|| take_string(&mut raw, "name"))
                .unwrap_or_default(),
            content: openai::tool_output(take(&mut raw, "content")),
            is_error: false,
            cache_control: None,
        }),
        _ => openai::content(take(&mut raw, "content"), &mut content),
    }
    // A streaming server may begin with an empty string before a tool call.
    content.retain(|b| !matches!(b, Block::Text { text, .. } if text.is_empty()));
    openai::refusal(&mut raw, &mut content);
    content.extend(take_array(&mut raw, "tool_calls").into_iter().map(tool_call));
    if let Some(call) = take_some(&mut raw, "function_call") {
        content.push(tool_call(json!({"type": "function", "function": call})));
    }
    Message { role, content }
}

fn tool_call(mut raw: Value) -> Block {
    let kind = if raw.get("custom").is_some_and(Value::is_object) { "custom" } else { "function" };
    let mut call = take(&mut raw, kind);
    let Some(name) = take_string(&mut call, "name") else { return Block::Unknown { raw } };
    let input = match (take(&mut call, "arguments"), take(&mut call, "input")) {
        (Value::String(text), _) => arguments(&text),
        (Value::Null, input) => input,
        (other, _) => other,
    };
    Block::ToolUse { id: take_string(&mut raw, "id").unwrap_or_default(), name, input, cache_control: None }
}

/// An answer in one piece; several choices are several messages, the first gives the stop reason.
pub fn answer(mut whole: Value) -> Answer {
    let mut stop_reason = None;
    let mut messages = Vec::new();
    for mut choice in take_array(&mut whole, "choices") {
        stop_reason = stop_reason.or_else(|| take_string(&mut choice, "finish_reason"));
        messages.push(message(take(&mut choice, "message")));
    }
    Answer {
        id: take_string(&mut whole, "id"),
        served_model: take_string(&mut whole, "model"),
        response: LlmResponse {
            stop_reason,
            messages,
            usage: openai::usage(whole),
            ..LlmResponse::default()
        },
    }
}

/// Members of a delta that are pieces of a longer text; all others are told once or repeated.
const PIECES: [&str; 6] = ["content", "refusal", "reasoning_content", "reasoning", "arguments", "input"];

/// One choice while it is put together.
#[derive(Default)]
struct Choice {
    message: Map<String, Value>,
    tool_calls: BTreeMap<u64, Map<String, Value>>,
    finish_reason: Value,
}

/// Put a stream together.
pub fn merge(parts: Vec<Part>) -> Merged {
    let mut out = Merged::default();
    let mut whole = Map::new();
    let mut choices: BTreeMap<u64, Choice> = BTreeMap::new();
    for Part { value: mut chunk, at, .. } in parts {
        if chunk.get("error").is_some_and(|e| !e.is_null()) {
            out.error = error_of(&chunk);
            out.complete = true;
            continue;
        }
        for mut sent in take_array(&mut chunk, "choices") {
            let choice = choices.entry(uint_at(&sent, &["index"]).unwrap_or(0)).or_default();
            if let Some(reason) = take_some(&mut sent, "finish_reason") {
                choice.finish_reason = reason;
                out.complete = true;
            }
            let mut delta = take(&mut sent, "delta");
            for call in take_array(&mut delta, "tool_calls") {
                out.token(at);
                tool_call_delta(&mut choice.tool_calls, call);
            }
            if PIECES.iter().any(|name| !str_at(&delta, name).is_empty()) {
                out.token(at);
            }
            add(&mut choice.message, object(delta));
        }
        whole.extend(object(chunk).into_iter().filter(|(_, v)| !v.is_null()));
    }
    let finished = |(index, mut choice): (u64, Choice)| {
        if !choice.tool_calls.is_empty() {
            let calls = choice.tool_calls.into_values().map(Value::Object).collect();
            choice.message.insert("tool_calls".into(), calls);
        }
        json!({"index": index, "message": choice.message, "finish_reason": choice.finish_reason})
    };
    whole.insert("choices".into(), choices.into_iter().map(finished).collect());
    out.whole = Value::Object(whole);
    out
}

/// Servers that send a call whole leave out the index: then a new id is a new call.
fn tool_call_delta(calls: &mut BTreeMap<u64, Map<String, Value>>, call: Value) {
    let last = calls.last_key_value().map(|(index, last)| (*index, last.get("id") == call.get("id")));
    let index = uint_at(&call, &["index"]).unwrap_or_else(|| match last {
        Some((index, same)) if same || call.get("id").is_none() => index,
        Some((index, _)) => index + 1,
        None => 0,
    });
    add(calls.entry(index).or_default(), object(call));
}

fn add(target: &mut Map<String, Value>, delta: Map<String, Value>) {
    for (name, piece) in delta {
        match piece {
            Value::Null => {}
            Value::String(text) if PIECES.contains(&name.as_str()) => append(target, &name, &text),
            Value::Object(inner) => {
                let slot = target.entry(name).or_insert_with(|| json!({}));
                match slot {
                    Value::Object(map) => add(map, inner),
                    other => *other = Value::Object(inner),
                }
            }
            other => {
                target.insert(name, other);
            }
        }
    }
}
