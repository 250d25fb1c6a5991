//! Who is calling, and what they may do.
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::call::{Call, Failure};
use super::router::Service;
use crate::identity::{Member, Permission, TeamFile, hash_of};
use crate::store::main::Session;
use crate::sys::random;

/// The cookie of a session.
const COOKIE: &str = "ac7_session";
/// How long a session lasts after its last use, ms.
pub const SESSION_MS: u64 = 7 * 24 * 3600 * 1000;
/// A session in use is moved on this often, ms: not with every request, since that writes.
const MOVE_ON_MS: u64 = 10 * 60 * 1000;

/// The token in an `Authorization` value; `None` for another scheme.
#[must_use]
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// How a caller has shown who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A bearer token, good until `expires` (ms since the epoch).
    Token { expires: Option<u64> },
    /// A session's cookie, by its hash.
    Session { hash: [u8; 32], expires: u64 },
}

/// An authenticated member, with the team as it was when the request came.
pub struct Caller {
    pub team: Arc<TeamFile>,
    index: usize,
    pub by: Credential,
    /// A `Set-Cookie` value that lets the browser keep its cookie as long as the session lasts.
    pub renewed: Option<String>,
}

impl Caller {
    /// The member whose bearer token (RFC 6750 §2.1) or session cookie the request carries. A request with an
    /// `Authorization` is judged by that alone.
    ///
    /// # Errors
    /// [`Failure::Unauthorized`]: neither, another scheme, a token or session that is unknown or has expired;
    /// 403: the cookie came along with what another site's page sent.
    pub fn authenticate(service: &Service, call: &Call, now: u64) -> Result<Caller, Failure> {
        let cookie = call.headers.get("cookie").and_then(cookie_of);
        match (call.headers.get("authorization"), cookie) {
            (Some(value), _) => Caller::by_token(service, bearer(value).ok_or(Failure::Unauthorized)?, now),
            (None, Some(text)) => Caller::by_cookie(service, call, text, now),
            (None, None) => Err(Failure::Unauthorized),
        }
    }

    fn by_token(service: &Service, text: &str, now: u64) -> Result<Caller, Failure> {
        let team = service.team.current();
        let (member, token) = team.authenticate(text, now).ok_or(Failure::Unauthorized)?;
        service.uses.saw(&token.id, now);
        let by = Credential::Token { expires: token.expires_at };
        let name = member.name.clone();
        Caller::of(team, &name, by)
    }

    fn by_cookie(service: &Service, call: &Call, text: &str, now: u64) -> Result<Caller, Failure> {
        let hash = hash_of(text);
        let session = service.main.session(&hash, now)?.ok_or(Failure::Unauthorized)?;
        let mut caller = Caller::of(
            service.team.current(),
            &session.member,
            Credential::Session { hash, expires: session.expires },
        )?;
        if !matches!(call.method.as_str(), "GET" | "HEAD") {
            same_origin(call)?;
        }
        if now.saturating_sub(session.seen) >= MOVE_ON_MS {
            let expires = now + SESSION_MS;
            service.main.prolong_session(&hash, now, expires)?;
            caller.by = Credential::Session { hash, expires };
            caller.renewed = Some(set_cookie(call, text, SESSION_MS));
        }
        Ok(caller)
    }

    fn of(team: Arc<TeamFile>, name: &str, by: Credential) -> Result<Caller, Failure> {
        let index = team.members.iter().position(|m| m.name == name).ok_or(Failure::Unauthorized)?;
        Ok(Caller { team, index, by, renewed: None })
    }

    /// The member.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.team.members[self.index]
    }

    /// The session in which this is asked, if it is one of `name`: what ends the others spares it.
    #[must_use]
    pub fn session_of(&self, name: &str) -> Option<&[u8; 32]> {
        match &self.by {
            Credential::Session { hash, .. } if self.member().name == name => Some(hash),
            _ => None,
        }
    }

    /// Let only `name` itself pass.
    ///
    /// # Errors
    /// 403 for everybody else, whatever they may do; `doing` says what was tried.
    pub fn must_be(&self, name: &str, doing: &str) -> Result<(), Failure> {
        if self.member().name == name {
            return Ok(());
        }
        Err(Failure::Forbidden(format!("{doing} is for {name} alone")))
    }

    /// Let whoever holds `permission` pass.
    ///
    /// # Errors
    /// 403 that names the permission; `doing` says what was tried.
    pub fn must_hold(&self, permission: Permission, doing: &str) -> Result<(), Failure> {
        if self.team.allows(self.member(), permission) {
            return Ok(());
        }
        Err(Failure::Forbidden(format!("{doing} requires the {} permission", permission.name())))
    }

    /// Let `name` itself pass, and whoever holds `permission`.
    ///
    /// # Errors
    /// 403 that names the permission; `doing` says what was tried.
    pub fn must_be_or_hold(&self, name: &str, permission: Permission, doing: &str) -> Result<(), Failure> {
        if self.member().name == name { Ok(()) } else { self.must_hold(permission, doing) }
    }
}

