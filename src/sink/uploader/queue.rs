//! The uploader's queue: bounded, in order, and it knows what became of every event. Pure: time is a parameter.
//!
//! An event is in exactly one place: waiting, in a part (of a batch that the broker refused), in flight, stored or
//! lost. Whatever is lost is counted by its cause, and while the broker still listens a note takes its place.
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::time::Duration;

use super::events;
use crate::sink::Encoded;

/// The bounds. Bytes are those of the events' JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Events that may wait; beyond it the oldest are evicted.
    pub events: usize,
    /// Bytes that may wait; a single event may be larger and then waits alone.
    pub bytes: usize,
    /// A batch is due at this many events and holds no more.
    pub batch_events: usize,
    /// A batch is due at this many bytes and holds no more, except for a single larger event.
    pub batch_bytes: usize,
    /// A batch is due when its first event has waited this long.
    pub batch_wait: Duration,
}

/// The bounds that the manual promises.
pub(super) const USUAL: Limits = Limits {
    events: 1000,
    bytes: 1 << 20,
    batch_events: 50,
    batch_bytes: 64 << 10,
    batch_wait: Duration::from_millis(500),
};

/// One element of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Event(Encoded),
    /// Says that events are missing here; counts neither as stored nor as lost.
    Note(Encoded),
}

impl Item {
    pub fn json(&self) -> &str {
        let (Item::Event(e) | Item::Note(e)) = self;
        &e.json
    }
}

/// What is wrong with the broker while batches cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No answer at all.
    Silent,
    /// A status that may pass.
    Status(u16),
    /// We do not trust who answers; the reason in words.
    Distrust(String),
}

/// Why events are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// They waited for a broker in trouble until the queue was full, or until the end.
    Outage,
    /// They came faster than a working broker took them.
    Full,
    /// The broker will not have them (status).
    Refused(u16),
    /// The broker will not have anything; why, in words.
    Final(String),
    /// The session ended first.
    Unsent,
}

/// Events that are missing between two others.
struct Gap {
    cause: Cause,
    count: u64,
    /// Times of the first and the last of them, ms since the epoch.
    first: u64,
    last: u64,
}

struct Waiting {
    event: Encoded,
    since: Duration,
}

pub(super) struct Queue {
    limits: Limits,
    waiting: VecDeque<Waiting>,
    /// Sum over `waiting`.
    bytes: usize,
    /// What is missing before the first of `waiting`, in order; neighbours have different causes.
    gaps: Vec<Gap>,
    /// What a refused batch was split into, to be sent before anything else; the next one is the last.
    parts: Vec<Vec<Item>>,
    /// Events of the batch that was cut last, until its fate is known.
    in_flight: u64,
    /// When the request began whose answer is outstanding.
    asked: Option<Duration>,
    /// Since when the broker is in trouble, and in which.
    outage: Option<(Duration, Trouble)>,
    /// The last trouble that is over, in words, and the longest of all with its length.
    past: Option<String>,
    longest: Option<(Duration, Trouble)>,
    stored: u64,
    lost: Vec<(Cause, u64)>,
    given_up: Option<String>,
}

impl Queue {
    pub fn new(limits: Limits) -> Queue {
        Queue {
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
            gaps: Vec::new(),
            parts: Vec::new(),
            in_flight: 0,
            asked: None,
            outage: None,
            past: None,
            longest: None,
            stored: 0,
            lost: Vec::new(),
            given_up: None,
        }
    }

    /// Take an event, evicting the oldest that wait if it does not fit. Tells whether the sender must look again:
    /// its next batch is due now, or has begun to form.
    pub fn push(&mut self, event: Encoded, now: Duration) -> bool {
        if let Some(why) = &self.given_up {
            let cause = Cause::Final(why.clone());
            self.lose(&cause, 1);
            return false;
        }
        let (was_empty, was_full) = (self.waiting.is_empty(), self.is_batch());
        self.bytes += event.json.len();
        self.waiting.push_back(Waiting { event, since: now });
        while self.waiting.len() > self.limits.events
            || (self.bytes > self.limits.bytes && self.waiting.len() > 1)
        {
            self.evict();
        }
        was_empty || (!was_full && self.is_batch())
    }

