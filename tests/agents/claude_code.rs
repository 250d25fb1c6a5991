//! `ac7 claude-code`: what the agent gets, and what the team gets of it.
use std::fs;
use std::process::{Child, Command, Stdio};

use ac7::client::{Client, Options};
use serde_json::{Value, json};
use support::mock::{self, Mock};
use support::run::{Finished, FreePort, wait_until};

use crate::team::{Team, claude_code, left_behind, script};

fn finish(command: &mut Command) -> Finished {
    Finished::from(&command.output().unwrap())
}

/// What a member asks of the broker.
fn ask(team: &Team, token: &str, method: &str, path: &str, body: &Value) -> Value {
    let client = Client::new(&team.url, Some(token), &Options::default()).unwrap();
    client
        .json(method, path, Some(body).filter(|body| !body.is_null()))
        .unwrap_or_else(|why| panic!("{method} {path}: {why}"))
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The lines of a file in the agent's directory, once it is there.
fn written(team: &Team, name: &str) -> String {
    wait_until(name, || fs::read_to_string(team.home.join("home").join(name)).ok())
}

/// Let the agent go on.
fn go(team: &Team, name: &str) {
    fs::write(team.home.join("home").join(name), "").unwrap();
}

/// The lines of the session's log.
fn log(team: &Team) -> String {
    let folder = fs::read_dir(team.home.join("home/cache/agentc7")).into_iter().flatten();
    folder.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
}

/// Write a file so that it is whole when it is there.
const PUT: &str = "put() { cat > \"$1.new\" && mv \"$1.new\" \"$1\"; }\nuntil_there() { until [ -e \"$1\" ]; do sleep 0.02; done; }\n";

fn agent(team: &Team, text: &str) {
    script(&team.home, "claude", &format!("{PUT}{text}"));
}

#[test]
fn the_agent_gets_its_options_and_its_environment() {
    let team = Team::new();
    agent(
        &team,
        "env | put env; for word in \"$@\"; do printf '%s\\0' \"$word\"; done | put words; cat .mcp.json | put config",
    );
    let done = finish(claude_code(&team, &["--unsafe-tls", "--", "-p", "hi"]).env("NO_PROXY", "corp"));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let words: Vec<String> = written(&team, "words").split_terminator('\0').map(str::to_string).collect();
    assert_eq!(
        words[..3],
        ["--dangerously-load-development-channels", "server:ac7", "--append-system-prompt"]
    );
    assert!(words[3].contains("bob") && words[4] == "--settings", "{words:?}");
    let settings: Value = serde_json::from_str(&words[5]).unwrap();
    let hook = settings["hooks"]["Stop"][0]["hooks"][0]["command"].as_str().unwrap();
    assert!(hook.ends_with("/ac7' hook Stop"), "{hook}");
    assert_eq!(words[6..], ["--dangerously-skip-permissions", "-p", "hi"]);
    let env = written(&team, "env");
    let get =
        |name: &str| env.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    assert!(get("HTTPS_PROXY").starts_with("http://127.0.0.1:") && get("https_proxy") == get("HTTPS_PROXY"));
    assert_eq!(get("NO_PROXY"), "localhost,127.0.0.1,::1,corp");
    assert_eq!((get("NODE_TLS_REJECT_UNAUTHORIZED"), get("MCP_CONNECTION_NONBLOCKING")), ("0", "0"));
    assert!(get("NODE_EXTRA_CA_CERTS").contains("/ac7-trace-ca-") && get("CODEX_CA_CERTIFICATE").is_empty());
    let config: Value = serde_json::from_str(&written(&team, "config")).unwrap();
    let entry = &config["mcpServers"]["ac7"];
    assert_eq!(
        (&entry["args"], &entry["env"]["AC7_RUNNER_SOCKET"]),
        (&json!(["mcp-bridge"]), &json!(get("AC7_RUNNER_SOCKET")))
    );
    assert!(done.stderr.contains("| --unsafe-tls: the agent validates no certificate."), "{}", done.stderr);
    assert!(done.stderr.contains("ac7: claude gets --dangerously-load-development-channels, "));
    assert!(!done.stderr.contains(&team.bob) && !log(&team).contains(&team.bob));
}

#[test]
fn without_a_trace_the_team_stays() {
    let team = Team::new();
    agent(&team, "env | put env; until_there end");
    let session = start(&mut claude_code(&team, &["--no-trace"]));
    wait_until("the stream", || log(&team).contains("broker stream up").then_some(()));
    go(&team, "end");
    let done = Finished::from(&session.wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let env = written(&team, "env");
    assert!(
        env.contains("AC7_RUNNER_SOCKET=") && !env.contains("HTTPS_PROXY=") && !env.contains("ac7-trace-ca")
    );
    assert!(!log(&team).contains("proxy up"));
}

#[test]
fn without_a_team_there_is_capture_alone() {
    let mock = Mock::start(mock::Options::default());
    let mut team = Team::new();
    team.kill_broker();
    agent(&team, &format!("env | put env; echo \"$*\" | put words; ls -A | put files\n{}", call(&mock)));
    let run = |flags: &[&str]| {
        let mut ac7 = team.home.ac7(["claude-code", "--skip-doctor", "--connect-to", "::127.0.0.1:"]);
        ac7.args(flags).arg("--ca-cert").arg(&mock.ca_pem).args(["--", "-p", "hi"]);
        finish(ac7.env("CLAUDE_PATH", team.home.join("home/claude")))
    };
    let done = run(&["--local"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(written(&team, "words"), "-p hi\n");
    assert!(
        !written(&team, "env").contains("AC7_RUNNER_SOCKET")
            && !written(&team, "files").contains(".mcp.json")
    );
    assert!(done.stderr.starts_with("ac7: 1 model call in 1 exchange"), "{}", done.stderr);
    assert_eq!(team.home.traces(&team.home.join("home/data/ac7/activity.db")).len(), 1);
    // The same into a file.
    let done = run(&["--output", "trace.jsonl", "--fail-on", "dropped,truncated"]);
    assert_eq!((done.code, written(&team, "words").as_str()), (Some(0), "-p hi\n"), "{}", done.stderr);
    assert_eq!(written(&team, "trace.jsonl").lines().count(), 1);
    assert_eq!(team.home.traces(&team.home.join("home/data/ac7/activity.db")).len(), 1);
}

/// A shell command that calls the mock's model.
fn call(mock: &Mock) -> String {
    format!(
        "curl -sS --noproxy '' -o /dev/null -d '{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}' https://api.anthropic.com:{}/v1/messages",
        mock.port
    )
}

#[test]
fn without_what_it_needs_nothing_begins() {
    let team = Team::new();
    let nobody = FreePort::take();
    agent(&team, "touch began");
    let none = team.home.join("home/none");
    let refused = format!("http://127.0.0.1:{}", nobody.number);
    let hint = "`ac7 serve` in another terminal, or `--url`/`$AC7_URL`";
    for (flags, claude, token, code, want) in [
        (
            &["--url", &team.url][..],
            none.to_str().unwrap(),
            Some(&team.bob),
            127,
            "ac7 claude-code: failed to locate claude binary: $CLAUDE_PATH is ".to_string(),
        ),
        (
            &["--url", &refused],
            "",
            Some(&team.bob),
            1,
            format!(
                "ac7 claude-code: briefing failed against {refused}: ECONNREFUSED [no-broker]\n  fix: {hint}"
            ),
        ),
        (
            &["--url", &team.url],
            "",
            None,
            1,
            "ac7 claude-code: --token or AC7_TOKEN is required [no-token]\n".to_string(),
        ),
        (
            &["--url", &team.url],
            "",
            Some(&"ac7_wrong".to_string()),
            1,
            format!(
                "ac7 claude-code: briefing failed against {}: the broker refused the token (401)",
                team.url
            ),
        ),
        (
            &["--model", "opus"],
            "",
            None,
            2,
            "ac7 claude-code: unknown option: --model\n  fix: options of the ".into(),
        ),
    ] {
        let mut ac7 = team.home.ac7(["claude-code"]);
        ac7.args(flags).envs(token.map(|token| ("AC7_TOKEN", token)));
        let usual = team.home.join("home/claude");
        ac7.env("CLAUDE_PATH", if claude.is_empty() { usual.to_str().unwrap() } else { claude });
        let done = finish(&mut ac7);
        assert_eq!(done.code, Some(code), "{flags:?}: {}", done.stderr);
        assert!(done.stderr.starts_with(&want), "{flags:?}: {}", done.stderr);
        assert_eq!(left_behind(&team), [""; 0]);
        assert!(!team.home.join("home/began").exists() && !team.home.join("home/.mcp.json").exists());
    }
}

#[test]
fn the_team_sees_calls_objectives_and_when_the_model_is_at_work() {
    let (mock, stuck) = (
        Mock::start(mock::Options::default()),
        Mock::start(mock::Options { fault: mock::Fault::NoAnswer, ..mock::Options::default() }),
    );
    let team = Team::new();
    let roots = team.home.join("roots.pem");
    fs::write(
        &roots,
        fs::read_to_string(&mock.ca_pem).unwrap() + &fs::read_to_string(&stuck.ca_pem).unwrap(),
    )
    .unwrap();
    let objective = |title: &str| {
        let body = json!({"title": title, "outcome": "it works", "assignee": "bob"});
        ask(&team, &team.ann, "POST", "/objectives", &body)["id"].as_str().unwrap().to_string()
    };
    let first = objective("before");
    agent(
        &team,
        &format!(
            "{}\n{} & echo began | put calling; until_there answered; kill $!; until_there end",
            call(&mock),
            call(&stuck)
        ),
    );
    let mut ac7 = claude_code(&team, &["--connect-to", "::127.0.0.1:"]);
    let session = start(ac7.env("AC7_CA_CERT", &roots));
    let busy = || {
        let roster = ask(&team, &team.ann, "GET", "/roster", &Value::Null);
        let bob = roster["connected"].as_array().unwrap().iter().find(|p| p["name"] == "bob").cloned();
        bob.is_some_and(|bob| bob["busy"] == true)
    };
    written(&team, "calling");
    wait_until("bob to be busy", || busy().then_some(()));
    let counts = |want: [u64; 5]| {
        wait_until(&format!("bob to count {want:?}"), || {
            let agents = ask(&team, &team.ann, "GET", "/agents", &Value::Null);
            let bob = agents.as_array().unwrap().iter().find(|row| row["id"] == "bob").unwrap().clone();
            let names = ["active", "total", "errors", "queued", "dropped"];
            (bob["tier"] == "claude-code" && names.map(|name| bob[name].as_u64().unwrap()) == want)
                .then_some(())
        });
    };
    counts([1, 2, 0, 0, 0]);
    let second = objective("during");
    let events = |kind: &str| {
        let path = format!("/members/bob/activity?kind={kind}&typed=all");
        let rows = ask(&team, &team.ann, "GET", &path, &Value::Null)["activity"].as_array().cloned().unwrap();
        rows.into_iter().map(|row| row["event"].clone()).collect::<Vec<_>>()
    };
    let told = |kind: &str, id: &str| events(kind).into_iter().find(|event| event["objectiveId"] == *id);
    wait_until("the second to be open", || told("objective_open", &second));
    ask(&team, &team.bob, "POST", &format!("/objectives/{first}/complete"), &json!({"result": "done"}));
    let closed = wait_until("the first to be closed", || told("objective_close", &first));
    assert_eq!(closed["result"], "done");
    go(&team, "answered");
    wait_until("bob to be at rest", || (!busy()).then_some(()));
    // The call that was broken off is an error, and what waited to be sent has been.
    counts([0, 2, 1, 0, 0]);
    go(&team, "end");
    let done = Finished::from(&session.wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(told("objective_close", &second).unwrap()["result"], "runner_shutdown");
    let opened: Vec<Value> = events("objective_open").iter().map(|e| e["objectiveId"].clone()).collect();
    assert_eq!(opened, [json!(second), json!(first)], "each once");
    let calls = events("llm_exchange");
    assert_eq!(calls.iter().filter(|call| call["entry"]["request"]["model"] == "m").count(), 2, "{calls:?}");
    assert!(calls.iter().all(|call| call["entry"]["host"] == "api.anthropic.com"));
    assert!(done.stderr.contains(&format!("ac7: sent to {}", team.url)), "{}", done.stderr);
}

#[test]
fn messages_reach_the_agent_once() {
    let team = Team::new();
    let ac7 = env!("CARGO_BIN_EXE_ac7");
    agent(
        &team,
        &format!(
            "hook() {{ echo '{{}}' | '{ac7}' hook \"$1\"; }}\n\
             echo began | put began; until [ -s prompt ]; do hook UserPromptSubmit | put prompt; done\n\
             hook UserPromptSubmit | put again; hook Stop | put quiet\n\
             echo next | put next; until [ -s stop ]; do hook Stop | put stop; done"
        ),
    );
    let session = start(&mut claude_code(&team, &[]));
    written(&team, "began");
    wait_until("the stream", || log(&team).contains("broker stream up").then_some(()));
    let push = |token: &str, body: Value| ask(&team, token, "POST", "/push", &body);
    push(&team.bob, json!({"body": "an echo", "level": "critical"}));
    push(&team.ann, json!({"body": "for all & sundry", "title": "T"}));
    written(&team, "next");
    let prompt = written(&team, "prompt");
    assert!(
        prompt.contains("<channel kind=\"primary\" from=\"ann\" msg_id=\"")
            && prompt.contains(">for all & sundry</channel>")
    );
    assert!(!prompt.contains("an echo"), "{prompt}");
    assert_eq!((written(&team, "again"), written(&team, "quiet")), (String::new(), String::new()));
    push(&team.ann, json!({"to": "bob", "body": "for you"}));
    let done = Finished::from(&session.wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let stop: Value = serde_json::from_str(&written(&team, "stop")).unwrap();
    assert_eq!(stop["decision"], "block");
    assert!(
        stop["reason"].as_str().unwrap().contains("kind=\"dm\"")
            && stop["reason"].as_str().unwrap().contains("for you")
    );
}

#[test]
fn a_revoked_token_disturbs_nobody_and_is_told_at_the_end() {
    let team = Team::new();
    agent(&team, "echo began | put began; until_there end; exit 4");
    let session = start(&mut claude_code(&team, &[]));
    written(&team, "began");
    wait_until("the stream", || log(&team).contains("broker stream up").then_some(()));
    ask(&team, &team.ann, "POST", "/members/bob/rotate-token", &Value::Null);
    wait_until("the refusal", || log(&team).contains("broker stream refused").then_some(()));
    go(&team, "end");
    let done = Finished::from(&session.wait_with_output().unwrap());
    assert_eq!(done.code, Some(4), "{}", done.stderr);
    assert!(
        done.stderr.contains("ac7: no more messages: the broker refused the token (401)"),
        "{}",
        done.stderr
    );
}
