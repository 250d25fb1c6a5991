//! What a CI job needs: events in a file, a failure when something is missing in them, a table for its page.
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use support::mock::{Mock, Options};
use support::run::{Finished, json_lines, wait_until};

use crate::broker_stub::BrokerStub;
use crate::lab::{CURL, Held, Lab, MODEL, OTHER, call, finish, post, read_head, url};

const JSON: [&str; 2] = ["-H", "content-type: application/json"];

/// One model call with this prompt, under ac7 with these flags.
fn ask(lab: &Lab, mock: &Mock, flags: &[&str], prompt: &str) -> Finished {
    let body =
        json!({"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]});
    let (body, url) = (body.to_string(), url(MODEL, mock, "/v1/messages"));
    lab.curl(flags, &[&JSON[..], &["-o", "/dev/null", "-d", &body, &url]].concat())
}

fn rows(path: &Path) -> Vec<Value> {
    json_lines(&fs::read_to_string(path).unwrap())
}

#[test]
fn events_go_to_a_file_and_nowhere_else() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let broker = BrokerStub::start();
    let file = lab.home.join("trace.jsonl");
    fs::write(&file, "an earlier trace\n").unwrap();
    let mut command = lab.command(
        &["--output", file.to_str().unwrap()],
        &[&CURL[..], &JSON, &["-o", "/dev/null", "-d", &call(true), &url(MODEL, &mock, "/v1/messages")]]
            .concat(),
    );
    // A broker in the environment is not asked.
    let done = finish(command.env("AC7_URL", broker.url()).env("AC7_TOKEN", "ac7_good"));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("ac7: written to {}\n", file.display())), "{}", done.stderr);
    assert!(broker.books.lock().events.is_empty() && !lab.db().exists());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let written = rows(&file);
    assert_eq!(written.len(), 1);

    // The same call by way of the database: rows of the same shape.
    lab.curl(
        &[],
        &[&JSON[..], &["-o", "/dev/null", "-d", &call(true), &url(MODEL, &mock, "/v1/messages")]].concat(),
    );
    let stored = &lab.home.traces(&lab.db())[0];
    let names = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written[0]), names(stored));
    assert_eq!((&written[0]["id"], &written[0]["memberName"]), (&json!(1), &stored["memberName"]));
    assert_eq!(names(&written[0]["event"]["entry"]), names(&stored["event"]["entry"]));
    assert_eq!(written[0]["event"]["entry"]["request"], stored["event"]["entry"]["request"]);
}

