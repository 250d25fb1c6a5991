//! Appending: many uploads in one transaction.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::batch::{Batch, Hash, Parsed, Step};
use super::facts::integer;
use super::schema::KIND;
use super::walk::List;
use crate::store::error::{Error, Fault};
use crate::store::file::{Stop, Upgrade};
use crate::store::pack::Packer;
use crate::store::recent::Recent;

/// How long an upload's key is remembered, ms.
const KEY_LIFE_MS: u64 = 24 * 60 * 60 * 1000;

/// All keys are gone through for old ones this often, ms.
const SWEEP_MS: u64 = 10 * 60 * 1000;

/// How many blocks, and how many steps of chains, are remembered with their ids, at least.
const REMEMBERED: usize = 16_384;

/// About what a row, a node and a block take beside their content: keys, ids, index entries.
const ROW_BYTES: i64 = 130;
const NODE_BYTES: i64 = 32;
const BLOCK_BYTES: i64 = 50;

/// The one connection of a process that writes an activity database. It belongs to one thread.
pub struct Store {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    memory: Memory,
    swept_at: u64,
    upgrade: Option<Upgrade>,
}

/// Ids that need not be looked up. Valid while nothing was pruned and no transaction was rolled back.
struct Memory {
    blocks: Recent<Hash, i64>,
    /// By parent, lead and block.
    nodes: Recent<(i64, i64, i64), i64>,
    packer: Packer,
    prunes: i64,
}

/// An upload to append. `key` makes it safe to repeat: the same key of the same member within 24 h stores nothing.
#[derive(Clone, Copy)]
pub struct Upload<'a> {
    pub member: &'a str,
    pub batch: &'a Batch,
    pub key: Option<&'a str>,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// How many events were accepted, now or when the key was first used.
    pub accepted: u64,
    /// The new rows' ids, one an event, ascending; empty for a repeated upload.
    pub ids: Vec<i64>,
    /// Whether it was stored before.
    pub replayed: bool,
}

impl Store {
    /// Open a database for writing; it is made, 0600, if it is not there (its directory 0700), and brought up to
    /// this version's schema.
    ///
    /// # Errors
    /// See [`Error`]. Waits up to 5 s for another program's lock.
    pub fn open(path: &Path) -> Result<Store, Error> {
        Store::open_unless(path, &(Arc::new(|| false) as Stop))
    }

