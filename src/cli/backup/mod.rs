//! `ac7 backup` and `ac7 restore`: all that a broker has, in one file.
//!
//! The file is a tar archive: the team file, both databases as they were at one moment, what the files of members
//! contain, and last a manifest with the size and SHA-256 of each. Without a manifest that fits it is no backup.
mod restore;
mod tar;

pub use restore::VERB as RESTORE;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use serde_json::{Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::progress::Progress;
use super::{Group, Verb, environment, format, serve, terminal};
use crate::store::{Snapshot, activity, files, main};
use crate::sys::clock::now_ms;
use crate::sys::file::Replacement;
use crate::sys::interrupt::Interrupt;
use crate::sys::random;

pub const VERB: Verb = Verb {
    name: "backup",
    group: Group::Operate,
    summary: "Write all that the broker has into one file",
    operands: Operands::One("FILE"),
    flags: &[
        PLACES,
        &[
            Flag::switch("with-key", "Also the key that opens sealed secrets (the .kek file)"),
            Flag::switch("replace", "Replace FILE if it is there"),
            Flag::switch("quiet", "Say nothing unless it fails"),
        ],
    ],
    examples: &[
        ("ac7 backup /backups/ac7.tar", "while the broker runs"),
        ("ac7 backup --replace --quiet ac7.tar", "the same from cron"),
    ],
    exits: INTERRUPTIBLE,
    see_also: &["ac7-restore(8)", "ac7-check(8)", "ac7-serve(8)"],
    page: "ac7-backup",
    run,
};

/// Where the broker has what is its own; as `ac7 serve` has it.
const PLACES: &[Flag] = &[
    Flag::value("config-path", "PATH", "The team file; else $AC7_CONFIG_PATH").or("./ac7.json"),
    Flag::value("db", "PATH", "The main database; else $AC7_DB_PATH").or("./ac7.db"),
    Flag::value("activity-db", "PATH", "The activity database; else $AC7_ACTIVITY_DB_PATH")
        .or("beside the main one"),
];

const INTERRUPTIBLE: &[(&str, &str)] = &[
    ("0", "done"),
    ("1", "it failed, and nothing was changed"),
    ("2", "the command line makes no sense"),
    ("128+N", "ended by signal N (130 for ^C), and nothing was changed"),
];

/// Names in the archive.
const CONFIG: &str = "ac7.json";
const KEY: &str = "ac7.json.kek";
const MAIN: &str = "main.db";
const ACTIVITY: &str = "activity.db";
const FILES: &str = "files/";
const MANIFEST: &str = "manifest.json";
/// Says what the archive is, in its manifest.
const FORMAT: &str = "ac7-backup-1";

/// The parts of a broker.
struct Places {
    config: PathBuf,
    key: PathBuf,
    main: PathBuf,
    activity: PathBuf,
}

impl Places {
    fn of(parsed: &Parsed) -> Places {
        let config = parsed.path("config-path").or_else(|| environment("AC7_CONFIG_PATH").map(PathBuf::from));
        let config = config.unwrap_or_else(|| "./ac7.json".into());
        let (main, activity) = serve::databases(parsed, &environment);
        Places { key: beside(&config, ".kek"), config, main, activity }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(suffix);
    name.into()
}

/// A file that is read through: how far that is, is told, and a signal breaks it off.
struct Watched<'a> {
    file: File,
    done: u64,
    of: u64,
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
}

impl<'a> Watched<'a> {
    fn new(file: File, progress: &'a mut Progress, interrupt: &'a Interrupt) -> io::Result<Watched<'a>> {
        let of = file.metadata()?.len();
        Ok(Watched { file, done: 0, of, progress, interrupt })
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.came() {
            return Err(io::Error::other("interrupted"));
        }
        let read = self.file.read(buffer)?;
        self.done += read as u64;
        self.progress.tell(self.done, self.of);
        Ok(read)
    }
}

/// An archive that is being written, and what its manifest will say.
struct Archive<'p> {
    out: io::BufWriter<Replacement<'p>>,
    manifest: Vec<Value>,
    now_ms: u64,
}

