//! What went wrong for good while the agent ran: it is told at the end, for the terminal is the agent's.
use std::sync::{Mutex, PoisonError};

/// Sentences for the user.
#[derive(Default)]
pub struct Trouble(Mutex<Vec<String>>);

impl Trouble {
    /// One more, once.
    pub fn note(&self, what: &str) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.iter().any(|note| note == what) {
            notes.push(what.to_string());
        }
    }

    /// All of them.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
