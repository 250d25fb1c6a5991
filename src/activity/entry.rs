//! The entry of a model call: one shape for every provider.
use serde_json::{Map, Number, Value, json};

use super::read::{Invalid, Reader};

/// Who speaks the wire of a model call; the entry's `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Anthropic,
    OpenAiChat,
    OpenAiResponses,
    Gemini,
}

impl Provider {
    /// The `kind` on the wire.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Provider::Anthropic => "anthropic_messages",
            Provider::OpenAiChat => "openai_chat",
            Provider::OpenAiResponses => "openai_responses",
            Provider::Gemini => "gemini",
        }
    }

    /// The provider of a `kind`.
    #[must_use]
    pub fn from_kind(kind: &str) -> Option<Provider> {
        [Provider::Anthropic, Provider::OpenAiChat, Provider::OpenAiResponses, Provider::Gemini]
            .into_iter()
            .find(|p| p.kind() == kind)
    }
}

/// A model call. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct LlmEntry {
    pub provider: Provider,
    pub started_at: u64,
    pub ended_at: u64,
    pub request: LlmRequest,
    /// `None` if nothing came back.
    pub response: Option<LlmResponse>,
    pub about: About,
}

/// What the model was told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LlmRequest {
    pub model: Option<String>,
    pub max_tokens: Option<u64>,
    pub temperature: Option<Number>,
    /// System blocks joined with `\n`.
    pub system: Option<String>,
    /// Byte length of each part of `system` where it was sent as blocks; empty otherwise.
    pub system_parts: Vec<usize>,
    pub messages: Vec<Message>,
    pub tools: Option<Vec<Tool>>,
    /// The answer this request continues, where the provider keeps the conversation (Responses API); additive.
    pub previous_response_id: Option<String>,
}

/// What it answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LlmResponse {
    pub stop_reason: Option<String>,
    pub stop_sequence: Option<String>,
    pub messages: Vec<Message>,
    pub usage: Option<Usage>,
    /// HTTP status.
    pub status: Option<u16>,
}

/// The provider's own numbers under our names. For OpenAI `input` includes what was read from the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub cache_creation: Option<u64>,
    pub cache_read: Option<u64>,
    pub reasoning: Option<u64>,
}

impl Usage {
    /// All tokens that came out, reasoning among them: Gemini counts it beside the answer, the others within
    /// (`UsageMetadata` of its API: the total is prompt + thoughts + candidates).
    #[must_use]
    pub fn whole_output(&self, provider: Provider) -> Option<u64> {
        match (provider, self.reasoning) {
            (Provider::Gemini, Some(beside)) => Some(self.output.unwrap_or(0).saturating_add(beside)),
            _ => self.output,
        }
    }
}

/// Facts around the call that the original wire does not have; all optional, at the level of `entry`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// Response header `request-id`, else `x-request-id`.
    pub request_id: Option<String>,
    pub session: Option<Session>,
    /// The User-Agent.
    pub client: Option<String>,
    pub host: Option<String>,
    pub stream: Option<bool>,
    /// When the first token arrived, ms since the epoch.
    pub first_token_at: Option<u64>,
    pub served_model: Option<String>,
    /// Type and message.
    pub error: Option<(String, String)>,
    /// What Anthropic says about paying for use beyond a subscription.
    pub overage: Option<Overage>,
    /// SHA-256 (lower-case hex) of a body that was too long to be kept whole.
    pub request_sha256: Option<String>,
    pub response_sha256: Option<String>,
    /// Whether any part of the exchange is missing here.
    pub truncated: bool,
}

/// Whether use beyond a subscription is paid for, and if not why: Anthropic's `anthropic-ratelimit-unified-overage-…`
/// headers `status` and `disabled-reason`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overage {
    pub status: Option<String>,
    pub disabled_reason: Option<String>,
}

/// Which of the agent's sessions made the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    pub id: Option<String>,
    pub agent_id: Option<String>,
    pub parent_agent_id: Option<String>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub role: String,
    pub content: Vec<Block>,
}

/// One block of a message. `cache_control` is kept where a client set it: it explains what is cached.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Text {
        text: String,
        cache_control: Option<Value>,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
        cache_control: Option<Value>,
    },
    ToolResult {
        tool_use_id: String,
        content: Value,
        is_error: bool,
        cache_control: Option<Value>,
    },
    Image {
        media_type: Option<String>,
        cache_control: Option<Value>,
    },
    Thinking {
        text: String,
    },
    /// Anything else, as it was sent.
    Unknown {
        raw: Value,
    },
}

/// A tool that was offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    pub input_schema: Value,
    pub cache_control: Option<Value>,
}

