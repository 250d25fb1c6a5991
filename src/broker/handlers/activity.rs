//! `/members/:name/activity`: what a member's agents did.
use std::mem;
use std::sync::Arc;

use serde_json::json;

use super::usage::spans;
use crate::activity::{Invalid, KINDS};
use crate::broker::activity_reader::{Form, Readers, events, listing, row_json};
use crate::broker::activity_writer::{Refused, topic};
use crate::broker::call::{Answer, Body, Call, Failure};
use crate::broker::counters::Present;
use crate::broker::query::Query;
use crate::broker::router::Authorized;
use crate::broker::sse::{self, Asked};
use crate::identity::Permission;
use crate::store;
use crate::store::activity::{NotACursor, Reader};
use crate::usage::Prices;

/// Events of one upload.
const EVENTS: std::ops::RangeInclusive<usize> = 1..=500;

/// `POST`: store events, the caller's own alone. With an `Idempotency-Key` it may be repeated for 24 h and is stored
/// once.
pub fn append(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = at.params[0];
    at.caller.must_be(name, &format!("adding to {name}'s activity"))?;
    let key = at.call.headers.get("idempotency-key");
    if key.is_some_and(|key| !valid_key(key)) {
        return Err(Failure::bad("the Idempotency-Key is not 1 to 64 of A-Z a-z 0-9 _ -"));
    }
    let batch = at.service.parser.upload(mem::take(&mut at.body)).map_err(Failure::invalid)?;
    if !EVENTS.contains(&batch.len()) {
        let message = format!("has {} events, not {} to {}", batch.len(), EVENTS.start(), EVENTS.end());
        return Err(Failure::invalid(Invalid { path: "events".to_string(), message }));
    }
    let waiting = Present::enter(&at.service.counters.uploads);
    let accepted = at.service.activity.append(name, batch, key).map_err(unstored)?;
    drop(waiting);
    Ok(Answer::json(201, &json!({"accepted": accepted})))
}

fn valid_key(key: &str) -> bool {
    (1..=64).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn unstored(refused: Refused) -> Failure {
    match refused {
        Refused::Store(error) => error.into(),
        Refused::NoRoom { free } => {
            Failure::Busy(format!("the disk is nearly full: {} MiB are left, for messages", free >> 20))
        }
        Refused::Gone => {
            Failure::Internal("the thread that writes the activity database is gone".to_string())
        }
    }
}

/// `GET`: the newest rows that fit the filters, and where to go on.
pub fn list(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = at.params[0];
    may_read(at, name)?;
    rows(&at.service.readers, Some(name), &at.call.query, &prices(at))
}

/// `GET /objectives/:id/activity`: the same of everybody who had an objective, while they had it. Without activity.read
/// that is the caller's own part.
pub fn of_objective(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (id, me) = (at.params[0], &at.caller.member().name);
    let own = at.caller.must_hold(Permission::ActivityRead, "").is_err();
    let spans =
        spans(at.service, id)?.ok_or_else(|| Failure::NotFound(format!("there is no objective {id}")))?;
    let spans = spans.into_iter().filter(|span| !own || span.member == *me).collect();
    let query = filters(None, &at.call.query).map_err(Failure::invalid)?;
    let query = store::activity::Query { spans: Some(spans), objective: None, ..query };
    let body = listing(at.service.readers.clone(), query, form(&at.call.query, &prices(at)))?;
    Ok(Answer { status: 200, headers: Vec::new(), body })
}

/// `GET …/:id`: one row.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (name, id) = (at.params[0], at.params[1]);
    may_read(at, name)?;
    row(&at.service.readers, Some(name), id, &at.call.query)
}

/// `GET …/stream`: rows as they are stored, as server-sent events.
pub fn stream(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let name = at.params[0];
    may_read(at, name)?;
    let form = form(&at.call.query, &prices(at));
    follow(&at.service.readers, Some(name), topic(name), at.call, &form, || {
        Ok(at.service.activity.committed())
    })
}

/// The newest rows of `member`, or of all, that fit the filters.
pub fn rows(
    readers: &Arc<Readers>,
    member: Option<&str>,
    given: &Query,
    prices: &Arc<Prices>,
) -> Result<Answer, Failure> {
    let query = filters(member, given).map_err(Failure::invalid)?;
    let body = listing(readers.clone(), query, form(given, prices))?;
    Ok(Answer { status: 200, headers: Vec::new(), body })
}

