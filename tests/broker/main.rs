//! The broker over real sockets with real files, started in this process.
#![cfg(test)]
mod gates;
mod hostile;
mod life;
mod rig;
