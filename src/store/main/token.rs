//! When tokens were last used.
use std::collections::HashMap;

use rusqlite::{Transaction, params};

use super::{Store, integer};
use crate::store::column::uint;
use crate::store::error::Error;

impl Store {
    /// Note when tokens, by id, were last used, in ms since the epoch. All of it is one transaction.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn tokens_used(&self, used: &[(String, u64)]) -> Result<(), Error> {
        self.write(|tx| {
            let sql = "INSERT INTO token (id, used) VALUES (?, ?)
                       ON CONFLICT (id) DO UPDATE SET used = max(used, excluded.used)";
            let mut insert = tx.prepare(sql)?;
            used.iter().try_for_each(|(id, at)| insert.execute(params![id, integer(*at)]).map(drop))
        })
    }

    /// When each token was last used, by id.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn token_uses(&self) -> Result<HashMap<String, u64>, Error> {
        self.with(|conn| {
            let mut select = conn.prepare("SELECT id, used FROM token")?;
            let rows = select.query_map([], |row| Ok((row.get(0)?, uint(row, 1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// Forget the tokens that are not among `known`.
pub(super) fn sweep(tx: &Transaction<'_>, known: &[&str]) -> rusqlite::Result<()> {
    let mut select = tx.prepare("SELECT id FROM token")?;
    let ids = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let mut delete = tx.prepare("DELETE FROM token WHERE id = ?")?;
    ids.iter().filter(|id| !known.contains(&id.as_str())).try_for_each(|id| delete.execute([id]).map(drop))
}
