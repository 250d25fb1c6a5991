//! What the tests stand on: an `ac7` with its own home, what it stored, and a session that is held open.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use ac7::store::activity::Reader;
use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};
use support::mock::{Mock, Options};
use support::run::{Finished, Home, PATIENCE};
use support::tls;

/// A model host that every good mock has a certificate for.
pub const MODEL: &str = "api.anthropic.com";

/// A host that is none of a model provider.
pub const OTHER: &str = "localhost";

/// TLS towards an upstream, as far as the client knows.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An `ac7` with a home of its own, to which every host is 127.0.0.1 with the same port.
pub struct Lab {
    pub home: Home,
    roots: Option<PathBuf>,
}

impl Lab {
    /// One that trusts these mocks.
    pub fn new(mocks: &[&Mock]) -> Lab {
        let pems: Vec<String> = mocks.iter().map(|mock| pem(mock)).collect();
        Lab::trusting(&pems.concat())
    }

    /// One that trusts these certificates.
    pub fn trusting(pem: &str) -> Lab {
        let home = support::ac7!();
        let roots = (!pem.is_empty()).then(|| home.join("roots.pem"));
        roots.iter().for_each(|path| fs::write(path, pem).unwrap());
        Lab { home, roots }
    }

    /// `ac7 run FLAGS -- COMMAND`.
    pub fn command(&self, flags: &[&str], command: &[&str]) -> Command {
        self.plain(&[&["--connect-to", "::127.0.0.1:"], flags].concat(), command)
    }

    /// The same in a world whose hosts are where they are.
    pub fn plain(&self, flags: &[&str], command: &[&str]) -> Command {
        let mut ac7 = self.home.ac7(["run"]);
        if let Some(roots) = &self.roots {
            ac7.arg("--ca-cert").arg(roots);
        }
        ac7.args(flags).arg("--").args(command);
        ac7
    }

    /// [`Lab::command`] to its end.
    pub fn run(&self, flags: &[&str], command: &[&str]) -> Finished {
        finish(&mut self.command(flags, command))
    }

    /// curl under ac7 to its end. It asks the proxy even for the loopback.
    pub fn curl(&self, flags: &[&str], args: &[&str]) -> Finished {
        self.run(flags, &[&CURL, args].concat())
    }

    /// The same curl without ac7: what a user would have seen.
    pub fn direct(&self, args: &[&str]) -> Finished {
        let mut curl = Command::new(CURL[0]);
        curl.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.home.tmp());
        curl.args(&CURL[1..]).args(["--connect-to", "::127.0.0.1:", "--cacert"]).args(&self.roots);
        finish(curl.args(args))
    }

    /// Where events go unless told otherwise.
    pub fn db(&self) -> PathBuf {
        self.home.join("home/data/ac7/activity.db")
    }

    /// What is stored there, in the order in which it was.
    pub fn events(&self) -> Vec<Value> {
        events(&self.db())
    }

    /// The same while the session lives, and also before anything is stored.
    pub fn stored(&self) -> Vec<Value> {
        if Reader::open(&self.db()).is_ok() { self.events() } else { Vec::new() }
    }

    /// The entry of the only event.
    pub fn entry(&self) -> Value {
        let events = self.events();
        assert_eq!(events.len(), 1, "{events:#?}");
        events[0]["entry"].clone()
    }

    /// The lines of all session logs.
    pub fn log(&self) -> String {
        let Ok(folder) = fs::read_dir(self.home.join("home/cache/agentc7")) else { return String::new() };
        folder.flatten().filter_map(|e| fs::read_to_string(e.path()).ok()).collect()
    }
}

/// curl as the tests use it: no progress, errors shown, the environment's proxy for every host.
pub const CURL: [&str; 6] = ["curl", "-sS", "--max-time", "60", "--noproxy", ""];

/// Run a command to its end.
pub fn finish(command: &mut Command) -> Finished {
    Finished::from(&command.output().expect("the command can be started"))
}

/// The events of a database, in the order in which they were stored.
pub fn events(db: &Path) -> Vec<Value> {
    let mut rows = Vec::new();
    let stored = Reader::open(db).and_then(|reader| {
        reader.follow(0, None, |row| {
            rows.push(serde_json::from_str(&row.event).unwrap());
            ControlFlow::Continue(())
        })
    });
    assert_eq!(stored.err().map(|e| e.to_string()), None);
    rows
}

/// The certificate authority of a mock.
pub fn pem(mock: &Mock) -> String {
    fs::read_to_string(&mock.ca_pem).unwrap()
}

