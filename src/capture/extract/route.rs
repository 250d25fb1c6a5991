//! Which requests may be model calls, by method and path alone: gateways have any host.
use super::reply::{Answer, Merged, Part};
use super::{anthropic, converse, gemini, openai_chat, openai_responses};
use crate::activity::{LlmRequest, Provider};
use serde_json::Value;

/// The wire format of a model call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Anthropic,
    Chat,
    Responses,
    Gemini,
    Converse,
}

impl Wire {
    /// The kind of entry it becomes. Converse has Anthropic's shape in all but names.
    pub fn provider(self) -> Provider {
        match self {
            Wire::Anthropic | Wire::Converse => Provider::Anthropic,
            Wire::Chat => Provider::OpenAiChat,
            Wire::Responses => Provider::OpenAiResponses,
            Wire::Gemini => Provider::Gemini,
        }
    }

    /// The request in a body; `None` if the body has another shape.
    pub fn request(self, body: Value) -> Option<LlmRequest> {
        match self {
            Wire::Anthropic => anthropic::request(body),
            Wire::Chat => openai_chat::request(body),
            Wire::Responses => openai_responses::request(body),
            Wire::Gemini => gemini::request(body),
            Wire::Converse => converse::request(body),
        }
    }

    /// The answer in a body, or in what [`Wire::merge`] made of a stream.
    pub fn answer(self, whole: Value) -> Answer {
        match self {
            Wire::Anthropic => anthropic::answer(whole),
            Wire::Chat => openai_chat::answer(whole),
            Wire::Responses => openai_responses::answer(whole),
            Wire::Gemini => gemini::answer(whole),
            Wire::Converse => converse::answer(whole),
        }
    }

    /// A stream put together.
    pub fn merge(self, parts: Vec<Part>) -> Merged {
        match self {
            Wire::Anthropic => anthropic::merge(parts),
            Wire::Chat => openai_chat::merge(parts),
            Wire::Responses => openai_responses::merge(parts),
            Wire::Gemini => gemini::merge(parts),
            Wire::Converse => converse::merge(parts),
        }
    }
}

/// What a path says about a call.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    pub wire: Wire,
    /// The model, where the path names it.
    pub model: Option<String>,
    /// Whether the path asks for a stream.
    pub stream: bool,
}

impl Route {
    /// The route of a request; `None` if no model is called that way.
    pub fn of(method: &str, target: &str) -> Option<Route> {
        if method != "POST" {
            return None;
        }
        let path = target.split(['?', '#']).next().unwrap_or("").trim_end_matches('/');
        let route =
            |wire, model: Option<&str>, stream| Some(Route { wire, model: model.map(decode), stream });
        let mut segments = path.rsplit('/');
        let (last, before) = (segments.next()?, segments.next().unwrap_or(""));
        let before_that = segments.next().unwrap_or("");
        // `models/NAME:verb` (Gemini, Vertex); Code Assist has no model there.
        if let Some((model, verb)) = last.rsplit_once(':') {
            let model = (before == "models").then_some(model);
            // Vertex counts tokens by asking a model of this name.
            if model == Some("count-tokens") {
                return None;
            }
            return match verb {
                "generateContent" => route(Wire::Gemini, model, false),
                "streamGenerateContent" => route(Wire::Gemini, model, true),
                "rawPredict" => route(Wire::Anthropic, model, false),
                "streamRawPredict" => route(Wire::Anthropic, model, true),
                _ => None,
            };
        }
        let bedrock = (before_that == "model").then_some(before);
        match last {
            "messages" if before == "v1" => route(Wire::Anthropic, None, false),
            // Azure names the model by its deployment: `…/deployments/NAME/chat/completions`.
            "completions" if before == "chat" => {
                let name = segments.next().filter(|s| *s == "deployments").map(|_| before_that);
                route(Wire::Chat, name, false)
            }
            "responses" => route(Wire::Responses, None, false),
            "invoke" => bedrock.and_then(|m| route(Wire::Anthropic, Some(m), false)),
            "invoke-with-response-stream" => bedrock.and_then(|m| route(Wire::Anthropic, Some(m), true)),
            "converse" => bedrock.and_then(|m| route(Wire::Converse, Some(m), false)),
            "converse-stream" => bedrock.and_then(|m| route(Wire::Converse, Some(m), true)),
            _ => None,
        }
    }
}

/// Undo percent-encoding (RFC 3986 §2.1), lossily.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Route, Wire, decode};

    type Want = Option<(Wire, Option<&'static str>, bool)>;

    #[test]
    fn paths_of_model_calls() {
        let table: &[(&str, Want)] = &[
            ("/v1/messages", Some((Wire::Anthropic, None, false))),
            ("/v1/messages?beta=true", Some((Wire::Anthropic, None, false))),
            ("/anthropic/v1/messages/", Some((Wire::Anthropic, None, false))),
            ("http://gateway.example/v1/messages", Some((Wire::Anthropic, None, false))),
            ("/v1/messages/count_tokens", None),
            ("/v1/messages/batches", None),
            ("/api/messages", None),
            ("/v1/chat/completions", Some((Wire::Chat, None, false))),
            (
                "/openai/deployments/my%20gpt/chat/completions?api-version=1",
                Some((Wire::Chat, Some("my gpt"), false)),
            ),
            ("/v1/completions", None),
            ("/v1/responses", Some((Wire::Responses, None, false))),
            ("/backend-api/codex/responses", Some((Wire::Responses, None, false))),
            ("/v1/responses/resp_1/cancel", None),
            (
                "/v1beta/models/gemini-2.5-pro:generateContent?key=x",
                Some((Wire::Gemini, Some("gemini-2.5-pro"), false)),
            ),
            (
                "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
                Some((Wire::Gemini, Some("gemini-2.5-pro"), true)),
            ),
            ("/v1internal:streamGenerateContent?alt=sse", Some((Wire::Gemini, None, true))),
            ("/v1beta/models/gemini-2.5-pro:countTokens", None),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:rawPredict",
                Some((Wire::Anthropic, Some("claude-x@1"), false)),
            ),
            (
                "/v1/projects/p/locations/l/publishers/anthropic/models/claude-x:streamRawPredict",
                Some((Wire::Anthropic, Some("claude-x"), true)),
            ),
            ("/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", None),
            (
                "/model/anthropic.claude-x%3A0/invoke",
                Some((Wire::Anthropic, Some("anthropic.claude-x:0"), false)),
            ),
            (
                "/model/anthropic.claude-x:0/invoke-with-response-stream",
                Some((Wire::Anthropic, Some("anthropic.claude-x:0"), true)),
            ),
            ("/model/m/converse", Some((Wire::Converse, Some("m"), false))),
            ("/model/m/converse-stream", Some((Wire::Converse, Some("m"), true))),
            ("/functions/f/invoke", None),
            ("/", None),
            ("", None),
        ];
        for (path, want) in table {
            let want =
                want.map(|(wire, model, stream)| Route { wire, model: model.map(str::to_string), stream });
            assert_eq!(Route::of("POST", path), want, "{path}");
            assert_eq!(Route::of("GET", path), None, "{path}");
        }
    }

    #[test]
    fn percent_signs_that_encode_nothing_stay() {
        for (text, want) in [
            ("a%3Ab", "a:b"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%é", "%é"),
            ("%FF", "\u{FFFD}"),
        ] {
            assert_eq!(decode(text), want);
        }
    }
}
