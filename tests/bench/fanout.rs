//! What it takes until a message has reached hundreds of subscribers, at a steady rate.
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ac7::identity::{Member, Role, TeamFile, mint};
use ac7::sys::clock::now_ms;
use ac7::sys::random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Map, Value, json};

use crate::Failed;
use crate::broker::{Serving, ask, quantile};
use crate::http::now;

/// Members, each with one stream.
const SUBSCRIBERS: usize = 500;
/// Messages to all, a second.
const RATE: u64 = 100;
/// Clients that send them.
const SENDERS: usize = 4;

/// A stream of messages, and what has come of it.
struct Stream {
    socket: TcpStream,
    unread: Vec<u8>,
    /// The last event's id.
    last: u64,
    messages: usize,
}

/// Measure `ac7 serve` and print the rows.
pub fn run(ac7: &Path, quick: bool) -> Result<(), Failed> {
    let folder = std::env::temp_dir().join(format!("ac7-bench-{}", random::hex::<6>()));
    let measured = measure(ac7, &folder, if quick { 2 } else { 10 });
    let _ = fs::remove_dir_all(&folder);
    measured
}

fn measure(ac7: &Path, folder: &Path, seconds: u64) -> Result<(), Failed> {
    let serving = Serving::start(ac7, folder)?;
    let tokens = members(folder)?;
    // The broker looks at its file four times a second.
    let known =
        format!("GET /session HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", tokens[0]);
    let since = Instant::now();
    while TcpStream::connect(&serving.address).map(|mut client| ask(&mut client, &known))?.is_err() {
        if since.elapsed() > Duration::from_secs(5) {
            return Err("the broker does not take the members".into());
        }
    }
    let mut streams = tokens
        .iter()
        .enumerate()
        .map(|(i, token)| subscribe(&serving.address, i, token))
        .collect::<Result<Vec<_>, Failed>>()?;
    let before = serving.rss()?;
    let total = (RATE * seconds) as usize;
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let mut took = Vec::with_capacity(total * SUBSCRIBERS);
    let mut most = before;
    let sent = thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| scope.spawn(|| send(&serving.address, &serving.token, &next, total, began)))
            .collect();
        let received = receive(&mut streams, total, &mut took, &mut || {
            most = most.max(serving.rss()?);
            Ok(())
        });
        for sender in senders {
            sender.join().map_err(|_| "a sender panicked")??;
        }
        received.map(|()| began.elapsed())
    })?;
    took.sort_by(f64::total_cmp);
    println!("\n{SUBSCRIBERS} subscribers, {RATE} messages/s for {seconds} s");
    println!("{:<28} {:>9}", "delivered, all in order", took.len());
    for (name, share) in [("to all, p50 (ms)", 0.5), ("to all, p99 (ms)", 0.99), ("to all, last (ms)", 1.0)] {
        println!("{name:<28} {:>9.1}", quantile(&took, share));
    }
    println!("{:<28} {:>9.1}", "until all was there (s)", sent.as_secs_f64());
    println!("{:<28} {:>9.1} {:>9.1}", "RSS before and at most (MB)", before, most);
    serving.stop()
}

/// Write the subscribers into the team file; gives their tokens.
fn members(folder: &Path) -> Result<Vec<String>, Failed> {
    let mut tokens = Vec::new();
    TeamFile::update(&folder.join("ac7.json"), |file| {
        for i in 0..SUBSCRIBERS {
            let minted = mint("bench", "bootstrap", now_ms());
            tokens.push(minted.text);
            file.members.push(Member {
                name: format!("m{i}"),
                role: Role { title: "reader".into(), description: String::new() },
                instructions: String::new(),
                permissions: Vec::new(),
                tokens: vec![minted.token],
                sealed_totp: None,
                more: Map::new(),
            });
        }
        Ok(())
    })?;
    Ok(tokens)
}

fn subscribe(address: &str, i: usize, token: &str) -> Result<Stream, Failed> {
    let mut socket = TcpStream::connect(address)?;
    // Old clients get no chunks: there is less to take apart.
    let request = format!("GET /subscribe?name=m{i} HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n");
    socket.write_all(request.as_bytes())?;
    let (mut unread, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = socket.read(&mut buffer)?;
        unread.extend_from_slice(&buffer[..n]);
        if n == 0 {
            return Err(format!("no stream: {}", String::from_utf8_lossy(&unread)).into());
        }
        if let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
            if !unread.starts_with(b"HTTP/1.1 200") {
                return Err(format!("no stream: {}", String::from_utf8_lossy(&unread)).into());
            }
            unread.drain(..end + 4);
            socket.set_nonblocking(true)?;
            return Ok(Stream { socket, unread, last: 0, messages: 0 });
        }
    }
}

/// Send what is due, each message with its time, until all are sent.
fn send(address: &str, token: &str, next: &AtomicUsize, total: usize, began: Instant) -> Result<(), Failed> {
    let mut client = TcpStream::connect(address)?;
    loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= total {
            return Ok(());
        }
        let due = began + Duration::from_micros(1_000_000 / RATE * i as u64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let body = json!({"body": now().as_nanos().to_string()}).to_string();
        let length = body.len();
        ask(
            &mut client,
            &format!(
                "POST /push HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            ),
        )?;
    }
}

/// Read until every stream has `total` messages; `took` gets what each took, in ms.
fn receive(
    streams: &mut [Stream],
    total: usize,
    took: &mut Vec<f64>,
    look: &mut dyn FnMut() -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut buffer = vec![0; 64 << 10];
    let mut looked = Instant::now();
    while streams.iter().any(|stream| stream.messages < total) {
        let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
        let mut waiting: Vec<_> = streams.iter().map(|s| PollFd::new(&s.socket, PollFlags::IN)).collect();
        if poll(&mut waiting, Some(&patience))? == 0 {
            return Err("nothing came for 30 s".into());
        }
        let ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (stream, _) in streams.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            stream.read(&mut buffer, took)?;
        }
        if looked.elapsed() > Duration::from_millis(200) {
            look()?;
            looked = Instant::now();
        }
    }
    Ok(())
}

impl Stream {
    fn read(&mut self, buffer: &mut [u8], took: &mut Vec<f64>) -> Result<(), Failed> {
        match self.socket.read(buffer) {
            Ok(0) => return Err("a stream ended".into()),
            Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e.into()),
        }
        let at = now().as_nanos();
        while let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.unread.drain(..end + 2).collect();
            let block = String::from_utf8(block)?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if block.starts_with(':') {
                continue; // a sign of life
            }
            if field("event: ") != Some("message") {
                return Err(format!("a stream ended: {block}").into());
            }
            let id: u64 = field("id: ").ok_or("an event without an id")?.parse()?;
            if id <= self.last {
                return Err(format!("event {id} came after {}", self.last).into());
            }
            let message: Value = serde_json::from_str(field("data: ").ok_or("an event without data")?)?;
            let sent: u128 = message["body"].as_str().ok_or("a message without a body")?.parse()?;
            took.push(at.saturating_sub(sent) as f64 / 1e6);
            (self.last, self.messages) = (id, self.messages + 1);
        }
        Ok(())
    }
}
