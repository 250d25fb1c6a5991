//! What the agent can do in the team, and what the team can tell the agent: MCP tools, notifications, hooks.
//!
//! The agent starts `ac7 mcp-bridge` ([`bridge`]) and `ac7 hook` ([`hook`]); both are small and talk to the session's
//! socket ([`server`]) in frames ([`ipc`]). The session answers with [`tools`], which know the broker's routes.
//! Comes in: the agent's lines, the broker's answers. Goes out: answers, notifications. It opens no socket but that
//! one, and never decides what the agent is told: that is the session's, through [`Handler`].
pub mod bridge;
mod handler;
pub mod hook;
pub mod ipc;
mod lines;
pub mod server;
mod socket;
pub mod tools;

pub use handler::{Handler, ToolResult};

use crate::sys::localtime::Zone;

/// A moment as the agents are told it: `MM/DD/YY HH:MM:SS UTC`.
#[must_use]
pub fn stamp(ms: u64) -> String {
    let at = Zone::utc().local(ms);
    format!("{:02}/{:02}/{:02} {} UTC", at.month, at.day, at.year.rem_euclid(100), at.clock())
}

/// The notification that the tools have changed.
const TOOLS_CHANGED: &str = "notifications/tools/list_changed";
