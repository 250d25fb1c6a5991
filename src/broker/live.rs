//! The team file as it is now: whoever edits it is heard within a second, and a broken edit changes nothing.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use serde_json::json;

use super::certificate::LiveCertificate;
use super::hub::Hub;
use super::log::Log;
use super::settings::Settings;
use crate::activity::Invalid;
use crate::identity::{self, Stamp, TeamFile};
use crate::sys::thread::{self, Joinable};
use crate::usage::{Bad, Prices};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// The team file that counts, and which file it was read from.
pub struct LiveTeam {
    path: PathBuf,
    current: RwLock<(Arc<TeamFile>, Arc<Settings>)>,
    /// Where the file said to listen when the broker started.
    listens: (Option<String>, Option<u16>),
    /// Whether it named a certificate then.
    https: bool,
    /// The file that was looked at last, good or bad; `None` while there is none.
    seen: Mutex<Option<Stamp>>,
    /// Whose streams may have ended when the file changes.
    hub: Arc<Hub>,
    log: Log,
}

/// What reading the file again has brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The fields that have changed and hold from now on.
    pub applied: Vec<&'static str>,
    /// The fields that hold only after a restart, each with the reason.
    pub restart: Vec<(&'static str, &'static str)>,
}

impl LiveTeam {
    /// Read the file for the first time.
    ///
    /// # Errors
    /// As [`TeamFile::load`].
    pub fn open(path: &Path, hub: Arc<Hub>, log: Log) -> Result<LiveTeam, identity::Error> {
        let (file, settings, stamp) = load(path)?;
        Ok(LiveTeam {
            path: path.to_path_buf(),
            listens: (file.host.clone(), file.port),
            https: settings.https.is_some(),
            current: RwLock::new((Arc::new(file), Arc::new(settings))),
            seen: Mutex::new(Some(stamp)),
            hub,
            log,
        })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The team as of the last good read. A request takes it once and keeps it to its end.
    #[must_use]
    pub fn current(&self) -> Arc<TeamFile> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// The settings as of the last good read.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Read the file again if it is another one than before. A broken or missing one is logged once.
    pub fn check(&self) {
        let found = Stamp::of(&self.path).ok();
        if found != *self.seen.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = self.reload(); // it has been logged
        }
    }

    /// Read the file again. All of it counts from now on, or nothing where it is broken.
    ///
    /// # Errors
    /// As [`TeamFile::load`].
    pub fn reload(&self) -> Result<Reloaded, identity::Error> {
        // Held throughout: of two reloads at the same time the one that has read the older file must not win.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Stamp::of(&self.path).ok();
        match load(&self.path) {
            Ok((file, settings, stamp)) => {
                *seen = Some(stamp);
                let members = file.members.len();
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                let reloaded = self.differences(&current, &file, &settings);
                *current = (Arc::new(file), Arc::new(settings));
                drop((current, seen));
                self.hub.wake_all();
                let restart: Vec<_> = reloaded.restart.iter().map(|(field, _)| *field).collect();
                let facts =
                    json!({"members": members, "applied": reloaded.applied, "restartRequired": restart});
                self.log.line("config reloaded", &facts);
                Ok(reloaded)
            }
            Err(error) => {
                *seen = found;
                drop(seen);
                self.log.line("config refused", &json!({"error": error.to_string()}));
                Err(error)
            }
        }
    }

    fn differences(
        &self,
        (old, old_settings): &(Arc<TeamFile>, Arc<Settings>),
        new: &TeamFile,
        settings: &Settings,
    ) -> Reloaded {
        let fields = [
            ("team", old.team != new.team),
            ("members", old.members != new.members),
            ("hosts", old.hosts != new.hosts),
            ("https", self.https && settings.https.is_some() && old_settings.https != settings.https),
            ("prices", old_settings.prices != settings.prices),
            ("retentionDays", old_settings.retention_days != settings.retention_days),
            ("files", old_settings.files != settings.files),
            ("webPush", old_settings.web_push != settings.web_push),
        ];
        let why = "the broker listens where and how it began to";
        let listens = [
            ("host", self.listens.0 != new.host),
            ("port", self.listens.1 != new.port),
            ("https", self.https != settings.https.is_some()),
        ];
        Reloaded {
            applied: fields.iter().filter(|(_, differs)| *differs).map(|(field, _)| *field).collect(),
            restart: listens.iter().filter(|(_, differs)| *differs).map(|(field, _)| (*field, why)).collect(),
        }
    }
}

/// Read the file with everything in it that concerns the broker.
fn load(path: &Path) -> Result<(TeamFile, Settings, Stamp), identity::Error> {
    let (file, stamp) = TeamFile::load(path)?;
    let invalid = |invalid| identity::Error::Invalid { path: path.to_path_buf(), invalid };
    let mut settings = Settings::of(path, &file).map_err(invalid)?;
    let prices = path.with_file_name("prices.json");
    if prices.exists() {
        let invalid = |(path, bad): (PathBuf, Bad)| {
            let invalid = Invalid { path: "prices".to_string(), message: bad.to_string() };
            identity::Error::Invalid { path, invalid }
        };
        settings.prices = Arc::new(Prices::usual(Some(prices)).map_err(invalid)?.0);
    }
    Ok((file, settings, stamp))
}

/// The thread that looks at the file, and at the certificate; dropping it stops and joins the thread.
pub struct Watch {
    stop: Option<SyncSender<()>>,
    thread: Option<Joinable>,
}

impl Watch {
    /// # Errors
    /// The operating system has no thread to give.
    pub fn start(team: Arc<LiveTeam>, certificate: Option<Arc<LiveCertificate>>) -> io::Result<Watch> {
        let (stop, stopped) = sync_channel(0);
        let thread =
            thread::spawn("config", 256 << 10, move || watch(&team, certificate.as_deref(), &stopped))?;
        Ok(Watch { stop: Some(stop), thread: Some(thread) })
    }
}

fn watch(team: &LiveTeam, certificate: Option<&LiveCertificate>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
        team.check();
        if let Some(certificate) = certificate {
            certificate.check();
        }
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
