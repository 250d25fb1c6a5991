//! Whether Claude Code's login works, and whether its use beyond the subscription does: what goes wrong there is told
//! as a matter of money and often is none.
//!
//! Comes in: Claude Code's two files as text, the environment, the newest captured calls. Goes out: checks in the order
//! in which the causes should be looked at. No token and no part of one stands in them.
mod seen;
pub mod stale;

pub use seen::{LastCall, Seen};

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs, io};

use serde_json::Value;

use super::{Check, State};
use crate::sys::clock::now_ms;
use crate::sys::localtime::Zone;

const CREDENTIAL: &str = "Claude credential";
const TOKEN: &str = "Claude OAuth token";
const EXTRA: &str = "Claude extra usage";
const CACHE: &str = "Claude overage cache";
const MEMORY: &str = "overage kept in memory";
const LAST: &str = "last captured model call";

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// What Claude Code remembers of a grant may be so old.
const FRESH: u64 = HOUR;

/// What is in force before the login of the file, in Claude Code's own order; the first ones know no subscription.
const VARIABLES: [(&str, bool); 6] = [
    ("CLAUDE_CODE_USE_BEDROCK", false),
    ("CLAUDE_CODE_USE_VERTEX", false),
    ("CLAUDE_CODE_USE_FOUNDRY", false),
    ("ANTHROPIC_AUTH_TOKEN", false),
    ("ANTHROPIC_API_KEY", false),
    ("CLAUDE_CODE_OAUTH_TOKEN", true),
];

/// Reasons that somebody has to change by hand before extra usage works.
const DISABLED: [&str; 5] = [
    "org_level_disabled_until",
    "org_level_disabled",
    "overage_not_provisioned",
    "seat_tier_level_disabled",
    "member_level_disabled",
];

const LOGIN: &str = "run claude and type /login; without a browser here: claude setup-token, \
                     then export what it prints as CLAUDE_CODE_OAUTH_TOKEN";
const SETUP_TOKEN: &str = "claude setup-token prints a token that lasts a year: export it as \
                           CLAUDE_CODE_OAUTH_TOKEN (claude auth login hangs where nothing can be pasted)";
const ENABLE: &str = "a person enables extra usage at https://claude.ai/settings/usage; \
                      then ac7 doctor --fix stale-grant-cache";
const CLEAR: &str = "ac7 doctor --fix stale-grant-cache";

/// A file of Claude Code.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    /// Its text, or why there is none.
    pub text: io::Result<String>,
    /// When it was last written, ms since the epoch.
    pub changed: u64,
}

impl Source {
    fn read(path: PathBuf) -> Source {
        let changed = fs::metadata(&path).and_then(|m| m.modified()).ok();
        let since = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or(Duration::ZERO);
        let changed = u64::try_from(since.as_millis()).unwrap_or(0);
        Source { text: fs::read_to_string(&path), path, changed }
    }

    /// Its JSON; `None` where there is no file. The sentence of a failure never quotes the text.
    fn json(&self) -> Result<Option<Value>, String> {
        let path = self.path.display();
        match &self.text {
            Ok(text) => {
                let not = |e: serde_json::Error| {
                    format!("{path} is not JSON: line {}, column {}", e.line(), e.column())
                };
                serde_json::from_str(text).map(Some).map_err(not)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(why) => Err(format!("{path}: {why}")),
        }
    }
}

/// Everything that the checks look at.
#[derive(Debug)]
pub struct Evidence {
    /// `.credentials.json`.
    pub credentials: Source,
    /// `.claude.json`.
    pub state: Source,
    /// The first variable that comes before the file, and whether it is a subscription's.
    pub variable: Option<(&'static str, bool)>,
    pub seen: Seen,
    /// Whether this system keeps logins in a keychain.
    pub keychain: bool,
    /// Whether an AgentX, which keeps a copy in memory, is installed here.
    pub agentx: bool,
    pub now: u64,
}

/// The directory of Claude Code's login, and the file of its state. `None` without HOME.
#[must_use]
pub fn places() -> Option<(PathBuf, PathBuf)> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = absolute("CLAUDE_CONFIG_DIR") {
        return Some((folder.join(".credentials.json"), folder.join(".claude.json")));
    }
    let home = absolute("HOME")?;
    Some((home.join(".claude/.credentials.json"), home.join(".claude.json")))
}

/// The checks, by this process's environment and files. `seen` is what the traces know.
#[must_use]
pub fn health(seen: Seen) -> Vec<Check> {
    let Some((credentials, state)) = places() else {
        return vec![Check::warn(CREDENTIAL, "HOME is not set", "set HOME")];
    };
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    judge(&Evidence {
        credentials: Source::read(credentials),
        state: Source::read(state),
        variable: VARIABLES.into_iter().find(|(name, _)| set(name)),
        seen,
        keychain: cfg!(target_os = "macos"),
        agentx: home.join(".agentx").is_dir() || Path::new("/etc/systemd/system/agentx.service").exists(),
        now: now_ms(),
    })
}

/// The checks that the evidence gives.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Check> {
    let mut checks = login(evidence);
    let overage = overage(evidence);
    let doubtful = overage.iter().any(|check| check.state != State::Pass);
    checks.extend(overage);
    checks.push(if doubtful && evidence.agentx {
        let fix = "sudo systemctl restart agentx, or launchctl kickstart -k gui/$(id -u)/tn.noqta.agentx";
        Check::warn(MEMORY, "the AgentX of this machine goes on with what it once read", fix)
    } else {
        Check::pass(MEMORY, "ac7 keeps none")
    });
    checks.extend(evidence.seen.call.as_ref().map(|call| last(call, evidence.now)));
    checks
}

