//! Files of a session, on every way out; and signals.
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use support::mock::{Mock, Options};
use support::run::{Finished, wait_until};

use crate::lab::{Held, Lab, Lines, MODEL, finish, signal, spawn, url, wait};

/// The mode of each file below a directory, with its name.
const LIST: &str = "cd \"$TMPDIR\" && stat -c '%a %n' *";

fn modes(folder: &Path) -> Vec<(String, u32)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|e| {
            let kind = e.file_name().to_string_lossy().split_inclusive('-').take(3).collect();
            (kind, e.metadata().unwrap().permissions().mode() & 0o777)
        })
        .collect();
    files.sort();
    files
}

fn both() -> Vec<(String, u32)> {
    vec![("ac7-trace-bundle-".to_string(), 0o600), ("ac7-trace-ca-".to_string(), 0o600)]
}

#[test]
fn certificates_are_private_and_gone_on_every_way_out() {
    let lab = Lab::new(&[]);
    for (script, code) in
        [("", 0), ("exit 3", 3), ("kill -SEGV $$", 139), ("kill -KILL $$", 137), ("trap '' TERM; exit 9", 9)]
    {
        let done = lab.run(&["--quiet"], &["sh", "-c", &format!("{LIST}; {script}")]);
        assert_eq!(done.code, Some(code), "{script}: {}", done.stderr);
        let lines: Vec<&str> = done.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{}", done.stdout);
        assert!(lines[0].starts_with("600 ac7-trace-bundle-"), "{}", done.stdout);
        assert!(lines[1].starts_with("600 ac7-trace-ca-"), "{}", done.stdout);
        assert_eq!(lab.home.left_behind(), [""; 0], "{script}");
    }
    for command in ["no-such-program-x", "/"] {
        lab.run(&[], &[command]);
        assert_eq!(lab.home.left_behind(), [""; 0], "{command}");
    }
    // What keeps the session from starting after the files are there.
    let mut broken = lab.home.ac7(["run", "--url", "http://127.0.0.1:1", "--", "true"]);
    assert_eq!(finish(&mut broken).code, Some(1), "no token");
    assert_eq!(lab.home.left_behind(), [""; 0]);
}

#[test]
fn what_a_killed_runner_leaves_is_swept_by_the_next_one() {
    let lab = Lab::new(&[]);
    let held = Held::start(&lab, &[]);
    let other = Held::start(&lab, &[]);
    let mut four = [both(), both()].concat();
    four.sort();
    assert_eq!(modes(&lab.home.tmp()), four);
    held.kill();
    assert_eq!(lab.home.left_behind().len(), 4, "a kill -9 leaves them");
    assert_eq!(lab.run(&[], &["true"]).code, Some(0));
    assert_eq!(modes(&lab.home.tmp()), both(), "those of the live session stay");
    other.finish();
    assert_eq!(lab.home.left_behind(), [""; 0]);
}

#[test]
fn without_a_tmpdir_the_files_go_elsewhere_and_it_is_said() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let file = lab.home.join("file");
    fs::write(&file, "").unwrap();
    for tmp in [lab.home.join("missing"), file, PathBuf::from("/proc/nope")] {
        let script =
            format!("dirname \"$SSL_CERT_FILE\"; curl -sS -o /dev/null {}", url(MODEL, &mock, "/v1/models"));
        let mut command = lab.command(&[], &["sh", "-c", &script]);
        let done = finish(command.env("TMPDIR", &tmp));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let place = lab.home.join("home/cache/agentc7/tmp");
        assert_eq!(done.stdout.trim_end(), place.to_str().unwrap());
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "nothing is left behind");
        let note = format!(
            "ac7: $TMPDIR cannot be written; certificates were kept in {} [no-temp]",
            place.display()
        );
        assert!(done.stderr.lines().any(|line| line == note), "{}", done.stderr);
    }
    // Where nothing can be written the command does not run without capture behind the user's back.
    let mut command = lab.command(&[], &["sh", "-c", "echo started"]);
    let done = finish(command.env("TMPDIR", "/proc/nope").env("XDG_CACHE_HOME", "/proc/nope"));
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""));
    let said: Vec<&str> = done.stderr.lines().collect();
    assert!(said[0].starts_with("ac7 run: cannot write the session's certificate: /proc/nope: "), "{said:?}");
    assert_eq!(said[1], "  fix: unset TMPDIR, or point it at a directory that can be written");
}

/// A command that tells which signals it gets, until a file appears.
struct Trapping {
    child: Child,
    lines: Lines,
    end: PathBuf,
}

impl Trapping {
    const SCRIPT: &str = "for s in INT TERM HUP QUIT; do trap \"echo $s\" $s; done; echo ready; \
                          until [ -e \"$0\" ]; do sleep 0.02; done; exit 7";

    fn start(lab: &Lab) -> Trapping {
        let end = lab.home.join("end");
        let mut child =
            spawn(&lab.command(&["--quiet"], &["sh", "-c", Trapping::SCRIPT, end.to_str().unwrap()]));
        let mut lines = Lines::of(&mut child);
        assert_eq!(lines.next(), "ready");
        Trapping { child, lines, end }
    }

