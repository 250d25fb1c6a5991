//! The wrapped program: started with the terminal as its own, told of our signals, waited for.
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgrp, kill_process, kill_process_group, waitid,
};
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::sys::thread::{self, Joinable};
use crate::sys::{interrupt, process, umask};

/// On a terminal so many interrupts within [`IMPATIENCE`] kill the child; REPLs need the single ones.
const IMPATIENT_INTERRUPTS: usize = 3;
const IMPATIENCE: Duration = Duration::from_secs(2);
/// A child that is to end has this long to do so by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a shell reports what became of a command.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const SIGNALLED: i32 = 128;

/// The program could not be started.
#[derive(Debug)]
pub struct StartError {
    pub program: OsString,
    pub why: io::Error,
}

impl StartError {
    /// The exit code a shell would give.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.why.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
    }
}

/// Who may be signalled; empty once the child has been reaped, so that no stranger with its pid is hit.
type Live = Arc<Mutex<Option<Pid>>>;

/// Catches our signals from before the child starts until after it has ended.
pub struct Signalled {
    signals: Signals,
    handle: Handle,
}

/// Begin to catch signals. Those that come before there is a child are given to it as soon as it is there.
///
/// # Errors
/// What the operating system says.
pub fn catch_signals() -> io::Result<Signalled> {
    let signals = Signals::new([SIGINT, SIGQUIT, SIGTERM])?;
    // Whoever started us under nohup wants the command to outlive the terminal.
    if !interrupt::hangup_is_ignored() {
        signals.add_signal(SIGHUP)?;
    }
    let handle = signals.handle();
    Ok(Signalled { signals, handle })
}

/// Hears of our signals until it is dropped.
pub struct Watch(Option<(Joinable, Handle)>);

impl Signalled {
    /// Tell of each signal by its number, on a thread of its own.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn watch(self, tell: impl Fn(i32) + Send + 'static) -> io::Result<Watch> {
        let Signalled { mut signals, handle } = self;
        let thread = thread::spawn("signals", 64 * 1024, move || signals.forever().for_each(tell))?;
        Ok(Watch(Some((thread, handle))))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some((thread, handle)) = self.0.take() {
            handle.close();
            thread.join();
        }
    }
}

/// A running child. Dropping it before [`Running::wait`] has seen its end, as a panic does, ends it.
pub struct Running {
    child: Child,
    live: Live,
    forwarder: Option<(Joinable, Handle)>,
    /// Whether the child has a process group of its own.
    own_group: bool,
}

/// Start `command` with `environment` on top of ours, but without what `removed` names. `signals` are passed to it from
/// now on.
///
/// # Errors
/// [`StartError`]: not found, not executable, or no process to be had.
pub fn start(
    command: &[OsString],
    environment: &[(&'static str, OsString)],
    removed: &[&str],
    signals: Signalled,
) -> Result<Running, StartError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(StartError { program: OsString::new(), why: io::ErrorKind::NotFound.into() });
    };
    let failed = |why| StartError { program: program.clone(), why };
    let terminal = File::open("/dev/tty").ok();
    let mut command = Command::new(program);
    for name in removed {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    let own_group = terminal.is_none();
    if own_group {
        // Its own group, so that what it starts is signalled with it. With a terminal it stays in ours: job control
        // and ^C are the terminal's business.
        command.process_group(0);
    }
    let child = umask::lent(|| command.spawn()).map_err(failed)?;
    let live: Live = Arc::new(Mutex::new(Some(Pid::from_child(&child))));
    let Signalled { signals, handle } = signals;
    let forwarding = live.clone();
    let forwarder =
        thread::spawn("signals", 64 * 1024, move || forward(signals, &forwarding, terminal.as_ref()));
    // Without the thread the child runs all the same; signals then reach it through the terminal alone.
    let forwarder = forwarder.ok().map(|thread| (thread, handle));
    Ok(Running { child, live, forwarder, own_group })
}

fn kill(pid: Pid, own_group: bool, signal: Signal) {
    let _ = if own_group { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
}

impl Running {
    /// Wait for the child's end; gives the exit code to pass on: its own, or 128 and the signal's number.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn wait(mut self) -> io::Result<u8> {
        self.reap().map(code)
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(&self.child);
        // First see it end without reaping it, then forget its pid, then reap.
        process::wait_for_end(pid);
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let status = self.child.wait();
        if let Some((thread, handle)) = self.forwarder.take() {
            handle.close();
            thread.join();
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let live = *self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = live {
            kill(pid, self.own_group, Signal::TERM);
            let began = Instant::now();
            // Without reaping it, so that its pid stays its own.
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            while began.elapsed() < PATIENCE && matches!(waitid(WaitId::Pid(pid), ended), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            kill(pid, self.own_group, Signal::KILL);
            let _ = self.reap();
        }
    }
}

/// The exit code to pass on: the child's own, or 128 and the number of the signal that ended it.
pub fn code(status: ExitStatus) -> u8 {
    let number = status.code().or_else(|| status.signal().map(|s| SIGNALLED + s)).unwrap_or(1);
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn forward(mut signals: Signals, live: &Mutex<Option<Pid>>, terminal: Option<&File>) {
    let mut interrupts: Vec<Instant> = Vec::new();
    for number in signals.forever() {
        // In the foreground of a terminal, the child has had ^C and ^\ from there already.
        let had = terminal.is_some_and(|tty| tcgetpgrp(tty).is_ok_and(|group| group == getpgrp()));
        if number == SIGINT {
            interrupts.push(Instant::now());
            interrupts.retain(|at| at.elapsed() < IMPATIENCE || !had);
        }
        let impatient = interrupts.len() >= if had { IMPATIENT_INTERRUPTS } else { 2 };
        let signal = match number {
            SIGINT if impatient => Signal::KILL,
            SIGINT | SIGQUIT if had => continue,
            SIGINT => Signal::INT,
            SIGQUIT => Signal::QUIT,
            SIGTERM => Signal::TERM,
            _ => Signal::HUP,
        };
        let pid = live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *pid {
            kill(pid, terminal.is_none(), signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use rustix::process::test_kill_process;

    use super::{catch_signals, start};

    #[test]
    fn a_child_that_nobody_waits_for_is_ended() {
        let command = ["sleep", "600"].map(OsString::from);
        let running = start(&command, &[], &[], catch_signals().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_child(&running.child);
        assert!(test_kill_process(pid).is_ok());
        drop(running);
        assert_eq!(test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    }
}
