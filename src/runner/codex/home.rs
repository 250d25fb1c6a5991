//! codex's directory for one session: the caller's login and configuration, our server in it, gone with its guard.
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, ffi::OsString};

use crate::agents::codex::{KEYS, config};
use crate::sys::{file, random};

/// Under the cache directory, since codex refuses its helper programs in a temporary one.
const FOLDER: &str = "codex";
const PREFIX: &str = "ac7-codex-";
const LOGIN: &str = "auth.json";
const CONFIG: &str = "config.toml";
/// Locked while the session lives; says where the login came from.
const LOCK: &str = ".ac7-session";
/// A directory this young may belong to a session that is just starting and has not locked it yet.
const YOUNG: Duration = Duration::from_secs(60);
/// Somebody whom codex has started may still be writing into it.
const REMOVALS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// Why there is no directory.
#[derive(Debug)]
pub enum Error {
    /// Neither a login nor a key; `place` is where the login was looked for.
    NoLogin { place: String },
    /// There is no cache directory.
    NoCache,
    /// The caller's configuration.
    Config { path: PathBuf, why: String },
    /// The directory or what is to be in it.
    Io { path: PathBuf, why: io::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoLogin { place } => write!(f, "no codex auth.json found in {place}"),
            Error::NoCache => {
                write!(f, "no place for codex: neither XDG_CACHE_HOME nor HOME is an absolute path")
            }
            Error::Config { path, why } => write!(f, "{}: {why}", path.display()),
            Error::Io { path, why } => write!(f, "cannot write codex's directory: {}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Error::NoLogin { .. } => Some("codex login, or set OPENAI_API_KEY"),
            Error::NoCache => Some("set HOME"),
            Error::Config { .. } => Some("correct the file; servers stand in tables [mcp_servers.NAME]"),
            Error::Io { .. } => None,
        }
    }
}

/// What codex has of the caller.
#[derive(Debug)]
pub struct Callers {
    folder: PathBuf,
    /// The login, behind all links; `None` where a key stands for it.
    login: Option<PathBuf>,
}

/// Find the caller's login and configuration.
///
/// # Errors
/// [`Error::NoLogin`].
pub fn callers() -> Result<Callers, Error> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let named = absolute("CODEX_HOME");
    let place = named.as_ref().map_or_else(|| "~/.codex".to_string(), |folder| folder.display().to_string());
    let folder = named.or_else(|| absolute("HOME").map(|home| home.join(".codex"))).unwrap_or_default();
    let login = fs::canonicalize(folder.join(LOGIN)).ok().filter(|path| path.is_file());
    let key = KEYS.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if login.is_none() && !key {
        return Err(Error::NoLogin { place });
    }
    Ok(Callers { folder, login })
}

/// The directory, removed when this is dropped.
pub struct CodexHome {
    folder: PathBuf,
    /// Its lock tells the next start that the session lives.
    _lock: File,
}

