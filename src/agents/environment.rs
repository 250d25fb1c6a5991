//! Variables that lead a child's requests to the session's proxy and make its clients trust the session's CA.
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Variables that point to a file that *replaces* a client's trust store: they get the bundle.
const REPLACING: [&str; 8] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "npm_config_cafile",
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
];

/// In both cases, because a caller's lower-case ones would win over ours.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"];

/// What to set in a child's environment.
pub type Variables = Vec<(&'static str, OsString)>;

/// Where the session's proxy and certificates are.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub port: u16,
    /// PEM of the session's CA alone.
    pub ca: &'a Path,
    /// PEM of everything to be trusted: the system's roots, the caller's, the session's CA.
    pub bundle: &'a Path,
}

/// What leads every client there. `adding` are the variables that point to a file that is *added* to a client's trust
/// store: the CA alone is enough, unless the caller has a file of its own there, whose certificates must not be lost.
/// `caller` looks a variable up in our environment.
pub fn proxied(
    place: Place<'_>,
    adding: &[&'static str],
    caller: impl Fn(&str) -> Option<OsString>,
) -> Variables {
    let proxy = OsString::from(format!("http://127.0.0.1:{}", place.port));
    let mut set: Variables = PROXIES.iter().map(|name| (*name, proxy.clone())).collect();
    let no_proxy = no_proxy(caller("no_proxy").or_else(|| caller("NO_PROXY")).as_deref());
    set.push(("NO_PROXY", no_proxy.clone()));
    set.push(("no_proxy", no_proxy));
    set.extend(REPLACING.iter().map(|name| (*name, place.bundle.into())));
    set.extend(adding.iter().map(|name| {
        let file = if caller(name).is_some() { place.bundle } else { place.ca };
        (*name, file.into())
    }));
    set
}

/// The loopback names, then the caller's own list.
fn no_proxy(callers: Option<&OsStr>) -> OsString {
    let mut out = OsString::from("localhost,127.0.0.1,::1");
    if let Some(list) = callers.filter(|list| !list.is_empty()) {
        out.push(",");
        out.push(list);
    }
    out
}
