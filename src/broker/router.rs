//! Which handler answers what. The table is the whole interface of the broker.
use std::sync::Arc;

use super::activity_reader::Readers;
use super::activity_writer::ActivityWriter;
use super::auth::Caller;
use super::call::{Answer, Call, Failure};
use super::certificate::LiveCertificate;
use super::counters::Counters;
use super::edge::{WAIT, WHOSE};
use super::editor::Editor;
use super::handlers::{
    activity, briefing, channels, enroll, files, health, history, members, objectives, pages, presence, push,
    reload, roster, session, subscribe, subscriptions, team, tokens, usage,
};
use super::hub::Hub;
use super::live::LiveTeam;
use super::presence::Presence;
use super::quota::Quota;
use super::uploads::Uploads;
use super::uses::Uses;
use super::webpush;
use crate::store::activity::Parser;
use crate::store::files::Files;
use crate::store::main::Store;
use crate::sys::clock::now_ms;

/// What handlers may use.
pub struct Service {
    pub team: Arc<LiveTeam>,
    pub editor: Editor,
    pub main: Arc<Store>,
    pub files: Arc<Files>,
    pub uploads: Arc<Uploads>,
    pub uses: Arc<Uses>,
    /// `None` on a port of plain HTTP.
    pub certificate: Option<Arc<LiveCertificate>>,
    pub presence: Arc<Presence>,
    pub webpush: webpush::Sender,
    pub quota: Quota,
    /// Wakes streams.
    pub hub: Arc<Hub>,
    pub counters: Arc<Counters>,
    pub activity: ActivityWriter,
    pub parser: Parser,
    pub readers: Arc<Readers>,
}

/// A matched request of an authenticated member.
pub struct Authorized<'a> {
    pub service: &'a Service,
    pub caller: &'a Caller,
    pub call: &'a Call,
    /// The body, to be taken by the handler that wants it.
    pub body: Vec<u8>,
    /// What stands where the pattern has `:name`, in order.
    pub params: Vec<&'a str>,
}

/// About what the broker's own message about an objective takes of the disk, and that it goes to a member.
const MESSAGE: usize = 512;
const DELIVERY: usize = 64;

impl Authorized<'_> {
    /// Count what the caller says against their share of the disk; so many messages come of it beside what the body
    /// holds, each to so many members.
    ///
    /// # Errors
    /// 429.
    pub fn say(&self, messages: usize, members: usize) -> Result<(), Failure> {
        let what = "you have said as much as a member may within a day";
        let bytes = self.body.len() + messages * (MESSAGE + members * DELIVERY);
        let said = self.service.quota.take(&self.caller.member().name, bytes, now_ms());
        said.map_err(|ms| Failure::TooMany { what, seconds: ms.div_ceil(1000) })
    }
}

