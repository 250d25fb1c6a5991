//! The little HTTP/1.1 that both ends of the bench speak.
use std::io::{self, ErrorKind, Read};
use std::time::{Duration, UNIX_EPOCH};

/// One end of a connection and what was read of it too early.
pub struct Peer<S> {
    pub stream: S,
    ahead: Vec<u8>,
    buffer: Vec<u8>,
}

impl<S: Read> Peer<S> {
    pub fn new(stream: S) -> Peer<S> {
        Peer { stream, ahead: Vec::new(), buffer: vec![0; 64 * 1024] }
    }

    /// The next message's head, `None` where the other side is through.
    pub fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                let head = self.ahead.drain(..at + 4).collect();
                return String::from_utf8(head).map(Some).map_err(io::Error::other);
            }
            match self.more() {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof && self.ahead.is_empty() => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }

    /// Pass over `size` bytes of body.
    pub fn skip(&mut self, size: usize) -> io::Result<()> {
        let here = size.min(self.ahead.len());
        self.ahead.drain(..here);
        let mut left = size - here;
        while left > 0 {
            let end = left.min(self.buffer.len());
            match self.stream.read(&mut self.buffer[..end])? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => left -= read,
            }
        }
        Ok(())
    }

    /// Pass over the body that belongs to `head`: of a known length, or chunked and ending as our upstream ends it.
    pub fn skip_body(&mut self, head: &str) -> io::Result<()> {
        if let Some(length) = content_length(head) {
            return self.skip(length);
        }
        while !self.ahead.ends_with(b"\r\n0\r\n\r\n") {
            self.more()?;
        }
        self.ahead.clear();
        Ok(())
    }

    /// Everything up to and with the next `mark`.
    pub fn up_to(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.ahead, mark) {
                return Ok(self.ahead.drain(..at + mark.len()).collect());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.buffer)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            read => {
                self.ahead.extend_from_slice(&self.buffer[..read]);
                Ok(())
            }
        }
    }
}

/// The Content-Length of a head.
pub fn content_length(head: &str) -> Option<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let value = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, v)| v).next();
    value?.trim().parse().ok()
}

/// Time since the epoch: the same clock in every process of the bench.
pub fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}
