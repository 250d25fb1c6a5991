//! Room on a disk.
use std::io;
use std::path::Path;

/// Bytes that this user may still write where `path` is.
///
/// # Errors
/// What the operating system says.
pub fn free(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
