//! The team file as it is now: whoever edits it is heard within a second, and a broken edit changes nothing.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::json;

use super::hub::Hub;
use super::log::Log;
use crate::identity::{self, Stamp, TeamFile};
use crate::sys::thread::{self, Joinable};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// The team file that counts, and which file it was read from.
pub struct LiveTeam {
    path: PathBuf,
    current: RwLock<Arc<TeamFile>>,
    /// The file that was looked at last, good or bad; `None` while there is none.
    seen: Mutex<Option<Stamp>>,
    /// Whose streams may have ended when the file changes.
    hub: Arc<Hub>,
    log: Log,
}

impl LiveTeam {
    /// Read the file for the first time.
    ///
    /// # Errors
    /// As [`TeamFile::load`].
    pub fn open(path: &Path, hub: Arc<Hub>, log: Log) -> Result<LiveTeam, identity::Error> {
        let (file, stamp) = TeamFile::load(path)?;
        Ok(LiveTeam {
            path: path.to_path_buf(),
            current: RwLock::new(Arc::new(file)),
            seen: Mutex::new(Some(stamp)),
            hub,
            log,
        })
    }

    /// The team as of the last good read. A request takes it once and keeps it to its end.
    #[must_use]
    pub fn current(&self) -> Arc<TeamFile> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Read the file again if it is another one than before. A broken or missing one is logged once.
    pub fn check(&self) {
        let found = Stamp::of(&self.path).ok();
        if found == *self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            return;
        }
        let (stamp, event, facts) = match TeamFile::load(&self.path) {
            Ok((file, stamp)) => {
                let members = file.members.len();
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
                self.hub.wake_all();
                (Some(stamp), "config reloaded", json!({"members": members}))
            }
            Err(error) => (found, "config refused", json!({"error": error.to_string()})),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = stamp;
        self.log.line(event, &facts);
    }
}

/// The thread that looks at the file; dropping it stops and joins the thread.
pub struct Watch {
    stop: Option<SyncSender<()>>,
    thread: Option<Joinable>,
}

impl Watch {
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(team: Arc<LiveTeam>) -> io::Result<Watch> {
        let (stop, stopped) = sync_channel(0);
        let thread = thread::spawn("config", 256 << 10, move || watch(&team, &stopped))?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

fn watch(team: &LiveTeam, stopped: &Receiver<()>) {
    while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        team.check();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
