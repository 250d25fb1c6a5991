use super::*;

/// A conversation, what it has sent, and a clock that only tests move.
struct Lab {
    it: Conversation,
    now: Instant,
}

impl Lab {
    /// One whose thread `t` has just been started, and is idle.
    fn new() -> Lab {
        let opening =
            Opening { cwd: "/w".into(), instructions: "Be brief.".into(), model: Some("gpt".into()) };
        Lab { it: Conversation::new(opening), now: Instant::now() }
    }

    fn attached() -> Lab {
        let mut lab = Lab::new();
        lab.it.begin();
        lab.hear(&json!({"id": 1, "result": {"userAgent": "u"}}));
        lab.hear(&json!({"id": 2, "result": {"thread": {"id": "t", "status": {"type": "idle"}}}}));
        lab
    }

    fn hear(&mut self, said: &Value) -> Vec<Step> {
        self.it.receive(said, self.now)
    }

    fn tell(&mut self, id: &str) -> Vec<Step> {
        self.it.message(Message { id: id.into(), text: format!("<{id}>") }, self.now)
    }

    fn later(&mut self, ms: u64) -> Vec<Step> {
        self.now += Duration::from_millis(ms);
        self.it.tick(self.now)
    }

    fn status(&mut self, status: &str) -> Vec<Step> {
        self.hear(&json!({"method": "thread/status/changed", "params": {"threadId": "t", "status": {"type": status}}}))
    }

    fn turn(&mut self, what: &str, turn: &str) -> Vec<Step> {
        let params = json!({"threadId": "t", "turn": {"id": turn, "status": "completed"}});
        self.hear(&json!({"method": what, "params": params}))
    }
}

fn start(id: u64, text: &str) -> Step {
    let params = json!({"threadId": "t", "input": [{"type": "text", "text": text}]});
    Step::Send(json!({"id": id, "method": "turn/start", "params": params}))
}

fn steer(id: u64, turn: &str, text: &str) -> Step {
    let params = json!({"threadId": "t", "expectedTurnId": turn, "input": [{"type": "text", "text": text}]});
    Step::Send(json!({"id": id, "method": "turn/steer", "params": params}))
}

fn taken(ids: &[&str]) -> Step {
    Step::Taken(ids.iter().map(|id| (*id).to_string()).collect())
}

/// Only what is to be sent, taken or lost.
fn deeds(steps: Vec<Step>) -> Vec<Step> {
    steps.into_iter().filter(|step| !matches!(step, Step::Show(_) | Step::Note(..))).collect()
}

#[test]
fn it_begins_with_a_thread_that_asks_nobody() {
    let mut lab = Lab::new();
    let client = json!({"name": "ac7", "title": "ac7", "version": env!("CARGO_PKG_VERSION")});
    let first = json!({"id": 1, "method": "initialize", "params": {"clientInfo": client}});
    assert_eq!(lab.it.begin(), [Step::Send(first)]);
    let params = json!({"cwd": "/w", "developerInstructions": "Be brief.", "approvalPolicy": "never",
        "sandbox": "danger-full-access", "model": "gpt"});
    let thread = json!({"id": 2, "method": "thread/start", "params": params});
    let steps = lab.hear(&json!({"id": 1, "result": {}}));
    assert_eq!(steps, [Step::Send(json!({"method": "initialized"})), Step::Send(thread)]);
    let refused = lab.hear(&json!({"id": 2, "error": {"code": -1, "message": "no such model"}}));
    assert_eq!(refused, [Step::End("codex refused to start: no such model".into())]);
}