    /// As [`Store::open`]; this and all that is done with it stops waiting for locks as soon as `stop` says so.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_unless(path: &Path, stop: &Stop) -> Result<Store, Error> {
        let (conn, upgrade) = KIND.open_writer(path, stop)?;
        let memory = Memory {
            blocks: Recent::new(REMEMBERED),
            nodes: Recent::new(REMEMBERED),
            packer: Packer::new(),
            prunes: 0,
        };
        Ok(Store { conn, path: path.to_path_buf(), memory, swept_at: 0, upgrade })
    }

    /// What was done when it was opened, if an older version had written it.
    #[must_use]
    pub fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_ref()
    }

    /// Append uploads in one transaction: all of them are on the disk when this returns, or none.
    /// `now_ms` (since the epoch) is the rows' `created_at`.
    ///
    /// # Errors
    /// See [`Error`]; nothing is stored then and the same call may be tried again.
    pub fn append(&mut self, uploads: &[Upload<'_>], now_ms: u64) -> Result<Vec<Appended>, Error> {
        let done = self.try_append(uploads, now_ms);
        if done.is_err() {
            // What was remembered may have been rolled back.
            self.memory.forget();
        }
        done.map_err(|fault| fault.at(&self.path))
    }

    fn try_append(&mut self, uploads: &[Upload<'_>], now_ms: u64) -> Result<Vec<Appended>, Fault> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let prunes = tx.query_row("SELECT prunes FROM state", [], |row| row.get(0))?;
        if prunes != self.memory.prunes {
            self.memory.forget();
            self.memory.prunes = prunes;
        }
        let sweep = now_ms.abs_diff(self.swept_at) >= SWEEP_MS;
        if sweep {
            let old = integer(now_ms.saturating_sub(KEY_LIFE_MS));
            tx.execute("DELETE FROM upload WHERE at <= ?", [old])?;
        }
        let mut done = Vec::with_capacity(uploads.len());
        {
            let mut writer = Writer::new(&tx, &mut self.memory, now_ms)?;
            for upload in uploads {
                done.push(writer.upload(upload)?);
            }
            writer.finish()?;
        }
        tx.commit()?;
        if sweep {
            self.swept_at = now_ms;
        }
        Ok(done)
    }
}

impl Memory {
    fn forget(&mut self) {
        self.blocks.clear();
        self.nodes.clear();
    }
}

/// Changes to the `refs` of one table, gathered over a transaction: a conversation's head is counted up and its
/// predecessor's too, again and again.
#[derive(Default)]
struct Refs(HashMap<i64, i64>);

impl Refs {
    fn add(&mut self, id: i64) {
        *self.0.entry(id).or_default() += 1;
    }

    fn flush(&mut self, tx: &Transaction<'_>, table: &str) -> Result<(), Fault> {
        let mut update = tx.prepare_cached(&format!("UPDATE {table} SET refs = refs + ? WHERE id = ?"))?;
        // Ascending: neighbours share a page.
        let mut changes: Vec<_> = self.0.drain().collect();
        changes.sort_unstable();
        for (id, change) in changes {
            update.execute([change, id])?;
        }
        Ok(())
    }
}

/// What is known of an upload so far.
struct Known<'b> {
    /// By piece.
    blocks: Vec<Option<i64>>,
    before: Option<&'b Parsed>,
    /// By list, the nodes of the event before; as many as it has steps.
    chains: [Vec<i64>; 4],
}

/// One transaction's statements and counts.
struct Writer<'t> {
    tx: &'t Transaction<'t>,
    memory: &'t mut Memory,
    now_ms: u64,
    words: HashMap<String, i64>,
    word_refs: Refs,
    block_refs: Refs,
    node_refs: Refs,
    find_block: CachedStatement<'t>,
    new_block: CachedStatement<'t>,
    new_key: CachedStatement<'t>,
    find_node: CachedStatement<'t>,
    new_node: CachedStatement<'t>,
    new_row: CachedStatement<'t>,
}

