//! What is said when a captured command has ended: one to four lines on standard error, one of JSON, a table in
//! Markdown; and what the end is to mean for whoever waits for it.
mod markdown;
mod talk;

use std::path::Path;

use serde_json::{Value, json};

use super::codes::coded;
use super::format::{bytes, count, counted, dollars, duration, percent};
use super::{terminal, text};

use crate::runner::{Captured, Outcome, Totals};
use crate::sink::{Place, Report};
use crate::usage::Prices;
pub use talk::Talk;

/// What a line about no call begins with.
const NO_CALL: &str = "no model call: ";

/// Hosts that a line names; the others are counted.
const NAMED: usize = 3;

/// The lines for a person, without `ac7: `; with `quiet` only those about what was lost or not seen. Without `prices`
/// nothing is said of costs: a broken table is no reason to say more here, `ac7 usage` tells what is wrong with it.
fn lines(outcome: &Outcome, quiet: bool, prices: Option<&Prices>) -> Vec<String> {
    let Some(captured) = &outcome.captured else { return outcome.notes.clone() };
    let mut out = Vec::new();
    if !quiet {
        out.push(calls(captured, elapsed(outcome), prices));
        out.extend(captured.report.place.as_ref().filter(|_| captured.report.stored > 0).map(place));
    }
    out.extend(tunnelled(&captured.totals));
    out.extend(lost(captured).iter().chain(&captured.notes).map(|line| coded(line)));
    // The last words of an agent may be among these: whatever they sound like, they are not ours.
    out.extend(outcome.notes.iter().cloned());
    out
}

/// In ms.
fn elapsed(outcome: &Outcome) -> u64 {
    outcome.elapsed.as_millis().try_into().unwrap_or(u64::MAX)
}

fn calls(captured: &Captured, elapsed: u64, prices: Option<&Prices>) -> String {
    let t = &captured.totals;
    if t.llm_calls == 0 {
        return format!("{NO_CALL}{}", why_none(captured));
    }
    let cached = percent(t.cached_tokens, t.input_tokens).map_or(String::new(), |p| format!(" ({p} cached)"));
    let cost = costs(t, prices).map_or_else(String::new, |(cost, unpriced)| match unpriced {
        0 => format!(", {}", dollars(cost, terminal::utf8())),
        n => format!(", {} without {} of unknown price", dollars(cost, terminal::utf8()), counted(n, "call")),
    });
    let errors = if t.errors > 0 { format!(", {}", counted(t.errors, "error")) } else { String::new() };
    format!(
        "{} in {}, {} in{cached}, {} out{cost}{errors}, {}",
        counted(t.llm_calls, "model call"),
        counted(t.exchanges, "exchange"),
        count(t.input_tokens),
        count(t.output_tokens),
        duration(elapsed)
    )
}

/// About what the calls cost, in dollars, and how many have no price; `None` where none has one.
fn costs(totals: &Totals, prices: Option<&Prices>) -> Option<(f64, u64)> {
    let (mut cost, mut unpriced) = (None, 0);
    for (model, (provider, calls, tokens)) in &totals.models {
        match prices?.cost(model, Some(*provider), tokens) {
            Some(more) => cost = Some(cost.unwrap_or(0.0) + more),
            None => unpriced += calls,
        }
    }
    cost.map(|cost| (cost, unpriced))
}

/// The likely cause, with its code if it has one.
fn why_none(captured: &Captured) -> String {
    coded(&format!("{NO_CALL}{}", cause(captured))).split_off(NO_CALL.len())
}

/// The likely cause, from what was seen instead of a call.
fn cause(captured: &Captured) -> String {
    let t = &captured.totals;
    if captured.connections == 0 {
        return "the command opened no connection through the proxy; it may ignore HTTPS_PROXY".to_string();
    }
    if t.exchanges > 0 {
        return format!("{}, none of them to a model", counted(t.exchanges, "exchange"));
    }
    if let Some((host, what)) = t.tunnelled.iter().find(|(_, what)| what.reason == "rejected") {
        let alert = what.alert.as_ref().map_or(String::new(), |alert| format!(" ({alert})"));
        return format!(
            "the command does not accept our certificate for {}{alert}",
            text::line(host, terminal::utf8())
        );
    }
    if let Some((place, why)) = t.refused.iter().next() {
        return format!("{}: {}", text::line(place, terminal::utf8()), text::line(why, terminal::utf8()));
    }
    match t.tunnelled.iter().next() {
        Some((_, what)) if what.reason == "h2_only" => {
            "the command speaks HTTP/2 alone, which is not decrypted".to_string()
        }
        Some((host, what)) if what.reason == "client_certificate" => format!(
            "{} asks the command for a certificate, so it is not decrypted",
            text::line(host, terminal::utf8())
        ),
        Some(_) => "all connections were tunnelled, not decrypted".to_string(),
        None => "no connection carried a request".to_string(),
    }
}

