//! codex: its environment, its configuration, and the conversation with its app-server.
pub mod config;
mod show;
mod turns;

pub use turns::{Conversation, Message, Opening, Step};

/// The name that our server has in codex's configuration.
pub const SERVER: &str = "ac7";

/// Keys that do without a login.
pub const KEYS: [&str; 2] = ["OPENAI_API_KEY", "CODEX_API_KEY"];
