//! ac7 shows what coding agents are told, what they answer, which tools they call and what that costs.
//!
//! The rooms, from the top down; a room uses only rooms below it:
//!
//! | room | job |
//! |---|---|
//! | [`cli`] | verbs: one file each, flags as data |
//! | [`runner`] | a session: environment, child, signals, teardown; wires capture to a sink |
//! | [`agents`] | what is particular to one agent |
//! | [`mcp`] | the agent's tools, notifications and hooks: socket, bridge, tools |
//! | [`broker`] | the team's server: edge, router, auth, handlers |
//! | [`web`] | the page: plain files, carried in the binary |
//! | [`sink`] | where events go: uploader or local database |
//! | [`capture`] | proxy, relay, reassembly, extraction, redaction |
//! | [`client`] | HTTP client towards the broker |
//! | [`usage`] | sums of calls, and what they cost |
//! | [`store`] | the SQLite files |
//! | [`team`] | messages, objectives, channels: their wire JSON, what becomes of them |
//! | [`identity`] | team file, members, token hashes |
//! | [`http1`] | HTTP/1.1 framing, pure, shared by capture and the broker's edge |
//! | [`activity`] | event types and their wire JSON |
//! | [`tls`] | session CA, leaves, trust roots, configurations |
//! | [`sys`] | paths, signals, files, clock, log: the only room that touches the operating system's odds and ends |
#![forbid(unsafe_code)]

pub mod activity;
pub mod agents;
pub mod broker;
pub mod capture;
pub mod cli;
pub mod client;
pub mod http1;
pub mod identity;
pub mod mcp;
pub mod runner;
pub mod sink;
pub mod store;
pub mod sys;
pub mod team;
pub mod tls;
pub mod usage;
pub mod web;
