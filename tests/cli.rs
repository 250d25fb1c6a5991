//! The command line as a user meets it: the program itself, its streams and its exit status.
#![cfg(test)]
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ac7::cli::VERBS;
use ac7::identity::{KekPlace, TeamFile, WebPush};
use ac7::store::activity::{Parser, Store, Upload};
use ac7::store::main::{Session, Store as Main, Subscription};
use serde_json::{Value, json};
use support::run::{Finished, FreePort, Home, json_lines, wait_until};
use support::totp::code;

/// ac7 in its home, with times in UTC.
fn ac7<S: AsRef<OsStr>>(home: &Home, args: &[S]) -> Command {
    let mut command = home.ac7(args);
    command.env("TZ", "UTC");
    command
}

fn run<S: AsRef<OsStr>>(home: &Home, args: &[S]) -> Finished {
    Finished::from(&ac7(home, args).output().unwrap())
}

/// A file in the directory in which ac7 runs.
fn file(home: &Home, name: &str) -> PathBuf {
    home.join("home").join(name)
}

/// The events of fixtures/views/rows.jsonl.
fn events() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/views/rows.jsonl");
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].to_string();
    fs::read_to_string(path).unwrap().lines().map(event).collect()
}

fn append(db: &Path, events: &[String]) {
    let batch = Parser::new().events(events.iter().map(String::as_str)).unwrap();
    let uploads = [Upload { member: "ann", batch: &batch, key: None }];
    Store::open(db).unwrap().append(&uploads, 1_795_300_000_000).unwrap();
}

fn objective(ts: u64) -> String {
    json!({"kind": "objective_open", "ts": ts, "objectiveId": format!("o{ts}")}).to_string()
}

