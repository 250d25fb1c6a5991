//! `ac7 usage`: tokens and money, by member, model, day or objective.
use std::io::{self, Write};

use serde_json::Value;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::source::{self, Source};
use super::terminal::{self, Screen};
use super::{Group, SUCCESS_OR_FAILURE, Verb, broker, format, stats, text, traces};
use crate::client::{Client, segment};
use crate::store;
use crate::store::activity::{Query, Reader};
use crate::usage::{By, Prices, Report};

pub const VERB: Verb = Verb {
    name: "usage",
    group: Group::Read,
    summary: "Sum up tokens and costs",
    operands: Operands::None,
    flags: &[
        &[
            Flag::value("by", "KEY", "A line for each member, model, day or objective").or("model"),
            Flag::value("since", "WHEN", "Not before: 2h, 2026-11-21T10:00"),
            Flag::value("until", "WHEN", "Not after"),
            Flag::value("member", "NAME", "Only this member's calls"),
            Flag::value("model", "GLOB", "Only calls of models whose name matches, as claude-*"),
            Flag::value("objective", "ID", "Only calls made for this objective"),
            Flag::value("prices", "FILE", "The table of prices").or("$XDG_CONFIG_HOME/ac7/prices.json"),
            Flag::switch("json", "One JSON object"),
        ],
        source::FLAGS,
    ],
    examples: &[
        ("ac7 usage --since 7d --by day", "the last week, day by day"),
        ("ac7 usage --by objective --url https://ac7.lan:8717", "what the team's objectives took"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-usage(1)", "ac7-traces(1)", "ac7-stats(1)"],
    page: "ac7-usage",
    run,
};

/// Models without a price that are named; the others are counted.
const NAMED: usize = 5;

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let screen = Screen::stdout();
    let why = "it is not member, model, day or objective";
    let by = parsed.read("by", why, By::of)?.unwrap_or(By::Model);
    let when = |text: &str| traces::moment(text, &screen.zone, screen.now);
    let query = Query {
        member: parsed.text("member")?,
        from: parsed.read("since", traces::MOMENT, when)?,
        to: parsed.read("until", traces::MOMENT, when)?,
        model: parsed.text("model")?,
        objective: parsed.text("objective")?,
        ..Query::default()
    };
    let report = match source::of(parsed, verb)? {
        Source::Broker(client) => {
            if parsed.has("prices") {
                return Err(parsed.conflict("url", "prices"));
            }
            asked(&client, by, &query).map_err(broker::failed(verb))?
        }
        Source::Database(db) => {
            let (prices, place) = prices(parsed, VERB.name)?;
            let mut report = match Reader::open(db.path())
                .and_then(|reader| summed(&reader, by, &query, &prices))
            {
                Ok(report) => report,
                // Nothing was recorded yet where nobody named a file: that is no failure.
                Err(store::Error::Missing { .. }) if db.is_usual() => Report::new(by, &[], &prices).to_json(),
                Err(error) => return Err(Error::failed(verb, error)),
            };
            report["prices"]["source"] = place.into();
            report
        }
    };
    let out = if parsed.has("json") {
        text::json_line(&report.to_string()) + "\n"
    } else {
        table(&report, by, &screen)
    };
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(0)
}

/// The table of prices, and where it is from.
pub fn prices(parsed: &Parsed, verb: &'static str) -> Result<(Prices, String), Error> {
    match Prices::usual(parsed.path("prices")) {
        Ok((prices, path)) => {
            Ok((prices, path.map_or_else(|| "built in".to_string(), |path| terminal::path(&path))))
        }
        Err((path, bad)) => Err(Error::Failed {
            verb,
            what: format!("cannot use the prices: {}: {bad}", terminal::path(&path)),
            fix: Some("ac7 help usage describes the file".to_string()),
        }),
    }
}

fn summed(reader: &Reader, by: By, query: &Query, prices: &Prices) -> Result<Value, store::Error> {
    let mut report = Report::new(by, &reader.usage(query)?, prices);
    if by == By::Objective {
        for (id, span) in reader.objective_spans(query.objective.as_deref())? {
            if query.member.as_ref().is_none_or(|name| *name == span.member) {
                let within = Query { spans: Some(vec![span]), objective: None, ..query.clone() };
                report.objective(&id, &reader.usage(&within)?, prices);
            }
        }
    }
    Ok(report.to_json())
}

/// The broker's report.
fn asked(client: &Client, by: By, query: &Query) -> Result<Value, crate::client::Error> {
    let mut path = format!("/usage?by={}", by.name());
    let time = |t: Option<u64>| t.map(|t| t.to_string());
    for (name, value) in [
        ("from", time(query.from)),
        ("to", time(query.to)),
        ("member", query.member.clone()),
        ("model", query.model.clone()),
        ("objective", query.objective.clone()),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", segment(&value)));
        }
    }
    client.json("GET", &path, None)
}