/// Begin a session of a member. Gives when it ends, and its `Set-Cookie` value.
///
/// # Errors
/// The main database cannot be written.
pub fn begin_session(
    service: &Service,
    call: &Call,
    member: &str,
    now: u64,
) -> Result<(u64, String), Failure> {
    let text = URL_SAFE_NO_PAD.encode(random::bytes::<32>());
    let expires = now + SESSION_MS;
    let session = Session { member: member.to_string(), created: now, seen: now, expires };
    service.main.begin_session(&hash_of(&text), &session)?;
    Ok((expires, set_cookie(call, &text, SESSION_MS)))
}

/// The `Set-Cookie` value that takes the cookie away.
#[must_use]
pub fn no_cookie(call: &Call) -> String {
    set_cookie(call, "", 0)
}

/// `Secure` only where the page itself came over TLS: a browser would drop the cookie on plain HTTP.
fn set_cookie(call: &Call, text: &str, life_ms: u64) -> String {
    let secure = if call.is_https() { "; Secure" } else { "" };
    format!("{COOKIE}={text}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict{secure}", life_ms / 1000)
}

/// The value of the session's cookie in a `Cookie` value (RFC 6265 §4.2.1).
#[must_use]
pub fn cookie_of(value: &str) -> Option<&str> {
    let pairs = value.split(';');
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// Refuse what a page of another site makes a browser send. `Sec-Fetch-Site` says it outright; browsers send it to
/// `localhost` and over TLS, and `Origin` everywhere. A client that sends neither is no browser.
///
/// # Errors
/// 403.
pub fn same_origin(call: &Call) -> Result<(), Failure> {
    let same = match (call.headers.get("sec-fetch-site"), call.headers.get("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.zip(call.headers.get("host")).is_some_and(|(a, b)| a.eq_ignore_ascii_case(b))
        }
        (None, None) => true,
    };
    if same {
        Ok(())
    } else {
        Err(Failure::Forbidden("this request comes from a page of another site".to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::call::Headers;
    use crate::broker::query::Query;

    fn call(headers: &[(&str, &str)]) -> Call {
        let headers = headers.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect();
        Call { method: "POST".into(), path: Vec::new(), query: Query::default(), headers: Headers(headers) }
    }

    #[test]
    fn pages_of_other_sites_are_told_from_our_own() {
        let host = ("Host", "box.lan:8717");
        for (headers, want) in [
            (&[][..], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://box.lan:8717"), host], false),
            (&[("origin", "http://box.lan:8717"), host], true),
            (&[("origin", "https://BOX.lan:8717"), host], true),
            (&[("origin", "http://box.lan:3000"), host], false),
            (&[("origin", "http://box.lan"), host], false),
            (&[("origin", "null"), host], false),
            (&[("origin", "http://box.lan:8717")], false),
        ] {
            assert_eq!(same_origin(&call(headers)).is_ok(), want, "{headers:?}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        for (value, want) in [
            ("ac7_session=x", Some("x")),
            ("a=b; ac7_session=x=y;c=d", Some("x=y")),
            ("xac7_session=x", None),
            ("ac7_session", None),
            ("", None),
        ] {
            assert_eq!(cookie_of(value), want, "{value}");
        }
        let cookie = |name, value| set_cookie(&call(&[(name, value)]), "x", 1000);
        let plain = "ac7_session=x; Path=/; Max-Age=1; HttpOnly; SameSite=Strict";
        for (name, value, secure) in [
            ("origin", "http://a", false),
            ("x-ac7-proto", "http", false),
            ("origin", "https://a", true),
            ("x-ac7-proto", "https", true),
        ] {
            let want = if secure { format!("{plain}; Secure") } else { plain.to_string() };
            assert_eq!(cookie(name, value), want, "{name}: {value}");
        }
    }
}