#[test]
fn messages_wait_for_the_thread_and_for_each_other() {
    let mut lab = Lab::new();
    lab.it.begin();
    lab.tell("a");
    assert_eq!((lab.later(500), lab.it.wake()), (vec![], None), "there is no thread yet");
    lab.hear(&json!({"id": 1, "result": {}}));
    lab.tell("b");
    let steps = lab.hear(&json!({"id": 2, "result": {"thread": {"id": "t", "status": {"type": "idle"}}}}));
    assert_eq!(deeds(steps), [start(3, "<a>\n<b>")], "they have waited long enough");

    let mut lab = Lab::attached();
    lab.tell("a");
    assert_eq!(lab.it.wake(), Some(lab.now + BUNDLE));
    assert_eq!(lab.later(199), []);
    lab.tell("b");
    assert_eq!(lab.later(1), [start(3, "<a>\n<b>")]);
    lab.tell("c");
    assert_eq!((lab.later(300), lab.it.wake()), (vec![], None), "the turn has no id yet");
    assert_eq!(lab.it.left(), ["a", "b", "c"]);
    let steps = lab.hear(&json!({"id": 3, "result": {"turn": {"id": "u1"}}}));
    assert_eq!(steps, [taken(&["a", "b"]), steer(4, "u1", "<c>")]);
    lab.tell("d");
    assert_eq!(lab.later(300), [], "one offer at a time");
    assert_eq!(
        lab.hear(&json!({"id": 4, "result": {"turnId": "u1"}})),
        [taken(&["c"]), steer(5, "u1", "<d>")]
    );
    assert_eq!(lab.hear(&json!({"id": 5, "result": {"turnId": "u1"}})), [taken(&["d"])]);
    lab.status("idle");
    lab.turn("turn/completed", "u1");
    lab.tell("e");
    assert_eq!(lab.later(200), [start(6, "<e>")]);
}

/// One in whose turn `u1` message `b` has just been offered as request 4.
fn steering() -> Lab {
    let mut lab = Lab::attached();
    lab.tell("a");
    lab.later(200);
    lab.hear(&json!({"id": 3, "result": {"turn": {"id": "u1"}}}));
    lab.tell("b");
    assert_eq!(lab.later(200), [steer(4, "u1", "<b>")]);
    lab
}

fn refusal(id: u64, message: &str) -> Value {
    json!({"id": id, "error": {"code": -32600, "message": message}})
}

#[test]
fn a_turn_that_is_another_is_steered_once_more() {
    let mismatch = "expected active turn id `u1` but found `u2`";
    let mut lab = steering();
    assert_eq!(deeds(lab.hear(&refusal(4, mismatch))), [steer(5, "u2", "<b>")]);
    assert_eq!(lab.hear(&json!({"id": 5, "result": {"turnId": "u2"}})), [taken(&["b"])]);

    let mut lab = steering();
    lab.hear(&refusal(4, mismatch));
    let lost = Step::Lost(vec!["b".into()], "expected active turn id `u2` but found `u3`".into());
    assert_eq!(deeds(lab.hear(&refusal(5, "expected active turn id `u2` but found `u3`"))), [lost], "once");
    lab.tell("c");
    assert_eq!(lab.later(200), [steer(6, "u3", "<c>")]);

    let mut lab = steering();
    assert_eq!(deeds(lab.hear(&refusal(4, "no active turn to steer"))), [start(5, "<b>")]);

    // Whatever else it says, its state is asked for.
    let mut lab = steering();
    let read = json!({"id": 5, "method": "thread/read", "params": {"threadId": "t"}});
    assert_eq!(deeds(lab.hear(&refusal(4, "not now"))), [Step::Send(read)]);
    lab.tell("c");
    assert_eq!(lab.later(200), [], "not before the answer");
    let idle = json!({"id": 5, "result": {"thread": {"id": "t", "status": {"type": "idle"}}}});
    assert_eq!(deeds(lab.hear(&idle)), [start(6, "<b>\n<c>")]);
}

#[test]
fn a_turn_that_begins_by_itself_is_steered_too() {
    let mut lab = Lab::attached();
    lab.status("active");
    lab.tell("a");
    assert_eq!(lab.later(300), [], "which turn is not known yet");
    assert_eq!(deeds(lab.turn("turn/started", "u9")), [steer(3, "u9", "<a>")]);
    lab.hear(&json!({"id": 3, "result": {"turnId": "u9"}}));
    lab.tell("b");
    // The end of the turn comes without a change of the thread's status.
    lab.turn("turn/completed", "u9");
    assert_eq!(lab.later(200), [start(4, "<b>")]);
    // A short turn: it has ended before its beginning is answered.
    lab.turn("turn/started", "u10");
    lab.turn("turn/completed", "u10");
    lab.hear(&json!({"id": 4, "result": {"turn": {"id": "u10"}}}));
    lab.tell("c");
    assert_eq!(lab.later(200), [start(5, "<c>")]);
}

