//! A headless Chromium and what a test does with it (W3C WebDriver), over plain HTTP to chromedriver.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use support::run::{TempDir, wait_until};

/// One browser at a time: they are large, and the machine may be small.
static ONE: Mutex<()> = Mutex::new(());

/// What is in every page that a test looks at.
const LOOK: &str = include_str!("look.js");

pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    pub fn start() -> Browser {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is needed: Debian's packages chromium and chromium-driver have it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let started = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("successfully on port ")
                .map(|(_, port)| port.trim_end_matches('.').parse().unwrap())
        });
        let profile = TempDir::new();
        let mut browser = Browser {
            driver,
            port: started.expect("chromedriver says its port"),
            session: String::new(),
            _alone: alone,
            _profile: profile,
        };
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            &profile,
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": args}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let made = browser.call("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (port, length) = (self.port, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).unwrap();
        let answer: Value = serde_json::from_slice(&text).unwrap();
        assert!(answer["value"]["error"].is_null(), "{method} {path}: {}", answer["value"]);
        answer["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}{path}", self.session), body)
    }

    pub fn open(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// The value of a script's `return`, with the helpers of look.js.
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, &json!([]))
    }

    /// The same with `arguments`.
    pub fn run_with(&self, script: &str, args: &Value) -> Value {
        self.post("/execute/sync", &json!({"script": format!("{LOOK}\n{script}"), "args": args}))
    }

    /// Wait until an expression is truthy; give its value.
    pub fn wait(&self, expression: &str) -> Value {
        let script = format!("return {expression}");
        wait_until(expression, || {
            Some(self.run(&script)).filter(|v| !v.is_null() && v != &json!(false) && v != "")
        })
    }

    /// Press the button of this name in the dialog that is open.
    pub fn confirm(&self, name: &str) {
        let script = "all('dialog[open] button').find(b => b.textContent === arguments[0]).click()";
        self.run_with(script, &json!([name]));
    }

    /// Press keys, one after the other.
    pub fn keys(&self, keys: &str) {
        let press =
            |key: char| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})];
        let actions: Vec<Value> = keys.chars().flat_map(press).collect();
        self.post("/actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    /// Answer the question whether the page that is open may do something.
    pub fn decide(&self, what: &str, state: &str) {
        self.post("/permissions", &json!({"descriptor": {"name": what}, "state": state}));
    }

    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    pub fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    pub fn theme(&self, name: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": name}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// What the page complained of since the last call, but for answers of 401: asking who one is gets one at first.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().unwrap().iter().map(|l| l["message"].as_str().unwrap().to_string());
        lines.filter(|line| !line.contains("status of 401")).collect()
    }

    /// Keep a picture in the folder that AC7_SCREENSHOTS names, to be looked at.
    pub fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("AC7_SCREENSHOTS") else { return };
        let data = self.call("GET", &format!("{}/screenshot", self.session), &Value::Null);
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data.as_str().unwrap());
        fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), bytes.unwrap()).unwrap();
    }

    /// The same on wide and narrow screens and in both themes, with a picture of each.
    pub fn assert_accessible_everywhere(&self, place: &str) {
        for (width, height) in [(1280, 900), (390, 844)] {
            self.size(width, height);
            for theme in ["light", "dark"] {
                self.theme(theme);
                let name = format!("{place}-{width}-{theme}");
                self.assert_accessible(&name);
                self.picture(&name);
            }
        }
        self.size(1280, 900);
    }

    /// Every control has a name, every text can be read, nothing is wider than the screen.
    pub fn assert_accessible(&self, place: &str) {
        let found = self.run("return [nameless(), faint(), tooWide()]");
        assert_eq!(
            found,
            json!([[], [], []]),
            "{place}: controls without a name, faint texts, what is too wide"
        );
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &self.session, &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
