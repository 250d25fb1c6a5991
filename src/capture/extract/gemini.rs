//! Google Gemini: `…:generateContent` and `…:streamGenerateContent`, also inside Code Assist's envelope.
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::json::{append, array, object, str_at, take, take_array, take_some, take_string, uint_at};
use super::openai::text_block;
use super::reply::{Answer, Merged, Part, error_of};
use crate::activity::{Block, LlmRequest, LlmResponse, Message, Tool, Usage};

/// A request body; `None` if it is not one. The model is in the path, or beside `request` in Code Assist's envelope.
pub fn request(mut body: Value) -> Option<LlmRequest> {
    let model = take_string(&mut body, "model");
    if body.get("request").is_some_and(Value::is_object) {
        body = take(&mut body, "request");
    }
    body.get("contents")?;
    let contents = match take(&mut body, "contents") {
        one @ Value::Object(_) => vec![one],
        other => array(other),
    };
    let mut system =
        take_some(&mut body, "systemInstruction").unwrap_or_else(|| take(&mut body, "system_instruction"));
    let parts: Vec<String> =
        take_array(&mut system, "parts").iter().map(|part| str_at(part, "text").to_string()).collect();
    let config =
        take_some(&mut body, "generationConfig").unwrap_or_else(|| take(&mut body, "generation_config"));
    Some(LlmRequest {
        model,
        max_tokens: uint_at(&config, &["maxOutputTokens", "max_output_tokens"]),
        temperature: config.get("temperature").and_then(Value::as_number).cloned(),
        system: (!parts.is_empty()).then(|| parts.join("\n")),
        system_parts: parts.iter().map(String::len).collect(),
        messages: contents.into_iter().map(message).collect(),
        tools: take_some(&mut body, "tools").map(tools),
        previous_response_id: None,
    })
}

fn message(mut raw: Value) -> Message {
    let role = match take_string(&mut raw, "role").as_deref() {
        // Readers know one name for the model's own words.
        Some("model") => "assistant".to_string(),
        Some(role) => role.to_string(),
        None => "user".to_string(),
    };
    Message { role, content: take_array(&mut raw, "parts").into_iter().map(block).collect() }
}

/// A part is named by the member it has, not by a type.
fn block(mut part: Value) -> Block {
    let is_thought = part.get("thought").and_then(Value::as_bool).unwrap_or(false);
    if part.get("text").is_some_and(Value::is_string) {
        let text = take_string(&mut part, "text").unwrap_or_default();
        return if is_thought { Block::Thinking { text } } else { text_block(text) };
    }
    let of = |part: &Value, name: &str| str_at(part, name).to_string();
    if let Some(mut call) = take_some(&mut part, "functionCall") {
        // Calls have no id unless the caller asked for them: the name is what the answer refers to.
        let name = of(&call, "name");
        let id = take_string(&mut call, "id").unwrap_or_else(|| name.clone());
        return Block::ToolUse { id, name, input: take(&mut call, "args"), cache_control: None };
    }
    if let Some(mut result) = take_some(&mut part, "functionResponse") {
        let tool_use_id = take_string(&mut result, "id").unwrap_or_else(|| of(&result, "name"));
        let content = take(&mut result, "response");
        let is_error = content.get("error").is_some_and(|e| !e.is_null());
        return Block::ToolResult { tool_use_id, content, is_error, cache_control: None };
    }
    let data = part.get("inlineData").or_else(|| part.get("inline_data"));
    match data.map(|d| of(d, "mimeType") + &of(d, "mime_type")) {
        Some(kind) if kind.starts_with("image/") => {
            Block::Image { media_type: Some(kind), cache_control: None }
        }
        _ => Block::Unknown { raw: part },
    }
}

fn tools(list: Value) -> Vec<Tool> {
    let mut out = Vec::new();
    for mut group in array(list) {
        let declared = take_some(&mut group, "functionDeclarations")
            .unwrap_or_else(|| take(&mut group, "function_declarations"));
        for mut raw in array(declared) {
            let schema =
                take_some(&mut raw, "parametersJsonSchema").unwrap_or_else(|| take(&mut raw, "parameters"));
            out.push(Tool {
                name: take_string(&mut raw, "name").unwrap_or_default(),
                description: take_string(&mut raw, "description"),
                input_schema: schema,
                cache_control: None,
            });
        }
        // The provider's own tools (`googleSearch`, `codeExecution`) are members beside the list.
        out.extend(object(group).into_iter().filter(|(_, v)| !v.is_null()).map(|(name, settings)| Tool {
            name,
            description: None,
            input_schema: settings,
            cache_control: None,
        }));
    }
    out
}

