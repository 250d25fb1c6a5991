//! Named threads that somebody joins.
use std::io;
use std::thread::{Builder, JoinHandle};

/// A running thread. The owner stops it by its own means and then joins; dropping detaches.
pub struct Joinable {
    handle: JoinHandle<()>,
}

impl Joinable {
    /// Wait for the end. A panic of the thread has been printed by then and is not raised again.
    pub fn join(self) {
        let _ = self.handle.join();
    }

    /// Whether the thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

/// Let the calling thread give way to others while the processors are busy: what it does can wait, an agent cannot.
/// Only where niceness belongs to a thread and not to the whole process.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}

/// Start a thread called `ac7-<name>` (the kernel shows 15 characters) with `stack` bytes of stack.
///
/// On Linux it can gain no privileges any more. It starts no programs either: those of the user, which may need some, are
/// started by the main thread.
///
/// # Errors
/// What the operating system says when it has no thread to give.
pub fn spawn(name: &str, stack: usize, work: impl FnOnce() + Send + 'static) -> io::Result<Joinable> {
    let work = move || {
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_no_new_privs(true);
        work();
    };
    let handle = Builder::new().name(format!("ac7-{name}")).stack_size(stack).spawn(work)?;
    Ok(Joinable { handle })
}
