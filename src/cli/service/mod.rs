//! `ac7 service`: the broker as a service of systemd or launchd. Each command that is run is shown first.
mod plan;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{geteuid, getuid};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::Value;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, Verb, broker, format, prune_traces, terminal};
use crate::sys::file;
use plan::{Manager, Plan, Scope, Step};

const PAGE: &str = "ac7-service";
const SEE_ALSO: &[&str] = &["ac7-service(8)", "ac7-serve(8)"];

/// Whose service, and whether it is only shown what would be done.
const WHOSE: &[Flag] = &[
    Flag::switch("system", "The machine's service").or("for root"),
    Flag::switch("user", "The user's service").or("for everybody else"),
    Flag::switch("dry-run", "Show what would be done, and do nothing"),
];
const YES: Flag = Flag::switch("yes", "Do not ask");

const EXITS: &[(&str, &str)] = &[
    ("0", "done"),
    ("1", "it failed, or the answer was not yes"),
    ("2", "the command line makes no sense, or --yes is missing without a terminal"),
];

/// How long a broker may take to come back, s.
const PATIENCE_S: u32 = 30;
/// Lines of the log that are shown when it does not.
const LAST_LINES: u32 = 20;
/// Bytes of a variable's value.
const VALUE_LIMIT: u64 = 64 << 10;

const BASE: Verb = Verb {
    name: "service",
    group: Group::Operate,
    summary: "Run the broker as a service",
    operands: Operands::None,
    flags: &[WHOSE],
    examples: &[("", ""), ("", "")],
    exits: EXITS,
    see_also: SEE_ALSO,
    page: PAGE,
    run: |_| Ok(0),
};

pub const INSTALL: Verb = Verb {
    name: "service install",
    summary: "Make the broker a service of this machine or user",
    flags: &[WHOSE, &[Flag::value("listen", "ADDRESS", "Let systemd listen there and hand the socket over")]],
    examples: &[
        ("ac7 service install --dry-run", "the unit and the commands"),
        ("sudo ac7 service install --listen 10.0.0.5:443", "a hardened service of the machine"),
    ],
    run: install,
    ..BASE
};

pub const UNINSTALL: Verb = Verb {
    name: "service uninstall",
    summary: "Stop the service and forget it; its data stays",
    examples: &[
        ("ac7 service uninstall --dry-run", "what would go"),
        ("sudo ac7 service uninstall", "the machine's service"),
    ],
    run: |parsed| all(parsed, UNINSTALL.name, |plan| Ok(plan.uninstall())),
    ..BASE
};

pub const START: Verb = Verb {
    name: "service start",
    summary: "Start the service",
    examples: &[("ac7 service start", "yours"), ("sudo ac7 service start", "the machine's")],
    run: |parsed| act(parsed, START.name, "start"),
    ..BASE
};

pub const STOP: Verb = Verb {
    name: "service stop",
    summary: "Stop the service",
    examples: &[("ac7 service stop", "yours"), ("sudo ac7 service stop", "the machine's")],
    run: |parsed| act(parsed, STOP.name, "stop"),
    ..BASE
};

pub const RELOAD: Verb = Verb {
    name: "service reload",
    summary: "Let the broker read its team file again",
    examples: &[
        ("ac7 service reload", "no connection is lost"),
        ("ac7 service reload --system --dry-run", "how it would be done"),
    ],
    run: |parsed| act(parsed, RELOAD.name, "reload"),
    ..BASE
};

pub const RESTART: Verb = Verb {
    name: "service restart",
    summary: "Restart the broker, and wait until it answers",
    flags: &[WHOSE, &[YES], broker::PLACE],
    examples: &[
        ("ac7 service restart", "say who is connected, ask, restart"),
        ("ac7 service restart --yes", "from a script"),
    ],
    run: restart,
    ..BASE
};

pub const STATUS: Verb = Verb {
    name: "service status",
    summary: "Show what systemd or launchd says of the service",
    examples: &[("ac7 service status", "yours"), ("ac7 service status --system", "the machine's")],
    run: |parsed| act(parsed, STATUS.name, "status"),
    ..BASE
};

pub const LOGS: Verb = Verb {
    name: "service logs",
    summary: "Show what the service has said",
    flags: &[
        WHOSE,
        &[Flag::value("lines", "N", "So many lines").or("80"), Flag::switch("follow", "And those to come")],
    ],
    examples: &[
        ("ac7 service logs --lines 20", "the last ones"),
        ("ac7 service logs --follow", "until you interrupt it"),
    ],
    run: logs,
    ..BASE
};

pub const SET_ENV: Verb = Verb {
    name: "service set-env",
    summary: "Give the service a secret variable, read from stdin",
    operands: Operands::One("NAME"),
    examples: &[
        ("ac7 service set-env AC7_KEK", "asks for the value, and does not show it"),
        ("ac7 service set-env AC7_KEK < kek.txt", "the same from a file"),
    ],
    run: set_env,
    ..BASE
};