impl Archive<'_> {
    /// Add a file of so many bytes.
    fn add(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.out.write_all(&tar::header(name, size, self.now_ms / 1000))?;
        let mut hash = Context::new(&SHA256);
        let mut rest = content.take(size);
        let mut buffer = vec![0; 64 << 10];
        let mut done = 0;
        loop {
            let read = match rest.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            hash.update(&buffer[..read]);
            self.out.write_all(&buffer[..read])?;
            done += read as u64;
        }
        if done < size {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("{name} became shorter meanwhile")));
        }
        self.out.write_all(tar::padding(size))?;
        let hash = random::to_hex(hash.finish().as_ref());
        self.manifest.push(json!({"name": name, "bytes": size, "sha256": hash}));
        Ok(())
    }

    fn finish(mut self) -> io::Result<u64> {
        let manifest = json!({
            "format": FORMAT,
            "version": env!("CARGO_PKG_VERSION"),
            "createdAt": self.now_ms,
            "files": self.manifest,
        });
        tar::put(&mut self.out, MANIFEST, manifest.to_string().as_bytes(), self.now_ms / 1000)?;
        self.out.write_all(&tar::END)?;
        let fresh = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        let bytes = fresh.path().metadata()?.len();
        fresh.commit()?;
        Ok(bytes)
    }
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let to = PathBuf::from(parsed.operands.first().cloned().unwrap_or_default());
    if to.exists() && !parsed.has("replace") {
        let why = format!("there is something already: {}", terminal::path(&to));
        return Err(Error::Refused { verb, why, fix: "another name, or --replace" });
    }
    let places = Places::of(parsed);
    let failed = |e: crate::store::Error| Error::failed(verb, e);
    let interrupt = Interrupt::listen().map_err(|e| Error::failed(verb, e))?;
    let on = |path: &Path, e: io::Error| Error::failed(verb, format!("{}: {e}", terminal::path(path)));

    // What the rows of activity speak of is in the main database: its moment is the later one.
    let databases = [
        activity::snapshot(&places.activity).map_err(failed)?,
        main::snapshot(&places.main).map_err(failed)?,
    ];
    let config = fs::read(&places.config).map_err(|e| on(&places.config, e))?;
    let mut archive = Archive {
        out: io::BufWriter::new(Replacement::begin(&to).map_err(|e| on(&to, e))?),
        manifest: Vec::new(),
        now_ms: now_ms(),
    };
    archive.add(CONFIG, config.len() as u64, &mut &config[..]).map_err(|e| on(&to, e))?;
    if parsed.has("with-key") {
        let key = fs::read(&places.key).map_err(|e| on(&places.key, e))?;
        archive.add(KEY, key.len() as u64, &mut &key[..]).map_err(|e| on(&to, e))?;
    }
    let mut progress = Progress::new(parsed.has("quiet"));
    for (name, moment) in [ACTIVITY, MAIN].into_iter().zip(databases) {
        // Beside the archive, where there must be room for it anyway.
        let copy = Replacement::begin(&to).map_err(|e| on(&to, e))?;
        if !copied(&moment, copy.path(), &mut progress, &interrupt).map_err(failed)? {
            return Ok(interrupted(&interrupt));
        }
        // The moment is over; its database's -wal file may shrink again.
        drop(moment);
        let file = File::open(copy.path()).map_err(|e| on(copy.path(), e))?;
        let mut file = Watched::new(file, &mut progress, &interrupt).map_err(|e| on(copy.path(), e))?;
        let added = archive.add(name, file.of, &mut file);
        if interrupt.came() {
            return Ok(interrupted(&interrupt));
        }
        added.map_err(|e| on(&to, e))?;
    }
    // Contents are never changed; one that is gone by now was removed by its owner.
    let contents = files::contents(&files::folder(&places.main));
    for (done, (name, path)) in contents.iter().enumerate() {
        if interrupt.came() {
            return Ok(interrupted(&interrupt));
        }
        progress.tell(done as u64, contents.len() as u64);
        let Ok(mut file) = File::open(path) else { continue };
        let size = file.metadata().map_err(|e| on(path, e))?.len();
        archive.add(&format!("{FILES}{name}"), size, &mut file).map_err(|e| on(&to, e))?;
    }
    progress.clear();
    let bytes = archive.finish().map_err(|e| on(&to, e))?;
    if !parsed.has("quiet") {
        let key = if parsed.has("with-key") { ", the key too: keep it as safe as the broker" } else { "" };
        println!("{}: {}{key}", terminal::path(&to), format::bytes(bytes));
    }
    Ok(0)
}

fn copied(
    moment: &Snapshot,
    to: &Path,
    progress: &mut Progress,
    interrupt: &Interrupt,
) -> Result<bool, crate::store::Error> {
    moment.copy(to, |done, of| {
        progress.tell(done, of);
        if interrupt.came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

fn interrupted(by: &Interrupt) -> u8 {
    terminal::say("interrupted: nothing was changed");
    by.code()
}