/// An answer in one piece; several candidates are several messages, the first gives the stop reason.
pub fn answer(mut whole: Value) -> Answer {
    if whole.get("response").is_some_and(Value::is_object) {
        whole = take(&mut whole, "response");
    }
    let mut stop_reason = None;
    let mut messages = Vec::new();
    for mut candidate in take_array(&mut whole, "candidates") {
        stop_reason = stop_reason.or_else(|| take_string(&mut candidate, "finishReason"));
        let mut content = take(&mut candidate, "content");
        if content.is_object() && content.get("role").is_none() {
            content["role"] = json!("model");
        }
        messages.push(message(content));
    }
    messages.retain(|m| !m.content.is_empty());
    let blocked = take(&mut whole, "promptFeedback");
    let stop_reason = stop_reason.or_else(|| blocked.get("blockReason")?.as_str().map(str::to_string));
    Answer {
        response: LlmResponse {
            stop_reason,
            messages,
            usage: whole.get("usageMetadata").map(usage),
            ..LlmResponse::default()
        },
        id: take_string(&mut whole, "responseId"),
        served_model: take_string(&mut whole, "modelVersion"),
    }
}

fn usage(u: &Value) -> Usage {
    Usage {
        input: uint_at(u, &["promptTokenCount"]),
        output: uint_at(u, &["candidatesTokenCount"]),
        cache_creation: None,
        cache_read: uint_at(u, &["cachedContentTokenCount"]),
        reasoning: uint_at(u, &["thoughtsTokenCount"]),
    }
}

/// Put a stream together: each element is an answer of its own that continues the one before.
pub fn merge(parts: Vec<Part>) -> Merged {
    let mut out = Merged::default();
    let mut whole = Map::new();
    let mut candidates: BTreeMap<u64, Map<String, Value>> = BTreeMap::new();
    for Part { value: mut chunk, at, .. } in parts {
        if chunk.get("error").is_some_and(|e| !e.is_null()) {
            out.error = error_of(&chunk);
            out.complete = true;
            continue;
        }
        if chunk.get("response").is_some_and(Value::is_object) {
            chunk = take(&mut chunk, "response");
        }
        for mut sent in take_array(&mut chunk, "candidates") {
            let candidate = candidates.entry(uint_at(&sent, &["index"]).unwrap_or(0)).or_default();
            let mut content = take(&mut sent, "content");
            let pieces = take_array(&mut content, "parts");
            if !pieces.is_empty() {
                out.token(at);
            }
            let content = candidate.entry("content").or_insert_with(|| json!({"role": "model", "parts": []}));
            let parts = content.get_mut("parts").and_then(Value::as_array_mut);
            if let Some(parts) = parts {
                pieces.into_iter().for_each(|piece| add(parts, piece));
            }
            if let Some(reason) = take_some(&mut sent, "finishReason") {
                candidate.insert("finishReason".into(), reason);
                out.complete = true;
            }
        }
        out.complete |= chunk.get("promptFeedback").is_some_and(|f| f.get("blockReason").is_some());
        whole.extend(object(chunk).into_iter().filter(|(_, v)| !v.is_null()));
    }
    whole.insert("candidates".into(), candidates.into_values().map(Value::Object).collect());
    out.whole = Value::Object(whole);
    out
}

/// Text goes on the text before it if that is of the same kind; an empty one only marks the end.
fn add(parts: &mut Vec<Value>, piece: Value) {
    if piece.get("text").is_some_and(|text| text == "") {
        return;
    }
    if let (Some(Value::Object(last)), Some(text)) =
        (parts.last_mut(), piece.get("text").and_then(Value::as_str))
        && last.contains_key("text")
        && last.get("thought") == piece.get("thought")
    {
        return append(last, "text", text);
    }
    parts.push(piece);
}
