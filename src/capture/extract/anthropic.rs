//! Anthropic Messages: `POST …/v1/messages`, also behind Vertex (`:rawPredict`) and Bedrock (`/invoke`).
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{
    append, arguments, array, object, rest, str_at, string, take, take_array, take_some, take_string, uint_at,
};
use super::reply::{Answer, Merged, Part, error_of};
use crate::activity::{Block, LlmRequest, LlmResponse, Message, Tool, Usage};

/// A request body; `None` if it is not one.
pub fn request(mut body: Value) -> Option<LlmRequest> {
    body.get("messages")?.as_array()?;
    let (system, system_parts) = system(take(&mut body, "system"));
    Some(LlmRequest {
        model: take_string(&mut body, "model"),
        max_tokens: uint_at(&body, &["max_tokens"]),
        temperature: body.get("temperature").and_then(Value::as_number).cloned(),
        system,
        system_parts,
        messages: take_array(&mut body, "messages").into_iter().map(message).collect(),
        tools: take_some(&mut body, "tools").map(|tools| array(tools).into_iter().map(tool).collect()),
        previous_response_id: None,
    })
}

/// The system prompt as one text, and the byte length of each part where it was sent as blocks.
pub fn system(value: Value) -> (Option<String>, Vec<usize>) {
    match value {
        Value::Array(blocks) => {
            let text = |mut block: Value| match block.get("text") {
                Some(Value::String(_)) => take_string(&mut block, "text").unwrap_or_default(),
                _ => block.to_string(),
            };
            let parts: Vec<String> = blocks.into_iter().map(text).collect();
            (Some(parts.join("\n")), parts.iter().map(String::len).collect())
        }
        other => (string(other), Vec::new()),
    }
}

fn message(mut value: Value) -> Message {
    let content = content(take(&mut value, "content"));
    Message { role: take_string(&mut value, "role").unwrap_or_default(), content }
}

fn content(value: Value) -> Vec<Block> {
    let mut out = Vec::new();
    match value {
        Value::String(text) => out.push(Block::Text { text, cache_control: None }),
        Value::Array(blocks) => blocks.into_iter().for_each(|raw| block(raw, &mut out)),
        _ => {}
    }
    out
}

/// A content block. What does not have the members that its type promises stays as it was sent.
fn block(mut raw: Value, out: &mut Vec<Block>) {
    let has = |names: &[&str]| names.iter().all(|name| raw.get(name).is_some_and(Value::is_string));
    let cache_control = raw.get("cache_control").filter(|v| !v.is_null()).cloned();
    let block = match str_at(&raw, "type") {
        "text" if has(&["text"]) => {
            let citations = take_array(&mut raw, "citations");
            out.push(Block::Text { text: take_string(&mut raw, "text").unwrap_or_default(), cache_control });
            // The wire's text block has no place for them.
            if citations.is_empty() {
                return;
            }
            Block::Unknown { raw: json!({"type": "citations", "citations": citations}) }
        }
        "thinking" if has(&["thinking"]) => {
            Block::Thinking { text: take_string(&mut raw, "thinking").unwrap_or_default() }
        }
        "tool_use" if has(&["id", "name"]) => Block::ToolUse {
            id: take_string(&mut raw, "id").unwrap_or_default(),
            name: take_string(&mut raw, "name").unwrap_or_default(),
            input: take(&mut raw, "input"),
            cache_control,
        },
        "tool_result" if has(&["tool_use_id"]) => Block::ToolResult {
            tool_use_id: take_string(&mut raw, "tool_use_id").unwrap_or_default(),
            content: tool_result(take(&mut raw, "content")),
            is_error: raw.get("is_error").and_then(Value::as_bool).unwrap_or(false),
            cache_control,
        },
        "image" => Block::Image { media_type: media_type(&raw), cache_control },
        _ => Block::Unknown { raw },
    };
    out.push(block);
}

fn media_type(image: &Value) -> Option<String> {
    image.get("source")?.get("media_type")?.as_str().map(str::to_string)
}

/// The content of a tool result, as sent but for the data of its images, which no block of the wire carries.
fn tool_result(mut content: Value) -> Value {
    for item in content.as_array_mut().into_iter().flatten() {
        if str_at(item, "type") == "image" {
            *item = json!({"type": "image", "mediaType": media_type(item)});
        }
    }
    content
}

