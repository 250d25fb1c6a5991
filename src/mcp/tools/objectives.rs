//! Objectives: what is to be reached, by whom, and how far it is.
use serde_json::Value;

use super::messages::{or, said};
use super::{Call, Failed, Outcome, files, list, text};
use crate::client::segment;
use crate::mcp::stamp;

/// Open objectives in a tool's description, and what is shown of an outcome.
const MOST_IN_DIGEST: usize = 20;
const MOST_OF_OUTCOME: usize = 400;
/// Objectives in a list: an agent has to read all that it is given.
const MOST_IN_LIST: usize = 200;

/// The open objectives for a tool's description; "" where there are none.
pub fn digest(open: &[Value]) -> String {
    if open.is_empty() {
        return String::new();
    }
    let mut out = " Open objectives:".to_string();
    for objective in open.iter().take(MOST_IN_DIGEST) {
        let outcome = text(objective, "outcome");
        let end = outcome.char_indices().nth(MOST_OF_OUTCOME).map_or(outcome.len(), |(at, _)| at);
        let more = if end < outcome.len() { "…" } else { "" };
        out.push_str(&format!(
            "\n{}\n  assignee: {}\n  outcome: {}{more}",
            line(objective),
            text(objective, "assignee"),
            &outcome[..end]
        ));
    }
    if open.len() > MOST_IN_DIGEST {
        out.push_str(&format!("\nand {} more", open.len() - MOST_IN_DIGEST));
    }
    out
}

fn line(objective: &Value) -> String {
    format!("- {} [{}] {}", text(objective, "id"), text(objective, "status"), text(objective, "title"))
}

pub fn all(call: &Call<'_>) -> Outcome {
    let path = call
        .args
        .get("status")
        .map_or_else(|| "/objectives".to_string(), |s| format!("/objectives?status={s}"));
    let objectives = call.get(&path)?;
    let objectives = list(&objectives, "objectives");
    let mut lines: Vec<_> = objectives.iter().take(MOST_IN_LIST).map(line).collect();
    if objectives.len() > MOST_IN_LIST {
        let more = objectives.len() - MOST_IN_LIST;
        lines.push(format!("and {more} older ones: give a status to see fewer"));
    }
    Ok(or(&lines, "there are no objectives"))
}

pub fn view(call: &Call<'_>) -> Outcome {
    let answer = call.get(&at(call, ""))?;
    let objective = &answer["objective"];
    let mut lines = vec![line(objective)];
    for (name, label) in [
        ("outcome", "outcome"),
        ("body", "body"),
        ("assignee", "assignee"),
        ("originator", "originator"),
        ("blockReason", "blocked by"),
        ("result", "result"),
    ] {
        if let Some(text) = objective[name].as_str().filter(|text| !text.is_empty()) {
            lines.push(format!("{label}: {text}"));
        }
    }
    lines.extend(names(objective, "watchers").map(|names| format!("watchers: {names}")));
    lines.extend(list(objective, "attachments").iter().map(|a| format!("attached: {}", text(a, "path"))));
    for event in list(&answer, "events") {
        let when = stamp(event["ts"].as_u64().unwrap_or(0));
        let detail = match &event["payload"] {
            Value::Object(payload) if !payload.is_empty() => format!(" {}", event["payload"]),
            _ => String::new(),
        };
        lines.push(format!("[{when}] {} by {}{detail}", text(event, "kind"), text(event, "actor")));
    }
    Ok(lines.join("\n"))
}

pub fn update(call: &Call<'_>) -> Outcome {
    if call.args.text("status") == "blocked" && call.args.get("blockReason").is_none() {
        return Err(Failed::Other("blockReason is required".to_string()));
    }
    let now = call.send("PATCH", &at(call, ""), call.args.only(&["status", "blockReason"]))?;
    Ok(format!("updated {}: status={}", text(&now, "id"), text(&now, "status")))
}

pub fn discuss(call: &Call<'_>) -> Outcome {
    let sent = call.send("POST", &at(call, "/discuss"), said(call)?)?;
    Ok(format!("posted to {}: msg={}", call.args.text("id"), text(&sent, "id")))
}

pub fn complete(call: &Call<'_>) -> Outcome {
    let now = call.send("POST", &at(call, "/complete"), call.args.only(&["result"]))?;
    Ok(format!(
        "completed {}. {} and the watchers have been told.",
        text(&now, "id"),
        text(&now, "originator")
    ))
}

pub fn create(call: &Call<'_>) -> Outcome {
    let mut new = call.args.only(&["title", "outcome", "assignee", "body", "watchers"]);
    let attached = files::attached(call)?;
    if !attached.is_empty() {
        new.insert("attachments".to_string(), attached.into());
    }
    let made = call.send("POST", "/objectives", new)?;
    Ok(format!("created {}: assigned to {}", text(&made, "id"), text(&made, "assignee")))
}

pub fn cancel(call: &Call<'_>) -> Outcome {
    let now = call.send("POST", &at(call, "/cancel"), call.args.only(&["reason"]))?;
    Ok(format!("cancelled {}", text(&now, "id")))
}

pub fn watchers(call: &Call<'_>) -> Outcome {
    let change = call.args.only(&["add", "remove"]);
    if change.is_empty() {
        return Err(Failed::Other("add or remove is required".to_string()));
    }
    let now = call.send("POST", &at(call, "/watchers"), change)?;
    let names = names(&now, "watchers").unwrap_or_else(|| "nobody".to_string());
    Ok(format!("watchers of {}: {names}", text(&now, "id")))
}

pub fn reassign(call: &Call<'_>) -> Outcome {
    let now = call.send("POST", &at(call, "/reassign"), call.args.only(&["to", "note"]))?;
    Ok(format!("reassigned {} to {}", text(&now, "id"), text(&now, "assignee")))
}

fn at(call: &Call<'_>, what: &str) -> String {
    format!("/objectives/{}{what}", segment(call.args.text("id")))
}

/// The texts of a list, or nothing if there are none.
fn names(value: &Value, name: &str) -> Option<String> {
    let names: Vec<&str> = list(value, name).iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
