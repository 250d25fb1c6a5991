//! Channels, and who is in them. What may be done depends on what a channel is by then, so each change looks first, in
//! the same transaction.
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Store, integer};
use crate::store::column::uint;
use crate::store::error::{Error, Fault};
use crate::sys::random;
use crate::team::{Channel, ChannelMember, ChannelRole, ChannelSummary, GENERAL};

/// Channels that are not archived, of all members and of one who makes them.
const MOST: i64 = 1000;
const MOST_OF_ONE: i64 = 100;

/// Why nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoChange {
    /// There is no channel of that name.
    NoChannel,
    /// It is the channel that everybody is in, or would have its name.
    General,
    /// Another channel has this name.
    Taken,
    /// There are as many as may be, or as the one who asks may make.
    TooMany {
        most: i64,
        own: bool,
    },
    Archived,
    /// The one who asks may not.
    NotAllowed,
    /// The member is not in the channel.
    NotAMember,
    /// Its members would be left without an admin.
    LastAdmin,
}

/// Who changes a channel.
#[derive(Clone, Copy, Debug)]
pub struct Changer<'a> {
    pub name: &'a str,
    /// May do it without being the channel's admin.
    pub manages: bool,
}

/// A channel as its row has it, and the row.
struct Found {
    row: i64,
    channel: Channel,
}

