//! Short codes of errors that ac7-troubleshooting(7) explains.
//!
//! An error's first line ends with its code in brackets, and so does the entry of the manual; `ac7 help CODE` shows it.

/// Codes, and what only the error of each says.
pub const CODES: &[(&str, &str)] = &[
    ("no-broker", "ECONNREFUSED"),
    ("no-way", "failed to reach broker at"),
    ("no-token", "--token or AC7_TOKEN is required"),
    ("bad-token", "the broker refused the token"),
    ("port-taken", "EADDRINUSE"),
    ("is-set-up", "a config already exists at"),
    ("bad-key", "KekResolutionError"),
    ("newer-file", "of a newer ac7"),
    ("no-claude", "failed to locate claude binary"),
    ("no-codex", "failed to locate codex binary"),
    ("no-temp", "$TMPDIR writable"),
    ("no-loopback", "loopback proxy bindable"),
    ("no-keys", "trace CA + leaf cert generation"),
    ("no-checks", "TLS validation posture"),
    ("no-proxy", "cannot listen on 127.0.0.1: "),
    ("no-place", "cannot write the session's certificate"),
    ("no-home", "no place for the database"),
    ("no-login", "no codex auth.json found"),
    ("no-session", "AC7_RUNNER_SOCKET is required"),
    ("dropped", "--fail-on dropped"),
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
    use super::*;
    use crate::cli::{manual, mdoc};

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

    #[test]
    fn the_page_and_the_table_have_the_same_codes() {
        let page = manual::page("ac7-troubleshooting").unwrap();
        let lines = page.lines().filter(|line| line.starts_with(".It "));
        let bracket = |line: &str| Some(line.strip_suffix(']')?.rsplit_once('[')?.1.to_string());
        let mut explained: Vec<String> = lines.filter_map(bracket).collect();
        let mut known: Vec<&str> = CODES.iter().map(|(code, _)| *code).collect();
        explained.sort();
        known.sort_unstable();
        assert_eq!(explained, known);
        for (code, _) in CODES {
            let text = mdoc::render(&entry(code, &page).unwrap(), 80);
            assert!(text.contains(&format!("[{code}]")) && text.contains("Fix: "), "{text}");
            assert_eq!(text.matches("Fix: ").count(), 1, "{text}");
        }
        assert_eq!(entry("nothing", &page), None);
    }
}
