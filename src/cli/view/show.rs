//! `ac7 traces show`: one row, whole.
use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::Value;

use super::{Row, first_token, gist, opaque_gist, result_text, tokens_in, trouble};
use crate::activity::{Block, LlmEntry, LlmRequest, LlmResponse, Message, OpaqueEntry, What};
use crate::cli::terminal::Screen;
use crate::cli::{format, text};

/// The row for a reader: what it was, what the model was told, what it answered. With `full` nothing is folded.
#[must_use]
pub fn show(row: &Row, screen: &Screen, full: bool) -> String {
    let mut page = Page { out: String::new(), screen, full, shown: HashSet::new(), tools: HashMap::new() };
    let (kind, duration) = match &row.event.what {
        What::Llm { duration, .. } => ("model call", Some(*duration)),
        What::Opaque { duration, entry } if entry.more.contains_key("tunnel") => ("tunnel", Some(*duration)),
        What::Opaque { entry, .. } if entry.more.contains_key("note") => ("note", None),
        What::Opaque { duration, .. } => ("HTTP exchange", Some(*duration)),
        What::ObjectiveOpen { .. } | What::ObjectiveClose { .. } => ("objective", None),
    };
    let when = screen.zone.local(row.event.ts.saturating_sub(duration.unwrap_or(0)));
    page.heading(&format!("{kind} {}  {when}", row.id));
    page.fact("member", &row.member);
    match &row.event.what {
        What::Llm { duration, entry } => page.call(entry, *duration),
        What::Opaque { duration, entry } => page.opaque(entry, *duration),
        What::ObjectiveOpen { objective_id } => page.fact("opened", objective_id),
        What::ObjectiveClose { objective_id, result } => {
            page.fact("closed", objective_id);
            page.fact("result", result);
        }
    }
    page.out
}

struct Page<'a> {
    out: String,
    screen: &'a Screen,
    full: bool,
    /// Ids of tool calls that have been printed with their result.
    shown: HashSet<&'a str>,
    /// The calls of the conversation by id, for a result that is printed without its call.
    tools: HashMap<&'a str, &'a Block>,
}

impl<'a> Page<'a> {
    fn heading(&mut self, text: &str) {
        let line = self.screen.style("1", &text::cut(text, self.screen.width(), self.screen.utf8));
        self.out.push_str(&line);
        self.out.push('\n');
    }

    /// A heading with a blank line before it.
    fn section(&mut self, text: &str) {
        self.out.push('\n');
        self.heading(text);
    }

    fn fact(&mut self, name: &str, value: &str) {
        let value = text::line(value, self.screen.utf8);
        let _ = writeln!(self.out, "  {name:<9} {value}");
    }

