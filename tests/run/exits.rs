//! Exit codes, standard streams, the child's environment, and what is said at the end.
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::mock::{Mock, Options};
use support::run::Finished;

use crate::lab::{Lab, MODEL, call, finish, url};

#[test]
fn the_exit_code_is_the_commands_own_or_a_shells() {
    let lab = Lab::new(&[]);
    let plain = lab.home.join("plain");
    fs::write(&plain, "no program").unwrap();
    let (plain, folder) = (plain.to_str().unwrap(), lab.home.tmp());
    for (command, want) in [
        (&["true"][..], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "exit 255"], 255),
        (&["no-such-program-x"], 127),
        (&["/no/such/program"], 127),
        (&[plain], 126),
        (&[folder.to_str().unwrap()], 126),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -KILL $$"], 137),
    ] {
        for flags in [&["--quiet"][..], &["--quiet", "--no-trace"]] {
            let done = lab.run(flags, command);
            assert_eq!(done.code, Some(want), "{flags:?} {command:?}: {}", done.stderr);
            assert_eq!(done.stderr.is_empty(), want != 126 && want != 127, "{command:?}: {}", done.stderr);
        }
    }
    let done = lab.run(&[], &["no-such-program-x"]);
    assert!(
        done.stderr.starts_with("ac7 run: command not found: no-such-program-x: "),
        "one sentence: {}",
        done.stderr
    );
}

#[test]
fn the_exit_code_stays_when_nobody_hears_what_is_said() {
    let home = support::ac7!();
    for (args, want) in [
        (&["run", "--", "sh", "-c", "exit 7"][..], 7),
        (&["run", "--json", "--", "true"], 0),
        (&["run", "--", "no-such-program-x"], 127),
        (&["run"], 2),
        (&["nosuchverb"], 2),
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = home.ac7(args).stderr(full).status().unwrap();
        assert_eq!(status.code(), Some(want), "{args:?}");
    }
}

#[test]
fn a_command_line_without_sense_is_2() {
    let home = support::ac7!();
    for (args, want) in [
        (&["run"][..], "ac7 run: no command given"),
        (&["run", "--"], "ac7 run: no command given"),
        (&["run", "--no-such-option", "--", "true"], "ac7 run: unknown option: --no-such-option"),
        (
            &["run", "--scop", "all", "--", "true"],
            "ac7 run: unknown option: --scop\n  fix: did you mean --scope?",
        ),
        (&["run", "--db"], "ac7 run: --db needs a value: PATH"),
        (&["run", "--scope", "some", "--", "true"], "ac7 run: bad --scope: some"),
        (&["nosuchverb"], "ac7: unknown verb: nosuchverb"),
    ] {
        let done = home.run(args);
        assert_eq!(done.code, Some(2), "{args:?}");
        assert!(done.stderr.starts_with(want), "{args:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{args:?}");
    }
}

#[test]
fn a_file_of_roots_that_cannot_be_read_keeps_the_command_from_starting() {
    let home = support::ac7!();
    let done = home.run(["run", "--ca-cert", "/no/such/file.pem", "--", "sh", "-c", "echo started"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    assert!(
        done.stderr.starts_with("ac7 run: ") && done.stderr.contains("/no/such/file.pem"),
        "{}",
        done.stderr
    );
    assert_eq!(home.left_behind(), [""; 0]);
}

#[test]
fn the_command_keeps_standard_input_output_and_error() {
    let lab = Lab::new(&[]);
    let data: Vec<u8> = (0..1_000_003_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let mut command = lab.command(&["--quiet"], &["sh", "-c", "tee /dev/stderr"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&data).unwrap();
            drop(stdin);
        });
        child.wait_with_output().unwrap()
    });
    assert!(output.stdout == data, "standard output has all {} bytes", data.len());
    assert!(output.stderr == data, "standard error has them and nothing else");
    assert_eq!(output.status.code(), Some(0));
}

