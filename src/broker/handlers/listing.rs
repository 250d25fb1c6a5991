//! Long lists of the main database: read in pieces while they are sent.
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;

use crate::broker::call::Answer;
use crate::broker::pieces;
use crate::store::Error;
use crate::store::main::Store;

/// The answer is read in pieces of about so many bytes.
const PIECE: usize = 256 << 10;

/// Give what these rows hold, in this order, until there is enough.
pub type Each = fn(&Store, &[i64], &mut dyn FnMut(Value) -> ControlFlow<()>) -> Result<(), Error>;

/// The answer `{"<name>":[…]}` of what `each` gives of `rows`. Where it is short it is whole at once.
///
/// # Errors
/// The first piece cannot be read.
pub fn answer(main: Arc<Store>, name: &str, rows: Vec<i64>, each: Each) -> Result<Answer, Error> {
    let mut listed = 0;
    let body = pieces::body(format!("{{\"{name}\":[").into_bytes(), move |text| {
        each(&main, &rows[listed..], &mut |value| {
            if listed > 0 {
                text.push(b',');
            }
            text.extend_from_slice(value.to_string().as_bytes());
            listed += 1;
            if text.len() >= PIECE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let is_last = listed == rows.len();
        if is_last {
            text.extend_from_slice(b"]}");
        }
        Ok(is_last)
    })?;
    Ok(Answer { status: 200, headers: Vec::new(), body })
}
