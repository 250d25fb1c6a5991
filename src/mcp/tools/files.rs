//! The team's files.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::messages::or;
use super::{Call, Failed, Outcome, list as entries, text};
use crate::client::{Error, Failure, segment};

/// The largest file that goes through a tool: in base64 it still fits into a frame.
const MAX_FILE: usize = 4 << 20;

pub fn list(call: &Call<'_>) -> Outcome {
    let home = format!("/{}", call.who.name);
    let answer = call.get(&format!("/fs/ls?path={}", segment(call.args.get("path").unwrap_or(&home))))?;
    Ok(listed(&answer))
}

pub fn shared(call: &Call<'_>) -> Outcome {
    Ok(listed(&call.get("/fs/shared")?))
}

fn listed(answer: &Value) -> String {
    or(&entries(answer, "entries").iter().map(line).collect::<Vec<_>>(), "there are no files")
}

fn line(entry: &Value) -> String {
    let path = text(entry, "path");
    match entry["size"].as_u64() {
        Some(size) => format!("- {path} ({size} bytes, {})", text(entry, "mimeType")),
        None => format!("- {}/", path.trim_end_matches('/')),
    }
}

pub fn stat(call: &Call<'_>) -> Outcome {
    let entry = entry(call, call.args.text("path"))?;
    let fields = entry.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let shown = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}: {text}"),
        Value::Number(ms) if name.ends_with("At") => {
            format!("{name}: {}", crate::mcp::stamp(ms.as_u64().unwrap_or(0)))
        }
        other => format!("{name}: {other}"),
    };
    Ok(fields.map(shown).collect::<Vec<_>>().join("\n"))
}

fn entry(call: &Call<'_>, path: &str) -> Result<Value, Failed> {
    Ok(call.get(&format!("/fs/stat?path={}", segment(path)))?["entry"].take())
}

pub fn read(call: &Call<'_>) -> Outcome {
    let path = call.args.text("path");
    let entry = entry(call, path)?;
    let route = format!("/fs/read{}", path.split('/').map(segment).collect::<Vec<_>>().join("/"));
    if entry["size"].as_u64().is_some_and(|size| size > MAX_FILE as u64) {
        return Err(too_large(call, &format!("GET {route}")));
    }
    let answer = call.client.send("GET", &route, None)?;
    if answer.status != 200 {
        return Err(refused(call, answer.status, answer.error));
    }
    // It may have grown since.
    if answer.body.len() > MAX_FILE {
        return Err(too_large(call, &format!("GET {route}")));
    }
    Ok(match String::from_utf8(answer.body) {
        Ok(text) => text,
        Err(binary) => STANDARD.encode(binary.as_bytes()),
    })
}

pub fn write(call: &Call<'_>) -> Outcome {
    let args = &call.args;
    let decoded;
    let content = match (args.get("text"), args.get("base64")) {
        (Some(text), None) => text.as_bytes(),
        (None, Some(code)) => {
            let code: String = code.split_ascii_whitespace().collect();
            decoded = STANDARD.decode(code).map_err(|_| Failed::Other("base64 is not base64".to_string()))?;
            &decoded
        }
        (None, None) => return Err(Failed::Other("text or base64 is required".to_string())),
        (Some(_), Some(_)) => return Err(Failed::Other("give text or base64, not both".to_string())),
    };
    let (mime, collide) = (args.text("mimeType"), args.get("collide").unwrap_or("error"));
    let route =
        format!("/fs/write?path={}&mime={}&collide={collide}", segment(args.text("path")), segment(mime));
    if content.len() > MAX_FILE {
        return Err(too_large(call, &format!("POST {route}")));
    }
    let answer = call.client.send("POST", &route, Some((mime, content)))?;
    if !(200..300).contains(&answer.status) {
        return Err(refused(call, answer.status, answer.error));
    }
    let written: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let renamed = if written["renamed"] == true { ", another name because the first is taken" } else { "" };
    Ok(format!("wrote {} ({} bytes{renamed})", text(&written["entry"], "path"), content.len()))
}

pub fn make(call: &Call<'_>) -> Outcome {
    let made = call.send("POST", "/fs/mkdir", call.args.only(&["path", "recursive"]))?;
    Ok(format!("made {}/", text(&made["entry"], "path")))
}

pub fn remove(call: &Call<'_>) -> Outcome {
    let path = call.args.text("path");
    let recursive = if call.args.is_on("recursive") { "&recursive=true" } else { "" };
    call.client.json("DELETE", &format!("/fs/rm?path={}{recursive}", segment(path)), None)?;
    Ok(format!("removed {path}"))
}

pub fn rename(call: &Call<'_>) -> Outcome {
    let moved = call.send("POST", "/fs/mv", call.args.only(&["from", "to"]))?;
    Ok(format!("moved {} to {}", call.args.text("from"), text(&moved["entry"], "path")))
}

/// The call's attachments as the broker wants them; the model names paths alone.
pub fn attached(call: &Call<'_>) -> Result<Vec<Value>, Failed> {
    let attach = |path: &str| {
        let entry = entry(call, path)?;
        if entry["size"].is_null() {
            return Err(Failed::Other(format!("attachments: {path} is a directory")));
        }
        Ok(json!({
            "path": entry["path"],
            "name": entry["name"],
            "size": entry["size"],
            "mimeType": entry["mimeType"],
        }))
    };
    call.args.texts("attachments").map(attach).collect()
}

fn too_large(call: &Call<'_>, request: &str) -> Failed {
    let (limit, url) = (MAX_FILE >> 20, call.client.url().trim_end_matches('/'));
    let (method, route) = request.split_once(' ').unwrap_or_default();
    Failed::Other(format!(
        "the file is larger than {limit} MiB, which is too much for a tool; use {method} {url}{route} with your token"
    ))
}

fn refused(call: &Call<'_>, status: u16, sentence: Option<String>) -> Failed {
    Failed::Broker(Error::Answered {
        url: call.client.url().to_string(),
        failure: Failure::Status(status, sentence),
    })
}
