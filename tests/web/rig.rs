//! What is looked at: a broker with a team, a database of this machine.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use ac7::broker::{Broker, Config, Limits, Log};
use ac7::client::{Client, Options};
use ac7::identity::{SetupOptions, TeamFile, setup};
use ac7::store::activity::{Parser, Store, Upload};
use ac7::sys::clock::now_ms;
use serde_json::{Value, json};
use support::run::{Home, TempDir, wait_until};
use support::totp::code;

use crate::browser::Browser;

/// A broker whose first member is ann, who may do everything.
pub struct Team {
    broker: Option<Broker>,
    pub client: Client,
    /// Of ann.
    pub token: String,
    secret: String,
    _folder: TempDir,
}

impl Team {
    pub fn start() -> Team {
        let folder = TempDir::new();
        let options = SetupOptions {
            path: folder.join("ac7.json"),
            team: "Demo".into(),
            directive: None,
            context: None,
            member: "ann".into(),
            title: None,
        };
        let token = setup(&options).unwrap().token;
        // The services of the tests' browsers are on this machine.
        let push = json!({"subject": "mailto:ops@example.com", "privateEndpoints": true});
        let set = |file: &mut TeamFile| {
            file.more.insert("webPush".into(), push.clone());
            Ok(())
        };
        TeamFile::update(&options.path, set).unwrap();
        let broker = Broker::start(Config {
            listener: None,
            host: None,
            port: Some(0),
            config_path: options.path,
            db: folder.join("ac7.db"),
            self_signed: false,
            activity_db: folder.join("activity.db"),
            limits: Limits::default(),
            log: Log::to(Box::new(std::io::sink())),
        });
        let broker = broker.unwrap();
        let client =
            Client::new(&format!("http://{}", broker.address()), Some(&token), &Options::default()).unwrap();
        let made = client.json("POST", "/members/ann/enroll-totp", Some(&json!({}))).unwrap();
        let secret = made["totpSecret"].as_str().unwrap().to_string();
        Team { broker: Some(broker), client, token, secret, _folder: folder }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.client.url())
    }

    pub fn post(&self, path: &str, body: &Value) -> Value {
        self.client.json("POST", path, Some(body)).unwrap()
    }

    /// A new member, and what it does.
    pub fn member(&self, name: &str, permissions: &[&str]) -> Client {
        let role = json!({"title": "engineer", "description": ""});
        let made = self.post("/members", &json!({"name": name, "role": role, "permissions": permissions}));
        self.as_one(made["token"].as_str().unwrap())
    }

    /// Whoever has this token.
    pub fn as_one(&self, token: &str) -> Client {
        Client::new(self.client.url(), Some(token), &Options::default()).unwrap()
    }

    pub fn upload(&self, events: &[Value]) {
        self.post("/members/ann/activity", &json!({"events": events}));
    }

    /// The code of now. One is good once, so each call waits for the next.
    pub fn code(&self, used: &mut u64) -> String {
        let step = wait_until("the next code", || Some(now_ms() / 30_000 + 1).filter(|step| step > used));
        *used = step;
        code(&self.secret, step)
    }

    /// Sign in as ann, on the page that is open or the first one.
    pub fn sign_in(&self, browser: &Browser) {
        browser.open(&self.url("/"));
        browser.wait("document.querySelector('[name=code]')");
        let code = self.code(&mut 0);
        browser
            .run_with("fill('member', 'ann'); fill('code', arguments[0]); press('Sign in')", &json!([code]));
        browser.wait("text('nav').includes('Sign out')");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop();
        }
    }
}

/// Write events into a database.
pub fn record(db: &Path, events: &[Value]) {
    let texts: Vec<String> = events.iter().map(Value::to_string).collect();
    let parser = Parser::new();
    let mut store = Store::open(db).unwrap();
    for part in texts.chunks(500) {
        let batch = parser.events(part.iter().map(String::as_str)).unwrap();
        store.append(&[Upload { member: "ann", batch: &batch, key: None }], now_ms()).unwrap();
    }
}

/// `ac7 view` of a database.
pub struct View {
    child: Child,
    pub url: String,
}

impl View {
    pub fn start(home: &Home, db: &Path) -> View {
        let mut command = home.ac7(["view", "--no-open", "--db"]);
        let mut child = command.arg(db).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        View { child, url: url.trim().to_string() }
    }

    /// The head and the body that are answered to a GET with these header lines.
    pub fn get(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        let host = self.url.trim_start_matches("http://").split('/').next().unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let body = answer.split_off(end);
        (String::from_utf8(answer).unwrap().to_lowercase(), body)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A home and a database in it.
pub fn local(events: &[Value]) -> (Home, PathBuf) {
    let home = support::ac7!();
    let db = home.join("home").join("activity.db");
    record(&db, events);
    (home, db)
}