fn tool(mut raw: Value) -> Tool {
    let name = take_string(&mut raw, "name").unwrap_or_else(|| str_at(&raw, "type").to_string());
    let description = take_string(&mut raw, "description");
    let cache_control = take_some(&mut raw, "cache_control");
    // A tool of the provider's own has no schema but other settings.
    let input_schema = take_some(&mut raw, "input_schema").unwrap_or_else(|| rest(raw));
    Tool { name, description, input_schema, cache_control }
}

/// An answer in one piece.
pub fn answer(mut whole: Value) -> Answer {
    let usage = whole.get("usage").filter(|u| u.is_object()).map(usage);
    let role = take_string(&mut whole, "role").unwrap_or_else(|| "assistant".into());
    let messages = match take(&mut whole, "content") {
        Value::Null => Vec::new(),
        blocks => vec![Message { role, content: content(blocks) }],
    };
    Answer {
        response: LlmResponse {
            stop_reason: take_string(&mut whole, "stop_reason"),
            stop_sequence: take_string(&mut whole, "stop_sequence"),
            messages,
            usage,
            status: None,
        },
        id: take_string(&mut whole, "id"),
        served_model: take_string(&mut whole, "model"),
    }
}

fn usage(u: &Value) -> Usage {
    Usage {
        input: uint_at(u, &["input_tokens"]),
        output: uint_at(u, &["output_tokens"]),
        cache_creation: uint_at(u, &["cache_creation_input_tokens"]),
        cache_read: uint_at(u, &["cache_read_input_tokens"]),
        reasoning: None,
    }
}

/// Put a stream together.
pub fn merge(parts: Vec<Part>) -> Merged {
    let mut out = Merged::default();
    let mut message = Map::new();
    let mut blocks: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for Part { value: mut event, at, .. } in parts {
        let index = uint_at(&event, &["index"]).unwrap_or(0);
        match str_at(&event, "type") {
            "message_start" => message = object(take(&mut event, "message")),
            "content_block_start" => {
                blocks.insert(index, object(take(&mut event, "content_block")));
            }
            "content_block_delta" => {
                out.token(at);
                delta(blocks.entry(index).or_default(), take(&mut event, "delta"));
            }
            "message_delta" => {
                message.extend(object(take(&mut event, "delta")));
                let usage = message.entry("usage").or_insert_with(|| json!({}));
                for (name, count) in object(take(&mut event, "usage")) {
                    if !count.is_null() {
                        usage[&name] = count;
                    }
                }
            }
            "message_stop" => out.complete = true,
            "error" => {
                out.error = error_of(&event);
                out.complete = true;
            }
            // `ping`, `content_block_stop`, and what a later version adds.
            _ => {}
        }
    }
    out.complete |= message.get("stop_reason").is_some_and(Value::is_string);
    if !blocks.is_empty() {
        message.insert("content".into(), blocks.into_values().map(finished).collect());
    }
    out.whole = Value::Object(message);
    out
}

/// Where a block's `input_json_delta`s are gathered until it is whole.
const PARTIAL: &str = "__partial_json";

fn delta(block: &mut Map<String, Value>, mut delta: Value) {
    let kind = take_string(&mut delta, "type").unwrap_or_default();
    // A delta whose start was lost still says what it belongs to.
    block.entry("type").or_insert_with(|| match kind.as_str() {
        "input_json_delta" => json!("tool_use"),
        other => json!(other.trim_end_matches("_delta")),
    });
    if kind == "citations_delta" {
        let citation = take(&mut delta, "citation");
        match block.entry("citations").or_insert_with(|| json!([])) {
            Value::Array(all) => all.push(citation),
            other => *other = json!([citation]),
        }
        return;
    }
    for (name, piece) in object(delta) {
        match piece {
            Value::String(text) if name == "partial_json" => append(block, PARTIAL, &text),
            Value::String(text) => append(block, &name, &text),
            Value::Null => {}
            other => {
                block.insert(name, other);
            }
        }
    }
}

fn finished(mut block: Map<String, Value>) -> Value {
    if let Some(Value::String(partial)) = block.shift_remove(PARTIAL) {
        block.insert("input".into(), arguments(&partial));
    }
    Value::Object(block)
}