/// Put `value` under `name` unless it is null: optional fields are left out, not sent as null.
pub(super) fn put(object: &mut Map<String, Value>, name: &str, value: Value) {
    if !value.is_null() {
        object.insert(name.to_string(), value);
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl LlmEntry {
    /// The entry's wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = object(json!({
            "kind": self.provider.kind(),
            "startedAt": self.started_at,
            "endedAt": self.ended_at,
            "request": self.request.to_json(),
            "response": self.response.as_ref().map(LlmResponse::to_json),
        }));
        let a = &self.about;
        put(&mut out, "id", json!(a.id));
        put(&mut out, "requestId", json!(a.request_id));
        put(&mut out, "session", a.session.as_ref().map_or(Value::Null, Session::to_json));
        put(&mut out, "client", json!(a.client));
        put(&mut out, "host", json!(a.host));
        put(&mut out, "stream", json!(a.stream));
        put(&mut out, "firstTokenAt", json!(a.first_token_at));
        put(&mut out, "servedModel", json!(a.served_model));
        if let Some((kind, message)) = &a.error {
            out.insert("error".into(), json!({"type": kind, "message": message}));
        }
        put(&mut out, "overage", a.overage.as_ref().map_or(Value::Null, Overage::to_json));
        put(&mut out, "requestSha256", json!(a.request_sha256));
        put(&mut out, "responseSha256", json!(a.response_sha256));
        if a.truncated {
            out.insert("truncated".into(), Value::Bool(true));
        }
        Value::Object(out)
    }

    pub(super) fn read(at: &Reader<'_>) -> Result<LlmEntry, Invalid> {
        let kind = at.field("kind");
        let provider = Provider::from_kind(kind.str()?)
            .ok_or_else(|| kind.invalid("is not a known kind of model call"))?;
        let text = |name: &str| at.field(name).optional(Reader::string);
        let error =
            at.field("error").optional(|e| Ok((e.field("type").string()?, e.field("message").string()?)))?;
        Ok(LlmEntry {
            provider,
            started_at: at.field("startedAt").uint()?,
            ended_at: at.field("endedAt").uint()?,
            request: LlmRequest::read(&at.field("request"))?,
            response: at.field("response").optional(LlmResponse::read)?,
            about: About {
                id: text("id")?,
                request_id: text("requestId")?,
                session: at.field("session").optional(Session::read)?,
                client: text("client")?,
                host: text("host")?,
                stream: at.field("stream").optional(Reader::bool)?,
                first_token_at: at.field("firstTokenAt").optional(Reader::uint)?,
                served_model: text("servedModel")?,
                error,
                overage: at.field("overage").optional(Overage::read)?,
                request_sha256: text("requestSha256")?,
                response_sha256: text("responseSha256")?,
                truncated: at.field("truncated").optional(Reader::bool)?.unwrap_or(false),
            },
        })
    }
}

impl Overage {
    fn to_json(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "status", json!(self.status));
        put(&mut out, "disabledReason", json!(self.disabled_reason));
        Value::Object(out)
    }

    fn read(at: &Reader<'_>) -> Result<Overage, Invalid> {
        let text = |name: &str| at.field(name).optional(Reader::string);
        Ok(Overage { status: text("status")?, disabled_reason: text("disabledReason")? })
    }
}

impl Session {
    /// The wire JSON; absent ids are left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        put(&mut out, "id", json!(self.id));
        put(&mut out, "agentId", json!(self.agent_id));
        put(&mut out, "parentAgentId", json!(self.parent_agent_id));
        Value::Object(out)
    }

    fn read(at: &Reader<'_>) -> Result<Session, Invalid> {
        let text = |name: &str| at.field(name).optional(Reader::string);
        Ok(Session { id: text("id")?, agent_id: text("agentId")?, parent_agent_id: text("parentAgentId")? })
    }
}

impl LlmRequest {
    fn to_json(&self) -> Value {
        let mut out = object(json!({
            "model": self.model,
            "maxTokens": self.max_tokens,
            "temperature": self.temperature,
            "system": self.system,
        }));
        if !self.system_parts.is_empty() {
            out.insert("systemParts".into(), json!(self.system_parts));
        }
        out.insert("messages".into(), self.messages.iter().map(Message::to_json).collect());
        let tools =
            self.tools.as_ref().map_or(Value::Null, |tools| tools.iter().map(Tool::to_json).collect());
        out.insert("tools".into(), tools);
        put(&mut out, "previousResponseId", json!(self.previous_response_id));
        Value::Object(out)
    }

    fn read(at: &Reader<'_>) -> Result<LlmRequest, Invalid> {
        let parts = at
            .field("systemParts")
            .optional(|p| p.items()?.iter().map(Reader::uint).collect::<Result<Vec<_>, _>>())?;
        let temperature = at.field("temperature");
        Ok(LlmRequest {
            model: at.field("model").optional(Reader::string)?,
            max_tokens: at.field("maxTokens").optional(Reader::uint)?,
            temperature: temperature.optional(|t| {
                t.present().and_then(Value::as_number).cloned().ok_or_else(|| t.invalid("is not a number"))
            })?,
            system: at.field("system").optional(Reader::string)?,
            system_parts: parts
                .unwrap_or_default()
                .into_iter()
                .filter_map(|n| usize::try_from(n).ok())
                .collect(),
            messages: at.field("messages").items()?.iter().map(Message::read).collect::<Result<_, _>>()?,
            tools: at.field("tools").optional(|t| t.items()?.iter().map(Tool::read).collect())?,
            previous_response_id: at.field("previousResponseId").optional(Reader::string)?,
        })
    }
}

