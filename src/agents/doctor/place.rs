//! What surrounds an agent: proxies, trusted certificates, room on the disk, who runs it.
use std::env;
use std::path::{Path, PathBuf};

use super::Check;
use crate::http1::proxies;
use crate::http1::target;
use crate::sys::{disk, paths};
use crate::tls::Roots;

const PROXY: &str = "proxy environment";
const TRUST: &str = "trusted certificates";
const ROOT: &str = "permission to skip permissions";

/// Below this, sessions soon have no room.
const LITTLE: u64 = 1 << 30;
/// Below this, they have none now.
const NONE: u64 = 64 << 20;

/// Files with certificates that a session takes over from its caller, or that replace the system's.
const TRUST_FILES: [&str; 6] = [
    "AC7_CA_CERT",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "CODEX_CA_CERTIFICATE",
];

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether upstreams are reached through a proxy of the caller's, and whether it is one that is spoken here.
pub fn proxy() -> Check {
    proxy_of(variable)
}

fn proxy_of(get: impl Fn(&str) -> Option<String>) -> Check {
    let Some((name, url)) = proxies::named(true, &get) else { return Check::pass(PROXY, "no proxy") };
    // It may hold a password: only where it is may be shown.
    let url = if url.contains("://") { url } else { format!("http://{url}") };
    let parts = target::absolute(&url);
    let Some(parts) = parts.filter(|parts| parts.scheme == "http") else {
        let fix = "name it as http://HOST:PORT; ac7 run --upstream-proxy none goes without it";
        return Check::fail(PROXY, format!("{name} is not an http:// URL"), fix);
    };
    let (host, port) = (parts.host, parts.port);
    let but = get("no_proxy").or_else(|| get("NO_PROXY"));
    let but = but.map_or_else(String::new, |list| format!(", but for {list}"));
    Check::pass(PROXY, format!("{host}:{port} by {name}{but}"))
}

/// Whether there is anybody to trust, and whether the files that the environment names can be read.
pub fn trust() -> Check {
    for name in TRUST_FILES {
        let Some(path) = variable(name) else { continue };
        if let Err(why) = Roots::default().add_file(Path::new(&path)) {
            return Check::fail(TRUST, format!("{name}: {why}"), format!("correct {name}, or unset it"));
        }
    }
    let mut roots = Roots::system();
    if let Some(path) = variable("AC7_CA_CERT") {
        // It has just been read.
        let _ = roots.add_file(Path::new(&path));
    }
    match roots.certificates().len() {
        0 => Check::fail(
            TRUST,
            "none: no upstream could be validated",
            "install the package ca-certificates, or name a PEM file with AC7_CA_CERT",
        ),
        count => Check::pass(TRUST, format!("{count} roots")),
    }
}

/// Whether events and the session's files have room.
pub fn free_disk() -> Vec<Check> {
    let data = paths::data_dir().map(|folder| ("free disk for traces", folder, "ac7 prune-traces"));
    let temp = ("free disk in $TMPDIR", paths::temp_dir(), "point TMPDIR at another disk");
    data.into_iter().chain([temp]).map(|(name, folder, fix)| room(name, &folder, fix)).collect()
}

fn room(name: &'static str, folder: &Path, fix: &str) -> Check {
    // Before the first session there is no folder yet; the one that it will be made in has the same disk.
    let there: Option<PathBuf> = folder.ancestors().find(|path| path.exists()).map(Path::to_path_buf);
    let place = folder.display();
    match there.map(|path| disk::free(&path)) {
        Some(Ok(free)) => {
            let detail = format!("{} MiB in {place}", free >> 20);
            match free {
                0..NONE => Check::fail(name, detail, fix),
                NONE..LITTLE => Check::warn(name, detail, fix),
                _ => Check::pass(name, detail),
            }
        }
        Some(Err(why)) => Check::warn(name, format!("{place}: {why}"), fix),
        None => Check::warn(name, format!("{place} is not there"), fix),
    }
}

/// Whether Claude Code lets ac7 add `--dangerously-skip-permissions`.
pub fn unattended() -> Check {
    let sandbox = variable("IS_SANDBOX").is_some();
    if rustix::process::geteuid().is_root() && !sandbox {
        return Check::warn(
            ROOT,
            "claude refuses --dangerously-skip-permissions to root, so ac7 does not add it",
            "run as another user; in a container of its own: export IS_SANDBOX=1",
        );
    }
    Check::pass(ROOT, "claude takes --dangerously-skip-permissions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::doctor::State;

    #[test]
    fn a_proxy_is_named_without_its_login() {
        for (set, state, want) in [
            (&[][..], State::Pass, "no proxy"),
            (&[("HTTPS_PROXY", "http://u:secret@p:3128")], State::Pass, "p:3128 by HTTPS_PROXY"),
            (
                &[("https_proxy", "p"), ("NO_PROXY", "corp,10.0.0.0/8")],
                State::Pass,
                "p:80 by https_proxy, but for corp,10.0.0.0/8",
            ),
            (&[("ALL_PROXY", "socks5://u:secret@p")], State::Fail, "ALL_PROXY is not an http:// URL"),
        ] {
            let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string());
            let check = proxy_of(get);
            assert_eq!((check.state, check.detail.as_str()), (state, want), "{set:?}");
        }
    }

    #[test]
    fn a_folder_that_is_still_to_be_made_has_room() {
        let folder = paths::temp_dir().join("not/yet/there");
        let check = room("free disk for traces", &folder, "");
        assert!(check.detail.ends_with(&format!(" MiB in {}", folder.display())), "{check:?}");
    }
}
