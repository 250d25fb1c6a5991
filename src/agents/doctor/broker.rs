//! Whether the broker answers, takes the token, and agrees about the time.
use std::env;
use std::time::Duration;

use serde_json::Value;

use super::Check;
use super::claude::Seen;
use crate::client::auth::{self, Access, Given};
use crate::client::{self, CallerProxy, Client, Error, Failure, segment};
use crate::sys::clock::now_ms;

const REACHED: &str = "broker reachable";
const TOKEN: &str = "broker token valid";
const CLOCK: &str = "clock skew";

/// A code for one-time login holds for so long; further apart the two machines do not agree on one.
const SKEW: u64 = 30_000;
/// Whoever waits for a doctor does not want to wait for long.
const TIMEOUT: Duration = Duration::from_secs(5);
/// So many of the newest calls are asked for what they tell about a login.
const CALLS: u32 = 5;

/// Look at the broker that `given` and the environment name. What the member's newest calls tell is added to `seen`.
pub fn broker(given: &Given, seen: &mut Seen) -> Vec<Check> {
    let fail = |name, why: &Error| Check::fail(name, why.to_string(), way_out(why));
    let access = match auth::from_environment(given) {
        Ok(access) => access,
        Err(why) => return vec![fail(REACHED, &why)],
    };
    if !access.told && access.token.is_none() {
        let none = Error::NoToken { near: access.near };
        let fix = format!("{}; ac7 run, and the agents with --local, need no broker", way_out(&none));
        return vec![Check::warn(REACHED, format!("none is named: {none}"), fix)];
    }
    let client = match connect(&access) {
        Ok(client) => client,
        Err(why) => return vec![fail(REACHED, &why)],
    };
    let answer = match client.send("GET", "/healthz", None) {
        Ok(answer) => answer,
        Err(Error::Unreachable { url, failure: Failure::Refused }) => {
            // In the words of a start that fails so.
            return vec![fail(REACHED, &Error::Briefing { url, failure: Failure::Refused })];
        }
        Err(why) => return vec![fail(REACHED, &why)],
    };
    let now = now_ms();
    let version = match client.healthz() {
        Ok(version) => version,
        Err(why) => return vec![fail(REACHED, &why)],
    };
    let mut checks = vec![Check::pass(REACHED, format!("{}, version {version}", access.url))];
    let briefing = access.require_token().and_then(|_| client.briefing());
    checks.push(match &briefing {
        Ok(briefing) => Check::pass(TOKEN, format!("member {}", briefing.name)),
        Err(why) => fail(TOKEN, why),
    });
    checks.extend(answer.date.map(|theirs| clock(theirs, now)));
    if let Ok(briefing) = briefing {
        let path = format!(
            "/members/{}/activity?kind=llm_exchange&typed=all&limit={CALLS}",
            segment(&briefing.name)
        );
        // An older broker may not tell: then the traces of this machine have to do.
        let rows = client.json("GET", &path, None).unwrap_or_default();
        let rows = rows.get("activity").and_then(Value::as_array);
        rows.into_iter().flatten().for_each(|row| seen.add(&row["event"]));
    }
    checks
}

fn connect(access: &Access) -> Result<Client, Error> {
    let options = client::Options {
        ca_certs: access.ca_cert.iter().cloned().collect(),
        proxy: CallerProxy::from_vars(&access.url, |name| env::var(name).ok().filter(|v| !v.is_empty())),
        connect_timeout: TIMEOUT,
        timeout: TIMEOUT,
    };
    Client::new(&access.url, access.token.as_deref(), &options)
}

fn way_out(error: &Error) -> String {
    error.fix().unwrap_or_else(|| "check --url or $AC7_URL".to_string())
}

/// A `Date` header has no fractions, so a second either way is none.
fn clock(theirs: u64, ours: u64) -> Check {
    let (apart, where_to) = match ours.checked_sub(theirs) {
        Some(ahead) => (ahead.saturating_sub(1000), "ahead of"),
        None => (theirs - ours, "behind"),
    };
    if apart <= SKEW {
        return Check::pass(CLOCK, "the broker agrees");
    }
    let detail = format!("this machine is {} s {where_to} the broker", apart / 1000);
    Check::warn(CLOCK, detail, "set the clock of one of them, best with NTP on both")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::doctor::State;

    #[test]
    fn seconds_apart_are_told() {
        let now = 1_795_838_400_000;
        for (theirs, state, want) in [
            (now, State::Pass, "the broker agrees"),
            (now - 30_900, State::Pass, "the broker agrees"),
            (now - 61_000, State::Warn, "this machine is 60 s ahead of the broker"),
            (now + 90_000, State::Warn, "this machine is 90 s behind the broker"),
        ] {
            let check = clock(theirs, now);
            assert_eq!((check.state, check.detail.as_str()), (state, want));
        }
    }
}
