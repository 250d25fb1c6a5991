//! What OpenAI's two wires have in common.
use serde_json::{Value, json};

use super::json::{rest, str_at, take, take_array, take_some, take_string, uint_at};
use crate::activity::{Block, Tool, Usage};

/// Content of a message: a string, or an array of parts (`text`, `input_text`, `output_text`, `image_url`, …).
pub fn content(value: Value, out: &mut Vec<Block>) {
    match value {
        Value::String(text) => out.push(text_block(text)),
        Value::Array(parts) => out.extend(parts.into_iter().map(part)),
        _ => {}
    }
}

/// A text block without a cache mark: these wires have none.
#[must_use]
pub fn text_block(text: String) -> Block {
    Block::Text { text, cache_control: None }
}

fn part(mut raw: Value) -> Block {
    match str_at(&raw, "type") {
        "text" | "input_text" | "output_text" if raw.get("text").is_some_and(Value::is_string) => {
            text_block(take_string(&mut raw, "text").unwrap_or_default())
        }
        "image_url" | "input_image" => Block::Image { media_type: media_type(&raw), cache_control: None },
        _ => Block::Unknown { raw },
    }
}

/// The type of an image that is sent inside a `data:` URL; not known for one that is linked.
fn media_type(raw: &Value) -> Option<String> {
    let url = raw.get("image_url")?;
    let url = url.as_str().or_else(|| url.get("url")?.as_str())?;
    let (kind, _) = url.strip_prefix("data:")?.split_once([';', ','])?;
    Some(kind.to_string())
}

/// The tools of a list; a namespace (codex) stands for the tools in it.
pub fn tools(list: Vec<Value>, out: &mut Vec<Tool>) {
    for mut raw in list {
        if str_at(&raw, "type") == "namespace" {
            tools(take_array(&mut raw, "tools"), out);
        } else {
            out.push(tool(raw));
        }
    }
}

fn tool(mut raw: Value) -> Tool {
    // Chat Completions wraps name and schema in a member named like the type.
    let kind = take_string(&mut raw, "type").unwrap_or_default();
    let mut raw = take_some(&mut raw, &kind).filter(Value::is_object).unwrap_or(raw);
    let name = take_string(&mut raw, "name").unwrap_or(kind);
    let description = take_string(&mut raw, "description");
    // A tool of the provider's own has no schema but other settings.
    let input_schema = take_some(&mut raw, "parameters").or_else(|| take_some(&mut raw, "format"));
    // A tool of the provider's own has no schema but other settings.
    let input_schema = input_schema.unwrap_or_else(|| rest(raw));
    Tool { name, description, input_schema, cache_control: None }
}

/// The token counts of either wire.
pub fn usage(mut whole: Value) -> Option<Usage> {
    let u = take_some(&mut whole, "usage")?;
    let details = |names: [&str; 2]| names.iter().find_map(|n| u.get(n)).cloned().unwrap_or_default();
    let input = details(["input_tokens_details", "prompt_tokens_details"]);
    let output = details(["output_tokens_details", "completion_tokens_details"]);
    Some(Usage {
        input: uint_at(&u, &["input_tokens", "prompt_tokens"]),
        output: uint_at(&u, &["output_tokens", "completion_tokens"]),
        cache_creation: uint_at(&input, &["cache_write_tokens", "cache_creation_tokens"]),
        cache_read: uint_at(&input, &["cached_tokens"]),
        reasoning: uint_at(&output, &["reasoning_tokens"]),
    })
}

/// The output of a tool: a string or parts, without the data of images.
#[must_use]
pub fn tool_output(mut content: Value) -> Value {
    for item in content.as_array_mut().into_iter().flatten() {
        if matches!(str_at(item, "type"), "image_url" | "input_image") {
            *item = json!({"type": "image", "mediaType": media_type(item)});
        }
    }
    content
}

/// What a message refused to say, kept as a block that names it.
pub fn refusal(message: &mut Value, out: &mut Vec<Block>) {
    if let Value::String(text) = take(message, "refusal") {
        out.push(Block::Unknown { raw: json!({"type": "refusal", "refusal": text}) });
    }
}
