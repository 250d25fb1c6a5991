//! Places where programs are run that were not made for them: no home, nothing to write to, no terminal, no loopback,
//! the first process of a container.
//!
//! Modes do not bind root, so that what is about modes runs as an ordinary user in either case. What is about
//! namespaces needs a kernel that lets this user make some. Some containers do not; there these two places cannot be
//! made, and the tests say so on standard error.
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::mock::{Mock, Options};
use support::run::{Finished, json_lines};

use crate::lab::{CURL, Lab, MODEL, call, events, finish, spawn, url};

/// Nobody in particular.
const ORDINARY: u32 = 65_534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same command, started by another: `words` come before its own.
pub fn within(words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(words[0]);
    outer.args(&words[1..]).arg(command.get_program()).args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    outer
}

/// The same command, started as an ordinary user.
pub fn ordinary(lab: &Lab, command: &Command) -> Command {
    if !is_root() {
        return within(&["env"], command);
    }
    // The build may lie where nobody else may look.
    let program = lab.home.join("ac7");
    if !program.exists() {
        // Another process writes it: a file that this one has open for writing when a test forks cannot be executed.
        assert!(Command::new("cp").arg(command.get_program()).arg(&program).status().unwrap().success());
        fs::set_permissions(lab.home.join("."), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut same = Command::new(program);
    same.args(command.get_args()).env_clear().stdin(Stdio::null()).uid(ORDINARY).gid(ORDINARY);
    same.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    same.current_dir(command.get_current_dir().unwrap());
    same
}

/// Start this as an ordinary user.
pub fn demote(command: &mut Command) -> &mut Command {
    if is_root() { command.uid(ORDINARY).gid(ORDINARY) } else { command }
}

/// Let the ordinary user write here.
pub fn give(path: &Path) {
    if is_root() {
        chown(path, Some(ORDINARY), Some(ORDINARY)).unwrap();
    }
}

/// Let nobody write here, but for root.
fn seal(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
}

/// A model call by curl.
fn ask(lab: &Lab, mock: &Mock, flags: &[&str]) -> Command {
    let (body, url) = (call(false), url(MODEL, mock, "/v1/messages"));
    lab.command(flags, &[&CURL[..], &["-o", "/dev/null", "-d", &body, &url]].concat())
}

fn rows(path: &Path) -> Vec<Value> {
    json_lines(&fs::read_to_string(path).unwrap())
}

/// A command in namespaces of its own, as `unshare` makes them with `flags`; `None` where the kernel refuses that to
/// everybody.
fn apart(flags: &[&str], command: &Command) -> Option<Finished> {
    for user in [&[][..], &["--user", "--map-root-user"]] {
        let words = [&["unshare"], user, flags].concat();
        let can = finish(Command::new(words[0]).args(&words[1..]).arg("true"));
        if can.code == Some(0) {
            return Some(finish(&mut within(&words, command)));
        }
        assert!(can.stderr.contains("not permitted"), "{words:?}: {}", can.stderr);
    }
    eprintln!("no namespaces for anybody here: {flags:?} is not tried");
    None
}

#[test]
fn a_home_is_that_of_the_system_where_none_is_set() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let file = lab.home.join("trace.jsonl");
    let mut command = ask(&lab, &mock, &["--output", file.to_str().unwrap()]);
    for name in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    let done = finish(&mut command);
    assert_eq!((done.code, rows(&file).len()), (Some(0), 1), "{}", done.stderr);

    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let uid = rustix::process::getuid().as_raw().to_string();
    let ours = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user[2] == uid);
    let mut doctor = lab.home.ac7(["doctor"]);
    let said = finish(doctor.env_remove("HOME").env_remove("XDG_DATA_HOME")).stdout;
    let want = ours.filter(|user| Path::new(user[5]).is_dir());
    let want = want.map(|user| format!(" MiB in {}/.local/share/ac7\n", user[5].trim_end_matches('/')));
    assert_eq!(said.contains("free disk for traces"), want.is_some(), "{said}");
    assert!(said.contains(&want.unwrap_or_default()), "{said}");

    // A home that is none: what can be set is said, and nothing is made in the current directory.
    let mut command = ask(&lab, &mock, &[]);
    let done = finish(command.env("HOME", "here").env_remove("XDG_DATA_HOME"));
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stderr.lines().last(), Some("  fix: --db PATH or --output FILE, or set HOME"));
    assert_eq!(lab.home.left_behind(), [""; 0]);
    assert!(!lab.home.join("home/here").exists());
}

