//! The broker over real sockets with real files, started in this process.
#![cfg(test)]
mod gates;
mod hostile;
mod https;
mod identity;
mod life;
mod operate;
// For clippy: what is under cfg(test) may unwrap.
#[cfg(test)]
mod rig;
mod streams;