/// One row of `member`, or of anybody.
pub fn row(readers: &Readers, member: Option<&str>, id: &str, given: &Query) -> Result<Answer, Failure> {
    let found = match id.parse() {
        Ok(id) => readers.with(|reader| reader.get(id))?,
        Err(_) => None,
    };
    let row = found.filter(|row| member.is_none_or(|name| row.member == name));
    let missing = || Failure::NotFound(format!("{} has no such activity", member.unwrap_or("the database")));
    let text = row_json(&row.ok_or_else(missing)?, given.get("typed") == Some("all")).into_bytes();
    Ok(Answer { status: 200, headers: Vec::new(), body: Body::Json(text) })
}

/// A stream of the rows of `member`, or of all, that waits for `topic`.
///
/// The edge keeps the stream ([`crate::broker::edge`]): the answer to the client's request tells what to wait for and
/// where it begins (after its `Last-Event-ID`, else at the end); each later one has the next rows. `committed` gives
/// the last row that is surely to be seen.
pub fn follow(
    readers: &Readers,
    member: Option<&str>,
    topic: String,
    call: &Call,
    form: &Form,
    committed: impl FnOnce() -> Result<i64, store::Error>,
) -> Result<Answer, Failure> {
    match sse::asked(call)? {
        Asked::Begin(given) => {
            let newest = readers.with(Reader::last_id)?;
            Ok(sse::begin(topic, given.map_or(newest, |id| id.min(newest))))
        }
        Asked::After(after) => {
            // Asked before reading: what is found then is complete up to here.
            let committed = committed()?;
            let mut piece = events(readers, member, after, form)?;
            if !piece.more {
                piece.last = piece.last.max(committed);
            }
            Ok(piece.answer())
        }
    }
}

fn may_read(at: &Authorized<'_>, name: &str) -> Result<(), Failure> {
    at.caller.must_be_or_hold(name, Permission::ActivityRead, "reading another member's activity")
}

/// The form that a request asks for.
pub fn form(given: &Query, prices: &Arc<Prices>) -> Form {
    let brief = given.get("view") == Some("brief");
    Form { typed: given.get("typed") == Some("all"), brief: brief.then(|| prices.clone()) }
}

fn prices(at: &Authorized<'_>) -> Arc<Prices> {
    at.service.team.settings().prices.clone()
}

/// The rows of `member`, or of all, that parameters ask for.
pub fn filters(member: Option<&str>, given: &Query) -> Result<store::activity::Query, Invalid> {
    let invalid =
        |name: &str, message: &str| Invalid { path: name.to_string(), message: message.to_string() };
    let text = |name: &str| given.get(name).map(str::to_string);
    let time = |name: &str| {
        let parse =
            |t: &str| t.parse::<u64>().map_err(|_| invalid(name, "is not a time in ms since the epoch"));
        given.get(name).map(parse).transpose()
    };
    let kinds: Vec<String> = given.all("kind").map(str::to_string).collect();
    if kinds.iter().any(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(invalid("kind", &format!("is not one of {}", KINDS.join(", "))));
    }
    let cursor = |c: &str| c.parse().map_err(|e: NotACursor| invalid("cursor", &e.to_string()));
    let failed = given.get("status") == Some("error");
    let status = given.get("status").filter(|_| !failed);
    let range = |s: &str| statuses(s).ok_or_else(|| invalid("status", "is not 429, 4xx, 400-499 or error"));
    Ok(store::activity::Query {
        member: member.map(str::to_string),
        kinds,
        from: time("from")?,
        to: time("to")?,
        model: text("model"),
        tool: text("tool"),
        status: status.map(range).transpose()?,
        failed,
        session: text("session"),
        objective: text("objective"),
        spans: None,
        text: text("q"),
        after: given.get("cursor").map(cursor).transpose()?,
        limit: given.limit(200, 1000),
    })
}

/// First and last of the statuses that `429`, `4xx` or `400-499` means.
fn statuses(text: &str) -> Option<(u16, u16)> {
    let number = |t: &str| t.parse::<u16>().ok().filter(|n| (100..=999).contains(n));
    if let Some(class) = text.strip_suffix("xx") {
        let first = number(&format!("{class}00"))?;
        return Some((first, first + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((number(first)?, number(last)?))
}

#[cfg(test)]
mod tests {
    use super::statuses;

    #[test]
    fn statuses_have_three_shapes() {
        for (text, want) in [
            ("429", Some((429, 429))),
            ("5xx", Some((500, 599))),
            ("400-499", Some((400, 499))),
            ("9xx", Some((900, 999))),
            ("0xx", None),
            ("xx", None),
            ("99xx", None),
            ("42", None),
            ("400-", None),
            ("ok", None),
        ] {
            assert_eq!(statuses(text), want, "{text}");
        }
    }
}