    fn end(mut self) -> Finished {
        fs::write(&self.end, "").unwrap();
        wait(self.child, &mut self.lines)
    }
}

#[test]
fn signals_reach_the_command_which_may_go_on() {
    for (sent, name) in
        [(Signal::INT, "INT"), (Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::QUIT, "QUIT")]
    {
        let lab = Lab::new(&[]);
        let mut session = Trapping::start(&lab);
        signal(&session.child, sent);
        assert_eq!(session.lines.next(), name);
        assert_eq!(modes(&lab.home.tmp()), both(), "the session goes on");
        let done = session.end();
        assert_eq!((done.code, done.stdout.as_str()), (Some(7), ""), "{name} came once: {}", done.stderr);
        assert_eq!(lab.home.left_behind(), [""; 0], "{name}");
    }
}

/// A file for `cat FILE -`, which says that it runs and then waits for input. A shell would do for that, but puts
/// signals off that come between two of its commands.
fn ready(lab: &Lab) -> String {
    let path = lab.home.join("ready");
    fs::write(&path, "ready\n").unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn a_signal_that_ends_the_command_ends_the_session_in_good_order() {
    for (sent, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)] {
        let lab = Lab::new(&[]);
        let mut child = spawn(&lab.command(&[], &["cat", &ready(&lab), "-"]));
        let mut lines = Lines::of(&mut child);
        assert_eq!(lines.next(), "ready");
        signal(&child, sent);
        let done = wait(child, &mut lines);
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(done.stderr.starts_with("ac7: no model call: "), "the summary is there: {}", done.stderr);
        assert_eq!(lab.home.left_behind(), [""; 0]);
        assert!(lab.log().contains("\"sink closed\""), "{}", lab.log());
    }
}

#[test]
fn a_second_interrupt_kills_the_command() {
    let lab = Lab::new(&[]);
    let mut session = Trapping::start(&lab);
    signal(&session.child, Signal::INT);
    assert_eq!(session.lines.next(), "INT");
    signal(&session.child, Signal::INT);
    let done = wait(session.child, &mut session.lines);
    assert_eq!((done.code, done.stdout.as_str()), (Some(137), ""));
    assert_eq!(lab.home.left_behind(), [""; 0]);
}

#[test]
fn an_interrupt_reaches_what_the_command_has_started() {
    // Its whole group: else a shell would go on waiting for its child.
    let lab = Lab::new(&[]);
    let mut child =
        spawn(&lab.command(&["--quiet"], &["sh", "-c", "cat \"$0\" -; echo after", &ready(&lab)]));
    let mut lines = Lines::of(&mut child);
    assert_eq!(lines.next(), "ready");
    signal(&child, Signal::INT);
    let done = wait(child, &mut lines);
    assert_eq!((done.code, done.stdout.as_str()), (Some(130), ""));
}

#[test]
fn on_a_terminal_the_interrupt_key_reaches_the_command_once() {
    let Ok(version) = Command::new("script").arg("--version").output() else { return };
    if !String::from_utf8_lossy(&version.stdout).contains("util-linux") {
        return;
    }
    let lab = Lab::new(&[]);
    let end = lab.home.join("end");
    let ac7 = lab.command(&["--quiet"], &["sh", "-c", Trapping::SCRIPT, end.to_str().unwrap()]);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
    let line: Vec<String> = std::iter::once(ac7.get_program()).chain(ac7.get_args()).map(quoted).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &format!("exec {}", line.join(" ")), "/dev/null"]).env_clear();
    command.envs(ac7.get_envs().filter_map(|(n, v)| Some((n, v?)))).env("SHELL", "/bin/sh");
    let mut script =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut lines = Lines::of(&mut script);
    assert_eq!(lines.next(), "ready");
    for _ in 0..2 {
        keys.write_all(b"\x03").unwrap();
        // The terminal echoes the key before what the command prints.
        assert_eq!(lines.next().trim_start_matches("^C"), "INT");
    }
    fs::write(&end, "").unwrap();
    let done = wait(script, &mut lines);
    assert_eq!(
        (done.code, done.stdout.trim_start_matches("^C")),
        (Some(7), ""),
        "twice in all: {}",
        done.stderr
    );
    assert_eq!(lab.home.left_behind(), [""; 0]);
}

#[test]
fn what_the_command_leaves_running_does_not_hold_the_session() {
    let lab = Lab::new(&[]);
    let pid = lab.home.join("pid");
    let script = format!("sleep 60 >/dev/null 2>&1 & echo $! >'{}'", pid.display());
    let done = lab.run(&["--quiet"], &["sh", "-c", &script]);
    assert_eq!(done.code, Some(0));
    let left = wait_until("the pid is written", || fs::read_to_string(&pid).ok()?.trim().parse().ok());
    let left = rustix::process::Pid::from_raw(left).unwrap();
    assert_eq!(rustix::process::kill_process(left, Signal::KILL), Ok(()), "it still ran");
}
