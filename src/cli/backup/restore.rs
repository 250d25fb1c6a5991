//! `ac7 restore`: put back what `ac7 backup` wrote.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use serde_json::Value;

use super::{
    ACTIVITY, CONFIG, FILES, FORMAT, INTERRUPTIBLE, KEY, MAIN, MANIFEST, PLACES, Places, Watched, beside, tar,
};
use crate::cli::error::Error;
use crate::cli::flags::{Flag, Operands, Parsed};
use crate::cli::progress::Progress;
use crate::cli::{Group, Verb, format, terminal};
use crate::store::{activity, check_structure, files, is_in_use, main};
use crate::sys::clock::now_ms;
use crate::sys::file::{Replacement, ensure_private_dir};
use crate::sys::interrupt::Interrupt;
use crate::sys::random;

pub const VERB: Verb = Verb {
    name: "restore",
    group: Group::Operate,
    summary: "Put back what ac7 backup wrote",
    operands: Operands::One("FILE"),
    flags: &[
        PLACES,
        &[
            Flag::switch("replace", "Move aside what is there as NAME.before-SECONDS"),
            Flag::switch("quiet", "Say nothing unless it fails"),
        ],
    ],
    examples: &[
        ("ac7 restore /backups/ac7.tar", "into an empty directory"),
        ("ac7 restore --replace ac7.tar", "over a broker that has stopped"),
    ],
    exits: INTERRUPTIBLE,
    see_also: &["ac7-backup(8)", "ac7-check(8)", "ac7-serve(8)"],
    page: "ac7-restore",
    run,
};

/// A manifest is a line a file; this is for millions of them.
const MANIFEST_LIMIT: u64 = 256 << 20;

/// What SQLite writes beside a database, by how its name ends.
const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// What came out of the archive so far: sizes and SHA-256 by name.
#[derive(Default)]
struct Found(BTreeMap<String, (u64, String)>);

impl Found {
    /// Whether the manifest says exactly this.
    fn fits(&self, manifest: &Value) -> bool {
        let listed = manifest["files"].as_array().map_or(&[][..], Vec::as_slice);
        let fits = |file: &Value| {
            let found = file["name"].as_str().and_then(|name| self.0.get(name));
            found.is_some_and(|(size, hash)| {
                file["bytes"].as_u64() == Some(*size) && file["sha256"].as_str() == Some(hash)
            })
        };
        manifest["format"] == FORMAT && listed.len() == self.0.len() && listed.iter().all(fits)
    }
}

/// A folder that is removed unless it was renamed.
struct Fresh(PathBuf);

impl Drop for Fresh {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // not there any more once it has its place
    }
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let from = PathBuf::from(parsed.operands.first().cloned().unwrap_or_default());
    let places = Places::of(parsed);
    let folder = files::folder(&places.main);
    let databases = [&places.main, &places.activity];
    let failed = |e: crate::store::Error| Error::failed(verb, e);

    let refused = |path: &Path| {
        let why = format!("there is something already: {}", terminal::path(path));
        Error::Refused { verb, why, fix: "another place, or --replace" }
    };
    let logs = databases.map(|path| LOGS.map(|suffix| beside(path, suffix)));
    let mut aside = vec![&places.config, &places.main, &places.activity, &folder];
    let mut there = aside.iter().copied().chain(logs.as_flattened());
    let first = there.find(|path| fs::symlink_metadata(path).is_ok());
    if let Some(first) = first.filter(|_| !parsed.has("replace")) {
        return Err(refused(first));
    }
    for database in databases {
        if database.exists() && is_in_use(database).map_err(failed)? {
            let what = format!("{}: a program has it open", terminal::path(database));
            return Err(Error::Failed { verb, what, fix: Some("stop the broker first".to_string()) });
        }
    }

    let interrupt = Interrupt::listen().map_err(|e| Error::failed(verb, e))?;
    let mut progress = Progress::new(parsed.has("quiet"));
    let unpacked = Unpacked::of(&from, &places, &folder, &mut progress, &interrupt);
    if interrupt.came() {
        return Ok(super::interrupted(&interrupt));
    }
    let mut unpacked = unpacked?;
    drop(progress);
    let with_key = unpacked.fresh.contains_key(KEY);
    // The key may be there beforehand: most backups come without it.
    if let (Some(key), Ok(known)) = (unpacked.fresh.get(KEY), fs::read(&places.key)) {
        if fs::read(key.path()).map_err(|e| on(key.path(), &e))? == known {
            unpacked.fresh.remove(KEY);
        } else if parsed.has("replace") {
            aside.push(&places.key);
        } else {
            return Err(refused(&places.key));
        }
    }
    unpacked.put(&places, &folder, &aside)?;
    if !parsed.has("quiet") {
        println!("{} from {}", format::counted(unpacked.count, "file"), terminal::path(&from));
        if !with_key && !places.key.exists() {
            println!(
                "The key is not in it: put {} back, or see ac7 help troubleshooting.",
                terminal::path(&places.key)
            );
        }
    }
    Ok(0)
}

/// What was in a whole backup, beside its places.
struct Unpacked<'p> {
    /// By name in the archive.
    fresh: BTreeMap<&'static str, Replacement<'p>>,
    /// What files contain.
    contents: Fresh,
    count: u64,
}

