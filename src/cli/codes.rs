//! Short codes of errors that ac7-troubleshooting(7) explains.
//!
//! An error's first line ends with its code in brackets, and so does the entry of the manual; `ac7 help CODE` shows it.

/// Codes, and what only the lines of each say; of two that fit a line the first one counts.
pub const CODES: &[(&str, &str)] = &[
    ("no-broker", "ECONNREFUSED"),
    ("no-way", "failed to reach broker at"),
    ("no-token", "--token or AC7_TOKEN is required"),
    ("bad-token", "the broker refused the token"),
    ("too-many", "the broker answered 429"),
    ("port-taken", "EADDRINUSE"),
    ("is-set-up", "a config already exists at"),
    ("bad-key", "KekResolutionError"),
    ("newer-file", "of a newer ac7"),
    ("no-claude", "failed to locate claude binary"),
    ("no-codex", "failed to locate codex binary"),
    ("no-temp", "$TMPDIR writable"),
    ("no-temp", "$TMPDIR cannot be written"),
    ("no-loopback", "loopback proxy bindable"),
    ("no-keys", "trace CA + leaf cert generation"),
    ("no-checks", "TLS validation posture"),
    ("no-checks", "NODE_TLS_REJECT_UNAUTHORIZED=0 is not obeyed"),
    ("no-proxy", "cannot listen on 127.0.0.1: "),
    ("no-place", "cannot write the session's certificate"),
    ("no-home", "no place for the database"),
    ("no-login", "no codex auth.json found"),
    ("no-session", "AC7_RUNNER_SOCKET is required"),
    ("no-connection", "no model call: the command opened no connection"),
    ("not-trusted", "no model call: the command does not accept our certificate"),
    ("http2-alone", "no model call: the command speaks HTTP/2 alone"),
    ("client-cert", "asks the command for a certificate"),
    ("tunnelled", "no model call: all connections were tunnelled"),
    ("dropped", "event dropped"),
    ("dropped", "events dropped"),
    ("secrets-seen", "--fail-on secrets-seen"),
];

/// The error's text with its code, if it has one, at the end of its first line.
#[must_use]
pub fn coded(text: &str) -> String {
    let (first, rest) = text.find('\n').map_or((text, ""), |end| text.split_at(end));
    match CODES.iter().find(|(_, says)| first.contains(says)) {
        Some((code, _)) => format!("{first} [{code}]{rest}"),
        None => text.to_string(),
    }
}