#[test]
fn a_home_that_cannot_be_written_costs_the_record_and_not_the_command() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    give(&lab.home.tmp());
    seal(&lab.home.join("home"));
    let bare = |flags: &[&str]| {
        let mut command = ask(&lab, &mock, flags);
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"] {
            command.env_remove(name);
        }
        finish(&mut ordinary(&lab, &command))
    };
    let done = bare(&[]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let want = "ac7: 1 event dropped: cannot open the database: ";
    assert!(done.stderr.lines().any(|line| line.starts_with(want)), "{}", done.stderr);
    assert_eq!(bare(&["--fail-on", "dropped"]).code, Some(3));
    let file = lab.home.tmp().join("trace.jsonl");
    let done = bare(&["--output", file.to_str().unwrap(), "--fail-on", "dropped"]);
    assert_eq!((done.code, rows(&file).len()), (Some(0), 1), "{}", done.stderr);
    assert_eq!(lab.home.left_behind(), ["trace.jsonl"]);
    assert_eq!(fs::read_dir(lab.home.join("home")).unwrap().count(), 0);
}

#[test]
fn a_tmpdir_that_cannot_be_written_is_told_and_done_without() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    give(&lab.home.join("home"));
    let sealed = lab.home.join("sealed");
    fs::create_dir(&sealed).unwrap();
    seal(&sealed);
    let run = |folder: &Path| {
        let mut command = ask(&lab, &mock, &[]);
        finish(&mut ordinary(&lab, command.env("TMPDIR", folder)))
    };
    for folder in [sealed.clone(), lab.home.join("missing")] {
        let done = run(&folder);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let place = lab.home.join("home/cache/agentc7/tmp");
        let want = format!(
            "ac7: $TMPDIR cannot be written; certificates were kept in {} [no-temp]",
            place.display()
        );
        assert!(done.stderr.lines().any(|line| line == want), "{}", done.stderr);
    }
    assert_eq!(lab.events().len(), 2);
    // Nor elsewhere: then what can be set is said.
    seal(&lab.home.join("home/cache/agentc7/tmp"));
    let done = run(&sealed);
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{}", done.stderr);
    let want = "  fix: unset TMPDIR, or point it at a directory that can be written";
    assert_eq!(done.stderr.lines().last(), Some(want));
}

#[test]
fn neither_a_terminal_nor_standard_streams_are_needed() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let command = ask(&lab, &mock, &[]);
    let done = Finished::from(&spawn(&command).wait_with_output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);

    // What the command opens first must not become one of its standard streams.
    let script = "read line; echo \"read $?\" >&2; echo out";
    for (closed, want) in [("<&-", Some("read 1\n")), (">&-", None), ("<&- >&- 2>&-", None)] {
        let ac7 = lab.command(&["--quiet"], &["sh", "-c", script]);
        let done = finish(&mut within(&["sh", "-c", &format!("exec \"$0\" \"$@\" {closed}")], &ac7));
        assert_eq!(done.code, Some(0), "{closed}: {}", done.stderr);
        if let Some(want) = want {
            assert_eq!((done.stderr.as_str(), done.stdout.as_str()), (want, "out\n"), "{closed}");
        }
    }
    assert_eq!(lab.home.left_behind(), [""; 0]);
    assert_eq!(lab.events().len(), 1);
}

#[test]
fn the_first_process_of_a_container_buries_the_dead() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let file = lab.home.join("trace.jsonl");
    // Ten programs that lose their parent and end; then no process is left that has ended and was not reaped.
    let script = format!(
        "i=0; while [ $i -lt 10 ]; do (sleep 0.1 &); i=$((i+1)); done; sleep 0.1; \
         while grep -q '^[0-9]* (sleep)' /proc/[0-9]*/stat; do sleep 0.02; done; \
         cat /proc/self/status | grep PPid; curl -sS --noproxy '' -o /dev/null -d '{}' {}; exit 7",
        call(false),
        url(MODEL, &mock, "/v1/messages")
    );
    let command = lab.command(&["--output", file.to_str().unwrap()], &["timeout", "20", "sh", "-c", &script]);
    let pid_1 = ["--pid", "--fork", "--mount-proc"];
    let Some(done) = apart(&pid_1, &command) else { return };
    // The mock is outside, but it is only the processes that are apart.
    assert_eq!((done.code, rows(&file).len()), (Some(7), 1), "{}", done.stderr);
    let whose = lab.command(&["--quiet"], &["sh", "-c", "echo $PPID"]);
    assert_eq!(apart(&pid_1, &whose).unwrap().stdout, "1\n", "ac7 is the first process");
    // A signal that the container is stopped with reaches the command.
    let stopped = lab.command(&["--quiet"], &["sh", "-c", "kill -TERM 1; sleep 20"]);
    assert_eq!(apart(&pid_1, &stopped).unwrap().code, Some(143));
}

