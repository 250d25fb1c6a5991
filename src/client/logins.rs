//! Writing auth.json: one login added or replaced, everything else as it was.
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Error;
use super::auth;
use crate::sys::file::{ensure_private_dir, write_atomic};
use crate::sys::paths;

/// A login to save.
pub struct Login<'a> {
    /// As it was given: the look-up is exact.
    pub url: &'a str,
    pub token: &'a str,
    /// A PEM file to trust for this broker; `None` keeps the one that was saved.
    pub ca_cert: Option<&'a Path>,
    /// ms since the epoch.
    pub saved_at: u64,
}

/// The place of auth.json.
pub struct Logins {
    path: PathBuf,
}

impl Logins {
    /// Make sure that a login can be saved, before there is one.
    ///
    /// # Errors
    /// [`Error::AuthFile`]: it has no place, or what is there cannot be understood or kept.
    pub fn open() -> Result<Logins, Error> {
        let Some(folder) = paths::config_dir() else {
            let why = "has no place: neither XDG_CONFIG_HOME nor HOME is an absolute path".to_string();
            return Err(Error::AuthFile { path: "auth.json".into(), why });
        };
        let path = folder.join("auth.json");
        ensure_private_dir(&folder).map_err(|e| failed(&path, &e.to_string()))?;
        // Where it is a link, the file that it leads to is rewritten, and the link stays.
        let logins = Logins { path: fs::canonicalize(&path).unwrap_or(path) };
        let nobody = Login { url: "", token: "", ca_cert: None, saved_at: 0 };
        with(logins.read()?.as_deref(), &nobody).map_err(|why| failed(&logins.path, &why))?;
        Ok(logins)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Save a login, 0600, in one step. Two that are saved at the same time are both kept.
    ///
    /// # Errors
    /// [`Error::AuthFile`]; what was there stands untouched.
    pub fn save(&self, login: &Login<'_>) -> Result<(), Error> {
        let io = |e: io::Error| failed(&self.path, &e.to_string());
        let folder = File::open(self.path.parent().unwrap_or(Path::new("."))).map_err(io)?;
        folder.lock().map_err(io)?;
        let text = with(self.read()?.as_deref(), login).map_err(|why| failed(&self.path, &why))?;
        write_atomic(&self.path, text.as_bytes()).map_err(io)
    }

    fn read(&self) -> Result<Option<String>, Error> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&self.path, &e.to_string())),
        }
    }
}

fn failed(path: &Path, why: &str) -> Error {
    Error::AuthFile { path: path.to_path_buf(), why: why.to_string() }
}

/// The file's text with the login in it.
fn with(text: Option<&str>, login: &Login<'_>) -> Result<String, String> {
    let mut value = match text {
        None => json!({"schema": 1, "entries": []}),
        Some(text) => {
            auth::entries(text)?;
            serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?
        }
    };
    let entries = value["entries"].as_array_mut().ok_or("entries is not an array")?;
    let at = entries.iter().position(|entry| entry["url"] == login.url);
    let at = at.unwrap_or_else(|| {
        entries.push(json!({"url": login.url}));
        entries.len() - 1
    });
    let entry: &mut Value = &mut entries[at];
    entry["token"] = json!(login.token);
    entry["savedAt"] = json!(login.saved_at);
    if let Some(path) = login.ca_cert {
        entry["caCert"] = json!(path.to_str().ok_or("cannot hold a certificate's path that is not UTF-8")?);
    }
    Ok(format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(text: Option<&str>, url: &str, ca_cert: Option<&str>) -> Result<Value, String> {
        let login = Login { url, token: "ac7_new", ca_cert: ca_cert.map(Path::new), saved_at: 7 };
        with(text, &login).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn everything_else_stays_as_it_was() {
        let fresh = json!({"url": "http://a", "token": "ac7_new", "savedAt": 7});
        assert_eq!(saved(None, "http://a", None).unwrap(), json!({"schema": 1, "entries": [fresh]}));

        let old = json!({"schema": 1, "more": [1], "entries": [
            {"url": "http://a/", "token": "t", "savedAt": 1},
            {"url": "http://a", "token": "ac7_old", "savedAt": 2, "caCert": "/a.pem", "nick": "x"},
        ]});
        let changed = |url, ca_cert| saved(Some(&old.to_string()), url, ca_cert).unwrap();
        let (mut want, got) = (old.clone(), changed("http://a", None));
        want["entries"][1]["token"] = json!("ac7_new");
        want["entries"][1]["savedAt"] = json!(7);
        assert_eq!(got, want, "the URL is exact, the certificate is kept");
        want["entries"][1]["caCert"] = json!("/b.pem");
        assert_eq!(changed("http://a", Some("/b.pem")), want);
        assert_eq!(changed("http://c", None)["entries"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn what_is_not_understood_is_not_overwritten() {
        for text in ["", "{", "[]", r#"{"schema":2,"entries":[]}"#, r#"{"schema":1,"entries":{}}"#] {
            assert!(saved(Some(text), "http://a", None).is_err(), "{text}");
        }
    }
}
