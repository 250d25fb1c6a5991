//! A session: a program under capture, from its start to the last event stored.
//!
//! Comes in: checked options. Goes out: an [`Outcome`], for the verb to put into words. Whatever it makes (files, the
//! proxy, threads, the child) belongs to a guard or an owner here and is gone when [`run`] returns, on every path.
mod capturing;
mod child;
mod claude_code;
mod codex;
mod error;
mod files;
mod mcp_config;
pub mod options;
mod session;
mod team;
mod totals;
mod under_way;
mod upstream;

pub use capturing::Captured;
pub use claude_code::run as claude_code;
pub use codex::run as codex;
pub use error::Error;
pub use session::{Outcome, run};
pub use totals::{Totals, Tunnelled};
