//! `/fs`: the files of members. A home is for its owner and for those who manage members; others may read what they
//! were sent.
use serde_json::{Value, json};

use super::object;
use crate::activity::{Invalid, Reader};
use crate::broker::call::{Answer, Body, Failure};
use crate::broker::router::Authorized;
use crate::broker::uploads::UPLOAD;
use crate::identity::Permission;
use crate::store::files::{Collide, Content, Entry, Error, FileFacts, FsPath, NewFile, NotAttached, Refused};
use crate::sys::clock::now_ms;
use crate::sys::random::to_hex;
use crate::team::Attachment;

/// What nothing is known about.
const ANY: &str = "application/octet-stream";

/// `GET /fs/ls?path=`: what is in a directory; in `/`, the homes that the caller may look into.
pub fn list(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let path = match at.call.query.get("path") {
        Some(text) => parse("path", text)?,
        None => parse("path", "/")?,
    };
    if path.owner().is_some() {
        must_own(at, &path, "listing")?;
    }
    let mut entries = at.service.files.list(&path)?;
    if path.owner().is_none() && !manages(at) {
        entries.retain(|entry| entry.owner == at.caller.member().name);
    }
    Ok(Answer::json(200, &json!({"entries": all(&entries)})))
}

/// `GET /fs/stat?path=`.
pub fn stat(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let path = parse("path", at.call.query.get("path").unwrap_or_default())?;
    must_read(at, &path)?;
    one(&at.service.files.stat(&path)?)
}

/// `GET /fs/shared`: what others let the caller read.
pub fn shared(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let entries = at.service.files.shared_with(&at.caller.member().name)?;
    Ok(Answer::json(200, &json!({"entries": all(&entries)})))
}

/// `GET /fs/read/<path>`: the content. A browser that is sent here must not run it as a page of ours.
pub fn read(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let path = FsPath::of(&at.params).map_err(|why| wrong("path", why))?;
    must_read(at, &path)?;
    let (entry, file) = at.service.files.read(&path)?;
    let Some(FileFacts { size, mime, .. }) = &entry.file else {
        return Err(Error::Refused(Refused::IsFolder(path)).into());
    };
    let length = usize::try_from(*size).map_err(|_| Failure::Internal("a file is too large".to_string()))?;
    let headers = vec![
        ("Content-Type", harmless(mime).to_string()),
        ("Content-Disposition", format!("attachment; filename=\"{}\"", entry.name())),
        ("X-Content-Type-Options", "nosniff".to_string()),
        ("Content-Security-Policy", "default-src 'none'; sandbox".to_string()),
    ];
    Ok(Answer { status: 200, headers, body: Body::Sized(Box::new(file), length) })
}

/// `POST /fs/write?path=&mime=&collide=`: the body becomes a file; missing directories are made.
pub fn write(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let query = &at.call.query;
    let path = parse("path", query.get("path").unwrap_or_default())?;
    must_own(at, &path, "writing")?;
    must_have_home(at, &path)?;
    let collide = match query.get("collide").unwrap_or("error") {
        "error" => Collide::Refuse,
        "suffix" => Collide::Number,
        "overwrite" => Collide::Replace,
        _ => return Err(wrong("collide", "is not one of error, suffix, overwrite")),
    };
    let mime = query.get("mime").or_else(|| at.call.headers.get("content-type")).unwrap_or(ANY);
    if !is_mime(mime) {
        return Err(wrong("mime", "is not a media type like text/plain of at most 127 characters"));
    }
    let content = content(at)?;
    let limits = at.service.team.settings().files;
    if content.size > limits.max_bytes as u64 {
        let why =
            format!("a file may have {} bytes: files.maxBytes in ac7.json is the limit", limits.max_bytes);
        return Err(Failure::TooLarge(why));
    }
    let by = &at.caller.member().name;
    let new = NewFile { path: &path, content: &content, mime, collide, by };
    let (entry, renamed) = at.service.files.write(&new, limits.quota_bytes, now_ms())?;
    Ok(Answer::json(200, &json!({"entry": entry_json(&entry), "renamed": renamed})))
}

