//! The summary as Markdown, for the pages that CI systems show: a heading, a table of models, a table of counts.
//!
//! Names of models and hosts come from strangers: they stand as code, and nothing in them is markup.
use std::fmt::Write;

use super::super::format::{count, counted, dollars, duration};
use super::super::text;
use super::{costs, elapsed, lines, why_none};
use crate::runner::{Captured, Outcome};
use crate::usage::Prices;

/// Columns of the longest name that is shown whole.
const LONGEST: usize = 200;

/// The whole text, which ends with an empty line. `utf8` says whether more than ASCII can be shown.
pub fn page(outcome: &Outcome, prices: Option<&Prices>, utf8: bool) -> String {
    let time = duration(elapsed(outcome));
    let mut out = String::new();
    match &outcome.captured {
        Some(captured) => {
            let calls = counted(captured.totals.llm_calls, "model call");
            let _ = writeln!(out, "### ac7: {calls} in {time}\n");
            if captured.totals.llm_calls == 0 {
                let _ = writeln!(out, "No model call: {}\n", code(&why_none(captured), utf8));
            } else {
                models(&mut out, captured, prices, utf8);
            }
            counts(&mut out, outcome.code, captured);
        }
        None => {
            let _ = writeln!(out, "### ac7: exit code {} after {time}, nothing was recorded\n", outcome.code);
        }
    }
    let more = lines(outcome, true, None);
    for line in &more {
        let _ = writeln!(out, "- {}", code(line, utf8));
    }
    if !more.is_empty() {
        out.push('\n');
    }
    out
}

fn models(out: &mut String, captured: &Captured, prices: Option<&Prices>, utf8: bool) {
    let t = &captured.totals;
    out.push_str("| Model | Calls | Input | Cache read | Cache written | Output | Cost |\n");
    out.push_str("| :-- | --: | --: | --: | --: | --: | --: |\n");
    let mut written = 0_u64;
    for (model, (provider, calls, tokens)) in &t.models {
        written = written.saturating_add(tokens.cache_creation);
        let cost = prices.and_then(|prices| prices.cost(model, Some(*provider), tokens));
        let cost = cost.map_or_else(|| "unknown".to_string(), |cost| code(&dollars(cost, utf8), utf8));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {cost} |",
            code(model, utf8),
            count(*calls),
            count(tokens.whole_input(Some(*provider))),
            count(tokens.cache_read),
            count(tokens.cache_creation),
            count(tokens.output),
        );
    }
    let cost = match costs(t, prices) {
        None => "unknown".to_string(),
        Some((cost, 0)) => code(&dollars(cost, utf8), utf8),
        Some((cost, n)) => {
            format!("{} without {} of unknown price", code(&dollars(cost, utf8), utf8), counted(n, "call"))
        }
    };
    let _ = writeln!(
        out,
        "| all | {} | {} | {} | {} | {} | {cost} |\n",
        count(t.llm_calls),
        count(t.input_tokens),
        count(t.cached_tokens),
        count(written),
        count(t.output_tokens),
    );
}

fn counts(out: &mut String, exit_code: u8, captured: &Captured) {
    let t = &captured.totals;
    out.push_str(
        "| Exit code | Exchanges | Errors | Dropped | Truncated | Not understood | Secrets redacted |\n",
    );
    out.push_str("| --: | --: | --: | --: | --: | --: | --: |\n");
    let numbers = [t.exchanges, t.errors, captured.report.dropped, t.truncated, t.unparsed, t.secrets];
    let _ = writeln!(out, "| {exit_code} | {} |\n", numbers.map(count).join(" | "));
}

