//! Content codings of any data. For br and zstd there is no compressor among our crates: their formats' stored blocks
//! are written by hand, and recordings stand in for the rest.
use super::random::Random;
use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

/// A coding, or several as they are named in the header, and `data` in it.
pub fn coded(data: &[u8], random: &mut Random) -> (String, Vec<u8>) {
    let mut names = Vec::new();
    let mut bytes = data.to_vec();
    for _ in 0..[0, 1, 1, 1, 2, 3][random.below(6)] {
        let name = random.pick(&["gzip", "x-gzip", "Deflate", "deflate", "br", "zstd", "identity"]);
        bytes = match name {
            "gzip" | "x-gzip" => gzip(&bytes, random),
            "Deflate" => compress_to_vec_zlib(&bytes, level(random)),
            "deflate" => bare(&bytes, random),
            "br" => brotli(&bytes, random),
            "zstd" => zstd(&bytes, random),
            _ => bytes,
        };
        names.push(name);
    }
    (names.join(", "), bytes)
}

fn level(random: &mut Random) -> u8 {
    [0, 1, 6][random.below(3)]
}

/// `data` in blocks, not so many that they would be much longer than what they hold.
fn blocks<'a>(data: &'a [u8], random: &mut Random) -> impl Iterator<Item = &'a [u8]> {
    let least = data.len() / 100;
    let size = 1 + least + random.size(1 << 15);
    data.chunks(size.min(1 << 15))
}

fn noise(most: usize, random: &mut Random) -> Vec<u8> {
    (0..random.below(most)).map(|_| random.byte()).collect()
}

/// Raw deflate that cannot be taken for zlib.
fn bare(data: &[u8], random: &mut Random) -> Vec<u8> {
    let bytes = compress_to_vec(data, level(random));
    let is_zlib = bytes[0] & 0x8f == 8 && u16::from_be_bytes([bytes[0], bytes[1]]).is_multiple_of(31);
    if is_zlib { compress_to_vec_zlib(data, 1) } else { bytes }
}

/// One or more members with any optional fields (RFC 1952).
fn gzip(data: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, second) = data.split_at(random.below(data.len() + 1));
    let members = if random.one_in(3) { vec![first, second] } else { vec![data] };
    for member in members {
        let flags = if random.one_in(2) { 0 } else { random.byte() & 0x1f };
        out.extend_from_slice(&[0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 255]);
        if flags & 4 != 0 {
            let extra = noise(20, random);
            out.extend_from_slice(&u16::try_from(extra.len()).unwrap().to_le_bytes());
            out.extend(extra);
        }
        for _ in 0..(flags >> 3 & 1) + (flags >> 4 & 1) {
            out.extend(noise(20, random).into_iter().filter(|b| *b != 0));
            out.push(0);
        }
        if flags & 2 != 0 {
            out.extend_from_slice(b"cs");
        }
        out.extend(compress_to_vec(member, level(random)));
        out.extend_from_slice(b"checksum");
    }
    out
}

/// Uncompressed meta-blocks (RFC 7932 §9.2).
fn brotli(data: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    // Of the window's size one bit, which says 64 KB, comes before the first meta-block.
    let mut shift = 1;
    for block in blocks(data, random) {
        let header = (u32::try_from(block.len()).unwrap() - 1) << 3 | 1 << 19;
        out.extend_from_slice(&(header << shift).to_le_bytes()[..3]);
        out.extend_from_slice(block);
        shift = 0;
    }
    out.push(3 << shift);
    out
}

/// Frames of raw and run-length blocks (RFC 8878), skippable ones between them.
fn zstd(data: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, second) = data.split_at(random.below(data.len() + 1));
    let frames = if random.one_in(3) { vec![first, second] } else { vec![data] };
    for frame in frames {
        if random.one_in(4) {
            let skipped = noise(20, random);
            out.extend_from_slice(&[0x50 | random.byte() & 15, 0x2a, 0x4d, 0x18]);
            out.extend_from_slice(&u32::try_from(skipped.len()).unwrap().to_le_bytes());
            out.extend(skipped);
        }
        let checksum = random.one_in(2);
        out.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, if checksum { 4 } else { 0 }, 7 << 3]);
        let header = |last: bool, kind: u32, size: usize| {
            let header = u32::from(last) | kind << 1 | u32::try_from(size).unwrap() << 3;
            header.to_le_bytes()[..3].to_vec()
        };
        let mut parts = Vec::new();
        for block in blocks(frame, random) {
            let run = block.iter().all(|b| *b == block[0]);
            let (kind, stored) = if run { (1, &block[..1]) } else { (0, block) };
            parts.push([&header(false, kind, block.len()), stored].concat());
        }
        parts.push(header(true, 0, 0));
        out.extend(parts.concat());
        if checksum {
            out.extend_from_slice(b"hash");
        }
    }
    out
}