impl<'t> Writer<'t> {
    fn new(tx: &'t Transaction<'_>, memory: &'t mut Memory, now_ms: u64) -> Result<Writer<'t>, Fault> {
        Ok(Writer {
            tx,
            memory,
            now_ms,
            words: HashMap::new(),
            word_refs: Refs::default(),
            block_refs: Refs::default(),
            node_refs: Refs::default(),
            find_block: tx.prepare_cached("SELECT block FROM block_key WHERE hash = ?")?,
            new_block: tx.prepare_cached("INSERT INTO block (refs, size, data) VALUES (0, ?, ?)")?,
            new_key: tx.prepare_cached("INSERT INTO block_key VALUES (?, ?)")?,
            find_node: tx.prepare_cached("SELECT id FROM node WHERE parent = ? AND block = ? AND lead = ?")?,
            new_node: tx.prepare_cached(
                "INSERT INTO node (parent, block, lead, message, refs) VALUES (?, ?, ?, ?, 0)",
            )?,
            new_row: tx.prepare_cached(
                "INSERT INTO activity (member, ts, created_at, kind, provider, session, objective, model, duration,
                 status, failed, tools, input, output, cache_creation, cache_read, size, added, system, offered,
                 messages, answer, skeleton_size, skeleton)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?,
        })
    }

    fn upload(&mut self, upload: &Upload<'_>) -> Result<Appended, Fault> {
        let Upload { member, batch, key } = *upload;
        let accepted = batch.len() as u64;
        if let Some(key) = key {
            let known = "SELECT accepted FROM upload WHERE member = ? AND key = ? AND at > ?";
            let since = integer(self.now_ms.saturating_sub(KEY_LIFE_MS));
            let before: Option<i64> =
                self.tx.query_row(known, params![member, key, since], |row| row.get(0)).optional()?;
            if let Some(before) = before {
                let accepted = u64::try_from(before).unwrap_or_default();
                return Ok(Appended { accepted, ids: Vec::new(), replayed: true });
            }
            let row = params![member, key, integer(self.now_ms), integer(accepted)];
            self.tx.execute("REPLACE INTO upload VALUES (?, ?, ?, ?)", row)?;
        }
        let mut known =
            Known { blocks: vec![None; batch.pieces.len()], before: None, chains: Default::default() };
        let mut ids = Vec::with_capacity(batch.len());
        for event in &batch.events {
            ids.push(self.event(member, batch, event, &mut known)?);
            known.before = Some(event);
        }
        Ok(Appended { accepted, ids, replayed: false })
    }

    fn event<'b>(
        &mut self,
        member: &str,
        batch: &'b Batch,
        event: &'b Parsed,
        known: &mut Known<'b>,
    ) -> Result<i64, Fault> {
        let mut added = ROW_BYTES + event.skeleton.len() as i64;
        let mut heads = [0; 4];
        for list in List::ALL {
            heads[list as usize] = self.chain(batch, &event.lists[list as usize], list, known, &mut added)?;
        }
        let facts = &event.facts;
        let member = self.word(member)?;
        let session = facts.session.as_deref().map(|w| self.word(w)).transpose()?;
        let objective = facts.objective.as_deref().map(|w| self.word(w)).transpose()?;
        let model = facts.model.as_deref().map(|w| self.word(w)).transpose()?;
        self.new_row.execute(params![
            member,
            facts.ts,
            integer(self.now_ms),
            facts.kind,
            facts.provider,
            session,
            objective,
            model,
            facts.duration,
            facts.status,
            facts.failed,
            facts.tools,
            facts.input,
            facts.output,
            facts.cache_creation,
            facts.cache_read,
            event.span.range().len() as i64,
            added,
            heads[0],
            heads[1],
            heads[2],
            heads[3],
            event.skeleton_size as i64,
            event.skeleton,
        ])?;
        Ok(self.tx.last_insert_rowid())
    }

    /// The head of a list's chain, 0 for an empty one.
    ///
    /// A system prompt is chained from its end: what changes from call to call is its first part.
    fn chain(
        &mut self,
        batch: &Batch,
        steps: &[Step],
        list: List,
        known: &mut Known<'_>,
        added: &mut i64,
    ) -> Result<i64, Fault> {
        // From its beginning on it is mostly the chain of the event before.
        let before = known.before.map_or(&[][..], |event| &event.lists[list as usize]);
        let backwards = list == List::System;
        let mut same = 0;
        if !backwards {
            same = steps.iter().zip(before).take_while(|(a, b)| a == b).count();
        }
        let chain = &mut known.chains[list as usize];
        chain.truncate(same);
        let mut head = chain.last().copied().unwrap_or_default();
        for i in same..steps.len() {
            let step = if backwards { steps[steps.len() - 1 - i] } else { steps[i] };
            let lead = self.block(batch, step.lead, &mut known.blocks, added)?;
            let block = self.block(batch, step.block, &mut known.blocks, added)?;
            head = self.node(head, lead, block, step.message, added)?;
            chain.push(head);
        }
        if head != 0 {
            self.node_refs.add(head);
        }
        Ok(head)
    }