fn environment(done: &Finished) -> BTreeMap<String, String> {
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let pairs = done.stdout.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn the_command_sees_the_environment_of_the_design() {
    let lab = Lab::new(&[]);
    let mut env = environment(&finish(lab.command(&[], &["env"]).env("KEPT", "as it is")));
    let proxy = env["HTTPS_PROXY"].clone();
    assert!(proxy.strip_prefix("http://127.0.0.1:").is_some_and(|p| p.parse::<u16>().is_ok()), "{proxy}");
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"] {
        assert_eq!(env.remove(name).as_ref(), Some(&proxy), "{name}");
    }
    for name in ["NO_PROXY", "no_proxy"] {
        assert_eq!(env.remove(name).as_deref(), Some("localhost,127.0.0.1,::1"), "{name}");
    }
    assert_eq!(env.remove("NODE_USE_ENV_PROXY").as_deref(), Some("1"));
    let tmp = lab.home.tmp();
    for (names, prefix) in [
        (&["NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE", "DENO_CERT"][..], "ac7-trace-ca-"),
        (
            &[
                "SSL_CERT_FILE",
                "REQUESTS_CA_BUNDLE",
                "CURL_CA_BUNDLE",
                "GIT_SSL_CAINFO",
                "PIP_CERT",
                "npm_config_cafile",
                "AWS_CA_BUNDLE",
                "CARGO_HTTP_CAINFO",
            ],
            "ac7-trace-bundle-",
        ),
    ] {
        let path = env[names[0]].clone();
        assert!(path.starts_with(tmp.join(prefix).to_str().unwrap()) && path.ends_with(".pem"), "{path}");
        for name in names {
            assert_eq!(env.remove(*name).as_ref(), Some(&path), "{name}");
        }
    }
    // Nothing else is added, nothing is taken away. (A shell or the kernel may add `_`.)
    assert_eq!(env.remove("KEPT").as_deref(), Some("as it is"));
    let mut plain = environment(&finish(lab.home.ac7(["run", "--no-trace", "--", "env"]).env("X", "1")));
    assert_eq!(plain.remove("X").as_deref(), Some("1"));
    assert_eq!(env, plain);
}

#[test]
fn the_callers_exceptions_and_certificates_are_kept() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[]);
    let own = lab.home.join("own.pem");
    fs::copy(&mock.ca_pem, &own).unwrap();
    let mut command = lab.command(&[], &["sh", "-c", "env; cat \"$NODE_EXTRA_CA_CERTS\""]);
    command.env("NO_PROXY", "git.corp,10.0.0.0/8").env("NODE_EXTRA_CA_CERTS", &own);
    let done = finish(&mut command);
    let env = environment(&done);
    assert_eq!(env["NO_PROXY"], "localhost,127.0.0.1,::1,git.corp,10.0.0.0/8");
    assert_eq!(env["no_proxy"], env["NO_PROXY"]);
    // The variable adds to what Node trusts, hence the caller's roots must be in what it names now.
    let body = |pem: &str| pem.lines().filter(|l| !l.starts_with("-----")).collect::<String>();
    let seen = body(&done.stdout);
    assert!(seen.contains(&body(&fs::read_to_string(&own).unwrap())), "the caller's own roots");
    assert_eq!(env["NODE_EXTRA_CA_CERTS"], env["SSL_CERT_FILE"]);
    // And ac7 itself trusts them too: the mock is reached without --ca-cert.
    let mut command =
        lab.home.ac7(["run", "--connect-to", "::127.0.0.1:", "--", "curl", "-sS", "-o", "/dev/null"]);
    command.arg(url(MODEL, &mock, "/v1/models")).env("NODE_EXTRA_CA_CERTS", &own);
    let done = finish(&mut command);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn without_trace_nothing_is_changed_and_no_file_made() {
    let lab = Lab::new(&[]);
    let mut command = lab.home.ac7(["run", "--no-trace", "--json", "--", "sh", "-c", "env; exit 3"]);
    command.env("HTTPS_PROXY", "http://corp:3128").env("NO_PROXY", "a,b").env("SSL_CERT_FILE", "/own.pem");
    let want: BTreeMap<String, String> = command
        .get_envs()
        .map(|(n, v)| (n.to_string_lossy().into_owned(), v.unwrap().to_string_lossy().into_owned()))
        .collect();
    let done = finish(&mut command);
    assert_eq!(done.code, Some(3));
    let mut got = environment(&Finished { code: Some(0), ..done });
    // What the shell adds by itself.
    got.retain(|name, _| {
        want.contains_key(name) || !["PWD", "OLDPWD", "SHLVL", "_"].contains(&name.as_str())
    });
    assert_eq!(got, want);
    assert_eq!(lab.home.left_behind(), [""; 0]);
    let made: Vec<_> = fs::read_dir(lab.home.join("home")).unwrap().flatten().map(|e| e.path()).collect();
    assert!(made.is_empty(), "{made:?}");
}

