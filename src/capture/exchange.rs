//! One request and its response as the reassembler hands them on: framing and codings undone, nothing interpreted.
pub use crate::http1::Headers;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `https` or `http`.
    pub scheme: &'static str,
    /// As in CONNECT or the absolute URI, lower case, an IPv6 literal without brackets.
    pub host: String,
    pub port: u16,
}

/// Which end of a connection sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests, and a client's WebSocket frames.
    Agent,
    /// Responses, and a server's WebSocket frames.
    Upstream,
}

/// A body with transfer and content codings undone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Decoded bytes, at most the retention limit that was in force. Of a message that cannot be a model call only a
    /// preview is wanted: there they may be the beginning alone without a `cut`, and `wire_len` tells the rest.
    pub bytes: Vec<u8>,
    /// Bytes of the payload on the wire: transfer coding undone, content coding not.
    pub wire_len: u64,
    /// Why `bytes` is not the whole body, if it is not.
    pub cut: Option<Cut>,
    /// SHA-256 (lower-case hex) of the whole wire payload, for a body whose `cut` is [`Cut::Limit`].
    pub sha256: Option<String>,
    /// When decoded bytes arrived: (offset in the decoded body of the first of them, ms since epoch), both ascending.
    /// Neighbouring marks of the same ms are merged; at most 4096 marks, then the last one stands for the rest.
    pub marks: Vec<(usize, u64)>,
}

impl Body {
    /// When the byte at `offset` arrived, ms since epoch.
    #[must_use]
    pub fn arrived(&self, offset: usize) -> Option<u64> {
        let at = self.marks.partition_point(|(start, _)| *start <= offset);
        at.checked_sub(1).map(|i| self.marks[i].1)
    }
}

/// Why a body is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It passed the retention limit, before or after decoding.
    Limit,
    /// The connection ended before the message did.
    Ended,
    /// The capture queue was full and bytes are missing.
    Gap,
    /// The content coding is unknown or its data is broken; what could be decoded is there.
    Coding,
}

/// A request's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    pub method: String,
    /// As on the request line: origin form, or absolute form through a plain proxy.
    pub target: String,
    pub headers: Headers,
}

/// A response's head (of the final response; 1xx are not handed on).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    pub headers: Headers,
}

/// One exchange, complete or as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub target: Target,
    pub request: RequestHead,
    pub request_body: Body,
    /// `None` if the connection ended before a response head.
    pub response: Option<ResponseHead>,
    pub response_body: Body,
    /// First byte of the request, ms since epoch.
    pub started_at: u64,
    /// Last byte of the response, or of what there was of it, ms since epoch.
    pub ended_at: u64,
}

impl Exchange {
    /// Whether any part is missing.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.request_body.cut.is_some() || self.response_body.cut.is_some()
    }
}

/// One call over a WebSocket that carries model calls: a client message and the server messages it caused,
/// up to the one that ends it (for the Responses API one `response.create` up to its terminal event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketCall {
    pub target: Target,
    /// The request that was upgraded.
    pub request: RequestHead,
    pub response: ResponseHead,
    /// The client's text message.
    pub asked: Vec<u8>,
    /// The server's text messages with their arrival, ms since epoch.
    pub answered: Vec<(u64, Vec<u8>)>,
    pub started_at: u64,
    pub ended_at: u64,
    /// Whether the connection ended, or bytes are missing, before the terminal event.
    pub truncated: bool,
}

/// A WebSocket that carried something else, told once when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSummary {
    pub target: Target,
    pub request: RequestHead,
    pub response: ResponseHead,
    /// Whole messages, control frames left out.
    pub messages_up: u64,
    pub messages_down: u64,
    /// Payload as it was on the wire, compressed where that was agreed.
    pub bytes_up: u64,
    pub bytes_down: u64,
    /// The first text messages each way, a line feed between them, at most 64 KB.
    pub first_up: Vec<u8>,
    pub first_down: Vec<u8>,
    pub started_at: u64,
    pub ended_at: u64,
}

/// What the reassembler gives out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Captured {
    Exchange(Box<Exchange>),
    SocketCall(Box<SocketCall>),
    SocketSummary(Box<SocketSummary>),
    /// Capture gave up on the connection: what follows passed unseen. The reason is a fixed phrase, without data.
    GaveUp {
        target: Target,
        reason: &'static str,
        at: u64,
    },
}
