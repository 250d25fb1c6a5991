//! What ac7 keeps from itself and from others, and that the command keeps all it had.
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::run::wait_until;

use crate::environment::{demote, give, ordinary, within};
use crate::lab::{Held, Lab, finish};

/// An `ac7` with a home of the ordinary user's.
fn lab() -> Lab {
    let lab = Lab::new(&[]);
    for name in ["home", "tmp"] {
        give(&lab.home.join(name));
    }
    lab
}

#[test]
fn the_command_is_as_free_as_without_ac7() {
    let lab = lab();
    let limits = "umask; ulimit -c; ulimit -Hc; ulimit -n; grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; \
                  head -c 1 /proc/$$/environ >/dev/null && echo open";
    let script = ["sh", "-c", limits];
    let limited = ["sh", "-c", "umask 027; ulimit -Sc 0; ulimit -Sn 300; exec \"$0\" \"$@\""];
    let seen = |inner: &Command| {
        let done = finish(demote(&mut within(&limited, inner)));
        assert_eq!((done.code, done.stdout.lines().count()), (Some(0), 8), "{done:?}");
        done.stdout
    };
    let ac7 = ordinary(&lab, &lab.command(&["--quiet"], &script));
    let mut bare = Command::new(script[0]);
    bare.args(&script[1..]).current_dir(lab.home.join("home")).env("PATH", std::env::var_os("PATH").unwrap());
    assert_eq!(seen(&ac7), seen(&bare));
}

/// Lines that say whether another process of the same user may look into this one.
fn look(pid: &str) -> String {
    format!(
        "for file in environ maps fd/0; do head -c 1 /proc/{pid}/$file >/dev/null 2>&1 && echo open || echo shut; done"
    )
}

#[test]
fn threads_that_read_what_others_send_gain_no_privileges() {
    let held = Held::start(&lab(), &[]);
    let can_gain = || {
        let threads = fs::read_dir(format!("/proc/{}/task", held.pid())).unwrap().flatten();
        let said = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        let mut names: Vec<String> = said
            .map(|status| {
                let free = status.contains("\nNoNewPrivs:\t0\n");
                format!("{} {free}", status.lines().next().unwrap().trim_start_matches("Name:\t"))
            })
            .collect();
        names.sort();
        names
    };
    // The first one starts the command. A thread that is just beginning has its name and its limits in a moment.
    let want = ["ac7 true", "ac7-capture false", "ac7-proxy false", "ac7-signals false", "ac7-store false"];
    wait_until("all threads but the first have given it up", || (can_gain() == want).then_some(()));
    held.finish();
}

#[test]
fn nobody_looks_into_the_process_that_holds_the_sessions_key() {
    let lab = lab();
    let script = format!("{}; {}", look("$PPID"), look("$$"));
    let done = finish(&mut ordinary(&lab, &lab.command(&["--quiet"], &["sh", "-c", &script])));
    assert_eq!(done.stdout, "shut\nshut\nshut\nopen\nopen\nopen\n", "{}", done.stderr);
}

#[test]
fn a_broker_gives_up_what_it_does_not_need() {
    let lab = lab();
    let setup = ["setup", "--non-interactive", "--team", "T", "--member", "ann"];
    let done = finish(&mut ordinary(&lab, &lab.home.ac7(setup)));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut serve = ordinary(&lab, &lab.home.ac7(["serve", "--port", "0"]));
    let mut serve = serve.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("ac7 serve: listening")));
    let pid = serve.id().to_string();
    let mut sh = Command::new("sh");
    let seen = finish(demote(sh.args(["-c", &look(&pid)])));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let threads: Vec<String> =
        threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap()).collect();
    let limits = finish(Command::new("cat").arg(format!("/proc/{pid}/limits"))).stdout;
    serve.kill().unwrap();
    serve.wait().unwrap();
    assert_eq!(seen.stdout, "shut\nshut\nshut\n");
    assert!(status.contains("\nUmask:\t0077\n"), "{status}");
    assert!(threads.len() > 2 && threads.iter().all(|status| status.contains("\nNoNewPrivs:\t1\n")));
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
}
