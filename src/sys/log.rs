//! The session log: one JSON object a line for each change of state, in a private file.
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{clock, file, paths};

/// Logs of sessions that ended longer ago are removed at the next start.
const KEEP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where lines go. A log that cannot be written is silent: it may never stop the agent.
#[derive(Debug, Default)]
pub struct Log {
    place: Option<(PathBuf, File)>,
}

impl Log {
    /// The log of this process, `session-<component>-<pid>.log` in the cache directory; without one, a silent log.
    #[must_use]
    pub fn session(component: &str) -> Log {
        let Some(folder) = paths::cache_dir() else { return Log::default() };
        sweep(&folder);
        Log::open(&folder.join(format!("session-{component}-{}.log", std::process::id())))
    }

    fn open(path: &Path) -> Log {
        let folder = path.parent().map(file::ensure_private_dir);
        if folder.is_some_and(|made| made.is_err()) {
            return Log::default();
        }
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        Log { place: opened.ok().map(|file| (path.to_path_buf(), file)) }
    }

    /// The file, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.place.as_ref().map(|(path, _)| path.as_path())
    }

    /// Write `{"ts": …, "event": what, …fields}`. Fields never hold a secret, a header or a body.
    pub fn line(&self, what: &str, fields: &[(&str, Value)]) {
        let Some((_, file)) = &self.place else { return };
        let mut file = file;
        let mut object = Map::new();
        object.insert("ts".into(), clock::now_ms().into());
        object.insert("event".into(), what.into());
        object.extend(fields.iter().map(|(name, value)| ((*name).to_string(), value.clone())));
        let mut line = Value::Object(object).to_string();
        line.push('\n');
        // One write of an append-only file: lines of several threads do not mix.
        let _ = file.write_all(line.as_bytes());
    }
}

fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|n| n.starts_with("session-") && n.ends_with(".log"));
        let changed = entry.metadata().and_then(|m| m.modified());
        let old = changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > KEEP));
        if ours && old {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn lines_are_json_in_a_private_file() {
        let folder = std::env::temp_dir().join(format!("ac7-log-{}", crate::sys::random::hex::<6>()));
        let path = folder.join("session-x-1.log");
        let log = Log::open(&path);
        log.line("proxy up", &[("port", json!(8717))]);
        log.line("quote \" and\nnewline", &[]);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["port"]), (2, &json!(8717)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        let old = folder.join("session-run-2.log");
        File::create(&old).unwrap().set_modified(SystemTime::now() - KEEP - Duration::from_secs(9)).unwrap();
        sweep(&folder);
        assert!(!old.exists() && path.exists());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_log_without_a_place_is_silent() {
        let log = Log::open(Path::new("/proc/nope/x.log"));
        log.line("anything", &[]);
        assert!(log.path().is_none());
    }
}
