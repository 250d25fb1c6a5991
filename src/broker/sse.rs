//! A stream of server-sent events, as its handler sees it: the first request begins it, each later one asks for a piece
//! ([`super::edge`] has the details).
use super::call::{Answer, Body, Call, Failure};
use super::edge::{FOLLOW, LAST, MORE, WAIT};

/// About so many bytes are a piece: there may be hundreds of streams.
const PIECE: usize = 256 << 10;

/// What a request of a stream asks for.
pub enum Asked {
    /// To begin, after the last event the client has, if it has one.
    Begin(Option<i64>),
    /// The piece after an event.
    After(i64),
}

/// Some events.
#[derive(Default)]
pub struct Piece {
    pub text: Vec<u8>,
    /// The last event's id, or where the reading began.
    pub last: i64,
    /// Whether there may be more.
    pub more: bool,
}

/// What a request asks for.
///
/// # Errors
/// 400: the place is none of ours.
pub fn asked(call: &Call) -> Result<Asked, Failure> {
    let place = |text: &str| {
        let bad = || Failure::bad("the Last-Event-ID is none of this stream's");
        text.parse::<i64>().ok().filter(|id| *id >= 0).ok_or_else(bad)
    };
    Ok(match call.headers.get(FOLLOW) {
        Some(text) => Asked::After(place(text)?),
        None => Asked::Begin(call.headers.get("last-event-id").map(place).transpose()?),
    })
}

/// The answer that begins a stream: what wakes it, and the event after which it goes on.
#[must_use]
pub fn begin(topic: String, last: i64) -> Answer {
    answer(vec![(WAIT, topic), (LAST, last.to_string())], Vec::new())
}

impl Piece {
    /// Nothing yet, after an event.
    #[must_use]
    pub fn after(last: i64) -> Piece {
        Piece { last, ..Piece::default() }
    }

    /// Add an event.
    pub fn push(&mut self, id: i64, data: &str) {
        self.last = id;
        self.text.extend_from_slice(format!("event: message\nid: {id}\ndata: ").as_bytes());
        // Outside of strings, which have no bare ones, JSON does not care which white space it has.
        let one_line = data.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b });
        self.text.extend(one_line);
        self.text.extend_from_slice(b"\n\n");
    }

    /// Whether it has as much as a piece should have.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.text.len() >= PIECE
    }

    /// The answer.
    #[must_use]
    pub fn answer(self) -> Answer {
        let mut headers = vec![(LAST, self.last.to_string())];
        if self.more {
            headers.push((MORE, String::from("1")));
        }
        answer(headers, self.text)
    }
}

fn answer(mut headers: Vec<(&'static str, String)>, text: Vec<u8>) -> Answer {
    headers.push(("Content-Type", "text/event-stream".to_string()));
    headers.push(("X-Accel-Buffering", "no".to_string()));
    Answer { status: 200, headers, body: Body::Json(text) }
}