#[test]
fn other_threads_are_none_of_its_business() {
    let mut lab = Lab::attached();
    let other = json!({"method": "thread/status/changed", "params": {"threadId": "x", "status": {"type": "systemError"}}});
    assert_eq!(lab.hear(&other), []);
    let item = json!({"type": "agentMessage", "text": "within"});
    assert_eq!(lab.hear(&json!({"method": "item/completed", "params": {"threadId": "x", "item": item}})), []);
    assert_eq!(lab.hear(&json!({"method": "some/news", "params": {}})), []);
    lab.tell("a");
    assert_eq!(lab.later(200), [start(3, "<a>")]);
}

#[test]
fn after_an_error_a_turn_begins_anew() {
    let mut lab = Lab::attached();
    lab.status("systemError");
    lab.tell("a");
    assert_eq!(lab.later(200), [start(3, "<a>")]);
    let read = lab.hear(&refusal(3, "broken"));
    assert!(matches!(&deeds(read)[..], [Step::Send(read)] if read["method"] == "thread/read"));
    let state = json!({"id": 4, "result": {"thread": {"id": "t", "status": {"type": "systemError"}}}});
    assert_eq!(deeds(lab.hear(&state)), [start(5, "<a>")]);
    let lost = Step::Lost(vec!["a".into()], "still broken".into());
    assert_eq!(deeds(lab.hear(&refusal(5, "still broken")))[0], lost, "it was offered twice");
}

#[test]
fn too_many_messages_lose_the_oldest() {
    let mut lab = Lab::new();
    for i in 0..=MOST {
        let lost = lab.tell(&i.to_string());
        assert_eq!(lost.len(), usize::from(i == MOST));
    }
}

#[test]
fn whoever_asks_is_denied() {
    let mut lab = Lab::attached();
    for (method, want) in [
        ("item/commandExecution/requestApproval", json!({"decision": "decline"})),
        ("item/fileChange/requestApproval", json!({"decision": "decline"})),
        ("execCommandApproval", json!({"decision": "denied"})),
        ("applyPatchApproval", json!({"decision": "denied"})),
        ("item/permissions/requestApproval", json!({"permissions": {}})),
        ("mcpServer/elicitation/request", json!({"action": "decline", "content": null})),
        ("item/tool/requestUserInput", json!({"answers": {}})),
    ] {
        let steps = lab.hear(&json!({"id": "r1", "method": method, "params": {"threadId": "t"}}));
        assert_eq!(steps[0], Step::Send(json!({"id": "r1", "result": want})), "{method}");
    }
    let steps = lab.hear(&json!({"id": 7, "method": "attestation/generate", "params": {}}));
    let Step::Send(answer) = &steps[0] else { panic!("{steps:?}") };
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(7), &json!(-32601)));
}

#[test]
fn retries_are_no_failures() {
    let mut lab = Lab::attached();
    let error = |retry: bool| {
        let params = json!({"threadId": "t", "turnId": "u", "willRetry": retry, "error": {"message": "cut"}});
        json!({"method": "error", "params": params})
    };
    assert_eq!(lab.hear(&error(true)), [Step::Note("codex retries", "cut".into())]);
    assert_eq!(lab.hear(&error(false)), [Step::Note("codex failed", "cut".into())]);
}

#[test]
fn the_end_interrupts_the_turn_that_runs() {
    let interrupt = |id: u64, turn: &str| {
        let params = json!({"threadId": "t", "turnId": turn});
        Step::Send(json!({"id": id, "method": "turn/interrupt", "params": params}))
    };
    assert_eq!(Lab::attached().it.end(), []);
    let mut lab = steering();
    lab.hear(&json!({"id": 4, "result": {"turnId": "u1"}}));
    lab.tell("c");
    assert_eq!(lab.it.end(), [steer(5, "u1", "<c>"), interrupt(6, "u1")]);
    assert_eq!(lab.it.left(), ["c"], "nobody has said that they were taken");
    // No turn is begun only to be interrupted.
    let mut lab = Lab::attached();
    lab.tell("a");
    assert_eq!((lab.it.end(), lab.it.left()), (vec![], vec!["a".to_string()]));
}
