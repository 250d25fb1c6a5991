//! What a session amounts to, counted from its events; every number comes from the wire.
use std::collections::BTreeMap;

use serde_json::Value;

use crate::activity::{Event, LlmEntry, OpaqueEntry, Provider, What};
use crate::usage::Tokens;

/// Models that are counted apart.
const MODELS: usize = 256;

/// Counts of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// HTTP exchanges, model calls among them.
    pub exchanges: u64,
    pub llm_calls: u64,
    /// All input, cached or not.
    pub input_tokens: u64,
    /// Input that was read from the provider's cache.
    pub cached_tokens: u64,
    pub output_tokens: u64,
    /// Calls and tokens by the model that was asked for; a few hundred models at most.
    pub models: BTreeMap<String, (Provider, u64, Tokens)>,
    /// Model calls that ended in an error.
    pub errors: u64,
    /// Exchanges of which a part is missing in the record.
    pub truncated: u64,
    /// Connections whose bytes could not be understood.
    pub unparsed: u64,
    /// Secrets that were replaced where no login belongs; one that is sent again counts again.
    pub secrets: u64,
    /// What passed undecrypted, by host.
    pub tunnelled: BTreeMap<String, Tunnelled>,
    /// Upstreams that could not be reached or trusted, and why the last time.
    pub refused: BTreeMap<String, String>,
}

/// What passed undecrypted to one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tunnelled {
    pub connections: u64,
    pub bytes: u64,
    /// The last reason: a word of the wire.
    pub reason: String,
    /// The last TLS alert, if any.
    pub alert: Option<String>,
}

impl Totals {
    /// Count one more event.
    pub fn add(&mut self, event: &Event) {
        match &event.what {
            What::Llm { entry, .. } => self.add_llm(entry),
            What::Opaque { entry, .. } => self.add_opaque(entry),
            What::ObjectiveOpen { .. } | What::ObjectiveClose { .. } => {}
        }
    }

    fn add_llm(&mut self, entry: &LlmEntry) {
        self.exchanges += 1;
        self.llm_calls += 1;
        let failed = entry.response.as_ref().is_none_or(|r| r.status.is_some_and(|s| s >= 400));
        self.errors += u64::from(failed || entry.about.error.is_some());
        self.truncated += u64::from(entry.about.truncated);
        if let Some(usage) = entry.response.as_ref().and_then(|r| r.usage.as_ref()) {
            let (tokens, model) =
                (Tokens::of(entry.provider, usage), entry.request.model.as_deref().unwrap_or("-"));
            self.input_tokens += tokens.whole_input(Some(entry.provider));
            self.cached_tokens += tokens.cache_read;
            self.output_tokens += tokens.output;
            // What a hostile upstream makes the agent ask for does not fill the memory.
            let model = if self.models.len() < MODELS { model } else { "-" };
            let (provider, calls, sum) =
                self.models.entry(model.to_string()).or_insert((entry.provider, 0, Tokens::default()));
            if *provider == entry.provider {
                *calls += 1;
                sum.add(&tokens);
            }
        }
    }

    fn add_opaque(&mut self, entry: &OpaqueEntry) {
        if let Some(tunnel) = entry.more.get("tunnel") {
            let bytes = |name: &str| tunnel.get(name).and_then(Value::as_u64).unwrap_or(0);
            let text = |name: &str| tunnel.get(name).and_then(Value::as_str).map(str::to_string);
            let sum = self.tunnelled.entry(entry.host.clone()).or_default();
            sum.connections += 1;
            sum.bytes += bytes("bytesUp") + bytes("bytesDown");
            sum.reason = text("reason").unwrap_or_default();
            sum.alert = text("alert").or(sum.alert.take());
        } else if entry.method == "CONNECT" {
            let why = entry.response_body_preview.clone().unwrap_or_default();
            self.refused.insert(entry.url.clone(), why);
        } else if entry.method == "NOTE" {
            let count = entry.more.get("note").and_then(|n| n.get("count")).and_then(Value::as_u64);
            self.unparsed += if entry.url == "ac7:unparsed" { count.unwrap_or(1) } else { 0 };
        } else {
            self.exchanges += 1;
            self.truncated += u64::from(entry.more.get("truncated").is_some_and(|t| *t == Value::Bool(true)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::{About, LlmRequest, LlmResponse, Usage};
    use serde_json::json;

    fn call(provider: Provider, usage: Usage, status: u16, error: bool) -> Event {
        Event::llm(LlmEntry {
            provider,
            started_at: 0,
            ended_at: 1,
            request: LlmRequest::default(),
            response: Some(LlmResponse {
                usage: Some(usage),
                status: Some(status),
                ..LlmResponse::default()
            }),
            about: About {
                error: error.then(|| ("overloaded_error".into(), String::new())),
                ..About::default()
            },
        })
    }

    fn opaque(method: &str, more: &Value) -> Event {
        let more = more.as_object().cloned().unwrap_or_default();
        Event::opaque(OpaqueEntry {
            host: "h".into(),
            method: method.into(),
            url: "h:443".into(),
            more,
            ..Default::default()
        })
    }

    #[test]
    fn providers_count_cache_and_reasoning_differently() {
        let usage = Usage {
            input: Some(10),
            output: Some(3),
            cache_creation: Some(20),
            cache_read: Some(70),
            reasoning: Some(2),
        };
        for (provider, input, output) in
            [(Provider::Anthropic, 100, 3), (Provider::OpenAiResponses, 10, 3), (Provider::Gemini, 10, 5)]
        {
            let mut totals = Totals::default();
            totals.add(&call(provider, usage.clone(), 200, false));
            assert_eq!(
                (totals.input_tokens, totals.cached_tokens, totals.output_tokens),
                (input, 70, output)
            );
        }
    }

    #[test]
    fn kinds_of_events_are_counted_apart() {
        let mut totals = Totals::default();
        for event in [
            call(Provider::Anthropic, Usage::default(), 200, true),
            call(Provider::Anthropic, Usage::default(), 529, true),
            opaque("GET", &json!({"truncated": true})),
            opaque("CONNECT", &json!({"tunnel": {"reason": "scope", "bytesUp": 2, "bytesDown": 3}})),
            opaque("CONNECT", &json!({"tunnel": {"reason": "rejected", "alert": "UnknownCA", "bytesUp": 1}})),
            opaque("CONNECT", &json!({"error": "no"})),
            opaque("NOTE", &json!({"note": {"count": 2, "reason": "x"}})),
        ] {
            totals.add(&event);
        }
        assert_eq!((totals.exchanges, totals.llm_calls, totals.errors, totals.truncated), (3, 2, 2, 1));
        let h = &totals.tunnelled["h"];
        assert_eq!(
            (h.connections, h.bytes, h.reason.as_str(), h.alert.as_deref()),
            (2, 6, "rejected", Some("UnknownCA"))
        );
        assert_eq!(totals.refused.len(), 1);
    }
}
