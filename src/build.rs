//! Run by cargo before it builds.
//!
//! It packs the manual and the page, which the binary carries.
//!
//! It asks the linker for relative relocations in their short form, which makes the binary 170 KB smaller. Programs
//! linked so start on glibc 2.36 (2022) and later alone, so it is done only where this very machine has that; a binary
//! for other machines is what `make static` is for.
//!
//! And it asks the linker to keep one of functions that are the same, another 38 KB, if this linker can: rust-lld can,
//! which rustc uses on most machines, GNU's cannot.
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use miniz_oxide::deflate::compress_to_vec;

/// The linker's option for keeping one of functions that are the same.
const FOLD: &str = "-Wl,--icf=all";
/// The first glibc that understands the short form.
const GLIBC: (u32, u32) = (2, 36);

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-changed=man");
    println!("cargo:rerun-if-changed=src/web");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("man"), compress_to_vec(manual()?.as_bytes(), 9))?;
    fs::create_dir_all(out.join("web"))?;
    for file in files("src/web")? {
        if file.extension().is_some_and(|kind| kind != "rs") {
            let packed = gzip(&fs::read(&file)?);
            fs::write(out.join("web").join(file.file_name().unwrap_or_default()), packed)?;
        }
    }
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    let here = env::var("HOST").is_ok_and(|host| Ok(host) == env::var("TARGET"));
    let gnu = target("OS") == "linux" && target("ENV") == "gnu";
    if here && gnu && glibc().is_some_and(|found| found >= GLIBC) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    if here && target("OS") == "linux" && links_with(FOLD, &out) {
        println!("cargo:rustc-link-arg-bins={FOLD}");
    }
    Ok(())
}

/// This machine's glibc, as `getconf GNU_LIBC_VERSION` gives it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let out = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let mut numbers = text.trim().strip_prefix("glibc ")?.split('.').map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Whether the smallest program can be linked with this option, in the way that ours will be.
fn links_with(option: &str, out: &Path) -> bool {
    let (rustc, source) = (env::var_os("RUSTC").unwrap_or_default(), out.join("smallest.rs"));
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let mut command = Command::new(rustc);
    command
        .args(flags.split('\x1f').filter(|flag| !flag.is_empty()))
        .arg("-C")
        .arg(format!("link-arg={option}"));
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut with = OsString::from("linker=");
        with.push(linker);
        command.arg("-C").arg(with);
    }
    command.arg(&source).arg("-o").arg(out.join("smallest"));
    fs::write(&source, "fn main() {}").is_ok() && command.output().is_ok_and(|done| done.status.success())
}

/// Each page's name, its source, and a NUL behind both; in the order of the names, so that every build packs the same.
fn manual() -> io::Result<String> {
    let page = |file: &PathBuf| {
        let name = file.file_stem().map(Path::new).unwrap_or(file).display();
        Ok(format!("{name}\0{}\0", fs::read_to_string(file)?))
    };
    files("man")?.iter().map(page).collect()
}

/// What is in a folder, by name.
fn files(folder: &str) -> io::Result<Vec<PathBuf>> {
    let files: io::Result<Vec<PathBuf>> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files = files?;
    files.sort();
    Ok(files)
}

/// A member of gzip (RFC 1952) without a name or a time.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255];
    out.extend(compress_to_vec(text, 9));
    out.extend(crc_32(text).to_le_bytes());
    out.extend((text.len() as u32).to_le_bytes());
    out
}

/// RFC 1952 §8.
fn crc_32(text: &[u8]) -> u32 {
    let bit = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !text.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
}
