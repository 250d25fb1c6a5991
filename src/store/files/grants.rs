//! Who may read a file of another member: whoever may see a message or an objective that it is attached to. The
//! attachment holds on to the file, wherever that is moved and whatever its owner overwrites it with, so that those who
//! have a draft read what it becomes. It lets go of the file when that is removed: what is put in its place is another.
use rusqlite::{Connection, params};

use super::entries::{self, Entry};
use super::path::FsPath;
use crate::team::Attachment;

/// Why something cannot be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAttached {
    /// There is no file at the path of the attachment with this number.
    Missing(usize),
    /// The sender may not read it.
    Forbidden(usize),
}

/// For the attachment `a` and the member `?1`: whether that member may see what it is attached to.
const SEEN: &str = "
    EXISTS (SELECT 1 FROM message m WHERE m.id = a.message AND (
        m.everyone = 1
        OR EXISTS (SELECT 1 FROM channel_member c WHERE c.channel = m.channel AND c.member = ?1)
        OR EXISTS (SELECT 1 FROM delivery d WHERE d.message = m.id AND d.member = ?1)))
    OR EXISTS (SELECT 1 FROM objective o
        WHERE o.id = coalesce(a.objective, (SELECT m.objective FROM message m WHERE m.id = a.message)) AND (
            o.assignee = ?1 OR o.originator = ?1
            OR EXISTS (SELECT 1 FROM objective_watcher w WHERE w.objective = o.id AND w.member = ?1)))";

/// Whether a member was given a file to read.
pub(super) fn is_granted(db: &Connection, entry: i64, member: &str) -> rusqlite::Result<bool> {
    let sql = format!("SELECT 1 FROM attachment a WHERE a.entry = ?2 AND ({SEEN})");
    db.prepare(&sql)?.exists(params![member, entry])
}

/// What a member was given to read of others, by path.
pub(super) fn shared_with(db: &Connection, member: &str) -> rusqlite::Result<Vec<Entry>> {
    let those = format!("SELECT a.entry FROM attachment a WHERE a.entry IS NOT NULL AND ({SEEN})");
    entries::among_others(db, member, &those)
}

/// Check what a sender attaches, and say of each file what is known about it; `manages` is whether the sender may read
/// everybody's.
pub(super) fn attach(
    db: &Connection,
    sender: &str,
    manages: bool,
    attachments: &mut [Attachment],
) -> rusqlite::Result<Result<(), NotAttached>> {
    for (at, attachment) in attachments.iter_mut().enumerate() {
        let Ok(path) = FsPath::parse(&attachment.path) else { return Ok(Err(NotAttached::Missing(at))) };
        let found = entries::find(db, path.as_str())?;
        let granted = match &found {
            Some(entry) if !manages && entry.owner != sender => is_granted(db, entry.id, sender)?,
            _ => manages || path.owner() == Some(sender),
        };
        // What may not be read is not said to be missing either.
        if !granted {
            return Ok(Err(NotAttached::Forbidden(at)));
        }
        let Some(facts) = found.and_then(|entry| entry.file) else {
            return Ok(Err(NotAttached::Missing(at)));
        };
        (attachment.size, attachment.mime_type) = (facts.size, facts.mime);
        attachment.content = Some(facts.hash);
    }
    Ok(Ok(()))
}