#[test]
fn help_and_version_are_for_standard_output() {
    let home = support::ac7!();
    let overview = run::<&str>(&home, &[]);
    assert_eq!((overview.code, overview.stderr.as_str()), (Some(0), ""));
    assert!(overview.stdout.lines().count() <= 24, "{}", overview.stdout);
    assert_eq!(run(&home, &["--help"]).stdout, overview.stdout);
    for verb in VERBS {
        let first = verb.name.split(' ').next().unwrap();
        let mut listed = overview.stdout.split([' ', ',', '\n']);
        assert!(listed.any(|word| word == first), "{first}");
        let words: Vec<&str> = verb.name.split(' ').chain(["--help"]).collect();
        let help = run(&home, &words);
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{}", verb.name);
        assert!(help.stdout.starts_with(&format!("ac7 {}: ", verb.name)), "{}", help.stdout);
    }
    for option in ["--version", "-V", "-v"] {
        assert_eq!(run(&home, &[option]).stdout, format!("ac7 {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_makes_no_sense_is_one_line_with_a_way_out() {
    let home = support::ac7!();
    for (args, want) in [
        (&["nosuchverb"][..], "ac7: unknown verb: nosuchverb\n  fix: ac7 --help\n"),
        (&["trace"], "ac7: unknown verb: trace\n  fix: did you mean traces?\n"),
        (&["run"], "ac7 run: no command given\n  fix: ac7 run -- COMMAND [ARGUMENT ...]\n"),
        (
            &["run", "--no-such-option", "--", "true"],
            "ac7 run: unknown option: --no-such-option\n  fix: options of the command stand after --; ac7 run --help lists ours\n",
        ),
        (&["traces", "--jsn"], "ac7 traces: unknown option: --jsn\n  fix: did you mean --json?\n"),
        (&["help", "trances"], "ac7: unknown verb: trances\n  fix: did you mean traces?\n"),
        (&["traces", "show"], "ac7 traces show: ID is missing\n  fix: ac7 traces show ID\n"),
    ] {
        let ran = run(&home, args);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(2), "", want));
    }
}

#[test]
fn traces_are_listed_in_time_order() {
    let home = support::ac7!();
    let db = file(&home, "a.db");
    append(&db, &events());
    let traces = |args: &[&str]| {
        let ran = run(&home, &[&["traces", "--db", "a.db", "--json"], args].concat());
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}");
        json_lines(&ran.stdout)
    };
    let all = traces(&[]);
    assert_eq!(all.len(), 11);
    let times: Vec<u64> = all.iter().map(|row| row["event"]["ts"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let stored: Vec<Value> = events().iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    for row in &all {
        assert!(stored.contains(&row["event"]), "the same value as stored: {row}");
        assert_eq!(row["memberName"], "ann");
        assert_eq!(row["createdAt"], 1_795_300_000_000_u64);
        let names: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(names, ["id", "memberName", "event", "createdAt"]);
    }
    assert_eq!(traces(&["--limit", "3"]), all[8..], "the last ones");
    let count = |args: &[&str]| traces(args).len();
    assert_eq!(count(&["--kind", "llm_exchange"]), 5);
    assert_eq!(count(&["--kind", "objective_open", "--kind", "objective_close"]), 2);
    assert_eq!(count(&["--model", "claude-*"]), 3);
    assert_eq!(count(&["--session", "9f3c"]), 2);
    assert_eq!(count(&["--session", "last"]), 2);
    assert_eq!(count(&["--grep", "NAME THIS"]), 1);
    assert_eq!(count(&["--since", "2026-11-22", "--until", "2026-11-23T00:00Z"]), 1);
    assert_eq!(count(&["--errors", "--kind", "llm_exchange"]), 2);
    let raw = run(&home, &["traces", "--db", "a.db", "--json"]).stdout;
    assert!(!raw.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{raw:?}");
}

#[test]
fn the_table_and_a_single_call_are_text() {
    let home = support::ac7!();
    append(&file(&home, "a.db"), &events());
    let table = run(&home, &["traces", "--db", "a.db"]);
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""));
    let mut lines = table.stdout.lines();
    let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    let names = ["ID", "TIME", "SESSION", "MODEL", "IN", "CACHED", "OUT", "TTFT", "TOTAL", "STOP", "WHAT"];
    assert_eq!(head, names);
    assert_eq!(lines.count(), 11);
    let shown = run(&home, &["traces", "show", "1", "--db", "a.db"]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.stdout.starts_with("model call 1  2026-11-21 09:01:07 +00:00\n"), "{}", shown.stdout);
    let raw = run(&home, &["traces", "show", "1", "--raw", "--db", "a.db"]);
    let entry: Value = serde_json::from_str(&raw.stdout).unwrap();
    assert_eq!(entry, serde_json::from_str::<Value>(&events()[0]).unwrap()["entry"]);
    let ascii =
        ac7(&home, &["traces", "show", "2", "--full", "--db", "a.db"]).env("LC_ALL", "C").output().unwrap();
    assert!(ascii.stdout.is_ascii() && !ascii.stdout.is_empty());
    let missing = run(&home, &["traces", "show", "99", "--db", "a.db"]);
    let want = "ac7 traces show: no such row: 99: a.db\n  fix: ac7 traces lists the ids\n";
    assert_eq!((missing.code, missing.stderr.as_str()), (Some(1), want));
    assert_eq!(run(&home, &["traces", "show", "x", "--db", "a.db"]).code, Some(2));
}

#[test]
fn nothing_to_show_is_no_failure() {
    let home = support::ac7!();
    let first = run(&home, &["traces"]);
    let want = "ac7 traces: nothing is recorded yet in ~/data/ac7/activity.db\n";
    assert_eq!((first.code, first.stdout.as_str(), first.stderr.as_str()), (Some(0), "", want));
    append(&file(&home, "data/ac7/activity.db"), &events());
    assert_eq!(json_lines(&run(&home, &["traces", "--json"]).stdout).len(), 11, "the usual place");
    let none = run(&home, &["traces", "--grep", "not there"]);
    assert_eq!(
        (none.code, none.stdout.as_str(), none.stderr.as_str()),
        (Some(0), "", "ac7 traces: nothing matches\n")
    );
    let typo = run(&home, &["traces", "--db", "typo.db"]);
    assert_eq!(typo.code, Some(1));
    assert!(typo.stderr.starts_with("ac7 traces: ") && typo.stderr.contains("typo.db"), "{}", typo.stderr);
    assert!(!file(&home, "typo.db").exists(), "reading makes no database");
}

/// A child that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn follow_shows_what_comes_and_matches() {
    let home = support::ac7!();
    let db = file(&home, "a.db");
    append(&db, &[objective(1), objective(2)]);
    let args = ["traces", "--db", "a.db", "--json", "--follow", "--limit", "1", "--kind", "objective_open"];
    let mut child = Running(ac7(&home, &args).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut next = || json_lines(&lines.next().unwrap().unwrap())[0]["event"]["ts"].as_u64().unwrap();
    assert_eq!(next(), 2);
    let other = json!({"kind": "objective_close", "ts": 3, "objectiveId": "o", "result": "done"}).to_string();
    append(&db, &[other, objective(4)]);
    append(&db, &[objective(3)]); // older, and stored later
    assert_eq!((next(), next()), (4, 3));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let home = support::ac7!();
    let many: Vec<String> = (1..=3000).map(objective).collect();
    append(&file(&home, "a.db"), &many);
    let args = ["traces", "--db", "a.db", "--json", "--limit", "3000"];
    let mut child = ac7(&home, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and then the pipe is closed
    let ran = Finished::from(&child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
}

#[test]
fn pruning_deletes_what_is_older_and_nothing_else() {
    let home = support::ac7!();
    let now = ac7::sys::clock::now_ms();
    let old: Vec<String> = (0..450).map(|i| objective(now - 3_000_000_000 + i)).collect();
    append(&file(&home, "ac7-activity.db"), &[old, vec![objective(now - 1000), objective(now)]].concat());
    let refused = run(&home, &["prune-traces", "--older-than", "30d"]);
    let want = "ac7 prune-traces: not confirmed: standard input is no terminal\n  fix: --yes\n";
    assert_eq!((refused.code, refused.stdout.as_str(), refused.stderr.as_str()), (Some(2), "", want));
    let count =
        |db: &str| json_lines(&run(&home, &["traces", "--db", db, "--json", "--limit", "1000"]).stdout).len();
    assert_eq!(count("ac7-activity.db"), 452);
    let done = run(&home, &["prune-traces", "--older-than", "30D", "--yes", "--vacuum"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let (first, second) = done.stdout.split_once('\n').unwrap();
    assert!(
        first.starts_with("deleted 450 rows older than 20")
            && first.ends_with(" +00:00 in ./ac7-activity.db"),
        "{first}"
    );
    assert!(second.starts_with("vacuumed: "), "{second}");
    assert_eq!(count("ac7-activity.db"), 2);
    let again = run(&home, &["prune-traces", "--older-than", "30d", "--yes", "--quiet"]);
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (Some(0), "", ""));
    let memory = run(&home, &["prune-traces", "--older-than", "30d", "--yes", "--db", ":memory:"]);
    assert_eq!(memory.code, Some(2));
    let missing = run(&home, &["prune-traces", "--older-than", "30d", "--yes", "--db", "typo.db"]);
    assert_eq!(missing.code, Some(1));
    assert!(!file(&home, "typo.db").exists());
}

#[test]
fn errors_that_the_manual_explains_end_with_a_code_that_help_knows() {
    let home = support::ac7!();
    assert_eq!(run(&home, &["setup", "--non-interactive", "--team", "T", "--member", "ann"]).code, Some(0));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let nobody = FreePort::take();
    let url = format!("http://127.0.0.1:{}", nobody.number);
    for (words, code) in [
        (&["setup", "--non-interactive", "--team", "T", "--member", "ann"][..], "is-set-up"),
        (&["serve", "--port", &port], "port-taken"),
        (&["push", "--url", &url, "--to", "ann", "hi"], "no-token"),
        (&["usage", "--url", &url, "--token", "ac7_x"], "no-broker"),
        (&["mcp-bridge"], "no-session"),
        (&["claude-code", "--url", &url], "no-claude"),
    ] {
        let out = run(&home, words);
        let first = out.stderr.lines().next().unwrap_or_default();
        assert!(first.ends_with(&format!(" [{code}]")), "{words:?}: {}", out.stderr);
        let entry = run(&home, &["help", code]);
        assert!(entry.stdout.contains(&format!("[{code}]")) && entry.stdout.contains("Fix: "), "{code}");
        assert!(entry.stdout.lines().count() < 40, "the entry alone: {}", entry.stdout);
    }
}

#[test]
fn setup_prints_a_token_once() {
    let home = support::ac7!();
    let refused = run(&home, &["setup", "--non-interactive", "--team", "T"]);
    let want = "ac7 setup: --member is required\n  fix: ac7 setup --member NAME\n";
    assert_eq!((refused.code, refused.stdout.as_str(), refused.stderr.as_str()), (Some(2), "", want));
    let args = ["setup", "--non-interactive", "--team", "T", "--member", "ann"];
    let done = run(&home, &args);
    assert_eq!(done.code, Some(0));
    assert!(done.stdout.starts_with("ac7_") && done.stdout.lines().count() == 1, "{}", done.stdout);
    assert!(!done.stderr.contains(done.stdout.trim()), "{}", done.stderr);
    let again = run(&home, &args);
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""));
    assert!(
        again.stderr.starts_with("ac7 setup: a config already exists at ./ac7.json [is-set-up]\n  fix: "),
        "{}",
        again.stderr
    );
    let bad = run(
        &home,
        &["setup", "--non-interactive", "--team", "T", "--member", "a b", "--config-path", "o.json"],
    );
    assert_eq!(bad.code, Some(1));
    assert!(!file(&home, "o.json").exists());
}

/// A team whose first member is ann, who may do everything; her token.
fn team(home: &Home) -> String {
    let done = run(home, &["setup", "--non-interactive", "--team", "T", "--member", "ann"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done.stdout.trim().to_string()
}

fn team_file(home: &Home) -> TeamFile {
    TeamFile::load(&file(home, "ac7.json")).unwrap().0
}

#[test]
fn members_come_change_and_go() {
    let home = support::ac7!();
    team(&home);
    let made = run(&home, &["member", "create", "bob", "--title", "engineer", "--permission", "operator"]);
    assert_eq!(
        (made.code, made.stderr.as_str()),
        (Some(0), "ac7 member create: bob is a member; this token is shown once\n")
    );
    let team = team_file(&home);
    assert_eq!(team.authenticate(made.stdout.trim(), 0).unwrap().0.name, "bob");
    let list = run(&home, &["member", "list"]);
    assert_eq!(list.stdout, "NAME  ROLE      PERMISSIONS\nann   admin     all\nbob   engineer  operator\n");

    let update = ["member", "update", "bob", "--description", "builds", "--permission", "activity.read"];
    assert_eq!(run(&home, &update).code, Some(0));
    let bob = &json_lines(&run(&home, &["member", "list", "--json"]).stdout)[1];
    let want = json!({"name": "bob", "role": {"title": "engineer", "description": "builds"},
                      "permissions": ["activity.read"], "instructions": ""});
    assert_eq!(*bob, want);
    assert_eq!(run(&home, &["member", "update", "bob", "--no-permissions"]).code, Some(0));
    assert!(team_file(&home).members[1].permissions.is_empty());

    let before = fs::read(file(&home, "ac7.json")).unwrap();
    for (args, code, want) in [
        (&["member"][..], 2, "ac7: unknown verb: member\n  fix: did you mean member list?\n"),
        (
            &["member", "create", "bob"],
            1,
            "ac7 member create: there is a member bob already\n  fix: ac7 member update bob\n",
        ),
        (&["member", "create", "a b"], 1, "ac7 member create: name is not 1 to 128 of A-Z a-z 0-9 . _ -\n"),
        (
            &["member", "create", "cat", "--permission", "fly"],
            1,
            "ac7 member create: permissions[0] is neither a permission nor a preset\n",
        ),
        (
            &["member", "update", "zed", "--title", "x"],
            1,
            "ac7 member update: there is no member zed\n  fix: ac7 member list\n",
        ),
        (
            &["member", "update", "bob"],
            2,
            "ac7 member update: nothing to change\n  fix: ac7 member update --help lists what can be changed\n",
        ),
        (
            &["member", "update", "bob", "--no-permissions", "--permission", "x"],
            2,
            "ac7 member update: --permission and --no-permissions exclude each other\n",
        ),
        (
            &["member", "update", "ann", "--no-permissions"],
            1,
            "ac7 member update: nobody would have the members.manage permission any more: give it to another member first\n",
        ),
        (
            &["member", "delete", "bob"],
            2,
            "ac7 member delete: not confirmed: standard input is no terminal\n  fix: --yes\n",
        ),
        (
            &["member", "delete", "ann", "--yes"],
            1,
            "ac7 member delete: nobody would have the members.manage permission any more: give it to another member first\n",
        ),
    ] {
        let ran = run(&home, args);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(code), "", want), "{args:?}");
    }
    assert_eq!(fs::read(file(&home, "ac7.json")).unwrap(), before);
    assert_eq!(run(&home, &["member", "delete", "bob", "--yes"]).code, Some(0));
    assert_eq!(team_file(&home).members.len(), 1);
}

#[test]
fn a_rotation_ends_tokens_and_sessions() {
    let home = support::ac7!();
    let first = team(&home);
    let main = || Main::open(&file(&home, "ac7.db")).unwrap();
    let session = Session { member: "ann".into(), created: 1, seen: 1, expires: u64::MAX >> 1 };
    main().begin_session(&[1; 32], &session).unwrap();
    main().tokens_used(&[(team_file(&home).members[0].tokens[0].id.clone(), 5)]).unwrap();
    let roster = json_lines(&run(&home, &["roster", "--json"]).stdout);
    let want = json!({"name": "ann", "role": {"title": "admin", "description": ""},
                      "tokens": 1, "totp": false, "lastUsedAt": 5});
    assert_eq!(roster, [want]);
    let table = run(&home, &["roster", "--member", "ann"]).stdout;
    assert!(
        table.starts_with("NAME  ROLE   TOKENS  TOTP  LAST USED\nann   admin  1       no    2"),
        "{table}"
    );

    let rotated = run(&home, &["rotate", "--member", "ann"]);
    assert_eq!(rotated.stderr, "ac7 rotate: every other token of ann is revoked; this one is shown once\n");
    let second = rotated.stdout.trim();
    assert!(team_file(&home).authenticate(second, 0).is_some());
    assert!(team_file(&home).authenticate(&first, 0).is_none());
    assert_eq!(main().session(&[1; 32], 2).unwrap(), None);

    let revealed = run(&home, &["roster", "--reveal-token", "--member", "ann"]);
    assert!(revealed.stderr.contains("mints a new one") && revealed.stderr.contains("revoked"));
    assert!(team_file(&home).authenticate(revealed.stdout.trim(), 0).is_some());
    assert!(team_file(&home).authenticate(second, 0).is_none());

    for args in [&["rotate"][..], &["roster", "--reveal-token"], &["enroll"]] {
        let ran = run(&home, args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(ran.stderr.contains("--member is required"), "{}", ran.stderr);
    }
    let gone = run(&home, &["rotate", "--member", "zed"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), ""));
    let elsewhere = run(&home, &["rotate", "--member", "ann", "--db", "none.db"]);
    assert_eq!(elsewhere.code, Some(0));
    assert!(elsewhere.stderr.contains("there is no database at none.db"), "{}", elsewhere.stderr);
    assert!(!file(&home, "none.db").exists());
}

#[test]
fn rotating_the_key_of_web_push_ends_what_was_subscribed_with_the_old_one() {
    let home = support::ac7!();
    team(&home);
    let (main, kek) = (Main::open(&file(&home, "ac7.db")).unwrap(), file(&home, "ac7.json.kek"));
    let rotate = || run(&home, &["rotate", "--vapid"]);
    let first = rotate();
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    let new = Subscription { endpoint: "https://push.example/a".into(), p256dh: vec![4; 65], auth: [7; 16] };
    main.subscribe("ann", &new, first.stdout.trim(), 1).unwrap();
    // Also where the key is lost that sealed the old one.
    fs::remove_file(&kek).unwrap();
    let second = rotate();
    assert!(second.stderr.ends_with("ended with the old one: 1\n"), "{}", second.stderr);
    assert_ne!(second.stdout, first.stdout);
    assert!(main.subscriptions("ann", first.stdout.trim()).unwrap().is_empty());
    let settings = WebPush::of(&team_file(&home)).unwrap();
    assert_eq!(settings.public_key.as_deref(), Some(second.stdout.trim()));
    assert!(settings.keys(&KekPlace { file: kek.clone(), variable: None }).unwrap().is_some());

    fs::write(&kek, "none\n").unwrap();
    let refused = rotate();
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("is not 32 bytes of base64"), "{}", refused.stderr);
    let both = run(&home, &["rotate", "--vapid", "--member", "ann"]);
    assert_eq!(both.code, Some(2), "{}", both.stderr);
}

#[test]
fn a_broker_that_runs_notices_the_command_line() {
    let home = support::ac7!();
    let ann = team(&home);
    let mut broker = Running(ac7(&home, &["serve", "--port", "0"]).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(broker.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address =
        said.find_map(|l| l.split_once("listening on http://").map(|(_, a)| a.to_string())).unwrap();
    let status = |line: &str| -> u16 {
        let mut stream = TcpStream::connect(&address).unwrap();
        let request =
            format!("GET /briefing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{line}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let bearer = |token: &str| status(&format!("Authorization: Bearer {}", token.trim()));
    let becomes = |token: &str, want: u16| wait_until(token, || (bearer(token) == want).then_some(()));
    assert_eq!(bearer(&ann), 200);

    let bob = run(&home, &["member", "create", "bob"]).stdout;
    becomes(&bob, 200);
    let session = Session { member: "bob".into(), created: 1, seen: u64::MAX >> 2, expires: u64::MAX >> 1 };
    let hash = ac7::identity::hash_of("cookie");
    Main::open(&file(&home, "ac7.db")).unwrap().begin_session(&hash, &session).unwrap();
    let cookie = "Cookie: ac7_session=cookie";
    assert_eq!(status(cookie), 200);
    let fresh = run(&home, &["rotate", "--member", "bob"]).stdout;
    assert_eq!(status(cookie), 401, "at once: the session is in the database that both use");
    becomes(&fresh, 200);
    assert_eq!(bearer(&bob), 401);
    assert_eq!(run(&home, &["member", "delete", "bob", "--yes"]).code, Some(0));
    becomes(&fresh, 401);
    assert_eq!(bearer(&ann), 200);
}

#[test]
fn an_enrolment_needs_the_right_code() {
    let home = support::ac7!();
    team(&home);
    let before = fs::read(file(&home, "ac7.json")).unwrap();
    // The secret is known from its URI alone, as it is to an authenticator.
    let talk = |answer: &dyn Fn(&str) -> String| {
        let mut command = ac7(&home, &["enroll", "--member", "ann"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Running(command.spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut drawn = Vec::new();
        let uri = loop {
            let line = lines.next().unwrap();
            if line.starts_with("otpauth://totp/T:ann?") {
                break line;
            }
            drawn.push(line);
        };
        let secret = uri.split_once("secret=").unwrap().1.split('&').next().unwrap();
        let typed = answer(secret);
        child.0.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let status = child.0.wait().unwrap().code();
        let mut said = String::new();
        child.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status, said, drawn, secret.to_string())
    };
    for (typed, want) in [
        ("\n", "no code was given; nothing was changed"),
        ("", "no code was given; nothing was changed"),
        ("x\n1\n22\n", "3 codes were wrong; nothing was changed"),
    ] {
        let (status, said, drawn, _) = talk(&|_| typed.to_string());
        assert_eq!(status, Some(1), "{typed:?}: {said}");
        assert!(said.contains(want), "{typed:?}: {said}");
        assert_eq!(fs::read(file(&home, "ac7.json")).unwrap(), before);
        let width = drawn[0].chars().count();
        assert!(drawn.len() > 20 && width <= 80 && drawn.iter().all(|l| l.chars().count() == width));
    }
    let right = |secret: &str| format!("{}\n", code(secret, ac7::sys::clock::now_ms() / 30_000));
    let (status, said, _, secret) = talk(&right);
    assert_eq!(status, Some(0), "{said}");
    let kek = KekPlace { file: file(&home, "ac7.json.kek"), variable: None };
    let stored = team_file(&home).members[0].totp_secret(&kek).unwrap().unwrap();
    assert_eq!(stored.base32(), secret);
    assert!(!fs::read_to_string(file(&home, "ac7.json")).unwrap().contains(&secret));
}

#[test]
fn serve_needs_a_team() {
    let home = support::ac7!();
    let ran = run(&home, &["serve", "--port", "0"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("ac7 serve: ") && ran.stderr.contains("./ac7.json"), "{}", ran.stderr);
}

#[test]
fn stats_count_what_a_database_holds() {
    let home = support::ac7!();
    let nothing = run(&home, &["stats"]);
    assert_eq!((nothing.code, nothing.stderr.as_str()), (Some(0), ""), "nothing was recorded yet");
    let missing = run(&home, &["stats", "--db", "none.db"]);
    assert_eq!(missing.code, Some(1), "{}", missing.stderr);
    let day = 86_400_000;
    append(&file(&home, "a.db"), &[objective(1), objective(2), objective(day + 1)]);
    let out = run(&home, &["stats", "--db", "a.db"]);
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert!(lines[1].starts_with("ann     1970-01-01     2 "), "{}", out.stdout);
    assert!(lines[3].starts_with("all                    3 "), "{}", out.stdout);
    let out = run(&home, &["stats", "--db", "a.db", "--json"]);
    let value: Value = serde_json::from_str(&out.stdout).unwrap();
    let logical = objective(1).len() + objective(2).len();
    assert_eq!(value["days"][0]["logicalBytes"], json!(logical));
    assert_eq!((&value["days"][1]["day"], &value["days"][1]["rows"]), (&json!("1970-01-02"), &json!(1)));
}

#[test]
fn a_check_finds_damage_in_either_database() {
    let home = support::ac7!();
    let check = |args: &[&str]| {
        let out = run(&home, &[&["check"], args].concat());
        (out.code.unwrap(), out.stdout, out.stderr)
    };
    let (code, _, said) = check(&[]);
    assert_eq!(code, 1);
    assert!(said.contains("there is no database yet"), "{said}");

    append(&file(&home, "ac7-activity.db"), &events());
    assert_eq!(check(&[]), (0, "./ac7-activity.db: sound\n".into(), String::new()));
    let main = rusqlite::Connection::open(file(&home, "ac7.db")).unwrap();
    main.execute_batch("CREATE TABLE a (id INTEGER PRIMARY KEY, b INTEGER REFERENCES a)").unwrap();
    assert_eq!(check(&[]).1, "./ac7.db: sound\n./ac7-activity.db: sound\n");
    assert_eq!(check(&["--quiet"]), (0, String::new(), String::new()));
    main.execute_batch("PRAGMA foreign_keys = off; INSERT INTO a VALUES (1, 7)").unwrap();
    let (code, found, _) = check(&["--db", "ac7.db"]);
    assert_eq!(
        (code, found.as_str()),
        (1, "ac7.db: a row 1 refers to nothing in a\nac7-activity.db: sound\n")
    );

    let activity = rusqlite::Connection::open(file(&home, "ac7-activity.db")).unwrap();
    activity.execute_batch("UPDATE block SET refs = refs + 1 WHERE id = 1").unwrap();
    let (code, found, _) = check(&["--activity-db", "ac7-activity.db"]);
    assert_eq!((code, found.as_str()), (1, "ac7-activity.db: block 1 has a wrong count\n"));
    fs::write(file(&home, "text.db"), "this is no database, whatever its name may say").unwrap();
    let (code, _, said) = check(&["--activity-db", "text.db"]);
    assert_eq!(code, 1);
    assert!(said.contains("not an ac7 activity database"), "{said}");
}

#[test]
fn usage_sums_by_model_member_and_objective() {
    let home = support::ac7!();
    let db = file(&home, "u.db");
    let call = |ts: u64, model: &str, input: u64| {
        json!({"kind": "llm_exchange", "ts": ts, "duration": 5, "entry": {
            "kind": "anthropic_messages", "startedAt": ts, "endedAt": ts + 5,
            "request": {"model": model, "maxTokens": null, "temperature": null, "system": null, "messages": [],
                        "tools": []},
            "response": {"stopReason": "end_turn", "stopSequence": null, "messages": [], "status": 200,
                         "usage": {"inputTokens": input, "outputTokens": 1000, "cacheCreationInputTokens": 0,
                                   "cacheReadInputTokens": 0}}}})
        .to_string()
    };
    let mark = |kind: &str, ts: u64, more: &str| {
        let text = format!(r#"{{"kind":"objective_{kind}","ts":{ts},"objectiveId":"o1"{more}}}"#);
        serde_json::from_str::<Value>(&text).unwrap().to_string()
    };
    let closed = r#","result":"reassigned""#;
    let mut store = Store::open(&db).unwrap();
    for (member, events) in [
        (
            "ann",
            vec![
                call(1000, "claude-sonnet-4-5-20250929", 7),
                mark("open", 2000, ""),
                call(3000, "claude-sonnet-4-5-20250929", 1_000_000),
                mark("close", 4000, closed),
                call(5000, "claude-sonnet-4-5-20250929", 7),
            ],
        ),
        ("bob", vec![call(3500, "new", 11), mark("open", 4000, ""), call(4500, "new", 100)]),
    ] {
        let batch = Parser::new().events(events.iter().map(String::as_str)).unwrap();
        store.append(&[Upload { member, batch: &batch, key: None }], 6000).unwrap();
    }
    drop(store);
    let report = |args: &[&str]| {
        let out = run(&home, &[&["usage", "--db", "u.db", "--json"], args].concat());
        assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""), "{args:?}");
        serde_json::from_str::<Value>(&out.stdout).unwrap()
    };
    let by_objective = report(&["--by", "objective"]);
    assert_eq!(by_objective["rows"].as_array().unwrap().len(), 1);
    let row = &by_objective["rows"][0];
    assert_eq!(
        (&row["objective"], &row["calls"], &row["inputTokens"]),
        (&json!("o1"), &json!(2), &json!(1_000_100))
    );
    assert_eq!((&row["cost"], &row["unpricedCalls"]), (&json!(3.015), &json!(1)));
    assert_eq!(by_objective["total"]["calls"], 5);
    assert_eq!(by_objective["unpricedModels"], json!(["new"]));
    assert_eq!(report(&["--objective", "o1", "--by", "member"])["total"]["calls"], 2);
    assert_eq!(report(&["--member", "ann"])["total"]["calls"], 3);
    assert_eq!(report(&["--model", "claude*", "--by", "day"])["rows"][0]["day"], "1970-01-01");
    fs::write(
        file(&home, "p.json"),
        r#"{"date":"2026-11-01","models":{"new":{"input":1000000,"output":0}}}"#,
    )
    .unwrap();
    let own = report(&["--prices", "p.json", "--by", "model"]);
    assert_eq!((&own["prices"]["date"], &own["rows"][1]["cost"]), (&json!("2026-11-01"), &json!(111.0)));
    for (args, code, want) in [
        (&["--prices", "none.json"][..], 1, "ac7 usage: cannot use the prices: none.json: "),
        (&["--by", "hour"], 2, "ac7 usage: bad --by: hour: it is not member"),
        (&["--token", "ac7_x"], 2, "ac7 usage: --token says nothing without a broker"),
        (&["--url", "http://h"], 2, "ac7 usage: --url and --db exclude each other"),
    ] {
        let out = run(&home, &[&["usage", "--db", "u.db"], args].concat());
        assert_eq!(out.code, Some(code), "{args:?}");
        assert!(out.stderr.starts_with(want), "{args:?}: {}", out.stderr);
    }
}

#[test]
fn completions_know_every_verb_and_option() {
    let home = support::ac7!();
    for shell in ["bash", "zsh", "fish"] {
        let out = run(&home, &["completions", shell]);
        assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""), "{shell}");
        for verb in VERBS {
            for word in verb.name.split(' ') {
                assert!(out.stdout.contains(word), "{shell}: {word}");
            }
            for flag in verb.flags.iter().flat_map(|table| table.iter()) {
                let option =
                    if shell == "fish" { format!(" -l {} ", flag.name) } else { format!("--{}", flag.name) };
                assert!(out.stdout.contains(&option), "{shell}: {} {option}", verb.name);
            }
        }
    }
    fs::write(file(&home, "ac7.bash"), run(&home, &["completions", "bash"]).stdout).unwrap();
    let complete = |words: &str| {
        let script = format!(
            "source ./ac7.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _ac7; echo \"${{COMPREPLY[*]}}\""
        );
        let out = Command::new("bash").args(["-c", &script]).current_dir(home.join("home")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{words}");
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    };
    for (words, want) in [
        ("ac7 trac", "traces"),
        ("ac7 member ''", "list create update delete"),
        ("ac7 member create --ti", "--title"),
        ("ac7 run --scope ''", "agent all model"),
        ("ac7 completions z", "zsh"),
        ("ac7 nonsense --x", ""),
    ] {
        assert_eq!(complete(words), want, "{words}");
    }
    let out = run(&home, &["completions", "tcsh"]);
    assert_eq!(out.code, Some(2));
    assert_eq!(out.stderr, "ac7 completions: no shell that is known: tcsh\n  fix: bash, zsh or fish\n");
}
