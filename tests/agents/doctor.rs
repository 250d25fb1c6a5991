//! `ac7 doctor`: what it says of a machine, and the one repair.
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ac7::store::activity::{Parser, Store, Upload};
use serde_json::{Value, json};
use support::run::{Finished, Home, json_lines};

use crate::team::{Team, script};

const CLAUDE: &str = "echo '2.1.197 (Claude Code)'\n";

/// The checks of Claude Code where nothing is wrong, in their order.
const NAMES: [&str; 18] = [
    "claude binary",
    "$TMPDIR writable",
    "loopback proxy bindable",
    "trace CA + leaf cert generation",
    "TLS validation posture",
    "agent version",
    "broker reachable",
    "broker token valid",
    "clock skew",
    "proxy environment",
    "trusted certificates",
    "free disk for traces",
    "free disk in $TMPDIR",
    "permission to skip permissions",
    "Claude credential",
    "Claude extra usage",
    "Claude overage cache",
    "overage kept in memory",
];

fn doctor<S: AsRef<OsStr>>(home: &Home, args: &[S]) -> Command {
    let mut command = home.ac7(["doctor"]);
    command.args(args).env("IS_SANDBOX", "1");
    command
}

fn finish(command: &mut Command) -> Finished {
    Finished::from(&command.output().unwrap())
}

/// The line of a check, with its way out.
fn line<'a>(done: &'a Finished, name: &str) -> (&'a str, Option<&'a str>) {
    let mut lines = done.stdout.lines();
    let line = lines.find(|line| line.contains(&format!("] {name} "))).unwrap_or_else(|| panic!("{done:?}"));
    (line, lines.next().and_then(|next| next.strip_prefix("  fix: ")))
}

#[test]
fn all_is_well_with_a_member_of_a_team() {
    let team = Team::new();
    let claude = script(&team.home, "claude", CLAUDE);
    let with_key = |args: &[&str]| {
        let mut command = doctor(&team.home, &["--agent", "claude-code", "--url", &team.url]);
        command.args(args).env("CLAUDE_PATH", &claude).env("AC7_TOKEN", &team.bob);
        command.env("ANTHROPIC_API_KEY", "sk-ant-api03-SECRET");
        command
    };
    let fine = finish(&mut with_key(&["--json"]));
    assert_eq!(fine.code, Some(0), "{fine:?}");
    let checks = json_lines(&fine.stdout);
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES);
    for check in &checks {
        // How full this machine's disk is is not ours to say.
        let full = check["name"].as_str().unwrap().starts_with("free disk");
        assert!(full || (check["state"] == "pass" && check["fix"].is_null()), "{check}");
    }
    let text = finish(&mut with_key(&[]));
    assert!(!text.stdout.contains("SECRET") && !text.stdout.contains(&team.bob));
    assert_eq!(line(&text, "broker token valid").0, "[PASS] broker token valid — member bob");
    let plain = finish(with_key(&[]).env("LC_ALL", "C"));
    assert_eq!(line(&plain, "broker token valid").0, "[PASS] broker token valid - member bob");
    assert!(plain.stdout.is_ascii());

    let refused = finish(with_key(&[]).env("AC7_TOKEN", "ac7_wrong"));
    assert_eq!(refused.code, Some(1));
    let refusal = format!(
        "[FAIL] broker token valid — briefing failed against {}: the broker refused the token (401) [bad-token]",
        team.url
    );
    assert_eq!(
        line(&refused, "broker token valid"),
        (
            refusal.as_str(),
            Some("pass a valid token with --token or AC7_TOKEN, or get one with `ac7 connect`")
        )
    );
}