fn place(place: &Place) -> String {
    let shown = |path: &Path| text::line(&terminal::path(path), terminal::utf8());
    match place {
        Place::Broker(url) => format!("sent to {}", text::line(url, terminal::utf8())),
        Place::File(path) => format!("written to {}", shown(path)),
        Place::Database(path) => {
            let usual = crate::sys::paths::data_dir().is_some_and(|dir| dir.join("activity.db") == *path);
            let option = if usual { String::new() } else { format!(" --db {}", shown(path)) };
            format!("stored in {}  (ac7 traces{option})", shown(path))
        }
    }
}

fn tunnelled(totals: &Totals) -> Option<String> {
    let mut hosts: Vec<_> = totals.tunnelled.iter().filter(|(_, what)| what.reason != "skip").collect();
    hosts.sort_by_key(|(_, what)| std::cmp::Reverse(what.bytes));
    let named = hosts
        .iter()
        .take(NAMED)
        .map(|(host, what)| format!("{} {}", text::line(host, terminal::utf8()), bytes(what.bytes)));
    let mut line = named.collect::<Vec<_>>().join(", ");
    if hosts.len() > NAMED {
        line.push_str(&format!(" and {} more", hosts.len() - NAMED));
    }
    let switch = hosts.iter().any(|(_, what)| what.reason == "scope");
    (!hosts.is_empty())
        .then(|| format!("tunnelled, not decrypted: {line}{}", if switch { "  (--scope all)" } else { "" }))
}

fn lost(captured: &Captured) -> Option<String> {
    let parts: Vec<String> =
        dropped(&captured.report).into_iter().chain(truncated(&captured.totals)).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// Events that were made and are not where they belong.
fn dropped(report: &Report) -> Option<String> {
    let why = report.reason.as_deref().map_or(String::new(), |why| format!(": {why}"));
    let lost = report.dropped > 0 || report.reason.is_some();
    lost.then(|| format!("{} dropped{why}", counted(report.dropped, "event")))
}

/// What is not whole in the record.
fn truncated(t: &Totals) -> Option<String> {
    let parts: Vec<String> =
        [(t.truncated, "exchange", "truncated"), (t.unparsed, "connection", "not understood")]
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, noun, what)| format!("{} {what}", counted(count, noun)))
            .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The same for a program, on one line; `failed_on` are the conditions that were met.
