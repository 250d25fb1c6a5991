//! The latest calls of conversations: the next call of one begins with what the last one had, and need only be
//! compared with it.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::Hash;
use super::walk::{List, Listed, Span};

/// How many calls are remembered, and how many bytes of their text.
const CALLS: usize = 8;
const BYTES: usize = 8 << 20;

/// The memory that all uploads share.
#[derive(Default)]
pub(super) struct Lately(Mutex<VecDeque<Arc<Past>>>);

/// A call that was stored, by list.
#[derive(Default)]
pub(super) struct Past {
    pub lists: [Option<Remembered>; 4],
}

/// A list: its text, where its pieces were in the upload, and what they were.
pub(super) struct Remembered {
    pub text: String,
    pub listed: Listed,
    pub blocks: Vec<Hashed>,
}

/// A block and what leads to it.
pub(super) struct Hashed {
    pub span: Span,
    pub cut: Option<Span>,
    pub block: Hash,
    pub lead: Hash,
}

impl Past {
    /// The list whose elements others may begin with.
    pub(super) fn list(&self, list: List) -> Option<&Remembered> {
        self.lists[list as usize].as_ref()
    }

    fn bytes(&self) -> usize {
        self.lists
            .iter()
            .flatten()
            .map(|list| list.text.len() + list.blocks.len() * size_of::<Hashed>())
            .sum()
    }
}

impl Lately {
    /// The calls that are remembered now.
    pub(super) fn calls(&self) -> Vec<Arc<Past>> {
        self.lock().iter().cloned().collect()
    }

    /// Remember a call, in place of the one that it goes on from.
    pub(super) fn put(&self, call: Past, instead_of: Option<&Arc<Past>>) {
        let mut calls = self.lock();
        calls.retain(|known| instead_of.is_none_or(|gone| !Arc::ptr_eq(known, gone)));
        calls.push_back(Arc::new(call));
        while calls.len() > CALLS || calls.iter().map(|call| call.bytes()).sum::<usize>() > BYTES {
            calls.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Past>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(bytes: usize) -> Past {
        let text = "x".repeat(bytes);
        let list = Remembered { text, listed: Listed::default(), blocks: Vec::new() };
        Past { lists: [None, None, Some(list), None] }
    }

    #[test]
    fn a_conversation_has_one_place_and_all_of_them_have_bounds() {
        let lately = Lately::default();
        lately.put(call(1), None);
        for size in 2..100 {
            let last = lately.calls().pop().unwrap();
            lately.put(call(size), Some(&last));
        }
        let sizes = || lately.calls().iter().map(|call| call.bytes()).collect::<Vec<_>>();
        assert_eq!(sizes(), [99]);
        for size in 0..2 * CALLS {
            lately.put(call(size), None);
        }
        assert_eq!(sizes(), (CALLS..2 * CALLS).collect::<Vec<_>>());
        lately.put(call(BYTES - 2 * CALLS), None);
        assert_eq!(sizes(), [2 * CALLS - 1, BYTES - 2 * CALLS]);
        lately.put(call(BYTES + 1), None);
        assert_eq!(sizes(), [0; 0]);
    }
}
