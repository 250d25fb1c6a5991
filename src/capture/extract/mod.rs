//! From a captured exchange to an event.
//!
//! Comes in: what the reassembler gives out. Goes out: one event each, a model call where path and body say so,
//! `opaque_http` otherwise, and events that ac7 writes about itself. Pure: no I/O, no clock, and no host is special.
//! Nothing here is redacted: [`crate::capture::redact`] comes next, and only then [`fit`], which cuts.
//!
//! One file a provider: `request` reads a request body, `answer` an answer in one piece, and `merge` puts a stream
//! together to that same piece, so that there is one reading of it. What lies in no provider's hands is here.
mod anthropic;
mod converse;
mod eventstream;
mod fit;
mod gemini;
mod json;
mod opaque;
mod openai;
mod openai_chat;
mod openai_responses;
mod reply;
mod route;
mod sse;
#[cfg(test)]
mod tests;

pub use fit::{LIMIT, fit};
pub use opaque::{Note, Tunnel, note, refused, tunnel};

use crate::activity::{About, Event, LlmEntry, LlmRequest, Overage, Session};
use crate::capture::exchange::{Body, Captured, Exchange, Headers, RequestHead, ResponseHead, SocketCall};
use reply::{Answer, Reply, error_of};
use route::{Route, Wire};

/// Bytes of stack that a thread needs for extraction, redaction and [`fit`]: JSON may nest 128 levels.
pub const STACK: usize = 512 * 1024;

/// Whether a request goes to where models are called, so that it and its answer are worth keeping whole. The body's
/// shape has the last word, in [`event`].
#[must_use]
pub fn may_be_model_call(request: &RequestHead) -> bool {
    Route::of(&request.method, &request.target).is_some()
}

/// The event of whatever capture saw. Not redacted and not cut.
#[must_use]
pub fn event(captured: &Captured) -> Event {
    match captured {
        Captured::Exchange(x) => exchange(x).map_or_else(|| opaque::exchange(x), Event::llm),
        Captured::SocketCall(call) => socket(call).map_or_else(|| opaque::socket_call(call), Event::llm),
        Captured::SocketSummary(summary) => opaque::socket(summary),
        Captured::GaveUp { target, reason, at } => opaque::gave_up(target, reason, *at),
    }
}

/// A model call over HTTP; `None` if it is none.
fn exchange(x: &Exchange) -> Option<LlmEntry> {
    let Route { mut wire, model, stream } = Route::of(&x.request.method, &x.request.target)?;
    let asked = parse(&x.request_body)?;
    // Bedrock and Vertex pass on whatever their model speaks, which is one of these two.
    if wire == Wire::Anthropic && model.is_some() && asked.get("anthropic_version").is_none() {
        wire = Wire::Chat;
    }
    let stream = stream || asked.get("stream").and_then(serde_json::Value::as_bool).unwrap_or(false);
    let mut request = wire.request(asked)?;
    request.model = request.model.or(model);
    let reply = x.response.as_ref().map(|head| reply::reply(&head.headers, &x.response_body));
    let mut about = about(&x.request.headers, x.response.as_ref());
    about.host = Some(x.target.host.clone());
    about.stream = Some(stream || matches!(reply, Some(Reply::Stream(_))));
    about.request_sha256.clone_from(&x.request_body.sha256);
    about.response_sha256.clone_from(&x.response_body.sha256);
    about.truncated = x.truncated() || x.response.is_none();
    let call = Call { wire, request, about, started_at: x.started_at, ended_at: x.ended_at };
    Some(call.entry(reply, x.response.as_ref()))
}

/// A model call over a WebSocket; `None` if it is none.
fn socket(call: &SocketCall) -> Option<LlmEntry> {
    let wire = Wire::Responses;
    let request = wire.request(json::parse(&call.asked)?)?;
    let mut about = about(&call.request.headers, Some(&call.response));
    about.host = Some(call.target.host.clone());
    about.stream = Some(true);
    about.truncated = call.truncated;
    let c = Call { wire, request, about, started_at: call.started_at, ended_at: call.ended_at };
    Some(c.entry(Some(reply::socket_reply(call)), Some(&call.response)))
}

