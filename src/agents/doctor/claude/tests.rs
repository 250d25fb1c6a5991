use super::*;
use crate::agents::doctor::claude::seen::News;

/// 2026-11-28 04:00:00 UTC.
const NOW: u64 = 1_795_838_400_000;

const SECRET: &str = "sk-ant-oat01-SECRETSECRETSECRET";

fn source(path: &str, text: &str) -> Source {
    let text = match text {
        "" => Err(io::ErrorKind::NotFound.into()),
        "denied" => Err(io::ErrorKind::PermissionDenied.into()),
        text => Ok(text.to_string()),
    };
    Source { path: path.into(), text, changed: NOW - 2 * HOUR }
}

fn evidence(credentials: &str, state: &str) -> Evidence {
    Evidence {
        credentials: source("/h/.claude/.credentials.json", credentials),
        state: source("/h/.claude.json", state),
        variable: None,
        seen: Seen::default(),
        keychain: false,
        agentx: false,
        now: NOW,
    }
}

fn oauth(expires: u64, refresh: &str) -> String {
    format!(
        r#"{{"claudeAiOauth":{{"accessToken":"{SECRET}","refreshToken":"{refresh}","expiresAt":{expires}}}}}"#
    )
}

/// The checks as `STATE name: detail`.
fn shown(evidence: &Evidence) -> Vec<String> {
    let checks = judge(evidence);
    for check in &checks {
        assert_eq!(check.fix.is_none(), check.state == State::Pass, "{check:?}");
        assert!(!format!("{check:?}").contains("SECRET"), "{check:?}");
    }
    checks.iter().map(|c| format!("{} {}: {}", c.state.word(), c.name, c.detail)).collect()
}

fn call(minutes: u64, status: u16, error: Option<(&str, &str)>) -> Option<LastCall> {
    let error = error.map(|(kind, message)| (kind.to_string(), message.to_string()));
    Some(LastCall { at: NOW - minutes * 60_000, status: Some(status), error })
}

const REFUSED: Option<(&str, &str)> = Some(("authentication_error", "Invalid authentication credentials"));

