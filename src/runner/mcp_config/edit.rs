//! What becomes of the text of a `.mcp.json`: our entry put in, or taken out again.
use std::fmt;

use serde_json::{Map, Value, json};

use crate::agents::claude_code::{SERVER, SOCKET};

const SERVERS: &str = "mcpServers";

/// The text is not a configuration that an entry could be put into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOurs {
    NotJson(String),
    NotAnObject,
    ServersNotAnObject,
}

impl fmt::Display for NotOurs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotOurs::NotJson(why) => write!(f, "it is not JSON: {why}"),
            NotOurs::NotAnObject => write!(f, "it is not a JSON object"),
            NotOurs::ServersNotAnObject => write!(f, "its {SERVERS} is not an object"),
        }
    }
}

/// What a file without our entry is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Without {
    /// There is no entry of ours in it.
    Untouched,
    /// This text.
    Text(String),
    /// Nothing else was in it, and there was no file before.
    Gone,
}

/// The text with our entry; everything else stays, in its order.
///
/// # Errors
/// The text is no JSON object, or its servers are none.
pub fn with(original: Option<&str>, entry: &Value) -> Result<String, NotOurs> {
    let mut config = original.map_or_else(|| Ok(Map::new()), parse)?;
    let servers = config.entry(SERVERS).or_insert_with(|| json!({}));
    let servers = servers.as_object_mut().ok_or(NotOurs::ServersNotAnObject)?;
    servers.insert(SERVER.to_string(), entry.clone());
    Ok(text(config))
}

/// The text `now`, which somebody has changed since our entry was put in, without it. What `original` had in its place
/// comes back.
#[must_use]
pub fn without(now: &str, original: Option<&str>, socket: &str) -> Without {
    if socket_of(now).as_deref() != Some(socket) {
        return Without::Untouched;
    }
    let Ok(mut config) = parse(now) else { return Without::Untouched };
    let before = original.and_then(|text| parse(text).ok()).unwrap_or_default();
    let Some(Value::Object(servers)) = config.get_mut(SERVERS) else { return Without::Untouched };
    match before.get(SERVERS).and_then(|servers| servers.get(SERVER)) {
        Some(entry) => {
            servers.insert(SERVER.to_string(), entry.clone());
        }
        None => {
            servers.shift_remove(SERVER);
        }
    }
    if servers.is_empty() && !before.contains_key(SERVERS) {
        config.shift_remove(SERVERS);
    }
    if config.is_empty() && original.is_none() {
        return Without::Gone;
    }
    Without::Text(text(config))
}

/// The socket of the session whose entry is in the text.
#[must_use]
pub fn socket_of(text: &str) -> Option<String> {
    let config: Value = serde_json::from_str(text).ok()?;
    Some(config.get(SERVERS)?.get(SERVER)?.get("env")?.get(SOCKET)?.as_str()?.to_string())
}

fn parse(text: &str) -> Result<Map<String, Value>, NotOurs> {
    match serde_json::from_str(text) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(NotOurs::NotAnObject),
        Err(why) => Err(NotOurs::NotJson(why.to_string())),
    }
}

fn text(config: Map<String, Value>) -> String {
    format!("{:#}\n", Value::Object(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Value {
        json!({"command": "ac7", "env": {SOCKET: "/t/s"}})
    }

    fn compact(text: &str) -> String {
        serde_json::from_str::<Value>(text).unwrap().to_string()
    }

    #[test]
    fn our_entry_goes_in_and_the_rest_stays() {
        let ours = entry().to_string();
        for (original, want) in [
            (None, format!(r#"{{"mcpServers":{{"ac7":{ours}}}}}"#)),
            (Some("{}"), format!(r#"{{"mcpServers":{{"ac7":{ours}}}}}"#)),
            (
                Some(r#"{"z":1,"mcpServers":{"y":{"command":"true"},"b":{}},"a":2.50}"#),
                format!(
                    r#"{{"z":1,"mcpServers":{{"y":{{"command":"true"}},"b":{{}},"ac7":{ours}}},"a":2.5}}"#
                ),
            ),
            (
                Some(r#"{"mcpServers":{"ac7":{"command":"mine"},"x":{}}}"#),
                format!(r#"{{"mcpServers":{{"ac7":{ours},"x":{{}}}}}}"#),
            ),
        ] {
            assert_eq!(compact(&with(original, &entry()).unwrap()), want, "{original:?}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_left_alone() {
        for (text, why) in [
            ("not json", "it is not JSON: expected ident at line 1 column 2"),
            ("", "it is not JSON: EOF while parsing a value at line 1 column 0"),
            ("[1]", "it is not a JSON object"),
            (r#"{"mcpServers":[]}"#, "its mcpServers is not an object"),
        ] {
            assert_eq!(with(Some(text), &entry()).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn of_a_file_that_was_changed_only_our_entry_comes_out() {
        let ours = entry().to_string();
        let now = |more: &str| format!(r#"{{"mcpServers":{{"ac7":{ours}{more}}}}}"#);
        for (now, original, want) in [
            (now(""), None, Without::Gone),
            (now(""), Some("{}"), Without::Text("{}".into())),
            (now(r#","x":{}"#), None, Without::Text(r#"{"mcpServers":{"x":{}}}"#.into())),
            (now(""), Some(r#"{"mcpServers":{}}"#), Without::Text(r#"{"mcpServers":{}}"#.into())),
            (
                now(r#","x":{}"#),
                Some(r#"{"mcpServers":{"ac7":{"command":"mine"}}}"#),
                Without::Text(r#"{"mcpServers":{"ac7":{"command":"mine"},"x":{}}}"#.into()),
            ),
            (r#"{"mcpServers":{"x":{}}}"#.into(), None, Without::Untouched),
            (r#"{"mcpServers":{"ac7":{"env":{}}}}"#.into(), None, Without::Untouched),
            ("not json".into(), None, Without::Untouched),
        ] {
            let got = match without(&now, original, "/t/s") {
                Without::Text(text) => Without::Text(compact(&text)),
                other => other,
            };
            assert_eq!(got, want, "{now} {original:?}");
        }
        assert_eq!(without(&now(""), None, "/t/other"), Without::Untouched, "another session's entry");
    }
}
