//! The broker's log: one JSON object a line. It never holds a token, a body or a query string.
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::store::Upgrade;
use crate::sys::clock::now_ms;

/// Where log lines go; clones write to the same place.
#[derive(Clone)]
pub struct Log {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

impl Log {
    /// A log on standard error.
    #[must_use]
    pub fn stderr() -> Log {
        Log::to(Box::new(io::stderr()))
    }

    /// A log that writes to `out`.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>) -> Log {
        Log { out: Arc::new(Mutex::new(out)) }
    }

    /// Write one line: time, what happened, and the fields of `facts` (an object).
    ///
    /// A log that cannot be written stops nothing: there is nobody left to tell.
    pub fn line(&self, event: &str, facts: &Value) {
        let mut line = Map::new();
        line.insert("ts".into(), json!(now_ms()));
        line.insert("event".into(), json!(event));
        line.extend(facts.as_object().cloned().unwrap_or_default());
        let text = format!("{}\n", Value::Object(line));
        // The one lock that is held for I/O: lines of several threads must not run into each other.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(text.as_bytes());
    }

    /// Say that a database was brought up to date, if it was, and where it is as it was before.
    pub fn upgrade(&self, upgrade: Option<&Upgrade>) {
        let Some(Upgrade { path, from, to, copy }) = upgrade else { return };
        let (path, copy) = (path.display().to_string(), copy.display().to_string());
        self.line("database upgraded", &json!({"database": path, "from": from, "to": to, "copy": copy}));
    }
}
