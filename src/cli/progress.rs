//! How far long work is, on standard error.
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::format;
use super::terminal;

/// Where there is no terminal a line is written this often.
const EVERY: Duration = Duration::from_secs(10);
/// On a terminal the line is written anew this often.
const REDRAW: Duration = Duration::from_millis(200);

/// A progress line. On a terminal it overwrites itself.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    began: Instant,
    told: Instant,
    /// Columns of the line that stands on the terminal.
    drawn: usize,
}

impl Progress {
    /// Work begins now. Nothing is ever written if `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Progress {
        let now = Instant::now();
        Progress { quiet, terminal: io::stderr().is_terminal(), began: now, told: now, drawn: 0 }
    }

    /// `done` of `total` are done.
    pub fn tell(&mut self, done: u64, total: u64) {
        let pause = if self.terminal { REDRAW } else { EVERY };
        if self.quiet || self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        let line = line(done, total, self.began.elapsed());
        if self.terminal {
            terminal::hint(format_args!("\r{line:<width$}", width = self.drawn));
            self.drawn = line.len();
            let _ = io::stderr().flush(); // a line that is not seen costs nothing
        } else {
            terminal::say(format_args!("{line}"));
        }
    }

    /// Take the line off the terminal.
    pub fn clear(&mut self) {
        if self.drawn > 0 {
            terminal::hint(format_args!("\r{:width$}\r", "", width = self.drawn));
            self.drawn = 0;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `1 200 of 9 000 (13 %), 600/s, 13 s left`.
fn line(done: u64, total: u64, elapsed: Duration) -> String {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut out = format!("{} of {}", format::count(done), format::count(total));
    if let Some(share) = format::percent(done, total) {
        out.push_str(&format!(" ({share})"));
    }
    out.push_str(&format!(", {}/s", format::count(done.saturating_mul(1000) / ms)));
    let left = u128::from(total.saturating_sub(done)) * u128::from(ms);
    if let Some(left) = left.checked_div(u128::from(done)) {
        let left = format::duration(u64::try_from(left).unwrap_or(u64::MAX));
        out.push_str(&format!(", {left} left"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_how_fast_and_how_long() {
        for (done, total, ms, want) in [
            (1200, 9000, 2000, "1 200 of 9 000 (13 %), 600/s, 13 s left"),
            (0, 10, 5000, "0 of 10 (0 %), 0/s"),
            (10, 10, 0, "10 of 10 (100 %), 10 000/s, 0 ms left"),
            (0, 0, 1, "0 of 0, 0/s"),
        ] {
            assert_eq!(line(done, total, Duration::from_millis(ms)), want);
        }
    }
}
