//! A member's session with its team: messages and tools for the agent, objectives and presence for the broker.
//!
//! Comes in: a client that is logged in, its briefing. Goes out: messages, to wherever the agent takes them; events for
//! the activity stream. Every thread here ends with [`Team::quiet`], the agent's socket with [`Team`] itself.
mod busy;
pub mod channel;
mod forwarder;
mod inbox;
mod task;
mod tracker;
mod trouble;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::{Value, json};

use self::busy::Busy;
use self::forwarder::{Forwarder, News};
pub use self::inbox::Inbox;
use self::tracker::{Change, Tracker};
use self::trouble::Trouble;
use super::error::Error;
use super::under_way::UnderWay;
use crate::activity::Event;
use crate::agents::Agent;
use crate::capture::tap::Queue;
use crate::client::{Briefing, Client};
use crate::mcp::server::Server;
use crate::mcp::tools::Tools;
use crate::mcp::{Handler, ToolResult};
use crate::sys::log::Log;
use crate::sys::{clock, paths};
use crate::team::Message;

/// Takes the messages for an agent, on the forwarder's thread; it may not wait.
pub type Deliver = Box<dyn Fn(&Message) + Send>;

/// Where a team's session gets what it needs of the capture beside it; nothing with `--no-trace`.
pub struct Trace {
    pub agent: Agent,
    pub events: Arc<Queue>,
    pub under_way: Arc<UnderWay>,
}

/// A session with the team.
pub struct Team {
    briefing: Briefing,
    client: Client,
    /// What the agent's tool calls go through.
    calls: Client,
    log: Arc<Log>,
    trouble: Arc<Trouble>,
    desk: Arc<Desk>,
    server: Arc<Server>,
    running: Option<Running>,
}

struct Running {
    forwarder: Forwarder,
    tracker: Tracker,
    busy: Option<Busy>,
}

/// What the agent's bridge and hooks are answered from.
struct Desk {
    tools: Tools,
    inbox: Arc<Inbox>,
}

impl Handler for Desk {
    fn tools(&self) -> Value {
        self.tools.definitions()
    }

    fn call(&self, name: &str, arguments: &Value) -> ToolResult {
        self.tools.call(name, arguments)
    }

    fn hook(&self, event: &str, input: &Value) -> Option<String> {
        self.inbox.hook(event, input)
    }

    fn attached(&self) {}

    fn detached(&self) {}
}

impl Team {
    /// Open the socket for the agent. Nothing is asked of the broker yet. `inbox` has what its hooks hand over.
    ///
    /// # Errors
    /// No place for the socket, or no thread.
    pub fn open(
        client: Client,
        briefing: Briefing,
        inbox: Arc<Inbox>,
        log: &Arc<Log>,
    ) -> Result<Team, Error> {
        let calls = client.apart();
        let tools = Tools::new(calls.clone(), &briefing.raw, inbox.clone());
        let desk = Arc::new(Desk { tools, inbox });
        let server =
            listen(&desk, log).map_err(|why| Error::System { what: "open the agent's socket", why })?;
        Ok(Team {
            briefing,
            client,
            calls,
            log: log.clone(),
            trouble: Arc::default(),
            desk,
            server: Arc::new(server),
            running: None,
        })
    }