    fn node(
        &mut self,
        parent: i64,
        lead: i64,
        block: i64,
        message: u32,
        added: &mut i64,
    ) -> Result<i64, Fault> {
        if let Some(id) = self.memory.nodes.get(&(parent, lead, block)) {
            return Ok(id);
        }
        let found = self.find_node.query_row([parent, block, lead], |row| row.get(0)).optional()?;
        let id = if let Some(id) = found {
            id
        } else {
            self.new_node.execute(params![parent, block, lead, message])?;
            *added += NODE_BYTES;
            if parent != 0 {
                self.node_refs.add(parent);
            }
            self.block_refs.add(lead);
            self.block_refs.add(block);
            self.tx.last_insert_rowid()
        };
        self.memory.nodes.put((parent, lead, block), id);
        Ok(id)
    }

    /// The id of a batch's piece.
    fn block(
        &mut self,
        batch: &Batch,
        piece: u32,
        blocks: &mut [Option<i64>],
        added: &mut i64,
    ) -> Result<i64, Fault> {
        let slot = &mut blocks[piece as usize];
        if let Some(id) = *slot {
            return Ok(id);
        }
        let piece = &batch.pieces[piece as usize];
        let remembered = self.memory.blocks.get(&piece.hash);
        let found = match remembered {
            Some(id) => Some(id),
            None => self.find_block.query_row([piece.hash], |row| row.get(0)).optional()?,
        };
        let id = if let Some(id) = found {
            id
        } else {
            let raw = piece.raw(&batch.text);
            let packed;
            let data = if let Some(data) = &piece.packed {
                data
            } else {
                packed = self.memory.packer.pack(raw.as_bytes());
                &packed
            };
            self.new_block.execute(params![raw.len() as i64, data])?;
            let id = self.tx.last_insert_rowid();
            self.new_key.execute(params![piece.hash, id])?;
            *added += BLOCK_BYTES + data.len() as i64;
            id
        };
        if remembered.is_none() {
            self.memory.blocks.put(piece.hash, id);
        }
        *slot = Some(id);
        Ok(id)
    }

    fn word(&mut self, text: &str) -> Result<i64, Fault> {
        let id = if let Some(id) = self.words.get(text) {
            *id
        } else {
            let found = self
                .tx
                .query_row("SELECT id FROM word WHERE text = ?", [text], |row| row.get(0))
                .optional()?;
            let id = if let Some(id) = found {
                id
            } else {
                self.tx.execute("INSERT INTO word (text, refs) VALUES (?, 0)", [text])?;
                self.tx.last_insert_rowid()
            };
            self.words.insert(text.to_string(), id);
            id
        };
        self.word_refs.add(id);
        Ok(id)
    }

    fn finish(mut self) -> Result<(), Fault> {
        self.word_refs.flush(self.tx, "word")?;
        self.block_refs.flush(self.tx, "block")?;
        self.node_refs.flush(self.tx, "node")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Parser;
    use super::{Store, Upload};
    use crate::store::Error;
    use crate::sys::random;

    #[test]
    fn a_full_disk_is_called_that_and_costs_only_what_it_must() {
        let folder = std::env::temp_dir().join(format!("ac7-full-{}", random::hex::<8>()));
        let path = folder.join("a.db");
        let mut store = Store::open(&path).unwrap();
        let parser = Parser::new();
        let event = |ts: u64, text: &str| {
            format!(r#"{{"kind":"objective_open","ts":{ts},"objectiveId":"{}"}}"#, text.repeat(3))
        };
        let large = parser.events([event(1, &random::hex::<30_000>()).as_str()]).unwrap();
        let small = parser.events([event(2, "o").as_str()]).unwrap();
        let limit = |store: &Store, pages: i64| {
            store.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        };
        limit(&store, 20);
        let upload = |batch| [Upload { member: "ann", batch, key: Some("k") }];
        assert_eq!(store.append(&upload(&large), 1), Err(Error::Full { path: path.clone() }));
        assert_eq!(store.append(&upload(&small), 1).unwrap()[0].ids, [1]);
        limit(&store, 1000);
        assert!(store.append(&upload(&large), 1).unwrap()[0].replayed, "the key went with the second upload");
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
