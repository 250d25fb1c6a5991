//! Sums by member, model, day or objective.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::prices::{Prices, Tokens};
use crate::store::activity::Used;
use crate::sys::localtime::Zone;

/// What a row of a report stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Member,
    Model,
    /// A day of UTC.
    Day,
    Objective,
}

impl By {
    /// All of them, with the words for them.
    pub const ALL: [(&'static str, By); 4] =
        [("member", By::Member), ("model", By::Model), ("day", By::Day), ("objective", By::Objective)];

    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        By::ALL.iter().find(|(_, by)| *by == self).map_or("", |(name, _)| name)
    }

    /// What a word means.
    #[must_use]
    pub fn of(name: &str) -> Option<By> {
        By::ALL.iter().find(|(known, _)| *known == name).map(|(_, by)| *by)
    }
}

/// One sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub calls: u64,
    pub failed: u64,
    /// All input, cached or not.
    pub input: u64,
    pub output: u64,
    pub cache_read: u64,
    pub cache_creation: u64,
    /// Dollars, of the calls that have a price.
    pub cost: f64,
    /// Calls without a price.
    pub unpriced: u64,
}

/// A whole report.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub by: By,
    pub rows: BTreeMap<String, Row>,
    /// Each call once, also where it belongs to several objectives.
    pub total: Row,
    /// Models without a price.
    pub unpriced: BTreeSet<String>,
    /// The day of the price table.
    pub prices: String,
}

impl Row {
    fn add(&mut self, used: &Used, cost: Option<f64>) {
        let tokens = tokens(used);
        self.calls += used.calls;
        self.failed += used.failed;
        self.input = self.input.saturating_add(tokens.whole_input(used.provider));
        self.output = self.output.saturating_add(used.output);
        self.cache_read = self.cache_read.saturating_add(used.cache_read);
        self.cache_creation = self.cache_creation.saturating_add(used.cache_creation);
        self.cost += cost.unwrap_or(0.0);
        self.unpriced += if cost.is_none() { used.calls } else { 0 };
    }

    fn to_json(&self) -> Value {
        json!({
            "calls": self.calls,
            "errors": self.failed,
            "inputTokens": self.input,
            "outputTokens": self.output,
            "cacheReadInputTokens": self.cache_read,
            "cacheCreationInputTokens": self.cache_creation,
            // Nothing is known of the cost where no call has a price.
            "cost": (self.unpriced < self.calls || self.calls == 0).then(|| (self.cost * 1e6).round() / 1e6),
            "unpricedCalls": self.unpriced,
        })
    }
}

fn tokens(used: &Used) -> Tokens {
    Tokens {
        input: used.input,
        output: used.output,
        cache_creation: used.cache_creation,
        cache_read: used.cache_read,
    }
}

impl Report {
    /// A report by member, model or day of what was `used`. By objective it has only the total yet:
    /// [`Report::objective`] adds the rows.
    #[must_use]
    pub fn new(by: By, used: &[Used], prices: &Prices) -> Report {
        let mut report = Report {
            by,
            rows: BTreeMap::new(),
            total: Row::default(),
            unpriced: BTreeSet::new(),
            prices: prices.date.clone(),
        };
        for used in used {
            let model = used.model.as_deref().unwrap_or("-");
            let cost = prices.cost(model, used.provider, &tokens(used));
            if cost.is_none() {
                report.unpriced.insert(model.to_string());
            }
            report.total.add(used, cost);
            let key = match by {
                By::Member => used.member.clone(),
                By::Model => model.to_string(),
                By::Day => Zone::utc().local(used.day).date(),
                By::Objective => continue,
            };
            report.rows.entry(key).or_default().add(used, cost);
        }
        report
    }

    /// Add what was used while somebody worked on an objective.
    pub fn objective(&mut self, id: &str, used: &[Used], prices: &Prices) {
        let sum = Report::new(By::Objective, used, prices).total;
        let row = self.rows.entry(id.to_string()).or_default();
        row.calls += sum.calls;
        row.failed += sum.failed;
        row.input = row.input.saturating_add(sum.input);
        row.output = row.output.saturating_add(sum.output);
        row.cache_read = row.cache_read.saturating_add(sum.cache_read);
        row.cache_creation = row.cache_creation.saturating_add(sum.cache_creation);
        row.cost += sum.cost;
        row.unpriced += sum.unpriced;
    }

    /// `{by, rows: [{<by>, calls, errors, …Tokens, cost, unpricedCalls}], total, prices: {date, currency},
    /// unpricedModels}`; a cost is in dollars, and null where no call has a price.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let row = |(key, row): (&String, &Row)| {
            let mut object = row.to_json();
            object[self.by.name()] = key.as_str().into();
            object
        };
        json!({
            "by": self.by.name(),
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "total": self.total.to_json(),
            "prices": {"date": self.prices, "currency": "USD"},
            "unpricedModels": self.unpriced,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::Provider;

    fn used(member: &str, model: &str, day: u64, calls: u64) -> Used {
        Used {
            member: member.into(),
            model: Some(model.into()),
            provider: Some(Provider::Anthropic),
            day: day * 86_400_000,
            calls,
            failed: 1,
            input: 1_000_000,
            output: 0,
            cache_creation: 0,
            cache_read: 10,
        }
    }

    #[test]
    fn sums_by_each_key_agree_with_the_total() {
        let prices =
            Prices::parse(r#"{"date": "2025-12-01", "models": {"m": {"input": 2, "output": 9}}}"#).unwrap();
        let all = [used("ann", "m", 20_000, 2), used("bob", "m", 20_001, 1), used("bob", "new", 20_001, 4)];
        for (by, keys) in [
            (By::Member, &["ann", "bob"][..]),
            (By::Model, &["m", "new"]),
            (By::Day, &["2024-10-04", "2024-10-05"]),
            (By::Objective, &[]),
        ] {
            let report = Report::new(by, &all, &prices);
            assert_eq!(report.rows.keys().collect::<Vec<_>>(), keys);
            assert_eq!((report.total.calls, report.total.unpriced, report.total.failed), (7, 4, 3));
            assert_eq!(report.total.input, 3_000_030);
            let calls: u64 = report.rows.values().map(|row| row.calls).sum();
            assert!(by == By::Objective || calls == 7);
        }
        let mut report = Report::new(By::Objective, &all, &prices);
        report.objective("o1", &all[..1], &prices);
        report.objective("o1", &all[2..], &prices);
        let json = report.to_json();
        assert_eq!(json["rows"][0]["objective"], "o1");
        assert_eq!(json["rows"][0]["calls"], 6);
        assert_eq!(json["total"]["cost"], 4.00004);
        assert_eq!(json["unpricedModels"], json!(["new"]));
        assert_eq!(json["prices"]["date"], "2025-12-01");
        let unknown = Report::new(By::Model, &all[2..], &prices).to_json();
        assert_eq!(
            (&unknown["rows"][0]["cost"], &unknown["rows"][0]["unpricedCalls"]),
            (&Value::Null, &json!(4))
        );
    }
}
