//! The team file as a whole: read with the place of what is wrong, rewritten in one step.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Error;
use super::member::Member;
use super::permission::Permission;
use super::team::{Team, others};
use super::token::{Token, hash_of, same};
use crate::activity::{Invalid, Reader};
use crate::sys::file::write_atomic;

/// The largest team file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Everything in `ac7.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct TeamFile {
    pub team: Team,
    pub members: Vec<Member>,
    /// The address to listen on, unless a flag or a variable says otherwise.
    pub host: Option<String>,
    /// The port to listen on, unless a flag or a variable says otherwise.
    pub port: Option<u16>,
    /// Names under which clients may reach the broker, beyond `localhost` and its address.
    pub hosts: Vec<String>,
    /// Fields this version does not know; kept when the file is rewritten.
    pub more: Map<String, Value>,
}

/// Tells whether a file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// The stamp of the file that is there now.
    ///
    /// # Errors
    /// As [`fs::metadata`].
    pub fn of(path: &Path) -> io::Result<Stamp> {
        fs::metadata(path).map(|m| Stamp::from_metadata(&m))
    }

    fn from_metadata(m: &fs::Metadata) -> Stamp {
        Stamp { device: m.dev(), inode: m.ino(), size: m.size(), modified: (m.mtime(), m.mtime_nsec()) }
    }
}

/// Fields of the file that are not additive.
const FIELDS: [&str; 5] = ["team", "members", "host", "port", "hosts"];

