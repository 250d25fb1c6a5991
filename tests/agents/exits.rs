//! However `ac7 claude-code` ends, `.mcp.json` is what it was, and nothing is left: no file, no socket, no process.
use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use support::run::{Finished, wait_until};

use crate::team::{Team, claude_code, left_behind, script};

/// Says that it runs, then does what it is told to.
const AGENT: &str = r#"
grep -q '"ac7"' .mcp.json 2>/dev/null && touch merged
echo $$ > pid.new && mv pid.new pid
case "$MODE" in
  exit) exit 3;;
  crash) kill -SEGV $$;;
  wait) exec sleep 600;;
  *) until [ -e "$MODE" ]; do sleep 0.02; done; exit 3;;
esac
"#;

/// A file as a person may have written it.
const ODD: &str = "{ \"mcpServers\" : {\"x\":{\"command\":\"true\"}},\t\"n\": 1.50 }";

struct Lab {
    team: Team,
    original: Option<&'static str>,
}

impl Lab {
    fn new(original: Option<&'static str>) -> Lab {
        let lab = Lab { team: Team::new(), original };
        script(&lab.team.home, "claude", AGENT);
        lab.original.map_or(Ok(()), |text| fs::write(lab.file(".mcp.json"), text)).unwrap();
        lab
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.team.home.join("home").join(name)
    }

    /// A session whose agent runs, away from any terminal.
    fn start(&self, mode: &str) -> (Child, Pid) {
        for name in ["pid", "merged"] {
            let _ = fs::remove_file(self.file(name));
        }
        let ac7 = claude_code(&self.team, &[]);
        let mut away = Command::new("setsid");
        away.arg(ac7.get_program()).args(ac7.get_args()).env_clear().env("MODE", mode);
        away.envs(ac7.get_envs().filter_map(|(name, value)| Some((name, value?))));
        away.current_dir(ac7.get_current_dir().unwrap()).stdin(Stdio::null());
        let child = away.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = wait_until("the agent", || fs::read_to_string(self.file("pid")).ok());
        (child, Pid::from_raw(pid.trim().parse().unwrap()).unwrap())
    }

    /// See a session's end; gives what it said.
    fn ends(&self, what: &str, (child, agent): (Child, Pid), code: i32) -> String {
        let done = Finished::from(&child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(code), "{what}: {}", done.stderr);
        assert!(self.file("merged").exists(), "{what}: our entry was there");
        self.is_clean(what);
        wait_until("the agent's end", || (test_kill_process(agent) == Err(Errno::SRCH)).then_some(()));
        done.stderr
    }

    fn is_clean(&self, what: &str) {
        let now = fs::read_to_string(self.file(".mcp.json")).ok();
        assert_eq!(now.as_deref(), self.original, "{what}: .mcp.json");
        assert_eq!(left_behind(&self.team), [""; 0], "{what}");
    }
}

#[test]
fn whatever_ends_it_nothing_is_left() {
    for original in [Some(ODD), Some("{}"), None] {
        let mut lab = Lab::new(original);
        lab.ends("normal exit", lab.start("exit"), 3);
        lab.ends("crash", lab.start("crash"), 139);
        for (signals, code) in [
            (&[Signal::INT][..], 130),
            (&[Signal::TERM], 143),
            (&[Signal::HUP], 129),
            (&[Signal::TERM, Signal::TERM], 143),
        ] {
            let session = lab.start("wait");
            signals.iter().for_each(|signal| kill_process(Pid::from_child(&session.0), *signal).unwrap());
            lab.ends(&format!("{signals:?}"), session, code);
        }
        let session = lab.start("go");
        lab.team.kill_broker();
        fs::write(lab.file("go"), "").unwrap();
        lab.ends("broker gone", session, 3);
    }
}

#[test]
fn what_a_kill_leaves_the_next_start_puts_right() {
    for original in [Some(ODD), None] {
        let lab = Lab::new(original);
        let (mut child, agent) = lab.start("wait");
        child.kill().unwrap();
        child.wait().unwrap();
        kill_process_group(agent, Signal::KILL).unwrap();
        assert!(fs::read_to_string(lab.file(".mcp.json")).unwrap().contains("\"ac7\""));
        assert!(!left_behind(&lab.team).is_empty());
        let said = lab.ends("the next start", lab.start("exit"), 3);
        let file = lab.file(".mcp.json");
        let want = format!("ac7: restored {}, which a session that was killed", file.display());
        assert!(said.contains(&want), "{said}");
    }
}

#[test]
fn sessions_side_by_side_do_not_disturb_each_other() {
    let lab = Lab::new(Some(ODD));
    let first = lab.start("first");
    let second = lab.start("second");
    fs::write(lab.file("first"), "").unwrap();
    lab.ends_while_another_runs(first);
    fs::write(lab.file("second"), "").unwrap();
    let done = Finished::from(&second.0.wait_with_output().unwrap());
    assert_eq!(done.code, Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("ac7: .mcp.json is left alone, the agent gets --mcp-config: a session"));
    lab.is_clean("both");
}

impl Lab {
    fn ends_while_another_runs(&self, (child, _): (Child, Pid)) {
        let done = Finished::from(&child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(3), "{}", done.stderr);
        assert_eq!(fs::read_to_string(self.file(".mcp.json")).ok().as_deref(), self.original);
        let sockets = left_behind(&self.team).into_iter().filter(|name| name.ends_with(".sock"));
        assert_eq!(sockets.count(), 1, "the other's");
    }
}

#[test]
fn a_file_that_is_none_is_left_alone() {
    let lab = Lab::new(Some("not json"));
    let (child, _) = lab.start("exit");
    let done = Finished::from(&child.wait_with_output().unwrap());
    assert_eq!(done.code, Some(3));
    assert!(done.stderr.contains("ac7: .mcp.json is left alone") && done.stderr.contains("it is not JSON"));
    lab.is_clean("no configuration");
}
