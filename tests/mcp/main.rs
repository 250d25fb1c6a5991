//! The session's socket in this process; on its other end the real `ac7 mcp-bridge` and `ac7 hook`.
#![cfg(test)]
mod bridge;
mod hook;
mod rig;
mod socket;
