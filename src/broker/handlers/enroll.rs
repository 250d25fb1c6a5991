//! `/enroll`: a device that has no token asks for one, somebody who manages members decides (RFC 8628).
use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Value, json};

use super::{object, teammate, tokens};
use crate::activity::{Invalid, Reader};
use crate::broker::auth::same_origin;
use crate::broker::call::{Answer, Call, Failure};
use crate::broker::router::{Authorized, Service};
use crate::identity::{DeviceCode, Error, Minted, NewMember, Permission, mint, parse_user_code, user_code};
use crate::store::main::{Begun, Enrolment, LIFE_MS, Polled, Reserved, Undecided};
use crate::sys::clock::now_ms;

/// How often a device should ask, seconds.
const INTERVAL: u64 = 5;
/// What is sealed under the key, beside the member's name.
const FIELD: &str = "enrolmentToken";
/// The most characters of a `User-Agent` that are kept.
const AGENT: usize = 512;

/// `POST /enroll`: codes for a device, and where to go with them.
pub fn begin(service: &Service, call: &Call, body: &[u8]) -> Result<Answer, Failure> {
    same_origin(call)?;
    let value = if body.is_empty() { json!({}) } else { object(body)? };
    let hint = Reader::new(&value).field("labelHint").optional(|r| r.line(0, 64));
    let hint = hint.map_err(Failure::invalid)?.filter(|hint| !hint.is_empty());
    let (now, device) = (now_ms(), DeviceCode::mint());
    let peer = call.headers.get("x-ac7-peer");
    let network = peer.and_then(|ip| ip.parse().ok()).map(network);
    let agent = call.headers.get("user-agent").map(|text| text.chars().take(AGENT).collect());
    let mut new = Enrolment {
        user_code: user_code(),
        label_hint: hint,
        source_ip: peer.map(str::to_string),
        source_ua: agent,
        created: now,
        expires: now + LIFE_MS,
    };
    loop {
        match service.main.begin_enrolment(&device.hash, network.as_deref(), &new)? {
            Begun::Done => break,
            Begun::Taken => new.user_code = user_code(), // one in 2^40
            Begun::Later(ms) => {
                return Err(Failure::TooMany { what: "too many devices ask", seconds: ms.div_ceil(1000) });
            }
        }
    }
    let page = page(call);
    Ok(Answer::json(
        200,
        &json!({
            "deviceCode": device.text,
            "userCode": new.user_code,
            "verificationUri": page,
            "verificationUriComplete": format!("{page}?code={}", new.user_code),
            "expiresIn": LIFE_MS / 1000,
            "interval": INTERVAL,
        }),
    ))
}

/// The page where codes are typed, by the name that the client knows us by.
fn page(call: &Call) -> String {
    let scheme = if call.is_https() { "https" } else { "http" };
    call.headers.get("host").map_or_else(String::new, |host| format!("{scheme}://{host}")) + "/enroll"
}

/// Who counts as one: an IPv4 address, or the /64 that one IPv6 customer has.
fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).to_string(),
        v4 @ IpAddr::V4(_) => v4.to_string(),
    }
}

/// `POST /enroll/poll`: the token, once; until then why not, in the words of RFC 8628 §3.5.
pub fn poll(service: &Service, call: &Call, body: &[u8]) -> Result<Answer, Failure> {
    same_origin(call)?;
    let value = object(body)?;
    let code = Reader::new(&value).field("deviceCode");
    let text = code.str().map_err(Failure::invalid)?;
    let hash = DeviceCode::hash(text).ok_or_else(|| {
        Failure::invalid(code.invalid("is not ac7-dc_ and 40 to 64 characters of base64url"))
    })?;
    let (id, name, token_id, sealed) = match service.main.poll_enrolment(&hash, now_ms())? {
        Polled::Pending => return Ok(not_yet("authorization_pending", None)),
        Polled::TooSoon => return Ok(not_yet("slow_down", None)),
        Polled::Gone => return Ok(not_yet("expired_token", None)),
        Polled::Rejected { reason } => return Ok(not_yet("access_denied", reason.as_deref())),
        Polled::Approved { id, member, token_id, sealed } => (id, member, token_id, sealed),
    };
    let team = service.team.current();
    let member = team.member(&name).filter(|m| m.tokens.iter().any(|t| t.id == token_id));
    let Some(member) = member else {
        return Ok(not_yet("access_denied", Some("the token was revoked before it was fetched")));
    };
    let sealed = serde_json::from_str(&sealed).unwrap_or(Value::Null);
    let token = service.editor.kek.open(&name, FIELD, &sealed)?;
    if !service.main.fetch_token(id)? {
        return Ok(not_yet("expired_token", None)); // another request was faster
    }
    let token = String::from_utf8_lossy(&token);
    Ok(Answer::json(200, &json!({"token": token, "tokenId": token_id, "member": teammate(&team, member)})))
}

fn not_yet(code: &str, why: Option<&str>) -> Answer {
    let mut body = json!({"error": code});
    if let Some(why) = why {
        body["errorDescription"] = json!(why);
    }
    Answer::json(400, &body)
}

