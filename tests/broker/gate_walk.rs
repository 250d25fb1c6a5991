//! Every route of the broker against everybody who may come: nobody, a liar, a member for each permission, a member
//! with none, the member that the route is about, and one with a session.
use ac7::broker::routes;
use ac7::identity::Permission;
use ac7::sys::clock::now_ms;
use serde_json::json;
use support::totp::code;

use crate::rig::{Reply, Rig};

/// Who passes.
#[derive(Clone, Copy, Debug)]
enum Gate {
    /// Everybody, a member or not.
    Everybody,
    /// Every member.
    Members,
    /// Every member, but with a token alone.
    Tokens,
    /// Whoever has one of these permissions.
    Holders(&'static [Permission]),
    /// The member in the path, and whoever has the permission.
    SelfOr(Permission),
    /// The member in the path.
    SelfAlone,
    /// It depends on what is asked for; the route's own tests have it.
    Other,
}

use Gate::{Everybody, Holders, Members, Other, SelfAlone, SelfOr, Tokens};
use Permission::{ActivityRead, MembersManage, ObjectivesCreate, TeamManage};

const MANAGE: Gate = Holders(&[MembersManage]);
const TEAM: Gate = Holders(&[TeamManage]);

/// At least one row for each route, with a query where that decides; the test fails if one has none.
const GATES: &[(&str, &str, Gate)] = &[
    ("GET", "/healthz", Everybody),
    ("GET", "/health", Everybody),
    ("GET", "/", Everybody),
    ("GET", "/enroll", Everybody),
    ("GET", "/web/:file", Everybody),
    ("GET", "/briefing", Members),
    ("GET", "/roster", Members),
    ("GET", "/agents", Members),
    ("POST", "/presence/busy", Tokens),
    ("POST", "/push", Members),
    ("GET", "/push/vapid-public-key", Members),
    ("POST", "/push/subscriptions", Members),
    ("DELETE", "/push/subscriptions/:id", Members),
    ("GET", "/subscribe", Members),
    ("GET", "/subscribe?name=:name", SelfAlone),
    ("GET", "/history", Members),
    ("GET", "/channels", Members),
    ("POST", "/channels", Members),
    ("GET", "/channels/:slug", Other),
    ("PATCH", "/channels/:slug", Other),
    ("DELETE", "/channels/:slug", Other),
    ("POST", "/channels/:slug/members", Other),
    ("DELETE", "/channels/:slug/members/:name", Other),
    ("GET", "/objectives", Members),
    ("GET", "/objectives?assignee=:name", SelfOr(MembersManage)),
    ("POST", "/objectives", Holders(&[ObjectivesCreate])),
    ("GET", "/objectives/:id", Other),
    ("PATCH", "/objectives/:id", Other),
    ("POST", "/objectives/:id/complete", Other),
    ("POST", "/objectives/:id/cancel", Other),
    ("POST", "/objectives/:id/reassign", Other),
    ("POST", "/objectives/:id/watchers", Other),
    ("POST", "/objectives/:id/discuss", Other),
    ("GET", "/objectives/:id/activity", Other),
    ("GET", "/usage", Members),
    ("GET", "/usage?member=:name", SelfOr(ActivityRead)),
    ("POST", "/session/totp", Everybody),
    ("GET", "/session", Members),
    ("POST", "/session/logout", Members),
    ("POST", "/enroll", Everybody),
    ("POST", "/enroll/poll", Everybody),
    ("GET", "/enroll/pending", MANAGE),
    ("POST", "/enroll/approve", MANAGE),
    ("POST", "/enroll/reject", MANAGE),
    ("GET", "/members", Members),
    ("POST", "/members", MANAGE),
    ("PATCH", "/members/:name", MANAGE),
    ("DELETE", "/members/:name", MANAGE),
    ("POST", "/members/:name/rotate-token", SelfOr(MembersManage)),
    ("GET", "/members/:name/tokens", SelfOr(MembersManage)),
    ("DELETE", "/members/:name/tokens/:id", SelfOr(MembersManage)),
    ("POST", "/members/:name/enroll-totp", SelfOr(MembersManage)),
    ("GET", "/team", Members),
    ("PATCH", "/team", TEAM),
    ("GET", "/team/presets", Members),
    ("PUT", "/team/presets/:name", TEAM),
    ("DELETE", "/team/presets/:name", TEAM),
    ("POST", "/reload", TEAM),
    ("POST", "/members/:name/activity", SelfAlone),
    ("GET", "/members/:name/activity", SelfOr(ActivityRead)),
    ("GET", "/members/:name/activity/stream", SelfOr(ActivityRead)),
    ("GET", "/members/:name/activity/:id", SelfOr(ActivityRead)),
    ("GET", "/fs/ls", Members),
    ("GET", "/fs/stat", Members),
    ("GET", "/fs/shared", Members),
    ("GET", "/fs/read/*", Other),
    ("POST", "/fs/write", Members),
    ("POST", "/fs/mkdir", Members),
    ("POST", "/fs/mv", Members),
    ("DELETE", "/fs/rm", Members),
];

fn is_stream(pattern: &str) -> bool {
    pattern.ends_with("/stream") || pattern.starts_with("/subscribe?")
}

/// Ask for a route about `name`. A stream is asked for by HEAD: the answer has an end.
fn ask(rig: &Rig, method: &str, pattern: &str, name: &str, token: &str, headers: &str) -> Reply {
    let path =
        pattern.replace(":name", name).replace(":id", "7").replace(":file", "nope").replace('*', "zed/x");
    let method = if is_stream(pattern) { "HEAD" } else { method };
    rig.call_with(
        method,
        &path,
        token,
        if method == "POST" || method == "PUT" || method == "PATCH" { "{}" } else { "" },
        headers,
    )
}

/// Whether the door was open, whatever came of the request.
fn passed(reply: &Reply) -> bool {
    !matches!(reply.status, 401 | 403)
}

#[test]
fn every_route_has_its_gate() {
    let path = |pattern: &'static str| pattern.split('?').next().unwrap();
    let rows: Vec<(&str, &str)> = GATES.iter().map(|(method, pattern, _)| (*method, path(pattern))).collect();
    for route in routes() {
        assert!(rows.contains(&route), "{route:?} needs a row in GATES");
    }
    for row in rows {
        assert!(routes().any(|route| route == row), "{row:?} is no route");
    }
}

#[test]
fn nobody_passes_but_who_may() {
    let rig = Rig::new();
    // What each holds, and a token; `zed`, whom the routes are about, does not exist, so that nothing comes of it.
    let mut callers: Vec<(String, Option<Permission>, String)> = Permission::ALL
        .into_iter()
        .map(|p| (p.name().to_string(), Some(p), rig.add(p.name(), &[p.name()])))
        .collect();
    callers.push(("bob".to_string(), None, rig.bob.clone()));
    for (method, pattern, gate) in GATES {
        let what = format!("{method} {pattern}");
        for (who, token) in [("nobody", ""), ("a liar", "ac7_wrong")] {
            let reply = ask(&rig, method, pattern, "zed", token, "");
            assert_eq!(reply.status != 401, matches!(gate, Everybody), "{who} {what}: {}", reply.status);
        }
        for (name, holds, token) in &mut callers {
            let reply = ask(&rig, method, pattern, "zed", token, "");
            let (may, said) = match gate {
                Everybody | Members | Tokens => (true, String::new()),
                Holders(these) => (
                    holds.is_some_and(|p| these.contains(&p)),
                    format!("requires the {} permission", these[0].name()),
                ),
                SelfOr(this) => (*holds == Some(*this), format!("requires the {} permission", this.name())),
                SelfAlone => (false, "is for zed alone".to_string()),
                Other => continue,
            };
            assert_eq!(passed(&reply), may, "{name} {what}: {} {}", reply.status, reply.error());
            if !may && !is_stream(pattern) {
                assert!(reply.status == 403 && reply.error().ends_with(&said), "{what}: {}", reply.error());
            }
            if matches!(gate, SelfOr(_) | SelfAlone) {
                let own = ask(&rig, method, pattern, name, token, "");
                assert!(passed(&own), "{name} {what} of their own: {} {}", own.status, own.error());
                if let Some(fresh) = own.json()["token"].as_str() {
                    *token = fresh.to_string();
                }
            }
        }
    }
}

#[test]
fn a_session_opens_what_a_token_does() {
    let rig = Rig::new();
    let secret = ask(&rig, "POST", "/members/:name/enroll-totp", "ann", &rig.ann, "").json();
    let secret = secret["totpSecret"].as_str().unwrap();
    let body = json!({"member": "ann", "code": code(secret, now_ms() / 30_000)}).to_string();
    let reply = rig.call("POST", "/session/totp", "", &body);
    let set = reply.headers.get("set-cookie").unwrap_or_else(|| panic!("{}", reply.error()));
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    for (method, pattern, gate) in GATES {
        // These end it.
        if matches!(*pattern, "/session/logout" | "/session/totp") {
            continue;
        }
        let own = ask(&rig, method, pattern, "ann", "", &cookie);
        let want = !matches!(gate, Tokens);
        // `DELETE /members/ann` is refused for another reason, and what is Other may be anything but 401.
        assert!(own.status != 401, "{method} {pattern}: {}", own.error());
        if !matches!(gate, Other) {
            assert_eq!(passed(&own), want, "{method} {pattern}: {} {}", own.status, own.error());
        }
        // A page of another site has the cookie sent along, but may change nothing.
        let evil = format!("{cookie}Sec-Fetch-Site: cross-site\r\n");
        if !matches!(*method, "GET") && !matches!(gate, Everybody) {
            assert_eq!(ask(&rig, method, pattern, "ann", "", &evil).status, 403, "{method} {pattern}");
        }
    }
}
