//! The repair of a stale overage cache: two keys of `.claude.json` are cut out, and not a byte more.
use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_core::de::IgnoredAny;
use serde_json::{Deserializer, Value};

use crate::sys::clock::now_ms;
use crate::sys::{file, random};

/// What is cut.
pub const KEYS: [&str; 2] = ["overageCreditGrantCache", "cachedExtraUsageDisabledReason"];

/// How often a file that is being written is tried.
const TRIES: u32 = 3;
/// Between two tries; Claude Code holds its lock for a moment only.
const PAUSE: Duration = Duration::from_millis(300);

/// Why nothing was repaired.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be read or written.
    Io { path: PathBuf, why: io::Error },
    /// It is no JSON object.
    NotAnObject { path: PathBuf },
    /// Somebody wrote it each time.
    Busy { path: PathBuf },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, why } => write!(f, "cannot repair {}: {why}", path.display()),
            Error::NotAnObject { path } => {
                write!(f, "cannot repair {}: it is no JSON object", path.display())
            }
            Error::Busy { path } => write!(f, "cannot repair {}: it was changed meanwhile", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Error::Io { .. } => None,
            Error::NotAnObject { .. } => Some("restore one of its backups: ls ~/.claude.json.bak.*"),
            Error::Busy { .. } => Some("end the claude that runs, then try again"),
        }
    }
}

/// The keys that a file has and that would be cut, each with a word on its value; none for a file that is not there.
///
/// # Errors
/// The file cannot be read, or is no JSON object.
pub fn found(path: &Path) -> Result<Vec<(&'static str, String)>, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(why) => return Err(Error::Io { path: path.to_path_buf(), why }),
    };
    let not = || Error::NotAnObject { path: path.to_path_buf() };
    let value: Value = serde_json::from_slice(&text).map_err(|_| not())?;
    let object = value.as_object().ok_or_else(not)?;
    Ok(KEYS.into_iter().filter_map(|key| Some((key, about(object.get(key)?)))).collect())
}

fn about(value: &Value) -> String {
    let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match value {
        Value::Object(entries) => format!("{} of an account", entries.len()),
        Value::String(word) if word.len() <= 64 && is_word(word) => word.clone(),
        Value::Null => "null".to_string(),
        _ => "a value".to_string(),
    }
}

/// Cut the keys out of the file, and give where a copy of it as it was stands.
///
/// # Errors
/// [`Error`]; the file is then as it was.
pub fn cut_out(path: &Path) -> Result<PathBuf, Error> {
    cut_out_with(path, |_| {})
}

/// `meanwhile` is called between reading and replacing the file, with the number of the try.
fn cut_out_with(path: &Path, mut meanwhile: impl FnMut(u32)) -> Result<PathBuf, Error> {
    let failed = |why| Error::Io { path: path.to_path_buf(), why };
    // The name may be a link to where somebody keeps such files.
    let target = fs::canonicalize(path).map_err(failed)?;
    for number in 0..TRIES {
        let lock = match Lock::take(&target) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(why) => return Err(failed(why)),
        };
        let before = fs::read(&target).map_err(failed)?;
        let after = cut(&before, &KEYS).ok_or_else(|| Error::NotAnObject { path: path.to_path_buf() })?;
        let copy = back_up(path, &before).map_err(failed)?;
        meanwhile(number);
        match replace(&target, &before, &after) {
            Ok(true) => return Ok(copy),
            // It is of a state that nobody will miss.
            Ok(false) => fs::remove_file(&copy).map_err(failed)?,
            Err(why) => return Err(failed(why)),
        }
        drop(lock);
    }
    Err(Error::Busy { path: path.to_path_buf() })
}

/// The lock of Claude Code on its file, a directory beside it. One that a dead process left, Claude Code takes for
/// abandoned after some seconds.
struct Lock(PathBuf);

