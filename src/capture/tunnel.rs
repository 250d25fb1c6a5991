//! One connection of the agent: what it asks for, what is decided, and its way to the end.
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::server::Accepted;
use rustls::{AlertDescription, ClientConnection, ServerConnection};
use serde_json::json;

use super::exchange::{Side, Target};
use super::hello::{self, Hello};
use super::proxy::Shared;
use super::relay::{self, Decrypted, Link};
use super::scope::{ByHost, Fingerprint, Reason, Rejection};
use super::{extract, plain};
use crate::http1::{self, Framer, Part, Start};
use crate::sys::{clock, thread};
use crate::tls;

/// A proxy request's head.
const MAX_HEAD: usize = 64 * 1024;
/// For a proxy request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// For a TLS handshake, on either side.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// More than four times a relay thread's, so that the C library does not hand its touched pages on to one.
const SETUP_STACK: usize = 5 * relay::STACK;

/// An upstream with TLS on it.
struct Secured {
    stream: TcpStream,
    connection: ClientConnection,
    /// It wanted to see a certificate, and went on without one.
    asked: bool,
}

/// One connection of the agent, on its own thread.
pub(super) struct Tunnel {
    shared: Arc<Shared>,
    link: Arc<Link>,
    /// In the proxy's list of links.
    number: u64,
    /// When the connection was accepted, ms since the epoch.
    started: u64,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.link.cut();
        self.shared.forget(self.number);
    }
}

