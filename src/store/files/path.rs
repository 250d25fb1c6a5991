//! Paths of files: `/<member>/<folder>/…/<name>`. They are names in the database and never reach the file system, so
//! nothing in them can lead elsewhere; the rules keep them plain for people, URLs and other systems.
use std::fmt;

/// Bytes of a whole path.
pub const MOST: usize = 1024;
/// Bytes of one name in it.
const MOST_NAME: usize = 255;

/// A path that keeps the rules; `/` is the folder of all homes. Upper and lower case are different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsPath(String);

impl FsPath {
    /// # Errors
    /// What is wrong with it, as in "`path` is not absolute".
    pub fn parse(text: &str) -> Result<FsPath, &'static str> {
        let rest = text.strip_prefix('/').ok_or("is not absolute: it begins with /")?;
        if text.len() > MOST {
            return Err("is longer than 1024 bytes");
        }
        if !rest.is_empty() {
            rest.split('/').try_for_each(check)?;
            if rest.split('/').next().is_some_and(|home| home.contains(' ')) {
                return Err("does not begin with the name of a member");
            }
        }
        Ok(FsPath(text.to_string()))
    }

    /// A path from its names.
    ///
    /// # Errors
    /// As [`FsPath::parse`]; a name that has a slash is refused as well.
    pub fn of(names: &[&str]) -> Result<FsPath, &'static str> {
        names.iter().copied().try_for_each(check)?;
        FsPath::parse(&format!("/{}", names.join("/")))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The member whose home it is in; `None` for `/`.
    #[must_use]
    pub fn owner(&self) -> Option<&str> {
        self.0[1..].split('/').next().filter(|name| !name.is_empty())
    }

    /// The last name; empty for `/`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0[self.0.rfind('/').map_or(0, |at| at + 1)..]
    }

    /// Whether it is a member's home itself, or the folder of all homes.
    #[must_use]
    pub fn is_home(&self) -> bool {
        !self.0[1..].contains('/')
    }

    /// The folder that it is in; `/` for a home and for `/` itself.
    #[must_use]
    pub fn parent(&self) -> FsPath {
        let end = self.0.rfind('/').unwrap_or(0).max(1);
        FsPath(self.0[..end].to_string())
    }

    /// The folders above it, from its home down.
    pub(super) fn above(&self) -> Vec<FsPath> {
        let ends = self.0.match_indices('/').map(|(at, _)| at).skip(1);
        ends.map(|end| FsPath(self.0[..end].to_string())).collect()
    }

    /// Whether it is `other` or lies in it.
    #[must_use]
    pub fn is_in(&self, other: &FsPath) -> bool {
        self.0.strip_prefix(&other.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The same folder, and the name with a number before its extension: `a.txt`, `a-1.txt`.
    pub(super) fn numbered(&self, number: u32) -> Result<FsPath, &'static str> {
        let (name, parent) = (self.name(), &self.0[..self.0.len() - self.name().len()]);
        // A name that only begins with a dot has no extension.
        let (stem, extension) = match name.rfind('.') {
            Some(at) if at > 0 => name.split_at(at),
            _ => (name, ""),
        };
        FsPath::parse(&format!("{parent}{stem}-{number}{extension}"))
    }
}

impl fmt::Display for FsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(name: &str) -> Result<(), &'static str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._- ".contains(&b);
    match name {
        "" => Err("has an empty name in it"),
        "." | ".." => Err("has . or .. in it"),
        _ if name.len() > MOST_NAME => Err("has a name of more than 255 bytes in it"),
        _ if !name.bytes().all(plain) => Err("has something else than A-Z a-z 0-9 . _ - and spaces in it"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_elsewhere() {
        let long = format!("/bob/{}", "a/".repeat(600));
        for (text, good) in [
            ("/", true),
            ("/bob", true),
            ("/bob/a.txt", true),
            ("/bob/A b/..c/d..", true),
            ("", false),
            ("bob/a", false),
            ("//bob", false),
            ("/bob/", false),
            ("/bob//a", false),
            ("/bob/../ann/a", false),
            ("/bob/./a", false),
            ("/..", false),
            ("/bob/%2e%2e/a", false),
            ("/bob/a\0", false),
            ("/bob/a\\b", false),
            ("/bob/a\nb", false),
            ("/bob/é", false),
            ("/b b/a", false),
            (&long, false),
            (&format!("/bob/{}", "a".repeat(256)), false),
            (&format!("/bob/{}", "a".repeat(255)), true),
        ] {
            assert_eq!(FsPath::parse(text).is_ok(), good, "{text:?}");
        }
        assert!(FsPath::of(&["bob", "a/../b"]).is_err());
        assert_eq!(FsPath::of(&["bob", "a"]).unwrap().as_str(), "/bob/a");
    }

    #[test]
    fn paths_come_apart() {
        let path = |text| FsPath::parse(text).unwrap();
        for (text, owner, name, parent, above) in [
            ("/", None, "", "/", 0),
            ("/bob", Some("bob"), "bob", "/", 0),
            ("/bob/a", Some("bob"), "a", "/bob", 1),
            ("/bob/d/a.b", Some("bob"), "a.b", "/bob/d", 2),
        ] {
            let it = path(text);
            let got = (it.owner(), it.name(), it.parent(), it.above().len(), it.is_home());
            assert_eq!(got, (owner, name, path(parent), above, above == 0), "{text}");
        }
        for (a, b, want) in
            [("/bob/d/a", "/bob/d", true), ("/bob/d", "/bob/d", true), ("/bob/da", "/bob/d", false)]
        {
            assert_eq!(path(a).is_in(&path(b)), want, "{a} {b}");
        }
        for (text, want) in [
            ("/bob/a.txt", "/bob/a-3.txt"),
            ("/bob/a.tar.gz", "/bob/a.tar-3.gz"),
            ("/bob/.profile", "/bob/.profile-3"),
            ("/bob.x/a", "/bob.x/a-3"),
        ] {
            assert_eq!(path(text).numbered(3).unwrap().as_str(), want);
        }
    }
}
