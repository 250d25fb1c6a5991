//! What keeps an agent from starting here, or from working once it has, and what to do about it.
//!
//! Comes in: an agent, this process's environment and files. Goes out: [`Check`]s, for a verb to show. Nothing is
//! changed on the way, and no secret stands in a check: of a credential there is only where it is and what it is worth.
mod preflight;

pub use preflight::preflight;

/// How a check ended. Only a failure counts against the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pass,
    Warn,
    Fail,
}

impl State {
    /// The word for programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Pass => "pass",
            State::Warn => "warn",
            State::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub state: State,
    pub name: &'static str,
    /// What was found.
    pub detail: String,
    /// What to do about it; where nothing is wrong, nothing.
    pub fix: Option<String>,
}

impl Check {
    fn pass(name: &'static str, detail: impl Into<String>) -> Check {
        Check { state: State::Pass, name, detail: detail.into(), fix: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { state: State::Warn, name, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { state: State::Fail, name, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// Whether it failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.state == State::Fail
    }
}
