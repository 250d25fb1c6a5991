//! Where events go: the broker, by way of the uploader, or a local database.
//!
//! Comes in: events from the capture worker, redacted and encoded. Goes out: batches. A sink counts whatever it
//! loses and says so at the end; it never loses silently.
mod local;

pub mod uploader;

pub use local::LocalSink;

use std::time::Duration;

/// An event as the JSON text that is stored or sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// ms since the epoch.
    pub ts: u64,
    /// One of [`crate::activity::KINDS`].
    pub kind: &'static str,
    /// The whole event, one line.
    pub json: String,
}

/// Takes events in order, from one thread.
pub trait Sink: Send {
    /// Take one event. It returns at once, except where the sink is a local disk that cannot keep up.
    fn push(&mut self, event: Encoded);

    /// Store or send what is still here, for at most `grace`, and say what became of everything.
    fn close(self: Box<Self>, grace: Duration) -> Report;
}

/// What became of a sink's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Events that are stored, or that the broker has acknowledged.
    pub stored: u64,
    /// Events that are lost.
    pub dropped: u64,
    /// Why, in words for the user (`the broker did not answer for 41 s`), if any were lost.
    pub reason: Option<String>,
    /// Where the others are: the database's path or the broker's URL.
    pub place: String,
}