#[test]
fn what_is_missing_is_named_with_a_way_out() {
    let mut team = Team::new();
    team.kill_broker();
    let done = finish(
        doctor(&team.home, &["--agent", "claude-code", "--url", &team.url, "--token", &team.ann])
            .env("PATH", team.home.join("home"))
            .env("TMPDIR", "/proc")
            .env("NODE_TLS_REJECT_UNAUTHORIZED", "0")
            .env("HTTPS_PROXY", "socks5://u:SECRET@p:1080")
            .env("CURL_CA_BUNDLE", "/nowhere.pem"),
    );
    assert_eq!((done.code, done.stderr.as_str()), (Some(1), ""));
    for (name, want, fix) in [
        ("claude binary", "[FAIL] claude binary — failed to locate claude binary", "npm install -g"),
        ("$TMPDIR writable", "[FAIL] $TMPDIR writable — /proc: ", "unset TMPDIR, or"),
        (
            "TLS validation posture",
            "[WARN] TLS validation posture — NODE_TLS_REJECT_UNAUTHORIZED=0 is set [no-checks]",
            "unset NODE_TLS_REJECT_UNAUTHORIZED",
        ),
        (
            "broker reachable",
            &format!("[FAIL] broker reachable — briefing failed against {}: ECONNREFUSED", team.url),
            "`ac7 serve` in another terminal, or `--url`/`$AC7_URL`",
        ),
        (
            "proxy environment",
            "[FAIL] proxy environment — HTTPS_PROXY is not an http:// URL",
            "name it as http://HOST:PORT",
        ),
        (
            "trusted certificates",
            "[FAIL] trusted certificates — CURL_CA_BUNDLE: cannot read certificates: /nowhere.pem: ",
            "correct CURL_CA_BUNDLE",
        ),
        ("Claude credential", "[WARN] Claude credential — none: no login in ", "run claude and type /login"),
    ] {
        let (got, way_out) = line(&done, name);
        let code = match name {
            "claude binary" => "[no-claude]",
            "$TMPDIR writable" => "[no-temp]",
            "broker reachable" => "[no-broker]",
            "TLS validation posture" => "[no-checks]",
            _ => "",
        };
        assert!(got.ends_with(code), "{got}");
        assert!(got.starts_with(want) && way_out.is_some_and(|w| w.starts_with(fix)), "{got}\n{way_out:?}");
    }
    assert!(!done.stdout.contains("SECRET"));

    let codex = finish(&mut doctor(&team.home, &["--agent", "codex"]));
    assert_eq!(
        line(&codex, "codex login"),
        ("[FAIL] codex login — no codex auth.json found in ~/.codex [no-login]", Some("codex login"))
    );
    let none = "[WARN] broker reachable — none is named: --token or AC7_TOKEN is required [no-token]";
    assert_eq!(line(&codex, "broker reachable").0, none);
}

/// `.claude.json` as it is where extra usage is off, and 30 KB of other state round it.
fn stale(more: &str) -> String {
    let projects: Vec<String> =
        (0..600).map(|i| format!("    \"/p{i}\": {{ \"allowedTools\": [], \"n\": {i}.50 }}")).collect();
    format!("{{\n  \"numStartups\": 41,\n{more}  \"projects\": {{\n{}\n  }}\n}}\n", projects.join(",\n"))
}

const CACHE: &str = "  \"overageCreditGrantCache\": { \"org\": { \"info\": { \"available\": false }, \"timestamp\": 1 } },\n  \
                     \"cachedExtraUsageDisabledReason\": \"org_level_disabled\",\n";