impl Tunnel {
    /// See a new connection through to its end, on threads of its own: one that sets it up, with as much stack as
    /// handshakes take, then two shallow ones that relay, perhaps for hours.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn begin(shared: Arc<Shared>, agent: TcpStream) -> io::Result<()> {
        let link = Link::new(agent);
        let number = shared.remember(link.clone());
        let tunnel = Tunnel { shared, link, number, started: clock::now_ms() };
        tunnel.on_thread("tunnel", SETUP_STACK, Tunnel::serve)
    }

    fn on_thread(
        self,
        name: &str,
        stack: usize,
        work: impl FnOnce(Tunnel) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        // The proxy waits for all tunnels by its list of links, from which each takes itself off at its end.
        let started = thread::spawn(name, stack, move || {
            let log = self.shared.log.clone();
            if let Err(why) = work(self) {
                log.line("tunnel failed", &[("why", json!(why.to_string()))]);
            }
        });
        started.map(drop)
    }

    fn serve(self) -> io::Result<()> {
        let agent = &self.link.agent;
        agent.set_read_timeout(Some(HEAD_TIMEOUT))?;
        let Some(raw) = read_head(agent)? else { return Ok(()) };
        agent.set_read_timeout(None)?;
        if raw.len() > MAX_HEAD {
            return self.answer("400 Bad Request", "the head of a request to the proxy is at most 64 KB");
        }
        let Ok(Some(Part::Head(head))) = Framer::requests(http1::Rules::CAPTURE).next(&mut &raw[..]) else {
            return self.answer("400 Bad Request", "this is not an HTTP request");
        };
        match &head.start {
            Start::Request { method, target } if method == "CONNECT" => {
                match http1::target::authority(target) {
                    Some((host, port)) => self.connect(&host, port.unwrap_or(443)),
                    None => self.answer("400 Bad Request", "CONNECT needs host:port"),
                }
            }
            _ => match plain::Request::new(&head, raw) {
                Ok(request) => self.plain(&request),
                Err(why) => self.answer("400 Bad Request", &why),
            },
        }
    }

    fn connect(self, host: &str, port: u16) -> io::Result<()> {
        let by_host = self.shared.memory().by_host(&self.shared.config.rules, host);
        match by_host {
            ByHost::Splice(reason) => {
                let Some(upstream) = self.dial(host, port)? else { return Ok(()) };
                self.established()?;
                self.splice(host, port, upstream, &[], reason)
            }
            ByHost::Model => {
                let Some(upstream) = self.dial(host, port)? else { return Ok(()) };
                let upstream = match self.secure(upstream, host) {
                    Ok(upstream) => upstream,
                    Err(why) => {
                        if tls::certificate_was_asked_for() {
                            self.wants_certificate(host);
                        }
                        return self.refuse(host, port, &format!("cannot trust {host}: {why}"));
                    }
                };
                self.established()?;
                match hello::read(&self.link.agent, None)? {
                    Hello::Gone => Ok(()),
                    Hello::Other { raw } => self.splice_anew(host, port, &raw, Reason::NotTls),
                    Hello::Tls { accepted, client, raw } => {
                        let why_not =
                            self.shared.memory().by_hello(&self.shared.config.rules, by_host, host, &client);
                        match why_not {
                            Some(reason) => self.splice_anew(host, port, &raw, reason),
                            None => self.decrypt(host, port, upstream, *accepted, (&client, true), &raw),
                        }
                    }
                }
            }
            ByHost::AskHello => {
                let Some(upstream) = self.dial(host, port)? else { return Ok(()) };
                self.established()?;
                match hello::read(&self.link.agent, Some(&upstream))? {
                    Hello::Gone => Ok(()),
                    Hello::Other { raw } => self.splice(host, port, upstream, &raw, Reason::NotTls),
                    Hello::Tls { accepted, client, raw } => {
                        let why_not =
                            self.shared.memory().by_hello(&self.shared.config.rules, by_host, host, &client);
                        if let Some(reason) = why_not {
                            return self.splice(host, port, upstream, &raw, reason);
                        }
                        let secured = self.secure(upstream, host);
                        let asked = |_: &_| tls::certificate_was_asked_for();
                        if secured.as_ref().map_or_else(asked, |upstream| upstream.asked) {
                            self.wants_certificate(host);
                            drop(secured);
                            return self.splice_anew(host, port, &raw, Reason::ClientCertificate);
                        }
                        match secured {
                            Ok(upstream) => {
                                self.decrypt(host, port, upstream, *accepted, (&client, false), &raw)
                            }
                            // The client shall judge the certificate itself, as it would without us.
                            Err(why) => {
                                self.log("upstream refused", host, &[("why", json!(why.to_string()))]);
                                self.splice_anew(host, port, &raw, Reason::Upstream)
                            }
                        }
                    }
                }
            }
        }
    }

    /// Reach the upstream, or tell the agent why not.
    fn dial(&self, host: &str, port: u16) -> io::Result<Option<TcpStream>> {
        match self.shared.config.dialer.dial(host, port) {
            Ok(upstream) => Ok(Some(upstream)),
            Err(why) => self.refuse(host, port, &why.to_string()).map(|()| None),
        }
    }

    /// TLS on a fresh connection, validated; bounded in time.
    fn secure(&self, stream: TcpStream, host: &str) -> io::Result<Secured> {
        let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
        let config = self.shared.config.trust.clone();
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut timed = Timed::new(&stream);
        while connection.is_handshaking() {
            connection.complete_io(&mut timed)?;
        }
        stream.set_read_timeout(None)?;
        connection.set_buffer_limit(None);
        Ok(Secured { stream, connection, asked: tls::certificate_was_asked_for() })
    }

    /// The agent may have a certificate to show, which no one can do in its place.
    fn wants_certificate(&self, host: &str) {
        self.log("client certificate wanted", host, &[]);
        self.shared.memory().leave_alone(host, Reason::ClientCertificate);
    }

    /// Finish the agent's handshake with a leaf of ours, then relay.
    fn decrypt(
        self,
        host: &str,
        port: u16,
        upstream: Secured,
        accepted: Accepted,
        (client, model): (&Fingerprint, bool),
        raw: &[u8],
    ) -> io::Result<()> {
        let config = self.shared.config.ca.server_config(host).map_err(|why| why.to_string());
        let connection = config.and_then(|c| accepted.into_connection(c).map_err(|(why, _)| why.to_string()));
        let mut connection = match connection {
            Ok(connection) => connection,
            // Nothing has been sent yet, so that the client can still be left alone.
            Err(why) => {
                self.log("cannot decrypt", host, &[("why", json!(why))]);
                drop(upstream);
                return self.splice_anew(host, port, raw, Reason::NotTls);
            }
        };
        if let Err(why) = accept_handshake(&self.link.agent, &mut connection) {
            return self.handshake_refused(host, port, client, model, alert_of(&why));
        }
        self.log("tunnel decided", host, &[("decrypted", json!(true))]);
        let tap = self.shared.queue.open(Target { scheme: "https", host: host.to_string(), port });
        self.link.set_upstream(upstream.stream);
        let relay = Decrypted {
            link: self.link.clone(),
            pool: self.shared.queue.pool.clone(),
            agent: Arc::new(Mutex::new(connection)),
            upstream: Arc::new(Mutex::new(upstream.connection)),
            up: tap.feed(Side::Agent),
            down: tap.feed(Side::Upstream),
        };
        let (host, client, asked) = (host.to_string(), client.clone(), upstream.asked);
        self.on_thread("up", relay::STACK, move |tunnel| {
            tunnel.relay(relay, &host, port, &client, (model, asked))
        })
    }

    /// Relay, and remember what it showed of the client.
    fn relay(
        self,
        relay: Decrypted,
        host: &str,
        port: u16,
        client: &Fingerprint,
        (model, asked): (bool, bool),
    ) -> io::Result<()> {
        let mut http = true;
        let learnt = relay.run(|bytes| {
            http = looks_like_http(bytes);
            let mut memory = self.shared.memory();
            memory.succeeded(client, host);
            if !http {
                memory.leave_alone(host, Reason::NotHttp);
            }
            http
        })?;
        if !http {
            self.passed(host, port, Reason::NotHttp, None);
        }
        // With TLS 1.3 a server judges the client after its handshake (RFC 8446 §4.4.2.4).
        if asked && learnt.refused && self.link.moved().1 == 0 {
            self.wants_certificate(host);
        }
        if learnt.spoke { Ok(()) } else { self.handshake_refused(host, port, client, model, learnt.alert) }
    }

    /// The agent left without having sent anything under our leaf.
    fn handshake_refused(
        &self,
        host: &str,
        port: u16,
        client: &Fingerprint,
        model: bool,
        alert: Option<AlertDescription>,
    ) -> io::Result<()> {
        let strong = alert.is_some_and(is_certificate_alert);
        let how = if strong { Rejection::Strong } else { Rejection::Weak };
        let counted = self.shared.memory().rejected(client, host, model, how);
        let alert = alert.map(|a| format!("{a:?}"));
        self.log(
            "handshake refused",
            host,
            &[("alert", json!(alert)), ("tunnelled from now on", json!(counted))],
        );
        if counted || strong {
            self.passed(host, port, Reason::Rejected, alert.as_deref());
        }
        Ok(())
    }

    fn splice_anew(self, host: &str, port: u16, raw: &[u8], reason: Reason) -> io::Result<()> {
        match self.shared.config.dialer.dial(host, port) {
            Ok(upstream) => self.splice(host, port, upstream, raw, reason),
            // The 200 is out: nothing is left to say but the end of the connection.
            Err(why) => {
                self.log("upstream lost", host, &[("why", json!(why.to_string()))]);
                Ok(())
            }
        }
    }

    fn splice(
        self,
        host: &str,
        port: u16,
        upstream: TcpStream,
        raw: &[u8],
        reason: Reason,
    ) -> io::Result<()> {
        self.log("tunnel decided", host, &[("decrypted", json!(false)), ("reason", json!(reason.word()))]);
        let (host, raw) = (host.to_string(), raw.to_vec());
        self.on_thread("up", relay::STACK, move |tunnel| {
            relay::spliced(&tunnel.link, &tunnel.shared.queue.pool, upstream, &raw)?;
            tunnel.passed(&host, port, reason, None);
            Ok(())
        })
    }

    /// A connection went through, or away, undecrypted.
    fn passed(&self, host: &str, port: u16, reason: Reason, alert: Option<&str>) {
        let (bytes_up, bytes_down) = self.link.moved();
        self.shared.queue.event(extract::tunnel(&extract::Tunnel {
            host,
            port,
            reason: reason.word(),
            alert,
            bytes_up,
            bytes_down,
            started_at: self.started,
            ended_at: clock::now_ms(),
        }));
    }

    fn established(&self) -> io::Result<()> {
        (&self.link.agent).write_all(b"HTTP/1.1 200 Connection Established\r\n\r\n")
    }

    /// The upstream cannot be had: the agent gets a real error at once, and the trace has it too.
    fn refuse(&self, host: &str, port: u16, why: &str) -> io::Result<()> {
        self.log("upstream refused", host, &[("why", json!(why))]);
        let times = (self.started, clock::now_ms());
        self.shared.queue.event(extract::refused(host, port, why, times));
        self.answer("502 Bad Gateway", why)
    }

    fn answer(&self, status: &str, why: &str) -> io::Result<()> {
        let body = format!("ac7: {why}\n");
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut agent = &self.link.agent;
        agent.write_all((head + &body).as_bytes())?;
        agent.shutdown(Shutdown::Write)
    }

    fn plain(self, request: &plain::Request) -> io::Result<()> {
        let target = &request.target;
        let (upstream, proxy) = match self.shared.config.dialer.dial_plain(&target.host, target.port) {
            Ok(way) => way,
            Err(why) => return self.refuse(&target.host, target.port, &why.to_string()),
        };
        let tap = self.shared.queue.open(target.clone());
        let feeds = (tap.feed(Side::Agent), tap.feed(Side::Upstream));
        plain::forward(&self.link, &self.shared.queue.pool, upstream, request, proxy, feeds)
    }

    fn log(&self, what: &str, host: &str, more: &[(&str, serde_json::Value)]) {
        let mut fields = vec![("host", json!(host))];
        fields.extend(more.iter().cloned());
        self.shared.log.line(what, &fields);
    }
}

