//! The comparison: every measurement of every round through every proxy in turn, so that what else the machine does
//! hits all alike; medians over the rounds; ratios to the bare relay.
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use support::run::{FreePort, TempDir};
use support::tls::Authority;

use crate::Failed;
use crate::http::now;

/// A measurement that takes longer is ended and counts as failed.
const PATIENCE: Duration = Duration::from_secs(180);

/// Each figure is the median of so many.
const ROUNDS: usize = 3;

/// What a figure of ac7's has to be.
#[derive(Clone, Copy)]
enum Target {
    /// A multiple of the relay's, or more.
    AtLeast(f64),
    /// A multiple of the relay's, or less.
    AtMost(f64),
    /// So much itself, or less.
    Below(f64),
    /// So much itself, or more.
    Above(f64),
    /// Nothing: it is only shown.
    Shown,
}

/// One line of the table: a figure of a measurement.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// Rows of equal actions come from one measurement.
    action: String,
    field: &'static str,
    target: Target,
}

/// Who is measured.
enum Way {
    Direct,
    /// A proxy that runs all the time.
    Proxy {
        port: u16,
        pid: u32,
        ca: PathBuf,
    },
    /// A runner that is started for every measurement.
    Ac7,
}

/// Everything a measurement needs.
struct Bench<'a> {
    ac7: &'a Path,
    /// This program.
    own: PathBuf,
    upstream: u16,
    dir: TempDir,
    ways: Vec<(&'static str, Way)>,
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Figures by row and way, one of each round.
type Figures = BTreeMap<(usize, &'static str), Vec<f64>>;

/// Run the comparison and print its table; an error if a row falls short. `args`: `--quick`, and names of rows.
pub fn run(ac7: &Path, args: &[&str]) -> Result<(), Failed> {
    let quick = args.contains(&"--quick");
    let wanted: Vec<&str> = args.iter().copied().filter(|word| !word.starts_with("--")).collect();
    let mut rows = rows(quick);
    rows.retain(|row| wanted.is_empty() || wanted.iter().any(|word| row.name.contains(word)));

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;

    let dir = TempDir::new();
    let certs = dir.path().to_path_buf();
    Authority::new().write(&certs);
    let own = env::current_exe()?;
    let part = |name: &str| {
        let mut command = Command::new(&own);
        command.arg(name).arg(&certs);
        command
    };
    let (_upstream, upstream) = start_and_read_port(&mut part("upstream"))?;
    let (relay, relay_port) = start_and_read_port(&mut part("relay"))?;
    let proxy = |port: u16, process: &Running, ca: PathBuf| Way::Proxy { port, pid: process.0.id(), ca };
    let mut ways = vec![
        ("direct", Way::Direct),
        ("relay", proxy(relay_port, &relay, certs.join("ca.pem"))),
        ("ac7", Way::Ac7),
    ];
    let mut running = vec![relay];
    for (name, mut command, port, ca) in peers(&certs) {
        let process = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        wait_for(port, &ca)?;
        ways.push((name, proxy(port, &process, ca)));
        running.push(process);
    }
    let bench = Bench { ac7, own: own.clone(), upstream, dir, ways };

    let figures = bench.measure(&rows);
    let ways: Vec<&'static str> = bench.ways.iter().map(|(name, _)| *name).collect();
    let short = print(&rows, &ways, &figures);
    if short > 0 {
        return Err(format!("{short} of {} rows fall short", rows.len()).into());
    }
    Ok(())
}

/// The table, without figures. Targets are those of the project's design.
fn rows(quick: bool) -> Vec<Row> {
    let row = |name, unit, action: &str, field, target| Row {
        name,
        unit,
        action: action.to_string(),
        field,
        target,
    };
    let (size, seconds, events, idle) =
        if quick { (300_000_000, 1, 500, 200) } else { (1_000_000_000, 3, 1000, 1000) };
    let rate = |name, kind: &str, tunnels: u32, target| {
        row(name, "/s", &format!("{kind}:{tunnels}:{seconds}"), "per_s", Target::AtLeast(target))
    };
    let (down, up) = (format!("down:{size}"), format!("up:{size}"));
    let (sse, idle) = (format!("sse:{events}:2000"), format!("idle:{idle}"));
    let paced = format!("paced:8:{seconds}:2000");
    vec![
        row("download", "MB/s", &down, "mb_per_s", Target::AtLeast(0.9)),
        row("download: memory", "MB", &down, "grown_mb", Target::Below(32.0)),
        row("upload", "MB/s", &up, "mb_per_s", Target::AtLeast(0.9)),
        rate("requests, 1 tunnel", "requests", 1, 0.8),
        rate("requests, 8 tunnels", "requests", 8, 0.7),
        rate("requests, 64 tunnels", "requests", 64, 0.7),
        rate("model calls, 8 tunnels", "model", 8, 0.5),
        row("model calls at 2000/s", "/s", &paced, "per_s", Target::Shown),
        row("  of them captured", "%", &paced, "captured", Target::Above(100.0)),
        rate("new tunnels", "tunnels", 4, 0.8),
        row("event lateness, p50", "us", &sse, "p50_us", Target::AtMost(1.2)),
        row("event lateness, p99", "us", &sse, "p99_us", Target::AtMost(1.2)),
        row("first event", "us", &sse, "first_us", Target::Shown),
        row("idle stream", "KB", &idle, "kb_each", Target::Below(64.0)),
        row("start of the command", "ms", "now", "start_ms", Target::Below(30.0)),
        row("binary", "MB", "size", "mb", Target::Below(5.0)),
    ]
}

/// The proxies that the environment names: name, command, port, authority to trust.
fn peers(certs: &Path) -> Vec<(&'static str, Command, u16, PathBuf)> {
    let mut peers = Vec::new();
    let ca = certs.join("ca.pem");
    if let Some(path) = env::var_os("HUDSUCKER_BENCH") {
        let port = FreePort::take().number;
        let mut command = Command::new(path);
        command.arg(port.to_string()).arg(&ca).arg(certs.join("ca.key")).arg(&ca);
        peers.push(("hudsucker", command, port, ca.clone()));
    }
    if let Some(path) = env::var_os("MITMDUMP") {
        let (port, folder) = (FreePort::take().number, certs.join("mitmproxy"));
        let set = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut command = Command::new(path);
        command.args(["--quiet", "--listen-port", &port.to_string(), "--set", "stream_large_bodies=1m"]);
        command.args([
            "--set",
            &set("confdir", &folder),
            "--set",
            &set("ssl_verify_upstream_trusted_ca", &ca),
        ]);
        peers.push(("mitmproxy", command, port, folder.join("mitmproxy-ca-cert.pem")));
    }
    peers
}

impl Bench<'_> {
    fn measure(&self, rows: &[Row]) -> Figures {
        let mut figures = Figures::new();
        let mut actions: Vec<&str> = rows.iter().map(|row| row.action.as_str()).collect();
        actions.dedup();
        for round in 1..=ROUNDS {
            for action in &actions {
                for (name, way) in &self.ways {
                    let result = match *action {
                        "size" | "now" if !matches!(way, Way::Ac7) => continue,
                        "size" => self.size(),
                        action => self.load(action, way),
                    };
                    match &result {
                        Ok(value) => eprintln!("round {round}: {action}, {name}: {value}"),
                        Err(error) => eprintln!("round {round}: {action}, {name}: FAILED: {error}"),
                    }
                    let value = result.unwrap_or_default();
                    for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.action == *action) {
                        figures.entry((at, name)).or_default().extend(value[row.field].as_f64());
                    }
                }
            }
        }
        figures
    }

    /// One measurement.
    fn load(&self, action: &str, way: &Way) -> Result<Value, Failed> {
        let mut command = match way {
            Way::Ac7 => self.under_ac7(),
            _ => Command::new(&self.own),
        };
        command.args(["load", &self.upstream.to_string(), action]);
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "PROXY_PID", "BENCH_CA"] {
            command.env_remove(name);
        }
        match way {
            Way::Direct => {
                command
                    .env("BENCH_CA", self.dir.join("ca.pem"))
                    .env("PROXY_PID", std::process::id().to_string());
            }
            Way::Proxy { port, pid, ca } => {
                command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
                command.env("PROXY_PID", pid.to_string()).env("BENCH_CA", ca);
            }
            Way::Ac7 => {}
        }
        let (out, err) = (self.dir.join("out"), self.dir.join("err"));
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let begin = now();
        let mut process = Running(command.spawn()?);
        let start = Instant::now();
        let status = loop {
            if let Some(status) = process.0.try_wait()? {
                break status;
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("not done after {PATIENCE:?}").into());
            }
            thread::sleep(Duration::from_millis(20));
        };
        let talk = fs::read_to_string(err)?;
        if !status.success() {
            return Err(format!("{status}: {}", talk.trim_end()).into());
        }
        let mut figures: Value = serde_json::from_str(fs::read_to_string(out)?.trim_end())?;
        if let Some(us) = figures["us"].as_f64() {
            figures["start_ms"] = (us / 1e3 - begin.as_secs_f64() * 1e3).into();
        }
        if let (Way::Ac7, Some(sent)) = (way, figures["count"].as_f64()) {
            let summary: Value =
                talk.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
            figures["captured"] = (100.0 * summary["modelCalls"].as_f64().unwrap_or(0.0) / sent).into();
        }
        Ok(figures)
    }

    /// `ac7 run … -- bench`, into a fresh database.
    fn under_ac7(&self) -> Command {
        let db = self.dir.join("ac7");
        let _ = fs::remove_dir_all(&db);
        let mut command = Command::new(self.ac7);
        command.args(["run", "--quiet", "--json", "--db"]).arg(db.join("activity.db"));
        command.arg("--ca-cert").arg(self.dir.join("ca.pem")).arg("--").arg(&self.own);
        command.env("HOME", self.dir.path()).env("XDG_CACHE_HOME", self.dir.join("cache"));
        command
    }

    fn size(&self) -> Result<Value, Failed> {
        Ok(serde_json::json!({"mb": fs::metadata(self.ac7)?.len() as f64 / 1e6}))
    }
}

