//! Why a direction cannot be followed further.
use std::fmt;

/// What is wrong with a message. Each has one fixed phrase, without data of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The head or trailer section passes [`super::Rules::head_bytes`].
    HeadTooLarge,
    /// It has more fields than [`super::Rules::fields`].
    TooManyFields,
    /// The first line is not one of HTTP.
    NotHttp,
    /// It names another major version, as the preface of HTTP/2 does.
    Version,
    /// A field line is malformed, or unclean under strict rules.
    Field,
    /// `Content-Length` is not one number, or given several times with different ones.
    ContentLength,
    /// `Transfer-Encoding` leaves the end of the message unknown, or is unclean under strict rules.
    TransferEncoding,
    /// `Content-Length` and `Transfer-Encoding` together (strict rules alone).
    TwoLengths,
    /// A chunk's size line or its end is malformed.
    Chunk,
    /// The connection ended inside a message.
    Ended,
    /// Bytes are missing where their number alone does not tell how to go on.
    Gap,
}

impl Fault {
    /// The fixed phrase.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Fault::HeadTooLarge => "message head too large",
            Fault::TooManyFields => "too many header fields",
            Fault::NotHttp => "not HTTP",
            Fault::Version => "not HTTP/1.x",
            Fault::Field => "malformed header field",
            Fault::ContentLength => "unusable Content-Length",
            Fault::TransferEncoding => "unusable Transfer-Encoding",
            Fault::TwoLengths => "both Content-Length and Transfer-Encoding",
            Fault::Chunk => "malformed chunk",
            Fault::Ended => "connection ended inside a message",
            Fault::Gap => "bytes are missing outside a body of known length",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.phrase())
    }
}

impl std::error::Error for Fault {}
