//! ^C as a question that long work asks itself, so that it can stop where its data is whole.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// From its making on SIGINT does not end the process any more; it is only remembered. A second one ends it.
pub struct Interrupt {
    came: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begin to listen.
    ///
    /// # Errors
    /// The operating system refuses the handler.
    pub fn listen() -> io::Result<Interrupt> {
        let came = Arc::new(AtomicBool::new(false));
        // In this order the second one finds the flag set.
        flag::register_conditional_default(SIGINT, Arc::clone(&came))?;
        flag::register(SIGINT, Arc::clone(&came))?;
        Ok(Interrupt { came })
    }

    /// Whether SIGINT came since.
    #[must_use]
    pub fn came(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::Interrupt;

    #[test]
    fn the_first_one_is_remembered() {
        let interrupt = Interrupt::listen().unwrap();
        assert!(!interrupt.came());
        kill_process(getpid(), Signal::INT).unwrap();
        while !interrupt.came() {
            std::thread::yield_now(); // another thread may be the one that takes it
        }
    }
}
