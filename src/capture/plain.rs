//! Plain requests through the proxy: `GET http://host/path`, one a connection (RFC 9112 §3.2.2).
//!
//! The upstream is asked to close after its answer, and for one that does not the connection is closed here, so that
//! a second request, perhaps to another host, comes on a connection of its own.
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use super::dial::UpstreamProxy;
use super::exchange::Target;
use super::pool::Pool;
use super::relay::{Link, STACK, Source, Way};
use super::tap::Feed;
use crate::http1::{Asked, Framer, Head, Part, Rules, Start, target};
use crate::sys::thread;

/// A request in absolute form.
#[derive(Debug)]
pub struct Request {
    pub target: Target,
    /// The head as it came.
    raw: Vec<u8>,
    method: String,
    url: String,
    path: String,
    /// Whether the agent wants to speak something else on this connection afterwards.
    upgrade: bool,
}

impl Request {
    /// A request out of its parsed head and the bytes it was made of.
    ///
    /// # Errors
    /// A sentence about what is wrong with its target.
    pub fn new(head: &Head, raw: Vec<u8>) -> Result<Request, String> {
        let Start::Request { method, target: url } = &head.start else {
            return Err("this is no request".into());
        };
        let url_parts =
            target::absolute(url).ok_or("this is a proxy: it takes CONNECT, or an absolute http:// URL")?;
        if url_parts.scheme != "http" {
            return Err("https:// goes through CONNECT".into());
        }
        let path = url_parts.path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Request {
            target: Target { scheme: "http", host: url_parts.host, port: url_parts.port },
            raw,
            method: method.clone(),
            url: url.clone(),
            path: format!("{slash}{path}"),
            upgrade: head.headers.has("connection", "upgrade"),
        })
    }

    /// The head that goes on: origin form, or absolute form towards a proxy; without what was meant for us.
    fn head(&self, proxy: Option<&UpstreamProxy>) -> Vec<u8> {
        let place = if proxy.is_some() { &self.url } else { &self.path };
        let mut out = format!("{} {place} HTTP/1.1\r\n", self.method).into_bytes();
        let mut dropped = false;
        for line in self.raw.split_inclusive(|b| *b == b'\n').skip(1) {
            let folded = matches!(line.first(), Some(b' ' | b'\t'));
            if !folded {
                dropped = self.is_ours(line);
            }
            if !dropped && line.iter().any(|b| !matches!(b, b'\r' | b'\n')) {
                out.extend_from_slice(line);
            }
        }
        out.extend_from_slice(proxy.map_or(String::new(), UpstreamProxy::authorization_line).as_bytes());
        out.extend_from_slice(if self.upgrade { b"\r\n" } else { b"Connection: close\r\n\r\n" });
        out
    }

    fn is_ours(&self, line: &[u8]) -> bool {
        let name = line.split(|b| *b == b':').next().unwrap_or_default();
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        is("proxy-connection")
            || is("proxy-authorization")
            || (!self.upgrade && (is("connection") || is("keep-alive")))
    }
}

/// Send the request on and relay its answer, until both sides have ended. `up` gets what was sent, `down` what came.
///
/// # Errors
/// When no thread can be had for the answer.
pub fn forward(
    link: &Arc<Link>,
    pool: &Arc<Pool>,
    upstream: TcpStream,
    request: &Request,
    proxy: Option<&UpstreamProxy>,
    (mut up, mut down): (Feed, Feed),
) -> io::Result<()> {
    let head = request.head(proxy);
    if link.set_upstream(upstream).write_all(&head).is_err() {
        link.cut();
    }
    let mut framer = Framer::requests(Rules::CAPTURE);
    // The framer is told of the original head: it has the same length of body.
    let mut raw = &request.raw[..];
    let mut whole = !request.upgrade && through(&mut framer, &mut raw);
    // The trace has the head in origin form, as an upstream would see it.
    up.data(&if proxy.is_some() { request.head(None) } else { head });
    let mut answer = (!request.upgrade).then(|| Answer::to(&request.method));
    let back = {
        let (link, pool) = (link.clone(), pool.clone());
        thread::spawn("down", STACK, move || {
            let (from, mut to) = Way::Down.ends(&link);
            let mut source = Source::new(from, &pool);
            let broken = loop {
                match source.receive() {
                    Ok([]) => break to.shutdown(Shutdown::Write).is_err(),
                    Ok(bytes) if to.write_all(bytes).is_ok() => {
                        link.count(Way::Down, bytes.len());
                        down.data(bytes);
                        if answer.as_mut().is_some_and(|answer| answer.ends_in(bytes)) {
                            break to.shutdown(Shutdown::Write).is_err();
                        }
                    }
                    _ => break true,
                }
            };
            drop((source, down));
            link.ended(Way::Down, broken);
        })?
    };
    let (from, mut to) = Way::Up.ends(link);
    let mut source = Source::new(from, pool);
    let broken = loop {
        match source.receive() {
            Ok([]) => break false,
            // What follows the request waits for a connection of its own; the agent will see this one close.
            Ok(_) if whole => {}
            Ok(bytes) => {
                let mut rest = bytes;
                whole = !request.upgrade && through(&mut framer, &mut rest);
                let sent = &bytes[..bytes.len() - if whole { rest.len() } else { 0 }];
                // An upstream that has answered and left takes no more; its answer is on the way down.
                if to.write_all(sent).is_ok() {
                    link.count(Way::Up, sent.len());
                    up.data(sent);
                }
            }
            Err(_) => break true,
        }
    };
    drop((source, up));
    link.ended(Way::Up, broken);
    back.join();
    Ok(())
}

