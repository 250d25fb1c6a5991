//! Archives as every `tar` reads them (POSIX.1-1988 "ustar"): regular files alone, and sizes beyond 8 GB as GNU tar
//! writes them.
use std::io::{self, ErrorKind, Read, Write};

const BLOCK: usize = 512;

/// Begin a file of `size` bytes that is called `name`, of at most 100 bytes; its content and [`padding`] follow.
pub fn header(name: &str, size: u64, modified_s: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    put(136, format!("{:011o}\0", modified_s & ((1 << 33) - 1)).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// What fills up the last block of a content of `size` bytes.
pub fn padding(size: u64) -> &'static [u8] {
    let over = (size % BLOCK as u64) as usize;
    &[0; BLOCK][..(BLOCK - over) % BLOCK]
}

/// What ends an archive.
pub const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The next file's name and size; its content follows, and so does [`padding`]. `None` at the archive's end.
///
/// # Errors
/// It is none of our archives, or it ends too early.
pub fn next(from: &mut impl Read) -> io::Result<Option<(String, u64)>> {
    let broken = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
    let mut block = [0; BLOCK];
    from.read_exact(&mut block)?;
    if block.iter().all(|b| *b == 0) {
        return Ok(None);
    }
    let octal = |field: &[u8]| {
        let text = std::str::from_utf8(field).ok()?;
        u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
    };
    let sum: u64 =
        block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u64::from(*b) }).sum();
    if octal(&block[148..156]) != Some(sum) || &block[257..262] != b"ustar" {
        return broken("it is not a tar archive");
    }
    let size = if block[124] == 0x80 {
        block[128..136].iter().fold(0, |size, byte| size << 8 | u64::from(*byte))
    } else {
        match octal(&block[124..136]) {
            Some(size) => size,
            None => return broken("a file in it has no size"),
        }
    };
    let end = block[..100].iter().position(|b| *b == 0).unwrap_or(100);
    match String::from_utf8(block[..end].to_vec()) {
        Ok(name) if matches!(block[156], b'0' | 0) => Ok(Some((name, size))),
        _ => broken("there is something else than files in it"),
    }
}

/// Pass the padding of a content of `size` bytes.
///
/// # Errors
/// The archive ends too early.
pub fn pass(from: &mut impl Read, size: u64) -> io::Result<()> {
    io::copy(&mut from.take(padding(size).len() as u64), &mut io::sink()).map(drop)
}

/// Write a whole small file.
///
/// # Errors
/// As [`Write::write_all`].
pub fn put(to: &mut impl Write, name: &str, content: &[u8], modified_s: u64) -> io::Result<()> {
    to.write_all(&header(name, content.len() as u64, modified_s))?;
    to.write_all(content)?;
    to.write_all(padding(content.len() as u64))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut archive = Vec::new();
        let files: [(&str, &[u8]); 3] = [("a", b""), ("b/c.json", b"{}"), ("d", &[7; 1024])];
        for (name, content) in files {
            put(&mut archive, name, content, 1_795_851_578).unwrap();
        }
        archive.extend_from_slice(&END);
        assert_eq!(archive.len() % BLOCK, 0);
        let mut rest = &archive[..];
        for (name, content) in files {
            assert_eq!(next(&mut rest).unwrap(), Some((name.to_string(), content.len() as u64)));
            assert_eq!(&rest[..content.len()], content);
            rest = &rest[content.len()..];
            pass(&mut rest, content.len() as u64).unwrap();
        }
        assert_eq!(next(&mut rest).unwrap(), None);
        let large = header("x", 5 << 40, 0);
        assert_eq!(next(&mut &large[..]).unwrap(), Some(("x".to_string(), 5 << 40)));
        for at in [0, 130, 150, 260] {
            let mut bad = large;
            bad[at] ^= 1;
            assert!(next(&mut &bad[..]).is_err(), "byte {at}");
        }
        assert!(next(&mut &large[..511]).is_err());

        // The system's own tar agrees.
        let mut tar = Command::new("tar");
        let mut tar = tar.args(["-tf", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        tar.stdin.take().unwrap().write_all(&archive).unwrap();
        let listed = tar.wait_with_output().unwrap();
        assert_eq!((listed.status.success(), &listed.stdout[..]), (true, &b"a\nb/c.json\nd\n"[..]));
    }
}
