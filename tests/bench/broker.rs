//! What a burst of uploads does to the requests that should be answered at once.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ac7::identity::{SetupOptions, setup};
use ac7::sys::random;
use serde_json::json;

use crate::Failed;

/// Clients that upload as fast as they can: more than the broker has workers.
const UPLOADERS: usize = 32;
/// Events of an upload, and bytes of each.
const UPLOAD: (usize, usize) = (50, 1000);

/// A broker, ended with this value.
pub struct Serving {
    child: Child,
    pub address: String,
    /// Of ann, who may do everything.
    pub token: String,
    /// Reads its log.
    drain: Option<JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Start `ac7 serve` in a folder of its own.
    pub fn start(ac7: &Path, folder: &Path) -> Result<Serving, Failed> {
        let done = setup(&SetupOptions {
            path: folder.join("ac7.json"),
            team: "bench".into(),
            directive: None,
            context: None,
            member: "ann".into(),
            title: None,
        })?;
        let mut command = Command::new(fs::canonicalize(ac7)?);
        command.args(["serve", "--port", "0"]).current_dir(folder).stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().ok_or("no standard error")?;
        let mut serving = Serving { child, address: String::new(), token: done.token, drain: None };
        let mut lines = BufReader::new(stderr).lines();
        let first = lines.find_map(|line| {
            line.ok()
                .and_then(|line| line.split_once("http://").map(|(_, address)| address.trim().to_string()))
        });
        serving.address = first.ok_or("the broker did not start")?;
        serving.drain = Some(thread::spawn(move || lines.for_each(drop)));
        Ok(serving)
    }

    /// Resident memory, MB.
    pub fn rss(&self) -> Result<f64, Failed> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// End it.
    pub fn stop(mut self) -> Result<(), Failed> {
        let drain = self.drain.take();
        drop(self);
        drain.map_or(Ok(()), |drain| drain.join().map_err(|_| "the reader of the log panicked".into()))
    }
}

/// Measure `ac7 serve` and print the rows.
pub fn run(ac7: &Path, quick: bool) -> Result<(), Failed> {
    let folder = std::env::temp_dir().join(format!("ac7-bench-{}", random::hex::<6>()));
    let measured = measure(ac7, &folder, Duration::from_secs(if quick { 2 } else { 10 }));
    let _ = fs::remove_dir_all(&folder);
    measured
}

fn measure(ac7: &Path, folder: &Path, time: Duration) -> Result<(), Failed> {
    let serving = Serving::start(ac7, folder)?;
    let (address, token) = (&serving.address, &serving.token);
    let briefing =
        format!("GET /briefing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let idle = latencies(address, &briefing, time)?;
    let event = json!({"kind": "objective_open", "ts": 1, "objectiveId": "x".repeat(UPLOAD.1)});
    let body = json!({"events": vec![event; UPLOAD.0]}).to_string();
    let upload = format!(
        "POST /members/ann/activity HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (stop, stored) = (AtomicBool::new(false), AtomicU64::new(0));
    let busy = thread::scope(|scope| {
        for _ in 0..UPLOADERS {
            scope.spawn(|| -> Result<(), Failed> {
                let mut client = TcpStream::connect(address)?;
                while !stop.load(Ordering::Relaxed) {
                    ask(&mut client, &upload)?;
                    stored.fetch_add(UPLOAD.0 as u64, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        let busy = latencies(address, &briefing, time);
        stop.store(true, Ordering::Relaxed);
        busy
    })?;
    let per_second = stored.load(Ordering::Relaxed) as f64 / time.as_secs_f64();
    println!("\nbroker                            idle   {UPLOADERS} uploading   ratio");
    for (name, share) in [("/briefing, p50 (us)", 0.5), ("/briefing, p99 (us)", 0.99)] {
        let (a, b) = (quantile(&idle, share), quantile(&busy, share));
        println!("{name:<28} {a:>9.0} {b:>14.0} {:>7.1}", b / a);
    }
    println!("{:<28} {:>9} {per_second:>14.0}", "events stored (/s)", "");
    serving.stop()
}

/// How long each of many requests took, one after another, in us, ascending.
fn latencies(address: &str, request: &str, time: Duration) -> Result<Vec<f64>, Failed> {
    let mut client = TcpStream::connect(address)?;
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let asked = Instant::now();
        ask(&mut client, request)?;
        took.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

pub fn quantile(ascending: &[f64], share: f64) -> f64 {
    let at = (ascending.len() as f64 * share) as usize;
    ascending.get(at.min(ascending.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// A request and its answer, which has a length.
pub fn ask(client: &mut TcpStream, request: &str) -> Result<(), Failed> {
    client.write_all(request.as_bytes())?;
    let (mut got, mut buf) = (Vec::new(), [0; 16 << 10]);
    loop {
        let n = client.read(&mut buf)?;
        got.extend_from_slice(&buf[..n]);
        if n == 0 {
            return Err("the broker hung up".into());
        }
        let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 20") {
            return Err(format!("the broker refused: {head}").into());
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.ok_or("an answer without a length")?.parse()?;
        if got.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
