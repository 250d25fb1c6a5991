//! Changes of the team, the same for whoever asks: a request or the command line. They are made inside
//! [`TeamFile::update`], which checks what comes of them.
use serde_json::{Map, Value};

use super::Error;
use super::file::TeamFile;
use super::member::{Member, Role, valid_name};
use super::permission::Permission;
use super::token::{Minted, Token, mint};
use crate::activity::{Invalid, Reader};

/// A member to be.
#[derive(Debug)]
pub struct NewMember {
    pub name: String,
    pub role: Role,
    pub instructions: String,
    /// Names of permissions and of presets.
    pub permissions: Vec<String>,
}

/// What is to be different about a member; `None` stays as it is.
#[derive(Debug)]
pub struct MemberChange {
    pub role: Option<Role>,
    pub instructions: Option<String>,
    pub permissions: Option<Vec<String>>,
}

/// What is to be different about the team; `None` stays as it is.
#[derive(Debug)]
pub struct TeamChange {
    pub name: Option<String>,
    pub directive: Option<String>,
    pub context: Option<String>,
}

impl NewMember {
    /// `{name, role, instructions?, permissions}`.
    ///
    /// # Errors
    /// The path of the first field that is missing or breaks a rule.
    pub fn from_json(value: &Value) -> Result<NewMember, Invalid> {
        let at = Reader::new(value);
        let name = at.field("name");
        if !valid_name(name.str()?) {
            return Err(name.invalid("is not 1 to 128 of A-Z a-z 0-9 . _ -"));
        }
        Ok(NewMember {
            name: name.string()?,
            role: Role::read(&at.field("role"))?,
            instructions: at.field("instructions").optional(instructions)?.unwrap_or_default(),
            permissions: strings(&at.field("permissions"))?,
        })
    }
}

impl MemberChange {
    /// `{role?, instructions?, permissions?}`, at least one.
    ///
    /// # Errors
    /// The path of the first field that breaks a rule.
    pub fn from_json(value: &Value) -> Result<MemberChange, Invalid> {
        let at = Reader::new(value);
        let change = MemberChange {
            role: at.field("role").optional(Role::read)?,
            instructions: at.field("instructions").optional(instructions)?,
            permissions: at.field("permissions").optional(strings)?,
        };
        if change.role.is_none() && change.instructions.is_none() && change.permissions.is_none() {
            return Err(at.invalid("has none of role, instructions, permissions"));
        }
        Ok(change)
    }
}

impl TeamChange {
    /// `{name?, directive?, context?}`.
    ///
    /// # Errors
    /// The path of the first field that breaks a rule.
    pub fn from_json(value: &Value) -> Result<TeamChange, Invalid> {
        let at = Reader::new(value);
        if !value.is_object() {
            return Err(at.invalid("is not an object"));
        }
        Ok(TeamChange {
            name: at.field("name").optional(|r| r.line(1, 128))?,
            directive: at.field("directive").optional(|r| r.text(1, 512))?,
            context: at.field("context").optional(|r| r.text(0, 4096))?,
        })
    }
}

/// The `{permissions}` of a preset.
///
/// # Errors
/// One of them is no permission.
pub fn read_preset(value: &Value) -> Result<Vec<Permission>, Invalid> {
    let leaf = |r: &Reader<'_>| {
        Permission::from_name(r.str()?).ok_or_else(|| r.invalid("is not a known permission"))
    };
    Reader::new(value).field("permissions").items()?.iter().map(leaf).collect()
}

fn instructions(at: &Reader<'_>) -> Result<String, Invalid> {
    at.text(0, 8192)
}

fn strings(at: &Reader<'_>) -> Result<Vec<String>, Invalid> {
    at.items()?.iter().map(Reader::string).collect()
}

impl TeamFile {
    /// Add a member with a token, which is given and is nowhere else; `by` is who asked, where that is known.
    ///
    /// # Errors
    /// There is one of that name, or a permission is neither one nor a preset.
    pub fn add_member(&mut self, new: NewMember, by: Option<&str>, now_ms: u64) -> Result<String, Error> {
        let minted = minted("initial", "bootstrap", by, now_ms);
        self.add_member_with(new, minted.token)?;
        Ok(minted.text)
    }

    /// Add a member who gets in by `token`.
    ///
    /// # Errors
    /// As [`TeamFile::add_member`].
    pub fn add_member_with(&mut self, new: NewMember, token: Token) -> Result<(), Error> {
        if self.member(&new.name).is_some() {
            return Err(Error::MemberExists(new.name));
        }
        self.known(&new.permissions)?;
        self.members.push(Member {
            name: new.name,
            role: new.role,
            instructions: new.instructions,
            permissions: new.permissions,
            tokens: vec![token],
            sealed_totp: None,
            more: Map::new(),
        });
        Ok(())
    }

