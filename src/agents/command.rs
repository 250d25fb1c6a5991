//! Any program: every variable that makes some client use the proxy and trust the CA.
use std::ffi::OsString;

use super::environment::{Place, Variables, proxied};

/// What to set in the child's environment. `caller` looks a variable up in ours.
pub fn environment(place: Place<'_>, caller: impl Fn(&str) -> Option<OsString>) -> Variables {
    let mut set = proxied(place, &["NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE", "DENO_CERT"], caller);
    set.push(("NODE_USE_ENV_PROXY", "1".into()));
    set
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
