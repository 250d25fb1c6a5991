//! `GET /usage`: what calls used, and about what that costs.
use crate::activity::Invalid;
use crate::broker::call::{Answer, Failure};
use crate::broker::query::Query as Given;
use crate::broker::router::{Authorized, Service};
use crate::identity::Permission;
use crate::store::activity::{Query, Span};
use crate::store::main::Wanted;
use crate::team::tenures;
use crate::usage::{By, Report};

/// Sums by `by` (member, model, day or objective; model by default) of the calls that fit `from`, `to`, `member`,
/// `model` and `objective`. Without activity.read they are of the caller's own calls alone.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let (given, me) = (&at.call.query, &at.caller.member().name);
    let own = at.caller.must_hold(Permission::ActivityRead, "").is_err();
    let member = match given.get("member") {
        Some(name) => {
            let doing = "reading another member's usage";
            at.caller.must_be_or_hold(name, Permission::ActivityRead, doing)?;
            Some(name.to_string())
        }
        None => own.then(|| me.clone()),
    };
    let (by, query) = asked(given, member).map_err(Failure::invalid)?;
    let objective = given.get("objective");
    let spans = match objective {
        Some(id) => Some(
            spans(at.service, id)?.ok_or_else(|| Failure::NotFound(format!("there is no objective {id}")))?,
        ),
        None => None,
    };
    let ids: Vec<String> = match objective {
        Some(id) => vec![id.to_string()],
        None if by == By::Objective => {
            let all = Wanted { involving: None, assignee: None, status: None };
            at.service.main.objectives(all)?.into_iter().map(|objective| objective.id).collect()
        }
        None => Vec::new(),
    };
    let settings = at.service.team.settings();
    let prices = &settings.prices;
    let query = Query { spans, ..query };
    let used = at.service.readers.with(|reader| reader.usage(&query))?;
    let mut report = Report::new(by, &used, prices);
    if by == By::Objective {
        for id in ids {
            for span in self::spans(at.service, &id)?.unwrap_or_default() {
                if query.member.as_ref().is_some_and(|name| *name != span.member) {
                    continue;
                }
                let within = Query { spans: Some(vec![span]), ..query.clone() };
                let used = at.service.readers.with(|reader| reader.usage(&within))?;
                if !used.is_empty() {
                    report.objective(&id, &used, prices);
                }
            }
        }
    }
    Ok(Answer::json(200, &report.to_json()))
}

/// When members had an objective; `None` if there is none with this id.
pub fn spans(service: &Service, id: &str) -> Result<Option<Vec<Span>>, Failure> {
    let Some((objective, events)) = service.main.objective(id)? else { return Ok(None) };
    let span = |tenure: crate::team::Tenure| Span {
        member: tenure.member,
        from: tenure.from,
        to: tenure.to.unwrap_or(u64::MAX),
    };
    Ok(Some(tenures(&objective, &events).into_iter().map(span).collect()))
}

fn asked(given: &Given, member: Option<String>) -> Result<(By, Query), Invalid> {
    let invalid =
        |path: &str, message: &str| Invalid { path: path.to_string(), message: message.to_string() };
    let time = |name: &str| {
        let read =
            |t: &str| t.parse::<u64>().map_err(|_| invalid(name, "is not a time in ms since the epoch"));
        given.get(name).map(read).transpose()
    };
    let by = given.get("by").unwrap_or("model");
    let by = By::of(by).ok_or_else(|| invalid("by", "is not one of member, model, day, objective"))?;
    let model = given.get("model").map(str::to_string);
    Ok((by, Query { member, from: time("from")?, to: time("to")?, model, ..Query::default() }))
}
