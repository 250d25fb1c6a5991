//! Running a target: for so many rounds, for so long, or one round again.
use super::random::Random;
use ac7::sys::random;
use std::env;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The seed of a run that names none.
const SEED: u64 = 0xAC7;

/// Longer than any round takes: then it will not come to an end. The largest call takes half a minute alone, and all
/// targets run side by side.
const STUCK: Duration = Duration::from_secs(600);

/// Run `round` with random numbers that depend on the seed and the round alone. `rounds`: how many make a short run.
pub fn fuzz(target: &'static str, rounds: u64, mut round: impl FnMut(&mut Random)) {
    let number = |text: &str| text.parse::<u64>().expect("AC7_FUZZ_* hold numbers");
    let wanted = env::var("AC7_FUZZ_SEED").ok();
    let (seed, only) = match wanted.as_deref().map(|w| w.split_once(':').unwrap_or((w, ""))) {
        None => (None, None),
        Some((seed, "")) => (Some(number(seed)), None),
        Some((seed, only)) => (Some(number(seed)), Some(number(only))),
    };
    let seconds = env::var("AC7_FUZZ_SECONDS").ok().map(|s| Duration::from_secs(number(&s)));
    let fresh = || u64::from_le_bytes(random::bytes::<8>()) >> 1;
    let seed = seed.unwrap_or_else(|| if seconds.is_some() { fresh() } else { SEED });
    let now = Now { target, seed, round: Arc::default() };
    if let Some(only) = only {
        now.run(only, &mut round);
        return;
    }
    let _watch = seconds.map(|_| Watch::new(now.clone()));
    let start = Instant::now();
    let mut done = 0;
    while seconds.map_or(done < rounds, |limit| start.elapsed() < limit) {
        now.run(done, &mut round);
        done += 1;
    }
    println!("{target}: {done} rounds without a finding, AC7_FUZZ_SEED={seed}");
}

/// Where a target is.
#[derive(Clone)]
struct Now {
    target: &'static str,
    seed: u64,
    round: Arc<AtomicU64>,
}

impl Now {
    fn run(&self, number: u64, round: &mut impl FnMut(&mut Random)) {
        self.round.store(number, Ordering::Relaxed);
        let told = Told(self);
        round(&mut Random::new(self.seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95)));
        drop(told);
    }

    fn again(&self) -> String {
        format!(
            "{}: AC7_FUZZ_SEED={}:{} runs it again",
            self.target,
            self.seed,
            self.round.load(Ordering::Relaxed)
        )
    }
}

/// Says how a round that panics can be repeated.
struct Told<'a>(&'a Now);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.0.again());
        }
    }
}

/// Ends the process when a round does not end: nobody waits for a test that hangs, and its seed would be lost.
struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn new(now: Now) -> Watch {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            let mut before = u64::MAX;
            while stopped.recv_timeout(STUCK) == Err(RecvTimeoutError::Timeout) {
                let round = now.round.load(Ordering::Relaxed);
                if round == before {
                    eprintln!("does not end: {}", now.again());
                    std::process::abort();
                }
                before = round;
            }
        });
        Watch { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only waits");
        }
    }
}

/// As `assert_eq`, but shows only the surroundings of the first difference.
pub fn same<T: PartialEq + Debug>(left: &T, right: &T, what: &str) {
    if left != right {
        let [left, right] = [left, right].map(|side| format!("{side:?}").into_bytes());
        let at = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
        let near = |text: &[u8]| {
            let text = &text[at.saturating_sub(300)..text.len().min(at + 300)];
            String::from_utf8_lossy(text).into_owned()
        };
        panic!("{what}\nleft:  … {} …\nright: … {} …", near(&left), near(&right));
    }
}
