//! `ac7 hook`: what a runner has its agent call at the agent's events.
use std::env;
use std::io::{self, Write};

use super::error::Error;
use super::flags::{Operands, Parsed};
use super::{Group, Verb};
use crate::mcp::hook;

pub const VERB: Verb = Verb {
    name: "hook",
    group: Group::Programs,
    summary: "Give an agent the messages that wait for it",
    operands: Operands::One("EVENT"),
    flags: &[],
    examples: &[
        ("ac7 hook UserPromptSubmit", "what an agent runs when it is given a prompt"),
        ("ac7 hook Stop", "what it runs when it is done"),
    ],
    exits: &[
        ("0", "always, unless the command line makes no sense"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7-hook(1)", "ac7-mcp-bridge(1)"],
    page: "ac7-hook",
    run,
};

/// An agent that waits must not be told of our troubles: whatever goes wrong is silence.
fn run(parsed: &Parsed) -> Result<u8, Error> {
    let event = parsed.operands.first().and_then(|event| event.to_str()).unwrap_or_default();
    let socket = env::var_os("AC7_RUNNER_SOCKET").filter(|path| !path.is_empty());
    if let Some(output) = socket.and_then(|socket| hook::ask(socket.as_ref(), event)) {
        let _ = io::stdout().lock().write_all(output.as_bytes());
    }
    Ok(0)
}
