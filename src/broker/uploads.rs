//! Bodies on their way from the edge to a handler without going through the private socket: files lie on the disk
//! meanwhile, so that large ones need no memory; other large bodies stay in the memory where they are.
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::log::Log;
use crate::store::files::{Content, Files, Upload};
use crate::sys::random;

/// Field of a request whose body is a file: under which name it waits.
pub const UPLOAD: &str = "x-ac7-upload";
/// Field of a request whose body waits in memory.
pub const BODY: &str = "x-ac7-body";

/// What the edge has for handlers.
pub struct Uploads {
    /// `None` for a server that takes none.
    files: Option<Arc<Files>>,
    pub contents: Waiting<Content>,
    pub bodies: Waiting<Vec<u8>>,
    log: Log,
}

/// What waits to be fetched, by names that nobody can guess.
pub struct Waiting<T>(Mutex<HashMap<String, T>>);

/// Something that waits; dropped, it does so no more.
pub struct Ticket<'a, T> {
    waiting: &'a Waiting<T>,
    pub name: String,
}

impl Uploads {
    #[must_use]
    pub fn new(files: Option<Arc<Files>>, log: Log) -> Uploads {
        let (contents, bodies) = (Waiting(Mutex::default()), Waiting(Mutex::default()));
        Uploads { files, contents, bodies, log }
    }

    /// Begin to take one in.
    ///
    /// # Errors
    /// The disk has no place for it.
    pub fn begin(&self) -> io::Result<Upload> {
        self.files.as_ref().ok_or(io::ErrorKind::Unsupported)?.upload()
    }

    /// What a client is told, with its status, when the disk does not take a file.
    pub fn failed(&self, error: &io::Error) -> (u16, &'static str) {
        self.log.line("cannot take a file", &json!({"reason": error.to_string()}));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (507, "the broker's disk is full"),
            _ => (500, "the broker cannot write a file; its log says why"),
        }
    }
}

impl<T> Waiting<T> {
    /// Let something wait for its handler.
    #[must_use]
    pub fn wait(&self, what: T) -> Ticket<'_, T> {
        let name = random::hex::<16>();
        self.lock().insert(name.clone(), what);
        Ticket { waiting: self, name }
    }

    /// What waits under a name.
    pub fn take(&self, name: &str) -> Option<T> {
        self.lock().remove(name)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Ticket<'_, T> {
    fn drop(&mut self) {
        drop(self.waiting.take(&self.name));
    }
}
