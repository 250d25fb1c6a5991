//! The page as a reader meets it: in a real Chromium, driven over WebDriver. `make test-web` runs it; it needs chromium,
//! chromedriver and node.
#![cfg(test)]
mod browser;
mod calls;
mod figures;
mod live;
mod offline;
mod pure;
mod rig;
mod signed_in;
