//! Reading the activity database: a few connections, and long lists that are read while they are sent.
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::call::Body;
use super::downgrade::as_opaque;
use super::pieces;
use super::sse::Piece;
use crate::activity::Provider;
use crate::store::Error;
use crate::store::activity::{Query, Reader, Row};
use crate::usage::{Prices, cost_of};

/// A list is read from the database in pieces of about so many bytes: a thousand rows can be a thousand long
/// conversations.
const PIECE: usize = 1 << 20;

/// Connections that only read. There are never more than there were readers at the same time.
pub struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Reader>>,
}

impl Readers {
    /// For the database at `path`, which the writer has made by now.
    #[must_use]
    pub fn new(path: &Path) -> Readers {
        Readers { path: path.to_path_buf(), idle: Mutex::default() }
    }

    /// Bytes of the database's files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        crate::store::bytes(&self.path)
    }

    /// Read with one of the connections.
    ///
    /// # Errors
    /// Those of opening one and of `read`; a connection that failed is not used again.
    pub fn with<T>(&self, read: impl FnOnce(&Reader) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = idle.map_or_else(|| Reader::open(&self.path), Ok)?;
        let result = read(&reader)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        Ok(result)
    }
}

/// In which form rows are given.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// Whether the client knows every kind of model call.
    pub typed: bool,
    /// Whether rows are for a list that shows a line each: see [`Reader::list_brief`]. Their `brief` has a `cost` by these
    /// prices.
    pub brief: Option<Arc<Prices>>,
}

impl Form {
    /// The wire JSON of a row that was read in this form.
    fn json(&self, row: &Row) -> String {
        let Some(prices) = &self.brief else { return row_json(row, self.typed) };
        let mut row = row.clone();
        if let Ok(mut event) = serde_json::from_str::<Value>(&row.event)
            && let Some(cost) = cost_of(&event, prices)
        {
            event["brief"]["cost"] = json!(cost);
            row.event = event.to_string();
        }
        row_json(&row, self.typed)
    }
}

/// The wire JSON of a row. Unless `typed`, a kind of model call that older clients do not know is given as
/// `opaque_http`, since their schema refuses the whole list otherwise.
#[must_use]
pub fn row_json(row: &Row, typed: bool) -> String {
    let known = typed || matches!(row.provider, None | Some(Provider::Anthropic));
    let opaque = if known { None } else { as_opaque(&row.event) };
    let event = opaque.as_ref().unwrap_or(&row.event);
    let (id, member, created) = (row.id, json!(row.member), row.created_at);
    format!("{{\"id\":{id},\"memberName\":{member},\"event\":{event},\"createdAt\":{created}}}")
}

/// The rows of `member`, or of all, that were stored after row `after`, as server-sent events: as many as a piece has,
/// at least one if there is one.
///
/// # Errors
/// As [`Readers::with`].
pub fn events(readers: &Readers, member: Option<&str>, after: i64, form: &Form) -> Result<Piece, Error> {
    let mut piece = Piece::after(after);
    readers.with(|reader| {
        let each = |row: Row| {
            piece.push(row.id, &form.json(&row));
            piece.more = piece.is_full();
            if piece.more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        if form.brief.is_some() {
            reader.follow_brief(after, member, each)
        } else {
            reader.follow(after, member, each)
        }
    })?;
    Ok(piece)
}

/// The body `{"activity":[…],"next":…}`. No transaction is open between two pieces of it.
///
/// # Errors
/// As [`Readers::with`], of the first piece.
pub fn listing(readers: Arc<Readers>, mut query: Query, form: Form) -> Result<Body, Error> {
    let mut first = true;
    pieces::body(b"{\"activity\":[".to_vec(), move |text| {
        let (mut rows, mut cut) = (0, false);
        let next = readers.with(|reader| {
            let each = |row: Row| {
                if !std::mem::take(&mut first) {
                    text.push(b',');
                }
                text.extend_from_slice(form.json(&row).as_bytes());
                rows += 1;
                cut = text.len() >= PIECE;
                if cut { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            if form.brief.is_some() { reader.list_brief(&query, each) } else { reader.list(&query, each) }
        })?;
        query.limit -= rows;
        match next {
            Some(cursor) if cut && query.limit > 0 => {
                query.after = Some(cursor);
                Ok(false)
            }
            next => {
                let next = json!(next.map(|cursor| cursor.to_string()));
                text.extend_from_slice(format!("],\"next\":{next}}}").as_bytes());
                Ok(true)
            }
        }
    })
}
