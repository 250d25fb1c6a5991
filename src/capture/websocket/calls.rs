//! Calls of the Responses API over a WebSocket: a client's `response.create` and the server's messages up to the one
//! that ends it.
use super::Message;
use serde_core::Deserializer;
use serde_core::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use std::collections::VecDeque;
use std::fmt;

/// Most calls that wait for their end on one socket.
const OPEN: usize = 16;
/// Server messages may be seen before the client's message that caused them, by as much as two threads can be out of
/// step: so many bytes, for so many ms.
const EARLY_BYTES: usize = 1 << 20;
const EARLY_MS: u64 = 1000;
/// What a retained message costs beside its bytes.
const OVERHEAD: usize = 64;

const TOO_MANY: &str = "too many model calls at once on one WebSocket";

/// One call, as far as it has come.
#[derive(Debug, Default)]
pub struct Call {
    pub asked: Vec<u8>,
    pub answered: Vec<(u64, Vec<u8>)>,
    pub started_at: u64,
    pub ended_at: u64,
    /// Whether bytes were left out.
    pub truncated: bool,
    kept: usize,
}

/// The calls of one socket, answered in the order in which they were asked.
pub struct Calls {
    /// Most bytes retained of all questions that wait, and of one call's answers.
    limit: usize,
    open: VecDeque<Call>,
    early: Vec<Answer>,
    early_bytes: usize,
}

struct Answer {
    at: u64,
    kind: String,
    message: Message,
}

impl Calls {
    pub fn new(limit: usize) -> Calls {
        Calls { limit, open: VecDeque::new(), early: Vec::new(), early_bytes: 0 }
    }

    /// How many calls wait for their end.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// How many bytes of the client's next message can be retained.
    pub fn room_to_ask(&self) -> usize {
        self.limit.saturating_sub(self.open.iter().map(|call| call.asked.len()).sum())
    }

    /// How many bytes of the server's next message can be retained.
    pub fn room_to_answer(&self) -> usize {
        match self.open.front() {
            Some(call) => self.limit.saturating_sub(call.kept),
            None => EARLY_BYTES.min(self.limit).saturating_sub(self.early_bytes),
        }
    }

    /// A message of the client. Gives the calls that it completes, if the answers came first.
    pub fn asked(&mut self, message: Message, now: u64) -> Result<Vec<Call>, &'static str> {
        if !message.text || type_of(&message.bytes).as_deref() != Some("response.create") {
            return Ok(Vec::new());
        }
        if self.open.len() == OPEN {
            return Err(TOO_MANY);
        }
        self.open.push_back(Call {
            asked: message.bytes,
            started_at: message.began,
            ended_at: now,
            truncated: !message.whole,
            ..Call::default()
        });
        self.early_bytes = 0;
        let early = std::mem::take(&mut self.early);
        let fresh = early.into_iter().filter(|answer| now.saturating_sub(answer.at) <= EARLY_MS);
        let mut done = Vec::new();
        for answer in fresh {
            done.extend(self.take(answer));
        }
        Ok(done)
    }

    /// A message of the server. Gives the call that it completes.
    pub fn answered(&mut self, message: Message, now: u64) -> Option<Call> {
        if !message.text {
            return None;
        }
        let kind = type_of(&message.bytes).unwrap_or_default();
        self.take(Answer { at: now, kind, message })
    }

    /// The calls that were not completed.
    pub fn rest(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.open).into()
    }

    fn take(&mut self, answer: Answer) -> Option<Call> {
        let Some(call) = self.open.front_mut() else {
            self.hold(answer);
            return None;
        };
        call.ended_at = answer.at;
        call.kept += answer.message.bytes.len() + OVERHEAD;
        if answer.message.whole && call.kept <= self.limit {
            call.answered.push((answer.at, answer.message.bytes));
        } else {
            call.truncated = true;
        }
        let last = ["response.completed", "response.failed", "response.incomplete", "error"];
        if last.contains(&answer.kind.as_str()) { self.open.pop_front() } else { None }
    }

    /// Keep an answer whose question may be on its way. Others, as news of rate limits, belong to no call.
    fn hold(&mut self, answer: Answer) {
        if self.early.first().is_some_and(|first| answer.at.saturating_sub(first.at) > EARLY_MS) {
            self.early.clear();
            self.early_bytes = 0;
        }
        let size = answer.message.bytes.len() + OVERHEAD;
        let belongs = answer.kind.starts_with("response.") || answer.kind == "error";
        if belongs && self.early_bytes + size <= EARLY_BYTES {
            self.early_bytes += size;
            self.early.push(answer);
        }
    }
}

