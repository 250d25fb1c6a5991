//! The one thread that writes the activity database: whatever waits while it commits goes into the next commit
//! together, so a commit costs the same for one upload as for many. Between commits it deletes what is too old, in small
//! pieces.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Error;
use super::hub::Hub;
use super::live::LiveTeam;
use super::log::Log;
use super::retention::Retention;
use crate::store;
use crate::store::activity::{Batch, PRUNED_ROWS, Store, Upload};
use crate::sys::clock::now_ms;
use crate::sys::disk;
use crate::sys::thread::{self, Joinable};

/// Uploads that may wait; above that, senders do.
const QUEUE: usize = 64;
/// Uploads in one transaction at most.
const GROUP: usize = 64;
/// SQLite's own needs are modest; the default of 2 MB would do as well.
const STACK: usize = 1 << 20;
/// How often it is asked whether there is something to delete.
const LOOK: Duration = Duration::from_secs(1);

struct Job {
    member: String,
    batch: Batch,
    key: Option<String>,
    reply: SyncSender<Result<u64, store::Error>>,
}

/// The writer thread and the way to it. Dropping it writes what was handed in, then joins.
pub struct ActivityWriter {
    jobs: Option<SyncSender<Job>>,
    committed: Arc<AtomicI64>,
    thread: Option<Joinable>,
    place: PathBuf,
    /// Bytes that are to stay free where the database is.
    reserve: u64,
}

/// Why an upload was not stored.
#[derive(Debug)]
pub enum Refused {
    Store(store::Error),
    /// Less is free on the disk than is to stay so.
    NoRoom {
        free: u64,
    },
    /// The writer thread is gone.
    Gone,
}

impl ActivityWriter {
    /// Open the database, made if there is none, and start the thread. It tells `hub` of every member that has new rows,
    /// by the member's [`topic`],
    /// and deletes what `team` does not want to be kept. It takes nothing while less than `reserve` bytes are free.
    ///
    /// # Errors
    /// The database cannot be opened, or there is no thread to be had.
    pub fn start(
        path: &Path,
        reserve: u64,
        hub: Arc<Hub>,
        team: Arc<LiveTeam>,
        log: Log,
    ) -> Result<ActivityWriter, Error> {
        let store = Store::open(path)?;
        log.upgrade(store.upgrade());
        let (jobs, waiting) = sync_channel(QUEUE);
        let committed = Arc::new(AtomicI64::new(0));
        let writer = Writer { store, hub, team, log, committed: committed.clone() };
        let thread = thread::spawn("db-activity", STACK, move || writer.write(&waiting))
            .map_err(|error| Error::System { what: "start a thread", error })?;
        Ok(ActivityWriter { jobs: Some(jobs), committed, thread: Some(thread), place: path.into(), reserve })
    }

    /// Whoever reads the database from now on finds all rows up to this one; 0 if nothing was stored since the start.
    #[must_use]
    pub fn committed(&self) -> i64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Store an upload. When this returns the number of its events they are on the disk; the same `key` of the same
    /// member stores nothing twice.
    ///
    /// # Errors
    /// Nothing of it is stored.
    pub fn append(&self, member: &str, batch: Batch, key: Option<&str>) -> Result<u64, Refused> {
        // Where that cannot be learnt, the database itself will say what is wrong.
        if let Some(free) = disk::free(&self.place).ok().filter(|free| *free < self.reserve) {
            return Err(Refused::NoRoom { free });
        }
        let (reply, answer) = sync_channel(1);
        let job = Job { member: member.to_string(), batch, key: key.map(str::to_string), reply };
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or(Refused::Gone)?;
        answer.recv().map_err(|_| Refused::Gone)?.map_err(Refused::Store)
    }
}

impl Drop for ActivityWriter {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

/// What [`Hub`] calls a member's activity.
#[must_use]
pub fn topic(member: &str) -> String {
    format!("activity/{member}")
}

struct Writer {
    store: Store,
    hub: Arc<Hub>,
    team: Arc<LiveTeam>,
    log: Log,
    committed: Arc<AtomicI64>,
}

impl Writer {
    fn write(mut self, waiting: &Receiver<Job>) {
        let mut retention = Retention::default();
        loop {
            let patience = if retention.is_busy() { Duration::ZERO } else { LOOK };
            match waiting.recv_timeout(patience) {
                Ok(first) => self.store_with_others(first, waiting),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.delete_some(&mut retention);
        }
    }

    /// Commit `first` and what waits beside it.
    fn store_with_others(&mut self, first: Job, waiting: &Receiver<Job>) {
        let mut jobs = vec![first];
        jobs.extend(waiting.try_iter().take(GROUP - 1));
        match self.commit(&jobs) {
            Ok(accepted) => jobs.iter().zip(accepted).for_each(|(job, n)| tell(job, Ok(n))),
            Err(error) if jobs.len() == 1 => tell(&jobs[0], Err(error)),
            // Perhaps one of them is the cause: the others must not suffer for it.
            Err(_) => {
                for job in &jobs {
                    let alone = self.commit(std::slice::from_ref(job));
                    tell(job, alone.map(|accepted| accepted.iter().sum()));
                }
            }
        }
    }

    /// One step of deleting what is too old, if it is time for it.
    fn delete_some(&mut self, retention: &mut Retention) {
        let days = self.team.settings().retention_days;
        let Some(cutoff) = retention.step(days, Instant::now(), now_ms()) else { return };
        match self.store.prune_step(cutoff) {
            Ok(rows) => {
                let sum = retention.did(rows, rows < PRUNED_ROWS, Instant::now());
                if let Some(rows) = sum.filter(|rows| *rows > 0) {
                    self.log.line("activity pruned", &json!({"rows": rows, "olderThanDays": days}));
                }
            }
            Err(error) => {
                retention.failed(Instant::now());
                self.log.line("activity not pruned", &json!({"reason": error.to_string()}));
            }
        }
    }

    /// One transaction. Gives how many events of each upload are stored, in order.
    fn commit(&mut self, jobs: &[Job]) -> Result<Vec<u64>, store::Error> {
        let uploads: Vec<Upload<'_>> = jobs
            .iter()
            .map(|j| Upload { member: &j.member, batch: &j.batch, key: j.key.as_deref() })
            .collect();
        let appended = self.store.append(&uploads, now_ms())?;
        if let Some(last) = appended.iter().filter_map(|a| a.ids.last()).max() {
            self.committed.store(*last, Ordering::Release);
        }
        let mut news: Vec<&str> = jobs
            .iter()
            .zip(&appended)
            .filter(|(_, a)| !a.ids.is_empty())
            .map(|(j, _)| j.member.as_str())
            .collect();
        news.sort_unstable();
        news.dedup();
        news.into_iter().for_each(|member| self.hub.wake(&topic(member)));
        Ok(appended.into_iter().map(|a| a.accepted).collect())
    }
}

/// Whoever asked may have given up; what is stored stays stored.
fn tell(job: &Job, result: Result<u64, store::Error>) {
    let _ = job.reply.send(result);
}