impl<'p> Unpacked<'p> {
    /// Read the archive and look at all of it. Dropped, or after an error, nothing is left of it.
    fn of(
        from: &Path,
        places: &'p Places,
        folder: &Path,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Result<Unpacked<'p>, Error> {
        let failed = |e: crate::store::Error| Error::failed(VERB.name, e);
        let broken = |e: io::Error| on(from, &e);
        let archive = File::open(from).and_then(|file| Watched::new(file, progress, interrupt));
        let mut archive = BufReader::with_capacity(64 << 10, archive.map_err(broken)?);
        let targets = targets(places);
        for (_, path) in targets {
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                ensure_private_dir(parent).map_err(|e| on(parent, &e))?;
            }
        }
        let mut fresh = BTreeMap::new();
        let contents = Fresh(beside(folder, &format!(".{}.tmp", random::hex::<6>())));
        let (mut found, mut manifest) = (Found::default(), Value::Null);
        while let Some((name, size)) = tar::next(&mut archive).map_err(broken)? {
            if name == MANIFEST {
                let mut text = Vec::new();
                (&mut archive).take(size.min(MANIFEST_LIMIT)).read_to_end(&mut text).map_err(broken)?;
                tar::pass(&mut archive, size).map_err(broken)?;
                manifest = serde_json::from_slice(&text).unwrap_or_default();
                continue;
            }
            let hash = if let Some((known, path)) = targets.into_iter().find(|(known, _)| *known == name) {
                let mut to = Replacement::begin(path).map_err(|e| on(path, &e))?;
                let hash = unpack(&mut archive, size, &mut to).map_err(broken)?;
                fresh.insert(known, to);
                hash
            } else if let Some(content) = name.strip_prefix(FILES).filter(|name| is_hash(name)) {
                let folder = contents.0.join(&content[..2]);
                ensure_private_dir(&folder).map_err(|e| on(&folder, &e))?;
                let path = folder.join(content);
                let mut to = Replacement::begin(&path).map_err(|e| on(&path, &e))?;
                let hash = unpack(&mut archive, size, &mut to).map_err(broken)?;
                to.commit().map_err(|e| on(&path, &e))?;
                hash
            } else {
                return Err(no_backup(from, "there is a file in it that no backup has"));
            };
            found.0.insert(name, (size, hash));
        }
        if !found.fits(&manifest) {
            return Err(no_backup(from, "its manifest is missing or does not fit"));
        }
        if !fresh.contains_key(CONFIG) {
            return Err(no_backup(from, "the team file is missing in it"));
        }
        for name in [MAIN, ACTIVITY] {
            let Some(copy) = fresh.get(name) else {
                return Err(no_backup(from, "a database is missing in it"));
            };
            let snapshot = if name == MAIN { main::snapshot } else { activity::snapshot };
            drop(snapshot(copy.path()).map_err(failed)?);
            if let Some(fault) = check_structure(copy.path()).map_err(failed)?.first() {
                return Err(no_backup(from, fault));
            }
            for suffix in LOGS {
                let _ = fs::remove_file(beside(copy.path(), suffix)); // of having been looked at
            }
        }
        Ok(Unpacked { fresh, contents, count: found.0.len() as u64 })
    }

    /// Move what is in the way aside, and all of this to its places; if that fails halfway, all is moved back.
    fn put(&mut self, places: &Places, folder: &Path, aside: &[&PathBuf]) -> Result<(), Error> {
        let mut done = Vec::new();
        let put = self.put_each(places, folder, aside, &mut done);
        if put.is_err() {
            for (path, from) in done.into_iter().rev() {
                // The error that is told is the first one.
                let _ = from.map_or_else(|| fs::remove_file(&path), |from| fs::rename(&path, from));
            }
        }
        put
    }

    /// The team file comes last, since without it no broker starts. What is done goes to `done`: a path, and where what
    /// is there was before if it was.
    fn put_each(
        &mut self,
        places: &Places,
        folder: &Path,
        aside: &[&PathBuf],
        done: &mut Vec<(PathBuf, Option<PathBuf>)>,
    ) -> Result<(), Error> {
        let ending = format!(".before-{}", now_ms() / 1000);
        let mut moves: Vec<_> =
            aside.iter().map(|path| (path.to_path_buf(), beside(path, &ending))).collect();
        // A log belongs to the database whose name it bears; one that outlived it would be played into the new one.
        for database in [&places.main, &places.activity] {
            let kept = beside(database, &ending);
            moves.extend(LOGS.map(|suffix| (beside(database, suffix), beside(&kept, suffix))));
        }
        for (path, kept) in moves {
            match fs::rename(&path, &kept) {
                Ok(()) => done.push((kept, Some(path))),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(on(&path, &e)),
            }
        }
        if self.contents.0.exists() {
            fs::rename(&self.contents.0, folder).map_err(|e| on(folder, &e))?;
            done.push((folder.to_path_buf(), Some(self.contents.0.clone())));
        }
        for (name, path) in targets(places).into_iter().rev() {
            if let Some(to) = self.fresh.remove(name) {
                to.commit().map_err(|e| on(path, &e))?;
                done.push((path.clone(), None));
            }
        }
        Ok(())
    }
}

/// Names in the archive with their places, the team file first.
fn targets(places: &Places) -> [(&'static str, &PathBuf); 4] {
    [(CONFIG, &places.config), (KEY, &places.key), (MAIN, &places.main), (ACTIVITY, &places.activity)]
}

fn on(path: &Path, error: &io::Error) -> Error {
    Error::failed(VERB.name, format!("{}: {error}", terminal::path(path)))
}

fn no_backup(path: &Path, why: &str) -> Error {
    Error::failed(VERB.name, format!("{}: it is no whole backup: {why}", terminal::path(path)))
}

fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Copy a content out of the archive; gives its SHA-256.
fn unpack(archive: &mut impl Read, size: u64, to: &mut impl Write) -> io::Result<String> {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        archive.read_exact(&mut buffer[..most])?;
        hash.update(&buffer[..most]);
        to.write_all(&buffer[..most])?;
        left -= most as u64;
    }
    tar::pass(archive, size)?;
    Ok(random::to_hex(hash.finish().as_ref()))
}
