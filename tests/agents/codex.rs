//! `ac7 codex` against a script that speaks as `codex app-server` does.
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use support::run::{Finished, json_lines, wait_until};

use crate::team::{Team, script};

/// Writes down what it hears, and answers. What else it does is said by FAKE.
const CODEX: &str = r#"
[ "$1" = --version ] && { echo 'codex-cli 0.171.0'; exit 0; }
[ "$1" = app-server ] || { printf '%s\n' "$@" > "$HOME/ran"; echo "$CODEX_HOME" > "$HOME/ran-in"; exit 7; }
shift; printf '%s\n' "$@" > "$HOME/arguments"; pwd > "$HOME/cwd"
cp "$CODEX_HOME/config.toml" "$HOME/seen-config"; env > "$HOME/env"; echo "$CODEX_HOME" > "$HOME/place"
sleep 600 & echo $! > "$HOME/grandchild"
echo $$ > "$HOME/pid"
case "$FAKE" in
exit3) echo 'the reason' >&2; exit 3;;
segv) kill -SEGV $$;;
renew) rm "$CODEX_HOME/auth.json"; echo '{"tokens":"new"}' > "$CODEX_HOME/auth.json";;
deaf) trap '' TERM INT HUP;;
esac
turn=0
while IFS= read -r line; do
  printf '%s\n' "$line" >> "$HOME/heard"
  id=${line#\{\"id\":}; id=${id%%,*}
  case "$line" in
  *'"method":"initialize"'*) echo "{\"id\":$id,\"result\":{}}"; echo 'no json';;
  *'"method":"thread/start"'*)
    [ "$FAKE" = refuses ] && { echo "{\"id\":$id,\"error\":{\"message\":\"no such model\"}}"; continue; }
    while [ "$FAKE" = slow ] && [ ! -e "$HOME/go" ]; do sleep 0.02; done
    echo "{\"id\":$id,\"result\":{\"thread\":{\"id\":\"t\",\"status\":{\"type\":\"idle\"}}}}";;
  *'"method":"turn/start"'*)
    turn=$((turn+1))
    echo "{\"id\":$id,\"result\":{\"turn\":{\"id\":\"u$turn\"}}}"
    echo '{"method":"thread/status/changed","params":{"threadId":"t","status":{"type":"active"}}}'
    echo "{\"method\":\"turn/started\",\"params\":{\"threadId\":\"t\",\"turn\":{\"id\":\"u$turn\"}}}"
    echo '{"id":"q1","method":"item/commandExecution/requestApproval","params":{"threadId":"t"}}'
    printf '%s\n' '{"method":"item/completed","params":{"threadId":"t","item":{"type":"agentMessage","text":"two\nlines"}}}';;
  *'"method":"turn/steer"'*'"expectedTurnId":"u1"'*)
    echo "{\"id\":$id,\"error\":{\"code\":-32600,\"message\":\"expected active turn id \`u1\` but found \`u9\`\"}}";;
  *'"method":"turn/steer"'*) echo "{\"id\":$id,\"result\":{\"turnId\":\"u9\"}}";;
  *'"method":"turn/interrupt"'*) echo "{\"id\":$id,\"result\":{}}";;
  esac
done
while [ "$FAKE" = deaf ]; do sleep 1; done
"#;

/// Bob's codex.
struct Lab {
    team: Team,
    codex: PathBuf,
}

impl Lab {
    fn new() -> Lab {
        let team = Team::new();
        let codex = script(&team.home, "codex", CODEX);
        let lab = Lab { team, codex };
        fs::create_dir(lab.path(".codex")).unwrap();
        fs::write(lab.path(".codex/auth.json"), "{\"tokens\":\"old\"}").unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.team.home.join("home").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn ac7(&self, fake: &str, args: &[&str]) -> Command {
        let mut command = self.team.home.ac7(["codex", "--url", &self.team.url]);
        command.args(args).env("AC7_TOKEN", &self.team.bob).env("CODEX_PATH", &self.codex).env("FAKE", fake);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A session whose codex has been spoken to.
    fn start(&self, fake: &str, args: &[&str]) -> Child {
        for name in ["heard", "pid", "grandchild"] {
            let _ = fs::remove_file(self.path(name));
        }
        let child = self.ac7(fake, args).spawn().unwrap();
        wait_until("codex to be spoken to", || {
            (fake == "exit3" || fake == "segv" || !self.read("heard").is_empty()).then_some(())
        });
        child
    }

    /// The same, and its stream of messages is there too.
    fn connected(&self, fake: &str, args: &[&str]) -> Child {
        let child = self.start(fake, args);
        let log = self.path(&format!("cache/agentc7/session-codex-{}.log", child.id()));
        wait_until("the stream of messages", || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("broker stream up")).then_some(())
        });
        child
    }

