//! Proving that the database is what it should be.
use ring::digest::{SHA256, digest};
use rusqlite::params;

use super::query::COLUMNS;
use super::read::{Pieces, Reader, Stored};
use crate::activity::Event;
use crate::store::column::uint;
use crate::store::error::{Error, Fault};
use crate::store::pack::unpack;

/// No more faults than this are listed.
const FAULTS: usize = 100;

/// Statements that give one line for each thing that contradicts another.
const CONTRADICTIONS: [&str; 8] = [
    "SELECT 'node ' || id || ' has a wrong count' FROM node WHERE refs <>
     (SELECT count(*) FROM node c WHERE c.parent = node.id) + coalesce((SELECT n FROM heads WHERE head = node.id), 0)",
    "SELECT 'node ' || id || ' belongs to nothing' FROM node WHERE refs < 1",
    "SELECT 'node ' || id || ' has no parent' FROM node
     WHERE parent <> 0 AND NOT EXISTS (SELECT 1 FROM node p WHERE p.id = node.parent)",
    "SELECT 'block ' || id || ' has a wrong count' FROM block WHERE refs <>
     coalesce((SELECT n FROM uses WHERE uses.block = block.id), 0)",
    "SELECT 'block ' || id || ' belongs to nothing' FROM block WHERE refs < 1",
    "SELECT 'a chain needs the missing block ' || block FROM uses WHERE block NOT IN (SELECT id FROM block)",
    "SELECT 'a key names the missing block ' || block FROM block_key WHERE block NOT IN (SELECT id FROM block)",
    "SELECT 'word ' || id || ' has a wrong count' FROM word WHERE refs < 1 OR refs <>
     coalesce((SELECT n FROM said WHERE said.word = word.id), 0)",
];

/// What the counts should be, counted anew.
const COUNTED: &str = "
CREATE TEMP TABLE heads AS SELECT head, count(*) AS n FROM (
    SELECT system AS head FROM activity UNION ALL SELECT offered FROM activity
    UNION ALL SELECT messages FROM activity UNION ALL SELECT answer FROM activity) GROUP BY head;
CREATE TEMP TABLE uses AS SELECT block, count(*) AS n FROM (
    SELECT block FROM node UNION ALL SELECT lead FROM node) GROUP BY block;
CREATE TEMP TABLE said AS SELECT word, count(*) AS n FROM (
    SELECT member AS word FROM activity UNION ALL SELECT session FROM activity
    UNION ALL SELECT objective FROM activity UNION ALL SELECT model FROM activity)
    WHERE word IS NOT NULL GROUP BY word;
CREATE UNIQUE INDEX temp.heads_head ON heads (head);
CREATE UNIQUE INDEX temp.uses_block ON uses (block);
CREATE UNIQUE INDEX temp.said_word ON said (word);
";

impl Reader {
    /// Check everything: SQLite's own structure, every count, every block against its hash, and that every row gives
    /// an event. `progress` gets rows done and rows in all. Returns what is wrong in words, at most 100 lines;
    /// none for a sound database.
    ///
    /// # Errors
    /// See [`Error`]: damage so great that the check itself cannot go on.
    pub fn check(&self, progress: impl FnMut(u64, u64)) -> Result<Vec<String>, Error> {
        self.at(self.try_check(progress))
    }

    fn try_check(&self, mut progress: impl FnMut(u64, u64)) -> Result<Vec<String>, Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let mut faults = Vec::new();
        let mut gather = |sql: &str| -> Result<(), Fault> {
            let mut select = tx.prepare(sql)?;
            let lines = select.query_map([], |row| row.get::<_, String>(0))?;
            for line in lines.take(FAULTS) {
                faults.push(line?);
            }
            Ok(())
        };
        gather("SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'")?;
        tx.execute_batch(COUNTED)?;
        for sql in CONTRADICTIONS {
            gather(sql)?;
        }
        let mut pieces = Pieces::new(&tx)?;
        let mut blocks = tx.prepare("SELECT id, size, data FROM block")?;
        let mut keyed = tx.prepare("SELECT count(*) FROM block_key WHERE hash = ? AND block = ?")?;
        let mut rows = blocks.query([])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            let raw = unpack(row.get_ref(2)?.as_blob().unwrap_or_default(), uint(row, 1)?);
            let sound = match &raw {
                Some(raw) => {
                    let hash = digest(&SHA256, raw);
                    keyed.query_row(params![hash.as_ref(), id], |row| row.get::<_, i64>(0))? == 1
                }
                None => false,
            };
            if !sound {
                faults.push(format!("block {id} is not what was stored"));
            }
        }
        let total = tx.query_row("SELECT count(*) FROM activity", [], |row| uint(row, 0))?;
        let mut select = tx.prepare(&format!("SELECT {COLUMNS} FROM activity a ORDER BY a.id"))?;
        let mut rows = select.query([])?;
        let mut done = 0;
        while let Some(row) = rows.next()? {
            let stored = Stored::read(row)?;
            let id = stored.id;
            match pieces.row(&stored) {
                Ok(row) => {
                    let value = serde_json::from_str(&row.event).ok();
                    if value.is_none_or(|value| Event::from_json(&value).is_err()) {
                        faults.push(format!("row {id} is not an event"));
                    }
                }
                Err(Fault::Damaged(why)) => faults.push(why),
                Err(other) => return Err(other),
            }
            done += 1;
            progress(done, total);
        }
        faults.truncate(FAULTS);
        // The temporary tables go with the transaction, which is never committed.
        Ok(faults)
    }
}