/// The command that shows the log of this user's service: at most so many records since then (seconds since the epoch, 0
/// for ever).
///
/// # Errors
/// There is no home directory.
pub fn log_command(lines: usize, since: u64) -> Result<Vec<String>, Error> {
    let lines = u32::try_from(lines).unwrap_or(u32::MAX);
    Ok(plan_of(geteuid().is_root())?.records(lines, since))
}

/// The command that shows what is to come there, after the record at `cursor`.
///
/// # Errors
/// There is no home directory.
pub fn follow_command(cursor: Option<&str>) -> Result<Vec<String>, Error> {
    Ok(plan_of(geteuid().is_root())?.records_to_come(cursor))
}

fn plan(parsed: &Parsed) -> Result<Plan, Error> {
    if parsed.has("system") && parsed.has("user") {
        return Err(parsed.conflict("system", "user"));
    }
    plan_of(parsed.has("system") || (!parsed.has("user") && geteuid().is_root()))
}

fn plan_of(system: bool) -> Result<Plan, Error> {
    let scope = if system {
        Scope::System
    } else {
        let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let home = home.ok_or_else(|| Error::Failed {
            verb: BASE.name,
            what: "no place for a user's service: HOME is not set".to_string(),
            fix: Some("--system, as root".to_string()),
        })?;
        Scope::User { home, uid: getuid().as_raw() }
    };
    let manager = if cfg!(target_os = "macos") { Manager::Launchd } else { Manager::Systemd };
    Ok(Plan { manager, scope })
}

/// This program, where the service is to find it.
fn program(verb: &'static str) -> Result<PathBuf, Error> {
    let path = env::current_exe().map_err(|e| Error::failed(verb, format!("where ac7 itself is: {e}")))?;
    let text = path.to_str().unwrap_or_default();
    // A unit and a property list would read these as their own.
    if text.is_empty() || text.contains(['"', '\'', '\\', '%', '$', '<', '&', '\n', ' ']) {
        let what = format!("the path of ac7 cannot stand in a unit: {}", terminal::path(&path));
        return Err(Error::Failed { verb, what, fix: Some("make install under a plain path".to_string()) });
    }
    Ok(path)
}

fn all(
    parsed: &Parsed,
    verb: &'static str,
    steps: impl FnOnce(&Plan) -> Result<Vec<Step>, Error>,
) -> Result<u8, Error> {
    let plan = plan(parsed)?;
    let steps = steps(&plan)?;
    carry_out(verb, &steps, parsed.has("dry-run"))
}

/// Do what is to be done, and say so; with `dry` only the latter.
fn carry_out(verb: &'static str, steps: &[Step], dry: bool) -> Result<u8, Error> {
    for step in steps {
        let done = match step {
            Step::Write { path, content, private } => {
                terminal::say(format_args!("write {}", terminal::path(path)));
                match (dry, private) {
                    (true, true) => Ok(()),
                    (true, false) => io::stdout().lock().write_all(content.as_bytes()),
                    (false, private) => write(path, content, *private),
                }
                .map_err(|e| (path.clone(), e))
            }
            Step::Remove(path) => {
                terminal::say(format_args!("remove {}", terminal::path(path)));
                let removed = if dry { Ok(()) } else { fs::remove_file(path) };
                match removed {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => Err((path.clone(), e)),
                    _ => Ok(()),
                }
            }
            Step::Run(words) | Step::Try(words) => {
                let code = command(verb, words, dry)?;
                if code != 0 && matches!(step, Step::Run(_)) {
                    return Ok(1);
                }
                Ok(())
            }
        };
        done.map_err(|(path, e)| {
            let fix = (e.kind() == io::ErrorKind::PermissionDenied).then(|| "as root, or --user".to_string());
            Error::Failed { verb, what: format!("{}: {e}", terminal::path(&path)), fix }
        })?;
    }
    Ok(0)
}

