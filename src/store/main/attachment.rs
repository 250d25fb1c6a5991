//! Which files messages and objectives have.
use rusqlite::{Transaction, params};
use serde_json::Value;

use crate::activity::Reader;
use crate::store::error::Fault;
use crate::team::Attachment;

/// As they stand in a row.
pub(super) fn to_text(attachments: &[Attachment]) -> String {
    attachments.iter().map(Attachment::to_json).collect::<Value>().to_string()
}

/// From a row.
pub(super) fn from_text(text: &str) -> Result<Vec<Attachment>, Fault> {
    let damaged = |why: String| Fault::Damaged(format!("attachments that are none: {why}"));
    let value: Value = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
    let items = Reader::new(&value).items().map_err(|invalid| damaged(invalid.to_string()))?;
    let read = |item: &Reader<'_>| Attachment::read(item).map_err(|invalid| damaged(invalid.to_string()));
    items.iter().map(read).collect()
}

/// Note the files of a message or of an objective, by row.
pub(super) fn record(
    tx: &Transaction<'_>,
    attachments: &[Attachment],
    message: Option<i64>,
    objective: Option<i64>,
) -> rusqlite::Result<()> {
    if attachments.is_empty() {
        return Ok(());
    }
    // Whoever may see the message or objective may read the file that is there now, if it is still what the sender was
    // let attach: another may have come in its place since.
    let mut insert = tx.prepare(
        "INSERT INTO attachment (path, message, objective, entry)
         VALUES (?1, ?2, ?3, (SELECT id FROM fs_entry WHERE path = ?1 AND hash = ?4))",
    )?;
    attachments
        .iter()
        .try_for_each(|a| insert.execute(params![a.path, message, objective, a.content]).map(drop))
}
