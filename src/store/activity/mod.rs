//! The activity database: events of all members, each stored once however often a conversation repeats it.
//!
//! Comes in: JSON text of events, which [`Parser`] checks and splits into blocks, without touching the database.
//! [`Store`] appends the [`Batch`] that this gives. Goes out: [`Row`]s with the same JSON text, by way of [`Reader`].
//! A process has at most one store; readers as many as it likes, also while another process writes.
//!
//! How an event is stored: `walk` finds its four lists (system, tools, messages, the answer) in one pass over the
//! text; each block is stored once under the SHA-256 of its text; a list is a chain of nodes, so that a call that goes
//! on with a conversation adds only its new nodes (`schema` has the tables); what is left of the text is the row's
//! skeleton. Rows with plain lists of references would still grow with the square of a conversation's length.
mod batch;
mod brief;
mod check;
mod facts;
mod lately;
mod prune;
mod query;
mod read;
mod schema;
mod search;
mod skeleton;
mod sound;
mod split;
mod stats;
mod usage;
mod walk;
mod write;

pub use batch::{Batch, Brief, Parser};
pub use prune::{Pruned, ROWS as PRUNED_ROWS, count_older};
pub use query::{Cursor, NotACursor, Query};
pub use read::{Continues, Reader, Row};
pub use stats::{Day, Stats};
pub use usage::{Span, Used};
pub use write::{Appended, Store, Upload};

use std::path::Path;

use super::error::Error;
use super::snapshot::Snapshot;

/// An activity database as it is now.
///
/// # Errors
/// See [`Error`]: no file, none of ours, a newer one.
pub fn snapshot(path: &Path) -> Result<Snapshot, Error> {
    Snapshot::take(&schema::KIND, path)
}
