//! Files on their way from the edge to a handler: they lie on the disk meanwhile, so that large ones need no memory.
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::log::Log;
use crate::store::files::{Content, Files, Upload};
use crate::sys::random;

/// Field of a request whose body is not in it: under which name it waits.
pub const UPLOAD: &str = "x-ac7-upload";

/// The contents that wait for their handlers.
pub struct Uploads {
    /// `None` for a server that takes none.
    files: Option<Arc<Files>>,
    waiting: Mutex<HashMap<String, Content>>,
    log: Log,
}

/// A content that waits; dropped, it does so no more.
pub struct Ticket<'a> {
    uploads: &'a Uploads,
    pub name: String,
}

impl Uploads {
    #[must_use]
    pub fn new(files: Option<Arc<Files>>, log: Log) -> Uploads {
        Uploads { files, waiting: Mutex::default(), log }
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

    /// Let one wait for its handler.
    #[must_use]
    pub fn wait(&self, content: Content) -> Ticket<'_> {
        let name = random::hex::<16>();
        self.lock().insert(name.clone(), content);
        Ticket { uploads: self, name }
    }

    /// The content that waits under a name.
    pub fn take(&self, name: &str) -> Option<Content> {
        self.lock().remove(name)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Content>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        drop(self.uploads.take(&self.name));
    }
}
