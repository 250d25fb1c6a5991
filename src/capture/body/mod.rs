//! Bodies: content codings undone as the bytes come, and as much of the result retained as is wanted.
//!
//! Comes in: pieces of one message's payload with their time. Goes out: a [`Body`]. Decoding stops for good at the
//! retention limit, so that neither a large download nor a bomb costs more than counting.
mod brotli;
mod codings;
mod gzip;
mod inflate;
mod zstd;

pub use inflate::Inflate;

use super::exchange::{Body, Cut, Headers};
use crate::sys::random::to_hex;
use codings::{Codings, Stop};
use ring::digest::{Context, SHA256};

/// Most entries of [`Body::marks`].
const MARKS: usize = 4096;

/// How much of a body is wanted, in decoded bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All of it. More than this is [`Cut::Limit`], and the wire payload is hashed.
    Whole(usize),
    /// Its beginning. What is beyond is counted and is no cut.
    Preview(usize),
}

/// A coding's data is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Takes one body in.
pub struct Recorder {
    keep: Keep,
    body: Body,
    /// `None` once nothing more is to be retained.
    codings: Option<Codings>,
    hash: Option<Context>,
}

impl Recorder {
    /// For a message with these headers.
    #[must_use]
    pub fn new(headers: &Headers, keep: Keep) -> Recorder {
        let (Keep::Whole(limit) | Keep::Preview(limit)) = keep;
        let mut body = Body::default();
        let codings = Codings::of(headers, limit).unwrap_or_else(|_| {
            body.cut = Some(Cut::Coding);
            Codings::default()
        });
        // What is not coded can be hashed from the retained bytes if the limit is passed.
        let late = codings.is_empty() || matches!(keep, Keep::Preview(_));
        Recorder { keep, body, codings: Some(codings), hash: (!late).then(|| Context::new(&SHA256)) }
    }

    /// The next piece of the payload, which arrived at `now`.
    pub fn push(&mut self, piece: &[u8], now: u64) {
        self.body.wire_len += piece.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.update(piece);
        }
        let Some(codings) = &mut self.codings else { return };
        let (Keep::Whole(limit) | Keep::Preview(limit)) = self.keep;
        let (bytes, plain, before) = (&mut self.body.bytes, codings.is_empty(), codings.made());
        let retained = bytes.len();
        let went = codings.push(piece, &mut |made| retain(bytes, made, limit));
        if codings.made() > before {
            mark(&mut self.body.marks, before, now);
        }
        match went {
            Ok(()) => {}
            Err(Stop::Broken) => {
                self.rescue();
                self.stop(Cut::Coding);
            }
            Err(Stop::Full) if matches!(self.keep, Keep::Preview(_)) => self.codings = None,
            Err(Stop::Full) => {
                if plain {
                    let mut hash = Context::new(&SHA256);
                    hash.update(&self.body.bytes[..retained]);
                    hash.update(piece);
                    self.hash = Some(hash);
                }
                self.stop(Cut::Limit);
            }
        }
    }

    /// Retain nothing of what comes from now on.
    pub fn count_only(&mut self) {
        self.rescue();
    }

    /// Whether of what comes from now on nothing but its length is of interest.
    #[must_use]
    pub fn only_counts(&self) -> bool {
        self.codings.is_none() && self.hash.is_none()
    }

    /// `count` bytes of the payload came and were not looked at.
    pub fn unseen(&mut self, count: u64) {
        self.body.wire_len += count;
    }

    /// `lost` bytes of the payload will never come. What is retained ends before them.
    pub fn gap(&mut self, lost: u64) {
        self.body.wire_len += lost;
        self.hash = None;
        if self.codings.is_some() || matches!(self.keep, Keep::Whole(_)) {
            self.rescue();
            self.stop(Cut::Gap);
        }
    }

    /// The body as it is now: whole, or cut by what ended it early.
    #[must_use]
    pub fn finish(mut self, early: Option<Cut>) -> Body {
        let coded_whole = self.rescue();
        match early {
            Some(cut) => self.stop(cut),
            None if !coded_whole => self.stop(Cut::Coding),
            None => {}
        }
        if self.body.cut == Some(Cut::Limit) && early.is_none() {
            self.body.sha256 = self.hash.take().map(|hash| to_hex(hash.finish().as_ref()));
        }
        self.body
    }

    /// Retain no more. The first reason stays.
    fn stop(&mut self, cut: Cut) {
        self.codings = None;
        self.body.cut.get_or_insert(cut);
        if self.body.cut != Some(Cut::Limit) {
            self.hash = None;
        }
    }

    /// Take what the codings still hold; whether the coded data came to its end.
    fn rescue(&mut self) -> bool {
        let Some(mut codings) = self.codings.take() else { return true };
        let (Keep::Whole(limit) | Keep::Preview(limit)) = self.keep;
        let bytes = &mut self.body.bytes;
        codings.finish(&mut |made| retain(bytes, made, limit))
    }
}

/// Append up to `limit` bytes in all; whether there was room for everything.
fn retain(bytes: &mut Vec<u8>, made: &[u8], limit: usize) -> bool {
    let room = limit - bytes.len();
    bytes.extend_from_slice(&made[..made.len().min(room)]);
    made.len() <= room
}

fn mark(marks: &mut Vec<(usize, u64)>, offset: usize, now: u64) {
    // A clock that was set back must not break the order.
    let last = marks.last().map_or(0, |(_, at)| *at);
    if marks.is_empty() || (now > last && marks.len() < MARKS) {
        marks.push((offset, now.max(last)));
    }
}

#[cfg(test)]
mod tests;
