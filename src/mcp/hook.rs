//! `ac7 hook`: what the agent runs at its events. It asks the session what to say, and never gets in the way.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::ipc::{Frame, MAX_FRAME};
use super::lines::Lines;

/// From the start to the answer. The agent waits as long.
const WITHIN: Duration = Duration::from_secs(1);
/// The events that a session has something to say to.
const EVENTS: [&str; 2] = ["UserPromptSubmit", "Stop"];

/// What to print for `event`, which the agent describes on standard input. `None` wherever anything is not as it
/// should be: no session, no answer within a second, an event that nobody waits for.
#[must_use]
pub fn ask(socket: &Path, event: &str) -> Option<String> {
    let until = Instant::now() + WITHIN;
    if !EVENTS.contains(&event) {
        return None;
    }
    let input = described(until)?;
    let stream = UnixStream::connect(socket).ok()?;
    let asked = Frame::Hook { id: 1.into(), event: event.to_string(), input };
    stream.set_write_timeout(Some(left(until)?)).ok()?;
    (&stream).write_all(asked.encode().as_bytes()).ok()?;
    let (mut lines, mut chunk) = (Lines::default(), vec![0; 64 * 1024]);
    loop {
        stream.set_read_timeout(Some(left(until)?)).ok()?;
        match (&stream).read(&mut chunk).ok()? {
            0 => return None,
            read => lines.push(&chunk[..read]),
        }
        while let Some(line) = lines.take() {
            match Frame::decode(&line.ok()?).ok()? {
                Frame::HookReply { output, .. } => return output,
                Frame::Error { .. } | Frame::Shutdown { .. } => return None,
                _ => {}
            }
        }
    }
}

/// The JSON object on standard input. The agent may leave it open behind it.
fn described(until: Instant) -> Option<Value> {
    // A descriptor of our own reads past the buffer of the standard library, which poll cannot see into.
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned().ok()?);
    let (mut text, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let time = Timespec::try_from(left(until)?).ok()?;
        if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&time)) != Ok(1) {
            return None;
        }
        let read = stdin.read(&mut chunk).ok()?;
        text.extend_from_slice(&chunk[..read]);
        if read == 0 || text.trim_ascii_end().ends_with(b"}") {
            match serde_json::from_slice::<Value>(&text) {
                Ok(value) => return value.is_object().then_some(value),
                Err(_) if read == 0 => return None,
                Err(_) => {}
            }
        }
        if text.len() > MAX_FRAME {
            return None;
        }
    }
}

/// `None` where no time is left.
fn left(until: Instant) -> Option<Duration> {
    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
}
