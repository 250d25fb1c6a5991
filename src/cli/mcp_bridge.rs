//! `ac7 mcp-bridge`: the MCP server that a runner puts into its agent's configuration.
use std::env;

use super::error::Error;
use super::flags::{Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb};
use crate::mcp::bridge;

pub const VERB: Verb = Verb {
    name: "mcp-bridge",
    group: Group::Programs,
    summary: "Connect an agent to its session, as an MCP server",
    operands: Operands::None,
    flags: &[],
    examples: &[
        ("AC7_RUNNER_SOCKET=/tmp/.ac7-runner-7.sock ac7 mcp-bridge", "what an agent starts"),
        ("ac7 help mcp-bridge", "what it says to the agent"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-mcp-bridge(1)"],
    page: "ac7-mcp-bridge",
    run,
};

fn run(_: &Parsed) -> Result<u8, Error> {
    let socket = env::var_os("AC7_RUNNER_SOCKET").filter(|path| !path.is_empty());
    let socket = socket.ok_or_else(|| Error::Refused {
        verb: VERB.name,
        why: "AC7_RUNNER_SOCKET is required".to_string(),
        fix: "agents start this by themselves: ac7 claude-code, ac7 codex",
    })?;
    bridge::run(socket.as_ref()).map_err(|why| Error::failed(VERB.name, why))?;
    Ok(0)
}
