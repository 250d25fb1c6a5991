//! `ac7 status`: how the broker is, and what the members' agents do.
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::terminal::Screen;
use super::{Group, Verb, broker, format, text};

pub const VERB: Verb = Verb {
    name: "status",
    group: Group::Operate,
    summary: "Show how the broker is and what the members do",
    operands: Operands::None,
    flags: &[&[Flag::switch("json", "One JSON object")], broker::ACCESS],
    examples: &[
        ("ac7 status", "version, uptime, sizes; with a token the members too"),
        ("ac7 status --json", "the same for programs"),
    ],
    exits: &[
        ("0", "the broker answers"),
        ("1", "it does not, or not as it should"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7-status(1)", "ac7-serve(8)", "ac7-service(8)"],
    page: "ac7-status",
    run,
};

/// Calls are counted for so long, ms.
const WINDOW_MS: u64 = 24 * 60 * 60 * 1000;

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let verb = VERB.name;
    let access = broker::access(parsed, verb)?;
    let token = access.token.clone();
    let client = broker::client(&access, token.as_deref(), verb)?;
    let ask = |path: &str| client.json("GET", path, None).map_err(broker::failed(verb));
    let health = ask("/healthz?verbose=1")?;
    let screen = Screen::stdout();
    let members = match token {
        Some(_) => {
            let since = screen.now.saturating_sub(WINDOW_MS);
            // A broker of an earlier version does not know it.
            let agents = client.json("GET", "/agents", None).unwrap_or_default();
            members(&ask("/roster")?, &ask(&format!("/usage?by=member&from={since}"))?, &agents)
        }
        None => Value::Null,
    };
    let all = json!({"url": access.url, "program": env!("CARGO_PKG_VERSION"), "broker": health, "members": members});
    let out = if parsed.has("json") { text::json_line(&all.to_string()) + "\n" } else { told(&all, &screen) };
    io::stdout().lock().write_all(out.as_bytes())?;
    Ok(u8::from(all["broker"]["status"] != "ok"))
}

/// What the members do: nothing here is counted up and down, so nothing can be left over. Calls come from what is
/// stored, what is under way and waits from each runner, whose word counts for half a minute.
fn members(roster: &Value, usage: &Value, agents: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let calls: BTreeMap<String, Value> = list(&usage["rows"])
        .into_iter()
        .filter_map(|row| Some((row["member"].as_str()?.to_string(), row)))
        .collect();
    list(&roster["connected"])
        .into_iter()
        .map(|seen| {
            let row = calls.get(seen["name"].as_str().unwrap_or_default());
            let agent =
                list(agents).into_iter().find(|agent| agent["name"] == seen["name"]).unwrap_or_default();
            let count = |name: &str| row.and_then(|row| row[name].as_u64()).unwrap_or_default();
            json!({
                "name": seen["name"],
                "connected": seen["connected"],
                "busy": seen["busy"] == true,
                "lastSeen": seen["lastSeen"],
                "total": count("calls"),
                "errors": count("errors"),
                "active": agent["active"],
                "queued": agent["queued"],
                "dropped": agent["dropped"],
            })
        })
        .collect()
}

fn told(all: &Value, screen: &Screen) -> String {
    let line = |value: &Value| text::line(value.as_str().unwrap_or("-"), screen.utf8);
    let (health, number) = (&all["broker"], |value: &Value| value.as_u64().unwrap_or_default());
    let mut out =
        format!("{}: {}, ac7 {}", line(&all["url"]), line(&health["status"]), line(&health["version"]));
    if health["version"] != all["program"] {
        out.push_str(&format!("; this program is {}", line(&all["program"])));
    }
    let uptime = format::duration(number(&health["uptimeSeconds"]).saturating_mul(1000));
    out.push_str(&format!(", up {uptime}\n"));
    let sizes = &health["databases"];
    out.push_str(&format!(
        "databases    {} main, {} activity\n",
        format::bytes(number(&sizes["main"])),
        format::bytes(number(&sizes["activity"]))
    ));
    for (title, names) in [
        ("now", &["connections", "streams", "uploadsWaiting"][..]),
        ("turned away", &["requestsRefused", "connectionsEvicted", "streamsDropped"]),
    ] {
        let told = |name: &&str| {
            let words = match *name {
                "uploadsWaiting" => "uploads waiting",
                "requestsRefused" => "requests refused",
                "connectionsEvicted" => "connections evicted",
                "streamsDropped" => "streams dropped",
                other => other,
            };
            format!("{} {words}", format::count(number(&health[*name])))
        };
        out.push_str(&format!("{title:<13}{}\n", names.iter().map(told).collect::<Vec<_>>().join(", ")));
    }
    let Some(members) = all["members"].as_array() else {
        return out + "members      a token shows them\n";
    };
    let mut rows = vec![
        ["MEMBER", "RUNNER", "SEEN", "ACTIVE", "CALLS", "ERRORS", "QUEUED", "DROPPED"]
            .map(str::to_string)
            .to_vec(),
    ];
    for member in members {
        let connected = number(&member["connected"]);
        let runner = match (member["busy"] == true, connected) {
            (true, _) => "busy",
            (false, 0) => "-",
            (false, _) => "connected",
        };
        let told = |name: &str| member[name].as_u64().map_or_else(|| "-".to_string(), format::count);
        rows.push(vec![
            line(&member["name"]),
            runner.to_string(),
            format::ago(number(&member["lastSeen"]), screen.now),
            told("active"),
            told("total"),
            told("errors"),
            told("queued"),
            told("dropped"),
        ]);
    }
    out.push('\n');
    for row in text::columns(&rows, 3) {
        out.push_str(&row);
        out.push('\n');
    }
    out + "Calls and errors are those of the last 24 hours.\n"
}
