//! What an objective took: traces and sums of everybody who had it.
use serde_json::{Value, json};
use support::run::{Finished, json_lines};

use crate::rig::{Reply, Rig};

fn call(ts: u64, model: &str) -> Value {
    json!({"kind": "llm_exchange", "ts": ts, "duration": 5, "entry": {
        "kind": "anthropic_messages", "startedAt": ts - 5, "endedAt": ts,
        "request": {"model": model, "maxTokens": null, "temperature": null, "system": null, "messages": [],
                    "tools": []},
        "response": {"stopReason": "end_turn", "stopSequence": null, "messages": [], "status": 200,
                     "usage": {"inputTokens": 1_000_000, "outputTokens": 0, "cacheCreationInputTokens": 0,
                               "cacheReadInputTokens": 0}}}})
}

/// A team in which an objective went from bob to cat, who has done it; each has made a call before and one meanwhile.
fn worked() -> (Rig, String, String) {
    let rig = Rig::new();
    let cat = rig.add("cat", &[]);
    let upload = |name: &str, token: &str, ts: u64, model: &str| {
        let body = json!({"events": [call(ts, model)]});
        assert_eq!(rig.ask("POST", &format!("/members/{name}/activity"), token, &body).status, 201);
    };
    upload("bob", &rig.bob, 1000, "claude-sonnet-4-5");
    upload("cat", &cat, 1000, "new");
    let new = json!({"title": "t", "outcome": "o", "assignee": "bob"});
    let made = rig.ask("POST", "/objectives", &rig.ann, &new).json();
    let id = made["id"].as_str().unwrap().to_string();
    // In the middle of a tenure: its ends are stamped by the same clock.
    let now = made["createdAt"].as_u64().unwrap();
    upload("bob", &rig.bob, now, "claude-sonnet-4-5");
    let moved =
        rig.ask("POST", &format!("/objectives/{id}/reassign"), &rig.ann, &json!({"to": "cat"})).json();
    upload("cat", &cat, moved["updatedAt"].as_u64().unwrap(), "new");
    let done = rig.ask("POST", &format!("/objectives/{id}/complete"), &cat, &json!({"result": "r"}));
    assert_eq!(done.status, 200);
    upload("cat", &cat, done.json()["completedAt"].as_u64().unwrap() + 1000, "new");
    (rig, cat, id)
}

fn who(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", reply.error());
    let rows = reply.json()["activity"].as_array().unwrap().clone();
    rows.iter().map(|row| row["memberName"].as_str().unwrap().to_string()).collect()
}

#[test]
fn an_objective_has_the_traces_of_everybody_who_had_it() {
    let (rig, cat, id) = worked();
    let path = format!("/objectives/{id}/activity");
    assert_eq!(who(&rig.get(&path)), ["cat", "bob"], "newest first");
    assert_eq!(who(&rig.get(&format!("{path}?limit=1"))), ["cat"]);
    let next = rig.get(&format!("{path}?limit=1")).json()["next"].as_str().unwrap().to_string();
    assert_eq!(who(&rig.get(&format!("{path}?limit=1&cursor={next}"))), ["bob"]);
    assert_eq!(who(&rig.get(&format!("{path}?model=claude*"))), ["bob"]);
    assert_eq!(who(&rig.call("GET", &path, &cat, "")), ["cat"], "without activity.read one's own part");
    assert_eq!(who(&rig.call("GET", &path, &rig.bob, "")), ["bob"]);
    let dan = rig.add("dan", &[]);
    assert!(who(&rig.call("GET", &path, &dan, "")).is_empty());
    assert_eq!(rig.call("GET", &path, "", "").status, 401);
    assert_eq!(rig.get("/objectives/none/activity").status, 404);
    assert_eq!(rig.get(&format!("{path}?kind=all")).status, 400);
}