fn json_line(outcome: &Outcome, prices: Option<&Prices>, failed_on: &[&str]) -> String {
    let mut out = json!({"exitCode": outcome.code, "durationMs": elapsed(outcome), "failedOn": failed_on});
    if let (Some(captured), Value::Object(object)) = (&outcome.captured, &mut out) {
        let (t, report) = (&captured.totals, &captured.report);
        let tunnelled = t.tunnelled.iter().map(|(host, what)| {
            json!({"host": host, "connections": what.connections, "bytes": what.bytes, "reason": what.reason, "alert": what.alert})
        });
        let more = json!({
            "connections": captured.connections,
            "exchanges": t.exchanges,
            "modelCalls": t.llm_calls,
            "inputTokens": t.input_tokens,
            "cachedTokens": t.cached_tokens,
            "outputTokens": t.output_tokens,
            // Of the calls that have a price; null where none has.
            "cost": costs(t, prices).map(|(cost, _)| (cost * 1e6).round() / 1e6),
            "unpricedCalls": costs(t, prices).map(|(_, unpriced)| unpriced),
            "errors": t.errors,
            "truncated": t.truncated,
            "unparsed": t.unparsed,
            "secrets": t.secrets,
            "stored": report.stored,
            "dropped": report.dropped,
            "droppedReason": report.reason,
            "place": report.place.as_ref().map(ToString::to_string),
            "tunnelled": tunnelled.collect::<Vec<_>>(),
        });
        object.extend(more.as_object().cloned().unwrap_or_default());
    }
    out.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::Provider;
    use crate::runner::Tunnelled;
    use crate::usage::Tokens;
    use std::time::Duration;

    fn outcome(totals: Totals, report: Report, connections: u64) -> Outcome {
        let captured = Captured { totals, report, connections, notes: Vec::new() };
        Outcome { code: 0, elapsed: Duration::from_secs(123), captured: Some(captured), notes: Vec::new() }
    }

    fn tunnel(bytes: u64, reason: &str) -> Tunnelled {
        Tunnelled { connections: 1, bytes, reason: reason.into(), alert: None }
    }

    #[test]
    fn a_session_in_four_lines() {
        let dear = Tokens { input: 100_000, output: 7_200, ..Tokens::default() };
        let totals = Totals {
            exchanges: 37,
            llm_calls: 14,
            input_tokens: 61_204,
            cached_tokens: 56_308,
            output_tokens: 3118,
            models: [
                ("claude-sonnet-4-5".to_string(), (Provider::Anthropic, 12, dear)),
                ("new".to_string(), (Provider::Anthropic, 2, dear)),
            ]
            .into(),
            errors: 1,
            tunnelled: [("github.com".to_string(), tunnel(14_336, "scope"))].into(),
            ..Totals::default()
        };
        let report = Report {
            stored: 37,
            dropped: 2,
            reason: Some("the broker did not answer for 41 s".into()),
            place: Some(Place::Broker("https://b.example".into())),
            upgrade: None,
        };
        let outcome = outcome(totals, report, 9);
        let want = [
            &format!(
                "14 model calls in 37 exchanges, 61 204 in (92 % cached), 3 118 out, {} $0.41 without 2 calls of \
                 unknown price, 1 error, 2 m 03 s",
                if terminal::utf8() { "\u{2248}" } else { "~" }
            ),
            "sent to https://b.example",
            "tunnelled, not decrypted: github.com 14 KiB  (--scope all)",
            "2 events dropped: the broker did not answer for 41 s [dropped]",
        ];
        assert_eq!(lines(&outcome, false, Some(&Prices::built_in())), want);
        assert_eq!(lines(&outcome, true, None), want[2..]);
        let json: Value = serde_json::from_str(&json_line(&outcome, None, &[])).unwrap();
        assert_eq!(
            (&json["modelCalls"], &json["dropped"], &json["tunnelled"][0]["bytes"]),
            (&json!(14), &json!(2), &json!(14_336))
        );
    }

    #[test]
    fn no_call_has_a_likely_cause() {
        let none = Totals::default;
        let rejected = Tunnelled { alert: Some("UnknownCA".into()), ..tunnel(0, "rejected") };
        for (totals, connections, want) in [
            (
                none(),
                0,
                "no model call: the command opened no connection through the proxy; it may ignore HTTPS_PROXY \
                 [no-connection]",
            ),
            (Totals { exchanges: 3, ..none() }, 3, "no model call: 3 exchanges, none of them to a model"),
            (
                Totals { tunnelled: [("api.x".into(), rejected)].into(), ..none() },
                1,
                "no model call: the command does not accept our certificate for api.x (UnknownCA) [not-trusted]",
            ),
            (
                Totals { refused: [("api.x:443".into(), "connection refused".into())].into(), ..none() },
                1,
                "no model call: api.x:443: connection refused",
            ),
            (
                Totals { tunnelled: [("api.x".into(), tunnel(9, "h2_only"))].into(), ..none() },
                1,
                "no model call: the command speaks HTTP/2 alone, which is not decrypted [http2-alone]",
            ),
            (
                Totals { tunnelled: [("api.x".into(), tunnel(9, "client_certificate"))].into(), ..none() },
                1,
                "no model call: api.x asks the command for a certificate, so it is not decrypted [client-cert]",
            ),
            (
                Totals { tunnelled: [("api.x".into(), tunnel(9, "scope"))].into(), ..none() },
                1,
                "no model call: all connections were tunnelled, not decrypted [tunnelled]",
            ),
        ] {
            assert_eq!(lines(&outcome(totals, Report::default(), connections), false, None)[0], want);
        }
    }

    #[test]
    fn hosts_are_named_by_size_and_escaped() {
        let tunnelled = [("a", 1), ("b\u{1b}[31m", 4096), ("c", 2048), ("d", 1024)]
            .map(|(h, n)| (h.to_string(), tunnel(n, "h2_only")));
        let totals = Totals { tunnelled: tunnelled.into(), ..Totals::default() };
        let line = super::tunnelled(&totals).unwrap();
        assert!(
            line.starts_with("tunnelled, not decrypted: b") && line.ends_with("d 1.0 KiB and 1 more"),
            "{line}"
        );
        assert!(!line.contains('\u{1b}'));
    }
}
