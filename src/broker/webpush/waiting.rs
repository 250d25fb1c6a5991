//! Posts that wait for their time. One member's cannot keep another's: each has a share of the places, and whoever was
//! served last comes last.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Backoff;
use crate::store::main::Subscription;
use crate::team::Level;

/// Posts that may wait, of all members and of one.
const MOST: usize = 1024;
const MOST_OF_ONE: usize = 128;
/// The waits between the tries of one: 1, 2, 4 … s.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// One notice for one browser.
pub struct Post {
    pub member: String,
    pub to: Subscription,
    pub payload: Arc<str>,
    pub level: Level,
    pub tries: u32,
    pub backoff: Backoff,
    pub due: Instant,
}

impl Post {
    pub fn new(member: &str, to: Subscription, payload: Arc<str>, level: Level) -> Post {
        let backoff = Backoff::new(FIRST, LONGEST);
        Post { member: member.to_string(), to, payload, level, tries: 0, backoff, due: Instant::now() }
    }
}

/// Those that wait, in the order in which they go once they are due.
#[derive(Default)]
pub struct Waiting {
    posts: VecDeque<Post>,
}

impl Waiting {
    /// Let a new one wait; gives whether there was a place.
    pub fn add(&mut self, mut post: Post) -> bool {
        let of_one = self.posts.iter().filter(|other| other.member == post.member).count();
        if of_one >= MOST_OF_ONE || self.posts.len() >= MOST {
            return false;
        }
        // What a push service asked for holds for all that goes there.
        let same = self.posts.iter().filter(|other| other.to.endpoint == post.to.endpoint);
        post.due = same.map(|other| other.due).max().map_or(post.due, |due| due.max(post.due));
        self.posts.push_back(post);
        true
    }

    /// Let one wait again, until `due`: it and all that goes to the same browser.
    pub fn again(&mut self, mut post: Post, due: Instant) {
        let same = self.posts.iter_mut().filter(|other| other.to.endpoint == post.to.endpoint);
        same.for_each(|other| other.due = other.due.max(due));
        post.due = due;
        self.posts.push_back(post);
    }

    /// The next one that is due at `now`, of a member that is not `busy`. The member's others are behind all from then on.
    pub fn take(&mut self, now: Instant, busy: impl Fn(&str) -> bool) -> Option<Post> {
        let at = self.posts.iter().position(|post| post.due <= now && !busy(&post.member))?;
        let post = self.posts.remove(at)?;
        let (of_one, others) = self.posts.drain(..).partition(|other| other.member == post.member);
        self.posts = others;
        self.posts.extend::<VecDeque<Post>>(of_one);
        Some(post)
    }

    /// When the next one of a member that is not `busy` is due.
    pub fn next(&self, busy: impl Fn(&str) -> bool) -> Option<Instant> {
        self.posts.iter().filter(|post| !busy(&post.member)).map(|post| post.due).min()
    }

    /// Forget all that goes to an endpoint.
    pub fn forget(&mut self, endpoint: &str) {
        self.posts.retain(|post| post.to.endpoint != endpoint);
    }

    pub fn len(&self) -> usize {
        self.posts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(member: &str, endpoint: &str) -> Post {
        let to = Subscription { endpoint: endpoint.to_string(), p256dh: Vec::new(), auth: [0; 16] };
        Post::new(member, to, "".into(), Level::Info)
    }

    fn order(waiting: &mut Waiting, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| waiting.take(now, |_| false)).map(|post| post.to.endpoint).collect()
    }

    #[test]
    fn members_take_turns() {
        let mut waiting = Waiting::default();
        for endpoint in ["a1", "a2", "a3", "b1", "c1", "b2"] {
            assert!(waiting.add(post(&endpoint[..1], endpoint)), "{endpoint}");
        }
        assert_eq!(order(&mut waiting, Instant::now()), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn a_busy_member_is_passed_over_and_wakes_nobody() {
        let mut waiting = Waiting::default();
        waiting.add(post("a", "a1"));
        let busy = |member: &str| member == "a";
        assert!(waiting.next(busy).is_none() && waiting.next(|_| false).is_some());
        waiting.add(post("b", "b1"));
        let now = Instant::now();
        assert_eq!(waiting.take(now, busy).unwrap().to.endpoint, "b1");
        assert!(waiting.take(now, busy).is_none());
        assert_eq!(waiting.len(), 1);
    }

    #[test]
    fn an_endpoint_that_asks_for_time_gets_it() {
        let mut waiting = Waiting::default();
        for endpoint in ["a1", "a1", "a2"] {
            waiting.add(post("a", endpoint));
        }
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let first = waiting.take(now, |_| false).unwrap();
        waiting.again(first, later);
        waiting.add(post("a", "a1"));
        assert_eq!(order(&mut waiting, now), ["a2"]);
        assert_eq!(waiting.next(|_| false), Some(later));
        assert_eq!(order(&mut waiting, later), ["a1", "a1", "a1"]);
        waiting.add(post("a", "a1"));
        waiting.add(post("a", "a2"));
        waiting.forget("a1");
        assert_eq!(order(&mut waiting, later), ["a2"]);
    }

    #[test]
    fn a_member_has_a_share_of_the_places() {
        let mut waiting = Waiting::default();
        let kept = |waiting: &mut Waiting, member: &str| {
            (0..MOST).filter(|n| waiting.add(post(member, &format!("{member}{n}")))).count()
        };
        assert_eq!(kept(&mut waiting, "a"), MOST_OF_ONE);
        assert_eq!(kept(&mut waiting, "b"), MOST_OF_ONE);
        for n in 0..10 {
            kept(&mut waiting, &format!("c{n}"));
        }
        assert_eq!(waiting.len(), MOST);
    }
}
