//! `ac7 service` before service managers that write down what they are asked.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ac7::identity::{SetupOptions, setup};
use ac7::sys::clock::now_ms;
use ac7::sys::random;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::run::FreePort;

use crate::rig::{Rig, wait_for};

/// A home directory, and a folder of programs that note their arguments.
struct Host {
    home: PathBuf,
}

impl Host {
    fn new() -> Host {
        let home = std::env::temp_dir().join(format!("ac7-service-{}", random::hex::<8>()));
        let host = Host { home };
        fs::create_dir_all(host.home.join("bin")).unwrap();
        for name in ["systemctl", "journalctl", "launchctl", "tail"] {
            host.program(name, "");
        }
        host
    }

    fn program(&self, name: &str, then: &str) {
        let path = self.home.join("bin").join(name);
        let noted = self.home.join("noted").display().to_string();
        // Another process writes it: a file that this one has open for writing when a test forks cannot be executed.
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        write!(shell.stdin.take().unwrap(), "#!/bin/sh\necho \"{name} $*\" >> '{noted}'\n{then}\n").unwrap();
        assert!(shell.wait().unwrap().success());
    }

    fn run(&self, words: &[&str], input: &str) -> Output {
        let path = format!("{}:{}", self.home.join("bin").display(), std::env::var("PATH").unwrap());
        let mut child = Command::new(env!("CARGO_BIN_EXE_ac7"))
            .arg("service")
            .args(words)
            .env("HOME", &self.home)
            .env("PATH", path)
            .env_remove("AC7_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// `ac7 logs` of this user.
    fn logs(&self, words: &[&str]) -> Command {
        let path = format!("{}:{}", self.home.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
        command.arg("logs").args(words).env("HOME", &self.home).env("PATH", path);
        command.env_remove("XDG_CACHE_HOME");
        command
    }

    /// What the programs were asked since the last time.
    fn noted(&self) -> Vec<String> {
        let path = self.home.join("noted");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_string).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// The events or texts of lines of a log in JSON, as far as they are whole.
fn said_in(lines: &[u8]) -> Vec<String> {
    let whole = lines.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    let said = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["event"].as_str().or(line["text"].as_str()).unwrap().to_string()
    };
    std::str::from_utf8(&lines[..whole]).unwrap().lines().map(said).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_user_s_service_is_installed_driven_and_removed() {
    let host = Host::new();
    let unit = host.home.join(".config/systemd/user/ac7.service");
    let dry = host.run(&["install", "--user", "--dry-run"], "");
    assert!(dry.status.success() && !unit.exists() && host.noted().is_empty(), "{}", said(&dry));
    let shown = String::from_utf8(dry.stdout).unwrap();
    assert!(shown.contains("[Service]") && shown.contains(env!("CARGO_BIN_EXE_ac7")), "{shown}");

    let out = host.run(&["install", "--user"], "");
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("\n+ systemctl --user enable ac7.service\n"), "{}", said(&out));
    assert_eq!(host.noted(), ["systemctl --user daemon-reload", "systemctl --user enable ac7.service"]);
    assert!(shown.contains(&fs::read_to_string(&unit).unwrap()));
    assert_eq!(fs::metadata(&unit).unwrap().permissions().mode() & 0o777, 0o644);

    for action in ["start", "stop", "reload"] {
        assert!(host.run(&[action, "--user"], "").status.success());
        assert_eq!(host.noted(), [format!("systemctl --user {action} ac7.service")]);
    }
    host.run(&["logs", "--user", "--lines", "5", "--follow"], "");
    assert_eq!(
        host.noted(),
        ["journalctl --user-unit ac7.service --no-pager --lines 5 --output cat --follow"]
    );
    host.program("systemctl", "exit 3");
    assert_eq!(host.run(&["status", "--user"], "").status.code(), Some(1));
    assert_eq!(host.noted(), ["systemctl --user status --no-pager ac7.service"]);
    let failed = host.run(&["install", "--user"], "");
    assert_eq!((failed.status.code(), host.noted().len()), (Some(1), 1), "it stops at what fails");

    host.program("systemctl", "");
    assert!(host.run(&["uninstall", "--user"], "").status.success());
    assert_eq!(
        host.noted(),
        [
            "systemctl --user disable --now ac7.socket",
            "systemctl --user disable --now ac7.service",
            "systemctl --user daemon-reload"
        ]
    );
    assert!(!unit.exists());
    assert_eq!(host.run(&["start", "--user", "--system"], "").status.code(), Some(2));
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_variable_is_in_a_private_file_and_nowhere_else() {
    let host = Host::new();
    let set = |name: &str, value: &str| host.run(&["set-env", "--user", name], value);
    let secret = "s3cret-value";
    let out = set("AC7_KEK", &format!("{secret}\n"));
    assert!(out.status.success() && said(&out).contains("AC7_KEK=<redacted>"), "{}", said(&out));
    assert!(!said(&out).contains(secret) && out.stdout.is_empty());
    assert!(set("OTHER", "x y").status.success());
    let file = host.home.join(".config/ac7/env");
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("AC7_KEK='{secret}'\nOTHER='x y'\n"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let drop_in = fs::read_to_string(host.home.join(".config/systemd/user/ac7.service.d/env.conf")).unwrap();
    assert_eq!(drop_in, format!("[Service]\nEnvironmentFile=-{}\n", file.display()));
    assert!(!host.noted().join("\n").contains(secret));
    let dry = host.run(&["set-env", "--user", "--dry-run", "A"], secret);
    assert!(
        dry.status.success()
            && !said(&dry).contains(secret)
            && !String::from_utf8_lossy(&dry.stdout).contains(secret)
    );
    for (name, value) in [("1A", "x"), ("A=B", "x"), ("A", ""), ("A", "two\nlines"), ("A", "it's")] {
        let out = set(name, value);
        assert_eq!(out.status.code(), Some(2), "{name} {value}: {}", said(&out));
    }
    assert!(!fs::read_to_string(&file).unwrap().contains("A="), "nothing of that was kept");
}

#[cfg(target_os = "linux")]
#[test]
fn a_restart_says_what_it_costs_and_waits_for_the_broker() {
    let rig = Rig::new();
    let host = Host::new();
    let url = format!("http://{}", rig.address());
    let words = |more: &'static str| ["restart", "--user", "--url", url.as_str(), more].map(str::to_string);
    let run = |more| host.run(&words(more).each_ref().map(String::as_str), "");
    let refused = host.run(&["restart", "--user", "--url", &url], "");
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(said(&refused).contains("--yes") && host.noted().is_empty());
    let dry = run("--dry-run");
    assert!(dry.status.success() && host.noted().is_empty(), "{}", said(&dry));
    assert!(said(&dry).contains("you may get no further reply on this connection"), "{}", said(&dry));
    // The one that answers afterwards is the same: as young as before, and no older.
    host.program("systemctl", "exit 1");
    assert_eq!(run("--yes").status.code(), Some(1));
    assert_eq!(host.noted(), ["systemctl --user restart ac7.service"]);

    // A manager that does start one.
    let ac7 = env!("CARGO_BIN_EXE_ac7");
    let (home, place) = (host.home.display().to_string(), FreePort::take());
    let port = place.number;
    let setup = ["setup", "--non-interactive", "--team", "T", "--member", "ann"];
    let made = Command::new(ac7).args(setup).current_dir(&host.home).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let serve = format!("'{ac7}' serve --port {port} >/dev/null 2>&1 & echo $! > pid");
    host.program("systemctl", &format!("cd '{home}'\n{serve}"));
    let url = format!("http://127.0.0.1:{port}");
    let out = host.run(&["restart", "--user", "--yes", "--url", &url], "");
    let pid: u32 = fs::read_to_string(host.home.join("pid")).unwrap().trim().parse().unwrap();
    assert!(Command::new("kill").arg(pid.to_string()).status().unwrap().success());
    assert_eq!(String::from_utf8_lossy(&out.stdout), "daemon up\n", "{}", said(&out));
    assert!(said(&out).contains("the broker does not answer now"), "{}", said(&out));
    wait_for("the broker to end", || !Path::new(&format!("/proc/{pid}/exe")).exists());
}

#[test]
fn the_status_says_how_the_broker_is_and_what_members_do() {
    let mut rig = Rig::new();
    let call = json!({"kind": "anthropic_messages", "startedAt": 1, "endedAt": 2,
        "request": {"model": "m", "maxTokens": 1, "temperature": null, "system": "", "messages": [], "tools": []},
        "response": {"stopReason": null, "stopSequence": null, "status": 500, "messages": [],
            "usage": {"inputTokens": 1, "outputTokens": 1, "cacheCreationInputTokens": 0, "cacheReadInputTokens": 0}}});
    let event = |ts| json!({"kind": "llm_exchange", "ts": ts, "duration": 1, "entry": call});
    let now = now_ms();
    let body = json!({"events": [event(now), event(now - 1000), event(now - 100_000_000)]});
    assert_eq!(rig.ask("POST", "/members/bob/activity", &rig.bob, &body).status, 201);
    let busy = json!({"busy": true, "active": 3, "total": 5, "queued": 4, "dropped": 1});
    assert_eq!(rig.ask("POST", "/presence/busy", &rig.bob, &busy).status, 204);

    let url = format!("http://{}", rig.address());
    let status = |more: &[&str], token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
        command.args(["status", "--url", &url]).args(more).env("HOME", &rig.folder).env("NO_COLOR", "1");
        command.env_remove("AC7_TOKEN");
        if !token.is_empty() {
            command.env("AC7_TOKEN", token);
        }
        command.output().unwrap()
    };
    let all: Value = serde_json::from_slice(&status(&["--json"], &rig.ann).stdout).unwrap();
    assert_eq!(all["broker"]["status"], "ok");
    assert!(all["broker"]["databases"]["activity"].as_u64() > Some(4096), "{all}");
    let bob = all["members"].as_array().unwrap().iter().find(|member| member["name"] == "bob").unwrap();
    assert_eq!((&bob["busy"], &bob["total"], &bob["errors"]), (&json!(true), &json!(2), &json!(2)), "{all}");
    let counts = ["active", "queued", "dropped"].map(|name| bob[name].as_u64());
    assert_eq!(counts, [Some(3), Some(4), Some(1)], "{all}");
    let shown = String::from_utf8(status(&[], &rig.ann).stdout).unwrap();
    for words in [": ok, ac7 ", "databases ", "uploads waiting", "requests refused", "\nbob ", "busy"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let open = status(&[], "");
    let shown = String::from_utf8_lossy(&open.stdout).into_owned();
    assert!(
        open.status.success() && shown.contains("a token shows them") && !shown.contains("bob"),
        "{shown}"
    );
    rig.stop();
    let mut down = Command::new(env!("CARGO_BIN_EXE_ac7"));
    let down = down.args(["status", "--url", &url]).env("HOME", &rig.folder).output().unwrap();
    assert_eq!(down.status.code(), Some(1));
    assert!(said(&down).contains("[no-broker]"), "{}", said(&down));
}

#[cfg(target_os = "linux")]
#[test]
fn logs_of_sessions_and_of_the_service_come_in_order() {
    let host = Host::new();
    let cache = host.home.join(".cache/agentc7");
    fs::create_dir_all(&cache).unwrap();
    let write = |name: &str, lines: &[(u64, &str)]| {
        let line =
            |(ts, event): &(u64, &str)| json!({"ts": ts, "event": event, "member": "ann"}).to_string() + "\n";
        fs::write(cache.join(name), lines.iter().map(line).collect::<String>()).unwrap();
    };
    let now = now_ms();
    write("session-run-7.log", &[(now - 5_000, "first"), (now - 2_000, "fourth \u{1b}[31m")]);
    let of_dan =
        "{\"ts\":1,\"event\":\"child started\"}\n{\"ts\":2,\"event\":\"briefing\",\"member\":\"dan\"}\n";
    fs::write(cache.join("session-codex-9.log"), of_dan).unwrap();
    write("session-claude-code-8.log", &[(now - 4_000, "second"), (now - 7_200_000, "long ago")]);
    let third = json!({"ts": now - 3_000, "event": "third", "member": "bob"}).to_string();
    let record = |ms: u64, said: &str| json!({"__REALTIME_TIMESTAMP": format!("{ms}000"), "MESSAGE": said});
    let (started, third) = (record(now - 3_500, "Started ac7 broker."), record(now, &third));
    host.program("journalctl", &format!("echo '{started}'; echo '{third}'"));
    let logs = |words: &[&str]| host.logs(words).output().unwrap();
    let events = |out: &Output| said_in(&out.stdout);
    let all = logs(&["--json", "--since", "1h"]);
    assert_eq!(events(&all), ["first", "second", "Started ac7 broker.", "third", "fourth \u{1b}[31m"]);
    assert!(
        said(&all).contains("sessions: ") && said(&all).contains("broker: journalctl "),
        "{}",
        said(&all)
    );
    assert_eq!(events(&logs(&["--json"])).len(), 8);
    assert_eq!(events(&logs(&["--json", "--member", "dan"])), ["child started", "briefing"]);
    assert_eq!(events(&logs(&["--json", "--lines", "1"])), ["fourth \u{1b}[31m"]);
    assert_eq!(events(&logs(&["--json", "--member", "bob"])), ["third"]);
    assert_eq!(events(&logs(&["--json", "--component", "claude-code"])), ["long ago", "second"]);
    assert_eq!(events(&logs(&["--json", "--component", "broker"])), ["Started ac7 broker.", "third"]);
    let shown = String::from_utf8(logs(&["--component", "run"]).stdout).unwrap();
    assert!(shown.contains("run first member=ann\n") && !shown.contains('\u{1b}'), "{shown}");
    let shown = String::from_utf8(logs(&["--component", "broker"]).stdout).unwrap();
    assert!(shown.contains(" broker Started ac7 broker.\n"), "{shown}");
    assert_eq!(logs(&["--since", "soon"]).status.code(), Some(2));

    // Where there are no services, there are no lines of one.
    fs::remove_file(host.home.join("bin/journalctl")).unwrap();
    let alone = |words: &[&str]| host.logs(words).env("PATH", host.home.join("bin")).output().unwrap();
    let sessions = alone(&["--json"]);
    assert_eq!((sessions.status.code(), events(&sessions).len()), (Some(0), 6));
    assert_eq!(said(&sessions).lines().count(), 1, "{}", said(&sessions));
    let none = alone(&["--component", "broker"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
    assert!(
        said(&none).starts_with("ac7 logs: the service's log cannot be read: journalctl: "),
        "{}",
        said(&none)
    );
}

#[cfg(target_os = "linux")]
#[test]
fn sessions_and_the_service_are_followed_at_once() {
    let host = Host::new();
    let cache = host.home.join(".cache/agentc7");
    fs::create_dir_all(&cache).unwrap();
    let line = |event: &str| json!({"ts": now_ms(), "event": event}).to_string() + "\n";
    let session = cache.join("session-run-7.log");
    fs::write(&session, line("one")).unwrap();
    let record = |n: u64, said: &str| {
        let us = format!("{}000", now_ms());
        json!({"__CURSOR": format!("s={n}"), "__REALTIME_TIMESTAMP": us, "MESSAGE": said}).to_string()
    };
    let (more, pid) = (host.home.join("more"), host.home.join("pid"));
    let follow = format!(
        "case \"$*\" in *--follow*) echo $$ > '{}'; exec env tail -n +1 -f '{}';; esac; echo '{}'",
        pid.display(),
        more.display(),
        record(5, "two")
    );
    fs::remove_file(host.home.join("bin/tail")).unwrap();
    host.program("journalctl", &follow);
    fs::write(&more, "").unwrap();
    let out = host.home.join("out");
    let shown = || said_in(&fs::read(&out).unwrap());
    let mut command = host.logs(&["--json", "--follow"]);
    let command = command.stdout(fs::File::create(&out).unwrap()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("what was there", || shown() == ["one", "two"]);
    let add = |path: &Path, text: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    for (path, text, said) in [
        (&more, record(6, "Stopping ac7 broker.") + "\n", "Stopping ac7 broker."),
        (&session, line("three"), "three"),
        (&more, record(7, line("four").trim_end()) + "\n", "four"),
    ] {
        add(path, &text);
        wait_for(said, || shown().last().is_some_and(|last| last == said));
    }
    let asked = host.noted();
    assert!(asked[1].ends_with(" --follow --no-tail --after-cursor s=5"), "{asked:?}");

    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let journalctl = fs::read_to_string(&pid).unwrap();
    assert!(!Path::new("/proc").join(journalctl.trim()).exists(), "it follows on");
}

#[test]
fn a_socket_that_is_handed_over_outlives_the_broker() {
    let home = support::ac7!();
    setup(&SetupOptions {
        path: home.join("home/ac7.json"),
        team: "T".into(),
        directive: None,
        context: None,
        member: "ann".into(),
        title: None,
    })
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for round in 0..2 {
        // Who connects while no broker runs waits instead of being refused.
        let mut early = TcpStream::connect(address).unwrap();
        write!(early, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        // A port that is not to be had: it does not count.
        let mut serve = home.ac7(["serve", "--host", "192.0.2.1", "--port", "1"]);
        let handed = Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
        let mut serve = serve.stdin(handed).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next(), Some(format!("ac7 serve: listening on http://{address}")));
        let drain = std::thread::spawn(move || lines.for_each(drop));
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "round {round}: {answer}");
        kill_process(Pid::from_child(&serve), Signal::TERM).unwrap();
        assert_eq!(serve.wait().unwrap().code(), Some(0));
        drain.join().unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_with_a_socket_of_systemd_is_installed() {
    let host = Host::new();
    let units = host.home.join(".config/systemd/user");
    let (socket, drop_in) = (units.join("ac7.socket"), units.join("ac7.service.d/socket.conf"));
    let bad = host.run(&["install", "--user", "--listen", "8717"], "");
    assert_eq!((bad.status.code(), units.exists()), (Some(2), false), "{}", said(&bad));
    assert!(host.run(&["install", "--user", "--listen", "[::1]:8443"], "").status.success());
    assert!(fs::read_to_string(&socket).unwrap().contains("\nListenStream=[::1]:8443\n"));
    assert!(fs::read_to_string(&drop_in).unwrap().contains("\nStandardInput=socket\n"));
    let noted = host.noted();
    assert_eq!(noted.last().map(String::as_str), Some("systemctl --user enable ac7.socket"), "{noted:?}");
    assert!(host.run(&["uninstall", "--user"], "").status.success());
    assert!(!socket.exists() && !drop_in.exists());
}