/// `GET /enroll/pending`: who waits for a decision.
pub fn pending(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::MembersManage, "listing devices that ask")?;
    let one = |e: Enrolment| {
        json!({
            "userCode": e.user_code,
            "labelHint": e.label_hint.unwrap_or_default(),
            "sourceIp": e.source_ip,
            "sourceUa": e.source_ua,
            "createdAt": e.created,
            "expiresAt": e.expires,
        })
    };
    let all: Value = at.service.main.pending_enrolments(now_ms())?.into_iter().map(one).collect();
    Ok(Answer::json(200, &json!({"enrollments": all})))
}

/// `POST /enroll/approve`: a token for the device, of a member who is there (`bind`) or a new one (`create`).
///
/// The order is the one in which a broker that is killed loses nothing: the token's id, its hash in the team file, its
/// sealed text. Until the last it is nobody's, and is dropped when the enrolment expires.
pub fn approve(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::MembersManage, "approving devices")?;
    let value = object(&at.body)?;
    let wanted = Wanted::read(&value).map_err(Failure::invalid)?;
    let (service, by, now) = (at.service, at.caller.member().name.as_str(), now_ms());
    let name = wanted.name.as_str();
    match (at.caller.team.member(name), &wanted.create) {
        (None, None) => return Err(Error::NoMember(wanted.name).into()),
        (Some(_), Some(_)) => return Err(Error::MemberExists(wanted.name).into()),
        // Whoever had this name before may have been deleted behind our back.
        (None, Some(_)) => service.files.forget(name)?,
        (Some(_), None) => {}
    }
    let Minted { text, mut token } = mint("", "enroll", now);
    token.created_by = Some(by.to_string());
    let sealed = service.editor.kek.existing(name, FIELD)?.seal(name, FIELD, text.as_bytes());
    let (id, hint, stale) = match service.main.reserve_token(&wanted.code, &token.id, now)? {
        Reserved::Open { id, label_hint, stale } => (id, label_hint, stale),
        Reserved::No(why) => return Err(why.into()),
    };
    token.label = wanted.label.or(hint).unwrap_or_else(|| "enrolled".to_string());
    let (new, fresh) = (wanted.create, token.clone());
    let member = service.editor.update(|file| {
        file.drop_tokens(stale.as_slice());
        match new {
            Some(new) => file.add_member_with(new, fresh)?,
            None => file.add_token(name, fresh)?,
        }
        Ok(file.member(name).map(|m| teammate(file, m)))
    })?;
    if !service.main.approve_enrolment(id, &token.id, name, &sealed.to_string(), now)? {
        service.editor.update(|file| {
            file.drop_tokens(std::slice::from_ref(&token.id));
            Ok(())
        })?;
        return Err(Undecided::Decided.into());
    }
    Ok(Answer::json(200, &json!({"member": member, "tokenInfo": tokens::info(name, &token, None)})))
}

/// `POST /enroll/reject`: the device is told, and why.
pub fn reject(at: &mut Authorized<'_>) -> Result<Answer, Failure> {
    at.caller.must_hold(Permission::MembersManage, "rejecting devices")?;
    let value = object(&at.body)?;
    let place = Reader::new(&value);
    let code = read_code(&place).map_err(Failure::invalid)?;
    let reason = place.field("reason").optional(|r| r.line(0, 256)).map_err(Failure::invalid)?;
    let reason = reason.filter(|reason| !reason.is_empty());
    match at.service.main.reject_enrolment(&code, reason.as_deref(), now_ms())? {
        None => Ok(Answer::empty()),
        Some(why) => Err(why.into()),
    }
}

impl From<Undecided> for Failure {
    fn from(why: Undecided) -> Failure {
        match why {
            Undecided::Unknown => Failure::NotFound("no device has this code".to_string()),
            Undecided::Expired => {
                Failure::Gone("the code has expired: the device has to ask again".to_string())
            }
            Undecided::Decided => Failure::Conflict("this device has been approved or rejected".to_string()),
        }
    }
}

/// What is to be approved.
struct Wanted {
    code: String,
    name: String,
    label: Option<String>,
    /// The member to make; `None` for one who is there.
    create: Option<NewMember>,
}

impl Wanted {
    fn read(value: &Value) -> Result<Wanted, Invalid> {
        let at = Reader::new(value);
        let (mode, code) = (at.field("mode").one_of(&["bind", "create"])?, read_code(&at)?);
        let name = at.field("memberName").string()?;
        let label = at.field("label").optional(|r| r.line(0, 64))?.filter(|label| !label.is_empty());
        let create = match mode {
            "create" => {
                let mut member = value.clone();
                member["name"] = json!(name);
                Some(NewMember::from_json(&member).map_err(as_given)?)
            }
            _ => None,
        };
        Ok(Wanted { code, name, label, create })
    }
}

/// A member's `name` is called `memberName` here.
fn as_given(invalid: Invalid) -> Invalid {
    if invalid.path == "name" { Invalid { path: "memberName".to_string(), ..invalid } } else { invalid }
}

/// The `userCode` of a body, however it was typed.
fn read_code(at: &Reader<'_>) -> Result<String, Invalid> {
    let code = at.field("userCode");
    parse_user_code(code.str()?).ok_or_else(|| code.invalid("is not eight letters and digits, as 7Q2M-XD4R"))
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn devices_of_one_network_count_together() {
        for (ip, want) in [
            ("10.0.0.7", "10.0.0.7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            assert_eq!(network(ip.parse().unwrap()), want);
        }
    }
}
