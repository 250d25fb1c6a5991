//! Who is here, and who was: kept in memory, lost with the process.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::{Role, TeamFile};
use crate::sys::clock::now_ms;

/// How long a member counts as busy that says so once, ms. A runner says it again while it is so.
const BUSY_MS: u64 = 30_000;

/// When a member was here, in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the broker came to know the member.
    pub first: u64,
    /// The last request or the end of the last stream; now while there is one; before all of it, the same as `first`.
    pub last: u64,
    /// The role the member had then. The original keeps it so, and its clients show the current one elsewhere.
    pub role: Role,
    /// How many streams of messages the member has open.
    pub connected: usize,
    pub busy: bool,
    /// When it last said that it is busy.
    pub worked: Option<u64>,
    pub work: Work,
}

/// What a member's runner says of its session. Numbers that it never told are 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// What kind of runner it is.
    pub runner: Option<String>,
    /// Model calls under way.
    pub active: u64,
    /// Model calls that have begun.
    pub total: u64,
    pub errors: u64,
    /// Events that wait to be sent to us.
    pub queued: u64,
    /// Events that are lost.
    pub dropped: u64,
}

/// Every member of the team since the broker started.
#[derive(Default)]
pub struct Presence(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The team of the last call.
    team: Option<Arc<TeamFile>>,
    members: BTreeMap<String, Known>,
    /// How many streams each has open, kept apart: a stream may outlive its member by a moment.
    streams: HashMap<String, usize>,
}

struct Known {
    first: u64,
    last: u64,
    role: Role,
    busy: bool,
    /// What it said of itself counts until then.
    believed: u64,
    worked: Option<u64>,
    work: Work,
}

impl Known {
    fn new(role: Role, now: u64) -> Known {
        let work = Work::default();
        Known { first: now, last: now, role, busy: false, believed: 0, worked: None, work }
    }
}

/// An open stream of messages of a member; dropping it ends it.
pub struct Here<'a> {
    presence: &'a Presence,
    name: String,
}

impl Presence {
    /// A member of `team` made a request. Members that are new in the team become known, those that left it are
    /// forgotten.
    pub fn saw(&self, team: &Arc<TeamFile>, name: &str, now: u64) {
        let mut inner = self.lock();
        if !inner.team.as_ref().is_some_and(|known| Arc::ptr_eq(known, team)) {
            inner.members.retain(|name, _| team.member(name).is_some());
            for member in &team.members {
                let new = || Known::new(member.role.clone(), now);
                inner.members.entry(member.name.clone()).or_insert_with(new);
            }
            inner.team = Some(team.clone());
        }
        if let Some(known) = inner.members.get_mut(name) {
            known.last = now;
        }
    }

    /// A member says whether it is busy, and with what. What there is now counts for a while, unless it is said again:
    /// a runner that was killed leaves no call and no queue behind.
    pub fn says_busy(&self, name: &str, busy: bool, work: Work, now: u64) {
        if let Some(known) = self.lock().members.get_mut(name) {
            (known.busy, known.believed, known.work) = (busy, now + BUSY_MS, work);
            if busy {
                known.worked = Some(now);
            }
        }
    }