impl TeamFile {
    /// Read the file and remember which one it was.
    ///
    /// # Errors
    /// It is missing or unreadable, is not JSON (with line and column), or is not a team (with the field's path).
    pub fn load(path: &Path) -> Result<(TeamFile, Stamp), Error> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Error::Missing(path.to_path_buf()),
            _ => Error::Io { action: "read", path: path.to_path_buf(), error },
        };
        let file = File::open(path).map_err(failed)?;
        // Stamped before it is read: a change in between is then seen as one.
        let stamp = Stamp::from_metadata(&file.metadata().map_err(failed)?);
        let mut text = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
        Ok((TeamFile::parse(path, &text)?, stamp))
    }

    /// A team file from its bytes; `path` is for the errors.
    ///
    /// # Errors
    /// As [`TeamFile::load`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<TeamFile, Error> {
        let value: Value = serde_json::from_slice(text).map_err(|e| {
            let whole = e.to_string();
            // serde_json repeats the place at the end of its sentence.
            let message = whole.split(" at line ").next().unwrap_or(&whole).to_string();
            Error::Syntax { path: path.to_path_buf(), line: e.line(), column: e.column(), message }
        })?;
        TeamFile::from_json(&value).map_err(|invalid| Error::Invalid { path: path.to_path_buf(), invalid })
    }

    /// A team file from its JSON.
    ///
    /// # Errors
    /// The path of the first field that is missing, has a wrong type or breaks a rule; names and token ids are unique.
    pub fn from_json(value: &Value) -> Result<TeamFile, Invalid> {
        let at = Reader::new(value);
        if !value.is_object() {
            return Err(at.invalid("is not an object"));
        }
        let port = |r: &Reader<'_>| u16::try_from(r.uint()?).map_err(|_| r.invalid("is not a port"));
        let hosts = at.field("hosts").optional(Reader::items)?.unwrap_or_default();
        let file = TeamFile {
            team: Team::read(&at.field("team"))?,
            members: at.field("members").items()?.iter().map(Member::read).collect::<Result<_, _>>()?,
            host: at.field("host").optional(Reader::string)?,
            port: at.field("port").optional(port)?,
            hosts: hosts.iter().map(Reader::string).collect::<Result<_, _>>()?,
            more: others(&at, &FIELDS),
        };
        file.unique(&at)?;
        Ok(file)
    }

    fn unique(&self, at: &Reader<'_>) -> Result<(), Invalid> {
        let members = at.field("members").items()?;
        let mut ids: Vec<&str> = Vec::new();
        for (i, (member, place)) in self.members.iter().zip(&members).enumerate() {
            if self.members[..i].iter().any(|earlier| earlier.name == member.name) {
                return Err(place.field("name").invalid("is the name of an earlier member too"));
            }
            for token in &member.tokens {
                if ids.contains(&token.id.as_str()) {
                    return Err(place.field("tokens").invalid("repeats the id of another token"));
                }
                ids.push(&token.id);
            }
        }
        Ok(())
    }

    /// The file's JSON, unknown fields included.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("team".into(), self.team.to_file_json());
        out.insert("members".into(), self.members.iter().map(Member::to_json).collect());
        if let Some(host) = &self.host {
            out.insert("host".into(), json!(host));
        }
        if let Some(port) = self.port {
            out.insert("port".into(), json!(port));
        }
        if !self.hosts.is_empty() {
            out.insert("hosts".into(), json!(self.hosts));
        }
        out.extend(self.more.clone());
        Value::Object(out)
    }

    /// Write the file in one step, 0600. Only under [`lock`]: use [`TeamFile::update`].
    pub(super) fn write(&self, path: &Path) -> Result<(), Error> {
        let mut text = format!("{:#}", self.to_json());
        text.push('\n');
        write_atomic(path, text.as_bytes()).map_err(|error| Error::Io {
            action: "write",
            path: path.to_path_buf(),
            error,
        })
    }

    /// Read the file, change it and write it back, alone among all programs that do so.
    ///
    /// What is written is checked by the same rules as what is read, and somebody keeps the right to manage members.
    ///
    /// # Errors
    /// Those of [`TeamFile::load`] and of `change`, a change that breaks a rule of the file or takes that right from
    /// the last who has it, or a failed write; the old file then stands untouched.
    pub fn update<T>(
        path: &Path,
        change: impl FnOnce(&mut TeamFile) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let _held = lock(path)?;
        let (mut file, _) = TeamFile::load(path)?;
        let was_managed = file.is_managed();
        let result = change(&mut file)?;
        if was_managed && !file.is_managed() {
            return Err(Error::LastAdmin);
        }
        TeamFile::from_json(&file.to_json()).map_err(Error::Refused)?;
        file.write(path)?;
        Ok(result)
    }

    /// Whether there is a member who may manage members.
    fn is_managed(&self) -> bool {
        self.members.iter().any(|m| self.allows(m, Permission::MembersManage))
    }

    /// The member called `name`.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|m| m.name == name)
    }

    /// Whose token this is, unless it has expired at `now` (ms since the epoch).
    ///
    /// Every token is compared, each in constant time: how long it takes says nothing about the file.
    #[must_use]
    pub fn authenticate(&self, text: &str, now: u64) -> Option<(&Member, &Token)> {
        let hash = hash_of(text);
        let mut found = None;
        for member in &self.members {
            for token in &member.tokens {
                if same(&token.hash, &hash) && token.expires_at.is_none_or(|end| now < end) {
                    found = Some((member, token));
                }
            }
        }
        found
    }

    /// What a member may do.
    #[must_use]
    pub fn permissions(&self, member: &Member) -> Vec<Permission> {
        self.team.resolve(&member.permissions)
    }

    /// Whether a member may do one thing.
    #[must_use]
    pub fn allows(&self, member: &Member, permission: Permission) -> bool {
        self.permissions(member).contains(&permission)
    }
}

/// The lock of a team file, held until the result is dropped. It is a file of its own (`ac7.json.lock`), since every
/// rewrite puts a new file in the old one's place.
pub(super) fn lock(path: &Path) -> Result<File, Error> {
    let place = beside(path, ".lock");
    let open = OpenOptions::new().append(true).create(true).mode(0o600).open(&place);
    let held = open.and_then(|file| file.lock().map(|()| file));
    held.map_err(|error| Error::Io { action: "lock", path: place, error })
}

/// `path` with `suffix` appended to its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}
