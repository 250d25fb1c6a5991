//! Objectives: a change, its events and the messages about them are one transaction.
use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use super::message::{Place, Sent, insert};
use super::{Store, attachment, integer};
use crate::store::column::uint;
use crate::store::error::{Error, Fault};
use crate::sys::random;
use crate::team::lifecycle::begin;
use crate::team::{EventKind, NewObjective, Objective, ObjectiveEvent, Post, Status, notice};

/// An objective after a change, and the messages about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    pub objective: Objective,
    pub sent: Vec<Sent>,
}

/// Which objectives are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Only those in which this member takes part.
    pub involving: Option<&'a str>,
    pub assignee: Option<&'a str>,
    pub status: Option<Status>,
}

impl Store {
    /// Begin an objective. `managers` are told of it beside those who take part.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn create_objective(
        &self,
        new: NewObjective,
        originator: &str,
        managers: &[String],
        now_ms: u64,
    ) -> Result<Changed, Error> {
        let (objective, events) = begin(new, format!("obj-{}", random::hex::<6>()), originator, now_ms);
        self.write(|tx| {
            tx.execute(
                "INSERT INTO objective (uid, title, body, outcome, status, assignee, originator, created, updated,
                                        attachments)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                params![
                    objective.id,
                    objective.title,
                    objective.body,
                    objective.outcome,
                    objective.status.name(),
                    objective.assignee,
                    objective.originator,
                    integer(objective.created_at),
                    integer(objective.updated_at),
                    attachment::to_text(&objective.attachments),
                ],
            )?;
            let row = tx.last_insert_rowid();
            attachment::record(tx, &objective.attachments, None, Some(row))?;
            set_watchers(tx, row, &[], &objective.watchers)?;
            let sent = record(tx, row, &objective, &events, managers, now_ms)?;
            Ok(Changed { objective, sent })
        })
    }

    /// Change an objective as `decide` says, who sees it as it is and nobody changes it meanwhile. `None`: there is no
    /// objective with this id.
    ///
    /// # Errors
    /// See [`Error`]; with that of `decide` nothing is changed.
    pub fn change_objective<E>(
        &self,
        id: &str,
        managers: &[String],
        now_ms: u64,
        decide: impl FnOnce(&Objective) -> Result<(Objective, Vec<ObjectiveEvent>), E>,
    ) -> Result<Option<Result<Changed, E>>, Error> {
        self.with_objective(id, |tx, row, objective| {
            let (next, events) = match decide(&objective) {
                Ok(decided) => decided,
                Err(refused) => return Ok(Err(refused)),
            };
            tx.execute(
                "UPDATE objective SET status = ?, assignee = ?, updated = ?, completed = ?, result = ?, block_reason = ?
                 WHERE id = ?",
                params![
                    next.status.name(),
                    next.assignee,
                    integer(next.updated_at),
                    next.completed_at.map(integer),
                    next.result,
                    next.block_reason,
                    row,
                ],
            )?;
            set_watchers(tx, row, &objective.watchers, &next.watchers)?;
            let sent = record(tx, row, &next, &events, managers, now_ms)?;
            Ok(Ok(Changed { objective: next, sent }))
        })
    }

    /// Store what `from` says about an objective: what `say` gives, who sees it as it is. `None`: there is no objective
    /// with this id.
    ///
    /// # Errors
    /// See [`Error`]; with that of `say` nothing is stored.
    pub fn discuss<E>(
        &self,
        id: &str,
        from: &str,
        managers: &[String],
        now_ms: u64,
        say: impl FnOnce(&Objective) -> Result<Post, E>,
    ) -> Result<Option<Result<Sent, E>>, Error> {
        self.with_objective(id, |tx, row, objective| {
            let post = match say(&objective) {
                Ok(post) => notice::of_discussion(&objective, from, post),
                Err(refused) => return Ok(Err(refused)),
            };
            let (to, quiet) = (notice::audience(&objective, None, managers), former_assignees(tx, row)?);
            let place = Place::Objective { id: row, to, quiet: &quiet };
            Ok(Ok(insert(tx, Some(from), post, place, now_ms)?))
        })
    }

    /// An objective, and everything that happened to it, in order.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn objective(&self, id: &str) -> Result<Option<(Objective, Vec<ObjectiveEvent>)>, Error> {
        self.with(|conn| {
            // One view of both.
            let tx = conn.transaction()?;
            let Some((row, objective)) = find(&tx, id)? else { return Ok(None) };
            let sql = "SELECT ts, actor, kind, payload FROM objective_event WHERE objective = ? ORDER BY id";
            let mut select = tx.prepare(sql)?;
            let mut rows = select.query([row])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(event(id, row)?);
            }
            Ok(Some((objective, events)))
        })
    }

    /// The rows of the objectives that are wanted, newest first; only those made before the one with the id `before`.
    /// `None`: there is none with this id.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn objective_rows(
        &self,
        wanted: Wanted<'_>,
        before: Option<&str>,
    ) -> Result<Option<Vec<i64>>, Error> {
        self.with(|conn| {
            let Some(before) = before.map_or(Ok(Some(i64::MAX)), |id| row_of(conn, id))? else {
                return Ok(None);
            };
            let mut rows = wanted.rows(conn)?;
            rows.retain(|row| *row < before);
            Ok(Some(rows))
        })
    }

    /// The objectives of these rows, in this order, until `each` has enough.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn each_objective(
        &self,
        rows: &[i64],
        mut each: impl FnMut(Objective) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        self.with(|conn| {
            let tx = conn.transaction()?;
            for row in rows {
                if each(read(&tx, *row)?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The ids of all objectives, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn objective_ids(&self) -> Result<Vec<String>, Error> {
        self.with(|conn| {
            let mut select = conn.prepare("SELECT uid FROM objective ORDER BY id DESC")?;
            Ok(select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// What a member is asked to do: what is active, then what is blocked, newest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open_objectives(&self, assignee: &str) -> Result<Vec<Objective>, Error> {
        self.with(|conn| {
            // As of one moment: one that is unblocked in between would be in neither list.
            let tx = conn.transaction()?;
            let of = |status| Wanted { assignee: Some(assignee), status: Some(status), involving: None };
            let mut open = of(Status::Active).list(&tx)?;
            open.extend(of(Status::Blocked).list(&tx)?);
            Ok(open)
        })
    }

    /// One transaction on an objective: what `work` gives it counts, unless that is an error.
    fn with_objective<T, E>(
        &self,
        id: &str,
        work: impl FnOnce(&Transaction<'_>, i64, Objective) -> Result<Result<T, E>, Fault>,
    ) -> Result<Option<Result<T, E>>, Error> {
        let found = self.write_or(|tx| match find(tx, id)? {
            None => Ok(Err(None)),
            Some((row, objective)) => Ok(work(tx, row, objective)?.map_err(Some)),
        })?;
        Ok(match found {
            Ok(done) => Some(Ok(done)),
            Err(refused) => refused.map(Err),
        })
    }
}

impl Wanted<'_> {
    fn list(&self, conn: &Connection) -> Result<Vec<Objective>, Fault> {
        self.rows(conn)?.into_iter().map(|row| read(conn, row)).collect()
    }

    fn rows(&self, conn: &Connection) -> rusqlite::Result<Vec<i64>> {
        let mut select = conn.prepare(self.sql())?;
        let values = params![self.involving, self.assignee, self.status.map(Status::name)];
        select.query_map(values, |row| row.get(0))?.collect()
    }

    /// The query with the parameters involving, assignee, status. Each has an index to begin with.
    pub(super) fn sql(&self) -> &'static str {
        match (self.involving, self.assignee) {
            (None, None) if self.status.is_none() => sql::ALL,
            (None, None) => sql::OF_STATUS,
            (None, Some(_)) => sql::OF_ASSIGNEE,
            (Some(_), _) => sql::INVOLVING,
        }
    }
}

pub(super) mod sql {
    pub const ALL: &str =
        "SELECT id FROM objective WHERE ?1 IS NULL AND ?2 IS NULL AND ?3 IS NULL ORDER BY id DESC";
    pub const OF_STATUS: &str =
        "SELECT id FROM objective WHERE status = ?3 AND ?1 IS NULL AND ?2 IS NULL ORDER BY id DESC";
    pub const OF_ASSIGNEE: &str = "SELECT id FROM objective INDEXED BY objective_assignee
                                   WHERE assignee = ?2 AND ?1 IS NULL AND (?3 IS NULL OR status = ?3)
                                   ORDER BY id DESC";
    pub const INVOLVING: &str = "SELECT id FROM objective
                                 WHERE id IN (SELECT id FROM objective WHERE assignee = ?1
                                              UNION SELECT id FROM objective WHERE originator = ?1
                                              UNION SELECT objective FROM objective_watcher WHERE member = ?1)
                                   AND (?2 IS NULL OR assignee = ?2) AND (?3 IS NULL OR status = ?3)
                                 ORDER BY id DESC";
    pub const FORMER: &str =
        "SELECT payload FROM objective_event WHERE objective = ? AND kind = 'reassigned'";
}

/// Note events, and send the messages about them.
fn record(
    tx: &Transaction<'_>,
    row: i64,
    objective: &Objective,
    events: &[ObjectiveEvent],
    managers: &[String],
    now_ms: u64,
) -> rusqlite::Result<Vec<Sent>> {
    let mut insert_event = tx.prepare(
        "INSERT INTO objective_event (objective, ts, actor, kind, payload) VALUES (?, ?, ?, ?, ?)",
    )?;
    let mut sent = Vec::new();
    for event in events {
        let payload = Value::Object(event.payload.clone()).to_string();
        insert_event.execute(params![row, integer(event.ts), event.actor, event.kind.name(), payload])?;
        let quiet = former_assignees(tx, row)?;
        let to = notice::audience(objective, Some(event), managers);
        let place = Place::Objective { id: row, to, quiet: &quiet };
        sent.push(insert(tx, Some(&event.actor), notice::of_event(objective, event), place, now_ms)?);
    }
    Ok(sent)
}

/// Those who had it before: what comes of it is in their history.
fn former_assignees(tx: &Transaction<'_>, row: i64) -> rusqlite::Result<Vec<String>> {
    let mut select = tx.prepare(sql::FORMER)?;
    let payloads = select.query_map([row], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let from = |payload: &String| {
        let payload: Value = serde_json::from_str(payload).ok()?;
        Some(payload.get("from")?.as_str()?.to_string())
    };
    Ok(payloads.iter().filter_map(from).collect())
}

fn set_watchers(tx: &Transaction<'_>, row: i64, old: &[String], new: &[String]) -> rusqlite::Result<()> {
    let mut delete = tx.prepare("DELETE FROM objective_watcher WHERE objective = ? AND member = ?")?;
    let mut insert = tx.prepare("INSERT INTO objective_watcher (objective, member) VALUES (?, ?)")?;
    let gone = old.iter().filter(|name| !new.contains(name));
    gone.into_iter().try_for_each(|name| delete.execute(params![row, name]).map(drop))?;
    let come = new.iter().filter(|name| !old.contains(name));
    come.into_iter().try_for_each(|name| insert.execute(params![row, name]).map(drop))
}

fn find(conn: &Connection, id: &str) -> Result<Option<(i64, Objective)>, Fault> {
    row_of(conn, id)?.map(|row| Ok((row, read(conn, row)?))).transpose()
}

fn row_of(conn: &Connection, id: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare("SELECT id FROM objective WHERE uid = ?")?.query_row([id], |row| row.get(0)).optional()
}

fn read(conn: &Connection, row: i64) -> Result<Objective, Fault> {
    let mut select = conn.prepare("SELECT member FROM objective_watcher WHERE objective = ? ORDER BY id")?;
    let watchers = select.query_map([row], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut select = conn.prepare(
        "SELECT uid, title, body, outcome, assignee, originator, created, updated, completed, result, block_reason,
                status, attachments
         FROM objective WHERE id = ?",
    )?;
    let (objective, status, attachments) = select.query_row([row], |row| {
        let completed: Option<i64> = row.get(8)?;
        let objective = Objective {
            id: row.get(0)?,
            title: row.get(1)?,
            body: row.get(2)?,
            outcome: row.get(3)?,
            status: Status::Active,
            assignee: row.get(4)?,
            originator: row.get(5)?,
            watchers,
            created_at: uint(row, 6)?,
            updated_at: uint(row, 7)?,
            completed_at: completed.map(|_| uint(row, 8)).transpose()?,
            result: row.get(9)?,
            block_reason: row.get(10)?,
            attachments: Vec::new(),
        };
        Ok((objective, row.get::<_, String>(11)?, row.get::<_, String>(12)?))
    })?;
    let status = Status::from_name(&status)
        .ok_or_else(|| Fault::Damaged(format!("an objective with the status {status}")))?;
    Ok(Objective { status, attachments: attachment::from_text(&attachments)?, ..objective })
}

fn event(id: &str, row: &Row<'_>) -> Result<ObjectiveEvent, Fault> {
    let (kind, payload): (String, String) = (row.get(2)?, row.get(3)?);
    let damaged = || Fault::Damaged(format!("an event of the objective {id} that is none"));
    let Value::Object(payload) = serde_json::from_str(&payload).unwrap_or_default() else {
        return Err(damaged());
    };
    Ok(ObjectiveEvent {
        objective_id: id.to_string(),
        ts: uint(row, 0)?,
        actor: row.get(1)?,
        kind: EventKind::from_name(&kind).ok_or_else(damaged)?,
        payload,
    })
}

/// A member was deleted: it watches nothing any more. What it was asked to do stays asked of its name.
pub(super) fn forget(tx: &Transaction<'_>, member: &str) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM objective_watcher WHERE member = ?", [member]).map(drop)
}
