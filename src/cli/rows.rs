//! Recorded rows, from a database or from a broker: the same questions, the same answers.
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::activity::{Event, KINDS, What};
use crate::client::{self, Client, Events, Failure, segment};
use crate::store;
use crate::store::activity::{Query, Reader, Row};
use crate::usage::{Prices, cost_of};

/// Rows that are asked for at once: the most that a broker gives.
const PAGE: usize = 1000;

/// Rows among which the last session is looked for.
const RECENT: usize = 100;

/// Where rows come from.
pub enum Rows {
    Database(Box<Reader>),
    Broker(Box<Remote>),
}

/// A broker's rows of one member, or of one objective.
pub struct Remote {
    client: Client,
    /// `/members/NAME`, or `/objectives/ID`.
    base: String,
    /// Rows that came with a list and are asked for one by one.
    known: RefCell<HashMap<i64, Row>>,
}

/// Why rows cannot be had.
#[derive(Debug)]
pub enum Error {
    Store(store::Error),
    Client(client::Error),
    /// The stream of new rows has ended.
    Stream(Option<Failure>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store(error) => error.fmt(f),
            Error::Client(error) => error.fmt(f),
            Error::Stream(None) => f.write_str("the broker has ended the stream of new rows"),
            Error::Stream(Some(why)) => write!(f, "the stream of new rows broke off: {why}"),
        }
    }
}

impl Error {
    /// What the user can do about it, if we know.
    pub fn fix(&self) -> Option<String> {
        match self {
            Error::Client(error) => error.fix(),
            Error::Store(_) | Error::Stream(_) => None,
        }
    }
}

/// An error as the verb tells it, with the way out.
pub fn failed(verb: &'static str) -> impl Fn(Error) -> super::error::Error {
    move |error| super::error::Error::Failed { verb, what: error.to_string(), fix: error.fix() }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Store(error)
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Error {
        Error::Client(error)
    }
}

impl Remote {
    /// The rows of `member`, or the caller's own; or those of everybody who worked on `objective`, if no member is
    /// named.
    ///
    /// # Errors
    /// As the broker's answer to `GET /briefing`, which says who the caller is.
    pub fn new(
        client: Client,
        member: Option<&str>,
        objective: Option<&str>,
    ) -> Result<Remote, client::Error> {
        let base = match (member, objective) {
            (Some(name), _) => format!("/members/{}", segment(name)),
            (None, Some(id)) => format!("/objectives/{}", segment(id)),
            (None, None) => format!("/members/{}", client.briefing()?.name),
        };
        Ok(Remote { client, base, known: RefCell::default() })
    }

