//! The table of prices, and what a number of tokens costs by it.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{fmt, fs};

use serde_json::Value;

use crate::activity::{self, Invalid, Provider, Usage};
use crate::sys::paths;

/// The table inside the program.
const BUILT_IN: &str = include_str!("prices.json");

/// Prices of models, in US dollars.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    /// The day they were looked up, as the table says it.
    pub date: String,
    models: BTreeMap<String, Price>,
}

/// Dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Price {
    input: f64,
    output: f64,
    /// Where the table is silent, cached tokens cost what others cost.
    cache_read: f64,
    cache_write: f64,
}

/// Tokens as a provider counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    pub input: u64,
    pub output: u64,
    pub cache_creation: u64,
    pub cache_read: u64,
}

impl Tokens {
    /// The tokens of one call.
    #[must_use]
    pub fn of(provider: Provider, usage: &Usage) -> Tokens {
        let number = |n: Option<u64>| n.unwrap_or(0);
        Tokens {
            input: number(usage.input),
            output: number(usage.whole_output(provider)),
            cache_creation: number(usage.cache_creation),
            cache_read: number(usage.cache_read),
        }
    }

    /// Count more.
    pub fn add(&mut self, more: &Tokens) {
        self.input = self.input.saturating_add(more.input);
        self.output = self.output.saturating_add(more.output);
        self.cache_creation = self.cache_creation.saturating_add(more.cache_creation);
        self.cache_read = self.cache_read.saturating_add(more.cache_read);
    }

    /// All input, cached or not: Anthropic counts cached input beside the rest, the others within it.
    #[must_use]
    pub fn whole_input(&self, provider: Option<Provider>) -> u64 {
        match provider {
            Some(Provider::Anthropic) | None => {
                self.input.saturating_add(self.cache_read).saturating_add(self.cache_creation)
            }
            Some(_) => self.input,
        }
    }

    /// Input that was neither read from the cache nor written to it.
    fn fresh_input(&self, provider: Option<Provider>) -> u64 {
        match provider {
            Some(Provider::Anthropic) | None => self.input,
            Some(_) => self.input.saturating_sub(self.cache_read.saturating_add(self.cache_creation)),
        }
    }
}

/// Why a table cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    Unreadable(String),
    Json(String),
    Invalid(Invalid),
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bad::Unreadable(why) => f.write_str(why),
            Bad::Json(why) => write!(f, "is not JSON: {why}"),
            Bad::Invalid(invalid) => invalid.fmt(f),
        }
    }
}

impl std::error::Error for Bad {}

impl Default for Prices {
    /// The table inside the program.
    fn default() -> Prices {
        Prices::built_in()
    }
}

impl Prices {
    /// The table in `file`, or where none is named that in `prices.json` in the configuration directory, or where there
    /// is none the one inside the program; and the file, if it is one.
    ///
    /// # Errors
    /// The file, and why it cannot be used.
    pub fn usual(file: Option<PathBuf>) -> Result<(Prices, Option<PathBuf>), (PathBuf, Bad)> {
        let own = || paths::config_dir().map(|dir| dir.join("prices.json")).filter(|path| path.exists());
        let Some(path) = file.or_else(own) else { return Ok((Prices::built_in(), None)) };
        let read = fs::read_to_string(&path).map_err(|e| Bad::Unreadable(e.to_string()));
        match read.and_then(|text| Prices::parse(&text)) {
            Ok(prices) => Ok((prices, Some(path))),
            Err(bad) => Err((path, bad)),
        }
    }

    /// The table inside the program.
    #[must_use]
    pub fn built_in() -> Prices {
        Prices::parse(BUILT_IN).unwrap_or_else(|_| Prices { date: String::new(), models: BTreeMap::new() })
    }

    /// Read a table: `{"date": "2025-12-01", "currency": "USD", "models": {NAME: {"input": 3, "output": 15,
    /// "cacheRead"?: 0.3, "cacheWrite"?: 3.75}}}`, dollars for a million tokens.
    ///
    /// # Errors
    /// It is not that.
    pub fn parse(text: &str) -> Result<Prices, Bad> {
        let value: Value = serde_json::from_str(text).map_err(|e| Bad::Json(e.to_string()))?;
        let at = activity::Reader::new(&value);
        let invalid = |path: &str, message: &str| {
            Bad::Invalid(Invalid { path: path.to_string(), message: message.to_string() })
        };
        let date = at.field("date").string().map_err(Bad::Invalid)?;
        if value.get("currency").is_some_and(|c| c != "USD") {
            return Err(invalid("currency", "is not USD"));
        }
        let models =
            value.get("models").and_then(Value::as_object).ok_or(invalid("models", "is not an object"))?;
        let mut prices = Prices { date, models: BTreeMap::new() };
        for (name, fields) in models {
            let number = |field: &str| match fields.get(field) {
                None => Ok(None),
                Some(n) => match n.as_f64().filter(|n| n.is_finite() && *n >= 0.0) {
                    Some(n) => Ok(Some(n)),
                    None => Err(invalid(&format!("models.{name}.{field}"), "is not a price")),
                },
            };
            let needed = |field: &str| {
                number(field)?.ok_or_else(|| invalid(&format!("models.{name}.{field}"), "is missing"))
            };
            let (input, output) = (needed("input")?, needed("output")?);
            let cache_read = number("cacheRead")?.unwrap_or(input);
            let cache_write = number("cacheWrite")?.unwrap_or(input);
            prices.models.insert(name.clone(), Price { input, output, cache_read, cache_write });
        }
        Ok(prices)
    }

