//! OpenAI Responses: `POST …/responses` and, for codex, a `response.create` over a WebSocket.
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{
    append, arguments, array, object, str_at, take, take_array, take_some, take_string, uint_at,
};
use super::openai;
use super::reply::{Answer, Merged, Part, error_of};
use crate::activity::{Block, LlmRequest, LlmResponse, Message, Tool};

/// A request body; `None` if it is not one.
pub fn request(mut body: Value) -> Option<LlmRequest> {
    // The Realtime form of `response.create` has the request one level deeper.
    if body.get("input").is_none() && body.get("response").is_some_and(Value::is_object) {
        body = take(&mut body, "response");
    }
    let is_one =
        ["input", "prompt", "previous_response_id"].iter().any(|n| body.get(n).is_some_and(|v| !v.is_null()));
    if !is_one {
        return None;
    }
    let mut tools: Option<Vec<Tool>> = None;
    let mut offer = |list| openai::tools(array(list), tools.get_or_insert_default());
    if let Some(list) = take_some(&mut body, "tools") {
        offer(list);
    }
    let mut messages = Vec::new();
    match take(&mut body, "input") {
        Value::String(text) => {
            messages.push(Message { role: "user".into(), content: vec![openai::text_block(text)] });
        }
        Value::Array(items) => {
            for mut item in items {
                if str_at(&item, "type") == "additional_tools" {
                    offer(take(&mut item, "tools"));
                } else {
                    let (role, content) = self::item(item);
                    messages.push(Message { role, content });
                }
            }
        }
        _ => {}
    }
    Some(LlmRequest {
        model: take_string(&mut body, "model"),
        max_tokens: uint_at(&body, &["max_output_tokens"]),
        temperature: body.get("temperature").and_then(Value::as_number).cloned(),
        system: take_string(&mut body, "instructions"),
        system_parts: Vec::new(),
        messages,
        tools,
        previous_response_id: take_string(&mut body, "previous_response_id"),
    })
}

/// An item of an input or output: the role that said it, and its blocks.
fn item(mut raw: Value) -> (String, Vec<Block>) {
    let kind = str_at(&raw, "type").to_string();
    let mut content = Vec::new();
    let call_id =
        |raw: &mut Value| take_string(raw, "call_id").or_else(|| take_string(raw, "id")).unwrap_or_default();
    let role = match kind.as_str() {
        // A message may be sent without a type.
        "message" | "" => {
            openai::content(take(&mut raw, "content"), &mut content);
            return (take_string(&mut raw, "role").unwrap_or_else(|| "user".into()), content);
        }
        "function_call" | "custom_tool_call" => {
            let input = match take(&mut raw, "arguments") {
                Value::String(text) => arguments(&text),
                _ => take(&mut raw, "input"),
            };
            let name = take_string(&mut raw, "name").unwrap_or_default();
            content.push(Block::ToolUse { id: call_id(&mut raw), name, input, cache_control: None });
            "assistant"
        }
        _ if kind.ends_with("_call_output") => {
            content.push(Block::ToolResult {
                tool_use_id: call_id(&mut raw),
                content: openai::tool_output(take(&mut raw, "output")),
                is_error: false,
                cache_control: None,
            });
            "tool"
        }
        "reasoning" => {
            content.push(reasoning(raw));
            "assistant"
        }
        _ => {
            content.push(Block::Unknown { raw });
            // Calls of the provider's own tools; all else (references, settings) is the client's doing.
            if kind.ends_with("_call") { "assistant" } else { "system" }
        }
    };
    (role.to_string(), content)
}

/// Reasoning that can be read becomes thinking; what is encrypted stays as it was sent.
fn reasoning(raw: Value) -> Block {
    let texts: Vec<String> = ["summary", "content"]
        .iter()
        .flat_map(|name| raw.get(name).and_then(Value::as_array).into_iter().flatten())
        .map(|part| str_at(part, "text").to_string())
        .filter(|text| !text.is_empty())
        .collect();
    if texts.is_empty() {
        return Block::Unknown { raw };
    }
    Block::Thinking { text: texts.join("\n\n") }
}

