//! The way out: name to socket, through the caller's own proxy where there is one.
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http1::proxies::NoProxy;
use crate::http1::target::authority;

/// For the name, all its addresses and a proxy's answer together.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A proxy's answer to CONNECT.
const MAX_ANSWER: usize = 16 * 1024;

/// curl's `--connect-to`: connections to `host:port` go to `to_host:to_port`; what is `None` is any, or unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub to_host: Option<String>,
    pub to_port: Option<u16>,
}

/// An HTTP proxy between us and the upstreams.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    pub host: String,
    pub port: u16,
    /// The value of Proxy-Authorization.
    authorization: Option<String>,
}

impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamProxy({}:{})", self.host, self.port)
    }
}

impl UpstreamProxy {
    /// A proxy out of `http://[user:password@]host[:port][/]`, or the same without a scheme, as curl takes it from the
    /// environment. The port defaults to 80.
    ///
    /// # Errors
    /// A sentence without the URL's secrets.
    pub fn parse(url: &str) -> Result<UpstreamProxy, String> {
        let (scheme, rest) = url.trim().split_once("://").unwrap_or(("http", url.trim()));
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!("a proxy of the kind {scheme}:// cannot be used, only http://"));
        }
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let (host, port) = authority(place).ok_or("it has no host, or a port that is no number")?;
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let pair = [percent_decode(name), b":".to_vec(), percent_decode(password)].concat();
            format!("Basic {}", STANDARD.encode(pair))
        });
        Ok(UpstreamProxy { host, port: port.unwrap_or(80), authorization })
    }

    /// The header line that the proxy wants with each request, or nothing.
    #[must_use]
    pub fn authorization_line(&self) -> String {
        self.authorization.as_ref().map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"))
    }
}

