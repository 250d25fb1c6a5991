//! Whether the agent's version is one that ac7 was made for.
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::Check;
use crate::agents::Agent;
use crate::sys::thread;

const NAME: &str = "agent version";

/// A cold start of a large program on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(15);
/// More than this no program says about its version.
const MOST: u64 = 4096;

type Version = [u32; 3];

/// The versions that ac7 was tried with, and the oldest that should do.
fn known(agent: Agent) -> (Version, Version) {
    match agent {
        Agent::ClaudeCode => ([2, 0, 0], [2, 1, 197]),
        Agent::Codex => ([0, 160, 0], [0, 169, 0]),
    }
}

/// Ask the agent's program for its version.
pub fn version(agent: Agent, program: &Path) -> Check {
    let fix = format!("run {} --version by hand", program.display());
    match ask(program, PATIENCE) {
        Ok(text) => judge(agent, &text, fix),
        Err(why) => Check::warn(NAME, why, fix),
    }
}

fn judge(agent: Agent, text: &str, fix: String) -> Check {
    let (oldest, tried) = known(agent);
    let shown = |version: Version| version.map(|n| n.to_string()).join(".");
    let Some(version) = text.split([' ', '\n', '@', 'v']).find_map(parse) else {
        let line: String = text.lines().next().unwrap_or_default().chars().take(80).collect();
        return Check::warn(NAME, format!("cannot be read from: {line}"), fix);
    };
    let what = format!("{} {}", agent.program(), shown(version));
    if version < oldest {
        let detail = format!("{what} is older than {}, which ac7 needs", shown(oldest));
        Check::warn(NAME, detail, format!("update {}", agent.program()))
    } else if version[0] > tried[0] {
        let detail = format!("{what} is newer than what ac7 was tried with ({})", shown(tried));
        Check::warn(NAME, detail, "look for a newer ac7 if something does not work")
    } else {
        Check::pass(NAME, format!("{what}, tried with {}", shown(tried)))
    }
}

/// `1.2.3`, perhaps with more behind it.
fn parse(word: &str) -> Option<Version> {
    let mut numbers = word.splitn(3, '.');
    let (major, minor) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    let rest = numbers.next()?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some([major, minor, rest[..digits].parse().ok()?])
}

/// What `program --version` prints.
fn ask(program: &Path, patience: Duration) -> Result<String, String> {
    let failed = |why: std::io::Error| format!("{} --version: {why}", program.display());
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let out = child.stdout.take();
    let (done, waiting) = mpsc::sync_channel(1);
    let reader = thread::spawn("version", 64 * 1024, move || {
        let mut text = Vec::new();
        let read = out.map_or(Ok(0), |out| out.take(MOST).read_to_end(&mut text));
        // Nobody listens any more where it took too long.
        let _ = done.send(read.map(|_| text));
    });
    let said = waiting.recv_timeout(patience);
    end(&mut child);
    // Its output has ended with it.
    reader.map_err(failed)?.join();
    match said {
        Ok(text) => Ok(String::from_utf8_lossy(&text.map_err(failed)?).into_owned()),
        Err(_) => Err(format!("{} --version said nothing in {} s", program.display(), patience.as_secs())),
    }
}

/// The program and what it has started.
fn end(child: &mut Child) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::doctor::State;

    #[test]
    fn versions_in_what_programs_say() {
        for (agent, text, state, want) in [
            (Agent::ClaudeCode, "2.1.197 (Claude Code)\n", State::Pass, "claude 2.1.197, tried with 2.1.197"),
            (Agent::ClaudeCode, "2.4.0-beta.1", State::Pass, "claude 2.4.0, tried with 2.1.197"),
            (Agent::ClaudeCode, "1.0.9", State::Warn, "claude 1.0.9 is older than 2.0.0, which ac7 needs"),
            (
                Agent::ClaudeCode,
                "3.0.0",
                State::Warn,
                "claude 3.0.0 is newer than what ac7 was tried with (2.1.197)",
            ),
            (Agent::Codex, "codex-cli 0.169.0\n", State::Pass, "codex 0.169.0, tried with 0.169.0"),
            (
                Agent::Codex,
                "codex v0.90.1",
                State::Warn,
                "codex 0.90.1 is older than 0.160.0, which ac7 needs",
            ),
            (Agent::Codex, "hello\nthere", State::Warn, "cannot be read from: hello"),
            (Agent::Codex, "", State::Warn, "cannot be read from: "),
        ] {
            let check = judge(agent, text, String::new());
            assert_eq!((check.state, check.detail.as_str()), (state, want));
        }
    }

    #[test]
    fn a_program_that_hangs_is_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("version-{}", crate::sys::random::hex::<6>()));
        std::fs::create_dir(&folder).unwrap();
        let script = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            path
        };
        // Another test may fork while a script is being written, and hold it open for writing for a moment.
        let ask = |program: &Path, patience| loop {
            match ask(program, patience) {
                Err(busy) if busy.contains("Text file busy") => {}
                other => return other,
            }
        };
        let answers = script("answers", "#!/bin/sh\necho 9.8.7; exit 3\n");
        assert_eq!(ask(&answers, PATIENCE).unwrap(), "9.8.7\n");
        let hangs = script("hangs", "#!/bin/sh\nsleep 600 & wait\n");
        let error = ask(&hangs, Duration::from_millis(50)).unwrap_err();
        assert!(error.ends_with("said nothing in 0 s"), "{error}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
