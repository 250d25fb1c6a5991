//! Reading rows, beside a writer if there is one.
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rusqlite::{Connection, OptionalExtension, Statement, params, params_from_iter};

use super::facts;
use super::query::{self, COLUMNS, Cursor, Query, Select};
use super::schema::KIND;
use super::search::Search;
use super::skeleton;
use super::walk::List;
use crate::activity::Provider;
use crate::store::column::uint;
use crate::store::error::{Error, Fault};
use crate::store::pack::unpack;

/// Bytes of blocks kept while rows are put together, which mostly have them in common.
const KEPT_BYTES: usize = 16 << 20;

/// Nodes kept likewise.
const KEPT_NODES: usize = 100_000;

/// Bytes that one text search looks through before it hands on to the next call.
const SEARCHED_BYTES: usize = 64 << 20;

/// A connection that only reads. It belongs to one thread; any number may exist, in any process.
pub struct Reader {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Ascends with every row stored; never used again.
    pub id: i64,
    pub member: String,
    /// When it was stored, ms since the epoch.
    pub created_at: u64,
    /// One of [`crate::activity::KINDS`].
    pub kind: &'static str,
    /// Whose wire a model call speaks.
    pub provider: Option<Provider>,
    /// The event's JSON, byte for byte as it came.
    pub event: String,
}

/// How a call relates to an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continues {
    /// The earlier row.
    pub id: i64,
    /// So many of the first messages are the same in both.
    pub messages: u64,
}

impl Reader {
    /// Open a database for reading.
    ///
    /// # Errors
    /// See [`Error`]; `Missing` where nothing was ever stored.
    pub fn open(path: &Path) -> Result<Reader, Error> {
        Ok(Reader { conn: KIND.open_reader(path)?, path: path.to_path_buf() })
    }

    pub(super) fn at<T>(&self, result: Result<T, Fault>) -> Result<T, Error> {
        result.map_err(|fault| fault.at(&self.path))
    }

    /// Give the rows of a query to `each`, newest first by the event's `ts`, until it breaks off. They are of one
    /// state of the database, which is held until this returns: `each` should not wait for a slow peer.
    ///
    /// Returns where to go on, if there is more. A text search also stops, with a place to go on, after having
    /// looked through 64 MB, which may be before the first row.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn list(
        &self,
        query: &Query,
        each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<Option<Cursor>, Error> {
        let mut each = each;
        self.at(self.try_list(query, |pieces, stored| Ok(each(pieces.row(stored)?))))
    }

    pub(super) fn try_list(
        &self,
        query: &Query,
        mut each: impl FnMut(&mut Pieces<'_>, &Stored) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<Option<Cursor>, Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let Select { sql, parameters } = query::newest(query, &tx)?;
        let mut select = tx.prepare(&sql)?;
        let mut rows = select.query(params_from_iter(parameters))?;
        let mut pieces = Pieces::new(&tx)?;
        let mut search = query.text.as_deref().map(Search::new);
        let (mut left, mut last) = (query.limit, None);
        while let Some(row) = rows.next()? {
            if left == 0 || search.as_ref().is_some_and(|s| s.searched > SEARCHED_BYTES) {
                return Ok(last);
            }
            let stored = Stored::read(row)?;
            last = Some(Cursor { ts: stored.ts, id: stored.id });
            if let Some(search) = &mut search
                && !search.matches(&stored, &mut pieces)?
            {
                continue;
            }
            left -= 1;
            if each(&mut pieces, &stored)?.is_break() {
                left = 0;
            }
        }
        Ok(None)
    }

    /// Give the rows stored after row `after` to `each`, in the order in which they were stored, until it breaks off.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn follow(
        &self,
        after: i64,
        member: Option<&str>,
        mut each: impl FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.at(self.try_follow(after, member, |pieces, stored| Ok(each(pieces.row(stored)?))))
    }

