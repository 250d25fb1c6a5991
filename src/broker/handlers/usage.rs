//! `GET /usage`: what calls used, and about what that costs.
use super::activity::filters;
use crate::activity::Invalid;
use crate::broker::activity_reader::Readers;
use crate::broker::call::{Answer, Failure};
use crate::broker::query::Query as Given;
use crate::broker::router::{Authorized, Service};
use crate::identity::Permission;
use crate::store::activity::{Query, Span};
use crate::team::tenures;
use crate::usage::{By, Prices, Report};

/// Sums by `by` (member, model, day or objective; model by default) of the calls of `member` that fit the filters of
/// a list of activity, but for its text. Without activity.read they are of the caller's own calls alone.
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
    let by = asked(given).map_err(Failure::invalid)?;
    let query = filters(member.as_deref(), given).map_err(Failure::invalid)?;
    let objective = given.get("objective");
    let spans = match objective {
        Some(id) => Some(
            spans(at.service, id)?.ok_or_else(|| Failure::NotFound(format!("there is no objective {id}")))?,
        ),
        None => None,
    };
    let ids: Vec<String> = match objective {
        Some(id) => vec![id.to_string()],
        None if by == By::Objective => at.service.main.objective_ids()?,
        None => Vec::new(),
    };
    let settings = at.service.team.settings();
    let prices = &settings.prices;
    let query = Query { spans, objective: None, ..query };
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

/// The calls of `member`, or of all, that fit the filters, summed by model.
pub fn by_model(
    readers: &Readers,
    member: Option<&str>,
    given: &Given,
    prices: &Prices,
) -> Result<Answer, Failure> {
    let query = filters(member, given).map_err(Failure::invalid)?;
    let used = readers.with(|reader| reader.usage(&query))?;
    Ok(Answer::json(200, &Report::new(By::Model, &used, prices).to_json()))
}

/// By what sums are asked for.
fn asked(given: &Given) -> Result<By, Invalid> {
    let message = "is not one of member, model, day, objective".to_string();
    By::of(given.get("by").unwrap_or("model")).ok_or(Invalid { path: "by".to_string(), message })
}
