//! A broker in a folder of its own, and a client that can say anything.
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ac7::broker::{Broker, Config, Limits, Log};
use ac7::http1::{Asked, Framer, Headers, Part, Rules, Start};
use ac7::identity::{Member, Role, SetupOptions, TeamFile, mint, setup};
use ac7::sys::clock::now_ms;
use ac7::sys::random;
use serde_json::{Value, json};

/// Threads and file descriptors are counted for the whole process: one broker at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A broker with the members ann, who may do everything, and bob, who may do nothing.
pub struct Rig {
    pub folder: PathBuf,
    pub ann: String,
    pub bob: String,
    pub log: Captured,
    /// Whether the next start serves HTTPS.
    pub self_signed: bool,
    limits: Limits,
    broker: Option<Broker>,
    _alone: MutexGuard<'static, ()>,
}

/// What was logged.
#[derive(Clone, Default)]
pub struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of one event.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let lines: Vec<Value> = self.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        lines.into_iter().filter(|l| l["event"] == event).collect()
    }
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Rig {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("ac7-broker-test-{}", random::hex::<8>()));
        let path = folder.join("ac7.json");
        let done = setup(&SetupOptions {
            path: path.clone(),
            team: "T".into(),
            directive: None,
            context: None,
            member: "ann".into(),
            title: None,
        });
        let bob = mint("b", "bootstrap", 0);
        TeamFile::update(&path, |file| {
            file.members.push(Member {
                name: "bob".into(),
                role: Role { title: "engineer".into(), description: "builds".into() },
                instructions: "Be quick.".into(),
                permissions: Vec::new(),
                tokens: vec![bob.token],
                sealed_totp: None,
                more: serde_json::Map::new(),
            });
            Ok(())
        })
        .unwrap();
        let mut rig = Rig {
            folder,
            ann: done.unwrap().token,
            bob: bob.text,
            log: Captured::default(),
            self_signed: false,
            limits,
            broker: None,
            _alone: alone,
        };
        rig.start();
        rig
    }

    pub fn start(&mut self) {
        let broker = Broker::start(Config {
            listener: None,
            host: None,
            port: Some(0),
            config_path: self.config(),
            db: self.folder.join("ac7.db"),
            self_signed: self.self_signed,
            activity_db: self.database(),
            limits: self.limits.clone(),
            log: Log::to(Box::new(self.log.clone())),
        });
        self.broker = Some(broker.unwrap());
    }

    pub fn stop(&mut self) {
        self.take().stop();
    }

    pub fn take(&mut self) -> Broker {
        self.broker.take().unwrap()
    }

    pub fn config(&self) -> PathBuf {
        self.folder.join("ac7.json")
    }

    pub fn database(&self) -> PathBuf {
        self.folder.join("activity.db")
    }

    pub fn address(&self) -> SocketAddr {
        self.broker.as_ref().unwrap().address()
    }

    pub fn connect(&self) -> Client {
        Client::to(self.address())
    }

    /// One request on a connection of its own.
    pub fn call(&self, method: &str, path: &str, token: &str, body: &str) -> Reply {
        self.call_with(method, path, token, body, "")
    }

    /// The same with more header lines, each ended by CRLF.
    pub fn call_with(&self, method: &str, path: &str, token: &str, body: &str, headers: &str) -> Reply {
        let mut client = self.connect();
        client.send(&request(method, path, token, body, headers));
        client.reply(method).unwrap_or_else(|| panic!("no answer; the log: {}", self.log.text()))
    }

    /// Send an upload of ann's that cannot be answered yet, and wait until its handler has it.
    pub fn upload_in_work(&self) -> Client {
        let last_seen = || {
            let roster = self.call("GET", "/roster", &self.bob, "").json();
            roster["connected"][0]["lastSeen"].as_u64().unwrap()
        };
        let before = last_seen();
        wait_for("the clock to go on", || now_ms() > before);
        let mut client = self.connect();
        client.send(&request("POST", "/members/ann/activity", &self.ann, &upload([1]), ""));
        wait_for("the upload to be in work", || last_seen() > before);
        client
    }

    /// One more member; gives its token.
    pub fn add(&self, name: &str, permissions: &[&str]) -> String {
        let role = json!({"title": "engineer", "description": ""});
        let body = json!({"name": name, "role": role, "permissions": permissions});
        let made = self.call("POST", "/members", &self.ann, &body.to_string());
        assert_eq!(made.status, 200, "{}", made.error());
        made.json()["token"].as_str().unwrap().to_string()
    }

    /// The answer to a request with a JSON body.
    pub fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Reply {
        self.call(method, path, token, &body.to_string())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &self.ann, "")
    }

    /// Send bytes, give the status of the answer; 0 if there is none.
    pub fn status_of(&self, bytes: &[u8]) -> u16 {
        let mut client = self.connect();
        client.send_if_taken(bytes);
        client.reply("GET").map_or(0, |r| r.status)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The text of a request with a bearer token (none if empty).
pub fn request(method: &str, path: &str, token: &str, body: &str, headers: &str) -> String {
    let auth = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let sends = matches!(method, "POST" | "PUT" | "PATCH");
    let length = if sends { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{auth}{headers}{length}\r\n{body}")
}

/// A body with one event for each time.
pub fn upload(times: impl IntoIterator<Item = u64>) -> String {
    let event = |ts| json!({"kind": "objective_open", "ts": ts, "objectiveId": format!("o{ts}")});
    json!({"events": times.into_iter().map(event).collect::<Vec<_>>()}).to_string()
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_string()
    }
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub fn to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream, unread: Vec::new() }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The broker may have hung up already; that is for the test to find out.
    pub fn send_if_taken(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next answer; `None` if the connection ends first.
    pub fn reply(&mut self, method: &str) -> Option<Reply> {
        let mut framer = Framer::responses(Rules::CAPTURE);
        framer.answers(Asked::by(method));
        let mut reply: Option<Reply> = None;
        loop {
            let mut rest = &self.unread[..];
            let had = rest.len();
            let part = framer.next(&mut rest).expect("the broker speaks HTTP");
            let used = had - rest.len();
            let mut more = false;
            match part {
                Some(Part::Head(head)) => {
                    let Start::Response { status } = head.start else { panic!("not an answer") };
                    reply = Some(Reply { status, headers: head.headers, body: Vec::new() });
                }
                Some(Part::Body(data)) => reply.as_mut().unwrap().body.extend_from_slice(data),
                Some(Part::Trailers(_)) => {}
                Some(Part::End) => {
                    self.unread.drain(..used);
                    return reply;
                }
                None => more = true,
            }
            self.unread.drain(..used);
            if more {
                let mut buf = [0; 4096];
                match self.stream.read(&mut buf) {
                    Ok(0) | Err(_) => return framer.end().ok().flatten().and(reply),
                    Ok(n) => self.unread.extend_from_slice(&buf[..n]),
                }
            }
        }
    }

    /// Whether the broker has closed the connection, having said nothing more.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
            || self.stream.peek(&mut [0]).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
    }
}

/// Wait until something is so, 10 s at most.
pub fn wait_for(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < until, "waited 10 s in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many threads of this process have a name that starts so.
pub fn threads(prefix: &str) -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    names.filter(|t| fs::read_to_string(t.path().join("comm")).is_ok_and(|c| c.starts_with(prefix))).count()
}