/// Whether the request ends within `bytes`; they are then cut to what follows it. A request that cannot be framed is
/// passed on to whatever end it has.
fn through(framer: &mut Framer, bytes: &mut &[u8]) -> bool {
    loop {
        match framer.next(bytes) {
            Ok(Some(Part::End)) => return true,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
}

/// Follows an answer to its end.
struct Answer {
    framer: Framer,
    /// The message that is under way comes before the answer (1xx).
    interim: bool,
}

impl Answer {
    fn to(method: &str) -> Answer {
        let mut framer = Framer::responses(Rules::CAPTURE);
        framer.answers(Asked::by(method));
        Answer { framer, interim: false }
    }

    /// Whether the answer ends within the next `bytes`. One that cannot be framed ends with its connection.
    fn ends_in(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            match self.framer.next(&mut bytes) {
                Ok(Some(Part::Head(head))) => {
                    self.interim = matches!(head.start, Start::Response { status } if status < 200);
                }
                Ok(Some(Part::End)) if !self.interim => return true,
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_answer_is_seen() {
        for (method, answer, want) in [
            ("GET", &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", "b"][..], true),
            ("GET", &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"], false),
            ("HEAD", &["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"], true),
            ("POST", &["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 X\r\n\r\n"], true),
            ("POST", &["HTTP/1.1 100 Continue\r\n\r\n"], false),
            ("GET", &["HTTP/1.1 200 OK\r\n\r\nuntil the end"], false),
            ("GET", &["no HTTP", "\r\n\r\n"], false),
        ] {
            let mut following = Answer::to(method);
            let ended = answer.iter().fold(false, |_, piece| following.ends_in(piece.as_bytes()));
            assert_eq!(ended, want, "{answer:?}");
        }
    }

    fn request(raw: &str) -> Result<Request, String> {
        let mut bytes = raw.as_bytes();
        let Ok(Some(Part::Head(head))) = Framer::requests(Rules::CAPTURE).next(&mut bytes) else {
            panic!("{raw}")
        };
        Request::new(&head, raw.as_bytes().to_vec())
    }

    #[test]
    fn heads_go_on_in_origin_form() {
        for (raw, want) in [
            (
                "GET http://a.example/x?y#z HTTP/1.1\r\nHost: a.example\r\nProxy-Connection: keep-alive\r\nConnection: keep-alive\r\n\r\n",
                "GET /x?y HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
            ),
            (
                "GET http://a.example HTTP/1.1\r\nProxy-Authorization: Basic x\r\n y\r\nAccept: */*\r\n\r\n",
                "GET / HTTP/1.1\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            ),
            (
                "GET http://a.example?q HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                "GET /?q HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            ),
        ] {
            assert_eq!(String::from_utf8(request(raw).unwrap().head(None)).unwrap(), want);
        }
    }

    #[test]
    fn a_proxy_gets_the_whole_url_and_its_password() {
        let proxy = UpstreamProxy::parse("http://u:p@corp:3128").unwrap();
        let head =
            request("GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap().head(Some(&proxy));
        let want = "GET http://a.example/x HTTP/1.1\r\nHost: a.example\r\nProxy-Authorization: Basic dTpw\r\nConnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(head).unwrap(), want);
    }

    #[test]
    fn other_targets_are_refused() {
        for raw in [
            "GET https://a.example/ HTTP/1.1\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\n\r\n",
            "GET /x HTTP/1.1\r\n\r\n",
        ] {
            assert!(request(raw).is_err(), "{raw}");
        }
    }
}
