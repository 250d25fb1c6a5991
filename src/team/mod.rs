//! What a team says and does together: messages, objectives, channels, as they are on the wire.
//!
//! Comes in: JSON of requests and of answers. Goes out: values that keep the wire's limits, the same JSON, and what an
//! action makes of an objective. No clock, no storage, no names of who is in the team: whoever calls knows them.
//! The `from_json` of what the broker answers takes more than `to_json` gives, since later versions add fields; that of
//! requests checks every limit, and names the field that breaks one.
mod attachment;
mod channel;
pub mod lifecycle;
mod message;
pub mod notice;
mod objective;
mod tenure;

pub use attachment::{Attachment, MOST_ATTACHMENTS, valid_path};
pub use channel::{Channel, ChannelMember, ChannelRole, ChannelSummary, GENERAL, read_joining, read_slug};
pub use message::{Level, Message, Post, THREAD};
pub use objective::{Action, EventKind, NewObjective, Objective, ObjectiveEvent, Status, discussion};
pub use tenure::{Tenure, tenures};

use crate::activity::{Invalid, Reader};

/// What `read` makes of each element of the list at `at`, at most `most` of them; none where the field is absent.
fn list<T>(
    at: &Reader<'_>,
    most: usize,
    read: impl Fn(&Reader<'_>) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    let items = at.optional(Reader::items)?.unwrap_or_default();
    if items.len() > most {
        return Err(at.invalid(&format!("has {} elements, not {most} at most", items.len())));
    }
    items.iter().map(read).collect()
}
