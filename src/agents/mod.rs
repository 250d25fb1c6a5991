//! What is particular to one agent: where its program is, whether it can start here, which variables make it use the
//! proxy and trust the session's CA.
//!
//! Comes in: the caller's environment and arguments, and where the session's ends are. Goes out: the program, changes
//! to the child's environment and arguments, and what [`doctor`] has found.
pub mod claude_code;
pub mod codex;
pub mod command;
pub mod doctor;
mod environment;
mod find;

pub use environment::{Place, Variables};
pub use find::NotFound;

/// An agent that takes part in a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    ClaudeCode,
    Codex,
}

impl Agent {
    pub const ALL: [Agent; 2] = [Agent::ClaudeCode, Agent::Codex];

    /// The verb that runs it.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Agent::ClaudeCode => "claude-code",
            Agent::Codex => "codex",
        }
    }

    /// The agent of a verb.
    #[must_use]
    pub fn of_verb(verb: &str) -> Option<Agent> {
        Agent::ALL.into_iter().find(|agent| agent.verb() == verb)
    }

    /// Its program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Agent::ClaudeCode => "claude",
            Agent::Codex => "codex",
        }
    }

    /// The variable that says where the program is.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Agent::ClaudeCode => "CLAUDE_PATH",
            Agent::Codex => "CODEX_PATH",
        }
    }
}