enum Handler {
    /// For everybody.
    Open(fn(&Service, &Call) -> Answer),
    /// For those who have yet to show who they are.
    Stranger(fn(&Service, &Call, &[u8]) -> Result<Answer, Failure>),
    Member(fn(&mut Authorized<'_>) -> Result<Answer, Failure>),
}

struct Route {
    method: &'static str,
    pattern: &'static str,
    handler: Handler,
}

const ROUTES: &[Route] = &[
    Route { method: "GET", pattern: "/healthz", handler: Handler::Open(health::get) },
    Route { method: "GET", pattern: "/health", handler: Handler::Open(health::whole) },
    Route { method: "GET", pattern: "/", handler: Handler::Stranger(pages::index) },
    Route { method: "GET", pattern: "/enroll", handler: Handler::Stranger(pages::index) },
    Route { method: "GET", pattern: "/web/:file", handler: Handler::Stranger(pages::part) },
    Route { method: "GET", pattern: "/briefing", handler: Handler::Member(briefing::get) },
    Route { method: "GET", pattern: "/roster", handler: Handler::Member(roster::get) },
    Route { method: "GET", pattern: "/agents", handler: Handler::Member(presence::agents) },
    Route { method: "POST", pattern: "/presence/busy", handler: Handler::Member(presence::busy) },
    Route { method: "POST", pattern: "/push", handler: Handler::Member(push::post) },
    Route { method: "GET", pattern: "/subscribe", handler: Handler::Member(subscribe::get) },
    Route { method: "GET", pattern: "/history", handler: Handler::Member(history::get) },
    Route { method: "GET", pattern: "/objectives", handler: Handler::Member(objectives::list) },
    Route { method: "POST", pattern: "/objectives", handler: Handler::Member(objectives::create) },
    Route { method: "GET", pattern: "/objectives/:id", handler: Handler::Member(objectives::get) },
    Route { method: "PATCH", pattern: "/objectives/:id", handler: Handler::Member(objectives::update) },
    Route {
        method: "POST",
        pattern: "/objectives/:id/complete",
        handler: Handler::Member(objectives::complete),
    },
    Route { method: "POST", pattern: "/objectives/:id/cancel", handler: Handler::Member(objectives::cancel) },
    Route {
        method: "POST",
        pattern: "/objectives/:id/reassign",
        handler: Handler::Member(objectives::reassign),
    },
    Route {
        method: "POST",
        pattern: "/objectives/:id/watchers",
        handler: Handler::Member(objectives::watch),
    },
    Route {
        method: "POST",
        pattern: "/objectives/:id/discuss",
        handler: Handler::Member(objectives::discuss),
    },
    Route {
        method: "GET",
        pattern: "/objectives/:id/activity",
        handler: Handler::Member(activity::of_objective),
    },
    Route { method: "GET", pattern: "/usage", handler: Handler::Member(usage::get) },
    Route { method: "GET", pattern: "/channels", handler: Handler::Member(channels::list) },
    Route { method: "POST", pattern: "/channels", handler: Handler::Member(channels::create) },
    Route { method: "GET", pattern: "/channels/:slug", handler: Handler::Member(channels::get) },
    Route { method: "PATCH", pattern: "/channels/:slug", handler: Handler::Member(channels::rename) },
    Route { method: "DELETE", pattern: "/channels/:slug", handler: Handler::Member(channels::archive) },
    Route { method: "POST", pattern: "/channels/:slug/members", handler: Handler::Member(channels::join) },
    Route {
        method: "DELETE",
        pattern: "/channels/:slug/members/:name",
        handler: Handler::Member(channels::leave),
    },
    Route { method: "POST", pattern: "/session/totp", handler: Handler::Stranger(session::login) },
    Route { method: "GET", pattern: "/session", handler: Handler::Member(session::get) },
    Route { method: "POST", pattern: "/session/logout", handler: Handler::Member(session::logout) },
    Route { method: "POST", pattern: "/enroll", handler: Handler::Stranger(enroll::begin) },
    Route { method: "POST", pattern: "/enroll/poll", handler: Handler::Stranger(enroll::poll) },
    Route { method: "GET", pattern: "/enroll/pending", handler: Handler::Member(enroll::pending) },
    Route { method: "POST", pattern: "/enroll/approve", handler: Handler::Member(enroll::approve) },
    Route { method: "POST", pattern: "/enroll/reject", handler: Handler::Member(enroll::reject) },
    Route { method: "GET", pattern: "/members", handler: Handler::Member(members::list) },
    Route { method: "POST", pattern: "/members", handler: Handler::Member(members::create) },
    Route { method: "PATCH", pattern: "/members/:name", handler: Handler::Member(members::update) },
    Route { method: "DELETE", pattern: "/members/:name", handler: Handler::Member(members::delete) },
    Route {
        method: "POST",
        pattern: "/members/:name/rotate-token",
        handler: Handler::Member(tokens::rotate),
    },
    Route { method: "GET", pattern: "/members/:name/tokens", handler: Handler::Member(tokens::list) },
    Route {
        method: "DELETE",
        pattern: "/members/:name/tokens/:id",
        handler: Handler::Member(tokens::revoke),
    },
    Route {
        method: "POST",
        pattern: "/members/:name/enroll-totp",
        handler: Handler::Member(tokens::enroll_totp),
    },
    Route { method: "GET", pattern: "/team", handler: Handler::Member(team::get) },
    Route { method: "PATCH", pattern: "/team", handler: Handler::Member(team::update) },
    Route { method: "GET", pattern: "/team/presets", handler: Handler::Member(team::presets) },
    Route { method: "PUT", pattern: "/team/presets/:name", handler: Handler::Member(team::set_preset) },
    Route { method: "DELETE", pattern: "/team/presets/:name", handler: Handler::Member(team::delete_preset) },
    Route { method: "POST", pattern: "/reload", handler: Handler::Member(reload::post) },
    Route { method: "POST", pattern: "/members/:name/activity", handler: Handler::Member(activity::append) },
    Route { method: "GET", pattern: "/members/:name/activity", handler: Handler::Member(activity::list) },
    // Before :id, which it would be otherwise.
    Route {
        method: "GET",
        pattern: "/members/:name/activity/stream",
        handler: Handler::Member(activity::stream),
    },
    Route { method: "GET", pattern: "/members/:name/activity/:id", handler: Handler::Member(activity::get) },
    Route { method: "GET", pattern: "/push/vapid-public-key", handler: Handler::Member(subscriptions::key) },
    Route {
        method: "POST",
        pattern: "/push/subscriptions",
        handler: Handler::Member(subscriptions::subscribe),
    },
    Route {
        method: "DELETE",
        pattern: "/push/subscriptions/:id",
        handler: Handler::Member(subscriptions::unsubscribe),
    },
    Route { method: "GET", pattern: "/fs/ls", handler: Handler::Member(files::list) },
    Route { method: "GET", pattern: "/fs/stat", handler: Handler::Member(files::stat) },
    Route { method: "GET", pattern: "/fs/shared", handler: Handler::Member(files::shared) },
    Route { method: "GET", pattern: "/fs/read/*", handler: Handler::Member(files::read) },
    Route { method: "POST", pattern: "/fs/write", handler: Handler::Member(files::write) },
    Route { method: "POST", pattern: "/fs/mkdir", handler: Handler::Member(files::make_folder) },
    Route { method: "POST", pattern: "/fs/mv", handler: Handler::Member(files::rename) },
    Route { method: "DELETE", pattern: "/fs/rm", handler: Handler::Member(files::remove) },
];

/// Methods and patterns of all routes: `:name` stands for one segment, `*` for the rest.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|route| (route.method, route.pattern))
}

/// Whether a request with this target may take its time: whatever goes to the activity database, contents of files, and
/// lists that can be long. What is written with escapes is not looked at closer: it may be any of them.
#[must_use]
pub fn is_bulk(target: &str) -> bool {
    let path = path_of(target);
    path.contains('%')
        || matches!(path, "/usage" | "/history" | "/objectives" | "/fs/ls" | "/fs/shared" | "/fs/write")
        || (["/members/", "/objectives/"].iter().any(|base| path.starts_with(base))
            && path.split('/').nth(3) == Some("activity"))
        || path.starts_with("/fs/read/")
}

/// Whether the body of a request is a file.
#[must_use]
pub fn is_upload(method: &str, target: &str) -> bool {
    method == "POST" && path_of(target) == "/fs/write"
}

fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

/// An answer, and what the log says about the request.
pub struct Outcome {
    pub answer: Answer,
    /// The pattern of the route, or `-`: the path itself may hold what a log should not.
    pub route: &'static str,
    pub member: Option<String>,
    /// Why a 5xx was answered; for the log alone.
    pub internal: Option<String>,
}

impl Outcome {
    /// Of a request that reached no handler, or whose handler gave up.
    #[must_use]
    pub fn failed(failure: &Failure) -> Outcome {
        let internal = match failure {
            Failure::Internal(reason) | Failure::NoKey(reason) | Failure::Busy(reason) => {
                Some(reason.clone())
            }
            _ => None,
        };
        Outcome { answer: failure.answer(), route: "-", member: None, internal }
    }
}

/// Answer a request.
#[must_use]
pub fn answer(service: &Service, call: &Call, body: Vec<u8>) -> Outcome {
    let (mut route, mut member) = ("-", None);
    let outcome = match serve(service, call, body, &mut route, &mut member) {
        Ok(answer) => Outcome { answer, route, member: None, internal: None },
        Err(failure) => Outcome::failed(&failure),
    };
    Outcome { route, member, ..outcome }
}

fn serve(
    service: &Service,
    call: &Call,
    body: Vec<u8>,
    pattern: &mut &'static str,
    member: &mut Option<String>,
) -> Result<Answer, Failure> {
    let method = if call.method == "HEAD" { "GET" } else { call.method.as_str() };
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(params) = matches(route.pattern, &call.path) else { continue };
        *pattern = route.pattern;
        if route.method != method {
            allowed.push(route.method);
            continue;
        }
        return match route.handler {
            Handler::Open(handler) => Ok(handler(service, call)),
            Handler::Stranger(handler) => handler(service, call, &body),
            Handler::Member(handler) => {
                let now = now_ms();
                let caller = Caller::authenticate(service, call, now)?;
                service.presence.saw(&caller.team, &caller.member().name, now);
                *member = Some(caller.member().name.clone());
                let mut answer = handler(&mut Authorized { service, caller: &caller, call, body, params })?;
                if answer.headers.iter().any(|(name, _)| *name == WAIT) {
                    answer.headers.push((WHOSE, caller.member().name.clone()));
                }
                // A handler that sets the cookie itself knows better.
                if !answer.headers.iter().any(|(name, _)| *name == "Set-Cookie") {
                    answer.headers.extend(caller.renewed.map(|cookie| ("Set-Cookie", cookie)));
                }
                Ok(answer)
            }
        };
    }
    if allowed.is_empty() {
        return Err(Failure::NotFound("there is no such route".to_string()));
    }
    Err(Failure::Method(allowed))
}

