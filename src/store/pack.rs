//! Raw deflate (RFC 1951) where it pays.
use miniz_oxide::DataFormat;
use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress_to_output};
use miniz_oxide::inflate::decompress_slice_iter_to_slice;

/// The level: 6 took the new blocks of a real session to within 1 % of level 9 in half the time.
const LEVEL: u8 = 6;

/// Below this many bytes deflate does not win enough to be tried.
const WORTH_TRYING: usize = 64;

/// A compressor that is used again and again: a new one is 300 KB to clear.
pub(super) struct Packer(Box<CompressorOxide>);

impl Packer {
    pub(super) fn new() -> Packer {
        let mut packer = Packer(Box::default());
        packer.0.set_format_and_level(DataFormat::Raw, LEVEL);
        packer
    }

    /// The bytes to store for `raw`: deflated if that is smaller, else as they are. [`unpack`] tells the two apart
    /// by their length.
    pub(super) fn pack(&mut self, raw: &[u8]) -> Vec<u8> {
        if raw.len() >= WORTH_TRYING {
            let mut out = Vec::with_capacity(raw.len() / 2);
            self.0.reset();
            compress_to_output(&mut self.0, raw, TDEFLFlush::Finish, |bytes| {
                out.extend_from_slice(bytes);
                true
            });
            if out.len() < raw.len() {
                return out;
            }
        }
        raw.to_vec()
    }
}

/// Undo [`Packer::pack`] for data that was `size` bytes; `None` if it cannot have been.
pub(super) fn unpack(stored: &[u8], size: usize) -> Option<Vec<u8>> {
    if stored.len() == size {
        return Some(stored.to_vec());
    }
    // Deflate shrinks by at most 1032: a larger claim is damage, not a reason to allocate.
    if stored.len() > size || size / 1040 > stored.len() {
        return None;
    }
    let mut out = vec![0; size];
    let written = decompress_slice_iter_to_slice(&mut out, std::iter::once(stored), false, true).ok()?;
    (written == size).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::{Packer, unpack};

    #[test]
    fn what_goes_in_comes_out() {
        let mut packer = Packer::new();
        let long = "to be or not to be ".repeat(9000);
        let noise: Vec<u8> = crate::sys::random::bytes::<999>().to_vec();
        for raw in [b"".to_vec(), b"a".to_vec(), noise, long.clone().into_bytes(), vec![b'x'; 1 << 20]] {
            let stored = packer.pack(&raw);
            assert!(stored.len() <= raw.len());
            assert_eq!(unpack(&stored, raw.len()).as_deref(), Some(&raw[..]));
        }
        assert!(packer.pack(long.as_bytes()).len() < long.len() / 50);
    }

    #[test]
    fn damage_is_noticed() {
        let mut packer = Packer::new();
        let raw = "to be or not to be ".repeat(90);
        let stored = packer.pack(raw.as_bytes());
        assert_eq!(unpack(&stored, raw.len() + 1), None);
        assert_eq!(unpack(&stored, raw.len() - 1), None);
        assert_eq!(unpack(&stored[..stored.len() - 1], raw.len()), None);
        assert_eq!(unpack(&stored, usize::MAX), None, "no allocation for an absurd size");
        assert_eq!(unpack(&[0xff; 9], 100), None);
    }
}
