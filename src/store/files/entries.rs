//! The tree of files in the main database: one row for each file and each folder.
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::blobs::Hash;
use super::path::FsPath;
use crate::store::column::uint;
use crate::store::main::integer;

/// A file or a folder. Times are ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(super) id: i64,
    pub path: String,
    /// Whose home it is in.
    pub owner: String,
    /// `None` for a folder.
    pub file: Option<FileFacts>,
    pub created: u64,
    pub created_by: String,
    pub updated: u64,
}

/// What a file has and a folder has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFacts {
    pub hash: Hash,
    pub size: u64,
    pub mime: String,
}

impl Entry {
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

const COLUMNS: &str = "id, path, owner, hash, size, mime, created, created_by, updated";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let hash: Option<Hash> = row.get(3)?;
    let facts = |hash| Ok::<_, rusqlite::Error>(FileFacts { hash, size: uint(row, 4)?, mime: row.get(5)? });
    Ok(Entry {
        id: row.get(0)?,
        path: row.get(1)?,
        owner: row.get(2)?,
        file: hash.map(facts).transpose()?,
        created: uint(row, 6)?,
        created_by: row.get(7)?,
        updated: uint(row, 8)?,
    })
}

/// What is at a path.
pub(super) fn find(db: &Connection, path: &str) -> rusqlite::Result<Option<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM fs_entry WHERE path = ?");
    db.prepare(&sql)?.query_row([path], entry).optional()
}

/// What is in a folder, by name.
pub(super) fn children(db: &Connection, folder: &str) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM fs_entry WHERE parent = ? ORDER BY path");
    db.prepare(&sql)?.query_map([folder], entry)?.collect()
}

/// Those entries outside of a member's home whose ids a query gives in which `?1` is the member, by path.
pub(super) fn among_others(db: &Connection, member: &str, ids: &str) -> rusqlite::Result<Vec<Entry>> {
    let sql = format!("SELECT {COLUMNS} FROM fs_entry WHERE owner <> ?1 AND id IN ({ids}) ORDER BY path");
    db.prepare(&sql)?.query_map([member], entry)?.collect()
}

/// Bytes and entries in a member's home.
pub(super) fn used(db: &Connection, owner: &str) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT coalesce(sum(size), 0), count(*) FROM fs_entry WHERE owner = ?";
    db.prepare(sql)?.query_row([owner], |row| Ok((uint(row, 0)?, uint(row, 1)?)))
}

/// Add a file, or a folder where `file` is `None`.
pub(super) fn add(
    db: &Connection,
    path: &FsPath,
    file: Option<&FileFacts>,
    by: &str,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO fs_entry (path, parent, owner, hash, size, mime, created, created_by, updated)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?7)";
    let folder = path.parent();
    let values = params![
        path.as_str(),
        folder.as_str(),
        path.owner(),
        file.map(|f| f.hash),
        file.map(|f| integer(f.size)),
        file.map(|f| f.mime.as_str()),
        integer(now_ms),
        by,
    ];
    db.prepare(sql)?.execute(values).map(drop)
}

/// Give a file another content.
pub(super) fn replace(db: &Connection, id: i64, file: &FileFacts, now_ms: u64) -> rusqlite::Result<()> {
    let sql = "UPDATE fs_entry SET hash = ?, size = ?, mime = ?, updated = ? WHERE id = ?";
    let values = params![file.hash, integer(file.size), file.mime, integer(now_ms), id];
    db.prepare(sql)?.execute(values).map(drop)
}

/// Rows of everything at and below a path: `0` is the character after `/`.
const TREE: &str = "(path = ?1 OR (path > ?1 || '/' AND path < ?1 || '0'))";

/// Everything at and below a path.
pub(super) struct Tree {
    /// Bytes of the longest path.
    pub longest: usize,
    /// Bytes of all files.
    pub bytes: u64,
    pub count: u64,
}

/// Measure everything at and below a path.
pub(super) fn measure(db: &Connection, path: &FsPath) -> rusqlite::Result<Tree> {
    let sql = format!(
        "SELECT coalesce(max(length(path)), 0), coalesce(sum(size), 0), count(*) FROM fs_entry WHERE {TREE}"
    );
    db.query_row(&sql, [path.as_str()], |row| {
        Ok(Tree { longest: uint(row, 0)?, bytes: uint(row, 1)?, count: uint(row, 2)? })
    })
}

/// Move everything at and below a path to another path, where nothing is.
pub(super) fn rename(db: &Connection, from: &FsPath, to: &FsPath, now_ms: u64) -> rusqlite::Result<()> {
    let sql = format!(
        "UPDATE fs_entry SET path = ?2 || substr(path, length(?1) + 1), owner = ?3,
             parent = CASE path WHEN ?1 THEN ?4 ELSE ?2 || substr(parent, length(?1) + 1) END,
             updated = CASE path WHEN ?1 THEN ?5 ELSE updated END
         WHERE {TREE}"
    );
    let folder = to.parent();
    let values = params![from.as_str(), to.as_str(), to.owner(), folder.as_str(), integer(now_ms)];
    db.execute(&sql, values).map(drop)
}

/// Remove everything at and below a path. Gives the contents that it had.
pub(super) fn remove(db: &Connection, path: &FsPath) -> rusqlite::Result<Vec<Hash>> {
    let sql = format!("SELECT DISTINCT hash FROM fs_entry WHERE {TREE} AND hash IS NOT NULL");
    let hashes = db.prepare(&sql)?.query_map([path.as_str()], |row| row.get(0))?.collect();
    db.execute(&format!("DELETE FROM fs_entry WHERE {TREE}"), [path.as_str()])?;
    hashes
}

/// The contents of a member's home.
pub(super) fn contents(db: &Connection, owner: &str) -> rusqlite::Result<Vec<Hash>> {
    let sql = "SELECT DISTINCT hash FROM fs_entry WHERE owner = ? AND hash IS NOT NULL";
    db.prepare(sql)?.query_map([owner], |row| row.get(0))?.collect()
}

/// Whether a file has this content.
pub(super) fn refers(db: &Connection, hash: &Hash) -> rusqlite::Result<bool> {
    db.prepare("SELECT 1 FROM fs_entry WHERE hash = ?")?.exists([hash])
}

/// Forget a member's home.
pub(in crate::store) fn forget(db: &Connection, member: &str) -> rusqlite::Result<()> {
    db.execute("DELETE FROM fs_entry WHERE owner = ?", [member]).map(drop)
}
