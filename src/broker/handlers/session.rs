//! `/session`: logging in with a one-time code, for people at a browser.
use serde_json::{Value, json};

use super::{fields, object, teammate};
use crate::activity::Reader;
use crate::broker::auth::{Credential, begin_session, no_cookie, same_origin};
use crate::broker::call::{Answer, Call, Failure};
use crate::broker::router::{Authorized, Service};
use crate::identity::{Error, Member, TeamFile, is_code, valid_name};
use crate::store::main::{Attempt, Tries};
use crate::sys::clock::now_ms;

/// `POST /session/totp`: a code for a session. Every member's secret is tried, always all of them, with a name and
/// without: neither the time it takes nor the answer tells whether there is a member of that name.
pub fn login(service: &Service, call: &Call, body: &[u8]) -> Result<Answer, Failure> {
    same_origin(call)?;
    let value = object(body)?;
    let at = Reader::new(&value);
    let code = at.field("code");
    if !is_code(code.str().map_err(Failure::invalid)?) {
        return Err(Failure::invalid(code.invalid("is not six digits")));
    }
    let code = code.str().map_err(Failure::invalid)?;
    let named = at.field("member").optional(|r| r.str()).map_err(Failure::invalid)?;
    let (now, team) = (now_ms(), service.team.current());
    // What no member can be called is as good as no name.
    let tries = named.filter(|name| valid_name(name)).map_or(Tries::Unnamed, Tries::Of);
    let attempt = match service.main.begin_attempt(tries, now)? {
        Attempt::Counted(attempt) => attempt,
        Attempt::Later(ms) => {
            return Err(Failure::TooMany { what: "too many wrong codes", seconds: ms.div_ceil(1000) });
        }
    };
    let (mut found, mut broken): (Vec<(&Member, u64)>, Option<Error>) = (Vec::new(), None);
    for member in &team.members {
        let is_meant = named.is_none_or(|name| name == member.name);
        match member.totp_secret(&service.editor.kek) {
            Ok(secret) => {
                let step = secret.and_then(|secret| secret.step_of(code, now));
                found.extend(step.filter(|_| is_meant).map(|step| (member, step)));
            }
            Err(error) if is_meant || broken.is_none() => broken = Some(error),
            Err(_) => {}
        }
    }
    // Two who have the same code at the same time: nobody can know who of them this is.
    let accepted = match found[..] {
        [(member, step)] => service.main.accept_step(attempt, &member.name, step)?.then_some(member),
        _ => None,
    };
    match (accepted, broken) {
        (Some(member), _) => {
            let (expires, cookie) = begin_session(service, call, &member.name, now)?;
            let mut answer = Answer::json(200, &session(&team, member, Some(expires)));
            answer.headers.push(("Set-Cookie", cookie));
            Ok(answer)
        }
        (None, Some(error)) if found.is_empty() => Err(error.into()),
        (None, _) => Err(Failure::WrongCode),
    }
}

/// `GET /session`: who the caller is, and until when.
pub fn get(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    let expires = match at.caller.by {
        Credential::Token { expires } => expires,
        Credential::Session { expires, .. } => Some(expires),
    };
    Ok(Answer::json(200, &session(&at.caller.team, at.caller.member(), expires)))
}

/// `POST /session/logout`: the session ends; a token stays what it is.
pub fn logout(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    if let Credential::Session { hash, .. } = &at.caller.by {
        at.service.main.end_session(hash)?;
    }
    let mut answer = Answer::empty();
    answer.headers.push(("Set-Cookie", no_cookie(at.call)));
    Ok(answer)
}

fn session(team: &TeamFile, member: &Member, expires: Option<u64>) -> Value {
    let mut out = fields(teammate(team, member));
    let name = out.shift_remove("name");
    out.shift_insert(0, "member".into(), json!(name));
    out.insert("expiresAt".into(), json!(expires));
    Value::Object(out)
}