    pub(super) fn try_follow(
        &self,
        after: i64,
        member: Option<&str>,
        mut each: impl FnMut(&mut Pieces<'_>, &Stored) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let tx = self.conn.unchecked_transaction()?;
        let Select { sql, parameters } = query::since(&tx, member, after)?;
        let mut select = tx.prepare(&sql)?;
        let mut rows = select.query(params_from_iter(parameters))?;
        let mut pieces = Pieces::new(&tx)?;
        while let Some(row) = rows.next()? {
            if each(&mut pieces, &Stored::read(row)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// One row.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, id: i64) -> Result<Option<Row>, Error> {
        let get = || {
            let tx = self.conn.unchecked_transaction()?;
            let sql = format!("SELECT {COLUMNS} FROM activity a WHERE a.id = ?");
            let stored = tx.query_row(&sql, [id], Stored::read).optional()?;
            stored.map(|stored| Pieces::new(&tx)?.row(&stored)).transpose()
        };
        self.at(get())
    }

    /// The highest id in use, 0 for none: where [`Reader::follow`] begins for what comes from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn last_id(&self) -> Result<i64, Error> {
        let sql = "SELECT coalesce(max(id), 0) FROM activity";
        self.at(self.conn.query_row(sql, [], |row| row.get(0)).map_err(Fault::from))
    }

    /// The session that made the newest model call, of this member if one is named.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn last_session(&self, member: Option<&str>) -> Result<Option<String>, Error> {
        let last = || {
            let mut sql = String::from("SELECT word.text FROM activity a JOIN word ON word.id = a.session");
            let mut parameters = Vec::new();
            if let Some(member) = member {
                sql.push_str(" WHERE a.member = ?");
                parameters.push(query::word(&self.conn, member)?.unwrap_or(0));
            }
            sql.push_str(" ORDER BY a.ts DESC, a.id DESC LIMIT 1");
            Ok(self.conn.query_row(&sql, params_from_iter(parameters), |row| row.get(0)).optional()?)
        };
        self.at(last())
    }

    /// How many of the first messages two calls have in common, by comparing their chains; `None` if a row is not
    /// there.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn shared_messages(&self, id: i64, other: i64) -> Result<Option<u64>, Error> {
        let shared = || {
            let tx = self.conn.unchecked_transaction()?;
            let mut pieces = Pieces::new(&tx)?;
            let (Some(one), Some(other)) = (messages(&tx, id)?, messages(&tx, other)?) else {
                return Ok(None);
            };
            pieces.shared(one, other).map(Some)
        };
        self.at(shared())
    }

    /// The call that this one continues: of the same session's 16 calls before it, the one with which it shares most
    /// messages (subagents of a session call in between), the latest of equals. `None` without a session, or if
    /// there is no call before it or none that shares a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn continues(&self, id: i64) -> Result<Option<Continues>, Error> {
        let continues = || {
            let tx = self.conn.unchecked_transaction()?;
            let Some(head) = messages(&tx, id)? else { return Ok(None) };
            let mut pieces = Pieces::new(&tx)?;
            let mut before = tx.prepare(
                "SELECT b.id, b.messages FROM activity a JOIN activity b
                 ON b.session = a.session AND b.ts <= a.ts
                 WHERE a.id = ? AND (b.ts < a.ts OR b.id < a.id) AND b.member = a.member AND b.messages > 0
                 ORDER BY b.ts DESC, b.id DESC LIMIT 16",
            )?;
            let mut best: Option<Continues> = None;
            let mut rows = before.query([id])?;
            while let Some(row) = rows.next()? {
                let messages = pieces.shared(head, row.get(1)?)?;
                if messages > best.map_or(0, |b| b.messages) {
                    best = Some(Continues { id: row.get(0)?, messages });
                }
            }
            Ok(best)
        };
        self.at(continues())
    }
}

fn messages(conn: &Connection, id: i64) -> Result<Option<i64>, Fault> {
    let sql = "SELECT messages FROM activity WHERE id = ?";
    Ok(conn.query_row(sql, [id], |row| row.get(0)).optional()?)
}

/// A row of the table.
pub(super) struct Stored {
    pub id: i64,
    ts: i64,
    member: i64,
    created_at: u64,
    kind: i64,
    provider: Option<i64>,
    pub size: usize,
    pub heads: [i64; 4],
    pub skeleton_size: usize,
    pub skeleton: Vec<u8>,
}

impl Stored {
    /// From the columns [`COLUMNS`].
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
        Ok(Stored {
            id: row.get(0)?,
            ts: row.get(1)?,
            member: row.get(2)?,
            created_at: uint(row, 3)?,
            kind: row.get(4)?,
            provider: row.get(5)?,
            size: uint(row, 6)?,
            heads: [row.get(7)?, row.get(8)?, row.get(9)?, row.get(10)?],
            skeleton_size: uint(row, 11)?,
            skeleton: row.get(12)?,
        })
    }
}

/// A step of a chain.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub id: i64,
    pub parent: i64,
    pub block: i64,
    pub lead: i64,
    pub message: u64,
}

/// Nodes, blocks and words, with a memory for what rows have in common.
pub(super) struct Pieces<'c> {
    node: Statement<'c>,
    block: Statement<'c>,
    word: Statement<'c>,
    nodes: HashMap<i64, Node>,
    blocks: HashMap<i64, Rc<str>>,
    block_bytes: usize,
    words: HashMap<i64, String>,
}

