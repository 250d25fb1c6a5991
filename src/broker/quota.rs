//! How much a member may say: messages, objectives and channels are kept for ever, and nobody may fill the disk with
//! them.
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A day, ms.
const DAY: u64 = 24 * 3600 * 1000;
/// What is kept beside the bytes of a request: rows, indices, who gets it.
const ROWS: u64 = 1024;

/// What each member has said lately, in bytes. It is forgotten at the rate of the day's share, and with the process.
pub struct Quota {
    a_day: u64,
    /// What counts still, and as of when.
    said: Mutex<HashMap<String, (u64, u64)>>,
}

impl Quota {
    /// Everybody may say so many bytes a day.
    #[must_use]
    pub fn new(a_day: usize) -> Quota {
        Quota { a_day: (a_day as u64).max(1), said: Mutex::default() }
    }

    /// Count a request with so many bytes.
    ///
    /// # Errors
    /// The member has said too much; not before so many ms have passed.
    pub fn take(&self, member: &str, bytes: usize, now_ms: u64) -> Result<(), u64> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let (counts, since) = said.get(member).copied().unwrap_or_default();
        let gone = u128::from(now_ms.saturating_sub(since)) * u128::from(self.a_day) / u128::from(DAY);
        let left = counts.saturating_sub(u64::try_from(gone).unwrap_or(u64::MAX));
        let more = left.saturating_add(bytes as u64 + ROWS);
        // What is more than a day's share by itself is for other limits.
        if left > 0 && more > self.a_day {
            let over = u128::from((more - self.a_day).min(left)) * u128::from(DAY);
            return Err(u64::try_from(over.div_ceil(u128::from(self.a_day))).unwrap_or(DAY));
        }
        said.insert(member.to_string(), (more.min(self.a_day), now_ms));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_share() {
        let quota = Quota::new(10 * 1024);
        let take = |member: &str, bytes, at| quota.take(member, bytes, DAY + at);
        assert_eq!(take("ann", 4 * 1024, 0), Ok(()));
        assert_eq!(take("ann", 4 * 1024, 0), Ok(()));
        // Full; each tenth of a day brings a tenth.
        assert_eq!(take("ann", 0, 0), Err(DAY / 10));
        assert_eq!(take("ann", 1024, 0), Err(DAY / 5));
        assert_eq!(take("bob", 1024, 0), Ok(()), "another has another share");
        assert_eq!(take("ann", 0, DAY / 10 - 1), Err(8438));
        assert_eq!(take("ann", 0, DAY / 10), Ok(()));
        assert!(take("ann", 0, DAY / 10).is_err());
        assert_eq!(take("ann", 9 * 1024, 2 * DAY), Ok(()));
        // A clock that was set back gives nothing and costs nothing.
        assert_eq!(take("bob", 0, 0), Ok(()));
        // What is too large for any day passes a member who has said nothing.
        assert_eq!(take("cat", 1 << 20, 0), Ok(()));
        assert_eq!(take("cat", 0, 0), Err(DAY / 10));
    }
}
