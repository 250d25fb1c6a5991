//! `make bench`: what ac7's proxy costs, against a bare relay in the same run, and how the broker bears a burst. See
//! [`USAGE`].
mod broker;
mod compare;
mod fanout;
mod http;
mod load;
mod relay;
mod upstream;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rustls::ServerConfig;
use support::tls::{self, Identity};

/// What went wrong, for whoever runs the bench.
pub type Failed = Box<dyn Error + Send + Sync>;

pub const USAGE: &str = "\
usage: bench compare AC7 [--quick] [ROW…]   the whole comparison, or the rows whose names contain a ROW
       bench broker AC7 [--quick]            what a burst of uploads does to the broker's other requests
       bench fanout AC7 [--quick]            how long messages take to hundreds of subscribers

Peers are measured too where the environment names them:
  HUDSUCKER_BENCH   the binary that `cargo build --release` makes in tests/bench/hudsucker
  MITMDUMP          mitmproxy's mitmdump

The parts, each a process of its own:
  bench upstream CERTS      the server; prints its port
  bench relay CERTS         the bare relay; prints its port
  bench load PORT ACTION    one measurement through $HTTPS_PROXY; figures as JSON. Actions:
    down:BYTES up:BYTES requests:TUNNELS:SECONDS model:TUNNELS:SECONDS paced:TUNNELS:SECONDS:PER_SECOND
    tunnels:THREADS:SECONDS sse:EVENTS:MICROSECONDS idle:TUNNELS now";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["compare", ac7, ref rest @ ..] => compare::run(Path::new(ac7), rest),
        ["broker", ac7, ref rest @ ..] => broker::run(Path::new(ac7), rest.contains(&"--quick")),
        ["fanout", ac7, ref rest @ ..] => fanout::run(Path::new(ac7), rest.contains(&"--quick")),
        ["upstream", certs] => upstream::run(Path::new(certs)),
        ["relay", certs] => relay::run(Path::new(certs)),
        ["load", port, action] => port.parse().map_err(Into::into).and_then(|port| load::run(port, action)),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The server configuration of `certs`, a directory that [`tls::Authority::write`] filled.
fn server(certs: &Path) -> Result<Arc<ServerConfig>, Failed> {
    let read = |name: &str| fs::read_to_string(certs.join(name));
    Ok(tls::server(&Identity { cert: read("cert.pem")?, key: read("key.pem")? }))
}