#[test]
fn a_login_is_judged_by_its_files_and_by_later_calls() {
    let home = support::ac7!();
    let claude = script(&home, "claude", CLAUDE);
    let folder = home.join("home/.claude");
    fs::create_dir(&folder).unwrap();
    let login = json!({"claudeAiOauth": {
        "accessToken": "sk-ant-oat01-SECRET", "refreshToken": "sk-ant-ort01-SECRET", "expiresAt": 1_000}});
    fs::write(folder.join(".credentials.json"), login.to_string()).unwrap();
    let state = home.join("home/.claude.json");
    fs::write(&state, stale(CACHE)).unwrap();
    let check = || finish(doctor(&home, &["--agent", "claude-code"]).env("CLAUDE_PATH", &claude));
    let done = check();
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        line(&done, "Claude OAuth token")
            .0
            .starts_with("[WARN] Claude OAuth token — expired 1970-01-01 00:00:01 UTC, now ")
    );
    let (extra, fix) = line(&done, "Claude extra usage");
    assert!(extra.starts_with("[FAIL] Claude extra usage — disabled: org_level_disabled, by /"), "{extra}");
    assert!(fix.unwrap().contains("https://claude.ai/settings/usage"), "{fix:?}");
    assert_eq!(line(&done, "Claude overage cache").1, Some("ac7 doctor --fix stale-grant-cache"));
    assert!(!done.stdout.contains("SECRET"));

    // A later call was told that extra usage is on, and then one was refused.
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    for path in [state, folder.join(".credentials.json")] {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    let now = u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let call = |ts: u64, status: u16, more: Value| {
        let mut entry = json!({
            "kind": "anthropic_messages", "startedAt": ts, "endedAt": ts,
            "request": {"model": "m", "maxTokens": null, "temperature": null, "system": null, "messages": [], "tools": null},
            "response": {"stopReason": null, "stopSequence": null, "messages": [], "usage": null, "status": status},
        });
        entry.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        json!({"kind": "llm_exchange", "ts": ts, "duration": 0, "entry": entry}).to_string()
    };
    let refusal =
        json!({"error": {"type": "authentication_error", "message": "Invalid authentication credentials"}});
    let events = [
        call(now - 600_000, 200, json!({"overage": {"status": "allowed"}})),
        call(now - 60_000, 401, refusal),
    ];
    let batch = Parser::new().events(events.iter().map(String::as_str)).unwrap();
    fs::create_dir_all(home.join("home/data/ac7")).unwrap();
    let uploads = [Upload { member: "ann", batch: &batch, key: None }];
    Store::open(&home.join("home/data/ac7/activity.db")).unwrap().append(&uploads, now).unwrap();
    let done = check();
    assert_eq!(done.code, Some(1), "{done:?}");
    let (token, fix) = line(&done, "Claude OAuth token");
    assert!(
        token.starts_with("[FAIL] Claude OAuth token — expired ") && token.ends_with(" was refused with 401"),
        "{token}"
    );
    assert!(fix.unwrap().starts_with("claude setup-token prints a token"));
    assert_eq!(
        line(&done, "Claude extra usage").0,
        "[PASS] Claude extra usage — not disabled, by a call 10 min ago"
    );
    let cache = line(&done, "Claude overage cache").0;
    assert!(
        cache.starts_with("[WARN] Claude overage cache — cachedExtraUsageDisabledReason is not what"),
        "{cache}"
    );
    assert!(line(&done, "last captured model call").0.contains("401 authentication_error"));
}

#[test]
fn the_repair_takes_two_keys_and_leaves_a_copy() {
    let home = support::ac7!();
    let path = home.join("home/.claude.json");
    let copies = || -> Vec<_> {
        let names =
            fs::read_dir(home.join("home")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".claude.json.")).collect()
    };
    let run = |args: &[&str]| finish(&mut doctor(&home, args));
    assert!(run(&["--fix", "--yes"]).stdout.starts_with("nothing to repair: ~/.claude.json has neither "));
    fs::write(&path, stale(CACHE)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(stale(CACHE).len() > 16_000);
    for args in [&["--fix"][..], &["--fix", "stale-grant-cache"]] {
        let refused = run(args);
        let want = "ac7 doctor: not confirmed: standard input is no terminal\n  fix: --yes\n";
        assert_eq!((refused.code, refused.stderr.as_str()), (Some(2), want), "{args:?}");
    }
    assert_eq!((fs::read_to_string(&path).unwrap(), copies().len()), (stale(CACHE), 0));

    let done = run(&["--agent", "claude-code", "--fix", "stale-grant-cache", "--yes"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told =
        "overageCreditGrantCache: 1 of an account\ncachedExtraUsageDisabledReason: org_level_disabled\n";
    assert!(done.stdout.starts_with(told), "{}", done.stdout);
    assert_eq!(fs::read_to_string(&path).unwrap(), stale(""));
    let copies = copies();
    assert!(copies.len() == 1 && copies[0].starts_with(".claude.json.bak."), "{copies:?}");
    let copy = home.join("home").join(&copies[0]);
    assert_eq!(fs::read_to_string(&copy).unwrap(), stale(CACHE));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&copy), mode(&path)), (0o600, 0o644));

    fs::write(&path, "{\"a\":").unwrap();
    let broken = run(&["--fix", "--yes"]);
    assert_eq!(broken.code, Some(1));
    assert!(
        broken.stderr.starts_with("ac7 doctor: cannot repair /")
            && broken.stderr.contains("it is no JSON object")
    );
}
