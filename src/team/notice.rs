//! What the broker tells about an objective: to whom, and in which words.
use std::fmt::Write;

use serde_json::json;

use super::message::{Level, Post};
use super::objective::{EventKind, Objective, ObjectiveEvent, thread_data};

/// Who belongs to an objective's thread, each once: originator, assignee, watchers, and `managers`, who see everything.
/// Where somebody leaves by `event`, they too.
#[must_use]
pub fn audience(objective: &Objective, event: Option<&ObjectiveEvent>, managers: &[String]) -> Vec<String> {
    let leaving = event.and_then(|event| match event.kind {
        EventKind::Reassigned => event.text("from"),
        EventKind::WatcherRemoved => event.text("name"),
        _ => None,
    });
    let parts = [objective.originator.as_str(), &objective.assignee];
    let all = parts.into_iter().chain(objective.watchers.iter().map(String::as_str)).chain(leaving);
    let mut out: Vec<String> = Vec::new();
    for name in all.chain(managers.iter().map(String::as_str)) {
        if !out.iter().any(|known| known == name) {
            out.push(name.to_string());
        }
    }
    out
}

/// The message about an event: a heading, then a line for each fact, aligned.
#[must_use]
pub fn of_event(objective: &Objective, event: &ObjectiveEvent) -> Post {
    let kind = event.kind.name();
    let mut data = thread_data(objective, "objective", &event.actor);
    data.insert("event".to_string(), json!(kind));
    let facts: Vec<(&str, &str)> = facts(objective, event);
    let width = facts.iter().map(|(name, _)| name.len() + 1).max().unwrap_or_default();
    let mut body = format!("[objective {kind}] {}", objective.id);
    for (name, text) in facts {
        let _ = write!(body, "\n{:<width$} {text}", format!("{name}:"));
    }
    Post { to: None, title: None, body, level: Level::Info, data, attachments: Vec::new() }
}

fn facts<'a>(objective: &'a Objective, event: &'a ObjectiveEvent) -> Vec<(&'static str, &'a str)> {
    let said = |name: &'static str| event.text(name).filter(|text| !text.is_empty()).map(|text| (name, text));
    let outcome = ("outcome", objective.outcome.as_str());
    let assignee = ("assignee", objective.assignee.as_str());
    let status = ("status", objective.status.name());
    let mut out = vec![("title", objective.title.as_str())];
    match event.kind {
        EventKind::Assigned => {
            out.extend([outcome, assignee, ("originator", &objective.originator), status]);
            out.extend((!objective.body.is_empty()).then_some(("body", objective.body.as_str())));
        }
        EventKind::Blocked | EventKind::Cancelled => {
            out.extend([Some(assignee), said("reason")].into_iter().flatten());
        }
        EventKind::Unblocked => out.extend([assignee, status]),
        EventKind::Completed => {
            out.extend([Some(outcome), Some(assignee), said("result")].into_iter().flatten());
        }
        EventKind::Reassigned => {
            out.push(outcome);
            out.extend([said("from"), said("to"), said("note")].into_iter().flatten());
            out.push(status);
        }
        EventKind::WatcherAdded => {
            out.push(outcome);
            out.extend(event.text("name").map(|name| ("watcher", name)));
            out.push(status);
        }
        EventKind::WatcherRemoved => out.extend(event.text("name").map(|name| ("watcher", name))),
    }
    out
}

/// What somebody said about an objective, as it goes to those who belong to it.
#[must_use]
pub fn of_discussion(objective: &Objective, actor: &str, post: Post) -> Post {
    Post { data: thread_data(objective, "objective_discuss", actor), ..post }
}

#[cfg(test)]
mod tests {
    use super::super::lifecycle::{begin, transition};
    use super::super::objective::{Action, NewObjective};
    use super::*;

    fn objective() -> (Objective, Vec<ObjectiveEvent>) {
        let new = NewObjective {
            title: "Ship it".into(),
            outcome: "It is out".into(),
            assignee: "bob".into(),
            body: "Soon.".into(),
            watchers: vec!["dan".into()],
            attachments: Vec::new(),
        };
        begin(new, "obj-1".into(), "ann", 1)
    }

    #[test]
    fn a_notice_has_a_heading_and_aligned_facts() {
        let (objective, events) = objective();
        let assigned = of_event(&objective, &events[0]);
        assert_eq!(
            assigned.body,
            "[objective assigned] obj-1\n\
             title:      Ship it\n\
             outcome:    It is out\n\
             assignee:   bob\n\
             originator: ann\n\
             status:     active\n\
             body:       Soon."
        );
        assert_eq!(
            serde_json::Value::Object(assigned.data),
            json!({"kind": "objective", "actor": "ann", "objective_id": "obj-1", "objective_status": "active",
                   "thread": "obj:obj-1", "event": "assigned"})
        );
        let mut bodies = Vec::new();
        for action in [
            Action::Block { reason: "no key".into() },
            Action::Cancel { reason: None },
            Action::Complete { result: "out".into() },
            Action::Reassign { to: "cat".into(), note: Some("she knows".into()) },
            Action::Watch { add: vec!["eve".into()], remove: vec!["dan".into()] },
        ] {
            let (next, events) = transition(&objective, action, "bob", 2).unwrap();
            bodies.extend(events.iter().map(|event| of_event(&next, event).body));
        }
        for (body, want) in bodies.iter().zip([
            "[objective blocked] obj-1\ntitle:    Ship it\nassignee: bob\nreason:   no key",
            "[objective cancelled] obj-1\ntitle:    Ship it\nassignee: bob",
            "[objective completed] obj-1\ntitle:    Ship it\noutcome:  It is out\nassignee: bob\nresult:   out",
            "[objective reassigned] obj-1\ntitle:   Ship it\noutcome: It is out\nfrom:    bob\nto:      cat\n\
             note:    she knows\nstatus:  active",
            "[objective watcher_added] obj-1\ntitle:   Ship it\noutcome: It is out\nwatcher: eve\nstatus:  active",
            "[objective watcher_removed] obj-1\ntitle:   Ship it\nwatcher: dan",
        ]) {
            assert_eq!(body, want);
        }
        assert_eq!(bodies.len(), 6);
    }

    #[test]
    fn everybody_concerned_is_told_once() {
        let (objective, _) = objective();
        let managers = ["ann".to_string(), "max".to_string()];
        assert_eq!(audience(&objective, None, &managers), ["ann", "bob", "dan", "max"]);
        let after = |action| {
            let (next, events) = transition(&objective, action, "ann", 2).unwrap();
            audience(&next, events.last(), &managers)
        };
        assert_eq!(
            after(Action::Reassign { to: "cat".into(), note: None }),
            ["ann", "cat", "dan", "bob", "max"]
        );
        let remove = vec!["dan".into()];
        assert_eq!(after(Action::Watch { add: Vec::new(), remove }), ["ann", "bob", "dan", "max"]);
        assert_eq!(after(Action::Unblock), ["ann", "bob", "dan", "max"]);
    }
}
