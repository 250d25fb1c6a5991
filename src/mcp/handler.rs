//! What a session gives to its agent's bridge and hooks.
use serde_json::{Value, json};

/// The session's side of the socket. It is called from several threads at once, and no lock is held meanwhile.
pub trait Handler: Send + Sync {
    /// The definitions of the tools, as `tools/list` has them: an array.
    fn tools(&self) -> Value;

    /// Run a tool. It may take as long as the broker takes; up to eight run beside each other.
    fn call(&self, name: &str, arguments: &Value) -> ToolResult;

    /// What the agent's hook for `event` (`UserPromptSubmit`, `Stop`) is to print, given what the agent told it.
    ///
    /// The hook waits for a second; what comes later is lost. Messages that are handed out here have been delivered.
    fn hook(&self, event: &str, input: &Value) -> Option<String>;

    /// A bridge is there; once more when another one displaces it.
    fn attached(&self);

    /// No bridge is left.
    fn detached(&self);
}

/// What came of a tool's call: a text for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    pub text: String,
    pub is_error: bool,
}

impl ToolResult {
    /// It was done.
    #[must_use]
    pub fn done(text: impl Into<String>) -> ToolResult {
        ToolResult { text: text.into(), is_error: false }
    }

    /// It was not; the model reads why.
    #[must_use]
    pub fn failed(why: impl Into<String>) -> ToolResult {
        ToolResult { text: why.into(), is_error: true }
    }

    /// The result of `tools/call`: one block of text.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"content": [{"type": "text", "text": self.text}], "isError": self.is_error})
    }
}
