//! What is known of an event without reading it again: the columns that filters and sums use.
use crate::activity::{Event, KINDS, Provider, What};

/// Columns of a row. Numbers that do not fit SQLite's integers (2^63 and more) are cut to the largest.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Position in [`KINDS`].
    pub kind: i64,
    pub ts: i64,
    /// Position in [`PROVIDERS`].
    pub provider: Option<i64>,
    pub session: Option<String>,
    pub objective: Option<String>,
    pub model: Option<String>,
    pub duration: Option<i64>,
    pub status: Option<u16>,
    /// An error status, an error in the stream, or no answer at all.
    pub failed: bool,
    /// Tools the answer uses, each followed by a newline, after a first newline.
    pub tools: Option<String>,
    pub input: Option<i64>,
    pub output: Option<i64>,
    pub cache_creation: Option<i64>,
    pub cache_read: Option<i64>,
}

/// The providers, by their number in the database.
const PROVIDERS: [Provider; 4] =
    [Provider::Anthropic, Provider::OpenAiChat, Provider::OpenAiResponses, Provider::Gemini];

/// The number of a kind in the database.
pub(super) fn kind_number(kind: &str) -> Option<i64> {
    KINDS.iter().position(|k| *k == kind).and_then(|n| i64::try_from(n).ok())
}

/// The kind of a number.
pub(super) fn kind(number: i64) -> Option<&'static str> {
    KINDS.get(usize::try_from(number).ok()?).copied()
}

/// The provider of a number.
pub(super) fn provider(number: Option<i64>) -> Option<Provider> {
    PROVIDERS.get(usize::try_from(number?).ok()?).copied()
}

/// An integer as SQLite has them.
pub(super) fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Facts {
    /// The facts of an event whose answer uses the tools `used`.
    pub(super) fn of(event: &Event, used: &[String]) -> Facts {
        let mut facts = Facts {
            kind: kind_number(event.kind()).unwrap_or_default(),
            ts: integer(event.ts),
            ..Facts::default()
        };
        match &event.what {
            What::ObjectiveOpen { objective_id } | What::ObjectiveClose { objective_id, .. } => {
                facts.objective = Some(objective_id.clone());
            }
            What::Llm { duration, entry } => {
                let response = entry.response.as_ref();
                let usage = response.and_then(|r| r.usage.as_ref());
                let number = |n: Option<u64>| n.map(integer);
                facts.provider =
                    PROVIDERS.iter().position(|p| *p == entry.provider).and_then(|n| i64::try_from(n).ok());
                facts.session = entry.about.session.as_ref().and_then(|s| s.id.clone());
                facts.model = entry.request.model.clone().or_else(|| entry.about.served_model.clone());
                facts.duration = Some(integer(*duration));
                facts.status = response.and_then(|r| r.status);
                facts.failed = response.is_none()
                    || entry.about.error.is_some()
                    || facts.status.is_some_and(|status| status >= 400);
                facts.tools = (!used.is_empty()).then(|| format!("\n{}\n", used.join("\n")));
                facts.input = number(usage.and_then(|u| u.input));
                facts.output = number(usage.and_then(|u| u.whole_output(entry.provider)));
                facts.cache_creation = number(usage.and_then(|u| u.cache_creation));
                facts.cache_read = number(usage.and_then(|u| u.cache_read));
            }
            What::Opaque { duration, entry } => {
                facts.duration = Some(integer(*duration));
                facts.status = entry.status;
                facts.failed = facts.status.is_some_and(|status| status >= 400);
                facts.session = entry
                    .more
                    .get("session")
                    .and_then(|s| s.get("id"))
                    .and_then(|id| id.as_str())
                    .map(str::to_string);
            }
        }
        facts
    }
}