impl Store {
    /// The channels where one can post, newest first, as `viewer` sees them. That everybody is in the first one is not
    /// in this database, so it has no members here, and `viewer` no role.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn channels(&self, viewer: &str) -> Result<Vec<ChannelSummary>, Error> {
        self.with(|conn| {
            let tx = conn.transaction()?;
            let mut select = tx.prepare(sql::OPEN)?;
            let found = select.query_map([], found)?.collect::<Result<Vec<_>, _>>()?;
            found.into_iter().map(|found| summary(&tx, found, viewer)).collect()
        })
    }

    /// A channel by its slug, as `viewer` sees it, with its members: admins first, then in the order of joining.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn channel(
        &self,
        slug: &str,
        viewer: &str,
    ) -> Result<Option<(ChannelSummary, Vec<ChannelMember>)>, Error> {
        self.with(|conn| {
            let tx = conn.transaction()?;
            let Some(found) = by_slug(&tx, slug)? else { return Ok(None) };
            Ok(Some(whole(&tx, found, viewer)?))
        })
    }

    /// Make a channel; who makes it is its admin.
    ///
    /// # Errors
    /// See [`Error`]; [`NoChange`].
    pub fn create_channel(
        &self,
        slug: &str,
        creator: &str,
        now_ms: u64,
    ) -> Result<Result<Channel, NoChange>, Error> {
        self.write_or(|tx| {
            if let Err(no) = free(tx, slug, None)? {
                return Ok(Err(no));
            }
            let counted: (i64, i64) =
                tx.prepare(sql::COUNT_OPEN)?.query_row([creator], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if counted.1 >= MOST_OF_ONE {
                return Ok(Err(NoChange::TooMany { most: MOST_OF_ONE, own: true }));
            }
            if counted.0 >= MOST {
                return Ok(Err(NoChange::TooMany { most: MOST, own: false }));
            }
            let channel = Channel {
                id: random::uuid(),
                slug: slug.to_string(),
                created_by: creator.to_string(),
                created_at: now_ms,
                archived_at: None,
            };
            tx.execute(
                "INSERT INTO channel (uid, slug, creator, created) VALUES (?, ?, ?, ?)",
                params![channel.id, slug, creator, integer(now_ms)],
            )?;
            join(tx, tx.last_insert_rowid(), creator, ChannelRole::Admin, now_ms)?;
            Ok(Ok(channel))
        })
    }

    /// Give a channel another slug.
    ///
    /// # Errors
    /// See [`Error`]; [`NoChange`].
    pub fn rename_channel(
        &self,
        slug: &str,
        new: &str,
        by: Changer<'_>,
    ) -> Result<Result<Channel, NoChange>, Error> {
        self.change_channel(slug, by, |tx, found| {
            if found.channel.archived_at.is_some() {
                return Ok(Err(NoChange::Archived));
            }
            if let Err(no) = free(tx, new, Some(found.row))? {
                return Ok(Err(no));
            }
            tx.execute("UPDATE channel SET slug = ? WHERE id = ?", params![new, found.row])?;
            Ok(Ok(Channel { slug: new.to_string(), ..found.channel }))
        })
    }

    /// Let nobody post in a channel any more. Its slug is free again.
    ///
    /// # Errors
    /// See [`Error`]; [`NoChange`].
    pub fn archive_channel(
        &self,
        slug: &str,
        by: Changer<'_>,
        now_ms: u64,
    ) -> Result<Result<Channel, NoChange>, Error> {
        self.change_channel(slug, by, |tx, found| {
            if found.channel.archived_at.is_some() {
                return Ok(Ok(found.channel));
            }
            tx.execute("UPDATE channel SET archived = ? WHERE id = ?", params![integer(now_ms), found.row])?;
            Ok(Ok(Channel { archived_at: Some(now_ms), ..found.channel }))
        })
    }

    /// Let a member into a channel, or give one who is there another role. Anybody may join, as a member; without a role
    /// one who is there keeps his own. Gives the channel as `by` sees it then.
    ///
    /// # Errors
    /// See [`Error`]; [`NoChange`].
    pub fn join_channel(
        &self,
        slug: &str,
        member: &str,
        role: Option<ChannelRole>,
        by: Changer<'_>,
        now_ms: u64,
    ) -> Result<Result<(ChannelSummary, Vec<ChannelMember>), NoChange>, Error> {
        self.write_or(|tx| {
            let Some(found) = by_slug(tx, slug)? else { return Ok(Err(NoChange::NoChannel)) };
            // Everybody is there already.
            if found.channel.id == GENERAL {
                return Ok(Ok(whole(tx, found, by.name)?));
            }
            let admin = by.manages || role_of(tx, found.row, by.name)? == Some(ChannelRole::Admin);
            if !admin && (member != by.name || role == Some(ChannelRole::Admin)) {
                return Ok(Err(NoChange::NotAllowed));
            }
            if found.channel.archived_at.is_some() {
                return Ok(Err(NoChange::Archived));
            }
            match (role_of(tx, found.row, member)?, role) {
                (None, role) => join(tx, found.row, member, role.unwrap_or(ChannelRole::Member), now_ms)?,
                (Some(ChannelRole::Admin), Some(ChannelRole::Member))
                    if is_last_admin(tx, found.row, member)? =>
                {
                    return Ok(Err(NoChange::LastAdmin));
                }
                (Some(_), Some(role)) => {
                    let sql = "UPDATE channel_member SET role = ? WHERE channel = ? AND member = ?";
                    tx.execute(sql, params![role.name(), found.row, member])?;
                }
                (Some(_), None) => {}
            }
            Ok(Ok(whole(tx, found, by.name)?))
        })
    }

    /// Let a member out of a channel. Gives the channel as `by` sees it then.
    ///
    /// # Errors
    /// See [`Error`]; [`NoChange`].
    pub fn leave_channel(
        &self,
        slug: &str,
        member: &str,
        by: Changer<'_>,
    ) -> Result<Result<(ChannelSummary, Vec<ChannelMember>), NoChange>, Error> {
        self.write_or(|tx| {
            let Some(found) = by_slug(tx, slug)? else { return Ok(Err(NoChange::NoChannel)) };
            if found.channel.id == GENERAL {
                return Ok(Err(NoChange::General));
            }
            let admin = by.manages || role_of(tx, found.row, by.name)? == Some(ChannelRole::Admin);
            if !admin && member != by.name {
                return Ok(Err(NoChange::NotAllowed));
            }
            match role_of(tx, found.row, member)? {
                None => return Ok(Err(NoChange::NotAMember)),
                Some(ChannelRole::Admin) if is_last_admin(tx, found.row, member)? => {
                    return Ok(Err(NoChange::LastAdmin));
                }
                Some(_) => {}
            }
            tx.execute(
                "DELETE FROM channel_member WHERE channel = ? AND member = ?",
                params![found.row, member],
            )?;
            Ok(Ok(whole(tx, found, by.name)?))
        })
    }

    /// What only an admin of the channel may do, and whoever manages members.
    fn change_channel(
        &self,
        slug: &str,
        by: Changer<'_>,
        change: impl FnOnce(&Transaction<'_>, Found) -> Result<Result<Channel, NoChange>, Fault>,
    ) -> Result<Result<Channel, NoChange>, Error> {
        self.write_or(|tx| {
            let Some(found) = by_slug(tx, slug)? else { return Ok(Err(NoChange::NoChannel)) };
            if found.channel.id == GENERAL {
                return Ok(Err(NoChange::General));
            }
            if !by.manages && role_of(tx, found.row, by.name)? != Some(ChannelRole::Admin) {
                return Ok(Err(NoChange::NotAllowed));
            }
            change(tx, found)
        })
    }
}

pub(super) mod sql {
    pub const OPEN: &str = "SELECT id, uid, slug, creator, created, archived FROM channel WHERE archived IS NULL ORDER BY id DESC";
    pub const OPEN_BY_SLUG: &str =
        "SELECT id, uid, slug, creator, created, archived FROM channel WHERE slug = ? AND archived IS NULL";
    pub const ARCHIVED_BY_SLUG: &str = "SELECT id, uid, slug, creator, created, archived FROM channel
                                        WHERE slug = ? ORDER BY archived DESC LIMIT 1";
    pub const ROLE: &str = "SELECT role FROM channel_member WHERE channel = ? AND member = ?";
    pub const COUNT_OPEN: &str = "SELECT count(*), coalesce(sum(creator = ?), 0) FROM channel INDEXED BY channel_open WHERE archived IS NULL";
    pub const COUNT: &str = "SELECT count(*) FROM channel_member WHERE channel = ?";
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let archived: Option<i64> = row.get(5)?;
    let channel = Channel {
        id: row.get(1)?,
        slug: row.get(2)?,
        created_by: row.get(3)?,
        created_at: uint(row, 4)?,
        archived_at: archived.map(|_| uint(row, 5)).transpose()?,
    };
    Ok(Found { row: row.get(0)?, channel })
}

/// The channel that has this slug; if none has it any more, the one that had it last.
fn by_slug(conn: &Connection, slug: &str) -> rusqlite::Result<Option<Found>> {
    let open = conn.prepare(sql::OPEN_BY_SLUG)?.query_row([slug], found).optional()?;
    match open {
        Some(open) => Ok(Some(open)),
        None => conn.prepare(sql::ARCHIVED_BY_SLUG)?.query_row([slug], found).optional(),
    }
}

/// Whether a channel may have this slug: no other open one has it.
fn free(conn: &Connection, slug: &str, but: Option<i64>) -> rusqlite::Result<Result<(), NoChange>> {
    if slug == GENERAL {
        return Ok(Err(NoChange::General));
    }
    let having = conn.prepare(sql::OPEN_BY_SLUG)?.query_row([slug], found).optional()?;
    let taken = having.is_some_and(|having| Some(having.row) != but);
    Ok(if taken { Err(NoChange::Taken) } else { Ok(()) })
}

fn role_of(conn: &Connection, row: i64, member: &str) -> Result<Option<ChannelRole>, Fault> {
    let mut select = conn.prepare(sql::ROLE)?;
    let name: Option<String> = select.query_row(params![row, member], |row| row.get(0)).optional()?;
    name.map(|name| role(&name)).transpose()
}

fn role(name: &str) -> Result<ChannelRole, Fault> {
    ChannelRole::from_name(name)
        .ok_or_else(|| Fault::Damaged(format!("a channel's member with the role {name}")))
}

/// Whether others would be left without an admin if `member` were none.
fn is_last_admin(conn: &Connection, row: i64, member: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*), coalesce(sum(role = 'admin'), 0) FROM channel_member
               WHERE channel = ? AND member <> ?";
    let (others, admins): (i64, i64) =
        conn.query_row(sql, params![row, member], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(others > 0 && admins == 0)
}

fn join(
    tx: &Transaction<'_>,
    row: i64,
    member: &str,
    role: ChannelRole,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO channel_member (channel, member, role, joined, since)
               VALUES (?, ?, ?, ?, (SELECT coalesce(max(id), 0) FROM message))";
    tx.execute(sql, params![row, member, role.name(), integer(now_ms)]).map(drop)
}

fn summary(conn: &Connection, found: Found, viewer: &str) -> Result<ChannelSummary, Fault> {
    let count: i64 = conn.prepare(sql::COUNT)?.query_row([found.row], |row| row.get(0))?;
    let members = usize::try_from(count).unwrap_or_default();
    let my_role = role_of(conn, found.row, viewer)?;
    Ok(ChannelSummary { channel: found.channel, my_role, members })
}

fn whole(
    conn: &Connection,
    found: Found,
    viewer: &str,
) -> Result<(ChannelSummary, Vec<ChannelMember>), Fault> {
    let sql =
        "SELECT member, role, joined FROM channel_member WHERE channel = ? ORDER BY role, joined, member";
    let mut select = conn.prepare(sql)?;
    let rows =
        select.query_map([found.row], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, uint(row, 2)?)))?;
    let mut members = Vec::new();
    for row in rows {
        let (name, named, joined_at) = row?;
        members.push(ChannelMember { name, role: role(&named)?, joined_at });
    }
    Ok((summary(conn, found, viewer)?, members))
}

/// A member was deleted: it is in no channel any more. One that is left without an admin is for those who manage members.
pub(super) fn forget(tx: &Transaction<'_>, member: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM channel_member WHERE member = ?", [member]).map(drop)
}