    fn push(&self, text: &str) {
        let args = ["push", "--url", &self.team.url, "--token", &self.team.ann, "--to", "bob", text];
        let done = self.team.home.run(args);
        assert_eq!(done.code, Some(0), "{done:?}");
    }

    /// What codex heard of a method: the parameters, in order.
    fn heard(&self, method: &str) -> Vec<Value> {
        let said = json_lines(&self.read("heard"));
        said.into_iter()
            .filter(|said| said["method"] == method)
            .map(|mut said| said["params"].take())
            .collect()
    }

    /// Wait until codex has heard so many of a method.
    fn hears(&self, method: &str, count: usize) -> Vec<Value> {
        wait_until(method, || Some(self.heard(method)).filter(|heard| heard.len() >= count))
    }

    /// Whatever a session makes is gone.
    fn nothing_is_left(&self, when: &str) {
        assert_eq!(self.team.home.left_behind(), Vec::<String>::new(), "{when}");
        let homes = fs::read_dir(self.path("cache/agentc7/codex")).unwrap().count();
        assert_eq!(homes, 0, "{when}: CODEX_HOME");
        for name in ["pid", "grandchild"] {
            if let Ok(pid) = self.read(name).trim().parse::<i32>() {
                let gone = || test_kill_process(Pid::from_raw(pid).unwrap()).is_err().then_some(());
                wait_until(&format!("{when}: the end of {name}"), gone);
            }
        }
    }
}

