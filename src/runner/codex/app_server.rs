//! `codex app-server`: a child that is spoken to over its standard input and output, one JSON object a line.
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use serde_json::Value;

use crate::sys::thread::{self, Joinable};
use crate::sys::{process, umask};

/// Lines that may wait until codex reads them.
const UNREAD: usize = 256;
/// The longest line that is read: a tool's output, with room to spare.
const LONGEST: u64 = 64 << 20;
/// The longest line of its own log that is kept.
const LONGEST_WORD: usize = 400;
/// A child that is to end after a panic of ours has this long.
const PATIENCE: Duration = Duration::from_secs(2);
const STACK: usize = 512 * 1024;

/// What is heard of it.
pub enum Heard {
    Said(Value),
    /// A line that is no JSON, or too long.
    Noise,
    /// It has ended, or closed its output.
    Ended,
}

/// A running app-server. Dropping it ends it.
pub struct AppServer {
    child: Child,
    pid: Pid,
    /// `None` once its input is closed.
    input: Option<SyncSender<String>>,
    threads: Vec<Joinable>,
    /// The last line of its own log.
    word: Arc<Mutex<String>>,
    reaped: bool,
}

impl AppServer {
    /// Start `program app-server arguments…` in `cwd`; `hear` is called on a thread of its own. It has a process group
    /// of its own, so that ^C on a terminal comes to us alone.
    ///
    /// # Errors
    /// No such program, no process or thread to be had.
    pub fn start(
        program: &Path,
        arguments: &[OsString],
        cwd: &Path,
        environment: (&[(&'static str, OsString)], &[&str]),
        hear: impl Fn(Heard) + Send + Clone + 'static,
    ) -> io::Result<AppServer> {
        let (set, removed) = environment;
        let mut command = Command::new(program);
        command.arg("app-server").args(arguments).current_dir(cwd);
        for name in removed {
            command.env_remove(name);
        }
        command.envs(set.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = umask::lent(|| command.spawn())?;
        let ends = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (input, lines) = sync_channel(UNREAD);
        let pid = Pid::from_child(&child);
        // From here on the child ends whatever happens.
        let word = Arc::<Mutex<String>>::default();
        let mut server = AppServer {
            child,
            pid,
            input: Some(input),
            threads: Vec::new(),
            word: word.clone(),
            reaped: false,
        };
        let (Some(stdin), Some(stdout), Some(stderr)) = ends else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let ended = hear.clone();
        // Its output tells only of the end of the last program that has inherited it.
        server.threads.push(thread::spawn("codex-end", STACK, move || {
            process::wait_for_end(pid);
            ended(Heard::Ended);
        })?);
        server.threads.push(thread::spawn("codex-log", STACK, move || follow(stderr, &word))?);
        server.threads.push(thread::spawn("codex-in", STACK, move || write(stdin, &lines))?);
        server.threads.push(thread::spawn("codex-out", STACK, move || read(stdout, hear))?);
        Ok(server)
    }

    /// Say something. False if it does not read what it was told before.
    pub fn send(&self, what: &Value) -> bool {
        let line = format!("{what}\n");
        self.input.as_ref().is_some_and(|input| input.try_send(line).is_ok())
    }

    /// Say no more: what was said before is still written.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Send a signal to it and all it has started.
    pub fn signal(&self, signal: Signal) {
        if !self.reaped {
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        // Without reaping it, so that its pid stays its own.
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        self.reaped || !matches!(waitid(WaitId::Pid(self.pid), ended), Ok(None))
    }

    /// The last line of its own log, if it wrote one.
    pub fn last_word(&self) -> Option<String> {
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        (!word.is_empty()).then(|| word.clone())
    }

    /// Wait for its end, which must have been seen to, and end what it has left running.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        self.finish()
    }

    fn finish(&mut self) -> io::Result<ExitStatus> {
        self.input = None;
        process::wait_for_end(self.pid);
        // Programs that it has started hold its output open, and would outlive the session.
        self.signal(Signal::KILL);
        self.reaped = true;
        let status = self.child.wait();
        self.threads.drain(..).for_each(Joinable::join);
        status
    }
}

impl Drop for AppServer {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal(Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < PATIENCE && !self.has_ended() {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.signal(Signal::KILL);
        let _ = self.finish();
    }
}

fn write(mut stdin: ChildStdin, lines: &Receiver<String>) {
    // Its end is heard on the other side.
    while let Ok(line) = lines.recv()
        && stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_ok()
    {}
}

/// Its own log is for its makers; the last line may tell why it ended.
fn follow(stderr: ChildStderr, word: &Mutex<String>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stderr).take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = plain(&String::from_utf8_lossy(&line));
                if !text.is_empty() {
                    *word.lock().unwrap_or_else(PoisonError::into_inner) = text;
                }
            }
        }
    }
}

/// A line without colours.
fn plain(line: &str) -> String {
    let mut parts = line.trim().split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        out.push_str(&part[end..]);
    }
    out.chars().take(LONGEST_WORD).collect()
}

fn read(stdout: ChildStdout, hear: impl Fn(Heard)) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stdout).take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return hear(Heard::Ended),
            Ok(_) if line.trim_ascii().is_empty() => {}
            Ok(_) => hear(serde_json::from_slice(&line).map_or(Heard::Noise, Heard::Said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_line_without_its_colours() {
        for (line, want) in [
            ("error: no\n", "error: no"),
            (
                "\u{1b}[2m2026\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m it\u{1b}[0m: broke\r\n",
                "2026 ERROR it: broke",
            ),
            ("\u{1b}[", ""),
        ] {
            assert_eq!(plain(line), want);
        }
    }
}