    /// A page of a list, newest first, and where the next one begins.
    fn page(
        &self,
        query: &Query,
        cursor: Option<&str>,
        limit: usize,
        view: &str,
    ) -> Result<(Vec<Row>, Option<String>), Error> {
        let mut path = format!("{}/activity?typed=all{view}&limit={limit}", self.base);
        let time = |t: Option<u64>| t.map(|t| t.to_string());
        let given = [
            ("from", time(query.from)),
            ("to", time(query.to)),
            ("model", query.model.clone()),
            ("session", query.session.clone()),
            ("status", query.failed.then(|| "error".to_string())),
            // Of an objective's own list it is the whole.
            ("objective", query.objective.clone().filter(|_| self.base.starts_with("/members/"))),
            ("q", query.text.clone()),
            ("cursor", cursor.map(str::to_string)),
        ];
        let kinds = query.kinds.iter().map(|kind| ("kind", Some(kind.clone())));
        for (name, value) in given.into_iter().chain(kinds) {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", segment(&value)));
            }
        }
        let answer = self.client.json("GET", &path, None)?;
        let rows = answer["activity"].as_array().into_iter().flatten().filter_map(row).collect();
        Ok((rows, answer["next"].as_str().map(str::to_string)))
    }

    fn newest(&self, query: &Query) -> Result<Vec<i64>, Error> {
        let (mut ids, mut cursor) = (Vec::new(), None::<String>);
        self.known.borrow_mut().clear();
        while ids.len() < query.limit {
            let (rows, next) =
                self.page(query, cursor.as_deref(), (query.limit - ids.len()).min(PAGE), "")?;
            for row in rows {
                ids.push(row.id);
                self.known.borrow_mut().insert(row.id, row);
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        ids.reverse();
        Ok(ids)
    }

    fn get(&self, id: i64) -> Result<Option<Row>, Error> {
        if let Some(row) = self.known.borrow_mut().remove(&id) {
            return Ok(Some(row));
        }
        self.at(&self.base, id)
    }

    fn at(&self, base: &str, id: i64) -> Result<Option<Row>, Error> {
        match self.client.json("GET", &format!("{base}/activity/{id}?typed=all"), None) {
            Ok(value) => Ok(row(&value)),
            Err(error) if matches!(error.failure(), Some(Failure::Status(404, _))) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A row of a list, without what its call repeats.
#[derive(Debug)]
pub struct Brief {
    pub id: i64,
    pub member: String,
    /// What is new in a call, and what it cost; null for what is no call.
    pub news: Value,
}

impl Brief {
    fn of(row: Row) -> (Brief, Value) {
        let mut event = serde_json::from_str(&row.event).unwrap_or(Value::Null);
        let news = event.get_mut("brief").map_or(Value::Null, Value::take);
        (Brief { id: row.id, member: row.member, news }, event)
    }
}

/// A row as the broker gives it. What is no row is left out: a newer broker may have kinds that we do not know.
fn row(value: &Value) -> Option<Row> {
    let event = value.get("event")?;
    let kind = event.get("kind")?.as_str()?;
    let kind = KINDS.into_iter().find(|known| *known == kind)?;
    let provider = match Event::from_json(event).map(|event| event.what) {
        Ok(What::Llm { entry, .. }) => Some(entry.provider),
        _ => None,
    };
    Some(Row {
        id: value.get("id")?.as_i64()?,
        member: value.get("memberName")?.as_str()?.to_string(),
        created_at: value.get("createdAt")?.as_u64()?,
        kind,
        provider,
        event: event.to_string(),
    })
}

/// Rows as they are stored.
pub enum Fresh<'a> {
    /// A database is asked again and again, for what comes after this row.
    Database(&'a Reader, i64),
    Broker(Events),
}

impl Rows {
    /// The ids of the newest rows that match, oldest first. Rows can be long: they are got one by one.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn newest(&self, query: &Query) -> Result<Vec<i64>, Error> {
        let reader = match self {
            Rows::Broker(remote) => return remote.newest(query),
            Rows::Database(reader) => reader,
        };
        let (mut ids, mut query) = (Vec::new(), query.clone());
        let most = query.limit;
        while ids.len() < most {
            query.limit = most - ids.len();
            let each = |row: Row| {
                ids.push(row.id);
                ControlFlow::Continue(())
            };
            query.after = reader.list(&query, each)?;
            if query.after.is_none() {
                break;
            }
        }
        ids.reverse();
        Ok(ids)
    }

    /// Every row that matches, oldest first. A broker knows its own prices; `prices` are for a database.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn briefs(&self, query: &Query, prices: &Prices) -> Result<Vec<Brief>, Error> {
        let mut found = Vec::new();
        match self {
            Rows::Database(reader) => {
                let mut query = Query { limit: PAGE, ..query.clone() };
                loop {
                    let each = |row: Row| {
                        let (mut brief, event) = Brief::of(row);
                        if let Some(cost) = cost_of(&event, prices) {
                            brief.news["cost"] = cost.into();
                        }
                        found.push(brief);
                        ControlFlow::Continue(())
                    };
                    query.after = reader.list_brief(&query, each)?;
                    if query.after.is_none() {
                        break;
                    }
                }
            }
            Rows::Broker(remote) => {
                let mut cursor = None::<String>;
                loop {
                    let (rows, next) = remote.page(query, cursor.as_deref(), PAGE, "&view=brief")?;
                    found.extend(rows.into_iter().map(|row| Brief::of(row).0));
                    cursor = next;
                    if cursor.is_none() {
                        break;
                    }
                }
            }
        }
        found.reverse();
        Ok(found)
    }

    /// All of such a row.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn whole(&self, brief: &Brief) -> Result<Option<Row>, Error> {
        match self {
            Rows::Database(reader) => Ok(reader.get(brief.id)?),
            Rows::Broker(remote) => remote.at(&format!("/members/{}", segment(&brief.member)), brief.id),
        }
    }

    /// One row; `None` if it is not there (any more).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn get(&self, id: i64) -> Result<Option<Row>, Error> {
        match self {
            Rows::Database(reader) => Ok(reader.get(id)?),
            Rows::Broker(remote) => remote.get(id),
        }
    }

    /// The id of the session that was recorded last.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn last_session(&self, member: Option<&str>) -> Result<Option<String>, Error> {
        let remote = match self {
            Rows::Database(reader) => return Ok(reader.last_session(member)?),
            Rows::Broker(remote) => remote,
        };
        let (rows, _) = remote.page(&Query::default(), None, RECENT, "")?;
        let session = |row: &Row| {
            let event: Value = serde_json::from_str(&row.event).ok()?;
            event.get("entry")?.get("session")?.get("id")?.as_str().map(str::to_string)
        };
        Ok(rows.iter().find_map(session))
    }

    /// What is stored from now on.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn follow(&self) -> Result<Fresh<'_>, Error> {
        match self {
            Rows::Database(reader) => Ok(Fresh::Database(reader, reader.last_id()?)),
            Rows::Broker(remote) => {
                let path = format!("{}/activity/stream?typed=all", remote.base);
                Ok(Fresh::Broker(remote.client.apart().events(&path, None)?))
            }
        }
    }
}

impl Fresh<'_> {
    /// Rows that have come, oldest first, as ids with their events' times. A database gives an empty list where there
    /// is nothing new, a broker is waited for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn next_rows(&mut self) -> Result<Vec<(i64, u64)>, Error> {
        let mut fresh = Vec::new();
        match self {
            Fresh::Database(reader, seen) => {
                reader.follow(*seen, None, |row| {
                    fresh.push((row.id, happened(&row)));
                    ControlFlow::Continue(())
                })?;
                *seen = fresh.last().map_or(*seen, |(id, _)| *id);
            }
            Fresh::Broker(events) => match events.next_event() {
                Ok(Some(event)) if event.name == "message" => {
                    let value: Option<Value> = serde_json::from_str(&event.data).ok();
                    fresh.extend(value.as_ref().and_then(row).map(|row| (row.id, happened(&row))));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::Stream(None)),
                Err(why) => return Err(Error::Stream(Some(why))),
            },
        }
        Ok(fresh)
    }

    /// Whether the next rows have to be asked for after a while.
    pub fn polls(&self) -> bool {
        matches!(self, Fresh::Database(..))
    }
}

/// When the row's event happened, in ms since the epoch.
fn happened(row: &Row) -> u64 {
    let event: Option<Value> = serde_json::from_str(&row.event).ok();
    event.and_then(|e| e.get("ts").and_then(Value::as_u64)).unwrap_or(row.created_at)
}