/// `POST /fs/mkdir {path, recursive?}`.
pub fn make_folder(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let body = object(&at.body)?;
    let body = Reader::new(&body);
    let path = field(&body, "path")?;
    let parents =
        body.field("recursive").optional(Reader::bool).map_err(Failure::invalid)?.unwrap_or_default();
    must_own(at, &path, "writing")?;
    must_have_home(at, &path)?;
    let by = &at.caller.member().name;
    one(&at.service.files.make_folder(&path, parents, by, now_ms())?)
}

/// `POST /fs/mv {from, to}`: missing directories are made, nothing is overwritten.
pub fn rename(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let body = object(&at.body)?;
    let body = Reader::new(&body);
    let (from, to) = (field(&body, "from")?, field(&body, "to")?);
    must_own(at, &from, "moving")?;
    must_own(at, &to, "writing")?;
    must_have_home(at, &to)?;
    let (by, quota) = (&at.caller.member().name, at.service.team.settings().files.quota_bytes);
    one(&at.service.files.rename(&from, &to, by, quota, now_ms())?)
}

/// `DELETE /fs/rm?path=&recursive=`.
pub fn remove(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let query = &at.call.query;
    let path = parse("path", query.get("path").unwrap_or_default())?;
    must_own(at, &path, "removing")?;
    let recursive = match query.get("recursive").unwrap_or("false") {
        "true" | "1" => true,
        "false" | "0" => false,
        _ => return Err(wrong("recursive", "is neither true nor false")),
    };
    at.service.files.remove(&path, recursive)?;
    Ok(Answer::empty())
}

/// Check what the caller attaches to something: only what it may read itself. What the file is, the broker knows best.
pub fn attach(at: &Authorized<'_>, attachments: &mut [Attachment]) -> Result<(), Failure> {
    let checked = at.service.files.attach(&at.caller.member().name, manages(at), attachments)?;
    checked.map_err(|not| match not {
        NotAttached::Missing(i) => {
            let why = format!("is {}, where there is no file", attachments[i].path);
            wrong(&format!("attachments[{i}].path"), &why)
        }
        NotAttached::Forbidden(i) => Failure::Forbidden(format!(
            "attaching {} is for those who may read it: its owner, who was sent it, who has the {} permission",
            attachments[i].path,
            Permission::MembersManage.name()
        )),
    })
}

fn manages(at: &Authorized<'_>) -> bool {
    at.caller.team.allows(at.caller.member(), Permission::MembersManage)
}

/// Let the owner of a home pass, and those who manage members.
fn must_own(at: &Authorized<'_>, path: &FsPath, doing: &str) -> Result<(), Failure> {
    let doing = format!("{doing} files of another member");
    at.caller.must_be_or_hold(path.owner().unwrap_or_default(), Permission::MembersManage, &doing)
}

/// Let those pass as well who were sent it. What is not there is refused in the same way.
fn must_read(at: &Authorized<'_>, path: &FsPath) -> Result<(), Failure> {
    let own = must_own(at, path, "reading");
    if own.is_ok() || at.service.files.is_granted(path, &at.caller.member().name)? {
        return Ok(());
    }
    own
}

/// Only members have homes.
fn must_have_home(at: &Authorized<'_>, path: &FsPath) -> Result<(), Failure> {
    match path.owner() {
        Some(owner) if at.caller.team.member(owner).is_none() => {
            Err(Failure::NotFound(format!("there is no member {owner}")))
        }
        _ => Ok(()),
    }
}

