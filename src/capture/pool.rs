//! Buffers that are lent to whoever has bytes to move: a thousand idle tunnels need none, and a busy one does not ask
//! the system for fresh pages with every chunk.
use std::sync::{Mutex, PoisonError};

/// Bytes of a lent buffer: what moves at once.
pub const LARGE: usize = 32 * 1024;
/// A record that was begun before (RFC 8446 §5.1), and more than TLS adds to all of it (RFC 8446 §5.2, RFC 5246
/// §6.2.3): growing a buffer would copy it.
const OVERHEAD: usize = 17 * 1024;
/// Buffers of each kind that are kept for the next one who asks.
const KEPT: usize = 16;

/// The buffers, shared by the relay threads and the capture worker.
#[derive(Default)]
pub struct Pool {
    /// [`LARGE`] bytes long, of any content, to be read into.
    full: Mutex<Vec<Vec<u8>>>,
    /// Empty, to be appended to.
    empty: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A buffer of [`LARGE`] bytes of any content.
    #[must_use]
    pub fn full(&self) -> Vec<u8> {
        take(&self.full).unwrap_or_else(|| vec![0; LARGE])
    }

    /// An empty buffer with room for all that comes out of [`LARGE`] bytes of a connection, also encrypted again.
    #[must_use]
    pub fn empty(&self) -> Vec<u8> {
        take(&self.empty).unwrap_or_else(|| Vec::with_capacity(LARGE + OVERHEAD))
    }

    /// Give a buffer back, whatever was done with it; one that is too small to be of use, or much too large, goes.
    pub fn take_back(&self, mut buffer: Vec<u8>) {
        if buffer.capacity() < LARGE || buffer.capacity() > 2 * LARGE {
            return;
        }
        let kind = if buffer.len() == LARGE { &self.full } else { &self.empty };
        if buffer.len() != LARGE {
            buffer.clear();
        }
        let mut kept = kind.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

fn take(kind: &Mutex<Vec<Vec<u8>>>) -> Option<Vec<u8>> {
    kind.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_as_they_are_wanted() {
        let pool = Pool::default();
        for (given, full, empty) in [
            (vec![1; LARGE], 1, 0),
            (Vec::with_capacity(LARGE), 1, 1),
            ([vec![1; 9], Vec::with_capacity(LARGE)].concat(), 1, 1),
            (Vec::with_capacity(9 * LARGE), 1, 1),
        ] {
            pool.take_back(given);
            let count = |kind: &Mutex<Vec<Vec<u8>>>| kind.lock().unwrap().len();
            assert_eq!((count(&pool.full), count(&pool.empty)), (full, empty));
        }
        assert_eq!((pool.full().len(), pool.empty().len()), (LARGE, 0));
        (0..2 * KEPT).for_each(|_| pool.take_back(vec![0; LARGE]));
        assert_eq!(pool.full.lock().unwrap().len(), KEPT);
    }
}
