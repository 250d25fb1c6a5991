//! Everything that captures, put together: certificates, proxy, worker, and the sink behind them.
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::error::Error;
use super::files::Files;
use super::options::CaptureOptions;
use super::totals::Totals;
use super::under_way::Counter;
use super::upstream;
use crate::activity::{Event, What};
use crate::agents::Place;
use crate::capture::proxy::{self, Proxy};
use crate::capture::reassemble::Limits;
use crate::capture::redact;
use crate::capture::tap::Queue;
use crate::capture::worker::{self, Worker};
use crate::sink::{Encoded, Report, Sink};
use crate::sys::log::Log;
use crate::tls::SessionCa;

/// Tunnels of the child's own children may still be moving bytes when it ends.
const TUNNELS_GRACE: Duration = Duration::from_secs(2);
/// How long the last events may take to where they go.
const DRAIN: Duration = Duration::from_secs(5);

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    pub totals: Totals,
    pub report: Report,
    /// Connections that the child made to the proxy.
    pub connections: u64,
    /// What the user should know besides, a sentence each.
    pub notes: Vec<String>,
}

/// Called with each event's JSON before it goes to the sink.
pub type Look = Box<dyn Fn(&Event, &str) + Send>;

/// Who else wants to know what is captured.
#[derive(Default)]
pub struct Watchers {
    /// Told when model calls begin and end.
    pub counter: Option<Counter>,
    pub look: Option<Look>,
}

/// Everything that captures, in the order in which it is taken down.
pub struct Capturing {
    proxy: Proxy,
    queue: Arc<Queue>,
    worker: Worker<Consumer>,
    files: Files,
}

/// Where the worker's events go.
struct Consumer {
    totals: Totals,
    sink: Box<dyn Sink>,
    watchers: Watchers,
    log: Arc<Log>,
}

impl worker::Consumer for Consumer {
    fn take(&mut self, event: &Event, json: String, secrets: usize) {
        let errors = self.totals.errors;
        self.totals.add(event);
        self.totals.secrets += secrets as u64;
        if let Some(look) = &self.watchers.look {
            look(event, &json);
        }
        let kind = event.kind();
        self.sink.push(Encoded { ts: event.ts, kind, json });
        if matches!(event.what, What::Llm { .. }) {
            self.log.line("trace: llm_exchange queued", &[]);
            if let Some(counter) = &self.watchers.counter {
                counter.ended(self.totals.errors > errors);
            }
        }
    }

    fn under_way(&mut self, calls: usize) {
        if let Some(counter) = &self.watchers.counter {
            counter.set(calls);
        }
    }
}

impl Capturing {
    /// Start everything; what is captured goes to the sink that `sink` makes, once all that can fail before it has not.
    ///
    /// # Errors
    /// No trust, no place for the certificates, no port, no thread.
    pub fn start(
        options: &CaptureOptions,
        sink: impl FnOnce() -> Result<Box<dyn Sink>, Error>,
        watchers: Watchers,
        log: &Arc<Log>,
    ) -> Result<Capturing, Error> {
        let roots = upstream::roots(options.ca_cert.as_deref(), log).map_err(Error::Trust)?;
        let trust = roots.client_config().map_err(Error::Trust)?;
        let dialer = upstream::dialer(options).map_err(Error::Proxy)?;
        let only: Vec<String> = options.trace_only.iter().map(|p| p.host().to_string()).collect();
        let only = (!only.is_empty()).then_some(only);
        let ca = SessionCa::new(only.as_deref()).map_err(|why| Error::Ca(why.to_string()))?;
        let files = Files::write(&ca.pem(), &(roots.pem() + &ca.pem())).map_err(Error::Files)?;
        let sink = sink()?;
        let queue = Queue::new();
        let consumer = Consumer { totals: Totals::default(), sink, watchers, log: log.clone() };
        let usual = Limits::default();
        let limits = Limits { whole: options.retain.unwrap_or(usual.whole), ..usual };
        let redaction = redact::Rules::new(&options.redact_patterns).map_err(Error::Pattern)?;
        let worker = Worker::start(queue.clone(), limits, redaction, consumer)
            .map_err(|why| Error::System { what: "start a thread", why })?;
        let config = proxy::Config { rules: upstream::rules(options), dialer, trust, ca };
        let proxy = Proxy::start(config, queue.clone(), log.clone())
            .map_err(|why| Error::System { what: "listen on 127.0.0.1", why })?;
        Ok(Capturing { proxy, queue, worker, files })
    }

    /// Where the child finds proxy and certificates.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place { port: self.proxy.port(), ca: self.files.ca.path(), bundle: self.files.bundle.path() }
    }

    /// Where events of the session's own go: they are stored in order with what is captured.
    #[must_use]
    pub fn events(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// Take everything down, in the order of the data, so that what was seen is stored, and after it the `last`
    /// events.
    #[must_use]
    pub fn finish(self, last: impl FnOnce() -> Vec<Event>, log: &Log) -> Captured {
        let Capturing { proxy, queue, worker, files } = self;
        let connections = proxy.accepted();
        proxy.stop(TUNNELS_GRACE);
        last().into_iter().for_each(|event| queue.event(event));
        queue.close();
        let consumer = worker.join();
        let fallback = files.fallback.clone();
        drop(files);
        log.line("certificates removed", &[]);
        let (totals, report) = match consumer {
            Some(consumer) => (consumer.totals, consumer.sink.close(DRAIN)),
            None => (
                Totals::default(),
                Report { reason: Some("the capture thread failed".into()), ..Report::default() },
            ),
        };
        log.line("sink closed", &[("stored", json!(report.stored)), ("dropped", json!(report.dropped))]);
        let mut notes: Vec<String> = report.upgrade.iter().map(ToString::to_string).collect();
        if let Some(place) = fallback {
            notes.push(format!("$TMPDIR cannot be written; certificates were kept in {}", place.display()));
        }
        if upstream::variable("NODE_TLS_REJECT_UNAUTHORIZED").is_some_and(|value| value == "0") {
            notes.push(
                "NODE_TLS_REJECT_UNAUTHORIZED=0 is not obeyed; AC7_CA_CERT names a root to trust".into(),
            );
        }
        Captured { totals, report, connections, notes }
    }
}
