//! Property tests with random input for everything that reads what a peer sends: framing, reassembly, decoding,
//! WebSockets, extraction, redaction, the store's parser, the session's socket.
//!
//! Each target is a test. By default it runs a fixed number of rounds from a fixed seed. With `AC7_FUZZ_SECONDS=N` it
//! runs that long from a seed of its own (`make fuzz`). A failure prints `AC7_FUZZ_SEED=SEED:ROUND`, and with this in
//! the environment that one round runs again.
#![cfg(test)]
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod coded;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod http;
#[cfg(test)]
mod inputs;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod parser;
#[cfg(test)]
mod random;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod session;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod streams;
