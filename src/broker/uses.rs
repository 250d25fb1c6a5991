//! When tokens were last used: noted in memory, written now and then, so that no request waits for it.
use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::live::LiveTeam;
use super::log::Log;
use crate::store;
use crate::store::main::Store;
use crate::sys::clock::now_ms;
use crate::sys::thread::{self, Joinable};

/// How often uses are written; what a broker that is killed forgets at most.
const PERIOD: Duration = Duration::from_secs(30);

/// Every so many periods what no longer counts is swept out of the main database.
const SWEEP: u32 = 20;

/// Uses of tokens.
pub struct Uses {
    store: Arc<Store>,
    /// By token id; those that are not written yet.
    fresh: Mutex<HashMap<String, u64>>,
}

impl Uses {
    #[must_use]
    pub fn new(store: Arc<Store>) -> Uses {
        Uses { store, fresh: Mutex::default() }
    }

    /// A token was used now.
    pub fn saw(&self, id: &str, now: u64) {
        let mut fresh = self.lock();
        match fresh.get_mut(id) {
            Some(at) => *at = now,
            None => drop(fresh.insert(id.to_string(), now)),
        }
    }

    /// When each token was last used, by id.
    ///
    /// # Errors
    /// The main database cannot be read.
    pub fn all(&self) -> Result<HashMap<String, u64>, store::Error> {
        // In this order: what is written in between is seen twice, not missed.
        let fresh = self.lock().clone();
        let mut all = self.store.token_uses()?;
        all.extend(fresh);
        Ok(all)
    }

    /// Write what is not written yet.
    fn flush(&self) -> Result<(), store::Error> {
        let fresh: Vec<(String, u64)> = mem::take(&mut *self.lock()).into_iter().collect();
        if fresh.is_empty() {
            return Ok(());
        }
        let written = self.store.tokens_used(&fresh);
        if written.is_err() {
            let mut now = self.lock();
            for (id, at) in fresh {
                now.entry(id).or_insert(at);
            }
        }
        written
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that writes uses and sweeps. Dropping it writes what is left, stops and joins.
pub struct Keeper {
    stop: Option<SyncSender<()>>,
    thread: Option<Joinable>,
}

impl Keeper {
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(uses: Arc<Uses>, team: Arc<LiveTeam>, log: Log) -> io::Result<Keeper> {
        let (stop, stopped) = sync_channel(0);
        let thread = thread::spawn("db-main", 1 << 20, move || keep(&uses, &team, &log, &stopped))?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

fn keep(uses: &Uses, team: &LiveTeam, log: &Log, stopped: &Receiver<()>) {
    let said = |result: Result<(), store::Error>| {
        if let Err(error) = result {
            log.line("main database failed", &json!({"reason": error.to_string()}));
        }
    };
    for round in 0_u32.. {
        let waited = stopped.recv_timeout(PERIOD);
        said(uses.flush());
        if waited != Err(RecvTimeoutError::Timeout) {
            return;
        }
        if round % SWEEP == 0 {
            let team = team.current();
            let tokens: Vec<&str> =
                team.members.iter().flat_map(|m| m.tokens.iter().map(|t| t.id.as_str())).collect();
            said(uses.store.sweep(now_ms(), &tokens));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