/// An answer in one piece: all items are one message of the assistant.
pub fn answer(mut whole: Value) -> Answer {
    let content: Vec<Block> =
        take_array(&mut whole, "output").into_iter().flat_map(|raw| item(raw).1).collect();
    let messages = match content.is_empty() {
        true => Vec::new(),
        false => vec![Message { role: "assistant".into(), content }],
    };
    let unfinished = |status: &String| matches!(status.as_str(), "in_progress" | "queued");
    Answer {
        id: take_string(&mut whole, "id"),
        served_model: take_string(&mut whole, "model"),
        response: LlmResponse {
            stop_reason: take_string(&mut whole, "status").filter(|s| !unfinished(s)),
            messages,
            usage: openai::usage(whole),
            ..LlmResponse::default()
        },
    }
}

/// Put a stream together. The terminal event has the whole answer; the deltas count where it is missing or empty.
pub fn merge(parts: Vec<Part>) -> Merged {
    let mut out = Merged::default();
    let mut response = Map::new();
    let mut items: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for Part { value: mut event, at, .. } in parts {
        let kind = take_string(&mut event, "type").unwrap_or_default();
        let index = uint_at(&event, &["output_index"]).unwrap_or(0);
        match kind.as_str() {
            "response.created" | "response.in_progress" | "response.queued" => {
                response = object(take(&mut event, "response"));
            }
            "response.completed" | "response.failed" | "response.incomplete" | "response.cancelled" => {
                let last = take(&mut event, "response");
                out.error = last.get("error").filter(|e| e.is_object()).and_then(|_| error_of(&last));
                response = object(last);
                out.complete = true;
            }
            "error" => {
                // Over HTTP the members lie at the top, over the WebSocket in `error`.
                out.error = error_of(&event);
                out.complete = true;
            }
            "response.output_item.added" => {
                items.entry(index).or_insert_with(|| object(take(&mut event, "item")));
            }
            "response.output_item.done" => {
                items.insert(index, object(take(&mut event, "item")));
            }
            _ => {
                if kind.ends_with(".delta") {
                    out.token(at);
                }
                piece(&kind, &mut event, items.entry(index).or_default());
            }
        }
    }
    items.retain(|_, item| !item.is_empty());
    let said_nothing = response.get("output").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if said_nothing {
        response.insert("output".into(), items.into_values().map(Value::Object).collect());
    }
    out.whole = Value::Object(response);
    out
}

/// A delta, or the `done` that gives the text once more as a whole.
fn piece(kind: &str, event: &mut Value, item: &mut Map<String, Value>) {
    let (kind, whole) = match (kind.strip_suffix(".delta"), kind.strip_suffix(".done")) {
        (Some(kind), _) => (kind, false),
        (_, Some(kind)) => (kind, true),
        _ => return,
    };
    // Item type, member, and for those that are lists the type of the part and the event's name of its place.
    let (of, member, part) = match kind {
        "response.output_text" => ("message", "content", Some(("output_text", "text", "content_index"))),
        "response.refusal" => ("message", "content", Some(("refusal", "refusal", "content_index"))),
        "response.reasoning_summary_text" => {
            ("reasoning", "summary", Some(("summary_text", "text", "summary_index")))
        }
        "response.reasoning_text" => {
            ("reasoning", "content", Some(("reasoning_text", "text", "content_index")))
        }
        "response.function_call_arguments" => ("function_call", "arguments", None),
        "response.custom_tool_call_input" => ("custom_tool_call", "input", None),
        _ => return,
    };
    item.entry("type").or_insert_with(|| json!(of));
    let Some((part, text, place)) = part else {
        return write(item, member, event, if whole { member } else { "delta" }, whole);
    };
    let list = item.entry(member).or_insert_with(|| json!([]));
    let Value::Array(list) = list else { return };
    let at = uint_at(event, &[place]).and_then(|i| usize::try_from(i).ok()).unwrap_or(0).min(list.len());
    if at == list.len() {
        list.push(json!({"type": part}));
    }
    if let Value::Object(slot) = &mut list[at] {
        write(slot, text, event, if whole { text } else { "delta" }, whole);
    }
}

fn write(target: &mut Map<String, Value>, member: &str, event: &mut Value, source: &str, whole: bool) {
    let text = take_string(event, source).unwrap_or_default();
    if whole && !text.is_empty() {
        target.insert(member.to_string(), Value::String(text));
    } else {
        append(target, member, &text);
    }
}
