//! A session: a program under capture, from its start to the last event stored.
//!
//! Comes in: checked options. Goes out: an [`Outcome`], for the verb to put into words. Whatever it makes (files, the
//! proxy, threads, the child) belongs to a guard or an owner here and is gone when [`run`] returns, on every path.
mod child;
mod files;
pub mod options;
mod session;
mod totals;
mod upstream;

pub use session::{Captured, Error, Outcome, run};
pub use totals::{Totals, Tunnelled};
