//! What black-box tests, the demo and the bench stand on.
//!
//! Comes in: options. Goes out: a mock of the model providers ([`mock`]), throw-away certificates ([`tls`]), one-time codes
//! ([`totp`]), a push service and its browsers ([`push`]), the `ac7` under test in a clean environment with its own home ([`run`]). It may not use the `ac7` crate: a test that is
//! built on the code under test proves less.
//!
//! A defect in here ends the test that meets it, so `expect` and `panic!` are the way to report one.
pub mod mock;
pub mod push;
pub mod run;
pub mod tls;
pub mod totp;