#[test]
fn usage_is_summed_for_those_who_may_read_it() {
    let (rig, cat, id) = worked();
    let usage = |token: &str, query: &str| {
        let reply = rig.call("GET", &format!("/usage?{query}"), token, "");
        (reply.status, reply.json())
    };
    let rows = |report: &Value, by: &str| -> Vec<(String, u64)> {
        let row = |r: &Value| (r[by].as_str().unwrap().to_string(), r["calls"].as_u64().unwrap());
        report["rows"].as_array().unwrap().iter().map(row).collect()
    };
    let named = |name: &str, calls| (name.to_string(), calls);
    let (_, report) = usage(&rig.ann, "by=member");
    assert_eq!(rows(&report, "member"), [named("bob", 2), named("cat", 3)]);
    assert_eq!((&report["total"]["cost"], &report["total"]["unpricedCalls"]), (&json!(6.0), &json!(3)));
    let (_, report) = usage(&rig.ann, "by=objective");
    assert_eq!(rows(&report, "objective"), [(id.clone(), 2)]);
    assert_eq!(report["total"]["calls"], 5);
    let (_, report) = usage(&rig.ann, &format!("by=model&objective={id}"));
    assert_eq!(rows(&report, "model"), [named("claude-sonnet-4-5", 1), named("new", 1)]);
    let (_, report) = usage(&rig.ann, "member=cat&to=2000");
    assert_eq!(rows(&report, "model"), [named("new", 1)]);
    // By what a list can be filtered, sums can be too.
    for (query, calls) in [("tool=Bash", 0), ("status=error", 0), ("status=2xx", 5), ("session=s", 0)] {
        assert_eq!(usage(&rig.ann, query).1["total"]["calls"], calls, "{query}");
    }
    // Others see themselves.
    let (_, report) = usage(&cat, "by=member");
    assert_eq!(rows(&report, "member"), [named("cat", 3)]);
    let (_, report) = usage(&cat, "by=objective");
    assert_eq!(rows(&report, "objective"), [(id, 1)]);
    assert_eq!(usage(&cat, "member=cat").0, 200);
    for (token, query, status, want) in [
        (&cat, "member=bob", 403, "reading another member's usage requires the activity.read permission"),
        (&rig.ann, "by=hour", 400, "by is not one of member, model, day, objective"),
        (&rig.ann, "status=y", 400, "status is not 429, 4xx, 400-499 or error"),
        (&rig.ann, "from=x", 400, "from is not a time in ms since the epoch"),
        (&rig.ann, "objective=none", 404, "there is no objective none"),
        (&String::new(), "", 401, "a valid bearer token or session is required"),
    ] {
        let (found, said) = usage(token, query);
        assert_eq!((found, said["error"].as_str().unwrap()), (status, want), "{query}");
    }
}

#[test]
fn the_team_s_own_prices_count_after_a_reload() {
    let (rig, ..) = worked();
    let table = r#"{"date": "2026-11-01", "models": {"new": {"input": 2, "output": 2}}}"#;
    std::fs::write(rig.folder.join("prices.json"), table).unwrap();
    let reload = rig.call("POST", "/reload", &rig.ann, "");
    assert_eq!(reload.json()["applied"], json!(["prices"]));
    let report = rig.get("/usage?by=model").json();
    assert_eq!((&report["prices"]["date"], &report["rows"][1]["cost"]), (&json!("2026-11-01"), &json!(6.0)));
    assert_eq!(report["unpricedModels"], json!(["claude-sonnet-4-5"]));
    std::fs::write(rig.folder.join("prices.json"), "{").unwrap();
    assert_eq!(rig.call("POST", "/reload", &rig.ann, "").status, 422);
    assert_eq!(rig.get("/usage").json()["prices"]["date"], "2026-11-01", "the old table stays");
}

#[test]
fn an_objective_is_exported_with_the_calls_of_everybody_who_had_it() {
    let (rig, cat, id) = worked();
    let home = support::ac7!();
    let export = |token: &str, form: &str, more: &[&str]| {
        let url = format!("http://{}", rig.address());
        let mut command = home.ac7(["export", form, "-", "--url", &url]);
        command.env("AC7_TOKEN", token).args(more);
        let done = Finished::from(&command.output().unwrap());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout
    };
    let who = |text: &str| -> Vec<String> {
        let name = |row: &Value| row["memberName"].as_str().unwrap().to_string();
        json_lines(text).iter().map(name).collect()
    };
    let of_objective = ["--objective", id.as_str()];
    assert_eq!(who(&export(&rig.ann, "--jsonl", &of_objective)), ["bob", "cat"], "in the order of time");
    assert_eq!(who(&export(&cat, "--jsonl", &of_objective)), ["cat"]);
    assert_eq!(who(&export(&cat, "--jsonl", &[])), ["cat", "cat", "cat"], "without an objective one's own");
    assert_eq!(who(&export(&rig.ann, "--jsonl", &["--member", "bob"])), ["bob", "bob"]);
    let har: Value = serde_json::from_str(&export(&rig.ann, "--har", &of_objective)).unwrap();
    assert_eq!(har["log"]["entries"].as_array().unwrap().len(), 2);
    let page = export(&rig.ann, "--html", &of_objective);
    let data = page.split_once("id=\"data\">").unwrap().1.split_once("</script>").unwrap().0;
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["rows"][0]["event"]["brief"]["cost"], 3.0, "by the broker's prices");
    assert_eq!(data["rows"][1]["memberName"], "cat");
}
