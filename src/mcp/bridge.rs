//! `ac7 mcp-bridge`: the MCP server that the agent starts. It speaks JSON-RPC over standard input and output, and
//! carries what concerns the tools to the session's socket and back.
//!
//! One thread waits for both; nothing that the session does holds up an answer that the bridge can give itself.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getppid;
use serde_json::{Map, Value, json};

use super::ipc::{BadFrame, Frame, INTERNAL, MAX_FRAME, NO_METHOD, NO_REQUEST, NOT_JSON, RpcError};
use super::lines::Lines;
use crate::sys::clock;

/// Until the session must be there: it and the agent may be starting at the same time.
const CONNECT: Duration = Duration::from_secs(5);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// How often it is looked whether the agent is still there, if its end of the pipe has an heir.
const TICK: Duration = Duration::from_secs(1);
/// After the agent's last word: for the answers that are still on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The versions of the protocol that we know, newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Why there is no bridge.
#[derive(Debug)]
pub enum Error {
    /// No session listens at the path.
    NoSession { path: PathBuf, why: io::Error },
    /// The connection to the session, or to the agent, broke.
    Broken(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSession { path, why } => write!(f, "no session listens at {}: {why}", path.display()),
            Error::Broken(why) => write!(f, "the connection broke: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Broken(error)
    }
}

/// Carry until the agent closes standard input or is gone, or the session says that it is enough.
///
/// # Errors
/// No session within five seconds, or one that goes away without a word.
pub fn run(socket: &Path) -> Result<(), Error> {
    let session = connect(socket)?;
    log("bridge up", &[("socket", json!(socket.to_string_lossy()))]);
    let mut bridge = Bridge { session, pending: 0 };
    let ended = bridge.carry();
    let why = match &ended {
        Ok(why) => why.clone(),
        Err(error) => error.to_string(),
    };
    log("bridge down", &[("why", json!(why))]);
    ended.map(drop)
}

fn connect(socket: &Path) -> Result<UnixStream, Error> {
    let until = Instant::now() + CONNECT;
    loop {
        match UnixStream::connect(socket) {
            Ok(session) => return Ok(session),
            Err(why) if Instant::now() >= until => {
                return Err(Error::NoSession { path: socket.to_path_buf(), why });
            }
            Err(_) => thread::sleep(BETWEEN_TRIES),
        }
    }
}

struct Bridge {
    session: UnixStream,
    /// Requests that the session has not answered yet.
    pending: usize,
}

impl Bridge {
    /// Gives why it ended.
    fn carry(&mut self) -> Result<String, Error> {
        // A descriptor of our own reads past the buffer of the standard library, which poll cannot see into.
        let mut agent = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let parent = getppid();
        let tick = Timespec::try_from(TICK).unwrap_or_default();
        let (mut said, mut told, mut chunk) = (Lines::default(), Lines::default(), vec![0; 64 * 1024]);
        // Set when the agent has closed its end.
        let mut until: Option<Instant> = None;
        loop {
            if getppid() != parent {
                return Ok("the agent is gone".to_string());
            }
            if until.is_some_and(|until| self.pending == 0 || Instant::now() >= until) {
                return Ok("the agent has closed standard input".to_string());
            }
            let mut ends = vec![PollFd::new(&self.session, PollFlags::IN)];
            if until.is_none() {
                ends.push(PollFd::new(&agent, PollFlags::IN));
            }
            match poll(&mut ends, Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::Broken(error.into())),
            }
            let ready = |end: Option<&PollFd<'_>>| end.is_some_and(|end| !end.revents().is_empty());
            let (from_session, from_agent) = (ready(ends.first()), ready(ends.get(1)));
            drop(ends);
            if from_session {
                match (&self.session).read(&mut chunk)? {
                    0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                    read => told.push(&chunk[..read]),
                }
                while let Some(line) = told.take() {
                    let frame = line.map_err(BadFrame::from).and_then(|line| Frame::decode(&line));
                    if let Some(reason) = self.tell(frame)? {
                        return Ok(reason);
                    }
                }
            }
            if from_agent {
                match agent.read(&mut chunk)? {
                    0 => {
                        until = Some(Instant::now() + LAST_ANSWERS);
                        // Its last line may lack its end.
                        said.push(b"\n");
                    }
                    read => said.push(&chunk[..read]),
                }
                while let Some(line) = said.take() {
                    match line {
                        Ok(line) => self.hear(&line)?,
                        Err(_) => {
                            answer(&Value::Null, Err(error(NO_REQUEST, &BadFrame::TooLong.to_string())))?;
                        }
                    }
                }
            }
        }
    }

