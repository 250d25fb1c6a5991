//! The codings of one body, as a chain of decoders.
use super::Broken;
use super::brotli::Brotli;
use super::gzip::{Deflate, Gzip};
use super::zstd::Zstd;
use crate::capture::exchange::Headers;

/// More codings than this on one body are not undone.
const STAGES: usize = 4;

/// By how much a coding inside others may be longer than what it holds.
const SLACK: usize = 64 * 1024;

/// Why decoding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The taker has enough, or a coding inside others made more than could be wanted.
    Full,
    /// The data is broken.
    Broken,
}

/// A coding that is not known, or too many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown;

/// Decoders in the order in which they are undone. None at all hands bytes on as they are.
#[derive(Default)]
pub struct Codings {
    stages: Vec<Stage>,
    limit: usize,
    /// Bytes the last stage made.
    made: usize,
}

struct Stage {
    decoder: Decoder,
    made: usize,
    fed: bool,
}

enum Decoder {
    Gzip(Gzip),
    Deflate(Deflate),
    Brotli(Brotli),
    Zstd(Box<Zstd>),
}

impl Codings {
    /// Those a message's headers name: content codings, and transfer codings other than `chunked`, which come on top
    /// of them (RFC 9110 §8.4, RFC 9112 §7). `limit`: how many decoded bytes can be wanted.
    pub fn of(headers: &Headers, limit: usize) -> Result<Codings, Unknown> {
        let named = headers.list("content-encoding").chain(headers.list("transfer-encoding"));
        let mut stages = Vec::new();
        for name in named {
            let decoder = match name.to_ascii_lowercase().as_str() {
                "identity" | "chunked" => continue,
                "gzip" | "x-gzip" => Decoder::Gzip(Gzip::new()),
                "deflate" => Decoder::Deflate(Deflate::new()),
                "br" => Decoder::Brotli(Brotli::new()),
                "zstd" => Decoder::Zstd(Box::new(Zstd::new(limit + SLACK))),
                _ => return Err(Unknown),
            };
            stages.push(Stage { decoder, made: 0, fed: false });
        }
        if stages.len() > STAGES {
            return Err(Unknown);
        }
        stages.reverse();
        Ok(Codings { stages, limit, made: 0 })
    }

    /// Whether bytes are handed on as they are.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// Decoded bytes so far, also those that can only be handed on later.
    pub fn made(&self) -> usize {
        let waiting = match self.stages.last() {
            Some(Stage { decoder: Decoder::Zstd(zstd), .. }) => zstd.waiting(),
            _ => 0,
        };
        self.made + waiting
    }

    /// Decode `input` and hand the result to `take`, which says whether it wants more.
    pub fn push(&mut self, input: &[u8], take: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Stop> {
        let made = &mut self.made;
        run(&mut self.stages, self.limit, input, &mut |bytes| {
            *made += bytes.len();
            take(bytes)
        })
    }

    /// The input has ended: hand on what decoders still hold. Whether every coding came to its own end.
    pub fn finish(&mut self, take: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut whole = true;
        for at in 0..self.stages.len() {
            let (stage, rest) = self.stages[at..].split_first_mut().expect("`at` is below the length");
            whole &= stage.decoder.is_done() || !stage.fed;
            if let Decoder::Zstd(zstd) = &mut stage.decoder {
                whole &= run(rest, self.limit, &zstd.rescue(), take).is_ok();
            }
        }
        whole
    }
}

impl Decoder {
    /// Decode from the front of `input`; the result is empty only when all of it was taken.
    fn step(&mut self, input: &mut &[u8]) -> Result<&[u8], Broken> {
        match self {
            Decoder::Gzip(d) => d.step(input),
            Decoder::Deflate(d) => d.step(input),
            Decoder::Brotli(d) => d.step(input),
            Decoder::Zstd(d) => d.step(input),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Decoder::Gzip(d) => d.is_done(),
            Decoder::Deflate(d) => d.is_done(),
            Decoder::Brotli(d) => d.is_done(),
            Decoder::Zstd(d) => d.is_done(),
        }
    }
}

fn run(
    stages: &mut [Stage],
    limit: usize,
    mut input: &[u8],
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let Some((stage, rest)) = stages.split_first_mut() else {
        return if input.is_empty() || take(input) { Ok(()) } else { Err(Stop::Full) };
    };
    stage.fed |= !input.is_empty();
    loop {
        let made = stage.decoder.step(&mut input).map_err(|Broken| Stop::Broken)?;
        if made.is_empty() {
            return Ok(());
        }
        // A bomb inside another coding would show the taker nothing.
        stage.made += made.len();
        if !rest.is_empty() && stage.made > limit + SLACK {
            return Err(Stop::Full);
        }
        run(rest, limit, made, take)?;
    }
}
