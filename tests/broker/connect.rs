//! `ac7 connect` and `ac7 enroll-requests`: the real program against the broker.
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::thread;

use ac7::broker::Limits;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::rig::{Rig, wait_for};

/// The program in an environment of its own, its home in the rig's folder.
fn ac7(rig: &Rig, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
    command.args(words).env_clear().env("XDG_CONFIG_HOME", rig.folder.join("home")).stdin(Stdio::null());
    command
}

fn url(rig: &Rig) -> String {
    format!("http://{}", rig.address())
}

/// `ac7 connect`, waiting for somebody to let it in.
struct Connecting {
    child: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
    code: String,
}

impl Connecting {
    fn start(rig: &Rig, words: &[&str]) -> Connecting {
        let mut command = ac7(rig, &["connect"]);
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut code) = (String::new(), None);
        while code.is_none() {
            let at = said.len();
            assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended: {said}");
            code = said[at..].split_once("?code=").map(|(_, code)| code.trim().to_string());
        }
        Connecting { child, stderr, said, code: code.unwrap() }
    }

    /// Exit status, standard output, and all that was said.
    fn end(mut self) -> (Option<i32>, String, String) {
        self.stderr.read_to_string(&mut self.said).unwrap();
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        (self.child.wait().unwrap().code(), out, self.said)
    }
}

/// `ac7 enroll-requests` as ann.
fn requests(rig: &Rig, words: &[&str]) -> Output {
    let mut command = ac7(rig, &["enroll-requests"]);
    command.args(words).args(["--url", &url(rig)]).env("AC7_TOKEN", &rig.ann).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_device_is_let_in_and_remembers() {
    let rig = Rig::new();
    let home = rig.folder.join("home/ac7");
    fs::create_dir_all(&home).unwrap();
    let other = json!({"url": "http://other", "token": "t", "savedAt": 1, "nick": "x"});
    let file = home.join("auth.json");
    fs::write(&file, json!({"schema": 1, "entries": [other], "more": true}).to_string()).unwrap();
    let url = url(&rig);
    // All at the same time: each waits five seconds before it asks for the first time.
    let saved = Connecting::start(&rig, &["--url", &url, "--label", "box \u{fc}"]);
    let printed = Connecting::start(&rig, &["--url", &url, "--no-write", "--quiet"]);
    let rejected = Connecting::start(&rig, &["--url", &url, "--label", "who"]);
    let broken_off = Connecting::start(&rig, &["--url", &url]);

    let listed = requests(&rig, &[]);
    assert!(listed.status.success(), "{listed:?}");
    let table = text(&listed.stdout);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("CODE") && lines.len() == 5, "{table}");
    assert!(lines[1].contains(&saved.code) && lines[1].contains("127.0.0.1"), "{table}");
    assert!(lines[1].contains("box \\xfc") && lines[1].contains("ac7/"), "{table}");
    let json: Vec<Value> = text(&requests(&rig, &["list", "--json"]).stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((json.len(), &json[0]["labelHint"]), (4, &json!("box \u{fc}")));

    let typed = saved.code.to_lowercase().replace('-', "");
    let approved = requests(&rig, &["approve", &typed, "--member", "bob"]);
    assert!(approved.status.success() && approved.stdout.is_empty(), "{approved:?}");
    assert!(text(&approved.stderr).contains("the device gets a token of bob, listed as box"), "{approved:?}");
    let words =
        ["approve", &printed.code, "--member", "dan", "--create", "--permission", "operator", "--json"];
    let approved: Value = serde_json::from_slice(&requests(&rig, &words).stdout).unwrap();
    assert_eq!(approved["member"]["name"], "dan");
    assert_eq!(approved["tokenInfo"]["origin"], "enroll");
    let reject = requests(&rig, &["reject", &rejected.code, "--reason", "not \u{202e}ours"]);
    assert!(reject.status.success(), "{reject:?}");
    let left = broken_off.code.clone();
    kill_process(Pid::from_child(&broken_off.child), Signal::INT).unwrap();
    let (code, out, said) = broken_off.end();
    assert_eq!((code, out.as_str()), (Some(130), ""), "{said}");
    assert!(said.ends_with("interrupted; there is no token\n"), "{said}");

    let (code, out, said) = saved.end();
    assert_eq!((code, out.as_str()), (Some(0), ""), "{said}");
    assert!(said.contains("ac7 enroll-requests approve "), "{said}");
    assert!(said.contains("this device is bob (engineer) of T; the token is in "), "{said}");
    let auth: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&auth["entries"][0], &auth["more"]), (&other, &json!(true)));
    let entry = &auth["entries"][1];
    assert_eq!(entry["url"], url.as_str());
    assert!(entry["savedAt"].is_u64() && entry.get("caCert").is_none(), "{auth}");
    let token = entry["token"].as_str().unwrap();
    assert!(!said.contains(token));
    assert_eq!(rig.call("GET", "/briefing", token, "").json()["name"], "bob");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1, "nothing is left beside it");

    let (code, out, said) = printed.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(rig.call("GET", "/briefing", out.trim(), "").json()["name"], "dan");
    assert_eq!((said.lines().count(), said.contains(out.trim())), (1, false), "{said}");

    let (code, out, said) = rejected.end();
    assert_eq!((code, out.as_str()), (Some(1), ""), "{said}");
    assert!(said.ends_with("ac7 connect: this device was rejected: not \\u{202e}ours\n"), "{said}");

    // The login is found by every other verb, and is good for nothing that bob may not do.
    let list = |words: &[&str]| ac7(&rig, &["enroll-requests"]).args(words).output().unwrap();
    let refused = list(&["--url", &url]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("requires the members.manage permission"), "{refused:?}");
    let nobody = list(&["--url", "http://127.0.0.1:1"]);
    assert!(text(&nobody.stderr).contains("fix: `ac7 connect` enrolls this device"), "{nobody:?}");
    assert!(requests(&rig, &["reject", &left]).status.success());
    let none = requests(&rig, &[]);
    assert!(none.stdout.is_empty() && text(&none.stderr).contains("no device asks"), "{none:?}");
}

