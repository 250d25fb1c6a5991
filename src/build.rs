//! Run by cargo before it builds.
//!
//! It deflates the manual, which the binary carries.
//!
//! It asks the linker for relative relocations in their short form, which makes the binary 170 KB smaller. Programs
//! linked so start on glibc 2.36 (2022) and later alone, so it is done only where this very machine has that; a binary
//! for other machines is what `make static` is for.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use miniz_oxide::deflate::compress_to_vec;

/// The first glibc that understands the short form.
const GLIBC: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-changed=man");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("man");
    fs::write(out, compress_to_vec(manual().as_bytes(), 9)).expect("cargo's own folder can be written");
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let here = env::var("HOST").is_ok_and(|host| Ok(host) == env::var("TARGET"));
    let gnu = target("OS") == "linux" && target("ENV") == "gnu";
    if here && gnu && glibc().is_some_and(|found| found >= GLIBC) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// This machine's glibc, as `getconf GNU_LIBC_VERSION` gives it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let out = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("glibc ")?.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Each page's name, its source, and a NUL behind both; in the order of the names, so that every build packs the same.
fn manual() -> String {
    let folder = fs::read_dir("man").expect("the folder is part of the source");
    let mut files: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let page = |file: &PathBuf| {
        let name = file.file_stem().map(Path::new).unwrap_or(file).display();
        let source = fs::read_to_string(file).expect("pages are text");
        format!("{name}\0{source}\0")
    };
    files.iter().map(page).collect()
}
