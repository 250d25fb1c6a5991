//! Asks the linker for relative relocations in their short form, where it can: 170 KB of the binary. Programs so made
//! start on glibc 2.36 (2022) and later; `make static` needs none.
use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
