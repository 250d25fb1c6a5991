//! The limit to measure against: a bare two-leg TLS relay, two blocking threads a tunnel, one certificate for every
//! host, nothing captured, nothing parsed after CONNECT.
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::DerefMut;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use rustls::{ClientConfig, ClientConnection, ConnectionCommon, ServerConfig, ServerConnection, SideData};

use crate::Failed;
use crate::http::Peer;

const STACK: usize = 128 * 1024;
const BUFFER: usize = 64 * 1024;

/// Listen on a free port, print it, and relay until killed. `certs`: the directory of ca.pem, cert.pem and key.pem.
pub fn run(certs: &Path) -> Result<(), Failed> {
    let server = crate::server(certs)?;
    let client = support::tls::client(&std::fs::read_to_string(certs.join("ca.pem"))?, true);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (tcp, _) = listener.accept()?;
        let (server, client) = (Arc::clone(&server), Arc::clone(&client));
        Builder::new().stack_size(STACK).spawn(move || drop(tunnel(tcp, server, client)))?;
    }
}

fn tunnel(mut agent: TcpStream, server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> Result<(), Failed> {
    agent.set_nodelay(true)?;
    let Some(head) = Peer::new(&agent).head()? else { return Ok(()) };
    let target = head.split(' ').nth(1).ok_or("no target")?;
    let (host, _) = target.rsplit_once(':').ok_or("no port")?;
    let mut upstream = TcpStream::connect(target)?;
    upstream.set_nodelay(true)?;
    let mut to_upstream = ClientConnection::new(client, host.to_string().try_into()?)?;
    while to_upstream.is_handshaking() {
        to_upstream.complete_io(&mut upstream)?;
    }
    agent.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let mut to_agent = ServerConnection::new(server)?;
    while to_agent.is_handshaking() {
        to_agent.complete_io(&mut agent)?;
    }
    to_upstream.set_buffer_limit(None);
    to_agent.set_buffer_limit(None);

    let (inner, outer) = (Arc::new(Mutex::new(to_agent)), Arc::new(Mutex::new(to_upstream)));
    let down = {
        let (from, to) = (upstream.try_clone()?, agent.try_clone()?);
        let (source, sink) = (Arc::clone(&outer), Arc::clone(&inner));
        Builder::new().stack_size(STACK).spawn(move || drop(pump(from, &source, to, &sink)))?
    };
    let _ = pump(agent, &inner, upstream, &outer);
    let _ = down.join();
    Ok(())
}

/// Move plaintext one way until its end. Sockets are read and written outside the locks, and each socket has one writer:
/// records that reading gives rise to stay queued until that one writes.
fn pump<F, G, S, T>(
    mut from: TcpStream,
    source: &Mutex<F>,
    mut to: TcpStream,
    sink: &Mutex<G>,
) -> io::Result<()>
where
    F: DerefMut<Target = ConnectionCommon<S>>,
    G: DerefMut<Target = ConnectionCommon<T>>,
    S: SideData,
    T: SideData,
{
    let (mut cipher, mut plain, mut out) =
        (vec![0; BUFFER], vec![0; BUFFER], Vec::with_capacity(BUFFER + 4096));
    let mut open = true;
    // The first turn reads no socket: what came along with the handshake's last flight is already in the source.
    let mut fresh = 0;
    while open {
        let mut rest = &cipher[..fresh];
        loop {
            let mut size = 0;
            {
                let mut source = source.lock().unwrap_or_else(PoisonError::into_inner);
                if !rest.is_empty() {
                    source.read_tls(&mut rest)?;
                }
                open = !source.process_new_packets().map_err(io::Error::other)?.peer_has_closed();
                while let Ok(read @ 1..) = source.reader().read(&mut plain[size..]) {
                    size += read;
                }
            }
            if size > 0 {
                seal(sink, Some(&plain[..size]), &mut out)?;
                to.write_all(&out)?;
            } else if rest.is_empty() {
                break;
            }
        }
        if open {
            fresh = from.read(&mut cipher)?;
            open = fresh > 0;
        }
    }
    seal(sink, None, &mut out)?;
    to.write_all(&out)?;
    to.shutdown(Shutdown::Write)
}

/// The records of `plain`, or those that end the stream, in `out`.
fn seal<G, T>(sink: &Mutex<G>, plain: Option<&[u8]>, out: &mut Vec<u8>) -> io::Result<()>
where
    G: DerefMut<Target = ConnectionCommon<T>>,
    T: SideData,
{
    out.clear();
    let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
    match plain {
        Some(plain) => sink.writer().write_all(plain)?,
        None => sink.send_close_notify(),
    }
    while sink.wants_write() {
        sink.write_tls(out)?;
    }
    Ok(())
}