fn percent_decode(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// Why an upstream cannot be reached; one sentence, which the agent gets as the body of its 502.
#[derive(Debug)]
pub enum Error {
    Name {
        host: String,
        why: io::Error,
    },
    Connect {
        place: String,
        why: io::Error,
    },
    /// The caller's proxy answered CONNECT with something else than 2xx.
    ProxyRefused {
        proxy: String,
        place: String,
        answer: String,
    },
    ProxyBroken {
        proxy: String,
        why: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Name { host, why } => write!(f, "cannot resolve {host}: {why}"),
            Error::Connect { place, why } => write!(f, "cannot connect to {place}: {why}"),
            Error::ProxyRefused { proxy, place, answer } => {
                write!(f, "the proxy {proxy} refused CONNECT {place}: {answer}")
            }
            Error::ProxyBroken { proxy, why } => write!(f, "the proxy {proxy} did not answer CONNECT: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Opens connections to upstreams.
#[derive(Clone, Debug, Default)]
pub struct Dialer {
    pub connect_to: Vec<ConnectTo>,
    /// For CONNECT.
    pub https_proxy: Option<UpstreamProxy>,
    /// For plain requests.
    pub http_proxy: Option<UpstreamProxy>,
    pub no_proxy: NoProxy,
}

impl Dialer {
    /// A TCP connection to `host:port`, through the caller's proxy if that is its way.
    ///
    /// # Errors
    /// [`Error`], within ten seconds.
    pub fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Error> {
        let (host, port, redirected) = self.redirect(host, port);
        match &self.https_proxy {
            Some(proxy) if !redirected && !self.no_proxy.matches(&host, port) => through(proxy, &host, port),
            _ => connect(&host, port),
        }
    }

    /// A TCP connection for a plain request to `host:port`, and the proxy it leads to, if any.
    ///
    /// # Errors
    /// As [`Dialer::dial`].
    pub fn dial_plain(&self, host: &str, port: u16) -> Result<(TcpStream, Option<&UpstreamProxy>), Error> {
        let (host, port, redirected) = self.redirect(host, port);
        match &self.http_proxy {
            Some(proxy) if !redirected && !self.no_proxy.matches(&host, port) => {
                connect(&proxy.host, proxy.port).map(|stream| (stream, Some(proxy)))
            }
            _ => connect(&host, port).map(|stream| (stream, None)),
        }
    }

    /// Where `--connect-to` leads, and whether it said anything: what it names is reached directly.
    fn redirect(&self, host: &str, port: u16) -> (String, u16, bool) {
        let meant = |c: &&ConnectTo| {
            c.host.as_deref().is_none_or(|h| h.eq_ignore_ascii_case(host)) && c.port.is_none_or(|p| p == port)
        };
        match self.connect_to.iter().find(meant) {
            Some(c) => {
                (c.to_host.clone().unwrap_or_else(|| host.to_string()), c.to_port.unwrap_or(port), true)
            }
            None => (host.to_string(), port, false),
        }
    }
}

/// Try every address of the name, one after the other, within the one time limit.
fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    let start = Instant::now();
    let name_error = |why| Error::Name { host: host.to_string(), why };
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(name_error)?.collect();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for (i, address) in addresses.iter().enumerate() {
        let left = TIMEOUT.saturating_sub(start.elapsed()) / u32::try_from(addresses.len() - i).unwrap_or(1);
        match TcpStream::connect_timeout(address, left.max(Duration::from_millis(1))) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(why) => last = why,
        }
    }
    Err(Error::Connect { place: join(host, port), why: last })
}

/// `host:port`, an IPv6 literal in brackets.
#[must_use]
pub fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn through(proxy: &UpstreamProxy, host: &str, port: u16) -> Result<TcpStream, Error> {
    let mut stream = connect(&proxy.host, proxy.port)?;
    let (place, name) = (join(host, port), join(&proxy.host, proxy.port));
    let broken = |why| Error::ProxyBroken { proxy: name.clone(), why };
    let ask = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{}\r\n", proxy.authorization_line());
    stream.set_read_timeout(Some(TIMEOUT)).map_err(broken)?;
    stream.write_all(ask.as_bytes()).map_err(broken)?;
    let head = read_answer(&mut stream).map_err(broken)?;
    stream.set_read_timeout(None).map_err(broken)?;
    let line = head.lines().next().unwrap_or_default();
    if line.split(' ').nth(1).is_some_and(|status| status.len() == 3 && status.starts_with('2')) {
        return Ok(stream);
    }
    let answer: String = line.chars().filter(|c| !c.is_control()).take(100).collect();
    Err(Error::ProxyRefused { proxy: name.clone(), place, answer })
}

/// The head of an answer, and not a byte more: what follows belongs to the tunnel.
fn read_answer(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut ahead) = (Vec::new(), [0; 1024]);
    while head.len() < MAX_ANSWER {
        let seen = stream.peek(&mut ahead)?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = head.len();
        head.extend_from_slice(&ahead[..seen]);
        let end = head.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        let take = end.unwrap_or(head.len()) - before;
        stream.read_exact(&mut ahead[..take])?;
        if let Some(end) = end {
            head.truncate(end);
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
    }
    Err(io::Error::other("its answer is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_out_of_urls() {
        for (url, want) in [
            ("http://proxy.corp:3128", Some(("proxy.corp", 3128, ""))),
            ("http://Proxy.corp:3128/", Some(("proxy.corp", 3128, ""))),
            ("proxy.corp", Some(("proxy.corp", 80, ""))),
            ("http://[::1]:8080", Some(("::1", 8080, ""))),
            ("http://us%20er:p%40ss@p:1", Some(("p", 1, "Proxy-Authorization: Basic dXMgZXI6cEBzcw==\r\n"))),
            ("http://u@p:1", Some(("p", 1, "Proxy-Authorization: Basic dTo=\r\n"))),
            ("socks5://p:1080", None),
            ("https://p:443", None),
            ("http://", None),
            ("http://p:no", None),
        ] {
            let got = UpstreamProxy::parse(url).ok();
            let facts = got.as_ref().map(|p| (p.host.as_str(), p.port, p.authorization_line()));
            assert_eq!(facts, want.map(|(h, p, a)| (h, p, a.to_string())), "{url}");
        }
        let secret = UpstreamProxy::parse("http://u:hunter2@p:1").unwrap();
        assert!(!format!("{secret:?}").contains("aHVud"), "no secret in a debug line");
    }

    #[test]
    fn connect_to_has_curls_meaning() {
        let to = |h: Option<&str>, p, th: Option<&str>, tp| ConnectTo {
            host: h.map(String::from),
            port: p,
            to_host: th.map(String::from),
            to_port: tp,
        };
        let dialer = Dialer {
            connect_to: vec![
                to(Some("a"), Some(443), Some("b"), Some(1)),
                to(Some("c"), None, None, Some(2)),
            ],
            ..Dialer::default()
        };
        for (host, port, want) in [("A", 443, ("b", 1)), ("a", 80, ("a", 80)), ("c", 9, ("c", 2))] {
            let got = dialer.redirect(host, port);
            assert_eq!((got.0.to_ascii_lowercase().as_str(), got.1), want);
        }
    }
}
