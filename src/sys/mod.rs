//! The operating system's odds and ends: clock, threads, files, paths, processes, random bytes.
//!
//! Comes in: nothing from other rooms. Goes out: small values. It may not know what ac7 does.
pub mod clock;
pub mod disk;
pub mod duration;
pub mod file;
pub mod interrupt;
pub mod limits;
pub mod localtime;
pub mod log;
pub mod paths;
pub mod process;
pub mod random;
pub mod socket;
pub mod thread;
pub mod umask;
pub mod user;
