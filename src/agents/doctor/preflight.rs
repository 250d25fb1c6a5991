//! The five checks without which no session can be captured.
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{env, fs};

use super::Check;
use crate::agents::Agent;
use crate::sys::{file, paths, random};
use crate::tls::SessionCa;

const TMPDIR: &str = "$TMPDIR writable";
const LOOPBACK: &str = "loopback proxy bindable";
const CA: &str = "trace CA + leaf cert generation";
const POSTURE: &str = "TLS validation posture";

/// Look at what a start of the agent needs, in this order: its program, a place for private files, a loopback port,
/// certificates, and whether the environment turns their validation off. Only failures should keep it from starting.
#[must_use]
pub fn preflight(agent: Agent) -> Vec<Check> {
    vec![
        binary(agent),
        temp_dir(&paths::temp_dir()),
        loopback(),
        certificates(),
        posture(env::var("NODE_TLS_REJECT_UNAUTHORIZED").ok().as_deref()),
    ]
}

fn binary(agent: Agent) -> Check {
    let name = match agent {
        Agent::ClaudeCode => "claude binary",
        Agent::Codex => "codex binary",
    };
    match agent.find() {
        Ok(path) => Check::pass(name, path.display().to_string()),
        Err(missing) => Check::fail(name, missing.to_string(), missing.fix()),
    }
}

fn temp_dir(folder: &Path) -> Check {
    let fix = "unset TMPDIR, or point it at a directory that can be written";
    let mode = || -> io::Result<u32> {
        let path = folder.join(format!("ac7-doctor-{}", random::hex::<6>()));
        let written = file::create_private(&path).and_then(|mut file| {
            file.write_all(b"x")?;
            file.metadata()
        });
        let removed = if written.is_ok() { fs::remove_file(&path) } else { Ok(()) };
        let mode = written?.permissions().mode() & 0o777;
        removed.map(|()| mode)
    };
    let place = folder.display();
    match mode() {
        Ok(0o600) => Check::pass(TMPDIR, place.to_string()),
        Ok(mode) => {
            Check::fail(TMPDIR, format!("{place}: files there are {mode:04o}, and not 0600 as asked"), fix)
        }
        Err(why) => Check::fail(TMPDIR, format!("{place}: {why}"), fix),
    }
}

fn loopback() -> Check {
    let reached = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| TcpStream::connect(listener.local_addr()?).map(drop));
    match reached {
        Ok(()) => Check::pass(LOOPBACK, "127.0.0.1"),
        Err(why) => {
            Check::fail(LOOPBACK, format!("127.0.0.1: {why}"), "--no-trace runs the agent without the proxy")
        }
    }
}

fn certificates() -> Check {
    match SessionCa::new(None).and_then(|ca| ca.server_config("api.anthropic.com")) {
        Ok(_) => Check::pass(CA, "ECDSA P-256, valid for 24 h"),
        Err(why) => Check::fail(
            CA,
            why.to_string(),
            "install another build of ac7; --no-trace runs the agent without certificates",
        ),
    }
}

fn posture(reject: Option<&str>) -> Check {
    if reject == Some("0") {
        let fix = "unset NODE_TLS_REJECT_UNAUTHORIZED, and name a root to trust with AC7_CA_CERT";
        return Check::warn(POSTURE, "NODE_TLS_REJECT_UNAUTHORIZED=0 is set", fix);
    }
    Check::pass(POSTURE, "certificates are validated")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::doctor::State;

    #[test]
    fn what_a_start_needs_is_found_here() {
        let here = paths::temp_dir();
        for check in [temp_dir(&here), loopback(), certificates()] {
            assert_eq!((check.state, &check.fix), (State::Pass, &None), "{check:?}");
        }
        let checks = preflight(Agent::Codex);
        let names: Vec<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(names, ["codex binary", TMPDIR, LOOPBACK, CA, POSTURE]);
        let left = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("ac7-doctor-");
        let folder = here.join(format!("preflight-{}", random::hex::<6>()));
        fs::create_dir(&folder).unwrap();
        assert_eq!(temp_dir(&folder).state, State::Pass);
        assert!(!fs::read_dir(&folder).unwrap().flatten().any(left));
        fs::remove_dir(&folder).unwrap();
    }

    #[test]
    fn a_place_that_is_none_fails() {
        let check = temp_dir(Path::new("/nowhere"));
        assert!(check.failed() && check.fix.is_some());
        assert_eq!(check.detail, "/nowhere: No such file or directory (os error 2)");
    }

    #[test]
    fn only_0_turns_validation_off() {
        for (value, want) in
            [(None, State::Pass), (Some(""), State::Pass), (Some("1"), State::Pass), (Some("0"), State::Warn)]
        {
            assert_eq!(posture(value).state, want, "{value:?}");
        }
    }
}
