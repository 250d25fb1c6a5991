//! A session: a command with its environment, its capture, its signals and its end.
//!
//! Comes in: [`options::RunOptions`], already checked. Goes out: the child's exit status and a summary. It parses no
//! command line and draws no tables.
pub mod options;