    /// Who we are.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.briefing.name
    }

    /// What the broker wants the agent to be told.
    #[must_use]
    pub fn instructions(&self) -> &str {
        self.briefing.raw["instructions"].as_str().unwrap_or_default()
    }

    /// The agent's way to us.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.server.path()
    }

    /// Gives what tells the agent of something, for as long as the session lives.
    pub fn notifier(&self) -> impl Fn(&str, Value) + Send + use<> {
        let server: Weak<Server> = Arc::downgrade(&self.server);
        move |method, params| {
            if let Some(server) = server.upgrade() {
                server.notify(method, params);
            }
        }
    }

    /// Begin: tell what is open, follow messages and objectives, report when the model is at work.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn start(&mut self, trace: Option<Trace>, deliver: Deliver) -> Result<(), Error> {
        let no_thread = |why| Error::System { what: "start a thread", why };
        let listed = self.briefing.raw["openObjectives"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mine = |o: &&Value| o.get("assignee").is_none_or(|name| *name == self.briefing.name.as_str());
        let mine: Vec<Value> = listed.iter().filter(mine).cloned().collect();
        let open = tracker::open_ids(&mine);
        let (events, counted) = trace.map(|t| (t.events, (t.agent, t.under_way))).unzip();
        let emit = {
            let log = self.log.clone();
            move |event: Event| {
                tracker::tell(&log, &event);
                if let Some(queue) = &events {
                    queue.event(event);
                }
            }
        };
        open.iter().for_each(|id| emit(tracker::opened(id, clock::now_ms())));
        let briefing = Mutex::new(self.briefing.raw.clone());
        let (desk, server) = (self.desk.clone(), Arc::downgrade(&self.server));
        let changed = move |change: Change<'_>| {
            change.events.into_iter().for_each(&emit);
            let mut briefing = briefing.lock().unwrap_or_else(PoisonError::into_inner);
            briefing["openObjectives"] = change.open.into();
            let is_new = desk.tools.update(&briefing);
            drop(briefing);
            if is_new && let Some(server) = server.upgrade() {
                server.tools_changed();
            }
        };
        let tracker = Tracker::start(&self.client, &self.briefing.name, open, self.log.clone(), changed)
            .map_err(no_thread)?;
        let (refresh, log) = (tracker.refresh(), self.log.clone());
        let take = move |news: &News<'_>| {
            let message = match news {
                News::Up => return refresh.ask(),
                News::Message(message) | News::Echo(message) => message,
            };
            let kind = message.data.get("kind").and_then(Value::as_str).unwrap_or_default();
            if kind.starts_with("objective") {
                refresh.ask();
            }
            if matches!(news, News::Message(_)) {
                let level = message.level.name();
                log.line("message came", &[("id", json!(message.id)), ("level", json!(level))]);
                deliver(message);
            }
        };
        let me = self.briefing.name.clone();
        let forwarder = Forwarder::start(&self.client, me, self.trouble.clone(), self.log.clone(), take)
            .map_err(no_thread)?;
        let start = |(agent, under_way)| Busy::start(&self.client, agent, under_way, self.log.clone());
        let busy = counted.map(start).transpose();
        self.running = Some(Running { forwarder, tracker, busy: busy.map_err(no_thread)? });
        Ok(())
    }

    /// The agent has ended: take no more messages, follow nothing. Gives the objectives that are still open.
    pub fn quiet(&mut self) -> Vec<String> {
        let Some(Running { forwarder, tracker, busy }) = self.running.take() else { return Vec::new() };
        forwarder.finish();
        if let Some(busy) = busy {
            busy.finish();
        }
        self.log.line("broker stream closed", &[]);
        tracker.finish()
    }

    /// Close the socket. Gives what went wrong for good meanwhile, a sentence each.
    pub fn close(self) -> Vec<String> {
        self.calls.abort();
        self.trouble.take()
    }
}

/// The last events of a session whose objectives `open` are still open.
pub fn shutdown(open: &[String], log: &Log) -> Vec<Event> {
    let now = clock::now_ms();
    let events: Vec<Event> = open.iter().map(|id| tracker::closed(id, "runner_shutdown", now)).collect();
    events.iter().for_each(|event| tracker::tell(log, event));
    events
}

/// In the temporary directory, or where that cannot be written in a private one under the cache directory.
fn listen(desk: &Arc<Desk>, log: &Arc<Log>) -> std::io::Result<Server> {
    let usual = paths::temp_dir();
    let first = Server::start(&usual, desk.clone(), log.clone());
    match paths::cache_dir().map(|dir| dir.join("tmp")) {
        Some(fallback) if first.is_err() => {
            crate::sys::file::ensure_private_dir(&fallback)?;
            Server::start(&fallback, desk.clone(), log.clone()).or(first)
        }
        _ => first,
    }
}
