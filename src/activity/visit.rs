//! A walk over everything in an event that a peer wrote: redaction and cutting change it in place.
use serde_json::{Map, Value};

use super::{About, Block, Event, LlmEntry, LlmRequest, Message, OpaqueEntry, What};

/// Sees each text of an event once, in the order of the wire.
pub trait Visitor {
    /// A text; it may be changed.
    fn text(&mut self, text: &mut String);

    /// A JSON value that is kept as it was sent; it may be changed.
    fn value(&mut self, value: &mut Value);
}

/// Call `text` for each string inside `value`, not for the names of members.
pub fn visit_value(value: &mut Value, text: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(s) => text(s),
        Value::Array(items) => items.iter_mut().for_each(|item| visit_value(item, text)),
        Value::Object(map) => map.values_mut().for_each(|item| visit_value(item, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Event {
    /// Show every text and every raw value to `visitor`. `systemParts` follow what becomes of the system prompt.
    pub fn visit(&mut self, visitor: &mut impl Visitor) {
        match &mut self.what {
            What::ObjectiveOpen { objective_id } => visitor.text(objective_id),
            What::ObjectiveClose { objective_id, result } => {
                visitor.text(objective_id);
                visitor.text(result);
            }
            What::Llm { entry, .. } => llm(entry, visitor),
            What::Opaque { entry, .. } => opaque(entry, visitor),
        }
    }
}

fn maybe(text: &mut Option<String>, visitor: &mut impl Visitor) {
    if let Some(text) = text {
        visitor.text(text);
    }
}

fn maybe_value(value: &mut Option<Value>, visitor: &mut impl Visitor) {
    if let Some(value) = value {
        visitor.value(value);
    }
}

fn llm(entry: &mut LlmEntry, visitor: &mut impl Visitor) {
    let LlmRequest { model, system: _, system_parts: _, messages, tools, previous_response_id, .. } =
        &mut entry.request;
    maybe(model, visitor);
    messages.iter_mut().for_each(|m| message(m, visitor));
    for tool in tools.iter_mut().flatten() {
        visitor.text(&mut tool.name);
        maybe(&mut tool.description, visitor);
        visitor.value(&mut tool.input_schema);
        maybe_value(&mut tool.cache_control, visitor);
    }
    maybe(previous_response_id, visitor);
    system(&mut entry.request, visitor);
    if let Some(response) = &mut entry.response {
        maybe(&mut response.stop_reason, visitor);
        maybe(&mut response.stop_sequence, visitor);
        response.messages.iter_mut().for_each(|m| message(m, visitor));
    }
    about(&mut entry.about, visitor);
}

/// Each part of the system prompt is a text of its own: a change must not move the border to its neighbour.
fn system(request: &mut LlmRequest, visitor: &mut impl Visitor) {
    let Some(joined) = &mut request.system else { return };
    let Some(mut parts) = split(joined, &request.system_parts) else {
        request.system_parts.clear();
        return visitor.text(joined);
    };
    parts.iter_mut().for_each(|part| visitor.text(part));
    request.system_parts = parts.iter().map(String::len).collect();
    *joined = parts.join("\n");
}

/// `joined` in parts of these byte lengths with one `\n` between them; `None` if that is not what it is.
fn split(joined: &str, lengths: &[usize]) -> Option<Vec<String>> {
    let mut rest = joined;
    let mut parts = Vec::with_capacity(lengths.len());
    for (i, length) in lengths.iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('\n')?;
        }
        let (part, after) = rest.split_at_checked(*length)?;
        parts.push(part.to_string());
        rest = after;
    }
    (rest.is_empty() && !parts.is_empty()).then_some(parts)
}

fn about(about: &mut About, visitor: &mut impl Visitor) {
    let About { id, request_id, session, client, host, served_model, error, overage, .. } = about;
    for text in [id, request_id, client, host, served_model] {
        maybe(text, visitor);
    }
    if let Some(session) = session {
        for text in [&mut session.id, &mut session.agent_id, &mut session.parent_agent_id] {
            maybe(text, visitor);
        }
    }
    if let Some(overage) = overage {
        maybe(&mut overage.status, visitor);
        maybe(&mut overage.disabled_reason, visitor);
    }
    if let Some((kind, message)) = error {
        visitor.text(kind);
        visitor.text(message);
    }
}

fn message(message: &mut Message, visitor: &mut impl Visitor) {
    visitor.text(&mut message.role);
    message.content.iter_mut().for_each(|b| block(b, visitor));
}

fn block(block: &mut Block, visitor: &mut impl Visitor) {
    match block {
        Block::Text { text, cache_control } => {
            visitor.text(text);
            maybe_value(cache_control, visitor);
        }
        Block::ToolUse { id, name, input, cache_control } => {
            visitor.text(id);
            visitor.text(name);
            visitor.value(input);
            maybe_value(cache_control, visitor);
        }
        Block::ToolResult { tool_use_id, content, is_error: _, cache_control } => {
            visitor.text(tool_use_id);
            visitor.value(content);
            maybe_value(cache_control, visitor);
        }
        Block::Image { media_type, cache_control } => {
            maybe(media_type, visitor);
            maybe_value(cache_control, visitor);
        }
        Block::Thinking { text } => visitor.text(text),
        Block::Unknown { raw } => visitor.value(raw),
    }
}

fn opaque(entry: &mut OpaqueEntry, visitor: &mut impl Visitor) {
    for text in [&mut entry.host, &mut entry.method, &mut entry.url] {
        visitor.text(text);
    }
    for (name, value) in entry.request_headers.iter_mut().chain(&mut entry.response_headers) {
        visitor.text(name);
        visitor.text(value);
    }
    maybe(&mut entry.request_body_preview, visitor);
    maybe(&mut entry.response_body_preview, visitor);
    let mut more = Value::Object(std::mem::take(&mut entry.more));
    visitor.value(&mut more);
    entry.more = match more {
        Value::Object(map) => map,
        other => Map::from_iter([("more".to_string(), other)]),
    };
}
