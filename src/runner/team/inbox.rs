//! Messages that the model has not seen yet, and the ways in which it gets to see them.
//!
//! The channel's notification may be switched off from outside, so the agent's hooks hand over what has not been seen,
//! and the tool `recent` does. A message has been seen when its id is in a model call that was captured, or when a hook
//! or the tool has handed it over: then it is not handed over again.
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::channel;
use crate::activity::{Event, What};
use crate::mcp::tools;
use crate::runner::under_way::UnderWay;
use crate::sys::log::Log;
use crate::team::{Level, Message};

/// Messages kept; of more the oldest are left to the tool `recent`.
const MOST: usize = 200;
/// Ids of seen messages that are remembered, for a stream that sends some again after it broke.
const REMEMBERED: usize = 1000;
/// Characters that a hook hands over at once: of more than 10 000 Claude Code shows the model a part.
const MOST_TEXT: usize = 9000;
/// The call that a hook follows may not have been looked at yet, and have the message in it.
const LOOK_FIRST: Duration = Duration::from_millis(300);
/// Where the channel is known to work, a message has this long to come through it.
const CHANNEL_FIRST: Duration = Duration::from_secs(30);

/// The messages of one session.
pub struct Inbox {
    state: Mutex<State>,
    /// How many model calls are under way; `None` where nothing is captured.
    under_way: Option<Arc<UnderWay>>,
    log: Arc<Log>,
}

#[derive(Default)]
struct State {
    unseen: VecDeque<(Instant, Message)>,
    seen: VecDeque<String>,
    ids: HashSet<String>,
    /// Whether a message has been seen that nobody but the channel can have brought.
    channel_works: bool,
}

impl Inbox {
    #[must_use]
    pub fn new(under_way: Option<Arc<UnderWay>>, log: Arc<Log>) -> Inbox {
        Inbox { state: Mutex::default(), under_way, log }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take one in. False for one that was here before.
    pub fn put(&self, message: &Message) -> bool {
        let mut state = self.lock();
        if !state.ids.insert(message.id.clone()) {
            return false;
        }
        state.unseen.push_back((Instant::now(), message.clone()));
        let full = state.unseen.len() > MOST;
        let oldest = if full { state.unseen.pop_front() } else { None };
        if let Some((_, oldest)) = oldest {
            state.forget(oldest.id.clone());
            drop(state);
            self.tell("message left to recent", &[oldest.id], "inbox");
        }
        true
    }

    /// Look for messages in a captured model call.
    pub fn look(&self, event: &Event, json: &str) {
        if !matches!(event.what, What::Llm { .. }) {
            return;
        }
        let mut state = self.lock();
        let found: Vec<String> =
            state.unseen.iter().map(|(_, m)| m.id.clone()).filter(|id| json.contains(id.as_str())).collect();
        state.channel_works |= !found.is_empty();
        state.take(|message| found.contains(&message.id));
        drop(state);
        self.tell("message seen", &found, "trace");
    }

    /// What the hook for `event` is to print.
    pub fn hook(&self, event: &str, input: &Value) -> Option<String> {
        let stop = match event {
            "UserPromptSubmit" => false,
            // Blocked once already: the agent would never come to rest while messages come.
            "Stop" if input["stop_hook_active"] == true => return None,
            "Stop" => true,
            _ => return None,
        };
        if !self.lock().is_due(stop) {
            return None;
        }
        if let Some(under_way) = &self.under_way {
            under_way.rest(LOOK_FIRST);
        }
        let mut state = self.lock();
        if !state.is_due(stop) {
            return None;
        }
        let (text, ids) = state.hand_over();
        drop(state);
        self.tell("message seen", &ids, event);
        Some(if stop { json!({"decision": "block", "reason": text}).to_string() } else { text })
    }

    /// A turn of the agent has taken these.
    pub fn taken(&self, ids: &[String]) {
        self.lock().take(|message| ids.contains(&message.id));
        self.tell("message seen", ids, "turn");
    }

    fn tell(&self, what: &str, ids: &[String], by: &str) {
        for id in ids {
            self.log.line(what, &[("id", json!(id)), ("by", json!(by))]);
        }
    }
}

impl tools::Inbox for Inbox {
    fn seen(&self, ids: &[&str]) {
        let mut state = self.lock();
        let taken = state.take(|message| ids.contains(&message.id.as_str()));
        drop(state);
        let taken: Vec<String> = taken.into_iter().map(|m| m.id).collect();
        self.tell("message seen", &taken, "recent");
    }
}

impl State {
    /// Take messages out of those that have not been seen.
    fn take(&mut self, which: impl Fn(&Message) -> bool) -> Vec<Message> {
        let (taken, left): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.unseen).into_iter().partition(|(_, message)| which(message));
        self.unseen = left;
        let taken: Vec<Message> = taken.into_iter().map(|(_, message)| message).collect();
        taken.iter().for_each(|message| self.forget(message.id.clone()));
        taken
    }