fn table(report: &Value, by: By, screen: &Screen) -> String {
    const HEADINGS: [&str; 6] = ["CALLS", "ERRORS", "IN", "CACHED", "OUT", "COST"];
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or(0);
    let line = |name: String, row: &Value| {
        let (input, cached) = (number(row, "inputTokens"), number(row, "cacheReadInputTokens"));
        vec![
            name,
            format::count(number(row, "calls")),
            format::count(number(row, "errors")),
            format::count(input),
            format::percent(cached, input).unwrap_or_else(|| "-".to_string()),
            format::count(number(row, "outputTokens")),
            row["cost"].as_f64().map_or_else(|| "-".to_string(), |cost| format::dollars(cost, screen.utf8)),
        ]
    };
    let mut lines =
        vec![std::iter::once(by.name().to_uppercase()).chain(HEADINGS.map(str::to_string)).collect()];
    for row in report["rows"].as_array().into_iter().flatten() {
        let name = text::line(row[by.name()].as_str().unwrap_or_default(), screen.utf8);
        lines.push(line(text::cut(&name, 40, screen.utf8), row));
    }
    lines.push(line("all".to_string(), &report["total"]));
    stats::sums(&lines, 1, screen) + &about_prices(report, screen)
}

fn about_prices(report: &Value, screen: &Screen) -> String {
    let (date, source) = (&report["prices"]["date"], &report["prices"]["source"]);
    let shown = |text: &Value| text::line(text.as_str().unwrap_or_default(), screen.utf8);
    let source = if source.is_null() { String::new() } else { format!(", {}", shown(source)) };
    let mut out = format!("list prices of {}{source}; costs are estimates\n", shown(date));
    let calls = report["total"]["unpricedCalls"].as_u64().unwrap_or(0);
    if calls > 0 {
        let models: Vec<String> =
            report["unpricedModels"].as_array().into_iter().flatten().map(shown).collect();
        let more = models.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = models.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
        out.push_str(&format!("{} without a known price: {names}{more}\n", format::counted(calls, "call")));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sys::localtime::Zone;

    #[test]
    fn an_unknown_price_is_a_dash_and_is_told() {
        let screen = Screen { columns: None, utf8: true, colour: false, zone: Zone::utc(), now: 0 };
        let report = json!({
            "by": "model",
            "rows": [
                {"model": "m", "calls": 1200, "errors": 1, "inputTokens": 61204, "outputTokens": 3118,
                 "cacheReadInputTokens": 56000, "cost": 0.4123},
                {"model": "new\u{1b}", "calls": 2, "errors": 0, "inputTokens": 0, "outputTokens": 0,
                 "cacheReadInputTokens": 0, "cost": null},
            ],
            "total": {"calls": 1202, "errors": 1, "inputTokens": 61204, "outputTokens": 3118,
                      "cacheReadInputTokens": 56000, "cost": 0.4123, "unpricedCalls": 2},
            "prices": {"date": "2025-12-01", "source": "built in"},
            "unpricedModels": ["new\u{1b}"],
        });
        let want = "\
MODEL    CALLS  ERRORS      IN  CACHED    OUT     COST
m        1 200       1  61 204    91 %  3 118  ≈ $0.41
new\\x1b      2       0       0       -      0        -
all      1 202       1  61 204    91 %  3 118  ≈ $0.41
list prices of 2025-12-01, built in; costs are estimates
2 calls without a known price: new\\x1b
";
        assert_eq!(table(&report, By::Model, &screen), want);
    }
}
