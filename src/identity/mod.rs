//! Who may do what: the team file `ac7.json` with its members, permissions and token hashes.
//!
//! Comes in: the file's bytes, a token somebody presents, changes. Goes out: members and what they may do, a rewritten
//! file.
//! It never keeps, shows or logs a token: one is returned once, by the function that makes it, and only its SHA-256
//! is written. It may not know of HTTP.
mod change;
mod device;
mod file;
mod kek;
mod member;
mod permission;
mod setup;
mod team;
mod token;
mod totp;
mod vapid;

pub use change::{MemberChange, NewMember, TeamChange, read_preset};
pub use device::{DeviceCode, parse_user_code, user_code};
pub use file::{Stamp, TeamFile};
pub use kek::{Kek, KekPlace};
pub use member::{Member, Role, valid_name};
pub use permission::Permission;
pub use setup::{SetupDone, SetupOptions, setup};
pub use team::Team;
pub use token::{Minted, Token, hash_of, mint};
pub use totp::{TotpSecret, is_code};
pub use vapid::{VAPID_FIELD, VapidKeys, WebPush};

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::activity::Invalid;

/// What can be wrong with the team file.
#[derive(Debug)]
pub enum Error {
    /// `setup` never overwrites: that would end every token.
    Exists(PathBuf),
    /// There is no team file yet.
    Missing(PathBuf),
    /// Not JSON; line and column count from 1.
    Syntax { path: PathBuf, line: usize, column: usize, message: String },
    /// JSON, but not a team.
    Invalid { path: PathBuf, invalid: Invalid },
    /// Something a caller wants written breaks a rule of the file.
    Refused(Invalid),
    /// There is no member of that name.
    NoMember(String),
    /// There is a member of that name already.
    MemberExists(String),
    /// The member has no token of that id.
    NoToken { member: String },
    /// There is no preset of that name.
    NoPreset(String),
    /// Nobody could manage members any more.
    LastAdmin,
    /// A sealed field cannot be opened: the key is missing, or it is another one.
    Sealed { member: String, field: &'static str, file: PathBuf },
    /// A field cannot be sealed: the key is missing, or what is there is none.
    NoSealing { member: String, field: &'static str, file: PathBuf },
    /// There is something in the place of the key that is none: `$AC7_KEK` (`variable`), or the file.
    NoKey { file: PathBuf, variable: bool },
    /// The operating system says no.
    Io { action: &'static str, path: PathBuf, error: io::Error },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Exists(path) => write!(f, "setup: a config already exists at {}", path.display()),
            Error::Missing(path) => {
                write!(f, "there is no config at {}: `ac7 setup` makes one", path.display())
            }
            Error::Syntax { path, line, column, message } => {
                write!(f, "{}:{line}:{column}: {message}", path.display())
            }
            Error::Invalid { path, invalid } => write!(f, "{}: {invalid}", path.display()),
            Error::Refused(invalid) => write!(f, "{invalid}"),
            Error::NoMember(name) => write!(f, "there is no member {name}"),
            Error::MemberExists(name) => write!(f, "there is a member {name} already"),
            Error::NoToken { member } => write!(f, "{member} has no such token"),
            Error::NoPreset(name) => write!(f, "there is no preset {name}"),
            Error::LastAdmin => f.write_str(
                "nobody would have the members.manage permission any more: give it to another member first",
            ),
            Error::Sealed { member, field, file } => {
                let of = if *field == VAPID_FIELD { "NAME" } else { member };
                write!(
                    f,
                    "KekResolutionError: cannot decrypt {field} of {member}: the key in AC7_KEK or {} is missing or \
                     another one: restore it, or do without it: ac7 enroll --member {of} gives that member a new secret, \
                     ac7 rotate --vapid makes a new key pair for web push",
                    file.display()
                )
            }
            Error::NoSealing { member, field, file } => {
                let with = match *field {
                    VAPID_FIELD => "ac7 rotate --vapid".to_string(),
                    _ => format!("ac7 enroll --member {member}"),
                };
                write!(
                    f,
                    "KekResolutionError: cannot encrypt {field} of {member}: the key in AC7_KEK or {} is missing or no \
                     key: restore it, or have a new one made with {with}",
                    file.display()
                )
            }
            Error::NoKey { variable: true, .. } => f.write_str("AC7_KEK is not 32 bytes of base64"),
            Error::NoKey { file, .. } => write!(
                f,
                "{} is not 32 bytes of base64: restore it, or remove it to have a new key made",
                file.display()
            ),
            Error::Io { action, path, error } => write!(f, "cannot {action} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
