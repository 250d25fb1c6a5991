//! HTTP/1.1 framing: pure functions over bytes, no sockets, no clock (RFC 9112).
//!
//! Shared by the capture side, which listens in, and the broker's edge, which refuses what is not clean.
