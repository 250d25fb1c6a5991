//! Members, messages and channels.
use serde_json::{Map, Value, json};

use super::{Call, Failed, Outcome, files, list, text};
use crate::client::segment;
use crate::mcp::stamp;

/// Messages of `recent`, if nobody says how many.
const RECENT: u64 = 20;
/// What `recent` shows: a model has better uses for its context, and an agent cuts longer answers off.
const MOST_TEXT: usize = 64 << 10;

pub fn roster(call: &Call<'_>) -> Outcome {
    let roster = call.get("/roster")?;
    let members = list(&roster, "teammates");
    let mut out = format!("team {}: {}", call.who.team, counted(members.len(), "member"));
    for member in members {
        let name = text(member, "name");
        let presence = list(&roster, "connected").iter().find(|p| text(p, "name") == name);
        out.push_str(&format!(
            "\n- {name} ({}): {}",
            text(&member["role"], "title"),
            presence.map_or_else(|| "never seen".to_string(), where_is)
        ));
        if name == call.who.name {
            out.push_str(" (you)");
        }
    }
    Ok(out)
}

fn where_is(presence: &Value) -> String {
    let busy = if presence["busy"] == true { ", busy" } else { "" };
    match (presence["connected"].as_u64(), presence["lastSeen"].as_u64()) {
        (Some(1..), _) => format!("connected{busy}"),
        (_, Some(at)) => format!("offline, last seen {}", stamp(at)),
        _ => "offline".to_string(),
    }
}

pub fn broadcast(call: &Call<'_>) -> Outcome {
    let sent = push(call, &[])?;
    Ok(format!("broadcast delivered: {}", delivery(&sent)))
}

pub fn send(call: &Call<'_>) -> Outcome {
    let to = call.args.text("to");
    let sent = push(call, &[("to", to.into())])?;
    Ok(format!("delivered to {to}: {}", delivery(&sent)))
}

pub fn channels(call: &Call<'_>) -> Outcome {
    let channels = call.get("/channels")?;
    let mut lines = Vec::new();
    for channel in list(&channels, "channels") {
        let members = channel["memberCount"].as_u64().unwrap_or(0);
        let joined = if channel["joined"] == true { ", joined" } else { "" };
        let archived = if channel["archivedAt"].is_null() { "" } else { ", archived" };
        let members = counted(usize::try_from(members).unwrap_or(usize::MAX), "member");
        lines.push(format!("- #{} ({members}{joined}{archived})", text(channel, "slug")));
    }
    Ok(or(&lines, "there are no channels"))
}

pub fn post(call: &Call<'_>) -> Outcome {
    let channel = find_channel(call, call.args.text("channel"))?;
    let sent = push(call, &[("data", json!({"thread": format!("chan:{}", text(&channel, "id"))}))])?;
    Ok(format!("posted to #{}: {}", text(&channel, "slug"), delivery(&sent)))
}

/// A channel by what the model calls it: its name, with or without `#`, or the id that its messages carry.
fn find_channel(call: &Call<'_>, called: &str) -> Result<Value, Failed> {
    let called = called.trim_start_matches('#').trim_start_matches("chan:");
    let channels = call.get("/channels")?;
    let found =
        list(&channels, "channels").iter().find(|c| text(c, "slug") == called || text(c, "id") == called);
    // One that is archived is not listed, and the broker knows what may be done with it.
    Ok(found.cloned().unwrap_or_else(|| json!({"slug": called, "id": called})))
}

pub fn recent(call: &Call<'_>) -> Outcome {
    let limit = call.args.count("limit").unwrap_or(RECENT);
    let mut path = format!("/history?limit={limit}");
    match (call.args.get("with"), call.args.get("channel")) {
        (Some(_), Some(_)) => return Err(Failed::Other("give with or channel, not both".to_string())),
        (Some(with), None) => path.push_str(&format!("&with={}", segment(with))),
        (None, Some(channel)) => {
            let channel = find_channel(call, channel)?;
            path.push_str(&format!("&channel={}", segment(text(&channel, "slug"))));
        }
        (None, None) => {}
    }
    let history = call.get(&path)?;
    let messages = list(&history, "messages");
    let (mut blocks, mut ids, mut length) = (Vec::new(), Vec::new(), 0);
    for message in messages {
        let block = shown(message);
        length += block.len();
        if length > MOST_TEXT && !ids.is_empty() {
            let left = counted(messages.len() - ids.len(), "older message");
            blocks.push(format!("{left} left out: ask for fewer, or with whom"));
            break;
        }
        blocks.push(block);
        ids.push(text(message, "id"));
    }
    blocks.reverse();
    call.inbox.seen(&ids);
    Ok(or(&blocks, "there are no messages"))
}

/// A message as a block of text: when, from whom to whom, how urgent, its id, then what it says.
fn shown(message: &Value) -> String {
    let from = message["from"].as_str().unwrap_or("the broker");
    let to = match (message["to"].as_str(), message["data"]["thread"].as_str()) {
        (Some(to), _) => to.to_string(),
        (None, Some(thread)) => thread.to_string(),
        (None, None) => "all".to_string(),
    };
    let at = stamp(message["ts"].as_u64().unwrap_or(0));
    let mut out = format!("[{at}] {from} to {to}, {} (msg {})", text(message, "level"), text(message, "id"));
    for part in ["title", "body"] {
        if let Some(text) = message[part].as_str() {
            // Further in than our own lines: else a body could hold what looks like the next message.
            text.lines().for_each(|line| out.push_str(&format!("\n  {line}")));
        }
    }
    for attachment in list(message, "attachments") {
        out.push_str(&format!("\nattached: {}", text(attachment, "path")));
    }
    out
}

/// Send the call's message with what says whom it is for.
fn push(call: &Call<'_>, addressed: &[(&str, Value)]) -> Result<Value, Failed> {
    let mut message = said(call)?;
    message.extend(addressed.iter().map(|(name, value)| ((*name).to_string(), value.clone())));
    call.send("POST", "/push", message)
}

/// What the call says: text, heading, urgency, attachments.
pub fn said(call: &Call<'_>) -> Result<Map<String, Value>, Failed> {
    let mut message = call.args.only(&["body", "title", "level"]);
    let attached = files::attached(call)?;
    if !attached.is_empty() {
        message.insert("attachments".to_string(), attached.into());
    }
    Ok(message)
}

fn delivery(sent: &Value) -> String {
    let count = |name| sent["delivery"][name].as_u64().unwrap_or(0);
    format!("live={} targets={} msg={}", count("live"), count("targets"), text(&sent["message"], "id"))
}

/// The lines as one text, or what to say if there are none.
pub fn or(lines: &[String], none: &str) -> String {
    if lines.is_empty() { none.to_string() } else { lines.join("\n") }
}

fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
