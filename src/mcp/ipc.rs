//! What the session and the agent's side tell each other: one JSON object a line, at most [`MAX_FRAME`] bytes.
use std::fmt;

use serde_json::{Map, Value, json};

use super::lines;
use crate::activity::{Invalid, Reader};

/// The longest frame, without its line end.
pub const MAX_FRAME: usize = lines::MAX_LINE;

/// One frame. A request's `id` is a number or a text of its sender's choice.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// `mcp_request`, from the bridge: `tools/list`, `tools/call`.
    Request { id: Value, method: String, params: Value },
    /// `mcp_response`, the answer to it.
    Response { id: Value, outcome: Result<Value, RpcError> },
    /// `mcp_notification`, either way.
    Notification { method: String, params: Value },
    /// `hook`, from a hook: the agent's event and what the agent says about it.
    Hook { id: Value, event: String, input: Value },
    /// `hook_reply`: what the hook is to print.
    HookReply { id: Value, output: Option<String> },
    /// `shutdown`: the session wants no more of this connection.
    Shutdown { reason: String },
    /// `error`: a frame could not be understood, or not be answered.
    Error { message: String, id: Option<Value> },
}

/// JSON-RPC's codes.
pub const NOT_JSON: i64 = -32700;
pub const NO_REQUEST: i64 = -32600;
pub const NO_METHOD: i64 = -32601;
pub const BAD_PARAMS: i64 = -32602;
pub const INTERNAL: i64 = -32603;

/// The error of a JSON-RPC answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
}

/// Why a line is no frame.
#[derive(Debug)]
pub enum BadFrame {
    NotJson(serde_json::Error),
    Invalid(Invalid),
    TooLong,
}

impl fmt::Display for BadFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFrame::NotJson(why) => write!(f, "the line is not JSON: {why}"),
            BadFrame::Invalid(why) => why.fmt(f),
            BadFrame::TooLong => write!(f, "the line is longer than {} MiB", MAX_FRAME >> 20),
        }
    }
}

impl std::error::Error for BadFrame {}

impl From<Invalid> for BadFrame {
    fn from(invalid: Invalid) -> BadFrame {
        BadFrame::Invalid(invalid)
    }
}

impl From<lines::TooLong> for BadFrame {
    fn from(_: lines::TooLong) -> BadFrame {
        BadFrame::TooLong
    }
}

const KINDS: &[&str] =
    &["mcp_request", "mcp_response", "mcp_notification", "hook", "hook_reply", "shutdown", "error"];

impl Frame {
    /// Read a line.
    ///
    /// # Errors
    /// It is not JSON, or no frame.
    pub fn decode(line: &[u8]) -> Result<Frame, BadFrame> {
        let value = serde_json::from_slice(line).map_err(BadFrame::NotJson)?;
        let at = Reader::new(&value);
        let text = |name| at.field(name).string();
        let any = |name| value.get(name).cloned().unwrap_or(Value::Null);
        Ok(match at.field("kind").one_of(KINDS)? {
            "mcp_request" => Frame::Request { id: id(&at)?, method: text("method")?, params: any("params") },
            "mcp_response" => {
                let error = at.field("error").optional(RpcError::read)?;
                Frame::Response { id: id(&at)?, outcome: error.map_or_else(|| Ok(any("result")), Err) }
            }
            "mcp_notification" => Frame::Notification { method: text("method")?, params: any("params") },
            "hook" => Frame::Hook { id: id(&at)?, event: text("event")?, input: any("input") },
            "hook_reply" => {
                Frame::HookReply { id: id(&at)?, output: at.field("output").optional(Reader::string)? }
            }
            // Whoever wants to end is not asked why.
            "shutdown" => {
                let reason = at.field("reason").optional(Reader::string)?;
                Frame::Shutdown { reason: reason.unwrap_or_default() }
            }
            _ => Frame::Error { message: text("message")?, id: at.field("id").optional(|_| id(&at))? },
        })
    }

    /// The frame as a line, with its end.
    #[must_use]
    pub fn encode(self) -> String {
        let (kind, fields) = match self {
            Frame::Request { id, method, params } => {
                ("mcp_request", vec![("id", id), ("method", method.into()), ("params", params)])
            }
            Frame::Response { id, outcome } => {
                let outcome = match outcome {
                    Ok(result) => ("result", result),
                    Err(error) => ("error", error.to_json()),
                };
                ("mcp_response", vec![("id", id), outcome])
            }
            Frame::Notification { method, params } => {
                ("mcp_notification", vec![("method", method.into()), ("params", params)])
            }
            Frame::Hook { id, event, input } => {
                ("hook", vec![("id", id), ("event", event.into()), ("input", input)])
            }
            Frame::HookReply { id, output } => ("hook_reply", vec![("id", id), ("output", output.into())]),
            Frame::Shutdown { reason } => ("shutdown", vec![("reason", reason.into())]),
            Frame::Error { message, id } => {
                let id = id.map(|id| ("id", id));
                ("error", [("message", message.into())].into_iter().chain(id).collect())
            }
        };
        let mut object = Map::from_iter([("kind".to_string(), kind.into())]);
        object.extend(fields.into_iter().map(|(name, value)| (name.to_string(), value)));
        let mut line = Value::Object(object).to_string();
        line.push('\n');
        line
    }
}