#[test]
fn what_would_be_in_vain_is_not_begun() {
    let rig = Rig::new();
    let home = rig.folder.join("home/ac7");
    fs::create_dir_all(&home).unwrap();
    let asked = || rig.get("/enroll/pending").json()["enrollments"].as_array().unwrap().len();
    let url = url(&rig);
    for (what, file, words, want) in [
        ("a broken file", "{", &["--url", &url][..], "auth.json: is not JSON"),
        ("one of another time", r#"{"schema":2,"entries":[]}"#, &["--url", &url], "has a schema"),
        ("a label of two lines", "", &["--url", &url, "--label", "a\nb"], "bad --label"),
        ("nobody there", "", &["--url", "http://127.0.0.1:1"], "ECONNREFUSED"),
        ("no URL", "", &["--url", "box"], "does not begin with http://"),
    ] {
        fs::write(home.join("auth.json"), file).unwrap();
        if file.is_empty() {
            fs::remove_file(home.join("auth.json")).unwrap();
        }
        // Also where a token is at hand, which would make the file unimportant.
        let out = ac7(&rig, &["connect"]).args(words).env("AC7_TOKEN", "ac7_x").output().unwrap();
        assert!(!out.status.success() && out.stdout.is_empty(), "{what}: {out:?}");
        assert!(text(&out.stderr).contains(want), "{what}: {out:?}");
        assert_eq!(asked(), 0, "{what}");
    }
    let homeless = ac7(&rig, &["connect", "--url", &url])
        .env_remove("XDG_CONFIG_HOME")
        .env("HOME", "nowhere")
        .output()
        .unwrap();
    assert!(text(&homeless.stderr).contains("fix: --no-write"), "{homeless:?}");
    for _ in 0..10 {
        rig.call("POST", "/enroll", "", "{}");
    }
    let late = ac7(&rig, &["connect", "--url", &url]).output().unwrap();
    assert!(text(&late.stderr).contains("the broker answered 429: too many devices ask: wait "), "{late:?}");
}

#[test]
fn a_certificate_is_remembered_with_the_login() {
    let mut rig = Rig::with(Limits::default());
    rig.stop();
    rig.self_signed = true;
    rig.start();
    let url = format!("https://127.0.0.1:{}", rig.address().port());
    let pem = rig.folder.join("ac7.json.crt");
    // A relative path, from a folder that is not that of the next command.
    let ask = thread::scope(|scope| {
        let one = scope.spawn(|| {
            let mut command = ac7(&rig, &["connect", "--url", &url, "--ca-cert", "ac7.json.crt", "--quiet"]);
            command.current_dir(&rig.folder).output().unwrap()
        });
        let main = || rusqlite::Connection::open(rig.folder.join("ac7.db")).unwrap();
        let code = || main().query_row("SELECT user_code FROM enrolment", [], |row| row.get::<_, String>(0));
        wait_for("the device to ask", || code().is_ok());
        let mut command = ac7(&rig, &["enroll-requests", "approve", &code().unwrap(), "--member", "bob"]);
        command.args(["--url", &url, "--ca-cert"]).arg(&pem).env("AC7_TOKEN", &rig.ann);
        let approved = command.output().unwrap();
        assert!(approved.status.success(), "{approved:?}");
        one.join().unwrap()
    });
    assert!(ask.status.success(), "{ask:?}");
    let page = text(&ask.stderr);
    assert!(page.contains(&format!(" {url}/enroll?code=")), "{page}");
    let list = ac7(&rig, &["enroll-requests", "--url", &url]).output().unwrap();
    assert!(text(&list.stderr).contains("members.manage"), "found, trusted, known: {list:?}");
}