impl LlmResponse {
    fn to_json(&self) -> Value {
        json!({
            "stopReason": self.stop_reason,
            "stopSequence": self.stop_sequence,
            "messages": self.messages.iter().map(Message::to_json).collect::<Vec<_>>(),
            "usage": self.usage.as_ref().map(Usage::to_json),
            "status": self.status,
        })
    }

    fn read(at: &Reader<'_>) -> Result<LlmResponse, Invalid> {
        Ok(LlmResponse {
            stop_reason: at.field("stopReason").optional(Reader::string)?,
            stop_sequence: at.field("stopSequence").optional(Reader::string)?,
            messages: at.field("messages").items()?.iter().map(Message::read).collect::<Result<_, _>>()?,
            usage: at.field("usage").optional(Usage::read)?,
            status: read_status(&at.field("status"))?,
        })
    }
}

pub(super) fn read_status(at: &Reader<'_>) -> Result<Option<u16>, Invalid> {
    at.optional(|s| u16::try_from(s.uint()?).map_err(|_| s.invalid("is not an HTTP status")))
}

impl Usage {
    fn to_json(&self) -> Value {
        let mut out = object(json!({
            "inputTokens": self.input,
            "outputTokens": self.output,
            "cacheCreationInputTokens": self.cache_creation,
            "cacheReadInputTokens": self.cache_read,
        }));
        put(&mut out, "reasoningTokens", json!(self.reasoning));
        Value::Object(out)
    }

    fn read(at: &Reader<'_>) -> Result<Usage, Invalid> {
        let count = |name: &str| at.field(name).optional(Reader::uint);
        Ok(Usage {
            input: count("inputTokens")?,
            output: count("outputTokens")?,
            cache_creation: count("cacheCreationInputTokens")?,
            cache_read: count("cacheReadInputTokens")?,
            reasoning: count("reasoningTokens")?,
        })
    }
}

impl Message {
    /// The message's wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"role": self.role, "content": self.content.iter().map(Block::to_json).collect::<Vec<_>>()})
    }

    fn read(at: &Reader<'_>) -> Result<Message, Invalid> {
        Ok(Message {
            role: at.field("role").string()?,
            content: at.field("content").items()?.iter().map(Block::read).collect::<Result<_, _>>()?,
        })
    }
}

impl Block {
    /// The block's wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (value, cache_control) = match self {
            Block::Text { text, cache_control } => (json!({"type": "text", "text": text}), cache_control),
            Block::ToolUse { id, name, input, cache_control } => {
                (json!({"type": "tool_use", "id": id, "name": name, "input": input}), cache_control)
            }
            Block::ToolResult { tool_use_id, content, is_error, cache_control } => {
                let value = json!({"type": "tool_result", "toolUseId": tool_use_id, "content": content, "isError": is_error});
                (value, cache_control)
            }
            Block::Image { media_type, cache_control } => {
                (json!({"type": "image", "mediaType": media_type}), cache_control)
            }
            Block::Thinking { text } => (json!({"type": "thinking", "text": text}), &None),
            Block::Unknown { raw } => (json!({"type": "unknown", "raw": raw}), &None),
        };
        let mut out = object(value);
        put(&mut out, "cache_control", json!(cache_control));
        Value::Object(out)
    }

    /// A block at a reader's place.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn read(at: &Reader<'_>) -> Result<Block, Invalid> {
        let cache_control = at.field("cache_control").present().cloned();
        let any = |name: &str| at.field(name).present().cloned().unwrap_or(Value::Null);
        Ok(match at.field("type").str()? {
            "text" => Block::Text { text: at.field("text").string()?, cache_control },
            "tool_use" => Block::ToolUse {
                id: at.field("id").string()?,
                name: at.field("name").string()?,
                input: any("input"),
                cache_control,
            },
            "tool_result" => Block::ToolResult {
                tool_use_id: at.field("toolUseId").string()?,
                content: any("content"),
                is_error: at.field("isError").optional(Reader::bool)?.unwrap_or(false),
                cache_control,
            },
            "image" => {
                Block::Image { media_type: at.field("mediaType").optional(Reader::string)?, cache_control }
            }
            "thinking" => Block::Thinking { text: at.field("text").string()? },
            "unknown" => Block::Unknown { raw: any("raw") },
            _ => return Err(at.field("type").invalid("is not a known block")),
        })
    }
}

impl Tool {
    fn to_json(&self) -> Value {
        let mut out = object(
            json!({"name": self.name, "description": self.description, "inputSchema": self.input_schema}),
        );
        put(&mut out, "cache_control", json!(self.cache_control));
        Value::Object(out)
    }

    /// A tool at a reader's place.
    ///
    /// # Errors
    /// The path of the first field that is missing or has a wrong type.
    pub fn read(at: &Reader<'_>) -> Result<Tool, Invalid> {
        Ok(Tool {
            name: at.field("name").string()?,
            description: at.field("description").optional(Reader::string)?,
            input_schema: at.field("inputSchema").present().cloned().unwrap_or(Value::Null),
            cache_control: at.field("cache_control").present().cloned(),
        })
    }
}
