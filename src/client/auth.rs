//! Which broker, and which token: flag, then variable, then auth.json, then the default.
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use super::{DEFAULT_URL, Error};
use crate::activity::{Invalid, Reader};
use crate::sys::paths;

/// What was given in one place, on the command line or in the environment. An empty text is the same as none.
#[derive(Clone, Default)]
pub struct Given {
    /// `--url` or AC7_URL.
    pub url: Option<String>,
    /// `--token` or AC7_TOKEN.
    pub token: Option<String>,
    /// `--ca-cert` or AC7_CA_CERT.
    pub ca_cert: Option<String>,
}

/// auth.json as it was read.
pub struct AuthFile {
    pub path: PathBuf,
    pub text: String,
}

/// How to get to the broker.
#[derive(Clone)]
pub struct Access {
    pub url: String,
    /// `None` if nobody gave one.
    pub token: Option<String>,
    /// A PEM file to trust beside the system's certificates.
    pub ca_cert: Option<PathBuf>,
    /// Whether flag or variable named a broker or a token: `ac7 run` uploads only then.
    pub told: bool,
    /// A URL of auth.json that differs from `url` in its trailing slash alone.
    pub near: Option<String>,
}

impl Access {
    /// The token.
    ///
    /// # Errors
    /// [`Error::NoToken`], with the URL that was nearly right.
    pub fn require_token(&self) -> Result<&str, Error> {
        self.token.as_deref().ok_or_else(|| Error::NoToken { near: self.near.clone() })
    }
}

/// One saved login.
pub(super) struct Entry {
    url: String,
    token: String,
    ca_cert: Option<String>,
}

/// Flags before variables before the file (whose lookup is exact on the URL, as in every other ac7 client) before the default.
///
/// # Errors
/// [`Error::AuthFile`] if the token has to come from there and the file cannot be understood.
pub fn resolve(flags: &Given, vars: &Given, file: Option<&AuthFile>) -> Result<Access, Error> {
    let pick = |flag: &Option<String>, var: &Option<String>| {
        [flag, var].into_iter().flatten().find(|text| !text.is_empty()).cloned()
    };
    let (url, token) = (pick(&flags.url, &vars.url), pick(&flags.token, &vars.token));
    let told = url.is_some() || token.is_some();
    let url = url.unwrap_or_else(|| DEFAULT_URL.to_string());
    let saved = match file.map(|f| (f, entries(&f.text))) {
        Some((_, Ok(entries))) => entries,
        Some((f, Err(why))) if token.is_none() => return Err(Error::AuthFile { path: f.path.clone(), why }),
        // With a token in hand the file could only have added a certificate.
        Some((_, Err(_))) | None => Vec::new(),
    };
    let same = saved.iter().find(|e| e.url == url);
    let bare = url.trim_end_matches('/');
    let near = saved.iter().find(|e| e.url != url && e.url.trim_end_matches('/') == bare);
    let ca_cert = pick(&flags.ca_cert, &vars.ca_cert).or_else(|| same.and_then(|e| e.ca_cert.clone()));
    Ok(Access {
        token: token.or_else(|| same.map(|e| e.token.clone())),
        ca_cert: ca_cert.map(PathBuf::from),
        told,
        near: near.map(|e| e.url.clone()),
        url,
    })
}

/// [`resolve`] with this process's environment and auth.json. A login that somebody once saved does not say that it is
/// to be used: that is the caller's to know ([`Access::told`]).
///
/// # Errors
/// As [`resolve`], and if auth.json is there but cannot be read.
pub fn from_environment(flags: &Given) -> Result<Access, Error> {
    let var = |name| env::var(name).ok();
    let vars = Given { url: var("AC7_URL"), token: var("AC7_TOKEN"), ca_cert: var("AC7_CA_CERT") };
    let path = paths::config_dir().map(|dir| dir.join("auth.json"));
    let file = match path.map(|path| (fs::read_to_string(&path), path)) {
        None => None,
        Some((Ok(text), path)) => Some(AuthFile { path, text }),
        Some((Err(e), _)) if e.kind() == io::ErrorKind::NotFound => None,
        Some((Err(e), path)) => return Err(Error::AuthFile { path, why: e.to_string() }),
    };
    resolve(flags, &vars, file.as_ref())
}