/// Text as code that is shown as it is, in a table too. What a code span cannot hold everywhere (a backtick ends it, a
/// bar ends a cell) becomes character references.
fn code(name: &str, utf8: bool) -> String {
    let shown = text::cut(&text::line(name, utf8), LONGEST, utf8);
    let plain =
        |c: char| !c.is_ascii() || c.is_ascii_alphanumeric() || " .,;:/()[]{}@%$~<=>+-_'\"*#!?&".contains(c);
    if !shown.is_empty() && shown.chars().all(plain) {
        return format!("`{shown}`");
    }
    let mut out = String::from("<code>");
    for c in shown.chars() {
        let _ = if c.is_alphanumeric() || c == ' ' {
            write!(out, "{c}")
        } else {
            write!(out, "&#{};", u32::from(c))
        };
    }
    out + "</code>"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::activity::Provider;
    use crate::runner::{Totals, Tunnelled};
    use crate::sink::Report;
    use crate::usage::Tokens;

    fn outcome(captured: Option<Captured>) -> Outcome {
        Outcome { code: 0, elapsed: Duration::from_secs(123), captured, notes: Vec::new() }
    }

    #[test]
    fn a_session_is_two_tables_and_what_is_to_be_known() {
        let dear = Tokens { input: 100_000, output: 7_200, cache_read: 50_000, cache_creation: 2 };
        let tunnelled = Tunnelled { connections: 1, bytes: 14_336, reason: "scope".into(), alert: None };
        let totals = Totals {
            exchanges: 37,
            llm_calls: 14,
            input_tokens: 300_004,
            cached_tokens: 100_000,
            output_tokens: 14_400,
            models: [
                ("claude-sonnet-4-5".to_string(), (Provider::Anthropic, 12, dear)),
                ("new|`x`".to_string(), (Provider::Anthropic, 2, dear)),
            ]
            .into(),
            errors: 1,
            secrets: 5,
            tunnelled: [("github.com".to_string(), tunnelled)].into(),
            ..Totals::default()
        };
        let report = Report { stored: 37, dropped: 2, reason: Some("why".into()), ..Report::default() };
        let captured = Captured { totals, report, connections: 9, notes: Vec::new() };
        let want = "\
### ac7: 14 model calls in 2 m 03 s

| Model | Calls | Input | Cache read | Cache written | Output | Cost |
| :-- | --: | --: | --: | --: | --: | --: |
| `claude-sonnet-4-5` | 12 | 150 002 | 50 000 | 2 | 7 200 | `~ $0.42` |
| <code>new&#124;&#96;x&#96;</code> | 2 | 150 002 | 50 000 | 2 | 7 200 | unknown |
| all | 14 | 300 004 | 100 000 | 4 | 14 400 | `~ $0.42` without 2 calls of unknown price |

| Exit code | Exchanges | Errors | Dropped | Truncated | Not understood | Secrets redacted |
| --: | --: | --: | --: | --: | --: | --: |
| 0 | 37 | 1 | 2 | 0 | 0 | 5 |

- `tunnelled, not decrypted: github.com 14 KiB (--scope all)`
- `2 events dropped: why [dropped]`

";
        assert_eq!(page(&outcome(Some(captured)), Some(&Prices::built_in()), false), want);
    }

    #[test]
    fn a_session_without_calls_says_why() {
        let captured = Captured {
            totals: Totals::default(),
            report: Report::default(),
            connections: 0,
            notes: Vec::new(),
        };
        let got = page(&outcome(Some(captured)), None, true);
        assert!(
            got.starts_with("### ac7: 0 model calls in 2 m 03 s\n\nNo model call: `the command opened no"),
            "{got}"
        );
        let got = page(&outcome(None), None, true);
        assert_eq!(got, "### ac7: exit code 0 after 2 m 03 s, nothing was recorded\n\n");
    }

    #[test]
    fn no_name_is_markup() {
        for (name, want) in [
            ("claude-x.1", "`claude-x.1`"),
            ("@team www.evil.example", "`@team www.evil.example`"),
            ("<img src=x>", "`<img src=x>`"),
            ("a`b", "<code>a&#96;b</code>"),
            ("a|b", "<code>a&#124;b</code>"),
            ("a\\", "<code>a&#92;</code>"),
            ("`<img src=x>", "<code>&#96;&#60;img src&#61;x&#62;</code>"),
            ("a\n\n# b", "`a # b`"),
            ("\u{1b}[31m", "<code>&#92;x1b&#91;31m</code>"),
            ("", "<code></code>"),
        ] {
            assert_eq!(code(name, true), want, "{name:?}");
        }
        assert!(code(&"x".repeat(10_000), true).chars().count() < 250);
    }
}