#[test]
fn without_a_loopback_it_is_said_what_works_without() {
    let lab = Lab::new(&[]);
    let no_net = ["--net"];
    let Some(done) = apart(&no_net, &lab.command(&[], &["echo", "started"])) else { return };
    assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{}", done.stderr);
    let said: Vec<&str> = done.stderr.lines().collect();
    assert!(said[0].starts_with("ac7 run: cannot listen on 127.0.0.1: "), "{said:?}");
    assert!(said[0].ends_with(" [no-proxy]"), "{said:?}");
    assert_eq!(said[1], "  fix: --no-trace runs the command without the proxy");
    assert_eq!(lab.home.left_behind(), [""; 0]);
    let done = apart(&no_net, &lab.command(&["--no-trace"], &["echo", "started"])).unwrap();
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "started\n", ""));
    let done = apart(&no_net, &lab.home.ac7(["doctor"])).unwrap();
    assert_eq!(done.code, Some(1));
    let fail = done.stdout.lines().position(|line| line.starts_with("[FAIL] loopback proxy bindable"));
    let fix = fail.and_then(|at| done.stdout.lines().nth(at + 1));
    assert_eq!(fix, Some("  fix: --no-trace runs the agent without the proxy"), "{}", done.stdout);
}

#[test]
fn an_odd_umask_is_the_commands_alone() {
    let mock = Mock::start(Options::default());
    for mask in ["000", "777", "177", "022"] {
        let lab = Lab::new(&[&mock]);
        give(&lab.home.join("home"));
        give(&lab.home.tmp());
        let script = format!(
            "umask; head -n 1 \"$SSL_CERT_FILE\"; stat -c %a \"$TMPDIR\"/*.pem; \
             curl -sS --noproxy '' -o /dev/null -d '{}' {}",
            call(false),
            url(MODEL, &mock, "/v1/messages")
        );
        let ac7 = ordinary(&lab, &lab.command(&[], &["sh", "-c", &script]));
        let mut masked = within(&["sh", "-c", &format!("umask {mask}; exec \"$0\" \"$@\"")], &ac7);
        let done = finish(demote(&mut masked));
        assert_eq!(done.code, Some(0), "{mask}: {}", done.stderr);
        let said: Vec<&str> = done.stdout.lines().collect();
        assert_eq!(said, [&format!("0{mask}"), "-----BEGIN CERTIFICATE-----", "600", "600"], "{mask}");
        assert_eq!(lab.events().len(), 1, "{mask}: {}", done.stderr);
        for (path, want) in
            [("data", 0o700), ("data/ac7", 0o700), ("data/ac7/activity.db", 0o600), ("cache/agentc7", 0o700)]
        {
            let path = lab.home.join("home").join(path);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, want, "{mask} {path:?}");
        }
    }
}

#[test]
fn a_current_directory_is_not_needed() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    for name in ["home", "tmp"] {
        give(&lab.home.join(name));
    }
    let sealed = lab.home.join("sealed");
    fs::create_dir(&sealed).unwrap();
    seal(&sealed);
    let done = finish(ordinary(&lab, &ask(&lab, &mock, &[])).current_dir(&sealed));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // One that was removed meanwhile.
    let gone = lab.home.join("home/gone");
    fs::create_dir(&gone).unwrap();
    let ac7 = ask(&lab, &mock, &[]);
    let mut shell = within(&["sh", "-c", "rmdir \"$PWD\" && exec \"$0\" \"$@\""], &ac7);
    let done = finish(shell.current_dir(&gone));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!gone.exists());
    assert_eq!(events(&lab.db()).len(), 2);
    assert_eq!(json!(lab.home.left_behind()), json!([]));
}
