//! `ac7 hook`: quick, and silent wherever it has nothing to say.
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use support::run::{Finished, TempDir, wait_until};

use crate::rig::Session;

/// Run the hook; `input` is left open behind what is in it if `open`.
fn hook(event: &str, socket: Option<&Path>, input: &str, open: bool) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
    command.args(["hook", event]).env_remove("AC7_RUNNER_SOCKET");
    command.envs(socket.map(|path| ("AC7_RUNNER_SOCKET", path)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It need not read what it does not use.
    let _ = stdin.write_all(input.as_bytes());
    let held = open.then_some(stdin);
    let finished = Finished::from(&child.wait_with_output().unwrap());
    drop(held);
    finished
}

fn said(finished: &Finished) -> (Option<i32>, &str, &str) {
    (finished.code, &finished.stdout, &finished.stderr)
}

/// Run it until it has an answer: on a busy machine a second may not be enough.
fn answered(event: &str, session: &Session, input: &str, open: bool) -> String {
    wait_until("an answer", || {
        let finished = hook(event, Some(session.path()), input, open);
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{event} {open}");
        (!finished.stdout.is_empty()).then_some(finished.stdout)
    })
}

#[test]
fn what_the_session_says_is_printed() {
    let session = Session::start();
    let input = json!({"session_id": "s", "hook_event_name": "UserPromptSubmit", "prompt": "hi"});
    for (event, text, open) in [
        ("UserPromptSubmit", input.to_string(), false),
        ("UserPromptSubmit", format!("{input}\n"), true),
        ("Stop", format!("{input:#}\n\n"), false),
        ("Stop", input.to_string(), true),
    ] {
        assert_eq!(answered(event, &session, &text, open), "you said hi\nand this is all", "{event} {open}");
    }
    assert!(session.script.count(&format!("hook Stop {input}")) >= 2, "the session sees what the agent said");
    let large = json!({"prompt": "hi", "last_assistant_message": "x".repeat(300_000)}).to_string();
    assert_eq!(answered("Stop", &session, &large, false), "you said hi\nand this is all");
}

#[test]
fn everything_else_is_silence() {
    let session = Session::start();
    let folder = TempDir::new();
    let (here, nobody) = (Some(session.path()), folder.join("nobody"));
    for (event, socket, input) in [
        ("Stop", None, r#"{"prompt":"hi"}"#),
        ("Stop", Some(Path::new("")), r#"{"prompt":"hi"}"#),
        ("Stop", Some(nobody.as_path()), r#"{"prompt":"hi"}"#),
        ("Stop", Some(folder.path()), r#"{"prompt":"hi"}"#),
        ("Stop", here, ""),
        ("Stop", here, "{"),
        ("Stop", here, "[]"),
        ("Stop", here, "{\"prompt\":\"hi\"} x"),
        ("Stop", here, "{}"),
        ("SessionStart", here, r#"{"prompt":"hi"}"#),
    ] {
        assert_eq!(said(&hook(event, socket, input, false)), (Some(0), "", ""), "{event} {socket:?} {input}");
    }
    assert_eq!(session.script.events(), ["hook Stop {}"]);
}

#[test]
fn a_session_that_takes_its_time_is_not_waited_for() {
    let session = Session::start();
    let finished = hook("Stop", Some(session.path()), r#"{"prompt":"wait"}"#, false);
    assert_eq!(said(&finished), (Some(0), "", ""));
    let finished = hook("Stop", Some(session.path()), "{", true);
    assert_eq!(said(&finished), (Some(0), "", ""), "nor is an agent that does not finish its sentence");
}