fn parse(body: &Body) -> Option<serde_json::Value> {
    json::parse(&body.bytes).or_else(|| body.cut.and_then(|_| json::parse_cut(&body.bytes)))
}

/// A call whose request is understood.
struct Call {
    wire: Wire,
    request: LlmRequest,
    about: About,
    started_at: u64,
    ended_at: u64,
}

impl Call {
    fn entry(self, reply: Option<Reply>, head: Option<&ResponseHead>) -> LlmEntry {
        let Call { wire, request, mut about, started_at, ended_at } = self;
        let status = head.map(|h| h.status);
        let failed = status.is_some_and(|s| s >= 400);
        let mut answer = match reply {
            None | Some(Reply::Nothing) => Answer::default(),
            Some(Reply::Unreadable(text)) => {
                if !failed {
                    let message = "the answer is neither JSON nor a stream of events".to_string();
                    about.error = Some(("unparsed".into(), message));
                } else if !text.is_empty() {
                    about.error = Some((http_error(head), text));
                }
                Answer::default()
            }
            Some(Reply::Whole(whole)) => {
                if failed || whole.get("error").is_some_and(|e| !e.is_null()) {
                    about.error = error_of(&whole);
                }
                wire.answer(whole)
            }
            Some(Reply::Stream(parts)) => {
                let merged = wire.merge(parts);
                about.first_token_at = merged.first_token_at;
                about.error = merged.error;
                about.truncated |= !merged.complete;
                let mut answer = wire.answer(merged.whole);
                if !failed && about.error.is_some() && answer.response.stop_reason.is_none() {
                    answer.response.stop_reason = Some("error".into());
                }
                answer
            }
        };
        if failed && about.error.is_none() {
            about.error = Some((http_error(head), String::new()));
        }
        if let (Some((kind, _)), Some(name)) = (&mut about.error, head.and_then(amazon_error))
            && kind == "error"
        {
            *kind = name;
        }
        answer.response.status = status;
        about.id = answer.id;
        about.served_model = answer.served_model;
        let response = head.map(|_| answer.response);
        LlmEntry { provider: wire.provider(), started_at, ended_at, request, response, about }
    }
}

fn http_error(head: Option<&ResponseHead>) -> String {
    format!("http_{}", head.map_or(0, |h| h.status))
}

/// The name of an error that Bedrock gives in a header alone.
fn amazon_error(head: &ResponseHead) -> Option<String> {
    let name = head.headers.get("x-amzn-errortype")?;
    name.split(':').next().map(str::to_string)
}

/// What the heads say about a call.
fn about(asked: &Headers, answered: Option<&ResponseHead>) -> About {
    let id = |head: &ResponseHead| {
        let names = ["request-id", "x-request-id", "x-amzn-requestid"];
        names.iter().find_map(|name| head.headers.get(name).map(str::to_string))
    };
    About {
        request_id: answered.and_then(id),
        session: session(asked),
        client: asked.get("user-agent").map(str::to_string),
        overage: answered.and_then(|head| overage(&head.headers)),
        ..About::default()
    }
}

fn overage(headers: &Headers) -> Option<Overage> {
    let text = |name: &str| headers.get(name).filter(|v| !v.is_empty()).map(str::to_string);
    let overage = Overage {
        status: text("anthropic-ratelimit-unified-overage-status"),
        disabled_reason: text("anthropic-ratelimit-unified-overage-disabled-reason"),
    };
    (overage != Overage::default()).then_some(overage)
}

/// The agent's session, from the headers of Claude Code or of codex.
fn session(headers: &Headers) -> Option<Session> {
    let text = |name: &str| headers.get(name).filter(|v| !v.is_empty()).map(str::to_string);
    let claude = Session {
        id: text("x-claude-code-session-id"),
        agent_id: text("x-claude-code-agent-id"),
        parent_agent_id: text("x-claude-code-parent-agent-id"),
    };
    if claude != Session::default() {
        return Some(claude);
    }
    let id = text("session-id");
    // The main thread bears the session's own id: only another one is an agent within it.
    let agent_id = text("thread-id").filter(|thread| Some(thread) != id.as_ref());
    let codex = Session { id, agent_id, parent_agent_id: None };
    (codex != Session::default()).then_some(codex)
}
