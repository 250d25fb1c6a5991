//! Who was here: kept in memory, lost with the process.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::{Role, TeamFile};

/// When a member was here, in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the broker came to know the member.
    pub first: u64,
    /// The last request; before the first one, the same as `first`.
    pub last: u64,
    /// The role the member had then. The original keeps it so, and its clients show the current one elsewhere.
    pub role: Role,
}

/// Every member of the team since the broker started.
#[derive(Default)]
pub struct Presence(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The team of the last call.
    team: Option<Arc<TeamFile>>,
    members: BTreeMap<String, Seen>,
}

impl Presence {
    /// A member of `team` made a request. Members that are new in the team become known, those that left it are
    /// forgotten.
    pub fn saw(&self, team: &Arc<TeamFile>, name: &str, now: u64) {
        let mut inner = self.lock();
        if !inner.team.as_ref().is_some_and(|known| Arc::ptr_eq(known, team)) {
            inner.members.retain(|name, _| team.member(name).is_some());
            for member in &team.members {
                let new = || Seen { first: now, last: now, role: member.role.clone() };
                inner.members.entry(member.name.clone()).or_insert_with(new);
            }
            inner.team = Some(team.clone());
        }
        if let Some(seen) = inner.members.get_mut(name) {
            seen.last = now;
        }
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Seen)> {
        self.lock().members.iter().map(|(name, seen)| (name.clone(), seen.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
