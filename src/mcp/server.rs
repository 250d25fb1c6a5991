//! The session's socket: bridges and hooks come in, the [`Handler`] answers.
//!
//! One acceptor; a reader and a writer for each connection; up to eight tool calls beside each other. Nobody waits for
//! a bridge that does not read: notifications that it has no room for are dropped, with a line in the log.
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::ipc::{BAD_PARAMS, BadFrame, Frame, INTERNAL, MAX_FRAME, NO_METHOD, RpcError};
use super::lines::{Lines, TooLong};
use super::socket::{self, Place};
use super::{Handler, TOOLS_CHANGED};
use crate::sys::log::Log;
use crate::sys::thread::{self, Joinable};

/// A bridge, the one that displaces it, and hooks. More is refused.
const MAX_CONNECTIONS: usize = 16;
/// Tool calls of one bridge that run beside its reader. One more is run by the reader itself.
const MAX_CALLS: usize = 8;
/// Frames on their way to one connection.
const OUTBOX: usize = 256;
/// Notifications kept while there is no bridge; the oldest goes first.
const MAX_WAITING: usize = 64;
/// Until connections have ended by themselves; then they are cut, and have this long again.
const GRACE: Duration = Duration::from_secs(1);
const STACK: usize = 256 * 1024;
/// A tool's call goes through the HTTP client and TLS.
const CALL_STACK: usize = 1024 * 1024;
/// When the process has no descriptor or thread left, the next connection waits this long.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(50);

/// A listening socket. Dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    acceptor: Option<Joinable>,
    listener: UnixListener,
    place: Place,
}

struct Shared {
    handler: Arc<dyn Handler>,
    log: Arc<Log>,
    stopping: AtomicBool,
    state: Mutex<State>,
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    live: HashMap<u64, Arc<Connection>>,
    next: u64,
    /// Which of them is the bridge.
    bridge: Option<u64>,
    /// Notifications for the next bridge.
    waiting: VecDeque<(String, Value)>,
}

struct Connection {
    number: u64,
    stream: UnixStream,
    /// `None` once nothing more is to be sent.
    outbox: Mutex<Option<SyncSender<String>>>,
    /// Sent away: what it has said before may still be read, but makes it the bridge no more.
    dismissed: AtomicBool,
}

impl Server {
    /// Listen in `folder` (the temporary directory), see [`Server::path`] for where exactly.
    ///
    /// # Errors
    /// The folder cannot be written, or there is no socket or thread to be had.
    pub fn start(folder: &Path, handler: Arc<dyn Handler>, log: Arc<Log>) -> io::Result<Server> {
        let (listener, place) = socket::bind(folder)?;
        let shared = Arc::new(Shared {
            handler,
            log,
            stopping: AtomicBool::new(false),
            state: Mutex::default(),
            fewer: Condvar::new(),
        });
        let (accepting, from) = (shared.clone(), listener.try_clone()?);
        let acceptor = thread::spawn("mcp", STACK, move || accepting.accept(&from))?;
        shared.log.line("bridge socket up", &[]);
        Ok(Server { shared, acceptor: Some(acceptor), listener, place })
    }

    /// The socket: what AC7_RUNNER_SOCKET has to say to the agent.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Tell the bridge, or the next one if there is none: then the last [`MAX_WAITING`] are kept.
    pub fn notify(&self, method: &str, params: Value) {
        self.shared.notify(method, params);
    }

    /// Tell the bridge that `tools/list` has another answer now.
    pub fn tools_changed(&self) {
        self.notify(TOOLS_CHANGED, Value::Null);
    }

