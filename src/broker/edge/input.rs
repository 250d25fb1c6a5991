//! Bytes from a socket, each by a deadline.
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The buffer of a connection that waits: there may be thousands.
pub const SMALL: usize = 2 << 10;
/// The buffer of a connection that carries a body.
pub const LARGE: usize = 16 << 10;
/// The buffer of a member's connection that carries a large one.
pub const LARGEST: usize = 64 << 10;

/// A socket that can give up on a read.
pub trait Timed {
    /// Read once; `WouldBlock` or `TimedOut` after `patience`, which is above zero.
    ///
    /// # Errors
    /// As [`Read::read`].
    fn read_within(&self, buf: &mut [u8], patience: Duration) -> io::Result<usize>;
}

impl Timed for TcpStream {
    fn read_within(&self, buf: &mut [u8], patience: Duration) -> io::Result<usize> {
        self.set_read_timeout(Some(patience))?;
        let mut socket = self;
        socket.read(buf)
    }
}

impl Timed for UnixStream {
    fn read_within(&self, buf: &mut [u8], patience: Duration) -> io::Result<usize> {
        self.set_read_timeout(Some(patience))?;
        let mut socket = self;
        socket.read(buf)
    }
}

/// What was read and not used yet: `buf[start..end]`, `start <= end <= buf.len()`.
pub struct Input<'a, S: Timed> {
    socket: &'a S,
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'a, S: Timed> Input<'a, S> {
    /// Nothing is read yet.
    pub fn new(socket: &'a S) -> Input<'a, S> {
        Input { socket, buf: Vec::new(), start: 0, end: 0 }
    }

    /// What is here.
    pub fn unread(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The first `n` bytes of [`Input::unread`] are used.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
    }

    /// Once all is used: read again, up to `size` bytes, by `deadline`. 0 at the end of the stream.
    ///
    /// # Errors
    /// `TimedOut`, or what the socket says.
    pub fn fill(&mut self, size: usize, deadline: Instant) -> io::Result<usize> {
        if self.buf.len() != size {
            self.buf = vec![0; size];
        }
        (self.start, self.end) = (0, 0);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // The system takes less than a microsecond for "no limit".
            if left < Duration::from_millis(1) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.socket.read_within(&mut self.buf, left) {
                Ok(n) => {
                    self.end = n;
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
