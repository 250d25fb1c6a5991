//! Files that a message or an objective refers to.
use serde_json::{Value, json};

use crate::activity::{Invalid, Reader};

/// Attachments of one message or objective.
pub const MOST_ATTACHMENTS: usize = 64;

/// A file of the team's, as it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// As [`valid_path`] has it.
    pub path: String,
    /// 1 to 255 characters.
    pub name: String,
    pub size: u64,
    pub mime_type: String,
    /// SHA-256 of what the broker has let the sender attach; `None` until then, and never on the wire.
    pub content: Option<[u8; 32]>,
}

impl Attachment {
    /// The wire JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"path": self.path, "name": self.name, "size": self.size, "mimeType": self.mime_type})
    }

    /// An attachment at a reader's place.
    ///
    /// # Errors
    /// The path of the first field that is missing or breaks a rule.
    pub fn read(at: &Reader<'_>) -> Result<Attachment, Invalid> {
        let path = at.field("path");
        if !valid_path(path.str()?) {
            return Err(path.invalid("is not an absolute path of names of A-Z a-z 0-9 . _ - and space"));
        }
        Ok(Attachment {
            path: path.string()?,
            name: at.field("name").text(1, 255)?,
            size: at.field("size").uint()?,
            mime_type: at.field("mimeType").text(1, 255)?,
            content: None,
        })
    }
}

/// Whether a path of the team's files is one: absolute, at most 1024 bytes, of names of `A-Z a-z 0-9 . _ -` and space
/// that are neither `.` nor `..`.
#[must_use]
pub fn valid_path(path: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b' ');
    let name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(allowed);
    path.len() <= 1024 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(name))
}

#[cfg(test)]
mod tests {
    use super::valid_path;

    #[test]
    fn paths_have_names_and_lead_nowhere_else() {
        for (path, want) in [
            ("/bob/a.txt", true),
            ("/b", true),
            ("/b/my file-1_2.md", true),
            ("/b/...", true),
            ("/", false),
            ("", false),
            ("b/a", false),
            ("/b/", false),
            ("/b//a", false),
            ("/b/./a", false),
            ("/b/../a", false),
            ("/b/é", false),
            ("/b/a\n", false),
            ("/b/a\\c", false),
        ] {
            assert_eq!(valid_path(path), want, "{path}");
        }
        assert!(valid_path(&format!("/{}", "a".repeat(1023))));
        assert!(!valid_path(&format!("/{}", "a".repeat(1024))));
    }
}