    /// Whether there is a bridge.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.shared.state().bridge.is_some()
    }

    /// Send the bridge away and remove the socket. Calls that are being answered have two seconds to end: abort what
    /// they wait for first.
    pub fn stop(mut self, reason: &str) {
        self.end(reason);
    }

    fn end(&mut self, reason: &str) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor, whatever has become of the path.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let _ = UnixStream::connect(self.path());
        acceptor.join();
        self.shared.dismiss(reason);
        self.shared.log.line("bridge socket down", &[]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end("the session has ended");
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener) {
        while !self.stopping.load(Ordering::SeqCst) {
            let taken = listener.accept().and_then(|(stream, _)| self.begin(stream));
            let Err(why) = taken else { continue };
            if !self.stopping.load(Ordering::SeqCst) {
                self.log.line("bridge not accepted", &[("why", json!(why.to_string()))]);
                std::thread::sleep(OUT_OF_RESOURCES);
            }
        }
    }

    fn begin(self: &Arc<Self>, mut stream: UnixStream) -> io::Result<()> {
        if self.stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        if self.state().live.len() >= MAX_CONNECTIONS {
            let full = Frame::Error { message: "too many connections".to_string(), id: None };
            return stream.write_all(full.encode().as_bytes());
        }
        let (outbox, frames) = sync_channel(OUTBOX);
        let connection = {
            let mut state = self.state();
            state.next += 1;
            let outbox = Mutex::new(Some(outbox));
            let dismissed = AtomicBool::new(false);
            let connection = Arc::new(Connection { number: state.next, stream, outbox, dismissed });
            state.live.insert(connection.number, connection.clone());
            connection
        };
        let (shared, serving) = (self.clone(), connection.clone());
        let started = thread::spawn("mcp-in", STACK, move || {
            let writing = serving.clone();
            if let Ok(writer) = thread::spawn("mcp-out", STACK, move || writing.write(&frames)) {
                shared.serve(&serving);
                serving.close();
                writer.join();
            }
            shared.forget(&serving);
        });
        started.map(drop).inspect_err(|_| self.forget(&connection))
    }

    /// Answer one connection until it ends.
    fn serve(self: &Arc<Self>, connection: &Arc<Connection>) {
        let (mut lines, mut calls) = (Lines::default(), Vec::new());
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read) = (&connection.stream).read(&mut chunk) {
            if read == 0 {
                break;
            }
            lines.push(&chunk[..read]);
            while let Some(line) = lines.take() {
                self.answer(connection, &mut calls, line);
            }
        }
        self.detach(connection);
        calls.into_iter().for_each(Joinable::join);
    }

    fn answer(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        calls: &mut Vec<Joinable>,
        line: Result<Vec<u8>, TooLong>,
    ) {
        match line.map_err(BadFrame::from).and_then(|line| Frame::decode(&line)) {
            Ok(Frame::Request { id, method, params }) => {
                self.attach(connection);
                let error = |code, message: String| {
                    let outcome = Err(RpcError { code, message });
                    connection.send(Frame::Response { id: id.clone(), outcome });
                };
                match method.as_str() {
                    "tools/list" => {
                        let outcome = Ok(json!({"tools": self.handler.tools()}));
                        connection.send(Frame::Response { id, outcome });
                    }
                    "tools/call" => match params.get("name").and_then(Value::as_str) {
                        Some(name) => {
                            let name = name.to_string();
                            self.call(connection, calls, id, name, params);
                        }
                        None => error(BAD_PARAMS, "params.name is missing".to_string()),
                    },
                    _ => error(NO_METHOD, format!("unknown method: {method}")),
                }
            }
            Ok(Frame::Notification { method, .. }) => {
                self.attach(connection);
                self.log.line("bridge says", &[("method", json!(method))]);
            }
            Ok(Frame::Hook { id, event, input }) => {
                let output = self.handler.hook(&event, &input);
                self.log.line(
                    "hook answered",
                    &[("hook", json!(event)), ("bytes", json!(output.as_ref().map_or(0, String::len)))],
                );
                connection.send(Frame::HookReply { id, output });
            }
            Ok(Frame::Error { message, .. }) => self.log.line("bridge error", &[("why", json!(message))]),
            Ok(Frame::Response { .. } | Frame::HookReply { .. } | Frame::Shutdown { .. }) => {
                connection.send(Frame::Error { message: "the session asks nothing".to_string(), id: None });
            }
            Err(why) => {
                let message = why.to_string();
                self.log.line("bad frame", &[("why", json!(message))]);
                connection.send(Frame::Error { message, id: None });
            }
        }
    }

    fn call(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        calls: &mut Vec<Joinable>,
        id: Value,
        name: String,
        mut params: Value,
    ) {
        calls.retain(|call| !call.is_finished());
        let arguments = params.get_mut("arguments").map_or(Value::Null, Value::take);
        let (shared, answering) = (self.clone(), connection.clone());
        let work = move || {
            let result = shared.handler.call(&name, &arguments);
            shared.log.line("tool called", &[("tool", json!(name)), ("error", json!(result.is_error))]);
            answering.send(Frame::Response { id, outcome: Ok(result.to_json()) });
        };
        if calls.len() >= MAX_CALLS {
            work();
        } else if let Ok(call) = thread::spawn("mcp-call", CALL_STACK, work) {
            calls.push(call);
        }
    }

    /// The connection speaks MCP, so it is the bridge from now on.
    fn attach(&self, connection: &Arc<Connection>) {
        let displaced = {
            let mut state = self.state();
            if state.bridge == Some(connection.number) || connection.dismissed.load(Ordering::SeqCst) {
                return;
            }
            let before = state.bridge.replace(connection.number);
            for (method, params) in std::mem::take(&mut state.waiting) {
                connection.offer(Frame::Notification { method, params });
            }
            let displaced = before.and_then(|number| state.live.get(&number).cloned());
            displaced.inspect(|old| old.dismissed.store(true, Ordering::SeqCst))
        };
        if let Some(old) = displaced {
            self.log.line("bridge displaced", &[]);
            old.dismiss("another bridge has taken this one's place");
        }
        self.log.line("bridge attached", &[]);
        self.handler.attached();
    }

    fn detach(&self, connection: &Connection) {
        let was = {
            let mut state = self.state();
            state.bridge.take_if(|number| *number == connection.number).is_some()
        };
        if was {
            self.log.line("bridge detached", &[]);
            self.handler.detached();
        }
    }

    fn forget(&self, connection: &Connection) {
        self.state().live.remove(&connection.number);
        self.fewer.notify_all();
    }

    fn notify(&self, method: &str, params: Value) {
        let lost = {
            let mut state = self.state();
            let bridge = state.bridge.and_then(|number| state.live.get(&number).cloned());
            if let Some(bridge) = bridge {
                !bridge.offer(Frame::Notification { method: method.to_string(), params })
            } else if method == TOOLS_CHANGED && state.waiting.iter().any(|(m, _)| m == method) {
                false
            } else {
                let full = state.waiting.len() >= MAX_WAITING;
                if full {
                    state.waiting.pop_front();
                }
                state.waiting.push_back((method.to_string(), params));
                full
            }
        };
        if lost {
            self.log.line("notification dropped", &[("method", json!(method))]);
        }
    }

    /// End every connection.
    fn dismiss(&self, reason: &str) {
        let live: Vec<_> = self.state().live.values().cloned().collect();
        live.iter().for_each(|connection| connection.dismiss(reason));
        drop(live);
        if self.wait() > 0 {
            let stuck: Vec<_> = self.state().live.values().cloned().collect();
            stuck.iter().for_each(|connection| connection.cut());
            drop(stuck);
            let left = self.wait();
            self.log.line("bridge cut", &[("stuck", json!(left))]);
        }
    }

    /// Gives how many connections are left when the last has ended, or the time is over.
    fn wait(&self) -> usize {
        let more = |state: &mut State| !state.live.is_empty();
        let waited = self.fewer.wait_timeout_while(self.state(), GRACE, more);
        waited.unwrap_or_else(PoisonError::into_inner).0.live.len()
    }
}

