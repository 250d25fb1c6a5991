//! What keeps an agent from starting here, or from working once it has, and what to do about it.
//!
//! Comes in: an agent, this process's environment and files. Goes out: [`Check`]s, for a verb to show. Nothing is
//! changed on the way (but by the repair in [`claude::stale`], which has to be asked for), and no secret stands in a
//! check: of a credential there is only where it is and what it is worth.
mod broker;
pub mod claude;
mod codex;
mod place;
mod preflight;
mod version;

pub use preflight::preflight;

use super::Agent;
use crate::client::auth::Given;
use claude::Seen;

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

/// Look at everything: what a start of the agents needs, the broker that `given` and the environment name, what
/// surrounds them, their logins. `seen` is what the traces of this machine know.
#[must_use]
pub fn examine(agents: &[Agent], given: &Given, mut seen: Seen) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for agent in agents {
        // Of what two agents share it is enough to hear once.
        let fresh: Vec<Check> = preflight(*agent).into_iter().filter(|c| !checks.contains(c)).collect();
        checks.extend(fresh);
        checks.extend(agent.find().ok().map(|program| version::version(*agent, &program)));
    }
    checks.extend(broker::broker(given, &mut seen));
    checks.extend([place::proxy(), place::trust()]);
    checks.extend(place::free_disk());
    for agent in agents {
        match agent {
            Agent::ClaudeCode => {
                checks.push(place::unattended());
                checks.extend(claude::health(seen.clone()));
            }
            Agent::Codex => checks.push(codex::login()),
        }
    }
    checks
}