/// Which credential is in force, and for a login whether it has expired.
fn login(evidence: &Evidence) -> Vec<Check> {
    let file = &evidence.credentials;
    let path = file.path.display();
    // A refusal that is older than the file was of another login.
    let refused = evidence.seen.call.as_ref().filter(|call| call.unauthorised());
    if let Some((name, _)) = evidence.variable {
        return vec![match refused {
            Some(call) => Check::fail(
                CREDENTIAL,
                format!("{name} of this environment: a call {} was refused with 401", call.ago(evidence.now)),
                format!("renew {name}, or unset it if the login of claude is meant"),
            ),
            None => Check::pass(CREDENTIAL, format!("{name} of this environment")),
        }];
    }
    let oauth = match file.json() {
        Err(why) => return vec![Check::fail(CREDENTIAL, why, LOGIN)],
        Ok(json) => json.and_then(|json| json.get("claudeAiOauth").filter(|o| o.is_object()).cloned()),
    };
    let Some(oauth) = oauth else {
        return vec![if evidence.keychain {
            let detail = "none in a file; the keychain of macOS was not looked at";
            Check::warn(CREDENTIAL, detail, "security find-generic-password -s 'Claude Code-credentials'")
        } else {
            Check::warn(CREDENTIAL, format!("none: no login in {path}, no variable"), LOGIN)
        }];
    };
    let refused = refused.filter(|call| call.at > file.changed);
    vec![Check::pass(CREDENTIAL, path.to_string()), expiry(&oauth, refused, evidence.now)]
}

fn expiry(oauth: &Value, refused: Option<&LastCall>, now: u64) -> Check {
    let refreshable = oauth.get("refreshToken").and_then(Value::as_str).is_some_and(|t| !t.is_empty());
    let Some(expires) = oauth.get("expiresAt").and_then(milliseconds) else {
        return Check::warn(TOKEN, "expiresAt is missing", LOGIN);
    };
    let when = utc(expires);
    if let Some(call) = refused {
        let ago = call.ago(now);
        let detail = if expires <= now {
            format!("expired {when}, now {}; a call {ago} was refused with 401", utc(now))
        } else {
            format!("valid until {when} by its file, but a call {ago} was refused with 401")
        };
        return Check::fail(TOKEN, detail, SETUP_TOKEN);
    }
    match (expires <= now, refreshable) {
        (true, false) => {
            let detail = format!("expired {when}, now {}, and there is no refresh token", utc(now));
            Check::fail(TOKEN, detail, SETUP_TOKEN)
        }
        (true, true) => {
            let detail = format!("expired {when}, now {}; claude refreshes it when it runs", utc(now));
            Check::warn(TOKEN, detail, format!("if calls get 401: {SETUP_TOKEN}"))
        }
        (false, false) if expires - now < DAY => {
            let detail = format!("expires {when}, now {}, and there is no refresh token", utc(now));
            Check::warn(TOKEN, detail, SETUP_TOKEN)
        }
        (false, _) => Check::pass(TOKEN, format!("valid until {when}")),
    }
}