/// The logins of auth.json: `{schema: 1, entries: [{url, token, savedAt, caCert?}]}`.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, String> {
    // The parser's message gives line and column and never quotes the text.
    let value: Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
    let at = Reader::new(&value);
    if at.field("schema").uint().map_err(|e| e.to_string())? != 1 {
        return Err("has a schema that this ac7 does not know".to_string());
    }
    let read = |at: &Reader<'_>| -> Result<Entry, Invalid> {
        Ok(Entry {
            url: at.field("url").string()?,
            token: at.field("token").string()?,
            ca_cert: at.field("caCert").optional(Reader::string)?,
        })
    };
    let items = at.field("entries").items().map_err(|e| e.to_string())?;
    items.iter().map(read).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::{AuthFile, Given, resolve};
    use crate::client::DEFAULT_URL;

    fn given(url: &str, token: &str) -> Given {
        Given { url: Some(url.into()), token: Some(token.into()), ca_cert: None }
    }

    fn file(text: &str) -> AuthFile {
        AuthFile { path: "/x/auth.json".into(), text: text.into() }
    }

    const SAVED: &str = r#"{"schema":1,"entries":[
        {"url":"http://127.0.0.1:8717","token":"saved","savedAt":1},
        {"url":"https://b/","token":"b","savedAt":2,"caCert":"/b.pem"}]}"#;

    #[test]
    fn flag_then_variable_then_file_then_default() {
        // flags, variables, whether there is a file; url, token, told
        for (flags, vars, saved, url, token, told) in [
            (("", ""), ("", ""), false, DEFAULT_URL, None, false),
            (("", ""), ("", ""), true, DEFAULT_URL, Some("saved"), false),
            (("", ""), ("", "var"), true, DEFAULT_URL, Some("var"), true),
            (("", "flag"), ("", "var"), true, DEFAULT_URL, Some("flag"), true),
            (("http://f", ""), ("http://v", ""), true, "http://f", None, true),
            (("", ""), ("https://b/", ""), true, "https://b/", Some("b"), true),
            (("", ""), ("https://b", ""), true, "https://b", None, true),
        ] {
            let file = file(SAVED);
            let access =
                resolve(&given(flags.0, flags.1), &given(vars.0, vars.1), saved.then_some(&file)).unwrap();
            let got = (access.url.as_str(), access.token.as_deref(), access.told);
            assert_eq!(got, (url, token, told), "{flags:?} {vars:?} {saved}");
        }
    }

    #[test]
    fn a_trailing_slash_that_keeps_a_login_from_being_found_is_said() {
        let none = Given::default();
        for (url, near) in [("https://b", Some("https://b/")), ("https://b/", None), ("https://c", None)] {
            let access = resolve(&given(url, ""), &none, Some(&file(SAVED))).unwrap();
            assert_eq!(access.near.as_deref(), near, "{url}");
        }
        let access = resolve(&given("https://b", ""), &none, Some(&file(SAVED))).unwrap();
        let error = access.require_token().unwrap_err();
        assert_eq!(error.to_string(), "--token or AC7_TOKEN is required");
        assert!(error.fix().unwrap().ends_with("use --url https://b/"));
    }

    #[test]
    fn the_certificate_of_a_login_is_remembered_and_can_be_replaced() {
        let mut flags = given("https://b/", "");
        let ca = |flags: &Given| resolve(flags, &Given::default(), Some(&file(SAVED))).unwrap().ca_cert;
        assert_eq!(ca(&flags), Some("/b.pem".into()));
        flags.ca_cert = Some("/mine.pem".into());
        assert_eq!(ca(&flags), Some("/mine.pem".into()));
    }

    #[test]
    fn a_broken_file_matters_only_where_it_is_needed() {
        for (text, why) in [
            ("{", "is not JSON: EOF while parsing an object at line 1 column 1"),
            (r#"{"schema":2,"entries":[]}"#, "has a schema that this ac7 does not know"),
            (r#"{"schema":1}"#, "entries is missing"),
            (r#"{"schema":1,"entries":[{"url":"u","token":7}]}"#, "entries[0].token is not a string"),
        ] {
            let none = Given::default();
            let error = resolve(&none, &none, Some(&file(text))).err().unwrap();
            assert_eq!(error.to_string(), format!("/x/auth.json: {why}"));
            assert!(resolve(&given("", "t"), &none, Some(&file(text))).is_ok());
        }
    }
}