/// A request's head, and not a byte more: what follows belongs to the tunnel. `None` if the agent left before; more
/// than [`MAX_HEAD`] bytes if it has no end there.
fn read_head(mut agent: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let (mut head, mut ahead) = (Vec::new(), [0; 2048]);
    loop {
        let seen = agent.peek(&mut ahead)?;
        if seen == 0 {
            return Ok(None);
        }
        let before = head.len();
        head.extend_from_slice(&ahead[..seen]);
        let from = before.saturating_sub(3);
        let end = head[from..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4);
        agent.read_exact(&mut ahead[..end.unwrap_or(head.len()) - before])?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(Some(head));
        }
        if head.len() > MAX_HEAD {
            return Ok(Some(head));
        }
    }
}

fn accept_handshake(agent: &TcpStream, connection: &mut ServerConnection) -> io::Result<()> {
    let mut timed = Timed::new(agent);
    while connection.is_handshaking() {
        connection.complete_io(&mut timed)?;
    }
    while connection.wants_write() {
        connection.write_tls(&mut timed)?;
    }
    agent.set_read_timeout(None)?;
    connection.set_buffer_limit(None);
    Ok(())
}

/// A socket for the length of a handshake: however a peer trickles its bytes, it has [`HANDSHAKE_TIMEOUT`] in all.
struct Timed<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a TcpStream) -> Timed<'a> {
        Timed { stream, deadline: Instant::now() + HANDSHAKE_TIMEOUT }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake takes too long"));
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn alert_of(why: &io::Error) -> Option<AlertDescription> {
    match why.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Alerts 42 to 46 and 48 (RFC 8446 §6.2): the client has looked at our certificate and does not want it.
fn is_certificate_alert(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
    )
}