impl CodexHome {
    /// Make the directory under `cache`. codex will start our bridge, `ac7`, with `environment`. What killed sessions
    /// have left there is removed first.
    ///
    /// # Errors
    /// See [`Error`]; nothing is left then.
    pub fn make(
        cache: Option<&Path>,
        callers: &Callers,
        ac7: &Path,
        environment: &[(&str, &str)],
    ) -> Result<CodexHome, Error> {
        let parent = cache.ok_or(Error::NoCache)?.join(FOLDER);
        let config = merged(&callers.folder.join(CONFIG), ac7, environment)?;
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |why| Error::Io { path, why }
        };
        file::ensure_private_dir(&parent).map_err(failed(&parent))?;
        sweep(&parent);
        let folder = parent.join(format!("{PREFIX}{}", random::hex::<8>()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed(&folder))?;
        let made = locked(&folder, callers.login.as_deref());
        let lock = match made {
            Ok(lock) => lock,
            Err(why) => {
                let _ = fs::remove_dir_all(&folder);
                return Err(failed(&folder)(why));
            }
        };
        // From here on the directory is removed whatever happens.
        let home = CodexHome { folder, _lock: lock };
        let filled = || -> io::Result<()> {
            if let Some(login) = &callers.login {
                symlink(login, home.folder.join(LOGIN))?;
            }
            file::create_private(&home.folder.join(CONFIG))?.write_all(config.as_bytes())
        };
        filled().map_err(failed(&home.folder))?;
        Ok(home)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for CodexHome {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

fn locked(folder: &Path, login: Option<&Path>) -> io::Result<File> {
    let mut file = file::create_private(&folder.join(LOCK))?;
    file.write_all(login.map(|path| path.as_os_str().as_bytes()).unwrap_or_default())?;
    let _ = file.lock();
    Ok(file)
}

fn merged(path: &Path, ac7: &Path, environment: &[(&str, &str)]) -> Result<String, Error> {
    let bad = |why: String| Error::Config { path: path.to_path_buf(), why };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(why) => return Err(bad(why.to_string())),
    };
    config::merge(&text, ac7, environment).map_err(|why| bad(why.to_string()))
}

/// Give the login back, then remove the directory. Links in it are removed, not what they lead to.
fn remove(folder: &Path) {
    give_back(folder);
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// A login that codex has renewed may stand in place of the link: then the caller's is of no use any more. One that was
/// changed there even later is left alone.
fn give_back(folder: &Path) {
    let renewed = folder.join(LOGIN);
    let Ok(facts) = fs::symlink_metadata(&renewed) else { return };
    let Ok(place) = fs::read(folder.join(LOCK)) else { return };
    if !facts.is_file() || place.is_empty() {
        return;
    }
    let place = PathBuf::from(OsString::from_vec(place));
    let newer = match (facts.modified(), fs::metadata(&place).and_then(|m| m.modified())) {
        (Ok(ours), Ok(theirs)) => ours >= theirs,
        _ => true,
    };
    if let Ok(bytes) = fs::read(&renewed)
        && newer
        && serde_json::from_slice::<serde_json::Value>(&bytes).is_ok()
    {
        // Where that fails, so would anything else that could be done about it.
        let _ = file::write_atomic(&place, &bytes);
    }
}

/// Remove what a kill -9 left.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !ours || !is_folder {
            continue;
        }
        let lock = entry.path().join(LOCK);
        let abandoned = if lock.exists() {
            file::is_abandoned(&lock)
        } else {
            let changed = entry.metadata().and_then(|m| m.modified());
            changed.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > YOUNG))
        };
        if abandoned {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    struct Lab {
        folder: PathBuf,
        callers: Callers,
    }

    impl Lab {
        fn new() -> Lab {
            let folder = env::temp_dir().join(format!("codex-home-{}", random::hex::<6>()));
            let codex = folder.join("dot-codex");
            fs::create_dir_all(&codex).unwrap();
            fs::write(codex.join(LOGIN), r#"{"tokens":"old"}"#).unwrap();
            fs::write(codex.join(CONFIG), "model = \"o\"\n").unwrap();
            let login = Some(codex.join(LOGIN));
            Lab { callers: Callers { folder: codex, login }, folder }
        }

        fn make(&self) -> CodexHome {
            CodexHome::make(Some(&self.folder), &self.callers, Path::new("/ac7"), &[("S", "/s")]).unwrap()
        }

        fn login(&self) -> String {
            fs::read_to_string(self.callers.login.as_ref().unwrap()).unwrap()
        }

        fn left(&self) -> usize {
            fs::read_dir(self.folder.join(FOLDER)).unwrap().count()
        }
    }

    impl Drop for Lab {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn a_private_directory_with_login_and_configuration() {
        let lab = Lab::new();
        let home = lab.make();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(&home.path().join(CONFIG)), 0o600);
        assert_eq!(fs::read_link(home.path().join(LOGIN)).ok(), lab.callers.login);
        let config = fs::read_to_string(home.path().join(CONFIG)).unwrap();
        assert!(config.starts_with("model = \"o\"\n\n[mcp_servers.ac7]\ncommand = \"/ac7\"\n"), "{config}");
        // codex has written to it through the link, and left other things.
        fs::write(home.path().join(LOGIN), r#"{"tokens":"new"}"#).unwrap();
        fs::create_dir_all(home.path().join("sessions/2026")).unwrap();
        drop(home);
        assert_eq!((lab.left(), lab.login().as_str()), (0, r#"{"tokens":"new"}"#));
    }

    #[test]
    fn a_login_that_was_put_in_the_links_place_goes_back() {
        let lab = Lab::new();
        let renew = |home: &CodexHome, text: &str| {
            let path = home.path().join(LOGIN);
            fs::remove_file(&path).unwrap();
            fs::write(path, text).unwrap();
        };
        let home = lab.make();
        renew(&home, r#"{"tokens":"new"}"#);
        drop(home);
        assert_eq!(lab.login(), r#"{"tokens":"new"}"#);
        let mode = fs::metadata(lab.callers.login.as_ref().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Half a file is none.
        let home = lab.make();
        renew(&home, r#"{"tokens":"#);
        drop(home);
        assert_eq!(lab.login(), r#"{"tokens":"new"}"#);
        // Somebody has logged in anew meanwhile.
        let home = lab.make();
        renew(&home, r#"{"tokens":"newer"}"#);
        let later = SystemTime::now() + Duration::from_secs(60);
        File::options()
            .write(true)
            .open(lab.callers.login.as_ref().unwrap())
            .unwrap()
            .set_modified(later)
            .unwrap();
        drop(home);
        assert_eq!((lab.login().as_str(), lab.left()), (r#"{"tokens":"new"}"#, 0));
    }

    #[test]
    fn what_dead_sessions_left_is_swept() {
        let lab = Lab::new();
        let live = lab.make();
        let parent = lab.folder.join(FOLDER);
        // A session that was killed after codex had renewed the login.
        let dead = parent.join(format!("{PREFIX}dead"));
        fs::create_dir(&dead).unwrap();
        drop(locked(&dead, lab.callers.login.as_deref()).unwrap());
        fs::write(dead.join(LOGIN), r#"{"tokens":"saved"}"#).unwrap();
        let starting = parent.join(format!("{PREFIX}starting"));
        fs::create_dir(&starting).unwrap();
        let foreign = parent.join("notes");
        fs::create_dir(&foreign).unwrap();
        drop(lab.make());
        assert!(!dead.exists() && starting.exists() && foreign.exists() && live.path().exists());
        assert_eq!(lab.login(), r#"{"tokens":"saved"}"#);
        File::open(&starting).unwrap().set_modified(SystemTime::now() - YOUNG * 2).unwrap();
        sweep(&parent);
        assert!(!starting.exists());
    }

    #[test]
    fn what_cannot_be_merged_leaves_nothing() {
        let lab = Lab::new();
        fs::write(lab.callers.folder.join(CONFIG), "mcp_servers = {}\n").unwrap();
        let made = CodexHome::make(Some(&lab.folder), &lab.callers, Path::new("/ac7"), &[]);
        let error = made.err().unwrap().to_string();
        assert!(
            error
                .ends_with("config.toml: cannot add a server to config.toml: mcp_servers is an inline table"),
            "{error}"
        );
        assert!(!lab.folder.join(FOLDER).exists());
    }
}