impl Lock {
    fn take(target: &Path) -> io::Result<Lock> {
        let mut name = target.file_name().unwrap_or_default().to_os_string();
        name.push(".lock");
        let path = target.with_file_name(name);
        fs::create_dir(&path).map(|()| Lock(path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn back_up(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut second = now_ms() / 1000;
    loop {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".bak.{second}"));
        let copy = path.with_file_name(name);
        match file::create_private(&copy) {
            // An earlier repair in the same second.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => second += 1,
            Err(why) => return Err(why),
            Ok(mut file) => {
                file.write_all(bytes)?;
                file.sync_all()?;
                return Ok(copy);
            }
        }
    }
}

/// Put `after` in the place of `before`; gives whether it still stood there. The mode stays.
fn replace(target: &Path, before: &[u8], after: &[u8]) -> io::Result<bool> {
    let mode: Permissions = fs::metadata(target)?.permissions();
    let mut name = target.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", random::hex::<6>()));
    let fresh = target.with_file_name(name);
    let swapped = file::create_private(&fresh).and_then(|mut file| {
        file.write_all(after)?;
        file.set_permissions(mode)?;
        file.sync_all()?;
        if fs::read(target)? != before {
            return Ok(false);
        }
        fs::rename(&fresh, target).map(|()| true)
    });
    if !matches!(swapped, Ok(true)) {
        let _ = fs::remove_file(&fresh);
    }
    swapped
}

/// `text` without the members of its outermost object that are called so; every other byte stays. `None` if it is no
/// JSON object.
fn cut(text: &[u8], keys: &[&str]) -> Option<Vec<u8>> {
    let members = members(text)?;
    let Some((first, last)) = members.first().zip(members.last()) else { return Some(text.to_vec()) };
    let mut out = text[..first.start].to_vec();
    let mut kept = false;
    for (i, member) in members.iter().enumerate() {
        if keys.contains(&member.key.as_str()) {
            continue;
        }
        if kept {
            // The comma and the white space that stood before it.
            out.extend_from_slice(&text[members[i - 1].end..member.start]);
        }
        out.extend_from_slice(&text[member.start..member.end]);
        kept = true;
    }
    out.extend_from_slice(&text[last.end..]);
    // It has been put together by hand: what it says has the last word.
    let mut want: Value = serde_json::from_slice(text).ok()?;
    want.as_object_mut()?.retain(|key, _| !keys.contains(&key.as_str()));
    (serde_json::from_slice::<Value>(&out).ok()? == want).then_some(out)
}

/// A member of an object: from its key's first quote to its value's last byte.
struct Member {
    key: String,
    start: usize,
    end: usize,
}

fn members(text: &[u8]) -> Option<Vec<Member>> {
    let space = |mut at: usize| {
        while text.get(at).is_some_and(|b| b" \t\r\n".contains(b)) {
            at += 1;
        }
        at
    };
    let byte = |at: usize, wanted: u8| (text.get(at) == Some(&wanted)).then_some(at + 1);
    let value_end = |at: usize| {
        let mut values = Deserializer::from_slice(text.get(at..)?).into_iter::<IgnoredAny>();
        values.next()?.ok().map(|_| at + values.byte_offset())
    };
    let mut at = space(byte(space(0), b'{')?);
    let mut found = Vec::new();
    if text.get(at) == Some(&b'}') {
        return Some(found);
    }
    loop {
        let start = at;
        byte(start, b'"')?;
        let key_end = value_end(start)?;
        let key = serde_json::from_slice(text.get(start..key_end)?).ok()?;
        let end = value_end(space(byte(space(key_end), b':')?))?;
        found.push(Member { key, start, end });
        at = space(end);
        match text.get(at)? {
            b',' => at = space(at + 1),
            b'}' => return Some(found),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_members_are_cut() {
        for (text, want) in [
            ("{}", "{}"),
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{ "x" : 1 , "a":2}"#, r#"{ "a":2}"#),
            (r#"{"a":2 , "x" : null }"#, r#"{"a":2 }"#),
            (
                "{\n  \"a\": 1,\n  \"x\": {\"a\": [1, {}]},\n  \"b\": 2\n}\n",
                "{\n  \"a\": 1,\n  \"b\": 2\n}\n",
            ),
            (r#"{"x":1,"y":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"a":3,"x":1,"y":2}"#, r#"{"a":3}"#),
            (r#"{"x":1,"a":3,"y":"}","b":4}"#, r#"{"a":3,"b":4}"#),
            (r#"{ "x":1, "y":2 }"#, r#"{  }"#),
            (r#"{"\u0078":1,"a":1e400000,"b":0.10}"#, ""),
            (r#"{"\u0078":1,"b":0.10}"#, r#"{"b":0.10}"#),
            (r#"{"a":{"x":1}}"#, r#"{"a":{"x":1}}"#),
            ("[1]", ""),
            ("{", ""),
            (r#"{"a":1,}"#, ""),
            ("", ""),
        ] {
            let got = cut(text.as_bytes(), &["x", "y"]).map(|out| String::from_utf8(out).unwrap());
            assert_eq!(got.unwrap_or_default(), want, "{text}");
        }
    }

    /// A file like the real one: 30 KB of state that is none of our business.
    fn state(more: &str) -> String {
        let project =
            |i: usize| format!("    \"/home/u/p{i}\": {{ \"allowedTools\": [], \"cost\": 0.{i}0 }}");
        let projects: Vec<String> = (0..600).map(project).collect();
        format!("{{\n  \"numStartups\": 41,\n{more}  \"projects\": {{\n{}\n  }}\n}}\n", projects.join(",\n"))
    }

    const STALE: &str = "  \"overageCreditGrantCache\": {\n    \"org\": { \"info\": { \"available\": false }, \
                         \"timestamp\": 1 }\n  },\n  \"cachedExtraUsageDisabledReason\": \"org_level_disabled\",\n";

    fn folder() -> PathBuf {
        let folder = std::env::temp_dir().join(format!("stale-test-{}", random::hex::<6>()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn two_keys_go_and_the_rest_stays() {
        let folder = folder();
        let (real, link) = (folder.join("kept.json"), folder.join(".claude.json"));
        fs::write(&real, state(STALE)).unwrap();
        assert!(state(STALE).len() > 30_000);
        fs::set_permissions(&real, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let want = [(KEYS[0], "1 of an account".to_string()), (KEYS[1], "org_level_disabled".to_string())];
        assert_eq!(found(&link).unwrap(), want);
        let copy = cut_out(&link).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), state(""));
        assert_eq!(fs::read_to_string(&copy).unwrap(), state(STALE));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&real), mode(&copy)), (0o640, 0o600));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3, "the file, its link and its copy");
        assert!(found(&link).unwrap().is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_others_write_meanwhile_survives() {
        let folder = folder();
        let path = folder.join(".claude.json");
        fs::write(&path, state(STALE)).unwrap();
        let newer = format!("{STALE}  \"new\": true,\n");
        cut_out_with(&path, |number| {
            if number == 0 {
                fs::write(&path, state(&newer)).unwrap();
            }
        })
        .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), state("  \"new\": true,\n"));
        // Whoever never rests is not overwritten.
        fs::write(&path, state(STALE)).unwrap();
        let mut count = 0;
        let error = cut_out_with(&path, |number| {
            count += 1;
            fs::write(&path, state(&format!("{STALE}  \"n\": {number},\n"))).unwrap();
        });
        assert!(matches!(error, Err(Error::Busy { .. })), "{error:?}");
        assert_eq!((count, fs::read_to_string(&path).unwrap()), (3, state(&format!("{STALE}  \"n\": 2,\n"))));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_claude_that_is_writing_is_waited_for() {
        let folder = folder();
        let path = folder.join(".claude.json");
        fs::write(&path, state(STALE)).unwrap();
        fs::create_dir(folder.join(".claude.json.lock")).unwrap();
        assert!(matches!(cut_out(&path), Err(Error::Busy { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), state(STALE));
        fs::remove_dir_all(&folder).unwrap();
    }
}