/// Whether bytes may begin an HTTP/1 request: a method of capital letters, as far as it can be seen. The preface of
/// HTTP/2 (RFC 9113 §3.4) is not HTTP/1.
fn looks_like_http(bytes: &[u8]) -> bool {
    let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(0);
    let method = bytes[start..].split(|b| *b == b' ').next().unwrap_or_default();
    let token = |b: &u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_');
    method.len() <= 32
        && method.first().is_some_and(u8::is_ascii_uppercase)
        && method.iter().all(token)
        && !bytes[start..].starts_with(b"PRI * HTTP/2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_has_one_deadline_for_all_its_reads() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.write_all(b"ab").unwrap();
        let mut timed = Timed::new(&far);
        assert_eq!(timed.read(&mut [0]).unwrap(), 1);
        timed.deadline = Instant::now();
        assert_eq!(
            timed.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::TimedOut,
            "a byte is there, but too late"
        );
    }

    #[test]
    fn http_is_told_by_its_first_bytes() {
        for (bytes, want) in [
            (&b"GET / HTTP/1.1\r\n"[..], true),
            (b"P", true),
            (b"\r\nPOST /v1", true),
            (b"M-SEARCH * HTTP/1.1", true),
            (b"PRI * HTTP/2.0\r\n\r\nSM", false),
            (b"SSH-2.0-OpenSSH", false),
            (b"\x16\x03\x01", false),
            (b"a1 LOGIN", false),
            (b"", false),
        ] {
            assert_eq!(looks_like_http(bytes), want, "{bytes:?}");
        }
    }
}
