//! Any program: every variable that makes some client use the proxy and trust the CA.
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

/// Variables that point to a file that is *added* to a client's trust store: the CA alone is enough, unless the caller
/// has a file of its own there, whose certificates must not be lost.
const ADDING: [&str; 3] = ["NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE", "DENO_CERT"];

/// In both cases, because a caller's lower-case ones would win over ours.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"];

/// Where the session's proxy and certificates are.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub port: u16,
    /// PEM of the session's CA alone.
    pub ca: &'a Path,
    /// PEM of everything to be trusted: the system's roots, the caller's, the session's CA.
    pub bundle: &'a Path,
}

/// What to set in the child's environment. `caller` looks a variable up in ours.
pub fn environment(
    place: Place<'_>,
    caller: impl Fn(&str) -> Option<OsString>,
) -> Vec<(&'static str, OsString)> {
    let proxy = OsString::from(format!("http://127.0.0.1:{}", place.port));
    let mut set: Vec<_> = PROXIES.iter().map(|name| (*name, proxy.clone())).collect();
    let no_proxy = no_proxy(caller("no_proxy").or_else(|| caller("NO_PROXY")).as_deref());
    set.push(("NO_PROXY", no_proxy.clone()));
    set.push(("no_proxy", no_proxy));
    set.push(("NODE_USE_ENV_PROXY", "1".into()));
    set.extend(REPLACING.iter().map(|name| (*name, place.bundle.into())));
    set.extend(ADDING.iter().map(|name| {
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: fn() -> Place<'static> =
        || Place { port: 4711, ca: Path::new("/t/ca.pem"), bundle: Path::new("/t/bundle.pem") };

    fn get<'a>(set: &'a [(&str, OsString)], name: &str) -> &'a str {
        set.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name}")).1.to_str().unwrap()
    }

    #[test]
    fn every_variable_of_the_design() {
        let set = environment(PLACE(), |_| None);
        for (name, want) in [
            ("HTTPS_PROXY", "http://127.0.0.1:4711"),
            ("http_proxy", "http://127.0.0.1:4711"),
            ("ALL_PROXY", "http://127.0.0.1:4711"),
            ("NO_PROXY", "localhost,127.0.0.1,::1"),
            ("NODE_USE_ENV_PROXY", "1"),
            ("NODE_EXTRA_CA_CERTS", "/t/ca.pem"),
            ("CODEX_CA_CERTIFICATE", "/t/ca.pem"),
            ("SSL_CERT_FILE", "/t/bundle.pem"),
            ("GIT_SSL_CAINFO", "/t/bundle.pem"),
            ("DENO_CERT", "/t/ca.pem"),
        ] {
            assert_eq!(get(&set, name), want, "{name}");
        }
    }

    #[test]
    fn the_callers_own_settings_are_kept() {
        let set = environment(PLACE(), |name| match name {
            "no_proxy" => Some("corp,10.0.0.0/8".into()),
            "NO_PROXY" => Some("other".into()),
            "NODE_EXTRA_CA_CERTS" => Some("/corp.pem".into()),
            _ => None,
        });
        assert_eq!(get(&set, "NO_PROXY"), "localhost,127.0.0.1,::1,corp,10.0.0.0/8");
        assert_eq!(get(&set, "no_proxy"), get(&set, "NO_PROXY"));
        assert_eq!(get(&set, "NODE_EXTRA_CA_CERTS"), "/t/bundle.pem", "the caller's roots are in the bundle");
    }
}