#[test]
fn the_credential_and_its_expiry() {
    let file = "pass Claude credential: /h/.claude/.credentials.json";
    for (credentials, want) in [
        (
            String::new(),
            &["warn Claude credential: none: no login in /h/.claude/.credentials.json, no variable"][..],
        ),
        (
            "{}".into(),
            &["warn Claude credential: none: no login in /h/.claude/.credentials.json, no variable"],
        ),
        (
            format!("{{\"a\":\"{SECRET}\", nonsense"),
            &["fail Claude credential: /h/.claude/.credentials.json is not JSON: line 1, column 41"],
        ),
        ("denied".into(), &["fail Claude credential: /h/.claude/.credentials.json: permission denied"]),
        (
            oauth(NOW + 3 * HOUR, SECRET),
            &[file, "pass Claude OAuth token: valid until 2026-11-28 07:00:00 UTC"],
        ),
        (
            oauth(NOW - HOUR, SECRET),
            &[
                file,
                "warn Claude OAuth token: expired 2026-11-28 03:00:00 UTC, now 2026-11-28 04:00:00 UTC; \
                 claude refreshes it when it runs",
            ],
        ),
        (
            oauth(0, ""),
            &[
                file,
                "fail Claude OAuth token: expired 1970-01-01 00:00:00 UTC, now 2026-11-28 04:00:00 UTC, \
                 and there is no refresh token",
            ],
        ),
        (
            oauth(NOW + 3 * HOUR, ""),
            &[
                file,
                "warn Claude OAuth token: expires 2026-11-28 07:00:00 UTC, now 2026-11-28 04:00:00 UTC, \
                 and there is no refresh token",
            ],
        ),
        (oauth(NOW + 30 * DAY, ""), &[file, "pass Claude OAuth token: valid until 2026-12-28 04:00:00 UTC"]),
        (
            format!(r#"{{"claudeAiOauth":{{"accessToken":"{SECRET}"}}}}"#),
            &[file, "warn Claude OAuth token: expiresAt is missing"],
        ),
    ] {
        assert_eq!(shown(&evidence(&credentials, ""))[..want.len()], *want, "{credentials}");
    }
}

#[test]
fn a_refused_call_weighs_more_than_the_file() {
    let mut case = evidence(&oauth(NOW + HOUR, SECRET), "");
    case.seen.call = call(5, 401, REFUSED);
    assert_eq!(
        shown(&case)[1],
        "fail Claude OAuth token: valid until 2026-11-28 05:00:00 UTC by its file, but a call 5 min ago \
         was refused with 401"
    );
    case.credentials = source("/h/c", &oauth(NOW - HOUR, SECRET));
    assert_eq!(
        shown(&case)[1],
        "fail Claude OAuth token: expired 2026-11-28 03:00:00 UTC, now 2026-11-28 04:00:00 UTC; a call \
         5 min ago was refused with 401"
    );
    // The login is newer than the refusal.
    case.seen.call = call(150, 401, REFUSED);
    assert!(shown(&case)[1].starts_with("warn Claude OAuth token: expired"));
    // A variable comes before the file, whatever that says.
    case.variable = Some(("ANTHROPIC_API_KEY", false));
    let refused =
        "fail Claude credential: ANTHROPIC_API_KEY of this environment: a call 2 h ago was refused with 401";
    assert_eq!(shown(&case)[0], refused);
    case.seen.call = call(150, 200, None);
    let lines = shown(&case);
    assert_eq!(lines[0], "pass Claude credential: ANTHROPIC_API_KEY of this environment");
    assert!(!lines.iter().any(|line| line.contains(TOKEN)));
    assert_eq!(lines.last().unwrap(), "pass last captured model call: 200, 2 h ago");
}

#[test]
fn a_keychain_is_named_as_unchecked() {
    let case = Evidence { keychain: true, ..evidence("", "") };
    assert_eq!(
        shown(&case)[0],
        "warn Claude credential: none in a file; the keychain of macOS was not looked at"
    );
}

#[test]
fn every_reason_of_the_file() {
    let by = "by /h/.claude.json; sessions that run may go on while new ones fail";
    for (reason, want) in [
        ("null", "pass Claude extra usage: not disabled, by /h/.claude.json".to_string()),
        (r#""org_level_disabled""#, format!("fail Claude extra usage: disabled: org_level_disabled, {by}")),
        (
            r#""org_level_disabled_until""#,
            format!("fail Claude extra usage: disabled: org_level_disabled_until, {by}"),
        ),
        (
            r#""overage_not_provisioned""#,
            format!("fail Claude extra usage: disabled: overage_not_provisioned, {by}"),
        ),
        (
            r#""seat_tier_level_disabled""#,
            format!("fail Claude extra usage: disabled: seat_tier_level_disabled, {by}"),
        ),
        (
            r#""member_level_disabled""#,
            format!("fail Claude extra usage: disabled: member_level_disabled, {by}"),
        ),
        (
            r#""group_zero_credit_limit""#,
            format!("fail Claude extra usage: disabled: group_zero_credit_limit, {by}"),
        ),
        (r#""out_of_credits""#, format!("warn Claude extra usage: disabled: out_of_credits, {by}")),
        (
            r#""no_limits_configured""#,
            format!("warn Claude extra usage: disabled: no_limits_configured, {by}"),
        ),
        (
            r#""sk-ant-oat01-SECRET""#,
            format!("warn Claude extra usage: disabled: for a reason that is no word, {by}"),
        ),
        ("7", "pass Claude extra usage: unknown: /h/.claude.json does not say".to_string()),
    ] {
        let state = format!(r#"{{"cachedExtraUsageDisabledReason":{reason}}}"#);
        let lines = shown(&evidence("", &state));
        assert_eq!(lines[1], want, "{reason}");
        assert_eq!(
            lines[2..],
            ["pass Claude overage cache: no grant is kept", "pass overage kept in memory: ac7 keeps none"]
        );
    }
    let mut case = evidence("", r#"{"cachedExtraUsageDisabledReason":"org_level_disabled"}"#);
    case.variable = Some(("ANTHROPIC_API_KEY", false));
    assert!(shown(&case)[1].starts_with("warn Claude extra usage: disabled: org_level_disabled"));
    assert!(shown(&case)[1].ends_with("; ANTHROPIC_API_KEY is in force and does not need it"));
    case.agentx = true;
    assert!(shown(&case)[3].starts_with("warn overage kept in memory: the AgentX"));
    for (state, want) in [
        ("", "pass Claude extra usage: unknown: /h/.claude.json does not say"),
        ("{", "fail Claude extra usage: /h/.claude.json is not JSON: line 1, column 1"),
    ] {
        assert_eq!(shown(&evidence("", state))[1], want);
    }
}

#[test]
fn an_old_grant_and_one_that_is_not_available() {
    let state = |available: bool, at: u64| {
        format!(
            r#"{{"overageCreditGrantCache":{{"org":{{"info":{{"available":{available}}},"timestamp":{at}}}}}}}"#
        )
    };
    for (state, extra, cache) in [
        (
            state(true, NOW - 5 * HOUR),
            "pass Claude extra usage: unknown: /h/.claude.json does not say",
            "warn Claude overage cache: a grant of 2026-11-27 23:00:00 UTC, now 2026-11-28 04:00:00 UTC, \
             in /h/.claude.json",
        ),
        (
            state(false, NOW - HOUR / 2),
            "warn Claude extra usage: a grant of 2026-11-28 03:30:00 UTC is not available, by /h/.claude.json",
            "pass Claude overage cache: less than an hour old",
        ),
        (
            r#"{"overageCreditGrantCache":{"org":{}}}"#.to_string(),
            "pass Claude extra usage: unknown: /h/.claude.json does not say",
            "warn Claude overage cache: a grant without a date, in /h/.claude.json",
        ),
    ] {
        assert_eq!(shown(&evidence("", &state))[1..3], [extra, cache], "{state}");
    }
}

#[test]
fn a_newer_capture_outranks_the_file() {
    let news = |minutes: u64, reason: Option<&str>| {
        Some(News { at: NOW - minutes * 60_000, reason: reason.map(str::to_string) })
    };
    let stale = "warn Claude overage cache: cachedExtraUsageDisabledReason is not what a later call was told, \
                 in /h/.claude.json";
    let off =
        "disabled: org_level_disabled, by a call 3 min ago; sessions that run may go on while new ones fail";
    for (noted, told, extra, cache) in [
        (
            r#""org_level_disabled""#,
            news(3, None),
            "pass Claude extra usage: not disabled, by a call 3 min ago".to_string(),
            stale,
        ),
        ("null", news(3, Some("org_level_disabled")), format!("fail Claude extra usage: {off}"), stale),
        (
            r#""org_level_disabled""#,
            news(3, Some("org_level_disabled")),
            format!("fail Claude extra usage: {off}"),
            "pass Claude overage cache: no grant is kept",
        ),
        // Older than the file.
        (
            "null",
            news(180, Some("org_level_disabled")),
            "pass Claude extra usage: not disabled, by /h/.claude.json".to_string(),
            "pass Claude overage cache: no grant is kept",
        ),
    ] {
        let mut case = evidence("", &format!(r#"{{"cachedExtraUsageDisabledReason":{noted}}}"#));
        case.seen.overage = told;
        assert_eq!(shown(&case)[1..3], [extra.as_str(), cache], "{noted}");
    }
}

#[test]
fn other_words_have_other_causes() {
    for (message, fix) in [
        (
            "You have reached your specified API usage limits. You will regain access on 2026-12-01",
            "a limit set",
        ),
        ("Your credit balance is too low to access the API", "buy credits"),
        ("Overloaded", "ac7 traces --errors"),
    ] {
        let mut case = evidence("", "");
        case.seen.call = call(1, 400, Some(("invalid_request_error", message)));
        let checks = judge(&case);
        let last = checks.last().unwrap();
        assert_eq!(last.detail, format!("400 invalid_request_error, 60 s ago: {message}"));
        assert!(last.fix.as_ref().unwrap().starts_with(fix), "{last:?}");
    }
}
