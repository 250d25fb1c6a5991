//! How much is said at the end, in which forms, and what turns a success into a failure: `--quiet`, `--json`,
//! `--summary` and `--fail-on`.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::OFlags;

use super::super::codes::coded;
use super::super::error::Error;
use super::super::flags::Parsed;
use super::super::format::counted;
use super::super::terminal;
use super::{dropped, json_line, lines, markdown, truncated};
use crate::runner::Outcome;
use crate::usage::Prices;

/// The exit status of a command that succeeded, when what `--fail-on` names has happened.
const FAILED_ON: u8 = 3;

/// What `--fail-on` can name.
const CONDITIONS: [&str; 3] = ["dropped", "truncated", "secrets-seen"];

/// What is to be said, with the files that it goes to open already.
pub struct Talk {
    verb: &'static str,
    quiet: bool,
    json: bool,
    /// Whether standard error gets Markdown.
    markdown: bool,
    files: Vec<(PathBuf, File)>,
    /// Of [`CONDITIONS`].
    fail_on: Vec<&'static str>,
}

impl Talk {
    /// What was typed. Files are opened now: whoever waits hours for a command wants to hear of a wrong path before it.
    ///
    /// # Errors
    /// A condition that is none, or without a trace to look at; a file that cannot be opened.
    pub fn open(parsed: &Parsed, verb: &'static str) -> Result<Talk, Error> {
        if parsed.has("fail-on") && parsed.has("no-trace") {
            return Err(parsed.conflict("fail-on", "no-trace"));
        }
        let why = "it is not dropped, truncated or secrets-seen, nor several with commas between them";
        let fail_on = parsed.read_all("fail-on", why, conditions)?.concat();
        let mut talk = Talk {
            verb,
            quiet: parsed.has("quiet") || parsed.has("json"),
            json: parsed.has("json"),
            markdown: false,
            files: Vec::new(),
            fail_on,
        };
        for place in parsed.values("summary") {
            if place == "markdown" {
                talk.markdown = true;
            } else if place.is_empty() {
                return Err(parsed.bad("summary", place, "it is empty"));
            } else {
                let opened = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o600)
                    .custom_flags(OFlags::NONBLOCK.bits().cast_signed()) // a pipe that nobody reads is an error
                    .open(place);
                let file = opened.map_err(|why| {
                    Error::failed(verb, format_args!("cannot write {}: {why}", place.display()))
                })?;
                talk.files.push((place.into(), file));
            }
        }
        Ok(talk)
    }

    /// Say it all; gives the exit status.
    pub fn tell(self, outcome: &Outcome) -> u8 {
        let prices = Prices::usual(None).ok().map(|(prices, _)| prices);
        let (verb, prices) = (self.verb, prices.as_ref());
        for line in lines(outcome, self.quiet, prices) {
            terminal::say(format_args!("ac7: {line}"));
        }
        if self.markdown {
            terminal::say(markdown::page(outcome, prices, terminal::utf8()));
        }
        for (path, mut file) in self.files {
            let page = markdown::page(outcome, prices, true);
            if let Err(why) = file.write_all(page.as_bytes()) {
                terminal::say(format_args!("ac7 {verb}: cannot write {}: {why}", terminal::path(&path)));
            }
        }
        let met: Vec<_> =
            self.fail_on.into_iter().filter_map(|name| Some((name, met(outcome, name)?))).collect();
        for (name, what) in &met {
            terminal::say(coded(&format!("ac7 {verb}: --fail-on {name}: {what}")));
        }
        if self.json {
            let names: Vec<&str> = met.iter().map(|(name, _)| *name).collect();
            terminal::say(json_line(outcome, prices, &names));
        }
        if outcome.code == 0 && !met.is_empty() { FAILED_ON } else { outcome.code }
    }
}

fn conditions(text: &str) -> Option<Vec<&'static str>> {
    text.split(',').map(|name| CONDITIONS.into_iter().find(|known| *known == name)).collect()
}

/// What has happened of the kind that a condition names.
fn met(outcome: &Outcome, condition: &str) -> Option<String> {
    let captured = outcome.captured.as_ref()?;
    match condition {
        "dropped" => dropped(&captured.report),
        "truncated" => truncated(&captured.totals),
        _ => {
            let secrets = captured.totals.secrets;
            (secrets > 0).then(|| format!("{} redacted", counted(secrets, "secret")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runner::{Captured, Totals};
    use crate::sink::Report;

    #[test]
    fn conditions_are_words_with_commas() {
        for (text, want) in [
            ("dropped", Some(vec!["dropped"])),
            ("secrets-seen,truncated", Some(vec!["secrets-seen", "truncated"])),
            ("", None),
            ("dropped,", None),
            ("dropped, truncated", None),
            ("secrets", None),
        ] {
            assert_eq!(conditions(text), want, "{text}");
        }
    }

    #[test]
    fn a_condition_is_met_by_what_it_names_alone() {
        let none = Totals::default;
        let lost = Report { dropped: 2, reason: Some("why".into()), ..Report::default() };
        for (totals, report, want) in [
            (none(), Report::default(), [None, None, None]),
            (none(), lost, [Some("2 events dropped: why"), None, None]),
            (
                Totals { truncated: 1, unparsed: 2, ..none() },
                Report::default(),
                [None, Some("1 exchange truncated; 2 connections not understood"), None],
            ),
            (Totals { secrets: 3, ..none() }, Report::default(), [None, None, Some("3 secrets redacted")]),
        ] {
            let captured = Captured { totals, report, connections: 1, notes: Vec::new() };
            let outcome =
                Outcome { code: 0, elapsed: Duration::ZERO, captured: Some(captured), notes: Vec::new() };
            assert_eq!(CONDITIONS.map(|name| met(&outcome, name)), want.map(|w| w.map(str::to_string)));
        }
    }
}
