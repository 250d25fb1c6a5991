//! Who had an objective, and when: what activity belongs to it follows from this.
use super::objective::{EventKind, Objective, ObjectiveEvent};

/// A time in which a member had an objective, in ms since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenure {
    pub member: String,
    pub from: u64,
    /// `None` while it goes on.
    pub to: Option<u64>,
}

/// The tenures of an objective, in order, from everything that happened to it, in order.
#[must_use]
pub fn tenures(objective: &Objective, events: &[ObjectiveEvent]) -> Vec<Tenure> {
    let moves = || events.iter().filter(|event| event.kind == EventKind::Reassigned);
    let first = moves().next().and_then(|event| event.text("from")).unwrap_or(&objective.assignee);
    let mut tenures = vec![Tenure { member: first.to_string(), from: objective.created_at, to: None }];
    for event in events {
        let Some(last) = tenures.last_mut() else { continue };
        match event.kind {
            EventKind::Reassigned => {
                last.to = Some(event.ts);
                let member = event.text("to").unwrap_or_default().to_string();
                tenures.push(Tenure { member, from: event.ts, to: None });
            }
            EventKind::Completed | EventKind::Cancelled => last.to = Some(event.ts),
            _ => {}
        }
    }
    tenures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_reassignment_ends_one_and_begins_another() {
        let objective = Objective::from_json(&json!({
            "id": "o", "title": "t", "body": "", "outcome": "o", "status": "active", "assignee": "cat",
            "originator": "ann", "watchers": [], "createdAt": 10, "updatedAt": 10, "completedAt": null,
            "result": null, "blockReason": null, "attachments": [],
        }))
        .unwrap();
        let event = |ts: u64, kind: &str, payload| {
            ObjectiveEvent::from_json(
                &json!({"objectiveId": "o", "ts": ts, "actor": "ann", "kind": kind, "payload": payload}),
            )
            .unwrap()
        };
        let tenure = |member: &str, from, to| Tenure { member: member.into(), from, to };
        let begun = event(10, "assigned", json!({}));
        let blocked = event(15, "blocked", json!({"reason": "r"}));
        let moved = event(20, "reassigned", json!({"from": "bob", "to": "cat"}));
        let done = event(30, "completed", json!({"result": "r"}));
        for (events, want) in [
            (vec![begun.clone(), blocked.clone()], vec![tenure("cat", 10, None)]),
            (vec![begun.clone(), done.clone()], vec![tenure("cat", 10, Some(30))]),
            (
                vec![begun, blocked, moved, done],
                vec![tenure("bob", 10, Some(20)), tenure("cat", 20, Some(30))],
            ),
        ] {
            assert_eq!(tenures(&objective, &events), want);
        }
    }
}