fn end(child: Child) -> Finished {
    Finished::from(&child.wait_with_output().unwrap())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn text(params: &Value) -> &str {
    params["input"][0]["text"].as_str().unwrap()
}

#[test]
fn messages_become_turns() {
    let lab = Lab::new();
    fs::write(lab.path(".codex/config.toml"), "model = \"mine\"\n[mcp_servers.ac7]\ncommand = \"old\"\n")
        .unwrap();
    fs::create_dir(lab.path("work")).unwrap();
    let child = lab.connected("slow", &["--cwd", "work", "--model", "gpt-x", "--", "-c", "a=1"]);
    lab.push("one < two");
    lab.push("three");
    let log = lab.path(&format!("cache/agentc7/session-codex-{}.log", child.id()));
    wait_until("both messages", || {
        (fs::read_to_string(&log).unwrap().matches("message came").count() == 2).then_some(())
    });
    assert!(lab.heard("turn/start").is_empty(), "there is no thread yet");
    fs::write(lab.path("go"), "").unwrap();

    let begun = lab.hears("turn/start", 1);
    let both: Vec<&str> = text(&begun[0]).lines().collect();
    assert!(both[0].starts_with("<channel kind=\"dm\" from=\"ann\" msg_id=\""), "{both:?}");
    assert!(both[0].ends_with(">one < two</channel>") && both[1].ends_with(">three</channel>"), "{both:?}");
    assert_eq!(both.len(), 2, "they go together");
    wait_until("the approval to be denied", || {
        let denial = json!({"id": "q1", "result": {"decision": "decline"}});
        json_lines(&lab.read("heard")).contains(&denial).then_some(())
    });
    // The turn is another one than codex said: it is tried once more with the right one.
    lab.push("four");
    let steered = lab.hears("turn/steer", 2);
    let turns: Vec<&Value> = steered.iter().map(|params| &params["expectedTurnId"]).collect();
    assert_eq!(turns, ["u1", "u9"]);
    assert_eq!(text(&steered[0]), text(&steered[1]));

    signal(&child, Signal::TERM);
    let done = end(child);
    assert_eq!(done.code, Some(128 + 15), "{done:?}");
    assert_eq!(lab.heard("turn/interrupt"), [json!({"threadId": "t", "turnId": "u9"})]);
    assert!(done.stderr.contains("ac7: codex: turn started\nac7: codex: two lines\n"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    lab.nothing_is_left("a session with turns");

    let thread = &lab.heard("thread/start")[0];
    let work = fs::canonicalize(lab.path("work")).unwrap();
    assert_eq!((&thread["cwd"], &thread["model"]), (&json!(work), &json!("gpt-x")));
    assert_eq!(
        (&thread["approvalPolicy"], &thread["sandbox"]),
        (&json!("never"), &json!("danger-full-access"))
    );
    assert!(thread["developerInstructions"].as_str().unwrap().contains("bob"), "{thread}");
    assert_eq!(lab.read("cwd").trim(), work.to_str().unwrap());
    assert_eq!(lab.read("arguments"), "-c\na=1\n");
    let config = lab.read("seen-config");
    assert!(config.starts_with("model = \"mine\"\n\n[mcp_servers.ac7]\ncommand = \""), "{config}");
    assert!(config.contains("AC7_RUNNER_SOCKET = \"") && !config.contains("old"), "{config}");
}

#[test]
fn its_environment_leads_to_us() {
    let lab = Lab::new();
    let child =
        lab.ac7("", &[]).env("NODE_EXTRA_CA_CERTS", "/mine.pem").env("NODE_USE_ENV_PROXY", "1").spawn();
    let child = child.unwrap();
    lab.hears("initialize", 1);
    let env = lab.read("env");
    let get = |name: &str| env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    assert!(get("HTTPS_PROXY").unwrap().starts_with("http://127.0.0.1:"));
    assert!(get("CODEX_CA_CERTIFICATE").unwrap().contains("ac7-trace-ca-"));
    assert!(get("SSL_CERT_FILE").unwrap().contains("ac7-trace-bundle-"));
    assert!(get("CODEX_HOME").unwrap().contains("/cache/agentc7/codex/ac7-codex-"));
    assert_eq!((get("NODE_EXTRA_CA_CERTS"), get("NODE_USE_ENV_PROXY")), (None, None));
    signal(&child, Signal::INT);
    assert_eq!(end(child).code, Some(128 + 2));
    let child = lab.start("", &["--no-trace"]);
    let env = lab.read("env");
    assert!(!env.contains("HTTPS_PROXY") && env.contains("CODEX_HOME"), "{env}");
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(128 + 15));
    lab.nothing_is_left("without a trace");
}

#[test]
fn however_it_ends_nothing_is_left() {
    let mut lab = Lab::new();
    let own = lab.start("exit3", &[]);
    let done = end(own);
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stderr.contains("ac7: codex ended by itself: exit status: 3\n"), "{}", done.stderr);
    assert!(done.stderr.contains("ac7: the last that codex wrote: the reason\n"), "{}", done.stderr);
    lab.nothing_is_left("codex ends");
    assert_eq!(end(lab.start("segv", &[])).code, Some(128 + 11));
    lab.nothing_is_left("codex crashes");
    for (number, sent) in [(2, Signal::INT), (15, Signal::TERM), (1, Signal::HUP), (3, Signal::QUIT)] {
        let child = lab.start("", &[]);
        signal(&child, sent);
        assert_eq!(end(child).code, Some(128 + number), "{sent:?}");
        lab.nothing_is_left(&format!("{sent:?}"));
    }
    let child = lab.start("deaf", &[]);
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(128 + 15));
    lab.nothing_is_left("a codex that does not want to end");
    let child = lab.start("deaf", &[]);
    signal(&child, Signal::TERM);
    wait_until("the first signal to be heard", || {
        let log = lab.path(&format!("cache/agentc7/session-codex-{}.log", child.id()));
        fs::read_to_string(log).is_ok_and(|log| log.contains("child asked to end")).then_some(())
    });
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(128 + 15));
    lab.nothing_is_left("two signals");
    let refused = end(lab.start("refuses", &[]));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("ac7: codex refused to start: no such model\n"), "{}", refused.stderr);
    lab.nothing_is_left("codex refuses");

    // A kill -9, while codex has renewed its login: the next start puts it right.
    let mut child = lab.start("renew", &[]);
    wait_until("the renewed login", || {
        let renewed = PathBuf::from(lab.read("place").trim()).join("auth.json");
        fs::read_to_string(renewed).is_ok_and(|text| text.contains("new")).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!lab.team.home.left_behind().is_empty());
    for name in ["pid", "grandchild"] {
        // Nobody is left who could end them. codex itself has seen the end of its input.
        let _ =
            lab.read(name).trim().parse().map(|pid| kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL));
    }
    assert_eq!(end(lab.start("exit3", &[])).code, Some(3));
    lab.nothing_is_left("kill -9 and the next start");
    assert_eq!(lab.read(".codex/auth.json"), "{\"tokens\":\"new\"}\n");

    let child = lab.connected("", &[]);
    lab.team.kill_broker();
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(128 + 15));
    lab.nothing_is_left("the broker is gone");
}