/// The segments under `:name`, and those under a last `*`, at least one, if the path fits the pattern.
fn matches<'a>(pattern: &str, path: &'a [String]) -> Option<Vec<&'a str>> {
    let (pattern, open) = pattern.strip_suffix("/*").map_or((pattern, false), |pattern| (pattern, true));
    let wanted = pattern[1..].split('/');
    let length = wanted.clone().count();
    let fits = if open { path.len() > length } else { path.len() == length };
    if !fits {
        return None;
    }
    let mut params = Vec::new();
    for (want, have) in wanted.zip(path) {
        if want.starts_with(':') && !have.is_empty() {
            params.push(have.as_str());
        } else if want != have {
            return None;
        }
    }
    params.extend(path[length..].iter().map(String::as_str));
    Some(params)
}

#[cfg(test)]
mod tests {
    use super::{is_bulk, matches};

    #[test]
    fn only_activity_files_and_long_lists_may_take_their_time() {
        for (target, want) in [
            ("/members/ann/activity", true),
            ("/members/ann/activity?limit=1", true),
            ("/members/ann/activity/stream", true),
            ("/objectives/o/activity", true),
            ("/usage?by=day", true),
            ("/members/activity", false),
            ("/members/ann/tokens?x=/a/activity", false),
            ("/fs/read/ann/a", true),
            ("/fs/write?path=/ann/a", true),
            ("/fs/ls?path=/fs/read/", true),
            ("/fs/stat?path=/fs/read/", false),
            ("/history?limit=500", true),
            ("/objectives", true),
            ("/objectives/o", false),
            ("/members/ann/activit%79", true),
            ("/briefing?x=%20", false),
            ("/briefing", false),
        ] {
            assert_eq!(is_bulk(target), want, "{target}");
        }
    }

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, path, want) in [
            ("/healthz", "healthz", Some(vec![])),
            ("/healthz", "healthz/", None),
            ("/healthz", "Healthz", None),
            ("/members/:name/activity", "members/ann/activity", Some(vec!["ann"])),
            ("/members/:name/activity", "members//activity", None),
            ("/members/:name/activity", "members/ann", None),
            ("/members/:name/activity/:id", "members/ann/activity/7", Some(vec!["ann", "7"])),
            ("/fs/read/*", "fs/read/ann/a", Some(vec!["ann", "a"])),
            ("/fs/read/*", "fs/read/", Some(vec![""])),
            ("/fs/read/*", "fs/read", None),
            ("/fs/read/*", "fs/ls/ann", None),
        ] {
            let path: Vec<String> = path.split('/').map(str::to_string).collect();
            assert_eq!(matches(pattern, &path), want, "{pattern} {path:?}");
        }
    }
}