/// A mock that says `Connection: close`, so that its answers can be read to their end.
pub fn closing(options: Options) -> Mock {
    Mock::start(Options { close: true, ..options })
}

/// `https://HOST:PORT/PATH`.
pub fn url(host: &str, mock: &Mock, path: &str) -> String {
    format!("https://{host}:{}{path}", mock.port)
}

/// A request of the Messages API.
pub fn call(stream: bool) -> String {
    json!({"model": "claude-x", "max_tokens": 64, "stream": stream, "system": "Be brief.",
           "messages": [{"role": "user", "content": "Who is there?"}],
           "tools": [{"name": "Bash", "description": "Runs it", "input_schema": {"type": "object"}}]})
    .to_string()
}

/// Lines of a process, one at a time.
pub struct Lines(BufReader<ChildStdout>);

impl Lines {
    pub fn of(child: &mut Child) -> Lines {
        Lines(BufReader::new(child.stdout.take().unwrap()))
    }

    /// The next line without its end.
    pub fn next(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).unwrap();
        rest
    }
}

/// Send a signal to a process of ours.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Start a command away from any terminal the tests may have, so that signals are forwarded as off a terminal.
pub fn spawn(command: &Command) -> Child {
    let mut away = Command::new("setsid");
    away.arg(command.get_program()).args(command.get_args()).env_clear();
    away.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    away.current_dir(command.get_current_dir().unwrap());
    away.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What is left of a process whose output was partly read.
pub fn wait(child: Child, lines: &mut Lines) -> Finished {
    let stdout = lines.rest();
    Finished { stdout, ..Finished::from(&child.wait_with_output().unwrap()) }
}

/// A session whose command waits, so that the test itself can be the agent.
pub struct Held {
    child: Option<Child>,
    stdin: Option<ChildStdin>,
    lines: Lines,
    /// The proxy, on 127.0.0.1.
    pub port: u16,
    /// PEM of the session's CA.
    pub ca: String,
}

impl Held {
    pub fn start(lab: &Lab, flags: &[&str]) -> Held {
        Held::start_as(&lab.command(flags, &["sh", "-c", Held::SCRIPT]))
    }

    /// Says where proxy and CA are, then waits for the end of its input.
    pub const SCRIPT: &str = "echo \"${HTTPS_PROXY##*:}\"; echo \"$NODE_EXTRA_CA_CERTS\"; cat";

    /// A command that ends in [`Held::SCRIPT`].
    pub fn start_as(command: &Command) -> Held {
        let mut child = spawn(command);
        let stdin = child.stdin.take();
        let mut lines = Lines::of(&mut child);
        let (port, path) = (lines.next(), lines.next());
        let Ok(port) = port.parse() else {
            panic!("no session: {}", wait(child, &mut lines).stderr);
        };
        let ca = fs::read_to_string(path).unwrap();
        Held { child: Some(child), stdin, lines, port, ca }
    }

    /// The runner's process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// A fresh connection to the proxy.
    pub fn proxy(&self) -> TcpStream {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// What CONNECT is answered with, and the connection behind it.
    pub fn ask_connect(&self, place: &str) -> (String, TcpStream) {
        let mut tcp = self.proxy();
        tcp.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).unwrap();
        let head = read_head(&mut tcp);
        (head, tcp)
    }

    /// A tunnel to `host:port`.
    pub fn connect(&self, host: &str, port: u16) -> TcpStream {
        let (head, tcp) = self.ask_connect(&format!("{host}:{port}"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        tcp
    }

    /// TLS through a tunnel; the handshake happens with the first byte that is written.
    pub fn tls(&self, host: &'static str, port: u16, config: Arc<ClientConfig>) -> Tls {
        tls_on(self.connect(host, port), host, config)
    }

    /// A client that trusts the session's CA and nobody else.
    pub fn client(&self) -> Arc<ClientConfig> {
        tls::client(&self.ca, false)
    }

    /// Kill the runner without warning; its command ends too.
    pub fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        drop(self.stdin.take());
        self.lines.rest();
    }

    /// Let the command end, and see to ac7's end.
    pub fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        wait(self.child.take().unwrap(), &mut self.lines)
    }
}

/// TLS as a client on a connection.
pub fn tls_on(tcp: TcpStream, host: &'static str, config: Arc<ClientConfig>) -> Tls {
    let connection = ClientConnection::new(config, host.try_into().unwrap()).unwrap();
    StreamOwned::new(connection, tcp)
}

/// Up to and with the empty line, or whatever there is before the end.
pub fn read_head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A POST of JSON.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
