//! The bytes of a client: as they are, or inside of TLS. One thread has both directions, so there is nothing to lock.
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{InvalidMessage, ServerConfig, ServerConnection};

use super::input::Timed;

/// Plain bytes that are encrypted at once.
const RECORD: usize = 16 << 10;

/// A client's connection.
pub struct Wire<'a> {
    pub stream: &'a TcpStream,
    tls: Option<RefCell<ServerConnection>>,
}

/// Why there is no TLS with a client.
#[derive(Debug)]
pub enum NoTls {
    /// It sent something else: probably plain HTTP.
    NotTls,
    Failed(io::Error),
}

impl<'a> Wire<'a> {
    /// Bytes as they are.
    pub fn plain(stream: &'a TcpStream) -> Wire<'a> {
        Wire { stream, tls: None }
    }

    /// Shake hands by `deadline`.
    ///
    /// # Errors
    /// The client speaks no TLS, or not ours, or not in time; what it needs to know has been sent.
    pub fn accept(
        stream: &'a TcpStream,
        config: Arc<ServerConfig>,
        deadline: Instant,
    ) -> Result<Wire<'a>, NoTls> {
        let mut tls = ServerConnection::new(config).map_err(|e| NoTls::Failed(io::Error::other(e)))?;
        while tls.is_handshaking() {
            match take(&mut tls, stream, deadline) {
                Ok(0) => return Err(NoTls::Failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(e) => {
                    let cause = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
                    let not_tls = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
                    return Err(if cause == Some(&not_tls) { NoTls::NotTls } else { NoTls::Failed(e) });
                }
            }
        }
        Ok(Wire { stream, tls: Some(RefCell::new(tls)) })
    }

    /// Whether it is inside of TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Say that nothing more comes.
    pub fn end(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            tls.send_close_notify();
            let _ = flush(&mut tls, self.stream); // it may not be there any more
        }
    }
}

/// Take in what the socket has next, by `deadline`, and answer what is TLS's own. 0 at the end.
fn take(tls: &mut ServerConnection, stream: &TcpStream, deadline: Instant) -> io::Result<usize> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left < Duration::from_millis(1) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut socket = stream;
    let n = tls.read_tls(&mut socket)?;
    let processed = tls.process_new_packets();
    let not_tls = rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType);
    // An alert, if there is one to be sent, goes out; to somebody who speaks no TLS it would be noise.
    let flushed = if processed.as_ref().err() == Some(&not_tls) { Ok(()) } else { flush(tls, stream) };
    processed.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    flushed.map(|()| n)
}

fn flush(tls: &mut ServerConnection, stream: &TcpStream) -> io::Result<()> {
    let mut socket = stream;
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

impl Timed for Wire<'_> {
    fn read_within(&self, buf: &mut [u8], patience: Duration) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.read_within(buf, patience) };
        let (mut tls, deadline) = (tls.borrow_mut(), Instant::now() + patience);
        loop {
            match tls.reader().read(buf) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Ended without saying so: what is missing is noticed by its length.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(e) => return Err(e),
            }
            if take(&mut tls, self.stream, deadline)? == 0 && tls.wants_read() {
                return Ok(0);
            }
        }
    }
}

impl Write for &Wire<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream;
        let Some(tls) = &self.tls else { return stream.write(buf) };
        let mut tls = tls.borrow_mut();
        let n = tls.writer().write(&buf[..buf.len().min(RECORD)])?;
        flush(&mut tls, stream)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