#[test]
fn events_can_be_read_while_the_command_runs() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let file = lab.home.join("trace.jsonl");
    let held = Held::start(&lab, &["--output", file.to_str().unwrap()]);
    let mut tls = held.tls(MODEL, mock.port, held.client());
    for count in 1..=3 {
        tls.write_all(post("/v1/messages", &call(false)).as_bytes()).unwrap();
        let head = read_head(&mut tls);
        let length = head
            .to_ascii_lowercase()
            .split("content-length: ")
            .nth(1)
            .map(|rest| rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
        tls.read_exact(&mut vec![0; length.expect("an answer with a length")]).unwrap();
        wait_until("the line is there", || {
            let text = fs::read_to_string(&file).unwrap();
            (text.lines().count() == count && text.ends_with('\n')).then_some(())
        });
    }
    drop(tls);
    held.finish();
    let ids: Vec<_> = rows(&file).iter().map(|row| row["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_file_that_cannot_be_opened_keeps_the_command_from_starting() {
    let lab = Lab::new(&[]);
    let below = lab.home.join("roots/trace.jsonl");
    let folder = lab.home.tmp();
    fs::write(lab.home.join("roots"), "").unwrap();
    let pipe = lab.home.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for option in ["--output", "--summary"] {
        for path in [below.as_path(), &folder, Path::new("/proc/nope"), &pipe] {
            let path = path.to_str().unwrap();
            let done = lab.run(&[option, path], &["echo", "started"]);
            assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{option} {path}: {}", done.stderr);
            assert!(done.stderr.starts_with(&format!("ac7 run: cannot write {path}: ")), "{}", done.stderr);
            assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
            assert_eq!(lab.home.left_behind(), [""; 0]);
        }
    }
}

#[test]
fn what_a_file_does_not_take_is_counted_and_the_command_notices_nothing() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let done = ask(&lab, &mock, &["--output", "/dev/full"], "hi");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let want = "ac7: 1 event dropped: /dev/full: No space left on device";
    assert!(done.stderr.lines().any(|line| line.starts_with(want)), "{}", done.stderr);
    // A command that tidies up takes its own trace away.
    let file = lab.home.join("trace.jsonl");
    let place = file.display();
    let script = format!("{}; until [ -s '{place}' ]; do sleep 0.02; done; rm '{place}'", shell(&mock));
    let done = lab.run(&["--output", file.to_str().unwrap(), "--fail-on", "dropped"], &["sh", "-c", &script]);
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    let want =
        format!("ac7 run: --fail-on dropped: 1 event dropped: {}: it was removed [dropped]", file.display());
    assert_eq!(done.stderr.lines().last(), Some(want.as_str()));
}

/// A line for a shell that asks a model.
fn shell(mock: &Mock) -> String {
    let messages = url(MODEL, mock, "/v1/messages");
    format!("curl -sS --noproxy '' -o /dev/null -d '{}' {messages}", call(true))
}

#[test]
fn a_success_fails_on_what_is_named_and_on_nothing_else() {
    let whole = Mock::start(Options::default());
    let cut = Mock::start(Options { cut_after: Some(3), ..Options::default() });
    let lab = Lab::new(&[&whole, &cut]);
    let secret = format!("my key is sk-ant-api03-{}", "k".repeat(40));
    let full = ["--output", "/dev/full"];
    for (flags, mock, prompt, want) in [
        (&["--fail-on", "dropped,truncated,secrets-seen"][..], &whole, "hi", None),
        (&[&full[..], &["--fail-on", "truncated,secrets-seen"]].concat(), &whole, "hi", None),
        (
            &[&full[..], &["--fail-on", "truncated", "--fail-on", "dropped"]].concat(),
            &whole,
            "hi",
            Some("ac7 run: --fail-on dropped: 1 event dropped: /dev/full: "),
        ),
        (&["--fail-on", "dropped,truncated"], &whole, &secret, None),
        (
            &["--fail-on", "secrets-seen"],
            &whole,
            &secret,
            Some("ac7 run: --fail-on secrets-seen: 1 secret redacted [secrets-seen]"),
        ),
    ] {
        let done = ask(&lab, mock, flags, prompt);
        assert_eq!(done.code, Some(if want.is_some() { 3 } else { 0 }), "{flags:?}: {}", done.stderr);
        let said = done.stderr.lines().find(|line| line.contains("--fail-on"));
        assert_eq!(said.is_some(), want.is_some(), "{}", done.stderr);
        assert!(said.unwrap_or_default().starts_with(want.unwrap_or_default()), "{}", done.stderr);
    }

    // The command's own failure wins; what has happened is told all the same.
    let messages = url(MODEL, &cut, "/v1/messages");
    let body = call(true);
    let args = [&JSON[..], &["-o", "/dev/null", "-d", &body, &messages]].concat();
    let done = lab.curl(&["--fail-on", "truncated", "--json"], &args);
    assert_eq!(done.code, Some(18), "curl's own: {}", done.stderr);
    assert!(done.stderr.contains("ac7 run: --fail-on truncated: 1 exchange truncated\n"), "{}", done.stderr);
    let json: Value = done.stderr.lines().last().unwrap().parse().unwrap();
    assert_eq!((&json["failedOn"], &json["exitCode"]), (&json!(["truncated"]), &json!(18)));
    let script = format!("{}; true", shell(&cut));
    assert_eq!(lab.run(&["--fail-on", "truncated"], &["sh", "-c", &script]).code, Some(3));
}

#[test]
fn logins_where_they_belong_are_no_secrets_that_are_seen() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let login = format!("authorization: Bearer sk-ant-api03-{}", "k".repeat(40));
    let form = "grant_type=refresh_token&refresh_token=rt-1&client_secret=s3cret";
    let (messages, token) = (url(MODEL, &mock, "/v1/messages"), url(OTHER, &mock, "/oauth/token?code=abc"));
    let one = ["-H", &login, "-o", "/dev/null", "-d", &call(false), &messages];
    let args =
        [&one[..], &["--next", "-sS", "--noproxy", "", "-H", &login, "-o", "/dev/null", "-d", form, &token]];
    let done = lab.curl(&["--fail-on", "secrets-seen"], &args.concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = json!(lab.events()).to_string();
    assert!(text.contains("[REDACTED]") && !text.contains("rt-1") && !text.contains("s3cret"), "{text}");
}

#[test]
fn conditions_that_make_no_sense_are_refused() {
    let lab = Lab::new(&[]);
    for (flags, want) in [
        (
            &["--fail-on", "lost"][..],
            "ac7 run: bad --fail-on: lost: it is not dropped, truncated or secrets-seen",
        ),
        (&["--fail-on", "dropped", "--no-trace"], "ac7 run: --fail-on and --no-trace exclude each other"),
        (&["--summary", ""], "ac7 run: bad --summary: : it is empty"),
    ] {
        let done = lab.run(flags, &["echo", "started"]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{flags:?}");
        assert!(done.stderr.starts_with(want), "{}", done.stderr);
    }
}

#[test]
fn the_summary_in_markdown_goes_to_standard_error_and_to_the_end_of_a_file() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let page = lab.home.join("page.md");
    fs::write(&page, "# Before\n").unwrap();
    fs::set_permissions(&page, fs::Permissions::from_mode(0o644)).unwrap();
    let body = json!({"model": "x`|<b>", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let messages = url(MODEL, &mock, "/v1/messages");
    let body = body.to_string();
    let args = [&JSON[..], &["-o", "/dev/null", "-d", &body, &messages]].concat();
    let done = lab.curl(&["--quiet", "--summary", "markdown", "--summary", page.to_str().unwrap()], &args);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = fs::read_to_string(&page).unwrap();
    let ours = text.strip_prefix("# Before\n").unwrap();
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o644, "the job's own file");
    assert_eq!(done.stderr, format!("{ours}\n"));
    assert!(ours.starts_with("### ac7: 1 model call in ") && ours.ends_with("|\n\n"), "{ours}");
    assert!(ours.contains("| <code>x&#96;&#124;&#60;b&#62;</code> | 1 | "), "{ours}");
    assert!(ours.contains("| 0 | 1 | 0 | 0 | 0 | 0 | 0 |"), "{ours}");
    // A command that fails has its page too.
    let new = lab.home.join("new.md");
    assert_eq!(lab.run(&["--summary", new.to_str().unwrap()], &["sh", "-c", "exit 7"]).code, Some(7));
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&new).unwrap().contains("| 7 | 0 | "));
}