fn start_and_read_port(command: &mut Command) -> Result<(Running, u16), Failed> {
    let mut process = Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?);
    let out = process.0.stdout.take().ok_or("no pipe")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    Ok((process, line.trim_end().parse()?))
}

/// Wait until `port` accepts connections and `ca` is there.
fn wait_for(port: u16, ca: &Path) -> Result<(), Failed> {
    let start = Instant::now();
    while !ca.exists() || TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("nothing listens on {port}").into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Print the table; returns how many rows fall short.
fn print(rows: &[Row], ways: &[&'static str], figures: &Figures) -> usize {
    let mut short = 0;
    let heads: String = ways.iter().map(|way| format!("{way:>11}")).collect();
    println!("{:<24}{:<5}{heads}   {:>8}  {:<13}", "", "", "ac7/relay", "target");
    for (at, row) in rows.iter().enumerate() {
        let figure = |way| figures.get(&(at, way)).and_then(|values| median(values));
        let cells: String = ways
            .iter()
            .map(|way| figure(way).map_or_else(|| format!("{:>11}", "-"), |value| format!("{value:>11.1}")))
            .collect();
        let (ours, ratio) = (figure("ac7"), figure("ac7").zip(figure("relay")).map(|(a, b)| a / b));
        let (target, holds) = match row.target {
            Target::AtLeast(want) => (format!(">= {want} x"), ratio.is_some_and(|r| r >= want)),
            Target::AtMost(want) => (format!("<= {want} x"), ratio.is_some_and(|r| r <= want)),
            Target::Below(want) => (format!("<= {want} {}", row.unit), ours.is_some_and(|v| v <= want)),
            Target::Above(want) => (format!(">= {want} {}", row.unit), ours.is_some_and(|v| v >= want)),
            Target::Shown => (String::new(), true),
        };
        short += usize::from(!holds);
        let verdict = match row.target {
            Target::Shown => "",
            _ if holds => "holds",
            _ => "FALLS SHORT",
        };
        let ratio = ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}"));
        println!("{:<24}{:<5}{cells}   {ratio:>8}  {target:<13}{verdict}", row.name, row.unit);
    }
    short
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}