    fn evict(&mut self) {
        let Some(Waiting { event, .. }) = self.waiting.pop_front() else { return };
        self.bytes -= event.json.len();
        let cause = if self.outage.is_some() { Cause::Outage } else { Cause::Full };
        self.lose(&cause, 1);
        match self.gaps.last_mut().filter(|gap| gap.cause == cause) {
            Some(gap) => {
                gap.count += 1;
                gap.last = event.ts;
            }
            None => self.gaps.push(Gap { cause, count: 1, first: event.ts, last: event.ts }),
        }
    }

    fn is_batch(&self) -> bool {
        self.waiting.len() >= self.limits.batch_events || self.bytes >= self.limits.batch_bytes
    }

    /// How long until the next batch should be sent: zero for now, `None` while there is nothing to send.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        match self.waiting.front() {
            _ if !self.parts.is_empty() => Some(Duration::ZERO),
            None if self.gaps.is_empty() => None,
            None => Some(Duration::ZERO),
            Some(_) if self.is_batch() => Some(Duration::ZERO),
            Some(first) => Some((first.since + self.limits.batch_wait).saturating_sub(now)),
        }
    }

    /// Whether nothing is left to send and nothing in flight.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.gaps.is_empty() && self.parts.is_empty() && self.in_flight == 0
    }

    /// Events whose fate is open, and those that are lost.
    pub fn backlog(&self) -> (u64, u64) {
        let parts: u64 = self.parts.iter().map(|items| events_of(items)).sum();
        let open = self.waiting.len() as u64 + parts + self.in_flight;
        (open, self.lost.iter().map(|(_, count)| count).sum())
    }

    /// The next batch, due or not; empty if there is none. From here it is in flight until [`stored`](Self::stored),
    /// [`refused`](Self::refused) or [`give_up`](Self::give_up).
    pub fn cut(&mut self) -> Vec<Item> {
        let items = self.parts.pop().unwrap_or_else(|| self.cut_waiting());
        self.in_flight = events_of(&items);
        items
    }

    fn cut_waiting(&mut self) -> Vec<Item> {
        let gaps = mem::take(&mut self.gaps);
        let note =
            |g: &Gap| Item::Note(events::dropped(g.count, &self.words(&g.cause, None), g.first, g.last));
        let mut items: Vec<Item> = gaps.iter().map(note).collect();
        let (mut events, mut bytes) = (0, 0);
        while let Some(next) = self.waiting.front() {
            let size = next.event.json.len();
            let fits = events < self.limits.batch_events && bytes + size <= self.limits.batch_bytes;
            if events > 0 && !fits {
                break;
            }
            let Some(Waiting { event, .. }) = self.waiting.pop_front() else { break };
            self.bytes -= size;
            bytes += size;
            events += 1;
            items.push(Item::Event(event));
        }
        items
    }

    /// The broker has the batch in flight.
    pub fn stored(&mut self, now: Duration) {
        self.stored += mem::take(&mut self.in_flight);
        self.answered(now);
    }

    /// The broker will not have the batch in flight: it is halved, or, if it is a single event, lost.
    pub fn refused(&mut self, mut items: Vec<Item>, status: u16, now: Duration) {
        self.in_flight = 0;
        self.answered(now);
        if items.len() > 1 {
            let second = items.split_off(items.len().div_ceil(2));
            self.parts.push(second);
            self.parts.push(items);
            return;
        }
        let Some(Item::Event(event)) = items.pop() else { return };
        let cause = Cause::Refused(status);
        self.lose(&cause, 1);
        // The note comes after the other parts, so that several refusals make one note.
        match self.gaps.first_mut().filter(|gap| gap.cause == cause) {
            Some(gap) => {
                gap.count += 1;
                gap.last = event.ts;
            }
            None => self.gaps.insert(0, Gap { cause, count: 1, first: event.ts, last: event.ts }),
        }
    }

    /// A request begins.
    pub fn asked(&mut self, now: Duration) {
        self.asked = Some(now);
    }

    /// The request failed in a way that may pass.
    pub fn failed(&mut self, trouble: Trouble, now: Duration) {
        let since = self.outage.take().map(|(since, _)| since).or(self.asked.take()).unwrap_or(now);
        self.outage = Some((since, trouble));
    }

    /// The broker works.
    pub fn answered(&mut self, now: Duration) {
        self.asked = None;
        if let Some((since, trouble)) = self.outage.take() {
            let length = now.saturating_sub(since);
            self.past = Some(trouble.words(length));
            self.remember(length, trouble);
        }
    }

    fn remember(&mut self, length: Duration, trouble: Trouble) {
        if self.longest.as_ref().is_none_or(|(longest, _)| *longest < length) {
            self.longest = Some((length, trouble));
        }
    }

    /// The broker will have nothing from us, ever: everything here is lost, and so is all that comes.
    pub fn give_up(&mut self, why: &str) {
        let count = self.take_all();
        self.lose(&Cause::Final(why.to_string()), count);
        (self.asked, self.given_up) = (None, Some(why.to_string()));
    }

    /// The end: what is not stored is lost. Gives (stored, lost, why in words, if any are lost).
    pub fn finish(&mut self, now: Duration) -> (u64, u64, Option<String>) {
        if let Some((since, trouble)) = self.outage.take().or(self.asked.map(|at| (at, Trouble::Silent))) {
            self.remember(now.saturating_sub(since), trouble);
            let count = self.take_all();
            self.lose(&Cause::Outage, count);
        }
        let count = self.take_all();
        self.lose(&Cause::Unsent, count);
        let lost = self.lost.iter().map(|(_, count)| count).sum();
        let longest = self.longest.as_ref().map(|(length, trouble)| trouble.words(*length));
        let words: Vec<String> =
            self.lost.iter().map(|(cause, _)| self.words(cause, longest.as_deref())).collect();
        (self.stored, lost, (lost > 0).then(|| words.join("; ")))
    }

    /// Forget whatever is not stored; how many events that were.
    fn take_all(&mut self) -> u64 {
        let parts: u64 = self.parts.drain(..).map(|items| events_of(&items)).sum();
        let waiting = self.waiting.len() as u64;
        self.waiting.clear();
        self.gaps.clear();
        self.bytes = 0;
        mem::take(&mut self.in_flight) + parts + waiting
    }

    fn lose(&mut self, cause: &Cause, count: u64) {
        match self.lost.iter_mut().find(|(known, _)| known == cause) {
            _ if count == 0 => {}
            Some((_, sum)) => *sum += count,
            None => self.lost.push((cause.clone(), count)),
        }
    }

    /// `outage` tells of the trouble; without it the last one that is over does.
    fn words(&self, cause: &Cause, outage: Option<&str>) -> String {
        match cause {
            Cause::Outage => {
                outage.or(self.past.as_deref()).unwrap_or("the broker did not answer").to_string()
            }
            Cause::Full => "they came faster than the broker took them".to_string(),
            Cause::Refused(status) => format!("the broker refused them ({status})"),
            Cause::Final(why) => why.clone(),
            Cause::Unsent => "the session ended before they were sent".to_string(),
        }
    }
}

impl Trouble {
    fn words(&self, length: Duration) -> String {
        let length = Length(length);
        match self {
            Trouble::Silent => format!("the broker did not answer for {length}"),
            Trouble::Status(status) => format!("the broker answered {status} for {length}"),
            Trouble::Distrust(why) => format!("the broker could not be trusted for {length}: {why}"),
        }
    }
}

/// `41 s`, `2 m 03 s`.
struct Length(Duration);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds @ 0..60 => write!(f, "{seconds} s"),
            seconds => write!(f, "{} m {:02} s", seconds / 60, seconds % 60),
        }
    }
}

fn events_of(items: &[Item]) -> u64 {
    items.iter().filter(|item| matches!(item, Item::Event(_))).count() as u64
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
