//! Where an agent's program is.
use std::ffi::OsString;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::Agent;

/// The agent's program is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFound {
    pub agent: Agent,
    /// What its variable says, if it is set.
    pub named: Option<PathBuf>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to locate {} binary", self.agent.program())?;
        let Some(named) = &self.named else { return Ok(()) };
        let named = named.to_string_lossy();
        write!(f, ": ${} is {}, which cannot be executed", self.agent.variable(), named.escape_default())
    }
}

impl std::error::Error for NotFound {}

impl NotFound {
    /// What the user can do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        let (package, program) = match self.agent {
            Agent::ClaudeCode => ("@anthropic-ai/claude-code", "claude"),
            Agent::Codex => ("@openai/codex", "codex"),
        };
        format!("npm install -g {package}, or export {}=/path/to/{program}", self.agent.variable())
    }
}

impl Agent {
    /// Its program: what its variable names, else the first of that name in PATH.
    ///
    /// # Errors
    /// There is none, or what the variable names cannot be executed.
    pub fn find(self) -> Result<PathBuf, NotFound> {
        self.find_in(|name| env::var_os(name))
    }

    fn find_in(self, get: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, NotFound> {
        let named = get(self.variable()).filter(|value| !value.is_empty()).map(PathBuf::from);
        let found = match &named {
            // A path is taken as it stands; a bare name is looked up as any other.
            Some(path) if path.components().count() > 1 => is_executable(path).then(|| path.clone()),
            Some(name) => in_path(name, &get),
            None => in_path(Path::new(self.program()), &get),
        };
        found.ok_or(NotFound { agent: self, named })
    }
}

fn in_path(name: &Path, get: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = get("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_before_the_path() {
        let found = |claude: &str, path: &str| {
            Agent::ClaudeCode.find_in(|name| match name {
                "CLAUDE_PATH" => Some(claude.into()),
                "PATH" => Some(path.into()),
                _ => None,
            })
        };
        assert_eq!(found("/bin/sh", ""), Ok("/bin/sh".into()));
        assert_eq!(found("sh", "/nowhere:/bin"), Ok("/bin/sh".into()));
        for (claude, path, want) in [
            ("", "/nowhere", "failed to locate claude binary"),
            (
                "/bin",
                "/bin",
                "failed to locate claude binary: $CLAUDE_PATH is /bin, which cannot be executed",
            ),
            (
                "/etc/passwd",
                "/bin",
                "failed to locate claude binary: $CLAUDE_PATH is /etc/passwd, which cannot be executed",
            ),
        ] {
            let error = found(claude, path).unwrap_err();
            assert_eq!(error.to_string(), want);
            assert_eq!(
                error.fix(),
                "npm install -g @anthropic-ai/claude-code, or export CLAUDE_PATH=/path/to/claude"
            );
        }
        let none = Agent::Codex.find_in(|_| None).unwrap_err();
        assert_eq!(none.to_string(), "failed to locate codex binary");
    }
}
