//! The broker over real sockets with real files, started in this process.
#![cfg(test)]
mod backup;
mod channels;
mod connect;
// For clippy: what is under cfg(test) may unwrap.
#[cfg(test)]
mod corpus;
mod enroll;
#[cfg(test)]
mod events;
mod files;
mod gate_walk;
mod gates;
mod hostile;
mod https;
mod identity;
mod life;
mod messages;
mod objectives;
mod operate;
// For clippy: what is under cfg(test) may unwrap.
#[cfg(test)]
mod pages;
mod rig;
mod service;
mod streams;
mod tools;
mod usage;
mod webpush;
