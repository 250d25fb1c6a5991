//! codex: its environment, its configuration, and the conversation with its app-server.
pub mod config;
mod show;
mod turns;

pub use super::claude_code::{SERVER, SOCKET};
pub use turns::{Conversation, Message, Opening, Step};

use std::ffi::OsString;

use super::environment::{Place, Variables, proxied};

/// Variables of Node that codex's own HTTP client must not inherit.
pub const REMOVED: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "NODE_USE_ENV_PROXY"];

/// Keys that do without a login.
pub const KEYS: [&str; 2] = ["OPENAI_API_KEY", "CODEX_API_KEY"];

/// What to set in the environment for capture. `caller` looks a variable up in ours.
pub fn environment(place: Place<'_>, caller: impl Fn(&str) -> Option<OsString>) -> Variables {
    proxied(place, &["CODEX_CA_CERTIFICATE", "DENO_CERT"], caller)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_environment_is_that_of_the_design() {
        let place = Place { port: 4711, ca: Path::new("/t/ca.pem"), bundle: Path::new("/t/bundle.pem") };
        let set = environment(place, |_| None);
        let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_str().unwrap());
        for (name, want) in [
            ("HTTPS_PROXY", Some("http://127.0.0.1:4711")),
            ("all_proxy", Some("http://127.0.0.1:4711")),
            ("NO_PROXY", Some("localhost,127.0.0.1,::1")),
            ("CODEX_CA_CERTIFICATE", Some("/t/ca.pem")),
            ("SSL_CERT_FILE", Some("/t/bundle.pem")),
            ("CARGO_HTTP_CAINFO", Some("/t/bundle.pem")),
            ("NODE_EXTRA_CA_CERTS", None),
            ("NODE_USE_ENV_PROXY", None),
        ] {
            assert_eq!(get(name), want, "{name}");
        }
    }
}
