//! What an action makes of an objective, whoever may do it: the one place that knows which way an objective can go.
//!
//! | from | to | by |
//! |---|---|---|
//! | active | blocked, with a reason | block |
//! | blocked | blocked, for another reason | block |
//! | blocked | active | unblock |
//! | active, blocked | done, with a result | complete |
//! | active, blocked | cancelled | cancel |
//!
//! Done and cancelled are the end. While it is open an objective may get another assignee and other watchers.
use std::fmt;

use serde_json::{Map, Value, json};

use super::objective::{Action, EventKind, NewObjective, Objective, ObjectiveEvent, Status};

/// An action that the state of the objective does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: Status,
    /// What was tried, as in "it cannot be …".
    tried: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the objective is {}: it cannot be {}", self.status.name(), self.tried)
    }
}

/// The objective that begins, and what happens by it. The watchers that it names are those who do not take part anyhow.
#[must_use]
pub fn begin(
    new: NewObjective,
    id: String,
    originator: &str,
    now_ms: u64,
) -> (Objective, Vec<ObjectiveEvent>) {
    let mut watchers: Vec<String> = Vec::new();
    for name in new.watchers {
        if name != originator && name != new.assignee && !watchers.contains(&name) {
            watchers.push(name);
        }
    }
    let objective = Objective {
        id,
        title: new.title,
        body: new.body,
        outcome: new.outcome,
        status: Status::Active,
        assignee: new.assignee,
        originator: originator.to_string(),
        watchers,
        created_at: now_ms,
        updated_at: now_ms,
        completed_at: None,
        result: None,
        block_reason: None,
        attachments: new.attachments,
    };
    let mut assigned = payload([
        ("title", &objective.title),
        ("outcome", &objective.outcome),
        ("assignee", &objective.assignee),
    ]);
    if !objective.watchers.is_empty() {
        assigned.insert("watchers".to_string(), json!(objective.watchers));
    }
    let watching = objective.watchers.iter().map(|name| (EventKind::WatcherAdded, payload([("name", name)])));
    let happened = [(EventKind::Assigned, assigned)].into_iter().chain(watching).collect();
    let events = events(&objective, originator, now_ms, happened);
    (objective, events)
}

/// What becomes of an objective, and what happens by it: nothing where it is so already.
///
/// # Errors
/// [`Refused`]: it cannot go that way.
pub fn transition(
    objective: &Objective,
    action: Action,
    actor: &str,
    now_ms: u64,
) -> Result<(Objective, Vec<ObjectiveEvent>), Refused> {
    let tried = match action {
        Action::Block { .. } => "blocked",
        Action::Unblock => "unblocked",
        Action::Complete { .. } => "completed",
        Action::Cancel { .. } => "cancelled",
        Action::Reassign { .. } => "reassigned",
        Action::Watch { .. } => "given other watchers",
    };
    if !objective.status.is_open() {
        return Err(Refused { status: objective.status, tried });
    }
    let mut next = objective.clone();
    let happened = match action {
        Action::Block { reason } if next.block_reason.as_ref() == Some(&reason) => Vec::new(),
        Action::Block { reason } => {
            next.status = Status::Blocked;
            let event = (EventKind::Blocked, payload([("reason", &reason)]));
            next.block_reason = Some(reason);
            vec![event]
        }
        Action::Unblock if next.status == Status::Active => Vec::new(),
        Action::Unblock => {
            next.status = Status::Active;
            next.block_reason = None;
            vec![(EventKind::Unblocked, Map::new())]
        }
        Action::Complete { result } => {
            next.status = Status::Done;
            next.block_reason = None;
            next.completed_at = Some(now_ms);
            let event = (EventKind::Completed, payload([("result", &result)]));
            next.result = Some(result);
            vec![event]
        }
        Action::Cancel { reason } => {
            next.status = Status::Cancelled;
            next.block_reason = None;
            vec![(EventKind::Cancelled, payload(reason.iter().map(|reason| ("reason", reason))))]
        }
        Action::Reassign { to, .. } if to == next.assignee => Vec::new(),
        Action::Reassign { to, note } => {
            let from = std::mem::replace(&mut next.assignee, to);
            let names = [("from", &from), ("to", &next.assignee)];
            let said = note.iter().map(|note| ("note", note));
            vec![(EventKind::Reassigned, payload(names.into_iter().chain(said)))]
        }
        Action::Watch { add, remove } => watch(&mut next, add, &remove),
    };
    if !happened.is_empty() {
        next.updated_at = now_ms;
    }
    let events = events(&next, actor, now_ms, happened);
    Ok((next, events))
}

/// Those who take part anyhow are not listed as watchers.
fn watch(objective: &mut Objective, add: Vec<String>, remove: &[String]) -> Vec<Happened> {
    let mut happened = Vec::new();
    for name in add {
        if !objective.involves(&name) && !remove.contains(&name) {
            happened.push((EventKind::WatcherAdded, payload([("name", &name)])));
            objective.watchers.push(name);
        }
    }
    for name in remove {
        let before = objective.watchers.len();
        objective.watchers.retain(|watcher| watcher != name);
        if objective.watchers.len() < before {
            happened.push((EventKind::WatcherRemoved, payload([("name", name)])));
        }
    }
    happened
}

type Happened = (EventKind, Map<String, Value>);

fn payload<'a>(fields: impl IntoIterator<Item = (&'static str, &'a String)>) -> Map<String, Value> {
    fields.into_iter().map(|(name, text)| (name.to_string(), json!(text))).collect()
}

