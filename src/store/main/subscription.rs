//! Subscriptions of browsers to web push: where a member's notices go.
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Store, integer};
use crate::store::column::uint;
use crate::store::error::Error;
use crate::sys::random;

/// Subscriptions of one member; the oldest go for new ones.
const MOST: i64 = 20;

/// A browser's subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The URL of its push service.
    pub endpoint: String,
    /// The browser's public key.
    pub p256dh: Vec<u8>,
    pub auth: [u8; 16],
}

impl Store {
    /// Keep a subscription of a member that was made with the broker's public key `key`. One endpoint is one browser: it
    /// is kept once, for whoever was there last. Gives its id, and when it was first kept for this member.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn subscribe(
        &self,
        member: &str,
        new: &Subscription,
        key: &str,
        now_ms: u64,
    ) -> Result<(String, u64), Error> {
        self.write(|tx| {
            let sql = "SELECT uid, created FROM push_subscription WHERE endpoint = ? AND member = ?";
            let known: Option<(String, u64)> = tx
                .query_row(sql, [&new.endpoint, member], |row| Ok((row.get(0)?, uint(row, 1)?)))
                .optional()?;
            let (uid, created) = known.unwrap_or_else(|| (random::uuid(), now_ms));
            tx.execute("DELETE FROM push_subscription WHERE endpoint = ?", [&new.endpoint])?;
            tx.execute(
                "INSERT INTO push_subscription (uid, member, endpoint, p256dh, auth, key, created)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![uid, member, new.endpoint, new.p256dh, new.auth, key, integer(created)],
            )?;
            let sql = "DELETE FROM push_subscription WHERE id IN (SELECT id FROM push_subscription
                       WHERE member = ? ORDER BY id DESC LIMIT -1 OFFSET ?)";
            tx.execute(sql, params![member, MOST])?;
            Ok((uid, created))
        })
    }

    /// End a subscription of a member; gives whether there was one.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn unsubscribe(&self, member: &str, uid: &str) -> Result<bool, Error> {
        let sql = "DELETE FROM push_subscription WHERE uid = ? AND member = ?";
        self.write(|tx| Ok(tx.execute(sql, [uid, member])? > 0))
    }

    /// The subscriptions of a member that were made with the public key `key`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn subscriptions(&self, member: &str, key: &str) -> Result<Vec<Subscription>, Error> {
        self.with(|conn| {
            let sql = "SELECT endpoint, p256dh, auth FROM push_subscription WHERE member = ? AND key = ?";
            let mut select = conn.prepare(sql)?;
            let rows = select.query_map([member, key], |row| {
                Ok(Subscription { endpoint: row.get(0)?, p256dh: row.get(1)?, auth: row.get(2)? })
            })?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Whether the subscription is still a member's.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn is_subscribed(&self, member: &str, endpoint: &str) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM push_subscription WHERE endpoint = ? AND member = ?";
        self.with(|conn| Ok(conn.prepare(sql)?.exists([endpoint, member])?))
    }

    /// An endpoint is gone.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn drop_subscription(&self, endpoint: &str) -> Result<(), Error> {
        self.write(|tx| tx.execute("DELETE FROM push_subscription WHERE endpoint = ?", [endpoint]).map(drop))
    }

    /// Forget all subscriptions but those made with `key`. Gives how many there were.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn drop_subscriptions_but(&self, key: &str) -> Result<usize, Error> {
        self.write(|tx| tx.execute("DELETE FROM push_subscription WHERE key <> ?", [key]))
    }
}

pub(super) fn forget(tx: &Transaction<'_>, member: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM push_subscription WHERE member = ?", [member]).map(drop)
}
