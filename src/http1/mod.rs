//! HTTP/1.1 framing: pure functions over bytes, no sockets, no clock (RFC 9112).
//!
//! Shared by the capture side, which listens in and follows whatever the two ends would make of the bytes
//! ([`Rules::CAPTURE`]), and by the broker's edge, which refuses what is not clean ([`Rules::EDGE`]).
//! Comes in: one direction of a connection, cut anywhere. Goes out: heads, slices of bodies, trailers, ends, or one
//! [`Fault`]. Linear in the bytes fed whatever the cuts; memory is bounded by [`Rules::head_bytes`].
mod fault;
mod framer;
mod head;
mod headers;
pub mod proxies;
pub mod target;

pub use fault::Fault;
pub use framer::{Framer, Part};
pub use head::{Asked, Head, Length, Start};
pub use headers::Headers;

/// How much a head may hold, and whether what is unclean is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Most bytes of a head, or of a trailer section, line ends included.
    pub head_bytes: usize,
    /// Most fields of a head, or of a trailer section.
    pub fields: usize,
    /// Refuse what two recipients may read differently: `Content-Length` with `Transfer-Encoding` or repeated, codings
    /// other than `chunked`, folded lines, bare CR or LF as line ends, control characters, white space around names and
    /// chunk sizes.
    pub strict: bool,
}

impl Rules {
    /// For looking on: lenient where clients and servers are.
    pub const CAPTURE: Rules = Rules { head_bytes: 64 * 1024, fields: 1000, strict: false };
    /// For the broker's edge.
    pub const EDGE: Rules = Rules { head_bytes: 32 * 1024, fields: 100, strict: true };
}
