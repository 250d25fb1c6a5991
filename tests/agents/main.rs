//! Agents as members of a team, as a user meets them: the real binary, a real broker, and scripts as agents.
#![cfg(test)]
mod claude_code;
mod codex;
mod doctor;
mod exits;
mod stream;
// For clippy: what is under cfg(test) may unwrap.
#[cfg(test)]
mod team;
