//! The team's verbs against a broker: each is a program of its own here.
#![cfg(test)]
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use support::run::{Finished, Home, json_lines};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A broker with the members ann, who may do everything, and bob, who may do nothing.
struct Team {
    home: Home,
    url: String,
    ann: String,
    bob: String,
    _broker: Running,
}

impl Team {
    fn new(home: Home) -> Team {
        let ann = home.run(["setup", "--non-interactive", "--team", "T", "--member", "ann"]);
        let bob = home.run(["member", "create", "bob"]);
        home.run(["member", "create", "cat"]);
        let serve = home.ac7(["serve", "--port", "0"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut broker = Running(serve);
        let mut said = BufReader::new(broker.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let url = said.find_map(|l| l.split_once("listening on ").map(|(_, url)| url.to_string())).unwrap();
        // Nobody reads on: what it says fits the pipe.
        std::thread::spawn(move || said.for_each(drop));
        let token = |out: &Finished| out.stdout.trim().to_string();
        Team { url, ann: token(&ann), bob: token(&bob), home, _broker: broker }
    }

    fn command<S: AsRef<OsStr>>(&self, token: &str, args: &[S]) -> Command {
        let mut command = self.home.ac7(args);
        command.env("AC7_URL", &self.url).env("AC7_TOKEN", token).env("TZ", "UTC");
        command
    }

    fn run(&self, token: &str, args: &[&str]) -> Finished {
        Finished::from(&self.command(token, args).output().unwrap())
    }

    /// The first line that a verb prints when all goes well.
    fn said(&self, token: &str, args: &[&str]) -> String {
        let out = self.run(token, args);
        assert_eq!((out.code, out.stderr.as_str()), (Some(0), ""), "{args:?}");
        out.stdout.lines().next().unwrap_or_default().to_string()
    }

    fn json(&self, token: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(token, &[args, &["--json"]].concat())).unwrap()
    }
}

#[test]
fn an_objective_is_worked_on_from_the_command_line() {
    let team = Team::new(support::ac7!());
    let (ann, bob) = (team.ann.as_str(), team.bob.as_str());
    let create = [
        "objectives",
        "create",
        "Fix CI",
        "--assignee",
        "bob",
        "--outcome",
        "main is green",
        "--body",
        "a\nb",
    ];
    let made = team.json(ann, &create);
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        (&made["title"], &made["body"], &made["originator"]),
        (&json!("Fix CI"), &json!("a\nb"), &json!("ann"))
    );
    let list = team.run(bob, &["objectives", "list"]);
    let lines: Vec<&str> = list.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", list.stdout);
    assert!(lines[1].starts_with(id) && lines[1].ends_with("  active  bob       Fix CI"), "{}", list.stdout);
    for (token, args, want) in [
        (
            bob,
            &["objectives", "update", id, "--block", "no key"][..],
            format!("updated {id}: status=blocked"),
        ),
        (bob, &["objectives", "update", id, "--unblock"], format!("updated {id}: status=active")),
        (ann, &["objectives", "watch", id, "--add", "cat"], format!("watchers of {id}: cat")),
        (
            ann,
            &["objectives", "reassign", id, "--to", "ann", "--note", "n"],
            format!("reassigned {id}: ann has it"),
        ),
        (ann, &["objectives", "complete", id, "--result", "merged"], format!("completed {id}: Fix CI")),
    ] {
        assert_eq!(team.said(token, args), want);
    }
    assert!(team.said(ann, &["objectives", "discuss", id, "--body", "thanks"]).starts_with("said: msg="));
    let view = team.run(ann, &["objectives", "view", id]).stdout;
    for want in [
        "Fix CI\n",
        "status      done\n",
        "Outcome\nmain is green\n",
        "Body\na\nb\n",
        "Result\nmerged\n",
        " ann reassigned ",
    ] {
        assert!(view.contains(want), "{want}: {view}");
    }
    assert_eq!(team.json(ann, &["objectives", "list", "--status", "done"])["objectives"][0]["id"], id);
    let other = team.json(ann, &create)["id"].as_str().unwrap().to_string();
    assert_eq!(
        team.said(ann, &["objectives", "cancel", &other, "--reason", "r"]),
        format!("cancelled {other}: Fix CI")
    );
    for (token, args, code, want) in [
        (
            bob,
            &["objectives", "create", "T", "--assignee", "bob", "--outcome", "o"][..],
            1,
            "the broker answered 403: ",
        ),
        (bob, &["objectives", "complete", id, "--result", "r"], 1, "the broker answered 403: "),
        (ann, &["objectives", "cancel", id], 1, "the broker answered 409: "),
        (ann, &["objectives", "view", "none"], 1, "the broker answered 404: "),
        (ann, &["objectives", "create", "T", "--assignee", "bob"], 2, "--outcome is required"),
        (ann, &["objectives", "update", id], 2, "nothing to change"),
        (ann, &["objectives", "watch", id], 2, "nobody is named"),
        (ann, &["objectives", "list", "--status", "open"], 2, "bad --status: open: "),
        ("", &["objectives", "list"], 1, "--token or AC7_TOKEN is required"),
        ("ac7_x", &["objectives", "list"], 1, "the broker refused the token (401)"),
    ] {
        let out = team.run(token, args);
        let want = format!("ac7 {} {}: {want}", args[0], args[1]);
        assert_eq!(out.code, Some(code), "{args:?}: {}", out.stderr);
        assert!(out.stderr.starts_with(&want) && out.stdout.is_empty(), "{args:?}: {}", out.stderr);
    }
}

#[test]
fn messages_are_pushed_and_read_along() {
    let team = Team::new(support::ac7!());
    let (ann, bob) = (team.ann.as_str(), team.bob.as_str());
    assert!(
        team.said(ann, &["push", "--to", "bob", "one"])
            .starts_with("delivered to bob: live=0 targets=1 msg=")
    );
    let mut tail = Running(team.command(bob, &["tail"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let next = &mut || lines.next().unwrap().split_off("00:00:00 ".len());
    assert_eq!(next(), "ann to bob: one", "the history comes first, and the stream is open by then");
    let mut piped = team.command(ann, &["push", "--all", "--title", "T", "--level", "warning", "--json"]);
    let mut child = piped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"two\n\x1b[31mthree\n").unwrap();
    let answer: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(
        (&answer["delivery"]["live"], &answer["message"]["body"]),
        (&json!(1), &json!("two\n\u{1b}[31mthree"))
    );
    assert_eq!(next(), "ann [warning]: T");
    assert_eq!(lines.next().unwrap(), "    two");
    assert_eq!(lines.next().unwrap(), "    \\x1b[31mthree");
    drop(tail);

    let between = team.run(ann, &["tail", "--with", "bob", "--no-follow", "--json"]);
    let found: Vec<Value> = json_lines(&between.stdout);
    assert_eq!((found.len(), &found[0]["body"]), (1, &json!("one")));
    assert!(team.run(ann, &["tail", "--no-follow", "--limit", "1"]).stdout.contains("ann [warning]: T"));
    for (args, code, want) in [
        (&["push", "x"][..], 2, "ac7 push: nobody is named who gets the message\n"),
        (&["push", "--to", "bob", "--all", "x"], 2, "ac7 push: --to and --all exclude each other"),
        (&["push", "--to", "nobody", "x"], 1, "ac7 push: the broker answered 404: "),
        (&["push", "--to", "bob", ""], 1, "ac7 push: the broker answered 400: "),
        (&["push", "--to", "bob", "--level", "loud", "x"], 2, "ac7 push: bad --level: loud: "),
        (&["tail", "--with", "bob", "--channel", "general"], 2, "ac7 tail: --channel and --with exclude"),
        (&["tail", "--limit", "501"], 2, "ac7 tail: bad --limit: 501: "),
    ] {
        let out = team.run(ann, args);
        assert_eq!(out.code, Some(code), "{args:?}: {}", out.stderr);
        assert!(out.stderr.starts_with(want), "{args:?}: {}", out.stderr);
    }
}

#[test]
fn traces_and_usage_are_read_from_the_broker() {
    let team = Team::new(support::ac7!());
    let upload = |name: &str, token: &str, id: &str, ts: u64| {
        let event = json!({"kind": "objective_open", "ts": ts, "objectiveId": id});
        let client =
            ac7::client::Client::new(&team.url, Some(token), &ac7::client::Options::default()).unwrap();
        let path = format!("/members/{name}/activity");
        client.json("POST", &path, Some(&json!({"events": [event]}))).unwrap();
    };
    upload("bob", &team.bob, "o1", 1);
    upload("bob", &team.bob, "o2", 2);
    let url = team.url.as_str();
    let ids = |token: &str, args: &[&str]| -> Vec<String> {
        let out = team.run(token, &[&["traces", "--url", url, "--json"], args].concat());
        assert_eq!(out.code, Some(0), "{}", out.stderr);
        json_lines(&out.stdout)
            .iter()
            .map(|r| r["event"]["objectiveId"].as_str().unwrap().to_string())
            .collect()
    };
    assert_eq!(ids(&team.bob, &[]), ["o1", "o2"], "one's own, oldest first");
    assert_eq!(ids(&team.bob, &["--limit", "1"]), ["o2"]);
    assert_eq!(ids(&team.ann, &["--member", "bob", "--kind", "objective_open", "--grep", "O1"]), ["o1"]);
    assert!(ids(&team.ann, &[]).is_empty());
    let mut follow = team.command(&team.bob, &["traces", "--url", url, "--json", "--follow", "--limit", "1"]);
    let mut follow = Running(follow.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(follow.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.next().unwrap().contains("\"o2\""));
    upload("bob", &team.bob, "o3", 3);
    assert!(lines.next().unwrap().contains("\"o3\""));
    let first =
        json_lines(&team.run(&team.bob, &["traces", "--url", url, "--json"]).stdout)[0]["id"].to_string();
    let raw = team.run(&team.bob, &["traces", "show", &first, "--raw", "--url", url]);
    assert!(raw.stdout.contains("\"o1\""), "{}{}", raw.stdout, raw.stderr);
    let refused = team.run(&team.bob, &["traces", "--url", url, "--member", "ann"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.starts_with("ac7 traces: the broker answered 403: "), "{}", refused.stderr);
    let usage = team.json(&team.bob, &["usage", "--url", url, "--by", "member"]);
    assert_eq!((&usage["by"], &usage["total"]["calls"]), (&json!("member"), &json!(0)));
}
