//! Bedrock's Converse API: `…/model/ID/converse` and `/converse-stream`, whatever the model behind it.
//!
//! It is translated to the shape of Anthropic Messages, which it resembles, and read by that module.
use serde_json::{Map, Value, json};

use super::anthropic;
use super::json::{array, object, str_at, take, take_array, take_some};
use super::reply::{Answer, Merged, Part};
use crate::activity::LlmRequest;

/// A request body; `None` if it is not one. The model is in the path.
pub fn request(mut body: Value) -> Option<LlmRequest> {
    body.get("messages")?.as_array()?;
    let mut config = take(&mut body, "inferenceConfig");
    let mut tools = take(&mut body, "toolConfig");
    let system =
        take_some(&mut body, "system").map(|s| array(s).into_iter().filter_map(block).collect::<Value>());
    let tools = take_some(&mut tools, "tools")
        .map(|list| array(list).into_iter().filter_map(tool).collect::<Value>());
    anthropic::request(json!({
        "max_tokens": take(&mut config, "maxTokens"),
        "temperature": take(&mut config, "temperature"),
        "system": system,
        "messages": take_array(&mut body, "messages").into_iter().map(message).collect::<Value>(),
        "tools": tools,
    }))
}

fn message(mut raw: Value) -> Value {
    let content: Value = take_array(&mut raw, "content").into_iter().filter_map(block).collect();
    json!({"role": take(&mut raw, "role"), "content": content})
}

/// A block is named by the one member it has. Cache points only mark a place and are left out.
fn block(raw: Value) -> Option<Value> {
    let (name, mut value) = object(raw).into_iter().next()?;
    Some(match name.as_str() {
        "cachePoint" => return None,
        "text" => json!({"type": "text", "text": value}),
        "toolUse" => json!({
            "type": "tool_use",
            "id": take(&mut value, "toolUseId"),
            "name": take(&mut value, "name"),
            "input": take(&mut value, "input"),
        }),
        "toolResult" => json!({
            "type": "tool_result",
            "tool_use_id": take(&mut value, "toolUseId"),
            "is_error": str_at(&value, "status") == "error",
            "content": take_array(&mut value, "content").into_iter().filter_map(block).collect::<Value>(),
        }),
        "image" => {
            json!({"type": "image", "source": {"media_type": format!("image/{}", str_at(&value, "format"))}})
        }
        "reasoningContent" if value.get("reasoningText").is_some() => {
            let mut text = take(&mut value, "reasoningText");
            json!({"type": "thinking", "thinking": take(&mut text, "text")})
        }
        _ => json!({"type": name, name: value}),
    })
}

fn tool(raw: Value) -> Option<Value> {
    let (name, mut value) = object(raw).into_iter().next()?;
    match name.as_str() {
        "cachePoint" => None,
        "toolSpec" => {
            let mut schema = take(&mut value, "inputSchema");
            let (name, description) = (take(&mut value, "name"), take(&mut value, "description"));
            Some(json!({"name": name, "description": description, "input_schema": take(&mut schema, "json")}))
        }
        _ => Some(json!({"name": name, "settings": value})),
    }
}

/// An answer in one piece, or what [`merge`] made of a stream.
pub fn answer(mut whole: Value) -> Answer {
    let Some(mut output) = take_some(&mut whole, "output") else { return anthropic::answer(whole) };
    let mut same = message(take(&mut output, "message"));
    same["stop_reason"] = take(&mut whole, "stopReason");
    same["usage"] = usage(take(&mut whole, "usage"));
    anthropic::answer(same)
}

fn usage(mut u: Value) -> Value {
    let mut same = Map::new();
    for (ours, theirs) in [
        ("input_tokens", "inputTokens"),
        ("output_tokens", "outputTokens"),
        ("cache_read_input_tokens", "cacheReadInputTokens"),
        ("cache_creation_input_tokens", "cacheWriteInputTokens"),
    ] {
        same.insert(ours.to_string(), take(&mut u, theirs));
    }
    if u.is_object() { Value::Object(same) } else { Value::Null }
}

/// Put a stream together: each event becomes the one of Anthropic's stream that says the same.
pub fn merge(parts: Vec<Part>) -> Merged {
    anthropic::merge(parts.into_iter().map(translate).collect())
}

fn translate(part: Part) -> Part {
    let Part { name, value: mut event, at } = part;
    let index = take(&mut event, "contentBlockIndex");
    let value = match name.as_str() {
        "messageStart" => json!({"type": "message_start", "message": {"role": take(&mut event, "role")}}),
        "contentBlockStart" => {
            let block = block(take(&mut event, "start"));
            json!({"type": "content_block_start", "index": index, "content_block": block})
        }
        "contentBlockDelta" => {
            let delta = delta(take(&mut event, "delta"));
            json!({"type": "content_block_delta", "index": index, "delta": delta})
        }
        "messageStop" => {
            json!({"type": "message_delta", "delta": {"stop_reason": take(&mut event, "stopReason")}})
        }
        "metadata" => json!({"type": "message_delta", "usage": usage(take(&mut event, "usage"))}),
        _ => event,
    };
    Part { name, value, at }
}

fn delta(raw: Value) -> Value {
    let Some((name, mut value)) = object(raw).into_iter().next() else { return Value::Null };
    match name.as_str() {
        "text" => json!({"type": "text_delta", "text": value}),
        "toolUse" => json!({"type": "input_json_delta", "partial_json": take(&mut value, "input")}),
        "reasoningContent" => json!({"type": "thinking_delta", "thinking": take(&mut value, "text")}),
        _ => json!({"type": name, name: value}),
    }
}