/// The entry of a code in the source of the page, as a page of its own.
#[must_use]
pub fn entry(code: &str, page: &str) -> Option<String> {
    let start = page.find(&format!(" [{code}]\n"))?;
    let start = page[..start].rfind(".It ")?;
    let rest = &page[start..];
    let end = rest[4..].find("\n.It ").into_iter().chain(rest.find("\n.El")).map(|end| end + 5).min()?;
    let head = &page[..page.find(".Sh DESCRIPTION\n")?];
    Some(format!("{head}.Sh DESCRIPTION\n.Bl -tag -width Ds\n{}\n.El\n", rest[..end].trim_end()))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;

    use super::*;
    use crate::agents::{Agent, NotFound, doctor};
    use crate::cli::{manual, mdoc};
    use crate::client::{self, Failure};
    use crate::{broker, identity, runner, store};

    #[test]
    fn the_first_line_bears_the_code() {
        assert_eq!(coded("ac7 x: EADDRINUSE: y\n  fix: z"), "ac7 x: EADDRINUSE: y [port-taken]\n  fix: z");
        assert_eq!(
            coded("ac7 x: setup: a config already exists at ./a"),
            "ac7 x: setup: a config already exists at ./a [is-set-up]"
        );
        for plain in ["ac7 x: cannot listen on 127.0.0.1:80: no", "ac7 x: a\n  fix: see why EADDRINUSE"] {
            assert_eq!(coded(plain), plain);
        }
    }

    /// The code at a title's end.
    fn bracket(title: &str) -> Option<&str> {
        Some(title.strip_suffix(']')?.rsplit_once(" [")?.1)
    }

    /// Entries about what one sees, and about what others say.
    const SEEN: &[&str] = &[
        "The team file is lost, its key is not",
        "Refusing to create helper binaries under temporary dir",
        "Agents are out of extra usage, and it is no matter of billing",
        ".mcp.json was not put back",
        ".mcp.json has an ac7 entry that does nothing",
        "Two sessions in one directory",
        "Calls of codex show as opaque_http",
        "The activity database grows",
        "A token may have leaked",
        "After --reveal-token nothing works any more",
    ];

    #[test]
    fn errors_say_what_the_table_says() {
        let (url, path) = ("http://x".to_string(), || PathBuf::from("x"));
        let briefing = |failure| client::Error::Briefing { url: url.clone(), failure }.to_string();
        let answered = |status| {
            let failure = Failure::Status(status, Some("why".to_string()));
            client::Error::Answered { url: url.clone(), failure }.to_string()
        };
        let unreachable = client::Error::Unreachable { url: url.clone(), failure: Failure::TimedOut };
        let taken = io::ErrorKind::AddrInUse.into();
        let listen = broker::Error::Listen { host: "h".to_string(), port: 1, error: taken };
        let member = || "ann".to_string();
        let sealed = identity::Error::Sealed { member: member(), field: "totp", file: path() };
        let no_sealing = identity::Error::NoSealing { member: member(), field: "totp", file: path() };
        let newer = store::Error::Newer { path: path(), found: 9, known: 1 };
        let no_agent = |agent| NotFound { agent, named: None }.to_string();
        let checks = doctor::preflight(Agent::ClaudeCode);
        let check = |i: usize| runner::Error::Preflight(checks[i].clone()).to_string();
        for (text, code) in [
            (briefing(Failure::Refused), "no-broker"),
            (unreachable.to_string(), "no-way"),
            (client::Error::NoToken { near: None }.to_string(), "no-token"),
            (answered(401), "bad-token"),
            (answered(429), "too-many"),
            (listen.to_string(), "port-taken"),
            (identity::Error::Exists(path()).to_string(), "is-set-up"),
            (sealed.to_string(), "bad-key"),
            (no_sealing.to_string(), "bad-key"),
            (newer.to_string(), "newer-file"),
            (no_agent(Agent::ClaudeCode), "no-claude"),
            (no_agent(Agent::Codex), "no-codex"),
            (runner::Error::NoHome.to_string(), "no-home"),
            (check(1), "no-temp"),
            (check(2), "no-loopback"),
            (check(3), "no-keys"),
            (check(4), "no-checks"),
        ] {
            assert!(coded(&text).ends_with(&format!(" [{code}]")), "{code}: {text}");
        }
    }

    #[test]
    fn the_page_and_the_table_have_the_same_codes() {
        let page = manual::page("ac7-troubleshooting").unwrap();
        let titles: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".It ")).collect();
        let mut explained: Vec<&str> = titles.iter().filter_map(|title| bracket(title)).collect();
        let mut known: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
        explained.sort_unstable();
        known.sort_unstable();
        known.dedup();
        assert_eq!(explained, known);
        for title in titles {
            let quoted = |(known, says): &(&str, &str)| {
                bracket(title) == Some(*known) && title.contains(says.trim_end_matches(": "))
            };
            // What a title quotes is what the line says; who quotes no line of ours is on the list.
            assert!(CODES.iter().any(quoted) || SEEN.contains(&title), "{title}");
        }
        for (code, _) in CODES {
            let text = mdoc::render(&entry(code, &page).unwrap(), 80);
            assert!(text.contains(&format!("[{code}]")) && text.contains("Fix: "), "{text}");
            assert_eq!(text.matches("Fix: ").count(), 1, "{text}");
        }
        assert_eq!(entry("nothing", &page), None);
    }
}
