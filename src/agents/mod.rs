//! What is particular to one agent: which variables make it use the proxy and trust the session's CA.
//!
//! Comes in: the caller's environment and where the proxy is. Goes out: changes to the child's environment. It starts
//! nothing and writes nothing.
pub mod command;