impl<'c> Pieces<'c> {
    pub(super) fn new(conn: &'c Connection) -> Result<Pieces<'c>, Fault> {
        Ok(Pieces {
            node: conn.prepare("SELECT parent, block, lead, message FROM node WHERE id = ?")?,
            block: conn.prepare("SELECT size, data FROM block WHERE id = ?")?,
            word: conn.prepare("SELECT text FROM word WHERE id = ?")?,
            nodes: HashMap::new(),
            blocks: HashMap::new(),
            block_bytes: 0,
            words: HashMap::new(),
        })
    }

    pub(super) fn node(&mut self, id: i64) -> Result<Node, Fault> {
        if let Some(node) = self.nodes.get(&id) {
            return Ok(*node);
        }
        let node = self
            .node
            .query_row([id], |row| {
                Ok(Node {
                    id,
                    parent: row.get(0)?,
                    block: row.get(1)?,
                    lead: row.get(2)?,
                    message: uint(row, 3)?,
                })
            })
            .optional()?
            .ok_or_else(|| Fault::Damaged(format!("node {id} is missing")))?;
        if self.nodes.len() >= KEPT_NODES {
            self.nodes.clear();
        }
        self.nodes.insert(id, node);
        Ok(node)
    }

    /// How many messages are wholly the same in two chains: up to the step that both have in common, without the
    /// message that one of them goes on with.
    pub(super) fn shared(&mut self, one: i64, other: i64) -> Result<u64, Fault> {
        let (mut at, mut next) = ([one, other], [None; 2]);
        while at[0] != at[1] {
            // A child is always younger than its parent: the younger one cannot be in common.
            let younger = usize::from(at[1] > at[0]);
            let node = self.node(at[younger])?;
            at[younger] = node.parent.min(at[younger] - 1);
            next[younger] = Some(node.message);
        }
        let whole = self.messages(at[0])?;
        Ok(next.into_iter().flatten().fold(whole, u64::min))
    }

    /// How many messages a chain has.
    pub(super) fn messages(&mut self, head: i64) -> Result<u64, Fault> {
        Ok(if head == 0 { 0 } else { self.node(head)?.message + 1 })
    }

    /// A chain from its start to `head`.
    pub(super) fn chain(&mut self, head: i64) -> Result<Vec<Node>, Fault> {
        let mut chain = Vec::new();
        let mut at = head;
        while at != 0 {
            let node = self.node(at)?;
            // A child is always younger, so that damage cannot make this go round for ever.
            if node.parent >= at {
                return Err(Fault::Damaged(format!("node {at} comes after its child")));
            }
            chain.push(node);
            at = node.parent;
        }
        chain.reverse();
        Ok(chain)
    }

    pub(super) fn block(&mut self, id: i64) -> Result<Rc<str>, Fault> {
        if let Some(text) = self.blocks.get(&id) {
            return Ok(text.clone());
        }
        let found = self.block.query_row(params![id], |row| {
            let size = uint(row, 0)?;
            Ok(unpack(row.get_ref(1)?.as_blob()?, size))
        });
        let text: Rc<str> = found
            .optional()?
            .flatten()
            .and_then(|raw| String::from_utf8(raw).ok())
            .ok_or_else(|| Fault::Damaged(format!("block {id} cannot be read back")))?
            .into();
        if self.block_bytes + text.len() > KEPT_BYTES {
            self.blocks.clear();
            self.block_bytes = 0;
        }
        self.block_bytes += text.len();
        self.blocks.insert(id, text.clone());
        Ok(text)
    }

    fn word(&mut self, id: i64) -> Result<String, Fault> {
        if let Some(text) = self.words.get(&id) {
            return Ok(text.clone());
        }
        let text: String = self.word.query_row([id], |row| row.get(0))?;
        self.words.insert(id, text.clone());
        Ok(text)
    }

    /// A row's skeleton as text.
    pub(super) fn skeleton(stored: &Stored) -> Result<String, Fault> {
        unpack(&stored.skeleton, stored.skeleton_size)
            .and_then(|raw| String::from_utf8(raw).ok())
            .ok_or_else(|| Fault::Damaged(format!("row {} cannot be read back", stored.id)))
    }

    /// The event's JSON.
    pub(super) fn event(&mut self, stored: &Stored) -> Result<String, Fault> {
        let skeleton = Pieces::skeleton(stored)?;
        let event = skeleton::fill(&skeleton, stored.size, |list, write| {
            let mut chain = self.chain(stored.heads[list as usize])?;
            if list == List::System {
                chain.reverse();
            }
            for node in chain {
                let (lead, block) = (self.block(node.lead)?, self.block(node.block)?);
                write(&lead, &block);
            }
            Ok::<(), Fault>(())
        })?;
        let damaged = || Fault::Damaged(format!("row {} does not fit its blocks", stored.id));
        event.filter(|event| event.len() == stored.size).ok_or_else(damaged)
    }

    pub(super) fn row(&mut self, stored: &Stored) -> Result<Row, Fault> {
        let event = self.event(stored)?;
        self.row_of(stored, event)
    }

    /// A row with this text as its event.
    pub(super) fn row_of(&mut self, stored: &Stored, event: String) -> Result<Row, Fault> {
        let damaged = || Fault::Damaged(format!("row {} has an unknown kind", stored.id));
        Ok(Row {
            id: stored.id,
            member: self.word(stored.member)?,
            created_at: stored.created_at,
            kind: facts::kind(stored.kind).ok_or_else(damaged)?,
            provider: facts::provider(stored.provider),
            event,
        })
    }
}
