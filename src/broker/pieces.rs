//! Bodies of answers that are made piece by piece while they are sent. Nothing is held between two pieces, so that a
//! client that reads slowly holds up nobody.
use std::io::{self, Read};

use super::call::Body;
use crate::store::Error;

/// The body that begins with `text` and goes on with what `piece` adds: it gets the text to append the next piece to, and
/// says whether that was the last one. The first is made at once; if there is no other, the body is whole.
///
/// # Errors
/// The first piece cannot be made. A later one that cannot breaks the answer off.
pub fn body<F>(text: Vec<u8>, piece: F) -> Result<Body, Error>
where
    F: FnMut(&mut Vec<u8>) -> Result<bool, Error> + Send + 'static,
{
    let mut pieces = Pieces { piece, text, given: 0, done: false };
    pieces.done = (pieces.piece)(&mut pieces.text)?;
    Ok(if pieces.done { Body::Json(pieces.text) } else { Body::Stream(Box::new(pieces)) })
}

struct Pieces<F> {
    piece: F,
    /// Text that has not been given out: `text[given..]`.
    text: Vec<u8>,
    given: usize,
    done: bool,
}

impl<F: FnMut(&mut Vec<u8>) -> Result<bool, Error>> Read for Pieces<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.given == self.text.len() && !self.done {
            self.text.clear();
            self.given = 0;
            self.done = (self.piece)(&mut self.text).map_err(io::Error::other)?;
        }
        let n = (&self.text[self.given..]).read(buf)?;
        self.given += n;
        Ok(n)
    }
}
