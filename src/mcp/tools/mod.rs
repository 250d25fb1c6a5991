//! The tools: what the model may do in the team, each a few requests to the broker and a text.
//!
//! Comes in: a tool's name and arguments. Goes out: the text for the model. What the caller may do is the broker's to
//! decide; the list only leaves out what it would refuse anyway.
mod arguments;
mod files;
mod messages;
mod objectives;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::ToolResult;
use crate::client::{self, Client, Failure};
use arguments::Arguments;
use table::{TOOLS, Tool};

/// Where messages wait that the model has not seen.
pub trait Inbox: Send + Sync {
    /// The model has been given these messages by a tool.
    fn seen(&self, ids: &[&str]);
}

/// The tools of one member.
pub struct Tools {
    client: Client,
    inbox: Arc<dyn Inbox>,
    who: Mutex<Arc<Who>>,
}

/// What the briefing says about the caller.
#[derive(Debug, Default, PartialEq, Eq)]
struct Who {
    name: String,
    team: String,
    permissions: Vec<String>,
    /// The open objectives, as the descriptions have them.
    digest: String,
}

/// Why a tool did not do what it was asked.
#[derive(Debug)]
enum Failed {
    Broker(client::Error),
    /// Anything else; stands after the tool's name.
    Other(String),
}

type Outcome = Result<String, Failed>;

/// One call.
struct Call<'a> {
    client: &'a Client,
    inbox: &'a dyn Inbox,
    who: Arc<Who>,
    args: Arguments,
}

impl Tools {
    /// The tools of the member that `briefing` (`GET /briefing`) is for.
    #[must_use]
    pub fn new(client: Client, briefing: &Value, inbox: Arc<dyn Inbox>) -> Tools {
        Tools { client, inbox, who: Mutex::new(Arc::new(Who::read(briefing))) }
    }

    /// Take a newer briefing. Gives whether the definitions are others now.
    pub fn update(&self, briefing: &Value) -> bool {
        let new = Arc::new(Who::read(briefing));
        let mut who = self.who.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *who, new.clone());
        old != new
    }

    fn who(&self) -> Arc<Who> {
        self.who.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What `tools/list` answers: the tools that this member may use.
    #[must_use]
    pub fn definitions(&self) -> Value {
        let who = self.who();
        TOOLS.iter().filter(|tool| who.may(tool)).map(|tool| definition(tool, &who)).collect()
    }

    /// Run a tool.
    #[must_use]
    pub fn call(&self, name: &str, arguments: &Value) -> ToolResult {
        let Some(tool) = TOOLS.iter().find(|tool| tool.name == name) else {
            return ToolResult::failed(format!("there is no tool {name}"));
        };
        let outcome = Arguments::read(tool.fields, arguments).map_err(Failed::Other).and_then(|args| {
            let call = Call { client: &self.client, inbox: &*self.inbox, who: self.who(), args };
            (tool.run)(&call)
        });
        match outcome {
            Ok(text) => ToolResult::done(text),
            Err(Failed::Other(why)) => ToolResult::failed(format!("{name}: {why}")),
            Err(broker) => ToolResult::failed(broker.to_string()),
        }
    }
}

fn definition(tool: &Tool, who: &Who) -> Value {
    let mut about = format!("{}. You are {} of team {}.", tool.about, who.name, who.team);
    if tool.digest {
        about.push_str(&who.digest);
    }
    json!({"name": tool.name, "description": about, "inputSchema": arguments::schema(tool.fields)})
}

impl Who {
    /// A briefing that lacks something leaves it out here: the broker is asked again at every call anyway.
    fn read(briefing: &Value) -> Who {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let list = |name: &str| briefing[name].as_array().map(Vec::as_slice).unwrap_or_default();
        Who {
            name: text(&briefing["name"]),
            team: text(&briefing["team"]["name"]),
            permissions: list("permissions").iter().map(text).collect(),
            digest: objectives::digest(list("openObjectives")),
        }
    }

    fn may(&self, tool: &Tool) -> bool {
        tool.needs.is_empty() || tool.needs.iter().any(|need| self.permissions.iter().any(|p| p == need))
    }
}

impl Call<'_> {
    fn get(&self, path: &str) -> Result<Value, Failed> {
        Ok(self.client.json("GET", path, None)?)
    }

    fn send(&self, method: &str, path: &str, body: impl Into<Value>) -> Result<Value, Failed> {
        Ok(self.client.json(method, path, Some(&body.into()))?)
    }
}

impl From<client::Error> for Failed {
    fn from(error: client::Error) -> Failed {
        Failed::Broker(error)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Broker(error) => match error.failure() {
                Some(Failure::Status(status, body)) => {
                    write!(f, "broker error {status}: {}", body.as_deref().unwrap_or("it does not say why"))
                }
                _ => error.fmt(f),
            },
            Failed::Other(why) => f.write_str(why),
        }
    }
}

/// A text of the broker's answer; "" where there is none.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// The elements of a list in the broker's answer.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;