    /// What tokens of a model cost, in dollars; `None` if the table does not have the model.
    #[must_use]
    pub fn cost(&self, model: &str, provider: Option<Provider>, tokens: &Tokens) -> Option<f64> {
        let price = self.models.get(model).or_else(|| self.models.get(plain_name(model)))?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a cost is an estimate, and tokens stay far below 2^53"
        )]
        let of = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        Some(
            of(tokens.fresh_input(provider), price.input)
                + of(tokens.output, price.output)
                + of(tokens.cache_read, price.cache_read)
                + of(tokens.cache_creation, price.cache_write),
        )
    }
}

/// What a call cost in dollars, by its event's JSON; `None` for what is no call, has no numbers or no price.
#[must_use]
pub fn cost_of(event: &Value, prices: &Prices) -> Option<f64> {
    let entry = event.get("entry")?;
    let provider = Provider::from_kind(entry.get("kind")?.as_str()?)?;
    let usage = entry.get("response")?.get("usage")?.as_object()?;
    let number = |name: &str| usage.get(name).and_then(Value::as_u64);
    let tokens = Tokens {
        input: number("inputTokens")?,
        output: number("outputTokens").unwrap_or(0),
        cache_creation: number("cacheCreationInputTokens").unwrap_or(0),
        cache_read: number("cacheReadInputTokens").unwrap_or(0),
    };
    prices.cost(entry.get("request")?.get("model")?.as_str()?, Some(provider), &tokens)
}

/// A model's name without what providers and gateways put around it: `us.anthropic.claude-sonnet-4-5-20250929-v1:0`
/// and `claude-sonnet-4-5@20250929` are `claude-sonnet-4-5`. A further version number stays: it is another model.
fn plain_name(model: &str) -> &str {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.rsplit_once("anthropic.").map_or(name, |(_, name)| name);
    let name = name.split(['@', '[', ':']).next().unwrap_or(name);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut name = name.strip_suffix("-latest").unwrap_or(name);
    if let Some((rest, version)) = name.rsplit_once("-v")
        && digits(version)
    {
        name = rest;
    }
    // -20250929, and -2025-09-29 as OpenAI writes it.
    if let Some((rest, date)) = name.rsplit_once('-')
        && date.len() == 8
        && digits(date)
    {
        return rest;
    }
    let shape = |date: &str| {
        date.len() == 11
            && date.bytes().enumerate().all(|(i, b)| match i {
                0 | 5 | 8 => b == b'-',
                _ => b.is_ascii_digit(),
            })
    };
    match name.len().checked_sub(11).and_then(|at| name.split_at_checked(at)) {
        Some((rest, date)) if shape(date) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_dates_and_nothing_else() {
        for (model, want) in [
            ("claude-sonnet-4-5", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
            ("claude-sonnet-4-5[1m]", "claude-sonnet-4-5"),
            ("anthropic/claude-opus-4-8", "claude-opus-4-8"),
            ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-4o-mini", "gpt-4o-mini"),
            ("gpt-4o-2024-08-066", "gpt-4o-2024-08-066"),
            ("-v1", ""),
            ("ü", "ü"),
            ("", ""),
        ] {
            assert_eq!(plain_name(model), want, "{model}");
        }
    }

    #[test]
    fn the_built_in_table_is_one() {
        let prices = Prices::parse(BUILT_IN).unwrap();
        assert!(prices.models.len() > 20 && prices.date.len() == 10);
        assert_eq!(Prices::built_in(), prices);
        assert!(prices.models.values().all(|p| p.cache_read <= p.input && p.input <= p.output));
    }

    #[test]
    fn cached_tokens_are_paid_once() {
        let table = r#"{"date": "d", "models": {"m": {"input": 10, "output": 50, "cacheRead": 1, "cacheWrite": 12},
                        "bare": {"input": 10, "output": 50}}}"#;
        let prices = Prices::parse(table).unwrap();
        let tokens =
            Tokens { input: 1_000_000, output: 100_000, cache_creation: 100_000, cache_read: 500_000 };
        for (model, provider, whole, want) in [
            // 10 for input, 5 for output, 1.2 for writes, 0.5 for reads
            ("m", Provider::Anthropic, 1_600_000, Some(16.7)),
            // 400 000 of the input are fresh
            ("m-20250101", Provider::OpenAiChat, 1_000_000, Some(10.7)),
            ("bare", Provider::Gemini, 1_000_000, Some(15.0)),
            ("other", Provider::Gemini, 1_000_000, None),
        ] {
            assert_eq!(tokens.whole_input(Some(provider)), whole, "{model}");
            let cost = prices.cost(model, Some(provider), &tokens);
            assert_eq!(cost.map(|c| (c * 1e6).round() / 1e6), want, "{model}");
        }
    }

    #[test]
    fn a_bad_table_is_refused_with_the_place() {
        for (table, want) in [
            ("{", "is not JSON: "),
            ("{}", "date is missing"),
            (r#"{"date": "d"}"#, "models is not an object"),
            (r#"{"date": "d", "currency": "EUR", "models": {}}"#, "currency is not USD"),
            (r#"{"date": "d", "models": {"m": {"input": 1}}}"#, "models.m.output is missing"),
            (
                r#"{"date": "d", "models": {"m": {"input": -1, "output": 1}}}"#,
                "models.m.input is not a price",
            ),
        ] {
            let error = Prices::parse(table).unwrap_err().to_string();
            assert!(error.starts_with(want), "{table}: {error}");
        }
    }
}