    /// Give a member one more token.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn add_token(&mut self, name: &str, token: Token) -> Result<(), Error> {
        self.member_mut(name)?.tokens.push(token);
        Ok(())
    }

    /// Drop tokens by id, whosever they are.
    pub fn drop_tokens(&mut self, ids: &[String]) {
        self.members.iter_mut().for_each(|member| member.tokens.retain(|t| !ids.contains(&t.id)));
    }

    /// Change a member.
    ///
    /// # Errors
    /// There is none of that name, or a permission is neither one nor a preset.
    pub fn change_member(&mut self, name: &str, change: MemberChange) -> Result<(), Error> {
        self.member_mut(name)?;
        self.known(change.permissions.as_deref().unwrap_or_default())?;
        let member = self.member_mut(name)?;
        change.role.into_iter().for_each(|role| member.role = role);
        change.instructions.into_iter().for_each(|text| member.instructions = text);
        change.permissions.into_iter().for_each(|names| member.permissions = names);
        Ok(())
    }

    /// Remove a member with all tokens.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_member(&mut self, name: &str) -> Result<(), Error> {
        self.member_mut(name)?;
        self.members.retain(|m| m.name != name);
        Ok(())
    }

    /// Revoke every token of a member and mint one.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn rotate(&mut self, name: &str, by: Option<&str>, now_ms: u64) -> Result<Minted, Error> {
        let member = self.member_mut(name)?;
        let minted = minted("rotated", "rotate", by, now_ms);
        member.tokens = vec![minted.token.clone()];
        Ok(minted)
    }

    /// Revoke one token.
    ///
    /// # Errors
    /// There is no such member, or no such token of that member.
    pub fn revoke(&mut self, name: &str, id: &str) -> Result<(), Error> {
        let member = self.member_mut(name)?;
        let before = member.tokens.len();
        member.tokens.retain(|t| t.id != id);
        if member.tokens.len() == before {
            return Err(Error::NoToken { member: name.to_string() });
        }
        Ok(())
    }

    /// Give a member a new secret of one-time codes, sealed.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn set_totp(&mut self, name: &str, sealed: Value) -> Result<(), Error> {
        self.member_mut(name)?.sealed_totp = Some(sealed);
        Ok(())
    }

    /// Change what all members are told.
    pub fn change_team(&mut self, change: TeamChange) {
        let team = &mut self.team;
        change.name.into_iter().for_each(|text| team.name = text);
        change.directive.into_iter().for_each(|text| team.directive = text);
        change.context.into_iter().for_each(|text| team.context = text);
    }

    /// Make a preset, or change it for all who have it.
    ///
    /// # Errors
    /// The name is not one that members could have, or is that of a permission.
    pub fn set_preset(&mut self, name: &str, permissions: Vec<Permission>) -> Result<(), Error> {
        let wrong = |message: &str| {
            Error::Refused(Invalid { path: "preset".to_string(), message: message.to_string() })
        };
        if !valid_name(name) {
            return Err(wrong("is not 1 to 128 of A-Z a-z 0-9 . _ -"));
        }
        if Permission::from_name(name).is_some() {
            return Err(wrong("has the name of a permission"));
        }
        match self.team.presets.iter_mut().find(|(have, _)| have == name) {
            Some((_, set)) => *set = permissions,
            None => self.team.presets.push((name.to_string(), permissions)),
        }
        Ok(())
    }

    /// Delete a preset. Gives the members that have it: they keep what else they have.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_preset(&mut self, name: &str) -> Result<Vec<String>, Error> {
        let before = self.team.presets.len();
        self.team.presets.retain(|(have, _)| have != name);
        if self.team.presets.len() == before {
            return Err(Error::NoPreset(name.to_string()));
        }
        let having = self.members.iter().filter(|m| m.permissions.iter().any(|p| p == name));
        Ok(having.map(|m| m.name.clone()).collect())
    }

    fn member_mut(&mut self, name: &str) -> Result<&mut Member, Error> {
        let found = self.members.iter_mut().find(|m| m.name == name);
        found.ok_or_else(|| Error::NoMember(name.to_string()))
    }

    /// Whether each name is a permission or a preset.
    fn known(&self, names: &[String]) -> Result<(), Error> {
        let known = |name: &String| {
            Permission::from_name(name).is_some() || self.team.presets.iter().any(|(have, _)| have == name)
        };
        match names.iter().position(|name| !known(name)) {
            None => Ok(()),
            Some(i) => Err(Error::Refused(Invalid {
                path: format!("permissions[{i}]"),
                message: "is neither a permission nor a preset".to_string(),
            })),
        }
    }
}

fn minted(label: &str, origin: &str, by: Option<&str>, now_ms: u64) -> Minted {
    let mut minted = mint(label, origin, now_ms);
    minted.token.created_by = by.map(str::to_string);
    minted
}
