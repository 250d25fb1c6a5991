//! Where events go: the broker, by way of the uploader, a local database or a file of JSON Lines.
//!
//! Comes in: events from the capture worker, redacted and encoded. Goes out: batches. A sink counts whatever it
//! loses and says so at the end; it never loses silently.
mod file;
mod local;

pub mod uploader;

pub use file::FileSink;
pub use local::LocalSink;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::Upgrade;

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

/// Where a sink puts events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The broker with this URL.
    Broker(String),
    Database(PathBuf),
    /// A file of JSON Lines.
    File(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Broker(url) => f.write_str(url),
            Place::Database(path) | Place::File(path) => path.display().fmt(f),
        }
    }
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
    /// Where the others are.
    pub place: Option<Place>,
    /// What was done to that first, if it is a database of an older version.
    pub upgrade: Option<Upgrade>,
}
