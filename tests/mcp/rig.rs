//! A session that does what a test says, and an agent that says what a test wants.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use ac7::mcp::server::Server;
use ac7::mcp::{Handler, ToolResult};
use ac7::sys::log::Log;
use serde_json::{Value, json};
use support::run::{PATIENCE, TempDir, wait_until};

/// A session: its socket lies in a folder of its own.
pub struct Session {
    pub folder: TempDir,
    pub script: Arc<Script>,
    server: Option<Server>,
}

/// What happens in the session.
#[derive(Default)]
pub struct Script {
    events: Mutex<Vec<String>>,
    released: Mutex<bool>,
    release: Condvar,
}

impl Session {
    pub fn start() -> Session {
        Session::start_in(TempDir::new())
    }

    pub fn start_in(folder: TempDir) -> Session {
        let script = Arc::new(Script::default());
        let server = Server::start(folder.path(), script.clone(), Arc::new(Log::default())).unwrap();
        Session { folder, script, server: Some(server) }
    }

    /// Where the first session of this process in `folder` has its socket.
    pub fn place(folder: &TempDir) -> PathBuf {
        folder.join(format!(".ac7-runner-{}.sock", std::process::id()))
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn path(&self) -> &Path {
        self.server().path()
    }

    /// Stop it as it is: what is slow is still at it.
    pub fn stop(&mut self) {
        self.server.take().unwrap().stop("the test is over");
    }

    /// A connection without a bridge.
    pub fn connect(&self) -> Raw {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Raw { lines: BufReader::new(stream) }
    }

    /// A bridge that has shaken hands and is known to the session.
    pub fn bridge(&self) -> Bridge {
        let before = self.script.count("attached");
        let mut bridge = Bridge::start(self.path());
        let welcome = bridge.ask("initialize", &json!({"protocolVersion": "2025-06-18", "capabilities": {}}));
        assert_eq!(welcome["result"]["serverInfo"]["name"], "ac7");
        bridge.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        wait_until("the bridge to be attached", || (self.script.count("attached") > before).then_some(()));
        bridge
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.script.release();
    }
}

impl Script {
    fn note(&self, event: impl Into<String>) {
        self.events.lock().unwrap().push(event.into());
    }

    pub fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    pub fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|e| *e == event).count()
    }

    /// Let everything end that is slow.
    pub fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.release.notify_all();
    }

    fn wait(&self) {
        let released = self.released.lock().unwrap();
        drop(self.release.wait_timeout_while(released, PATIENCE, |released| !*released).unwrap());
    }
}

impl Handler for Script {
    fn tools(&self) -> Value {
        json!([{"name": "echo", "description": "d", "inputSchema": {"type": "object"}}])
    }

    fn call(&self, name: &str, arguments: &Value) -> ToolResult {
        self.note(format!("call {name}"));
        match name {
            "echo" => ToolResult::done(arguments["text"].as_str().unwrap_or_default()),
            "slow" => {
                self.wait();
                ToolResult::done("at last")
            }
            "big" => ToolResult::done("x".repeat(9 << 20)),
            _ => ToolResult::failed(format!("there is no tool {name}")),
        }
    }

    fn hook(&self, event: &str, input: &Value) -> Option<String> {
        self.note(format!("hook {event} {input}"));
        match input["prompt"].as_str() {
            Some("wait") => {
                self.wait();
                Some("too late".to_string())
            }
            Some(prompt) => Some(format!("you said {prompt}\nand this is all")),
            None => None,
        }
    }

    fn attached(&self) {
        self.note("attached");
    }

    fn detached(&self) {
        self.note("detached");
    }
}

/// A connection to the socket that says what it likes.
pub struct Raw {
    lines: BufReader<UnixStream>,
}

impl Raw {
    pub fn send(&mut self, text: &str) {
        self.lines.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next frame; `None` at the end.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}

/// A running `ac7 mcp-bridge`.
pub struct Bridge {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    asked: u64,
}

impl Bridge {
    pub fn start(socket: &Path) -> Bridge {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ac7"));
        command.arg("mcp-bridge").env("AC7_RUNNER_SOCKET", socket);
        Bridge::run(&mut command)
    }

    /// Its standard output is read in a thread that ends with it.
    pub fn run(command: &mut Command) -> Bridge {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Bridge { child, stdin, lines, asked: 0 }
    }

    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn send(&mut self, message: &Value) {
        self.write(&format!("{message}\n"));
    }

    /// Send a request; gives its id.
    pub fn request(&mut self, method: &str, params: &Value) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    pub fn call(&mut self, tool: &str, arguments: &Value) -> u64 {
        self.request("tools/call", &json!({"name": tool, "arguments": arguments}))
    }

    /// The next line of its output.
    pub fn next(&mut self) -> Value {
        let message = self.lines.recv_timeout(PATIENCE).expect("the bridge has something to say");
        assert_eq!(message["jsonrpc"], "2.0");
        message
    }

    /// A request and the line that follows.
    pub fn ask(&mut self, method: &str, params: &Value) -> Value {
        let id = self.request(method, params);
        let answer = self.next();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Whether nothing more came before its output ended.
    pub fn says_nothing_more(&mut self) -> bool {
        self.lines.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
    }

    /// Wait for its end: exit status and standard error.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let status = wait_until("the bridge to end", || self.child.try_wait().unwrap());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether there is nothing in a folder.
pub fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}
