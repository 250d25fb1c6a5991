use std::time::Duration;

use serde_json::Value;

use super::{Item, Length, Limits, Queue, Trouble, USUAL};
use crate::sink::Encoded;

const SMALL: Limits = Limits {
    events: 8,
    bytes: 100,
    batch_events: 3,
    batch_bytes: 40,
    batch_wait: Duration::from_millis(500),
};

/// The event number `n`, `size` bytes of JSON.
fn event(n: u64, size: usize) -> Encoded {
    let json = format!("{{\"n\":{n}}}");
    let padding = " ".repeat(size.saturating_sub(json.len()));
    Encoded { ts: n, kind: "opaque_http", json: json + &padding }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A queue that was given `sizes`, one event a millisecond, numbered from 0.
fn filled(limits: Limits, sizes: &[usize]) -> Queue {
    let mut queue = Queue::new(limits);
    for (n, size) in (0..).zip(sizes) {
        queue.push(event(n, *size), ms(n));
    }
    queue
}

/// A batch as text: numbers of events, `-count` for a note.
fn show(items: &[Item]) -> String {
    let one = |item: &Item| match item {
        Item::Event(e) => e.ts.to_string(),
        Item::Note(e) => {
            let value: Value = serde_json::from_str(&e.json).unwrap();
            format!("-{}", value["entry"]["note"]["count"])
        }
    };
    items.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn reason(items: &[Item]) -> String {
    let value: Value = serde_json::from_str(items[0].json()).unwrap();
    value["entry"]["note"]["reason"].as_str().unwrap_or_default().to_string()
}

#[test]
fn a_batch_is_due_by_count_by_bytes_or_by_time() {
    // (sizes, now, due)
    let cases: [(&[usize], u64, Option<u64>); 7] = [
        (&[], 0, None),
        (&[10], 0, Some(500)),
        (&[10, 10], 100, Some(400)),
        (&[10, 10], 500, Some(0)),
        (&[10, 10], 9000, Some(0)),
        (&[10, 10, 10], 2, Some(0)),
        (&[10, 30], 1, Some(0)),
    ];
    for (sizes, now, due) in cases {
        assert_eq!(filled(SMALL, sizes).due(ms(now)), due.map(ms), "{sizes:?} at {now}");
    }
}

#[test]
fn the_seed_s_numbers() {
    let due = |count, size| filled(USUAL, &vec![size; count]).due(ms(count as u64));
    assert_eq!(due(49, 100), Some(ms(451)));
    assert_eq!(due(50, 100), Some(ms(0)));
    assert_eq!(due(1, (64 << 10) - 1), Some(ms(499)));
    assert_eq!(due(1, 64 << 10), Some(ms(0)));
    let waiting = |count, size| filled(USUAL, &vec![size; count]).waiting.len();
    assert_eq!(waiting(1000, 20), 1000);
    assert_eq!(waiting(1001, 20), 1000);
    assert_eq!(waiting(11, 100_000), 10);
    assert_eq!(waiting(1, 4 << 20), 1);
}

#[test]
fn a_push_wakes_the_sender_when_it_has_to_look_again() {
    let mut queue = Queue::new(SMALL);
    let woke: Vec<bool> = (0..5).map(|n| queue.push(event(n, 10), ms(n))).collect();
    assert_eq!(woke, [true, false, true, false, false]);
}

#[test]
fn batches_keep_order_and_bounds() {
    let mut queue = filled(SMALL, &[10, 10, 10, 30, 30, 60, 10]);
    let mut batches = Vec::new();
    while !queue.is_idle() {
        batches.push(show(&queue.cut()));
        queue.stored(ms(0));
    }
    // evicted for the bytes: 0 to 2 and 3, so that 4, 5 and 6 fit into 100
    assert_eq!(batches, ["-4 4", "5", "6"]);
    let mut queue = filled(SMALL, &[10; 8]);
    let batches: Vec<String> = (0..3).map(|_| show(&queue.cut())).collect();
    assert_eq!(batches, ["0 1 2", "3 4 5", "6 7"]);
}

#[test]
fn the_oldest_are_evicted_and_a_note_takes_their_place() {
    let mut queue = filled(SMALL, &[10; 11]);
    let batch = queue.cut();
    assert_eq!(show(&batch), "-3 3 4 5");
    assert_eq!(reason(&batch), "they came faster than the broker took them");
    queue.stored(ms(20));
    assert_eq!(show(&queue.cut()), "6 7 8");
    queue.stored(ms(21));
    assert_eq!(show(&queue.cut()), "9 10");
    queue.stored(ms(22));
    assert!(queue.is_idle());
    let words = "they came faster than the broker took them".to_string();
    assert_eq!(queue.finish(ms(30)), (8, 3, Some(words)));
}

#[test]
fn a_batch_in_flight_is_not_evicted_and_the_note_stands_behind_it() {
    let mut queue = filled(SMALL, &[10; 3]);
    let first = queue.cut();
    queue.asked(ms(10));
    queue.failed(Trouble::Silent, ms(20));
    for n in 3..13 {
        queue.push(event(n, 10), ms(n));
    }
    assert_eq!(show(&first), "0 1 2");
    queue.stored(ms(41_010));
    let second = queue.cut();
    assert_eq!(show(&second), "-2 5 6 7");
    assert_eq!(reason(&second), "the broker did not answer for 41 s");
}

#[test]
fn an_event_larger_than_the_queue_waits_alone() {
    let mut queue = filled(SMALL, &[10, 10, 500]);
    assert_eq!(show(&queue.cut()), "-2 2");
    queue.stored(ms(0));
    let mut queue = filled(SMALL, &[500, 10]);
    assert_eq!(show(&queue.cut()), "-1 1");
}

#[test]
fn a_refused_batch_is_halved_down_to_the_offender() {
    let mut limits = SMALL;
    limits.batch_events = 5;
    limits.batch_bytes = 1000;
    let mut queue = filled(limits, &[10; 7]);
    let mut sent = Vec::new();
    // 3 is never accepted; 5 and 6 wait behind the batch
    while !queue.is_idle() {
        let batch = queue.cut();
        sent.push(show(&batch));
        match batch.iter().any(|i| matches!(i, Item::Event(e) if e.ts == 3)) {
            true => queue.refused(batch, 413, ms(0)),
            false => queue.stored(ms(0)),
        }
    }
    assert_eq!(sent, ["0 1 2 3 4", "0 1 2", "3 4", "3", "4", "-1 5 6"]);
    assert_eq!(queue.finish(ms(0)), (6, 1, Some("the broker refused them (413)".to_string())));
}

#[test]
fn refusals_of_one_batch_make_one_note_before_what_was_evicted_later() {
    let mut queue = filled(SMALL, &[10; 3]);
    let batch = queue.cut();
    for n in 3..12 {
        queue.push(event(n, 10), ms(n));
    }
    queue.refused(batch, 400, ms(20));
    for _ in 0..2 {
        let part = queue.cut();
        queue.refused(part, 400, ms(20));
    }
    while queue.parts.last().is_some() {
        let part = queue.cut();
        queue.refused(part, 400, ms(20));
    }
    assert_eq!(show(&queue.cut()), "-3 -1 4 5 6");
}

#[test]
fn a_refused_note_is_let_go() {
    let mut queue = filled(SMALL, &[10; 9]);
    let batch = queue.cut();
    assert_eq!(show(&batch), "-1 1 2 3");
    queue.refused(batch, 400, ms(0));
    let half = queue.cut();
    assert_eq!(show(&half), "-1 1");
    queue.refused(half, 400, ms(0));
    let note = queue.cut();
    assert_eq!(show(&note), "-1");
    queue.refused(note, 400, ms(0));
    assert_eq!(show(&queue.cut()), "1");
    assert_eq!(queue.lost.iter().map(|(_, n)| n).sum::<u64>(), 1);
}

#[test]
fn giving_up_loses_everything_and_all_that_comes() {
    let mut queue = filled(SMALL, &[10; 6]);
    queue.cut();
    queue.give_up("the broker refused the token (401)");
    assert!(!queue.push(event(9, 10), ms(9)));
    assert!(queue.is_idle());
    assert_eq!(queue.due(ms(10)), None);
    assert_eq!(queue.finish(ms(10)), (0, 7, Some("the broker refused the token (401)".to_string())));
}

type Happening = fn(&mut Queue);

#[test]
fn the_end_says_why_the_rest_is_lost() {
    let never = |_: &mut Queue| {};
    let silent = |q: &mut Queue| q.asked(ms(1000));
    let down = |q: &mut Queue| {
        q.asked(ms(1000));
        q.failed(Trouble::Silent, ms(1000));
        q.asked(ms(30_000));
        q.failed(Trouble::Silent, ms(31_000));
    };
    let overloaded = |q: &mut Queue| {
        q.failed(Trouble::Silent, ms(100));
        q.failed(Trouble::Status(503), ms(200));
    };
    let distrusted =
        |q: &mut Queue| q.failed(Trouble::Distrust("its certificate is for another name".into()), ms(0));
    let cases: [(Happening, u64, &str); 5] = [
        (never, 500, "the session ended before they were sent"),
        (silent, 6000, "the broker did not answer for 5 s"),
        (down, 42_000, "the broker did not answer for 41 s"),
        (overloaded, 123_100, "the broker answered 503 for 2 m 03 s"),
        (distrusted, 9000, "the broker could not be trusted for 9 s: its certificate is for another name"),
    ];
    for (happens, now, why) in cases {
        let mut queue = filled(SMALL, &[10; 2]);
        happens(&mut queue);
        assert_eq!(queue.finish(ms(now)), (0, 2, Some(why.to_string())));
    }
    assert_eq!(Queue::new(SMALL).finish(ms(0)), (0, 0, None));
}

#[test]
fn several_causes_are_all_named() {
    let mut queue = filled(SMALL, &[10; 9]);
    let batch = queue.cut();
    queue.refused(batch[1..2].to_vec(), 400, ms(0));
    queue.give_up("the broker refused the token (401)");
    let (stored, lost, why) = queue.finish(ms(0));
    assert_eq!((stored, lost), (0, 7));
    assert_eq!(
        why.unwrap(),
        "they came faster than the broker took them; the broker refused them (400); the broker refused the token (401)"
    );
}

#[test]
fn lengths_as_people_write_them() {
    for (seconds, want) in [(0, "0 s"), (41, "41 s"), (59, "59 s"), (60, "1 m 00 s"), (123, "2 m 03 s")] {
        assert_eq!(Length(Duration::from_secs(seconds)).to_string(), want);
    }
}

/// Whatever happens, in whatever order: events come out in order, each is stored or lost and never both, the notes
/// say how many are missing, and no bound is passed.
#[test]
fn nothing_is_lost_silently_in_any_history() {
    for seed in 0..500 {
        let mut history = History::new(seed, seed % 2 == 0);
        for _ in 0..120 {
            history.step();
        }
        history.drain();
    }
}

/// A random run with a record of what must hold.
struct History {
    random: u64,
    queue: Queue,
    /// Whether this broker refuses batches.
    refuses: bool,
    now: u64,
    pushed: u64,
    /// The numbers that the broker stored, in the order of its answers.
    stored: Vec<u64>,
    /// The number that comes next, if every note stands where its events are missing.
    expected: u64,
    in_flight: Option<Vec<Item>>,
}

impl History {
    fn new(seed: u64, refuses: bool) -> History {
        let queue = Queue::new(SMALL);
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        History {
            random,
            queue,
            refuses,
            now: 0,
            pushed: 0,
            stored: Vec::new(),
            expected: 0,
            in_flight: None,
        }
    }

    /// A number below `n` (xorshift).
    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % n
    }

    fn step(&mut self) {
        self.now += self.below(300);
        let now = ms(self.now);
        match self.below(10) {
            0..=5 => {
                let size = [10, 12, 25, 45, 99, 150][self.below(6) as usize];
                self.queue.push(event(self.pushed, size), now);
                self.pushed += 1;
            }
            6 if self.in_flight.is_some() => {
                self.queue.asked(now);
                self.queue.failed(Trouble::Silent, now);
            }
            _ => self.answer_or_cut(true),
        }
        self.check();
    }

    fn answer_or_cut(&mut self, may_refuse: bool) {
        let now = ms(self.now);
        let Some(items) = self.in_flight.take() else {
            if self.queue.due(now) == Some(Duration::ZERO) || !may_refuse {
                self.in_flight = Some(self.queue.cut());
            }
            return;
        };
        if may_refuse && self.refuses && self.below(3) == 0 {
            self.queue.refused(items, 400, now);
            return;
        }
        for item in &items {
            match item {
                Item::Event(e) => {
                    assert!(self.refuses || e.ts == self.expected, "{} is not {}", e.ts, self.expected);
                    self.stored.push(e.ts);
                    self.expected += 1;
                }
                Item::Note(_) => {
                    self.expected += show(std::slice::from_ref(item))[1..].parse::<u64>().unwrap();
                }
            }
        }
        self.queue.stored(now);
    }

    fn check(&self) {
        let q = &self.queue;
        let held: usize = q.waiting.iter().map(|w| w.event.json.len()).sum();
        assert_eq!(q.bytes, held);
        assert!(q.waiting.len() <= SMALL.events);
        assert!(held <= SMALL.bytes || q.waiting.len() == 1);
        if let Some(items) = &self.in_flight {
            let sizes: Vec<usize> = items
                .iter()
                .filter_map(|i| match i {
                    Item::Event(e) => Some(e.json.len()),
                    Item::Note(_) => None,
                })
                .collect();
            assert!(sizes.len() <= SMALL.batch_events);
            assert!(sizes.len() <= 1 || sizes.iter().sum::<usize>() <= SMALL.batch_bytes);
        }
        assert!(self.stored.is_sorted_by(|a, b| a < b), "{:?}", self.stored);
        let lost: u64 = q.lost.iter().map(|(_, n)| n).sum();
        let parts: u64 = q.parts.iter().map(|p| super::events_of(p)).sum();
        assert_eq!(q.stored, self.stored.len() as u64);
        assert_eq!(q.stored + lost + parts + q.in_flight + q.waiting.len() as u64, self.pushed);
    }

    fn drain(mut self) {
        while !self.queue.is_idle() {
            self.answer_or_cut(false);
            self.check();
        }
        let (stored, lost, why) = self.queue.finish(ms(self.now));
        assert_eq!((stored + lost, why.is_some()), (self.pushed, lost > 0));
        assert!(self.refuses || self.expected == self.pushed);
    }
}
