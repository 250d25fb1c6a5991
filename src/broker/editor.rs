//! Changing the team file: on the disk first, then at once in what requests see.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::call::Failure;
use super::live::LiveTeam;
use crate::identity::{Error, KekPlace, TeamFile};

/// The way to the team file, for handlers.
pub struct Editor {
    path: PathBuf,
    team: Arc<LiveTeam>,
    pub kek: KekPlace,
}

impl Editor {
    #[must_use]
    pub fn new(path: &Path, team: Arc<LiveTeam>) -> Editor {
        Editor { path: path.to_path_buf(), team, kek: KekPlace::of(path) }
    }

    /// As [`TeamFile::update`]; when this returns, the change holds for every further request.
    ///
    /// # Errors
    /// As [`TeamFile::update`], as an answer.
    pub fn update<T>(&self, change: impl FnOnce(&mut TeamFile) -> Result<T, Error>) -> Result<T, Failure> {
        let result = TeamFile::update(&self.path, change);
        self.team.check();
        Ok(result?)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Refused(invalid) => Failure::invalid(invalid),
            Error::NoMember(_) | Error::NoToken { .. } | Error::NoPreset(_) => {
                Failure::NotFound(error.to_string())
            }
            Error::MemberExists(_) | Error::LastAdmin => Failure::Conflict(error.to_string()),
            Error::Sealed { .. } | Error::NoSealing { .. } | Error::NoKey { .. } => {
                Failure::NoKey(error.to_string())
            }
            _ => Failure::Internal(error.to_string()),
        }
    }
}