impl Connection {
    fn outbox(&self) -> Option<SyncSender<String>> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Send, and wait for room if the other side is slow.
    fn send(&self, frame: Frame) {
        if let (Some(outbox), Some(line)) = (self.outbox(), encoded(frame)) {
            let _ = outbox.send(line);
        }
    }

    /// Send if there is room. Gives whether there was.
    fn offer(&self, frame: Frame) -> bool {
        match (self.outbox(), encoded(frame)) {
            (Some(outbox), Some(line)) => outbox.try_send(line).is_ok(),
            _ => false,
        }
    }

    /// Say why, and hear no more. What is being answered is still sent.
    fn dismiss(&self, reason: &str) {
        if self.offer(Frame::Shutdown { reason: reason.to_string() }) {
            let _ = self.stream.shutdown(Shutdown::Read);
        } else {
            self.cut();
        }
    }

    fn cut(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    fn close(&self) {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn write(&self, frames: &Receiver<String>) {
        while let Ok(line) = frames.recv() {
            if (&self.stream).write_all(line.as_bytes()).is_err() {
                break;
            }
        }
        self.cut();
    }
}

/// The frame as a line; one that would be too long is replaced by an error where somebody waits for it.
fn encoded(frame: Frame) -> Option<String> {
    let id = match &frame {
        Frame::Response { id, .. } => Some(id.clone()),
        _ => None,
    };
    let line = frame.encode();
    if line.len() <= MAX_FRAME {
        return Some(line);
    }
    let message = format!("the answer is longer than {} MiB", MAX_FRAME >> 20);
    id.map(|id| Frame::Response { id, outcome: Err(RpcError { code: INTERNAL, message }) }.encode())
}
