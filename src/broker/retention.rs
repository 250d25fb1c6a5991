//! When old activity is deleted: once a day, and at once when the setting changes.
use std::time::{Duration, Instant};

/// From the end of one round to the begin of the next.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 24 * 3600 * 1000;

/// Where the deleting is. It knows no database: [`Retention::step`] says what to do, [`Retention::did`] takes the result.
#[derive(Default)]
pub struct Retention {
    /// The setting of the last step.
    days: Option<u64>,
    /// When the next round begins; `None` for now.
    next: Option<Instant>,
    /// Of the round that goes on: what is older goes, and how many went.
    round: Option<(u64, u64)>,
}

impl Retention {
    /// Delete some rows that are older than this (ms since the epoch) now, if there is one.
    pub fn step(&mut self, days: Option<u64>, now: Instant, now_ms: u64) -> Option<u64> {
        if self.days != days {
            *self = Retention { days, ..Retention::default() };
        }
        let days = days?;
        if self.round.is_none() && self.next.is_none_or(|next| now >= next) {
            self.round = Some((now_ms.saturating_sub(days.saturating_mul(DAY_MS)), 0));
        }
        self.round.map(|(cutoff, _)| cutoff)
    }

    /// Whether a round goes on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.round.is_some()
    }

    /// A step has deleted so many rows; `last` if there are no more. Gives the round's sum at its end.
    pub fn did(&mut self, rows: u64, last: bool, now: Instant) -> Option<u64> {
        let (_, sum) = self.round.as_mut()?;
        *sum += rows;
        if !last {
            return None;
        }
        self.next = Some(now + DAY);
        self.round.take().map(|(_, sum)| sum)
    }

    /// A step has failed: the round ends, another one begins in a minute.
    pub fn failed(&mut self, now: Instant) {
        (self.round, self.next) = (None, Some(now + AGAIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_come_daily_and_when_the_setting_changes() {
        let (start, mut r) = (Instant::now(), Retention::default());
        let now_ms = 10 * DAY_MS;
        let at = |hours: u64| start + Duration::from_secs(hours * 3600);
        assert_eq!(r.step(None, at(0), now_ms), None);
        assert_eq!(r.step(Some(3), at(0), now_ms), Some(7 * DAY_MS));
        assert_eq!(r.did(200, false, at(0)), None);
        assert_eq!(r.step(Some(3), at(1), now_ms + 5), Some(7 * DAY_MS), "one round has one cutoff");
        assert_eq!((r.did(10, true, at(1)), r.is_busy()), (Some(210), false));
        assert_eq!(r.step(Some(3), at(24), now_ms), None);
        assert_eq!(r.step(Some(3), at(25), now_ms), Some(7 * DAY_MS));
        r.failed(at(25));
        assert_eq!(r.step(Some(3), at(25), now_ms), None);
        assert_eq!(r.step(Some(3), at(26), now_ms), Some(7 * DAY_MS));
        assert_eq!(r.did(0, true, at(26)), Some(0));
        assert_eq!(r.step(Some(1), at(26), now_ms), Some(9 * DAY_MS), "at once");
        assert_eq!((r.step(None, at(26), now_ms), r.is_busy()), (None, false));
        assert_eq!(r.step(Some(u64::MAX), at(26), now_ms), Some(0));
    }
}