    fn optional_fact(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.fact(name, value);
        }
    }

    /// Text of a trace, every line of it `indent` columns in.
    fn text(&mut self, text: &str, indent: usize) {
        for line in text::block(text, self.screen.utf8).trim_end().split('\n') {
            let fill = if line.is_empty() { 0 } else { indent };
            let _ = writeln!(self.out, "{}{line}", " ".repeat(fill));
        }
    }

    /// One line, cut to the screen; faint where there is colour.
    fn folded(&mut self, line: &str) {
        let line = text::cut(line, self.screen.width(), self.screen.utf8);
        let _ = writeln!(self.out, "{}", self.screen.style("2", &line));
    }

    fn call(&mut self, entry: &'a LlmEntry, duration: u64) {
        self.facts(entry, duration);
        let request = &entry.request;
        self.system(request);
        self.offered(request);
        let answers = entry.response.iter().flat_map(|r| &r.messages);
        for block in request.messages.iter().chain(answers.clone()).flat_map(|m| &m.content) {
            if let Block::ToolUse { id, .. } = block {
                self.tools.insert(id, block);
            }
        }
        let is_answer = |m: &Message| m.role == "assistant";
        let new_from = request.messages.iter().rposition(is_answer).map_or(0, |i| i + 1);
        let new = request.messages.len() - new_from;
        if !request.messages.is_empty() {
            self.section(&format!("messages  {}, {new} new", request.messages.len()));
        }
        for (i, message) in request.messages.iter().enumerate() {
            if i < new_from && !self.full {
                self.fold(i + 1, message);
            } else {
                let mark = if i < new_from { "" } else { "  (new)" };
                self.heading(&format!("{:>4} {}{mark}", i + 1, text::line(&message.role, self.screen.utf8)));
                self.message(message, &request.messages[i + 1..]);
            }
        }
        let said = |r: &&LlmResponse| r.stop_reason.is_some() || !r.messages.is_empty();
        if let Some(response) = entry.response.as_ref().filter(said) {
            self.section("answer");
            for message in &response.messages {
                self.message(message, &[]);
            }
            self.optional_fact("stop", response.stop_reason.as_ref());
            self.optional_fact("sequence", response.stop_sequence.as_ref());
        }
        if let Some(trouble) = trouble(entry) {
            self.out.push('\n');
            let line = format!("error: {}", text::line(&trouble, self.screen.utf8));
            let _ = writeln!(self.out, "{}", self.screen.style("31", &line));
        }
    }

    fn facts(&mut self, entry: &LlmEntry, duration: u64) {
        let about = &entry.about;
        let asked = entry.request.model.as_deref().unwrap_or("?");
        let arrow = if self.screen.utf8 { "\u{2192}" } else { "->" };
        match about.served_model.as_deref().filter(|served| *served != asked) {
            Some(served) => {
                let (asked, served) =
                    (text::line(asked, self.screen.utf8), text::line(served, self.screen.utf8));
                let _ = writeln!(self.out, "  {:<9} {asked} {arrow} {served}", "model");
            }
            None => self.fact("model", asked),
        }
        let mut asked_for = vec![entry.provider.kind().to_string()];
        asked_for
            .extend(entry.request.max_tokens.map(|n| format!("at most {}", format::counted(n, "token"))));
        asked_for.extend(entry.request.temperature.as_ref().map(|t| format!("temperature {t}")));
        self.fact("kind", &asked_for.join(", "));
        self.optional_fact("host", about.host.as_ref());
        if let Some(status) = entry.response.as_ref().and_then(|r| r.status) {
            self.fact("status", &status.to_string());
        }
        self.optional_fact("request", about.request_id.as_ref());
        self.optional_fact("id", about.id.as_ref());
        if let Some(session) = &about.session {
            let named = |name: &str, id: &Option<String>| id.as_ref().map(|id| format!("{name}{id}"));
            let parts = [
                named("", &session.id),
                named("agent ", &session.agent_id),
                named("parent ", &session.parent_agent_id),
            ];
            self.fact("session", &parts.into_iter().flatten().collect::<Vec<_>>().join(", "));
        }
        self.optional_fact("client", about.client.as_ref());
        let mut time = vec![format::duration(duration)];
        time.extend(first_token(entry).map(|ms| format!("first token after {}", format::duration(ms))));
        time.extend(about.stream.filter(|s| *s).map(|_| "streamed".to_string()));
        self.fact("time", &time.join(", "));
        self.tokens(entry);
        if about.truncated {
            self.fact("cut off", "parts of this exchange are missing here");
        }
    }

    fn tokens(&mut self, entry: &LlmEntry) {
        let Some(usage) = entry.response.as_ref().and_then(|r| r.usage.as_ref()) else { return };
        let mut parts = Vec::new();
        if let Some((total, cached)) = tokens_in(entry) {
            let mut part = format!("{} in", format::count(total));
            let detail = [
                format::percent(cached, total).filter(|_| cached > 0).map(|share| format!("{share} cached")),
                usage
                    .cache_creation
                    .filter(|n| *n > 0)
                    .map(|n| format!("{} written to the cache", format::count(n))),
            ];
            let detail: Vec<String> = detail.into_iter().flatten().collect();
            if !detail.is_empty() {
                let _ = write!(part, " ({})", detail.join(", "));
            }
            parts.push(part);
        }
        parts.extend(usage.whole_output(entry.provider).map(|n| format!("{} out", format::count(n))));
        parts.extend(usage.reasoning.map(|n| format!("{} of them reasoning", format::count(n))));
        if !parts.is_empty() {
            self.fact("tokens", &parts.join(", "));
        }
    }

    fn system(&mut self, request: &LlmRequest) {
        let Some(system) = request.system.as_ref().filter(|s| !s.is_empty()) else { return };
        let size = format::bytes(system.len() as u64);
        let parts = match request.system_parts.len() {
            0 | 1 => String::new(),
            n => format!(", {n} parts"),
        };
        self.section(&format!("system  {size}{parts}"));
        if self.full {
            self.text(system, 2);
        } else {
            let first = system.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            self.folded(&format!("  {}", text::line(first, self.screen.utf8)));
        }
    }

    fn offered(&mut self, request: &LlmRequest) {
        let tools = request.tools.as_deref().unwrap_or_default();
        if tools.is_empty() {
            return;
        }
        let size = |tool: &crate::activity::Tool| {
            let description = tool.description.as_ref().map_or(0, String::len);
            (tool.name.len() + description + tool.input_schema.to_string().len()) as u64
        };
        let total = format::bytes(tools.iter().map(size).sum());
        self.section(&format!("tools  {}, {total}", tools.len()));
        if !self.full {
            let names = tools.iter().map(|tool| {
                format!("{} {}", text::line(&tool.name, self.screen.utf8), format::bytes(size(tool)))
            });
            let names = names.collect::<Vec<_>>().join(", ");
            for line in text::wrap(&names, self.screen.width().saturating_sub(2)) {
                self.folded(&format!("  {line}"));
            }
            return;
        }
        for tool in tools {
            let _ = writeln!(self.out, "  {}", text::line(&tool.name, self.screen.utf8));
            if let Some(description) = &tool.description {
                self.text(description, 4);
            }
            self.text(&tool.input_schema.to_string(), 4);
        }
    }

    /// An earlier message in one line.
    fn fold(&mut self, number: usize, message: &Message) {
        let role = text::line(&message.role, self.screen.utf8);
        let gists = message.content.iter().map(|block| gist(block, self.screen.utf8));
        let line = format!("{number:>4} {role:<9} {}", gists.collect::<Vec<_>>().join("; "));
        self.folded(&line);
    }

    /// A message whole. Results of its tool calls stand in one of the messages that come `after` it.
    fn message(&mut self, message: &'a Message, after: &'a [Message]) {
        for block in &message.content {
            match block {
                Block::Text { text, .. } => self.text(text, 5),
                Block::Thinking { text } => {
                    self.out.push_str("     (thinking)\n");
                    self.text(text, 7);
                }
                Block::ToolUse { id, .. } => {
                    self.tool_use(block);
                    let result = after
                        .iter()
                        .flat_map(|m| &m.content)
                        .find(|b| matches!(b, Block::ToolResult { tool_use_id, .. } if tool_use_id == id));
                    if let Some(result) = result {
                        self.tool_result(result);
                        self.shown.insert(id);
                    }
                }
                Block::ToolResult { tool_use_id, .. } => {
                    if self.shown.contains(tool_use_id.as_str()) {
                        self.out.push_str("     (a result, shown under its call)\n");
                        continue;
                    }
                    if let Some(call) = self.tools.get(tool_use_id.as_str()).copied() {
                        self.tool_use(call);
                    }
                    self.tool_result(block);
                }
                Block::Image { .. } | Block::Unknown { .. } => {
                    let line = gist(block, self.screen.utf8);
                    let _ = writeln!(self.out, "     {line}");
                }
            }
        }
    }

    /// The tool's name with its arguments, one a line.
    fn tool_use(&mut self, block: &Block) {
        let Block::ToolUse { name, input, .. } = block else { return };
        let _ = writeln!(self.out, "     {}", text::line(name, self.screen.utf8));
        let Value::Object(arguments) = input else {
            self.text(&input.to_string(), 7);
            return;
        };
        for (name, value) in arguments {
            let name = text::line(name, self.screen.utf8);
            match value {
                Value::String(text) if text.contains('\n') => {
                    let _ = writeln!(self.out, "       {name}:");
                    self.text(text, 9);
                }
                Value::String(text) => self.text(&format!("{name}: {text}"), 7),
                other => self.text(&format!("{name}: {other}"), 7),
            }
        }
    }

    fn tool_result(&mut self, block: &Block) {
        let Block::ToolResult { content, is_error, .. } = block else { return };
        let result = result_text(content);
        let kind = if *is_error { "error" } else { "result" };
        let _ = writeln!(self.out, "       {kind}  {}", format::bytes(result.len() as u64));
        if !result.is_empty() {
            self.text(&result, 9);
        }
    }

    fn opaque(&mut self, entry: &OpaqueEntry, duration: u64) {
        self.fact("what", &opaque_gist(entry, self.screen.utf8));
        if let Some(Value::Object(tunnel)) = entry.more.get("tunnel") {
            let size = |name: &str| format::bytes(tunnel.get(name).and_then(Value::as_u64).unwrap_or(0));
            self.fact("bytes", &format!("{} up, {} down", size("bytesUp"), size("bytesDown")));
            self.optional_fact(
                "alert",
                tunnel.get("alert").and_then(Value::as_str).map(str::to_string).as_ref(),
            );
            self.fact("time", &format::duration(duration));
            return;
        }
        if entry.more.contains_key("note") {
            return;
        }
        self.fact("url", &entry.url);
        self.fact("host", &entry.host);
        match entry.status {
            Some(status) => self.fact("status", &status.to_string()),
            None => self.fact("status", "no answer"),
        }
        self.fact("time", &format::duration(duration));
        for (title, headers, preview) in [
            ("request", &entry.request_headers, &entry.request_body_preview),
            ("response", &entry.response_headers, &entry.response_body_preview),
        ] {
            self.section(title);
            for (name, value) in headers {
                self.text(&format!("{name}: {}", text::line(value, self.screen.utf8)), 2);
            }
            if let Some(preview) = preview.as_ref().filter(|p| !p.is_empty()) {
                self.out.push('\n');
                self.text(preview, 2);
            }
        }
    }
}
