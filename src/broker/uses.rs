//! When tokens were last used: noted in memory, written now and then, so that no request waits for it. The thread that
//! does so also sweeps out what no longer counts.
use std::collections::HashMap;
use std::io;
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::call::Failure;
use super::editor::Editor;
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
    pub fn start(uses: Arc<Uses>, editor: Editor, team: Arc<LiveTeam>, log: Log) -> io::Result<Keeper> {
        let (stop, stopped) = sync_channel(0);
        let thread = thread::spawn("db-main", 1 << 20, move || keep(&uses, &editor, &team, &log, &stopped))?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

fn keep(uses: &Uses, editor: &Editor, team: &LiveTeam, log: &Log, stopped: &Receiver<()>) {
    let said = |result: Result<(), Failure>| {
        if let Err(failure) = result {
            log.line("main database failed", &json!({"reason": failure.to_string()}));
        }
    };
    for round in 0_u32.. {
        if round % SWEEP == 0 {
            let team = team.current();
            let tokens: Vec<&str> =
                team.members.iter().flat_map(|m| m.tokens.iter().map(|t| t.id.as_str())).collect();
            said(uses.store.sweep(now_ms(), &tokens).map_err(Failure::from));
        }
        said(drop_unfetched(&uses.store, editor, team, log));
        let waited = stopped.recv_timeout(PERIOD);
        said(uses.flush().map_err(Failure::from));
        if waited != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Take tokens out of the team file that were made for devices which did not fetch them in time.
fn drop_unfetched(store: &Store, editor: &Editor, team: &LiveTeam, log: &Log) -> Result<(), Failure> {
    let now = now_ms();
    let ids = store.unfetched_tokens(now)?;
    if ids.is_empty() {
        return Ok(());
    }
    // An approval that broke off early has an id, but no token yet: nothing to write then.
    let there = |id: &String| team.current().members.iter().any(|m| m.tokens.iter().any(|t| t.id == *id));
    if ids.iter().any(there) {
        editor.update(|file| {
            file.drop_tokens(&ids);
            Ok(())
        })?;
        log.line("tokens that nobody fetched are revoked", &json!({"tokens": ids}));
    }
    Ok(store.forget_tokens(&ids, now)?)
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