    /// A line of the agent's.
    fn hear(&mut self, line: &[u8]) -> Result<(), Error> {
        let mut message: Value = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(why) => {
                return answer(&Value::Null, Err(error(NOT_JSON, &format!("this is not JSON: {why}"))));
            }
        };
        let id = message.get_mut("id").map(Value::take);
        let params = message.get_mut("params").map_or(Value::Null, Value::take);
        let Some(method) = message.get("method").and_then(Value::as_str) else {
            // The answer to a question that we never asked needs no answer.
            if message.get("result").is_some() || message.get("error").is_some() {
                return Ok(());
            }
            return answer(&Value::Null, Err(error(NO_REQUEST, "a request is an object with a method")));
        };
        let Some(id) = id else {
            return self.note(method);
        };
        if !id.is_string() && !id.is_number() {
            return answer(&Value::Null, Err(error(NO_REQUEST, "an id is a number or a string")));
        }
        match method {
            "initialize" => answer(&id, Ok(welcome(&params))),
            "ping" => answer(&id, Ok(json!({}))),
            "tools/list" | "tools/call" => {
                let frame = Frame::Request { id: id.clone(), method: method.to_string(), params }.encode();
                if frame.len() > MAX_FRAME {
                    return answer(&id, Err(error(NO_REQUEST, &BadFrame::TooLong.to_string())));
                }
                self.pending += 1;
                Ok(self.session.write_all(frame.as_bytes())?)
            }
            _ => answer(&id, Err(error(NO_METHOD, &format!("unknown method: {method}")))),
        }
    }

    /// A notification of the agent's. That it is ready is news for the session; the rest changes nothing here.
    fn note(&mut self, method: &str) -> Result<(), Error> {
        if method == "notifications/initialized" {
            let frame = Frame::Notification { method: method.to_string(), params: Value::Null };
            self.session.write_all(frame.encode().as_bytes())?;
        }
        Ok(())
    }

    /// A frame of the session's. Gives why it is the last one.
    fn tell(&mut self, frame: Result<Frame, BadFrame>) -> Result<Option<String>, Error> {
        match frame {
            Ok(Frame::Response { id, outcome }) => {
                self.pending = self.pending.saturating_sub(1);
                answer(&id, outcome)?;
            }
            Ok(Frame::Notification { method, params }) => {
                let mut message = Map::from_iter([
                    ("jsonrpc".to_string(), json!("2.0")),
                    ("method".to_string(), json!(method)),
                ]);
                if !params.is_null() {
                    message.insert("params".to_string(), params);
                }
                say(&Value::Object(message))?;
            }
            Ok(Frame::Shutdown { reason }) => return Ok(Some(reason)),
            Ok(Frame::Error { message, id: Some(id) }) => {
                self.pending = self.pending.saturating_sub(1);
                answer(&id, Err(error(INTERNAL, &message)))?;
            }
            Ok(Frame::Error { message, id: None }) => log("session error", &[("why", json!(message))]),
            Ok(Frame::Request { .. } | Frame::Hook { .. } | Frame::HookReply { .. }) => {
                log("frame ignored", &[]);
            }
            Err(why) => log("bad frame", &[("why", json!(why.to_string()))]),
        }
        Ok(None)
    }
}

/// What we are, in the version that was asked for if we know it.
fn welcome(params: &Value) -> Value {
    let asked = params["protocolVersion"].as_str().unwrap_or_default();
    let version = VERSIONS.into_iter().find(|version| *version == asked).unwrap_or(VERSIONS[0]);
    json!({
        "protocolVersion": version,
        "capabilities": {"experimental": {"claude/channel": {}}, "tools": {"listChanged": true}},
        "serverInfo": {"name": "ac7", "version": env!("CARGO_PKG_VERSION")},
    })
}

fn error(code: i64, message: &str) -> RpcError {
    RpcError { code, message: message.to_string() }
}

fn answer(id: &Value, outcome: Result<Value, RpcError>) -> Result<(), Error> {
    say(&match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error.to_json()}),
    })
}

fn say(message: &Value) -> Result<(), Error> {
    let mut line = message.to_string();
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

/// A line for the agent's log. Standard output is the protocol's.
fn log(event: &str, fields: &[(&str, Value)]) {
    let mut line =
        Map::from_iter([("ts".to_string(), clock::now_ms().into()), ("event".to_string(), event.into())]);
    line.extend(fields.iter().map(|(name, value)| ((*name).to_string(), value.clone())));
    // An agent that does not read its log must not end us.
    let _ = writeln!(io::stderr(), "{}", Value::Object(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_asked_for_is_spoken_if_we_know_it() {
        for (asked, want) in [
            (json!({"protocolVersion": "2024-11-05"}), "2024-11-05"),
            (json!({"protocolVersion": "2025-03-26"}), "2025-03-26"),
            (json!({"protocolVersion": "2025-06-18"}), "2025-06-18"),
            (json!({"protocolVersion": "2025-11-25"}), "2025-11-25"),
            (json!({"protocolVersion": "2099-01-01"}), "2025-11-25"),
            (json!({"protocolVersion": 7}), "2025-11-25"),
            (Value::Null, "2025-11-25"),
        ] {
            assert_eq!(welcome(&asked)["protocolVersion"], want, "{asked}");
        }
    }
}
