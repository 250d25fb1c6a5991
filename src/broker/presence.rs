//! Who was here: kept in memory, lost with the process.
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// When a member was seen, in ms since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub first: u64,
    pub last: u64,
}

/// Every member that has made a request since the broker started.
#[derive(Default)]
pub struct Presence {
    members: Mutex<BTreeMap<String, Seen>>,
}

impl Presence {
    /// A member made a request. Only members of the team come here, so this grows no larger than the team.
    pub fn saw(&self, name: &str, now: u64) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        match members.get_mut(name) {
            Some(seen) => seen.last = now,
            None => drop(members.insert(name.to_string(), Seen { first: now, last: now })),
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Seen)> {
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.iter().map(|(name, seen)| (name.clone(), *seen)).collect()
    }
}