fn write(path: &Path, content: &str, private: bool) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        if private { file::ensure_private_dir(folder)? } else { fs::create_dir_all(folder)? }
    }
    file::write_atomic(path, content.as_bytes())?;
    // Service managers read units as whoever they are; there is nothing secret in them.
    let mode = if private { 0o600 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Show a command and run it; gives its exit status.
fn command(verb: &'static str, words: &[String], dry: bool) -> Result<u8, Error> {
    terminal::say(format_args!("+ {}", words.join(" ")));
    if dry {
        return Ok(0);
    }
    let Some((program, arguments)) = words.split_first() else { return Ok(0) };
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    match status {
        Ok(status) => Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Err(e) => {
            let fix = Some("ac7 service needs systemd or launchd; else run ac7 serve yourself".to_string());
            Err(Error::Failed { verb, what: format!("{program}: {e}"), fix })
        }
    }
}

fn install(parsed: &Parsed) -> Result<u8, Error> {
    let verb = INSTALL.name;
    let why = "it is no address with a port, as 127.0.0.1:8717 or [::]:443";
    let listen = parsed.read("listen", why, |text| text.parse().ok())?;
    all(parsed, verb, |plan| match (listen, plan.manager) {
        (None, _) => Ok(plan.install(&program(verb)?)),
        (Some(listen), Manager::Systemd) => Ok(plan.install_with_socket(&program(verb)?, listen)),
        (Some(_), Manager::Launchd) => Err(Error::Refused {
            verb,
            why: "launchd hands over no socket".to_string(),
            fix: "--port of ac7 serve",
        }),
    })
}

fn act(parsed: &Parsed, verb: &'static str, action: &str) -> Result<u8, Error> {
    let code = command(verb, &plan(parsed)?.act(action), parsed.has("dry-run"))?;
    Ok(u8::from(code != 0))
}

fn logs(parsed: &Parsed) -> Result<u8, Error> {
    let lines = parsed.read("lines", "it is not a number of lines", |text| text.parse().ok())?.unwrap_or(80);
    let words = plan(parsed)?.logs(lines, parsed.has("follow"));
    let code = command(LOGS.name, &words, parsed.has("dry-run"))?;
    Ok(u8::from(code != 0))
}

fn restart(parsed: &Parsed) -> Result<u8, Error> {
    let verb = RESTART.name;
    let (plan, dry) = (plan(parsed)?, parsed.has("dry-run"));
    let client = broker::client(&broker::access(parsed, verb)?, None, verb)?;
    let health = || client.json("GET", "/healthz?verbose=1", None).ok();
    match health() {
        Some(now) => {
            let count = |name: &str| now[name].as_u64().unwrap_or_default();
            terminal::say(format_args!(
                "{} and {} now",
                format::counted(count("connections"), "connection"),
                format::counted(count("streams"), "stream"),
            ));
        }
        None => terminal::say("the broker does not answer now"),
    }
    terminal::say("you may get no further reply on this connection; check ac7 status in about 3 seconds");
    if !parsed.has("yes") && !dry {
        if !io::stdin().is_terminal() {
            let why = "not confirmed: standard input is no terminal".to_string();
            return Err(Error::Refused { verb, why, fix: "--yes" });
        }
        if !prune_traces::confirmed("Restart?") {
            terminal::say("nothing was done");
            return Ok(1);
        }
    }
    let start = |health: Value| health["startedAt"].as_u64();
    let before = health().map(start);
    if command(verb, &plan.act("restart"), dry)? != 0 {
        return Ok(1);
    }
    if dry {
        return Ok(0);
    }
    for _ in 0..PATIENCE_S {
        // The old one may still answer.
        if health().map(start).is_some_and(|now| before != Some(now)) {
            println!("daemon up");
            return Ok(0);
        }
        thread::sleep(Duration::from_secs(1));
    }
    terminal::say(format_args!("the broker has not answered for {PATIENCE_S} s; its last lines:"));
    command(verb, &plan.logs(LAST_LINES, false), false)?;
    Ok(1)
}

fn set_env(parsed: &Parsed) -> Result<u8, Error> {
    let verb = SET_ENV.name;
    let typed: OsString = parsed.operands.first().cloned().unwrap_or_default();
    let name = typed.to_str().filter(|name| is_name(name));
    let name = name.ok_or_else(|| {
        let why = format!("it is no name of a variable: {}", terminal::path(Path::new(&typed)));
        Error::Refused { verb, why, fix: "letters, digits and _" }
    })?;
    let plan = plan(parsed)?;
    let value = value(name).map_err(|e| Error::failed(verb, format!("the value of {name}: {e}")))?;
    if value.is_empty() || value.contains(['\'', '\n', '\0', '\\']) {
        let why = format!("the value of {name} is empty, or has a quote, a backslash or a second line");
        return Err(Error::Refused { verb, why, fix: "one line without them" });
    }
    let known = match fs::read_to_string(plan.variables_file()) {
        Ok(known) => known,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => {
            let what = format!("{}: {e}", terminal::path(&plan.variables_file()));
            return Err(Error::Failed { verb, what, fix: Some("as root, or --user".to_string()) });
        }
    };
    let code = carry_out(verb, &plan.set_variable(name, &value, &known), parsed.has("dry-run"))?;
    if code == 0 {
        terminal::say(format_args!("{name}=<redacted> holds from the next start: ac7 service restart"));
    }
    Ok(code)
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The value from standard input; on a terminal it is asked for and not shown.
fn value(name: &str) -> io::Result<String> {
    let input = io::stdin();
    let mut text = String::new();
    if input.is_terminal() {
        terminal::hint(format_args!("{name}: "));
        let shown = tcgetattr(&input)?;
        let mut hidden = shown.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&input, OptionalActions::Now, &hidden)?;
        let read = input.lock().read_line(&mut text);
        tcsetattr(&input, OptionalActions::Now, &shown)?;
        terminal::hint("\n");
        read?;
    } else {
        input.lock().take(VALUE_LIMIT).read_to_string(&mut text)?;
    }
    Ok(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_string())
}
