//! A bounded memory of what was lately seen.
use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// Keeps at least the last `half` entries that were put in or looked up, at most twice as many.
///
/// Two generations: when the young one is full it becomes the old one and what was old is forgotten.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq + Copy, V: Copy> Recent<K, V> {
    pub(super) fn new(half: usize) -> Recent<K, V> {
        Recent { young: HashMap::new(), old: HashMap::new(), half }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(*value);
        }
        let value = self.old.remove(key)?;
        self.put(*key, value);
        Some(value)
    }

    pub(super) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.half {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(super) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::Recent;

    #[test]
    fn keeps_what_is_used_and_forgets_the_rest() {
        let mut recent = Recent::new(10);
        for i in 0..1000 {
            recent.put(i, i * 2);
            assert_eq!(recent.get(&0), Some(0), "looked up all the time, never forgotten");
            assert!(recent.young.len() + recent.old.len() <= 20);
        }
        assert_eq!(recent.get(&999), Some(1998));
        assert_eq!(recent.get(&500), None);
        recent.clear();
        assert_eq!(recent.get(&0), None);
    }
}
