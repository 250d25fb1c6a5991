//! Requests as they come in.
use std::io::{self, BufRead, Read};

use serde_json::Value;

/// A longer head is refused by ending the connection.
const MAX_HEAD: u64 = 64 * 1024;

/// How much of a body [`Seen::body`] keeps.
const KEPT: usize = 1024 * 1024;

/// A request that the mock has read.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    /// As in the request line, with the query.
    pub path: String,
    /// In wire order, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The payload as sent, a content coding not undone; at most its first MiB.
    pub body: Vec<u8>,
    /// Bytes of the whole payload.
    pub size: u64,
    /// The name in the TLS handshake, if there was one.
    pub server_name: Option<String>,
    /// Which connection brought it, from 1.
    pub connection: usize,
}

impl Seen {
    /// The first header of this name, compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The path without its query.
    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Read a head; `None` where the client is through.
pub(super) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let mut head = from.take(MAX_HEAD);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split_ascii_whitespace().map(str::to_string);
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut seen = Seen { method, path, ..Seen::default() };
    loop {
        let mut line = String::new();
        head.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => seen.headers.push((name.to_string(), value.trim().to_string())),
            None if line.ends_with('\n') => return Ok(Some(seen)),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Read the body that belongs to the head `seen` into it.
pub(super) fn read_body(from: &mut impl BufRead, seen: &mut Seen) -> io::Result<()> {
    let chunked =
        seen.header("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
    if !chunked {
        let length = seen.header("content-length").map_or(Ok(0), str::parse).map_err(io::Error::other)?;
        return read_piece(from, seen, length);
    }
    loop {
        let line = read_line(from)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        if size == 0 {
            break;
        }
        read_piece(from, seen, size)?;
        read_line(from)?;
    }
    while !read_line(from)?.trim().is_empty() {}
    Ok(())
}

fn read_piece(from: &mut impl BufRead, seen: &mut Seen, length: u64) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let data = from.fill_buf()?;
        if data.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let size = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let kept = size.min(KEPT - seen.body.len());
        seen.body.extend_from_slice(&data[..kept]);
        from.consume(size);
        left -= size as u64;
        seen.size += size as u64;
    }
    Ok(())
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.take(MAX_HEAD).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
