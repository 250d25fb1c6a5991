//! Long lists: read from the database in pieces while they are sent.
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;

use crate::broker::call::{Answer, Body};
use crate::store;
use crate::store::main::Store;

/// The answer is read in pieces of about so many bytes.
const PIECE: usize = 256 << 10;

/// Give what these rows hold, in this order, until there is enough.
pub type Each = fn(&Store, &[i64], &mut dyn FnMut(Value) -> ControlFlow<()>) -> Result<(), store::Error>;

/// The answer `{"<name>":[…]}` of what `each` gives of `rows`. Where it is short it is whole at once.
///
/// # Errors
/// The first piece cannot be read.
pub fn answer(main: Arc<Store>, name: &str, rows: Vec<i64>, each: Each) -> Result<Answer, store::Error> {
    let text = format!("{{\"{name}\":[").into_bytes();
    let mut listing = Listing { main, each, rows, listed: 0, text, given: 0, done: false };
    listing.piece()?;
    let body = if listing.done { Body::Json(listing.text) } else { Body::Stream(Box::new(listing)) };
    Ok(Answer { status: 200, headers: Vec::new(), body })
}

struct Listing {
    main: Arc<Store>,
    each: Each,
    rows: Vec<i64>,
    /// So many rows are in the text, or were.
    listed: usize,
    /// Text that has not been given out: `text[given..]`.
    text: Vec<u8>,
    given: usize,
    done: bool,
}

impl Listing {
    fn piece(&mut self) -> Result<(), store::Error> {
        let (text, listed) = (&mut self.text, &mut self.listed);
        (self.each)(&self.main, &self.rows[*listed..], &mut |value| {
            if *listed > 0 {
                text.push(b',');
            }
            text.extend_from_slice(value.to_string().as_bytes());
            *listed += 1;
            if text.len() >= PIECE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if self.listed == self.rows.len() {
            self.text.extend_from_slice(b"]}");
            self.done = true;
        }
        Ok(())
    }
}

impl Read for Listing {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() && !self.done {
            self.text.clear();
            self.given = 0;
            self.piece().map_err(io::Error::other)?;
        }
        let n = (&self.text[self.given..]).read(buf)?;
        self.given += n;
        Ok(n)
    }
}
