//! The loopback proxy: accepts the agent's connections, decides what becomes of each, and joins the ends.
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use rustls::ClientConfig;
use serde_json::json;

use super::dial::Dialer;
use super::relay::Link;
use super::scope::{Memory, Rules};
use super::tap::Queue;
use super::tunnel::Tunnel;
use crate::sys::log::Log;
use crate::sys::thread::{self, Joinable};
use crate::tls::SessionCa;

/// Until the sockets that are left over at the end have been cut and their threads have seen it.
const CUT_TIMEOUT: Duration = Duration::from_secs(2);
/// The loopback answers at once, if it does.
const REACHABLE: Duration = Duration::from_secs(2);
/// The acceptor only accepts.
const STACK: usize = 128 * 1024;
/// When the process has no descriptor or thread left, the next connection waits this long.
const OUT_OF_RESOURCES: Duration = Duration::from_millis(50);

/// What the proxy needs to know.
pub struct Config {
    pub rules: Rules,
    pub dialer: Dialer,
    /// How upstreams are validated.
    pub trust: Arc<ClientConfig>,
    pub ca: SessionCa,
}

/// A running proxy. Dropping it stops it at once.
pub struct Proxy {
    shared: Arc<Shared>,
    acceptor: Option<Joinable>,
    listener: Arc<TcpListener>,
    port: u16,
}

pub(super) struct Shared {
    pub config: Config,
    pub queue: Arc<Queue>,
    pub log: Arc<Log>,
    memory: Mutex<Memory>,
    links: Mutex<Links>,
    fewer: Condvar,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Links {
    live: HashMap<u64, Arc<Link>>,
    next: u64,
}

impl Proxy {
    /// Listen on a free port of 127.0.0.1; what is seen goes to `queue`.
    ///
    /// # Errors
    /// No loopback that can be reached, or no thread.
    pub fn start(config: Config, queue: Arc<Queue>, log: Arc<Log>) -> io::Result<Proxy> {
        let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
        let port = listener.local_addr()?.port();
        // Where the loopback is down an address can be bound and not be reached.
        let probe = TcpStream::connect_timeout(&listener.local_addr()?, REACHABLE);
        probe.and_then(|_| listener.accept())?;
        let shared = Arc::new(Shared {
            config,
            queue,
            log,
            memory: Mutex::default(),
            links: Mutex::default(),
            fewer: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let (accepting, taking) = (shared.clone(), listener.clone());
        let acceptor = thread::spawn("proxy", STACK, move || accepting.accept(&taking))?;
        shared.log.line("proxy up", &[("port", json!(port))]);
        Ok(Proxy { shared, acceptor: Some(acceptor), listener, port })
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections have been made so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.links().next
    }

    /// Take no more connections, give the open ones `grace` to end by themselves, then cut them.
    pub fn stop(mut self, grace: Duration) {
        self.end(grace);
    }

    fn end(&mut self, grace: Duration) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Both wake a blocked accept, this on Linux alone, and that where the loopback is still up.
        let _ = shutdown(&self.listener, Shutdown::Both);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        acceptor.join();
        let left = self.shared.wait_for_links(grace);
        if left > 0 {
            self.shared.links().live.values().for_each(|link| link.cut());
            let stuck = self.shared.wait_for_links(CUT_TIMEOUT);
            self.shared.log.line("tunnels cut", &[("count", json!(left)), ("stuck", json!(stuck))]);
        }
        self.shared.log.line("proxy down", &[]);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives how many tunnels are left when the last has ended, or the time is over.
    fn wait_for_links(&self, limit: Duration) -> usize {
        let more = |links: &mut Links| !links.live.is_empty();
        let waited = self.fewer.wait_timeout_while(self.links(), limit, more);
        waited.unwrap_or_else(PoisonError::into_inner).0.live.len()
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let mut complained: Option<Instant> = None;
        while !self.stopping.load(Ordering::SeqCst) {
            let taken = listener.accept().and_then(|(agent, _)| self.begin(agent));
            if let Err(why) = taken
                && !self.stopping.load(Ordering::SeqCst)
            {
                if complained.is_none_or(|at| at.elapsed() > Duration::from_secs(10)) {
                    self.log.line("accept failed", &[("why", json!(why.to_string()))]);
                    complained = Some(Instant::now());
                }
                std::thread::sleep(OUT_OF_RESOURCES);
            }
        }
    }

    fn begin(self: &Arc<Self>, agent: TcpStream) -> io::Result<()> {
        if self.stopping.load(Ordering::SeqCst) {
            return Ok(());
        }
        agent.set_nodelay(true)?;
        Tunnel::begin(self.clone(), agent)
    }

    /// Put a link on the list of those that live; gives its number.
    pub fn remember(&self, link: Arc<Link>) -> u64 {
        let mut links = self.links();
        links.next += 1;
        let number = links.next;
        links.live.insert(number, link);
        number
    }

    /// A tunnel has ended.
    pub fn forget(&self, number: u64) {
        self.links().live.remove(&number);
        self.fewer.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::relay::Way;
    use crate::capture::scope::HostPattern;
    use rustls::RootCertStore;
    use std::io::{Read, Write};

    /// Small records that wait for an acknowledgement are 40 ms late (RFC 896 and RFC 1122 §4.2.3.2 together).
    #[test]
    fn neither_leg_of_a_tunnel_waits_to_fill_a_segment() {
        let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = upstream.local_addr().unwrap();
        let rules = Rules { skip: vec![HostPattern::new("127.0.0.1")], ..Rules::default() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let trust = Arc::new(trust.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
        let config = Config { rules, dialer: Dialer::default(), trust, ca: SessionCa::new(None).unwrap() };
        let proxy = Proxy::start(config, Queue::new(), Arc::default()).unwrap();
        let mut agent = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
        agent.write_all(format!("CONNECT {host} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        // Once a byte has come through, both legs are in use.
        upstream.accept().unwrap().0.write_all(b"!").unwrap();
        let mut byte = [0];
        while byte != *b"!" {
            agent.read_exact(&mut byte).unwrap();
        }
        let live = proxy.shared.links().live.values().next().cloned().unwrap();
        for way in [Way::Up, Way::Down] {
            assert!(way.ends(&live).1.nodelay().unwrap());
        }
    }
}