    /// Remember the id alone, and not for ever.
    fn forget(&mut self, id: String) {
        self.seen.push_back(id);
        if self.seen.len() > REMEMBERED
            && let Some(oldest) = self.seen.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Whether this may still come through the channel.
    fn is_on_its_way(&self, since: Instant) -> bool {
        self.channel_works && since.elapsed() < CHANNEL_FIRST
    }

    /// Whether a hook has something to hand over. The end of the agent's turn is held up only for what matters.
    fn is_due(&self, stop: bool) -> bool {
        let matters = |m: &Message| {
            let objective =
                m.data.get("kind").and_then(Value::as_str).is_some_and(|k| k.starts_with("objective"));
            m.level > Level::Info || m.to.is_some() || objective
        };
        self.unseen.iter().any(|(since, m)| !self.is_on_its_way(*since) && (!stop || matters(m)))
    }

    /// As many messages as one hook can carry, the oldest first.
    fn hand_over(&mut self) -> (String, Vec<String>) {
        let mut out = String::from("Messages from your team that you have not seen yet:");
        let mut ids = Vec::new();
        for (since, message) in &self.unseen {
            if self.is_on_its_way(*since) {
                continue;
            }
            let mut text = channel::text(message);
            let room = MOST_TEXT.saturating_sub(out.chars().count());
            if text.chars().count() > room {
                if !ids.is_empty() {
                    break;
                }
                let body: String = message.body.chars().take(MOST_TEXT / 2).collect();
                text = channel::text_of(message, &format!("{body} [cut: the tool recent has all of it]"));
            }
            out.push('\n');
            out.push_str(&text);
            ids.push(message.id.clone());
        }
        self.take(|message| ids.contains(&message.id));
        let left = self.unseen.len();
        if left > 0 {
            out.push_str(&format!("\n{left} more wait; the tool recent has them."));
        }
        (out, ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::LlmEntry;
    use crate::mcp::tools::Inbox as _;
    use crate::runner::under_way::Counter;

    fn inbox() -> Inbox {
        Inbox::new(None, Arc::new(Log::default()))
    }

    fn message(id: &str, more: &Value) -> Message {
        let mut value = json!({"id": id, "ts": 1, "to": null, "from": "bob", "title": null,
            "body": format!("body of {id}"), "level": "info", "data": {}, "attachments": []});
        for (name, field) in more.as_object().unwrap() {
            value[name] = field.clone();
        }
        Message::from_json(&value).unwrap()
    }

    fn call() -> Event {
        Event::llm(LlmEntry {
            provider: crate::activity::Provider::Anthropic,
            started_at: 0,
            ended_at: 0,
            request: crate::activity::LlmRequest::default(),
            response: None,
            about: crate::activity::About::default(),
        })
    }

    #[test]
    fn a_prompt_brings_everything_once() {
        let inbox = inbox();
        assert_eq!(inbox.hook("UserPromptSubmit", &json!({})), None);
        assert!(inbox.put(&message("m1", &json!({}))) && inbox.put(&message("m2", &json!({}))));
        let text = inbox.hook("UserPromptSubmit", &json!({})).unwrap();
        assert!(text.contains("body of m1") && text.contains("msg_id=\"m2\""), "{text}");
        assert_eq!(inbox.hook("UserPromptSubmit", &json!({})), None);
        assert!(!inbox.put(&message("m1", &json!({}))), "a stream may send it again");
        assert_eq!(inbox.hook("UserPromptSubmit", &json!({})), None);
        inbox.put(&message("m3", &json!({})));
        assert_eq!(inbox.hook("SessionStart", &json!({})), None);
    }

    #[test]
    fn the_end_of_a_turn_is_held_up_only_for_what_matters() {
        for (more, input, want) in [
            (json!({}), json!({}), false),
            (json!({"level": "debug"}), json!({}), false),
            (json!({"data": {"thread": "chan:1"}}), json!({}), false),
            (json!({"level": "notice"}), json!({}), true),
            (json!({"level": "critical"}), json!({"stop_hook_active": false}), true),
            (json!({"to": "ann"}), json!({}), true),
            (json!({"data": {"kind": "objective"}}), json!({}), true),
            (json!({"data": {"kind": "objective_discuss"}}), json!({}), true),
            (json!({"to": "ann"}), json!({"stop_hook_active": true}), false),
        ] {
            let inbox = inbox();
            inbox.put(&message("m1", &more));
            let output = inbox.hook("Stop", &input);
            assert_eq!(output.is_some(), want, "{more} {input}");
            if let Some(output) = output {
                let output: Value = serde_json::from_str(&output).unwrap();
                assert_eq!(output["decision"], "block");
                assert!(output["reason"].as_str().unwrap().contains("body of m1"));
                assert_eq!(inbox.hook("Stop", &json!({})), None);
            } else {
                assert!(inbox.hook("UserPromptSubmit", &json!({})).is_some(), "it waits for the next prompt");
            }
        }
    }

    #[test]
    fn what_the_trace_or_the_tool_has_shown_is_not_handed_over() {
        let inbox = inbox();
        for id in ["m1", "m2", "m3"] {
            inbox.put(&message(id, &json!({"to": "ann"})));
        }
        inbox.seen(&["m3", "other"]);
        inbox.look(&call(), r#"{"text":"<channel msg_id=\"m1\">"}"#);
        inbox.look(&Event { ts: 0, what: What::ObjectiveOpen { objective_id: "m2".into() } }, "m2");
        assert_eq!(inbox.hook("Stop", &json!({})), None, "the channel works, so it is given time");
        inbox.lock().channel_works = false;
        let output = inbox.hook("Stop", &json!({})).unwrap();
        assert!(output.contains("m2") && !output.contains("m1") && !output.contains("m3"), "{output}");
    }

    #[test]
    fn a_hook_waits_for_the_call_before_it() {
        let under_way = Arc::new(UnderWay::default());
        let counter = Counter::new(under_way.clone());
        counter.set(1);
        let inbox = Arc::new(Inbox::new(Some(under_way.clone()), Arc::new(Log::default())));
        inbox.put(&message("m1", &json!({"to": "ann"})));
        let (asking, hook) = (inbox.clone(), std::sync::mpsc::channel());
        let asked = std::thread::spawn(move || {
            hook.0.send(()).unwrap();
            asking.hook("Stop", &json!({}))
        });
        hook.1.recv().unwrap();
        inbox.look(&call(), "m1");
        drop(counter);
        assert_eq!(asked.join().unwrap(), None);
    }

    #[test]
    fn long_and_many_messages_come_in_pieces() {
        let inbox = inbox();
        inbox.put(&message("long", &json!({"body": "é".repeat(60_000)})));
        for n in 0..3 {
            inbox.put(&message(&format!("m{n}"), &json!({"body": "x".repeat(4000)})));
        }
        let mut seen = Vec::new();
        while let Some(text) = inbox.hook("UserPromptSubmit", &json!({})) {
            assert!(text.chars().count() < 10_000, "{}", text.chars().count());
            seen.push(text);
        }
        assert_eq!(seen.len(), 2);
        assert!(
            seen[0].contains("[cut: the tool recent")
                && seen[0].ends_with("2 more wait; the tool recent has them.")
        );
        assert!(seen[1].contains("m1") && seen[1].contains("m2"));
        for n in 0..=MOST {
            inbox.put(&message(&format!("n{n}"), &json!({})));
        }
        assert_eq!(inbox.lock().unseen.len(), MOST, "the oldest are left to the tool");
    }
}
