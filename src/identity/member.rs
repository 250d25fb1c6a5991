//! A member of the team.
use serde_json::{Map, Value, json};

use super::team::others;
use super::token::Token;
use super::totp::{self, TotpSecret};
use super::{Error, KekPlace};
use crate::activity::{Invalid, Reader};

/// A person or an agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    pub role: Role,
    /// What this member is told beyond what the whole team is told; at most 8192 characters.
    pub instructions: String,
    /// Names of permissions and of presets, as the file has them.
    pub permissions: Vec<String>,
    pub tokens: Vec<Token>,
    /// The sealed secret of one-time codes, for [`Member::totp_secret`] to open.
    pub sealed_totp: Option<Value>,
    /// Fields this version does not know.
    pub more: Map<String, Value>,
}

/// What a member is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// 1 to 64 characters.
    pub title: String,
    /// At most 512 characters.
    pub description: String,
}

/// Whether a member may be called so.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Fields of a member that are not additive.
const FIELDS: [&str; 6] = ["name", "role", "instructions", "permissions", "tokens", totp::FIELD];

impl Member {
    /// The member's JSON in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        out.insert("name".into(), json!(self.name));
        out.insert("role".into(), self.role.to_json());
        out.insert("instructions".into(), json!(self.instructions));
        out.insert("permissions".into(), json!(self.permissions));
        out.insert("tokens".into(), self.tokens.iter().map(Token::to_json).collect());
        if let Some(sealed) = &self.sealed_totp {
            out.insert(totp::FIELD.into(), sealed.clone());
        }
        out.extend(self.more.clone());
        Value::Object(out)
    }

    /// The secret of the member's one-time codes, if there is one.
    ///
    /// # Errors
    /// [`Error::Sealed`]: it cannot be opened.
    pub fn totp_secret(&self, kek: &KekPlace) -> Result<Option<TotpSecret>, Error> {
        let Some(sealed) = &self.sealed_totp else { return Ok(None) };
        let text = kek.open(&self.name, totp::FIELD, sealed)?;
        let broken =
            || Error::Sealed { member: self.name.clone(), field: totp::FIELD, file: kek.file.clone() };
        TotpSecret::parse(&text).map(Some).ok_or_else(broken)
    }

    pub(super) fn read(at: &Reader<'_>) -> Result<Member, Invalid> {
        let name = at.field("name");
        if !valid_name(name.str()?) {
            return Err(name.invalid("is not 1 to 128 of A-Z a-z 0-9 . _ -"));
        }
        let list = |name: &str| at.field(name).optional(Reader::items).map(Option::unwrap_or_default);
        let text = |r: &Reader<'_>| r.text(0, 8192);
        Ok(Member {
            name: name.string()?,
            role: Role::read(&at.field("role"))?,
            instructions: at.field("instructions").optional(text)?.unwrap_or_default(),
            permissions: list("permissions")?.iter().map(Reader::string).collect::<Result<_, _>>()?,
            tokens: list("tokens")?.iter().map(Token::read).collect::<Result<_, _>>()?,
            sealed_totp: at.field(totp::FIELD).present().cloned(),
            more: others(at, &FIELDS),
        })
    }
}

impl Role {
    /// The wire JSON, in the file and on the network.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"title": self.title, "description": self.description})
    }

    pub(super) fn read(at: &Reader<'_>) -> Result<Role, Invalid> {
        let text = |r: &Reader<'_>| r.text(0, 512);
        Ok(Role {
            title: at.field("title").line(1, 64)?,
            description: at.field("description").optional(text)?.unwrap_or_default(),
        })
    }
}
