//! The client of the bench: one measurement through the proxy of its environment, its figures as one line of JSON.
//!
//! HTTPS_PROXY: the proxy, none if unset. BENCH_CA, else SSL_CERT_FILE: the authorities to trust. PROXY_PID: the process
//! whose memory is looked at, else the parent, which is ac7 where ac7 runs this.
use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

use crate::Failed;
use crate::http::{Peer, now};

type Tls = Peer<StreamOwned<ClientConnection, TcpStream>>;

/// What is asked over and over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// A small request on a kept connection.
    Small,
    /// A model call of 1 KB with a streamed answer on a kept connection.
    Model,
    /// A small request on a connection of its own.
    Connect,
}

#[derive(Clone)]
struct Client {
    port: u16,
    proxy: Option<String>,
    config: Arc<ClientConfig>,
}

/// Do what `action` says against the upstream on `port`, see [`crate::USAGE`], and print the figures.
pub fn run(port: u16, action: &str) -> Result<(), Failed> {
    if action == "now" {
        println!("{}", json!({"us": u64::try_from(now().as_micros())?}));
        return Ok(());
    }
    let ca =
        env::var("BENCH_CA").or_else(|_| env::var("SSL_CERT_FILE")).map_err(|_| "BENCH_CA is not set")?;
    let proxy = env::var("HTTPS_PROXY")
        .ok()
        .map(|url| url.trim_start_matches("http://").trim_matches('/').to_string());
    let client = Client { port, proxy, config: support::tls::client(&fs::read_to_string(ca)?, false) };
    let mut words = action.split(':');
    let name = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).ok_or("a number is missing");
    let figures = match name {
        "down" => client.bulk(number()?, false)?,
        "up" => client.bulk(number()?, true)?,
        "requests" => client.rate(Ask::Small, number()?, number()?, None)?,
        "model" => client.rate(Ask::Model, number()?, number()?, None)?,
        "paced" => client.rate(Ask::Model, number()?, number()?, Some(number()?))?,
        "tunnels" => client.rate(Ask::Connect, number()?, number()?, None)?,
        "sse" => client.stream(number()?, number()?)?,
        "idle" => client.idle(number()?)?,
        other => return Err(format!("{other}: no such measurement").into()),
    };
    println!("{figures}");
    Ok(())
}

