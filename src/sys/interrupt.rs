//! ^C and its kin as a question that long work asks itself, so that it can stop where its data is whole.
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// As long as this lives SIGINT, SIGTERM and SIGHUP do not end the process; the last one is remembered. A second SIGINT
/// ends it all the same.
pub struct Interrupt {
    /// The number of the signal that came, or 0.
    came: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begin to listen.
    ///
    /// # Errors
    /// The operating system refuses a handler.
    pub fn listen() -> io::Result<Interrupt> {
        let interrupt = Interrupt { came: Arc::default(), over: Arc::default() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if signal == SIGHUP && hangup_is_ignored() {
                continue;
            }
            flag::register_conditional_default(signal, Arc::clone(&interrupt.over))?;
            flag::register_usize(signal, Arc::clone(&interrupt.came), signal.unsigned_abs() as usize)?;
        }
        // Somebody presses ^C again because it takes too long; a hangup is told by the terminal and by the shell. What
        // is registered last is run last: the first one does not find itself.
        let pressed = Arc::new(AtomicBool::new(false));
        flag::register_conditional_default(SIGINT, Arc::clone(&pressed))?;
        flag::register(SIGINT, pressed)?;
        Ok(interrupt)
    }

    /// Whether one of them came since.
    #[must_use]
    pub fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed) != 0
    }

    /// The exit status that a shell gives to who was ended by the one that came.
    #[must_use]
    pub fn code(&self) -> u8 {
        u8::try_from(128 + self.came.load(Ordering::Relaxed)).unwrap_or(u8::MAX)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Whether we were started to outlive the terminal, as nohup does. Elsewhere than on Linux nothing tells.
#[must_use]
pub fn hangup_is_ignored() -> bool {
    ignores_hangup(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// Bit 0 of `SigIgn` in proc(5).
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn the_first_one_is_remembered() {
        let interrupt = Interrupt::listen().unwrap();
        assert!(!interrupt.came());
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
            kill_process(getpid(), signal).unwrap();
            while !(interrupt.came() && interrupt.code() == code) {
                std::thread::yield_now(); // another thread may be the one that takes it
            }
        }
    }

    #[test]
    fn nohup_is_recognised() {
        for (status, want) in [
            ("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n", true),
            ("SigIgn:\t0000000000001000\n", false),
            ("SigIgn:\tnonsense\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hangup(status), want, "{status}");
        }
    }
}
