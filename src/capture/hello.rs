//! The first thing a client says inside a tunnel, read without being consumed for good.
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::server::{Accepted, Acceptor};

use super::scope::Fingerprint;

/// A client that says nothing for so long is passed through: it costs nothing to wait there.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a client began with.
pub enum Hello {
    /// A TLS ClientHello that our server side can go on with; `raw` is every byte read so far.
    Tls { accepted: Box<Accepted>, client: Fingerprint, raw: Vec<u8> },
    /// Something else: another protocol, TLS 1.0, nothing at all, or a server that speaks first.
    Other { raw: Vec<u8> },
    /// The client went away before it said anything.
    Gone,
}

/// Read the client's first words. With `upstream` (a fresh connection without TLS of ours) a byte from there before
/// one from the client ends the wait: in such protocols the server speaks first, and would wait for ever with us.
///
/// # Errors
/// Whatever the socket says.
pub fn read(mut agent: &TcpStream, upstream: Option<&TcpStream>) -> io::Result<Hello> {
    let (mut acceptor, mut raw, mut buffer) = (Acceptor::default(), Vec::new(), [0; 4096]);
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if !client_speaks(agent, upstream.filter(|_| raw.is_empty()), deadline)? {
            return Ok(Hello::Other { raw });
        }
        let count = agent.read(&mut buffer)?;
        if count == 0 {
            return Ok(if raw.is_empty() { Hello::Gone } else { Hello::Other { raw } });
        }
        raw.extend_from_slice(&buffer[..count]);
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            if acceptor.read_tls(&mut rest).is_err() {
                return Ok(Hello::Other { raw });
            }
            match acceptor.accept() {
                Ok(None) => {}
                // Bytes behind the hello (there are none before our answer) stay inside the acceptor's connection.
                Ok(Some(accepted)) => {
                    let client = fingerprint(&accepted);
                    return Ok(Hello::Tls { accepted: Box::new(accepted), client, raw });
                }
                Err(_) => return Ok(Hello::Other { raw }),
            }
        }
    }
}

/// Wait until the client has sent something: `false` if the upstream did before, or nobody until the deadline.
fn client_speaks(agent: &TcpStream, upstream: Option<&TcpStream>, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut sockets = vec![PollFd::new(agent, PollFlags::IN)];
        sockets.extend(upstream.map(|u| PollFd::new(u, PollFlags::IN)));
        match poll(&mut sockets, Some(&limit)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(!sockets[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

/// GREASE values (RFC 8701) are random from hello to hello.
fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn fingerprint(accepted: &Accepted) -> Fingerprint {
    let hello = accepted.client_hello();
    let plain = |list: Vec<u16>| list.into_iter().filter(|v| !is_grease(*v)).collect();
    Fingerprint(
        plain(hello.cipher_suites().iter().map(|s| u16::from(*s)).collect()),
        plain(hello.signature_schemes().iter().map(|s| u16::from(*s)).collect()),
        hello.alpn().map(|list| list.map(<[u8]>::to_vec).collect()).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    fn client_hello() -> Vec<u8> {
        let mut roots = crate::tls::Roots::system();
        let fallback = std::env::temp_dir().join(format!("ac7-test-{}.pem", crate::sys::random::hex::<6>()));
        std::fs::write(&fallback, crate::tls::SessionCa::new(None).unwrap().pem()).unwrap();
        roots.add_file(&fallback).unwrap();
        std::fs::remove_file(&fallback).unwrap();
        let name = "a.example".try_into().unwrap();
        let mut connection = rustls::ClientConnection::new(roots.client_config().unwrap(), name).unwrap();
        let mut out = Vec::new();
        connection.write_tls(&mut out).unwrap();
        out
    }

    #[test]
    fn a_hello_is_read_at_any_cut_and_kept() {
        let hello = client_hello();
        for step in [1, 7, hello.len()] {
            let (mut near, far) = pair();
            let sent = hello.clone();
            let writer = std::thread::spawn(move || {
                for part in sent.chunks(step) {
                    near.write_all(part).unwrap();
                }
                near
            });
            let Hello::Tls { raw, client, .. } = read(&far, None).unwrap() else {
                panic!("not taken for TLS")
            };
            assert_eq!(raw, hello);
            assert_eq!(client.2, [b"http/1.1".to_vec()]);
            writer.join().unwrap();
        }
    }

    #[test]
    fn other_first_words_are_told_apart() {
        for (words, want) in [(&b"SSH-2.0-x\r\n"[..], true), (b"GET / HTTP/1.1\r\n\r\n", true), (b"", false)]
        {
            let (mut near, far) = pair();
            near.write_all(words).unwrap();
            drop(near);
            match read(&far, None).unwrap() {
                Hello::Other { raw } => assert!(want && raw == words, "{words:?}"),
                Hello::Gone => assert!(!want),
                Hello::Tls { .. } => panic!("taken for TLS"),
            }
        }
    }

    #[test]
    fn a_server_that_speaks_first_ends_the_wait() {
        let (_near, far) = pair();
        let (mut server, upstream) = pair();
        server.write_all(b"220 mail\r\n").unwrap();
        assert!(matches!(read(&far, Some(&upstream)).unwrap(), Hello::Other { raw } if raw.is_empty()));
    }
}