/// The body, from where the edge has put it.
fn content(at: &Authorized<'_>) -> Result<Content, Failure> {
    if let Some(name) = at.call.headers.get(UPLOAD) {
        let lost = || Failure::Internal("the edge lost a file".to_string());
        return at.service.uploads.contents.take(name).ok_or_else(lost);
    }
    let stored = at.service.uploads.begin().and_then(|mut upload| {
        upload.put(&at.body)?;
        upload.finish()
    });
    stored.map_err(|error| match at.service.uploads.failed(&error) {
        (507, reason) => Failure::NoRoom(reason.to_string()),
        _ => Failure::Internal(error.to_string()),
    })
}

fn wrong(name: &str, message: &str) -> Failure {
    Failure::invalid(Invalid { path: name.to_string(), message: message.to_string() })
}

fn parse(name: &str, text: &str) -> Result<FsPath, Failure> {
    FsPath::parse(text).map_err(|why| wrong(name, why))
}

fn field(body: &Reader<'_>, name: &str) -> Result<FsPath, Failure> {
    parse(name, body.field(name).str().map_err(Failure::invalid)?)
}

/// Whether something has the form of a media type (RFC 9110 §8.3.1), parameters included.
fn is_mime(text: &str) -> bool {
    let token =
        |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b));
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let (kind, subtype) = essence.trim_end().split_once('/').unwrap_or_default();
    let plain = parameters.bytes().all(|b| (b' '..=b'~').contains(&b));
    text.len() <= 127 && token(kind) && token(subtype) && plain
}

/// The media type to send: none that a browser would run or render as a page.
fn harmless(mime: &str) -> &str {
    let lower = mime.to_ascii_lowercase();
    let runs = ["html", "xml", "svg", "script", "css", "multipart", "wasm", "shockwave"];
    if runs.iter().any(|word| lower.contains(word)) { ANY } else { mime }
}

fn one(entry: &Entry) -> Result<Answer, Failure> {
    Ok(Answer::json(200, &json!({"entry": entry_json(entry)})))
}

fn all(entries: &[Entry]) -> Vec<Value> {
    entries.iter().map(entry_json).collect()
}

fn entry_json(entry: &Entry) -> Value {
    let file = entry.file.as_ref();
    json!({
        "path": entry.path,
        "name": entry.name(),
        "kind": if file.is_some() { "file" } else { "directory" },
        "owner": entry.owner,
        "size": file.map(|f| f.size),
        "mimeType": file.map(|f| f.mime.as_str()),
        "hash": file.map(|f| to_hex(&f.hash)),
        "createdAt": entry.created,
        "createdBy": entry.created_by,
        "updatedAt": entry.updated,
    })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Database(error) => error.into(),
            Error::Disk { .. } => Failure::Internal(error.to_string()),
            Error::Refused(refused) => {
                let why = refused.to_string();
                match refused {
                    Refused::Missing(_) => Failure::NotFound(why),
                    Refused::Home | Refused::Path(_) => Failure::bad(&why),
                    Refused::Quota { .. } | Refused::TooMany { .. } => Failure::NoRoom(why),
                    _ => Failure::Conflict(why),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_would_run_is_sent_as_bytes() {
        for (mime, kept) in [
            ("text/plain", true),
            ("text/plain; charset=utf-8", true),
            ("image/png", true),
            ("application/json", true),
            ("text/html", false),
            ("TEXT/HTML; charset=utf-8", false),
            ("application/xhtml+xml", false),
            ("image/svg+xml", false),
            ("text/javascript", false),
            ("application/ecmascript", false),
            ("multipart/related", false),
        ] {
            assert_eq!(harmless(mime), if kept { mime } else { ANY });
            assert!(is_mime(mime), "{mime}");
        }
    }

    #[test]
    fn media_types_are_told_from_other_text() {
        let long = format!("text/{}", "x".repeat(123));
        for text in
            ["", "text", "/", "text/", "/plain", "a b/c", "text/pl\nain", "text/plain; x=\r\ny", &long]
        {
            assert!(!is_mime(text), "{text:?}");
        }
    }
}
