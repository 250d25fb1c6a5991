//! What the team file says about the broker itself, beside where it listens.
use serde_json::Value;

use crate::activity::{Invalid, Reader};
use crate::identity::TeamFile;

/// Longer than anything is kept: 100 years.
const MOST_DAYS: u64 = 36_500;

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `retentionDays`: activity that is older is deleted once a day; `None` keeps all of it.
    pub retention_days: Option<u64>,
}

impl Settings {
    /// Read them from the fields of the file that concern nobody else.
    ///
    /// # Errors
    /// The first field that has a wrong type or value.
    pub fn of(file: &TeamFile) -> Result<Settings, Invalid> {
        let value = Value::Object(file.more.clone());
        let at = Reader::new(&value);
        let days = |r: &Reader<'_>| match r.uint()? {
            days @ 1..=MOST_DAYS => Ok(days),
            _ => Err(r.invalid("is not a number of days from 1 to 36500")),
        };
        Ok(Settings { retention_days: at.field("retentionDays").optional(days)? })
    }
}
