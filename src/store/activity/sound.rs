//! Whether a piece of JSON can be read back by everyone.
use serde_json::Value;

use crate::activity::{Invalid, deeper};

/// Levels of nesting that an event may have: every reader's parser has a limit (serde_json 128), and an event is
/// read inside of other things.
pub(super) const MAX_DEPTH: usize = 100;

/// A value that is nested at most `levels` deep.
///
/// # Errors
/// Not JSON, or too deep; the path is empty.
pub(super) fn parse(raw: &str, levels: usize) -> Result<Value, Invalid> {
    let invalid = |message: String| Invalid { path: String::new(), message };
    let value: Value = serde_json::from_str(raw).map_err(|e| invalid(format!("cannot be read back: {e}")))?;
    if deeper(&value, levels) {
        return Err(invalid(format!("makes the event deeper than {MAX_DEPTH} levels")));
    }
    Ok(value)
}
