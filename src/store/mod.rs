//! The SQLite files: schema, migrations, queries.
//!
//! Comes in: events as their JSON text, checked here on the way. Goes out: rows, with the same JSON text. Each
//! database has a folder of its own ([`activity`], [`main`]; [`files`] uses the latter); how a file is opened, brought up to date and reported as broken
//! is shared ([`file`]). This room opens no sockets, starts no threads, and knows neither runner nor broker.
pub mod activity;
mod check;
mod column;
mod error;
mod file;
pub mod files;
pub mod main;
mod pack;
mod recent;
mod short;
mod snapshot;

use std::path::Path;

pub use check::check_structure;
pub use error::Error;
pub use file::{Stop, Upgrade};
pub use snapshot::{Snapshot, is_in_use};

/// What a database and what was written last take of the disk; 0 for what is not there.
#[must_use]
pub fn bytes(path: &Path) -> u64 {
    let mut wal = path.as_os_str().to_os_string();
    wal.push("-wal");
    [path, Path::new(&wal)].iter().map(|path| path.metadata().map_or(0, |m| m.len())).sum()
}