fn events(objective: &Objective, actor: &str, ts: u64, happened: Vec<Happened>) -> Vec<ObjectiveEvent> {
    let event = |(kind, payload)| {
        let (objective_id, actor) = (objective.id.clone(), actor.to_string());
        ObjectiveEvent { objective_id, ts, actor, kind, payload }
    };
    happened.into_iter().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(watchers: &[&str]) -> NewObjective {
        NewObjective {
            title: "T".into(),
            outcome: "O".into(),
            assignee: "bob".into(),
            body: "B".into(),
            watchers: watchers.iter().map(|w| (*w).to_string()).collect(),
            attachments: Vec::new(),
        }
    }

    fn in_state(status: Status) -> Objective {
        let (mut objective, _) = begin(new(&["dan"]), "o".into(), "ann", 1);
        objective.status = status;
        objective.block_reason = (status == Status::Blocked).then(|| "r".into());
        objective.completed_at = (status == Status::Done).then_some(1);
        objective.result = (status == Status::Done).then(|| "R".into());
        objective
    }

    fn actions() -> Vec<(Action, &'static str)> {
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
        vec![
            (Action::Block { reason: "why".into() }, "blocked"),
            (Action::Unblock, "unblocked"),
            (Action::Complete { result: "there".into() }, "completed"),
            (Action::Cancel { reason: Some("no".into()) }, "cancelled"),
            (Action::Reassign { to: "cat".into(), note: Some("n".into()) }, "reassigned"),
            (Action::Watch { add: names(&["eve"]), remove: names(&["dan"]) }, "given other watchers"),
        ]
    }

    #[test]
    fn every_action_in_every_state() {
        use Status::{Active, Blocked, Cancelled, Done};
        // What each action makes of an objective that is active, and of one that is blocked.
        let wants = [
            (Blocked, Blocked, &["blocked"][..], &["blocked"][..]),
            (Active, Active, &[], &["unblocked"]),
            (Done, Done, &["completed"], &["completed"]),
            (Cancelled, Cancelled, &["cancelled"], &["cancelled"]),
            (Active, Blocked, &["reassigned"], &["reassigned"]),
            (Active, Blocked, &["watcher_added", "watcher_removed"], &["watcher_added", "watcher_removed"]),
        ];
        for ((action, tried), (of_active, of_blocked, from_active, from_blocked)) in
            actions().into_iter().zip(wants)
        {
            for (status, want, kinds) in
                [(Active, of_active, from_active), (Blocked, of_blocked, from_blocked)]
            {
                let (next, events) = transition(&in_state(status), action.clone(), "eve", 9).unwrap();
                assert_eq!(next.status, want, "{tried} while {status:?}");
                assert_eq!(events.iter().map(|e| e.kind.name()).collect::<Vec<_>>(), kinds, "{tried}");
                assert_eq!(next.updated_at, if kinds.is_empty() { 1 } else { 9 });
                assert_eq!(next.block_reason.is_some(), next.status == Blocked, "{tried}");
                assert_eq!(next.result.is_some(), next.status == Done, "{tried}");
                assert_eq!(next.completed_at.is_some(), next.status == Done, "{tried}");
                assert!(events.iter().all(|e| e.actor == "eve" && e.ts == 9 && e.objective_id == "o"));
            }
            for status in [Done, Cancelled] {
                let refused = transition(&in_state(status), action.clone(), "eve", 9).unwrap_err();
                let want = format!("the objective is {}: it cannot be {tried}", status.name());
                assert_eq!(refused.to_string(), want);
            }
        }
    }

    #[test]
    fn events_say_what_changed() {
        let payloads = |events: &[ObjectiveEvent]| {
            events.iter().map(|e| Value::Object(e.payload.clone())).collect::<Vec<_>>()
        };
        let (objective, events) = begin(new(&["dan", "ann", "bob", "dan", "eve"]), "o".into(), "ann", 1);
        assert_eq!(objective.watchers, ["dan", "eve"]);
        assert_eq!(
            payloads(&events),
            [
                json!({"title": "T", "outcome": "O", "assignee": "bob", "watchers": ["dan", "eve"]}),
                json!({"name": "dan"}),
                json!({"name": "eve"}),
            ]
        );
        assert_eq!(begin(new(&[]), "o".into(), "ann", 1).1[0].payload.get("watchers"), None);
        let wants = [
            json!({"reason": "why"}),
            json!({}),
            json!({"result": "there"}),
            json!({"reason": "no"}),
            json!({"from": "bob", "to": "cat", "note": "n"}),
            json!({"name": "eve"}),
        ];
        for ((action, tried), want) in actions().into_iter().zip(wants) {
            let (_, events) = transition(&in_state(Status::Blocked), action, "eve", 9).unwrap();
            assert_eq!(payloads(&events)[0], want, "{tried}");
        }
    }

    #[test]
    fn what_is_so_already_happens_not() {
        let still = |status, action: Action| {
            let before = in_state(status);
            assert_eq!(
                transition(&before, action.clone(), "eve", 9).unwrap(),
                (before, Vec::new()),
                "{action:?}"
            );
        };
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
        still(Status::Blocked, Action::Block { reason: "r".into() });
        still(Status::Active, Action::Unblock);
        still(Status::Active, Action::Reassign { to: "bob".into(), note: None });
        let add = names(&["ann", "bob", "dan", "zed"]);
        still(Status::Active, Action::Watch { add, remove: names(&["zed", "eve"]) });
    }
}