impl RpcError {
    fn read(at: &Reader<'_>) -> Result<RpcError, Invalid> {
        let code = at.field("code").present().and_then(Value::as_i64).unwrap_or(INTERNAL);
        Ok(RpcError { code, message: at.field("message").string()? })
    }

    /// As JSON-RPC has it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"code": self.code, "message": self.message})
    }
}

fn id(at: &Reader<'_>) -> Result<Value, Invalid> {
    let at = at.field("id");
    match at.present() {
        Some(id @ (Value::Number(_) | Value::String(_))) => Ok(id.clone()),
        _ => Err(at.invalid("is not a number or a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_wire() {
        for (frame, want) in [
            (
                Frame::Request { id: json!(1), method: "tools/call".into(), params: json!({"name": "send"}) },
                r#"{"kind":"mcp_request","id":1,"method":"tools/call","params":{"name":"send"}}"#,
            ),
            (
                Frame::Response { id: json!("a"), outcome: Ok(json!({"tools": []})) },
                r#"{"kind":"mcp_response","id":"a","result":{"tools":[]}}"#,
            ),
            (
                Frame::Response {
                    id: json!(2),
                    outcome: Err(RpcError { code: -32601, message: "no".into() }),
                },
                r#"{"kind":"mcp_response","id":2,"error":{"code":-32601,"message":"no"}}"#,
            ),
            (
                Frame::Notification { method: "notifications/x".into(), params: Value::Null },
                r#"{"kind":"mcp_notification","method":"notifications/x","params":null}"#,
            ),
            (
                Frame::Hook { id: json!(1), event: "Stop".into(), input: json!({"stop_hook_active": false}) },
                r#"{"kind":"hook","id":1,"event":"Stop","input":{"stop_hook_active":false}}"#,
            ),
            (
                Frame::HookReply { id: json!(1), output: Some("line\nline".into()) },
                r#"{"kind":"hook_reply","id":1,"output":"line\nline"}"#,
            ),
            (
                Frame::HookReply { id: json!(1), output: None },
                r#"{"kind":"hook_reply","id":1,"output":null}"#,
            ),
            (Frame::Shutdown { reason: "end".into() }, r#"{"kind":"shutdown","reason":"end"}"#),
            (Frame::Error { message: "m".into(), id: None }, r#"{"kind":"error","message":"m"}"#),
            (
                Frame::Error { message: "m".into(), id: Some(json!(3)) },
                r#"{"kind":"error","message":"m","id":3}"#,
            ),
        ] {
            let line = frame.clone().encode();
            assert_eq!(line, format!("{want}\n"));
            assert_eq!(Frame::decode(line.as_bytes()).unwrap(), frame);
        }
    }

    #[test]
    fn what_is_no_frame_is_explained() {
        for (line, want) in [
            ("{", "the line is not JSON: EOF while parsing an object at line 1 column 1"),
            ("7", "kind is missing"),
            ("{}", "kind is missing"),
            (
                r#"{"kind":"x"}"#,
                "kind is not one of mcp_request, mcp_response, mcp_notification, hook, hook_reply, shutdown, error",
            ),
            (r#"{"kind":"mcp_request","method":"m"}"#, "id is not a number or a string"),
            (r#"{"kind":"mcp_request","id":{},"method":"m"}"#, "id is not a number or a string"),
            (r#"{"kind":"mcp_request","id":1}"#, "method is missing"),
            (r#"{"kind":"mcp_request","id":1,"method":[]}"#, "method is not a string"),
            (r#"{"kind":"mcp_response","id":1,"error":{"code":1}}"#, "error.message is missing"),
            (r#"{"kind":"hook","id":1}"#, "event is missing"),
            (r#"{"kind":"hook_reply","id":1,"output":7}"#, "output is not a string"),
            (r#"{"kind":"shutdown","reason":7}"#, "reason is not a string"),
        ] {
            assert_eq!(Frame::decode(line.as_bytes()).unwrap_err().to_string(), want, "{line}");
        }
        let bare = Frame::decode(br#"{"kind":"shutdown"}"#).unwrap();
        assert_eq!(bare, Frame::Shutdown { reason: String::new() });
        assert_eq!(BadFrame::from(lines::TooLong).to_string(), "the line is longer than 8 MiB");
    }
}
