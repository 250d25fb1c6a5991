//! `ac7 service` before service managers that write down what they are asked.
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ac7::sys::random;
use support::run::free_port;

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
        fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >> '{noted}'\n{then}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
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
        ["journalctl --user-unit ac7.service --no-pager --output cat --lines 5 --follow"]
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
        ["systemctl --user disable --now ac7.service", "systemctl --user daemon-reload"]
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
    let (home, port) = (host.home.display().to_string(), free_port());
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