/// The member `type` of a JSON object, also of one that is cut off behind it.
fn type_of(json: &[u8]) -> Option<String> {
    let mut found = None;
    // `TypeOf` ends with an error as soon as it has what it looks for.
    let _ = TypeOf(&mut found).deserialize(&mut serde_json::Deserializer::from_slice(json));
    found
}

struct TypeOf<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for TypeOf<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TypeOf<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "type" {
                *self.0 = Some(map.next_value()?);
                return Err(A::Error::custom("enough"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str, began: u64) -> Message {
        Message { text: true, bytes: json.into(), whole: true, began }
    }

    fn create(n: u64) -> Message {
        text(&format!(r#"{{"n":{n},"type":"response.create"}}"#), n)
    }

    fn of(kind: &str) -> Message {
        text(&format!(r#"{{"type":"{kind}"}}"#), 0)
    }

    #[test]
    fn finds_the_type_of_a_message() {
        let table = [
            (r#"{"type":"a"}"#, Some("a")),
            (r#" {"x":{"type":"b"},"y":[1,{}],"type":"a\u0062"}"#, Some("ab")),
            (r#"{"type":"a","input":["cut of"#, Some("a")),
            (r#"{"typ\u0065":"a"}"#, Some("a")),
            (r#"{"type":1}"#, None),
            (r#"{"x":"type"}"#, None),
            (r#"["type","a"]"#, None),
            ("", None),
            ("\u{0}", None),
        ];
        for (json, want) in table {
            assert_eq!(type_of(json.as_bytes()).as_deref(), want, "{json}");
        }
    }

    #[test]
    fn pairs_answers_with_questions_in_order() {
        let mut calls = Calls::new(10_000);
        let ask = |calls: &mut Calls, n| calls.asked(create(n), n).expect("room").len();
        assert_eq!((ask(&mut calls, 1), ask(&mut calls, 2)), (0, 0));
        assert!(calls.asked(of("response.cancel"), 3).expect("ignored").is_empty());
        assert!(calls.answered(of("response.created"), 4).is_none());
        let ends = ["response.failed", "error"];
        for (end, n) in ends.iter().zip(1..) {
            let call = calls.answered(of(end), 10 + n).expect("the end");
            assert_eq!((call.started_at, call.ended_at, call.truncated), (n, 10 + n, false));
            assert_eq!(call.asked, create(n).bytes);
            assert_eq!(call.answered.len(), if n == 1 { 2 } else { 1 });
        }
        assert!(calls.rest().is_empty());
    }

    #[test]
    fn waits_a_moment_for_the_question_of_an_answer() {
        for (delay, early) in [(5, true), (5000, false)] {
            let mut calls = Calls::new(10_000);
            for kind in ["session.note", "response.created", "response.completed"] {
                assert!(calls.answered(of(kind), 100).is_none());
            }
            let done = calls.asked(create(1), 100 + delay).expect("room");
            assert_eq!(
                done.iter().map(|c| c.answered.len()).collect::<Vec<_>>(),
                if early { vec![2] } else { vec![] }
            );
            assert_eq!(calls.rest().len(), usize::from(!early));
        }
    }

    #[test]
    fn bounds_what_is_retained() {
        let mut calls = Calls::new(300);
        assert!(calls.asked(create(1), 1).expect("room").is_empty());
        for now in 2..10 {
            assert!(calls.answered(of("response.delta"), now).is_none());
        }
        let call = calls.answered(of("response.completed"), 10).expect("the end");
        assert!(call.truncated && call.answered.len() < 5);
        for n in 0..16 {
            assert!(calls.asked(create(n), n).is_ok());
        }
        assert!(calls.asked(create(17), 17).is_err());
    }
}