/// Whether extra usage is off, and whether what says so is out of date.
fn overage(evidence: &Evidence) -> Vec<Check> {
    let path = evidence.state.path.display();
    let state = match evidence.state.json() {
        Ok(state) => state.unwrap_or_default(),
        Err(why) => {
            let fix = "restore one of its backups: ls ~/.claude.json.bak.* ~/.claude/backups";
            return vec![Check::fail(EXTRA, why, fix)];
        }
    };
    let noted = state.get("cachedExtraUsageDisabledReason");
    let grants = grants(&state);
    // What a call was told after the file was written is news to the file.
    let news = evidence.seen.overage.as_ref().filter(|news| news.at > evidence.state.changed);
    let (reason, by) = match (news, noted) {
        (Some(news), _) => (Some(news.reason.clone()), format!("by a call {}", ago(news.at, evidence.now))),
        (None, Some(Value::String(word))) => (Some(Some(word.clone())), format!("by {path}")),
        (None, Some(Value::Null)) => (Some(None), format!("by {path}")),
        (None, _) => (None, String::new()),
    };
    let mut extra = match reason {
        Some(Some(word)) => disabled(&word, &by),
        Some(None) => Check::pass(EXTRA, format!("not disabled, {by}")),
        None => Check::pass(EXTRA, format!("unknown: {path} does not say")),
    };
    if extra.state == State::Pass
        && news.is_none()
        && let Some(grant) = grants.iter().find(|grant| grant.available == Some(false))
    {
        let at = grant.at.map_or_else(|| "of no date".to_string(), |at| format!("of {}", utc(at)));
        extra = Check::warn(EXTRA, format!("a grant {at} is not available, by {path}"), ENABLE);
    }
    if extra.failed()
        && let Some((name, false)) = evidence.variable
    {
        extra.state = State::Warn;
        extra.detail.push_str(&format!("; {name} is in force and does not need it"));
    }
    let told = news.map(|news| news.reason.as_deref());
    let contradicted = match (told, noted) {
        (Some(told), Some(Value::String(word))) => told != Some(word),
        (Some(told), Some(Value::Null)) => told.is_some(),
        _ => false,
    };
    let oldest = grants.iter().map(|grant| grant.at.unwrap_or(0)).min();
    let cache = match oldest {
        _ if contradicted => {
            let detail =
                format!("cachedExtraUsageDisabledReason is not what a later call was told, in {path}");
            Check::warn(CACHE, detail, CLEAR)
        }
        Some(0) => Check::warn(CACHE, format!("a grant without a date, in {path}"), CLEAR),
        Some(at) if evidence.now.saturating_sub(at) > FRESH => {
            let detail = format!("a grant of {}, now {}, in {path}", utc(at), utc(evidence.now));
            Check::warn(CACHE, detail, CLEAR)
        }
        Some(_) => Check::pass(CACHE, "less than an hour old"),
        None => Check::pass(CACHE, "no grant is kept"),
    };
    vec![extra, cache]
}

fn disabled(word: &str, by: &str) -> Check {
    // The file is somebody else's: what is no such word is not repeated.
    let known = word.len() <= 64 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let word = if known { word } else { "for a reason that is no word" };
    let detail = format!("disabled: {word}, {by}; sessions that run may go on while new ones fail");
    if DISABLED.contains(&word) || word.ends_with("_zero_credit_limit") {
        Check::fail(EXTRA, detail, ENABLE)
    } else {
        Check::warn(EXTRA, detail, ENABLE)
    }
}

struct Grant {
    available: Option<bool>,
    at: Option<u64>,
}

fn grants(state: &Value) -> Vec<Grant> {
    let cache = state.get("overageCreditGrantCache").and_then(Value::as_object);
    let grant = |grant: &Value| Grant {
        available: grant.get("info").and_then(|info| info.get("available")).and_then(Value::as_bool),
        at: grant.get("timestamp").and_then(milliseconds),
    };
    cache.map(|cache| cache.values().map(grant).collect()).unwrap_or_default()
}

/// What the newest call to Anthropic came to; other words than those about extra usage have other causes.
fn last(call: &LastCall, now: u64) -> Check {
    const CAUSES: [(&str, &str); 3] = [
        (
            "specified API usage limits",
            "a limit set in the Claude Console: raise it there, or wait for the date",
        ),
        (
            "credit balance is too low",
            "buy credits for the API in the Claude Console, or unset ANTHROPIC_API_KEY",
        ),
        ("Not logged in", LOGIN),
    ];
    let ago = call.ago(now);
    let status = call.status.map_or_else(|| "no answer".to_string(), |status| status.to_string());
    let Some((kind, message)) = &call.error else { return Check::pass(LAST, format!("{status}, {ago}")) };
    let detail: String = format!("{status} {kind}, {ago}: {message}").chars().take(300).collect();
    let cause = CAUSES.into_iter().find(|(words, _)| message.contains(words));
    Check::warn(LAST, detail, cause.map_or("ac7 traces --errors", |(_, fix)| fix))
}

/// A number of ms, however it is written.
fn milliseconds(value: &Value) -> Option<u64> {
    let whole = |number: f64| format!("{:.0}", number.trunc()).parse().ok();
    value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).and_then(whole))
}

fn utc(ms: u64) -> String {
    let at = Zone::utc().local(ms);
    format!("{} {} UTC", at.date(), at.clock())
}

/// How long ago, in the largest unit that fits.
fn ago(then: u64, now: u64) -> String {
    let seconds = now.saturating_sub(then) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86400),
    }
}

#[cfg(test)]
mod tests;