#[test]
fn a_renewed_login_becomes_the_callers() {
    let lab = Lab::new();
    let child = lab.start("renew", &[]);
    signal(&child, Signal::TERM);
    end(child);
    assert_eq!(lab.read(".codex/auth.json"), "{\"tokens\":\"new\"}\n");
    lab.nothing_is_left("a renewed login");
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let mut lab = Lab::new();
    let said = |lab: &Lab, args: &[&str]| {
        let done = Finished::from(&lab.ac7("", args).output().unwrap());
        (done.code, done.stderr)
    };
    let (code, stderr) = said(&lab, &["--cwd", "nowhere"]);
    assert_eq!(code, Some(1));
    assert!(stderr.starts_with("ac7 codex: cannot work in nowhere: "), "{stderr}");
    fs::write(lab.path(".codex/config.toml"), "mcp_servers = {}\n").unwrap();
    let (code, stderr) = said(&lab, &[]);
    assert!(code == Some(1) && stderr.contains("config.toml: cannot add a server"), "{stderr}");
    fs::remove_dir_all(lab.path(".codex")).unwrap();
    let login = "ac7 codex: no codex auth.json found in ~/.codex [no-login]\n  fix: codex login, or set OPENAI_API_KEY\n";
    assert_eq!(said(&lab, &[]), (Some(1), login.to_string()));
    let none = Finished::from(&lab.ac7("", &[]).env("CODEX_PATH", "/nowhere").output().unwrap());
    assert_eq!(none.code, Some(127));
    assert!(none.stderr.starts_with("ac7 codex: failed to locate codex binary"), "{}", none.stderr);
    assert_eq!(lab.team.home.left_behind(), Vec::<String>::new());

    let doctor = Finished::from(&lab.ac7("", &["--doctor"]).output().unwrap());
    assert_eq!(doctor.code, Some(1));
    assert!(doctor.stdout.contains("[PASS] codex binary — ") && doctor.stdout.contains("member bob"));
    assert!(doctor.stdout.contains(
        "[FAIL] codex login — no codex auth.json found in ~/.codex [no-login]\n  fix: codex login"
    ));

    // A key does without a login.
    let child = lab.ac7("", &[]).env("OPENAI_API_KEY", "sk-x").spawn().unwrap();
    lab.hears("initialize", 1);
    signal(&child, Signal::TERM);
    assert_eq!(end(child).code, Some(128 + 15));
    lab.team.kill_broker();
    let gone = Finished::from(&lab.ac7("", &[]).env("OPENAI_API_KEY", "sk-x").output().unwrap());
    let want = format!("ac7 codex: briefing failed against {}: ECONNREFUSED [no-broker]\n", lab.team.url);
    assert!(gone.code == Some(1) && gone.stderr.starts_with(&want), "{}", gone.stderr);
    lab.nothing_is_left("no start");
}

#[test]
fn alone_it_is_the_users_own() {
    let lab = Lab::new();
    let args = ["codex", "--local", "--model", "m", "--", "exec", "hi there"];
    let done = Finished::from(&lab.team.home.ac7(args).env("CODEX_PATH", &lab.codex).output().unwrap());
    assert_eq!(done.code, Some(7), "{done:?}");
    assert_eq!(lab.read("ran"), "--model\nm\nexec\nhi there\n");
    assert_eq!(lab.read("ran-in"), "\n", "its directory is the usual one");
    assert_eq!(lab.team.home.left_behind(), Vec::<String>::new());
}