    /// A member has a stream of messages open, as long as the result lives.
    pub fn enter(&self, name: &str) -> Here<'_> {
        *self.lock().streams.entry(name.to_string()).or_default() += 1;
        Here { presence: self, name: name.to_string() }
    }

    /// How many streams of messages these members have open.
    #[must_use]
    pub fn live<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> usize {
        let inner = self.lock();
        names.into_iter().filter_map(|name| inner.streams.get(name)).sum()
    }

    /// All of them, by name, as of `now`.
    #[must_use]
    pub fn all(&self, now: u64) -> Vec<(String, Seen)> {
        let inner = self.lock();
        let seen = |(name, known): (&String, &Known)| {
            let connected = inner.streams.get(name).copied().unwrap_or_default();
            let last = if connected > 0 { now } else { known.last };
            let believed = now < known.believed;
            let mut work = known.work.clone();
            if !believed {
                (work.active, work.queued) = (0, 0);
            }
            let (role, busy, worked) = (known.role.clone(), known.busy && believed, known.worked);
            (name.clone(), Seen { first: known.first, last, role, connected, busy, worked, work })
        };
        inner.members.iter().map(seen).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        let mut inner = self.presence.lock();
        if let Some(streams) = inner.streams.get_mut(&self.name) {
            *streams -= 1;
            if *streams == 0 {
                inner.streams.remove(&self.name);
            }
        }
        if let Some(known) = inner.members.get_mut(&self.name) {
            known.last = known.last.max(now_ms());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn team(names: &[&str]) -> Arc<TeamFile> {
        let member = |name: &&str| json!({"name": name, "role": {"title": "t"}, "permissions": []});
        let members: Vec<_> = names.iter().map(member).collect();
        let file = json!({"team": {"name": "T", "directive": "d"}, "members": members});
        Arc::new(TeamFile::from_json(&file).unwrap())
    }

    fn of(presence: &Presence, name: &str, now: u64) -> Option<Seen> {
        presence.all(now).into_iter().find(|(known, _)| known == name).map(|(_, seen)| seen)
    }

    #[test]
    fn busy_ends_by_itself_unless_it_is_said_again() {
        let presence = Presence::default();
        presence.saw(&team(&["ann", "bob"]), "ann", 1_000);
        let busy = |now| of(&presence, "ann", now).unwrap().busy;
        let work = Work { runner: None, active: 2, total: 9, errors: 1, queued: 3, dropped: 4 };
        assert!(!busy(1_000));
        presence.says_busy("ann", true, work.clone(), 1_000);
        assert!(busy(1_000) && busy(30_999) && !busy(31_000));
        presence.says_busy("ann", true, work.clone(), 20_000);
        assert!(busy(49_999) && !busy(50_000));
        // A killed runner leaves its sums behind, and nothing that would have to end.
        let seen = |now| of(&presence, "ann", now).unwrap();
        assert_eq!((seen(49_999).work, seen(49_999).worked), (work.clone(), Some(20_000)));
        assert_eq!(seen(50_000).work, Work { active: 0, queued: 0, ..work.clone() });
        presence.says_busy("ann", false, Work { active: 0, ..work.clone() }, 21_000);
        assert!(!busy(21_000));
        assert_eq!((seen(21_000).work.queued, seen(21_000).worked), (3, Some(20_000)));
        presence.says_busy("zed", true, work, 1);
        assert!(!of(&presence, "bob", 1).unwrap().busy);
    }

    #[test]
    fn those_with_a_stream_are_here_until_its_end() {
        let presence = Presence::default();
        presence.saw(&team(&["ann", "bob"]), "ann", 1_000);
        let (one, two, bob) = (presence.enter("ann"), presence.enter("ann"), presence.enter("bob"));
        let ann = of(&presence, "ann", 5_000).unwrap();
        assert_eq!((ann.connected, ann.first, ann.last), (2, 1_000, 5_000));
        assert_eq!((presence.live(["ann", "bob", "zed"]), presence.live(["zed"])), (3, 0));
        drop((one, two));
        let ann = of(&presence, "ann", 5_000).unwrap();
        assert_eq!(ann.connected, 0);
        assert!(ann.last > 1_000_000, "it was here until its stream ended");
        // A member that has left the team, and comes again, while its stream ends late.
        presence.saw(&team(&["ann"]), "ann", 6_000);
        assert_eq!(of(&presence, "bob", 6_000), None);
        presence.saw(&team(&["ann", "bob"]), "ann", 7_000);
        assert_eq!(of(&presence, "bob", 7_000).unwrap().connected, 1);
        drop(bob);
        assert_eq!(of(&presence, "bob", 7_000).unwrap().connected, 0);
        assert!(presence.lock().streams.is_empty());
    }
}
