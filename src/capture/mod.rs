//! What passes between an agent and its upstreams, seen once and put into words.
//!
//! Comes in: an agent's connections to the proxy. Goes out: redacted events, to a function that the owner gives.
//! It never knows who consumes them, and the relay never waits for anything that happens here.
pub mod body;
pub mod dial;
pub mod exchange;
pub mod extract;
pub mod hello;
pub mod plain;
pub mod pool;
pub mod proxy;
pub mod reassemble;
pub mod redact;
pub mod relay;
pub mod scope;
pub mod tap;
mod tunnel;
pub mod websocket;
pub mod worker;
