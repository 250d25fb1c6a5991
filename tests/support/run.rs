//! The `ac7` under test, in an environment of its own.
use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
use serde_json::Value;

/// How long [`wait_until`] waits: long enough for a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A directory that goes away with this value.
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// A fresh directory below the system's temporary one.
    #[expect(clippy::new_without_default, reason = "every call makes another directory")]
    pub fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let clock = std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos());
        let path = std::env::temp_dir().join(format!("ac7test-{}-{count}-{clock:x}", process::id()));
        fs::create_dir(&path).expect("the system's temporary directory can be written");
        TempDir { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// What is in it, names sorted: a test's "nothing is left behind".
    pub fn list(&self) -> Vec<String> {
        list(&self.path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A home for one `ac7`: HOME, TMPDIR and the XDG directories are its own, nothing else is inherited but PATH.
///
/// Make one with [`crate::ac7!`].
pub struct Home {
    binary: PathBuf,
    dir: TempDir,
}

impl Home {
    /// `binary` is the `ac7` to run.
    pub fn new(binary: impl Into<PathBuf>) -> Home {
        let dir = TempDir::new();
        for name in ["home", "tmp"] {
            fs::create_dir(dir.join(name)).expect("a fresh directory can be written");
        }
        Home { binary: binary.into(), dir }
    }

    /// A path inside the directory that holds this home.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The TMPDIR of this home: what `ac7` leaves behind is here.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// What is in TMPDIR, names sorted.
    pub fn left_behind(&self) -> Vec<String> {
        list(&self.tmp())
    }

    /// `ac7 ARGS…` in this home; more can be added before it is run.
    pub fn ac7<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let home = self.dir.join("home");
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8")
            .env("TMPDIR", self.tmp())
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_STATE_HOME", home.join("state"))
            .env("HOME", &home)
            .current_dir(&home)
            .stdin(process::Stdio::null())
            .args(args);
        command
    }

    /// `ac7 ARGS…` to its end.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Finished {
        Finished::from(&self.ac7(args).output().expect("the ac7 under test can be started"))
    }

    /// What `ac7 traces --json` prints of a database, oldest first.
    pub fn traces(&self, db: &Path) -> Vec<Value> {
        let args = [
            OsStr::new("traces"),
            "--db".as_ref(),
            db.as_ref(),
            "--json".as_ref(),
            "--limit".as_ref(),
            "1000".as_ref(),
        ];
        let done = self.run(args);
        assert_eq!(done.code, Some(0), "ac7 traces: {}", done.stderr);
        let mut rows = json_lines(&done.stdout);
        rows.sort_by_key(|row| row["id"].as_u64());
        rows
    }
}

/// The [`Home`] of the `ac7` that cargo built for this integration test.
#[macro_export]
macro_rules! ac7 {
    () => {
        $crate::run::Home::new(env!("CARGO_BIN_EXE_ac7"))
    };
}

/// What came of a process.
#[derive(Debug)]
pub struct Finished {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<&Output> for Finished {
    fn from(output: &Output) -> Finished {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// Every line as a JSON value.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Wait for `what` to become something, looking every few milliseconds; panics after [`PATIENCE`].
pub fn wait_until<T>(name: &str, mut what: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = what() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for: {name}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A port of the loopback that is ours without anybody listening there: connections to it are refused, and no other test
/// is given it, but who asks for it by its number may listen.
pub struct FreePort {
    pub number: u16,
    _socket: OwnedFd,
}

impl FreePort {
    pub fn take() -> FreePort {
        let socket =
            socket(AddressFamily::INET, SocketType::STREAM, None).expect("there is a socket to be had");
        set_socket_reuseaddr(&socket, true).expect("a new socket takes options");
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
        let bound = getsockname(&socket).expect("a bound socket has an address");
        let number = SocketAddrV4::try_from(bound).expect("an address as it was asked for").port();
        FreePort { number, _socket: socket }
    }
}

fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the directory can be read");
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
