//! Secrets are replaced by `[REDACTED]` before an event leaves this process.
//!
//! Comes in: an event as extraction made it, with deltas merged, so that a secret that was split over several is
//! whole. Goes out: the same event without what `patterns` and `keyed` recognise. Pure; a text is passed over
//! once. It recognises what secrets look like and where they are put; it cannot know a password in prose.
mod keyed;
#[cfg(test)]
mod oracle;
mod patterns;
#[cfg(test)]
mod tests;

pub use patterns::{Rules, TooShort};

use serde_json::Value;

use crate::activity::{Event, Visitor, What};

/// What stands in place of a secret.
pub const REDACTED: &str = "[REDACTED]";

/// Headers whose value goes, whatever it is.
const HEADERS: [&str; 14] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-anthropic-api-key",
    "cookie",
    "set-cookie",
    // The keys of Azure, Google and temporary AWS credentials.
    "api-key",
    "x-goog-api-key",
    "x-amz-security-token",
    // And of other services that agents call.
    "x-auth-token",
    "x-access-token",
    "x-vault-token",
    "private-token",
    "cf-access-client-secret",
];

/// What was replaced in an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Values that stood where a login belongs: in headers, fields and parameters that are named for it.
    pub logins: usize,
    /// What looks like a secret and stood somewhere else, as in a prompt or what a tool has read.
    pub strays: usize,
}

/// Replace the secrets in `event` and say how many there were.
pub fn event(event: &mut Event, rules: &Rules) -> Replaced {
    let mut logins = 0;
    if let What::Opaque { entry, .. } = &mut event.what {
        for (name, value) in entry.request_headers.iter_mut().chain(&mut entry.response_headers) {
            if HEADERS.iter().any(|h| name.eq_ignore_ascii_case(h)) {
                if value != REDACTED {
                    REDACTED.clone_into(value);
                    logins += 1;
                }
            } else {
                // `Location` and `Referer` carry codes in their queries.
                logins += keyed::replace(value);
            }
        }
        logins += keyed::replace(&mut entry.url);
        for preview in [&mut entry.request_body_preview, &mut entry.response_body_preview] {
            logins += preview.as_mut().map_or(0, keyed::replace);
        }
    }
    let mut redactor = Redactor { rules, count: 0 };
    event.visit(&mut redactor);
    Replaced { logins, strays: redactor.count }
}

struct Redactor<'a> {
    rules: &'a Rules,
    count: usize,
}

impl Visitor for Redactor<'_> {
    fn text(&mut self, text: &mut String) {
        self.count += self.rules.replace(text);
    }

    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(map) => {
                if map.keys().any(|name| self.rules.finds(name)) {
                    for (mut name, member) in std::mem::take(map) {
                        self.text(&mut name);
                        map.insert(name, member);
                    }
                }
                map.values_mut().for_each(|member| self.value(member));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}