impl Client {
    fn connect(&self) -> Result<Tls, Failed> {
        let target = format!("localhost:{}", self.port);
        let mut tcp = match &self.proxy {
            Some(proxy) => TcpStream::connect(proxy)?,
            None => TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?,
        };
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(60)))?;
        if self.proxy.is_some() {
            tcp.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes())?;
            let head = Peer::new(&tcp).head()?.unwrap_or_default();
            if head.split(' ').nth(1) != Some("200") {
                return Err(format!("the proxy says {head:?}").into());
            }
        }
        let mut conn = ClientConnection::new(Arc::clone(&self.config), "localhost".try_into()?)?;
        while conn.is_handshaking() {
            conn.complete_io(&mut tcp)?;
        }
        Ok(Peer::new(StreamOwned::new(conn, tcp)))
    }

    /// MB/s of one transfer of `size` bytes, and what memory the proxy needed beyond what it had.
    fn bulk(&self, size: usize, up: bool) -> Result<Value, Failed> {
        let mut tls = self.connect()?;
        ask(&mut tls, get("/small").as_bytes())?;
        let before = memory("VmRSS")?;
        let start = Instant::now();
        if up {
            let head = format!("POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
            tls.stream.write_all(head.as_bytes())?;
            let block = [b'y'; 64 * 1024];
            let mut left = size;
            while left > 0 {
                let piece = left.min(block.len());
                tls.stream.write_all(&block[..piece])?;
                left -= piece;
            }
            ask(&mut tls, b"")?;
        } else {
            ask(&mut tls, get(&format!("/bytes/{size}")).as_bytes())?;
        }
        let seconds = start.elapsed().as_secs_f64();
        Ok(json!({"mb_per_s": size as f64 / 1e6 / seconds, "grown_mb": (memory("VmHWM")? - before) / 1024.0}))
    }

    /// How often a second, over `tunnels` at once, for `seconds`; `pace`: no more than so many a second in all.
    fn rate(&self, kind: Ask, tunnels: usize, seconds: usize, pace: Option<usize>) -> Result<Value, Failed> {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds as u64);
        let gap = pace.map(|pace| Duration::from_secs_f64(tunnels as f64 / pace as f64));
        let threads: Vec<_> = (0..tunnels)
            .map(|_| {
                let client = self.clone();
                thread::spawn(move || client.keep_asking(kind, end, gap))
            })
            .collect();
        let mut count = 0;
        for thread in threads {
            count += thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(json!({"per_s": f64::from(count) / start.elapsed().as_secs_f64(), "count": count}))
    }

    fn keep_asking(&self, kind: Ask, end: Instant, gap: Option<Duration>) -> Result<u32, Failed> {
        let request = if kind == Ask::Model { model_call() } else { get("/small") };
        let mut kept = if kind == Ask::Connect { None } else { Some(self.connect()?) };
        let mut next = Instant::now();
        let mut count = 0;
        while Instant::now() < end {
            match &mut kept {
                Some(tls) => ask(tls, request.as_bytes())?,
                None => ask(&mut self.connect()?, request.as_bytes())?,
            }
            count += 1;
            if let Some(gap) = gap {
                next += gap;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        }
        Ok(count)
    }

    /// How much later than sent the events of a stream arrive; `count` of them, `pause` µs apart.
    fn stream(&self, count: usize, pause: usize) -> Result<Value, Failed> {
        let mut tls = self.connect()?;
        tls.stream.write_all(get(&format!("/sse/{count}/{pause}")).as_bytes())?;
        let mut late = Vec::with_capacity(count);
        for _ in 0..count {
            let sent = next_stamp(&mut tls)?;
            late.push(now().as_micros().saturating_sub(sent));
        }
        let first = late[0];
        late.sort_unstable();
        let at = |share: usize| u64::try_from(late[count * share / 100]);
        Ok(json!({"p50_us": at(50)?, "p99_us": at(99)?, "first_us": u64::try_from(first)?}))
    }

    /// The proxy's memory for each of `count` tunnels on which a stream has begun and then rests.
    fn idle(&self, count: usize) -> Result<Value, Failed> {
        let before = memory("VmRSS")?;
        let mut tunnels = Vec::with_capacity(count);
        for _ in 0..count {
            let mut tls = self.connect()?;
            tls.stream.write_all(get("/sse/1000/600000000").as_bytes())?;
            next_stamp(&mut tls)?;
            tunnels.push(tls);
        }
        // Give the proxy's threads the time to come to rest.
        thread::sleep(Duration::from_millis(500));
        Ok(json!({"kb_each": (memory("VmRSS")? - before) / count as f64}))
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")
}

fn model_call() -> String {
    let words = "hello world ".repeat(85);
    let body = format!(
        r#"{{"model":"claude-x","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"{words}"}}]}}"#
    );
    let kind = "Content-Type: application/json\r\nanthropic-version: 2023-06-01";
    format!(
        "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// One request and its whole answer.
fn ask(tls: &mut Tls, request: &[u8]) -> io::Result<()> {
    tls.stream.write_all(request)?;
    tls.stream.flush()?;
    let head = tls.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    tls.skip_body(&head)
}

/// When the next event was sent, µs since the epoch.
fn next_stamp(tls: &mut Tls) -> Result<u128, Failed> {
    tls.up_to(b"data: sent ")?;
    let digits = tls.up_to(b" ")?;
    Ok(str::from_utf8(&digits)?.trim_end().parse()?)
}

/// A figure of the proxy's memory, KB.
fn memory(field: &str) -> Result<f64, Failed> {
    let parent = || std::os::unix::process::parent_id().to_string();
    let pid = env::var("PROXY_PID").unwrap_or_else(|_| parent());
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.and_then(|value| value.split_whitespace().next()).ok_or("no such field")?.parse()?)
}
