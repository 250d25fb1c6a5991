//! Upstreams that are no mock of a provider: each connection is given to a function of the test.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use support::tls::{self, Authority, Leaf};

/// TLS as a server.
pub type Secured = StreamOwned<ServerConnection, TcpStream>;

/// A server on 127.0.0.1 until it is dropped. Its connections end with their clients.
pub struct Server {
    pub port: u16,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Plain TCP.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, serve) = (Arc::new(AtomicBool::new(false)), Arc::new(serve));
        let stopped = Arc::clone(&stop);
        let acceptor = thread::spawn(move || {
            for tcp in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (tcp, serve) = (tcp.unwrap(), Arc::clone(&serve));
                tcp.set_nodelay(true).unwrap();
                thread::spawn(move || serve(tcp));
            }
        });
        Server { port, stop, acceptor: Some(acceptor) }
    }

    /// TLS, and the PEM of the authority behind it. Without `alpn` the server takes no part in that negotiation.
    pub fn tls(alpn: &[&[u8]], serve: impl Fn(Secured) + Send + Sync + 'static) -> (Server, String) {
        let authority = Authority::new();
        let mut config = ServerConfig::clone(&tls::server(&authority.issue(Leaf::Good)));
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        (Server::secured(Arc::new(config), serve), authority.pem)
    }

    /// TLS with this configuration.
    pub fn secured(config: Arc<ServerConfig>, serve: impl Fn(Secured) + Send + Sync + 'static) -> Server {
        Server::start(move |tcp| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(StreamOwned::new(connection, tcp));
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

/// Give back what comes until the client has nothing more to say, then say goodbye.
pub fn echo(mut tcp: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = tcp.read(&mut buffer) {
        if tcp.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = tcp.shutdown(Shutdown::Write);
}

/// The same inside TLS.
pub fn echo_tls(mut tls: Secured) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = tls.read(&mut buffer) {
        if tls.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    goodbye(tls);
}

/// End a TLS connection in order.
pub fn goodbye(mut tls: Secured) {
    tls.conn.send_close_notify();
    let _ = tls.flush();
}