#[test]
fn the_end_says_what_was_seen_and_where_it_is() {
    let mock = Mock::start(Options::default());
    let (url, body) = (url(MODEL, &mock, "/v1/messages"), call(true));
    let args = ["-o", "/dev/null", "-H", "content-type: application/json", "-d", &body, &url];
    let lab = Lab::new(&[&mock]);
    let said = lab.curl(&[], &args).stderr;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    let start = "ac7: 1 model call in 1 exchange, 270 in (37 % cached), 42 out, ";
    assert!(lines[0].starts_with(start), "{said}");
    assert_eq!(lines[1], "ac7: stored in ~/data/ac7/activity.db  (ac7 traces)");
    assert_eq!(fs::metadata(lab.db()).unwrap().permissions().mode() & 0o777, 0o600);

    assert_eq!(lab.curl(&["--quiet"], &args).stderr, "");

    let done = lab.curl(&["--json"], &args);
    let line: Value = serde_json::from_str(&done.stderr).expect("one line of JSON and nothing else");
    for (name, want) in [
        ("exitCode", 0),
        ("connections", 1),
        ("exchanges", 1),
        ("modelCalls", 1),
        ("inputTokens", 270),
        ("cachedTokens", 100),
        ("outputTokens", 42),
        ("errors", 0),
        ("truncated", 0),
        ("unparsed", 0),
        ("stored", 1),
        ("dropped", 0),
    ] {
        assert_eq!(line[name], want, "{name}: {line}");
    }
    assert!(line["durationMs"].as_u64().is_some_and(|ms| ms < 60_000), "{line}");
    assert_eq!((&line["droppedReason"], &line["tunnelled"]), (&Value::Null, &Value::Array(Vec::new())));
    assert_eq!(line["place"].as_str(), lab.db().to_str());
    let shown: Vec<Value> = lab.home.traces(&lab.db()).iter().map(|row| row["event"].clone()).collect();
    assert_eq!((shown.len(), shown), (3, lab.events()), "ac7 traces shows what was stored");
}

#[test]
fn a_run_without_a_model_call_names_the_likely_cause() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let (models, refused) = (url(MODEL, &mock, "/v1/models"), "https://api.anthropic.com:1/");
    let own = mock.ca_pem.to_str().unwrap();
    for (command, want) in [
        (&["true"][..], "the command opened no connection through the proxy; it may ignore HTTPS_PROXY"),
        (
            &["curl", "-sS", "--noproxy", "*", "-k", &models],
            "the command opened no connection through the proxy",
        ),
        (&["curl", "-sS", &models], "1 exchange, none of them to a model"),
        (
            &["curl", "-sS", "--cacert", own, &models],
            "the command does not accept our certificate for api.anthropic.com (UnknownCA)",
        ),
        (&["curl", "-sS", refused], "api.anthropic.com:1: cannot connect to 127.0.0.1:1: Connection refused"),
    ] {
        let said = lab.run(&[], command).stderr;
        let line = said.lines().find_map(|l| l.strip_prefix("ac7: no model call: ")).unwrap_or_default();
        assert!(line.starts_with(want), "{command:?}: {said}");
    }
}

#[test]
fn the_session_may_be_nested() {
    // What ac7 is for an agent it is for another ac7: the inner one goes through the outer one's proxy.
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let inner = env!("CARGO_BIN_EXE_ac7");
    let url = url(MODEL, &mock, "/v1/messages");
    let command = [inner, "run", "--db", "inner.db", "--", "curl", "-sS", "-o", "/dev/null"];
    let json = ["-H", "content-type: application/json", "-d", &call(false), &url];
    let done = lab.run(&[], &[&command[..], &json].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let outer = lab.entry();
    let inner = crate::lab::events(&lab.home.join("home/inner.db"));
    assert_eq!((outer["kind"].as_str(), inner.len()), (Some("anthropic_messages"), 1));
    assert_eq!(outer["response"], inner[0]["entry"]["response"]);
}

#[test]
fn help_and_version_need_no_session() {
    let home = support::ac7!();
    for args in [&["--help"][..], &["--version"], &["run", "--help"], &["run", "-h"], &["run", "--version"]] {
        let done = home.run(args);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{args:?}");
        assert!(!done.stdout.is_empty(), "{args:?}");
    }
    // A reader that goes away early is no failure.
    let piped = format!("{} run --help | true", env!("CARGO_BIN_EXE_ac7"));
    let output = Command::new("sh").args(["-c", &piped]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
