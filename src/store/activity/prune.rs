//! Deleting old rows, and with them whatever no other row needs.
use std::ops::ControlFlow;
use std::path::Path;

use ring::digest::{SHA256, digest};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior};

use super::facts::integer;
use super::schema::KIND;
use super::write::Store;
use crate::store::column::uint;
use crate::store::error::{Error, Fault};
use crate::store::pack::unpack;

/// Rows per transaction: a writer waits for some milliseconds at most.
pub const ROWS: u64 = 200;

/// How far a prune came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows deleted.
    pub done: u64,
    /// Rows that were to be deleted when it began.
    pub total: u64,
}

/// How many rows a [`Store::prune`] with this cutoff would delete.
///
/// # Errors
/// See [`Error`].
pub fn count_older(path: &Path, cutoff_ms: u64) -> Result<u64, Error> {
    let conn = KIND.open_reader(path)?;
    let count = "SELECT count(*) FROM activity WHERE ts < ?";
    conn.query_row(count, [integer(cutoff_ms)], |row| uint(row, 0)).map_err(|e| Fault::from(e).at(path))
}

impl Store {
    /// Delete every row whose event happened before `cutoff_ms` (since the epoch), oldest first, in transactions of
    /// 200 rows, with all blocks, nodes and words that no row needs any more. Other processes may read and append
    /// meanwhile. After each transaction `progress` is told how far it is; it may break it off.
    ///
    /// # Errors
    /// See [`Error`]; what was deleted before stays deleted, and the database is consistent.
    pub fn prune(
        &mut self,
        cutoff_ms: u64,
        mut progress: impl FnMut(Pruned) -> ControlFlow<()>,
    ) -> Result<Pruned, Error> {
        let mut pruned = Pruned { done: 0, total: count_older(&self.path, cutoff_ms)? };
        loop {
            let done = self.prune_step(cutoff_ms)?;
            pruned.done += done;
            if done == 0 || progress(pruned).is_break() || done < ROWS {
                return Ok(pruned);
            }
        }
    }

    /// Give the free pages back to the file system. Needs room for a second copy, and nobody else may write.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn vacuum(&mut self) -> Result<(), Error> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.conn
            .execute_batch("VACUUM")
            .and_then(|()| self.conn.query_row(checkpoint, [], |_| Ok(())))
            .map_err(|e| Fault::from(e).at(&self.path))
    }

    /// One step of [`Store::prune`]: the oldest rows, 200 at most. Gives how many there were; fewer than 200 means that
    /// none is left.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn prune_step(&mut self, cutoff_ms: u64) -> Result<u64, Error> {
        self.prune_some(integer(cutoff_ms)).map_err(|fault| fault.at(&self.path))
    }

    fn prune_some(&mut self, cutoff: i64) -> Result<u64, Fault> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = oldest(&tx, cutoff)?;
        if rows.is_empty() {
            return Ok(0);
        }
        {
            let mut release = Release::new(&tx)?;
            let mut delete = tx.prepare("DELETE FROM activity WHERE id = ?")?;
            for row in &rows {
                delete.execute([row.id])?;
                for word in row.words.iter().flatten() {
                    release.word(*word)?;
                }
                for head in row.heads {
                    release.chain(head)?;
                }
            }
        }
        // Tells every writer that ids it remembers may be gone.
        tx.execute("UPDATE state SET prunes = prunes + 1", [])?;
        tx.commit()?;
        Ok(rows.len() as u64)
    }
}

struct Row {
    id: i64,
    words: [Option<i64>; 4],
    heads: [i64; 4],
}

fn oldest(tx: &Transaction<'_>, cutoff: i64) -> Result<Vec<Row>, Fault> {
    let sql = "SELECT id, member, session, objective, model, system, offered, messages, answer FROM activity
               WHERE ts < ? ORDER BY ts LIMIT ?";
    let mut select = tx.prepare(sql)?;
    let rows = select.query_map([cutoff, integer(ROWS)], |row| {
        Ok(Row {
            id: row.get(0)?,
            words: [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?],
            heads: [row.get(5)?, row.get(6)?, row.get(7)?, row.get(8)?],
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Counts references down; what nobody refers to is deleted.
struct Release<'t> {
    tx: &'t Transaction<'t>,
    statements: [rusqlite::Statement<'t>; 2],
}

impl<'t> Release<'t> {
    fn new(tx: &'t Transaction<'_>) -> Result<Release<'t>, Fault> {
        let down =
            |table| tx.prepare(&format!("UPDATE {table} SET refs = refs - 1 WHERE id = ? RETURNING refs"));
        Ok(Release { tx, statements: [down("node")?, down("block")?] })
    }

    fn word(&self, id: i64) -> Result<(), Fault> {
        self.tx.execute("UPDATE word SET refs = refs - 1 WHERE id = ?", [id])?;
        self.tx.execute("DELETE FROM word WHERE id = ? AND refs = 0", [id])?;
        Ok(())
    }

    /// One reference less to a node. If it goes, so does its reference to its parent.
    fn chain(&mut self, mut id: i64) -> Result<(), Fault> {
        while id != 0 {
            let refs: i64 = self.statements[0].query_row([id], |row| row.get(0))?;
            if refs > 0 {
                return Ok(());
            }
            let sql = "DELETE FROM node WHERE id = ? RETURNING parent, lead, block";
            let (parent, lead, block) =
                self.tx.query_row(sql, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            self.block(lead)?;
            self.block(block)?;
            id = parent;
        }
        Ok(())
    }

    fn block(&mut self, id: i64) -> Result<(), Fault> {
        let refs: i64 = self.statements[1].query_row([id], |row| row.get(0))?;
        if refs > 0 {
            return Ok(());
        }
        let sql = "DELETE FROM block WHERE id = ? RETURNING size, data";
        let (size, data): (usize, Vec<u8>) =
            self.tx.query_row(sql, [id], |row| Ok((uint(row, 0)?, row.get(1)?)))?;
        // The hash is not kept beside the block. Should the text be damaged, the key is found the long way.
        let by_hash = unpack(&data, size)
            .map(|raw| {
                let hash = digest(&SHA256, &raw);
                let sql = "DELETE FROM block_key WHERE hash = ? AND block = ? RETURNING block";
                self.tx.query_row(sql, (hash.as_ref(), id), |row| row.get::<_, i64>(0)).optional()
            })
            .transpose()?
            .flatten();
        if by_hash.is_none() {
            self.tx.execute("DELETE FROM block_key WHERE block = ?", [id])?;
        }
        Ok(())
    }
}
