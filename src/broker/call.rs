//! A request as handlers see it, and their answers. No sockets here.
use std::fmt;
use std::io::Read;

use serde_json::{Value, json};

use super::query::Query;
use crate::activity::Invalid;
use crate::store;

/// A clean request, without its body.
pub struct Call {
    pub method: String,
    /// The path's segments, percent-decoded.
    pub path: Vec<String>,
    pub query: Query,
    pub headers: Headers,
}

impl Call {
    /// Whether the client uses TLS: the edge says so of its own, the page's origin of one that ends before the broker.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.headers.get("x-ac7-proto") == Some("https")
            || self.headers.get("origin").is_some_and(|origin| origin.starts_with("https://"))
    }
}

/// Header lines; names compare without case.
#[derive(Default)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The value of the first header of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What goes back.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// An answer's body, JSON unless the headers say otherwise.
pub enum Body {
    /// Whole.
    Json(Vec<u8>),
    /// Read while it is sent; an error breaks the answer off.
    Stream(Box<dyn Read + Send>),
    /// The same, of so many bytes.
    Sized(Box<dyn Read + Send>, usize),
}

impl Answer {
    /// 204, with nothing to say.
    #[must_use]
    pub fn empty() -> Answer {
        Answer { status: 204, headers: Vec::new(), body: Body::Json(Vec::new()) }
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer { status, headers: Vec::new(), body: Body::Json(body.to_string().into_bytes()) }
    }
}

impl From<store::Error> for Failure {
    /// What passes by itself, or once somebody has made room, is worth another try; the rest is not.
    fn from(error: store::Error) -> Failure {
        match error {
            store::Error::Locked { .. } | store::Error::Full { .. } => Failure::Busy(error.to_string()),
            _ => Failure::Internal(error.to_string()),
        }
    }
}

/// Why a request is not served. Each has one status; the sentence is for people.
#[derive(Debug)]
pub enum Failure {
    /// 400: the request breaks the contract, and where.
    Bad { error: String, details: Vec<Invalid> },
    /// 401: no token, or one that opens nothing.
    Unauthorized,
    /// 401: a one-time code that is not anybody's, or was used before.
    WrongCode,
    /// 403, naming the permission.
    Forbidden(String),
    /// 404.
    NotFound(String),
    /// 405, with the methods that the path has.
    Method(Vec<&'static str>),
    /// 409: it contradicts what is there.
    Conflict(String),
    /// 410: it was there once.
    Gone(String),
    /// 413: more than may be in one request.
    TooLarge(String),
    /// 429: too many of something; not before so many seconds have passed.
    TooMany { what: &'static str, seconds: u64 },
    /// 500: the key that seals secrets is lost; the sentence, which names its place, goes to the log alone.
    NoKey(String),
    /// 500: the sentence goes to the log alone.
    Internal(String),
    /// 503: later it may work; the sentence goes to the log alone.
    Busy(String),
    /// 507: more than there is room for.
    NoRoom(String),
}

impl fmt::Display for Failure {
    /// For the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoKey(reason) | Failure::Internal(reason) | Failure::Busy(reason) => f.write_str(reason),
            other => f.write_str(&other.told().1),
        }
    }
}

impl Failure {
    /// A 400 about one place.
    #[must_use]
    pub fn invalid(invalid: Invalid) -> Failure {
        Failure::Bad { error: invalid.to_string(), details: vec![invalid] }
    }

    /// A 400 about the request as a whole.
    #[must_use]
    pub fn bad(error: &str) -> Failure {
        Failure::Bad { error: error.to_string(), details: Vec::new() }
    }

    /// Status, and the sentence for the client.
    fn told(&self) -> (u16, String) {
        match self {
            Failure::Bad { error, .. } => (400, error.clone()),
            Failure::Unauthorized => (401, "a valid bearer token or session is required".to_string()),
            Failure::WrongCode => (401, "invalid code".to_string()),
            Failure::Forbidden(error) => (403, error.clone()),
            Failure::NotFound(error) => (404, error.clone()),
            Failure::Method(_) => (405, "this path has no such method".to_string()),
            Failure::Conflict(error) => (409, error.clone()),
            Failure::Gone(error) => (410, error.clone()),
            Failure::TooLarge(error) => (413, error.clone()),
            Failure::TooMany { what, seconds } => (429, format!("{what}: wait {seconds} s")),
            Failure::NoKey(_) => {
                (500, "the broker's key (KEK) is missing or another one; its log says what to do".to_string())
            }
            Failure::Internal(_) => (500, "the broker failed; its log says why".to_string()),
            Failure::Busy(_) => (503, "the broker cannot do this now; try again".to_string()),
            Failure::NoRoom(error) => (507, error.clone()),
        }
    }

    /// What the client gets.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let (status, error) = self.told();
        let mut body = json!({"error": error});
        if let Failure::Bad { details, .. } = self
            && !details.is_empty()
        {
            let detail = |i: &Invalid| json!({"path": i.path, "message": i.message});
            body["details"] = details.iter().map(detail).collect();
        }
        let mut answer = Answer::json(status, &body);
        match self {
            Failure::Unauthorized | Failure::WrongCode => {
                answer.headers.push(("WWW-Authenticate", "Bearer".to_string()));
            }
            Failure::Method(allowed) => answer.headers.push(("Allow", allowed.join(", "))),
            Failure::TooMany { seconds, .. } => answer.headers.push(("Retry-After", seconds.to_string())),
            Failure::Busy(_) => answer.headers.push(("Retry-After", "3".to_string())),
            _ => {}
        }
        answer
    }
}
