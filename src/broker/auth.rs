//! Who is calling, and what they may do.
use std::sync::Arc;

use super::call::{Call, Failure};
use super::live::LiveTeam;
use crate::identity::{Member, Permission, TeamFile};

/// The token in an `Authorization` value; `None` for another scheme.
#[must_use]
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// An authenticated member, with the team as it was when the request came.
pub struct Caller {
    pub team: Arc<TeamFile>,
    index: usize,
}

impl Caller {
    /// The member whose bearer token the request carries (RFC 6750 §2.1).
    ///
    /// # Errors
    /// [`Failure::Unauthorized`]: no such header, another scheme, a token that is unknown or has expired.
    pub fn authenticate(team: &LiveTeam, call: &Call, now: u64) -> Result<Caller, Failure> {
        let token = call.headers.get("authorization").and_then(bearer).ok_or(Failure::Unauthorized)?;
        let team = team.current();
        let (member, _) = team.authenticate(token, now).ok_or(Failure::Unauthorized)?;
        let index = team.members.iter().position(|m| m.name == member.name).ok_or(Failure::Unauthorized)?;
        Ok(Caller { team, index })
    }

    /// The member.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.team.members[self.index]
    }

    /// Let only `name` itself pass.
    ///
    /// # Errors
    /// 403 for everybody else, whatever they may do; `doing` says what was tried.
    pub fn must_be(&self, name: &str, doing: &str) -> Result<(), Failure> {
        if self.member().name == name {
            return Ok(());
        }
        Err(Failure::Forbidden(format!("{doing} is for {name} alone")))
    }

    /// Let `name` itself pass, and whoever holds `permission`.
    ///
    /// # Errors
    /// 403 that names the permission; `doing` says what was tried.
    pub fn must_be_or_hold(&self, name: &str, permission: Permission, doing: &str) -> Result<(), Failure> {
        if self.member().name == name || self.team.allows(self.member(), permission) {
            return Ok(());
        }
        Err(Failure::Forbidden(format!("{doing} requires the {} permission", permission.name())))
    }
}
