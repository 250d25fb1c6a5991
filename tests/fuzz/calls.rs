//! Targets: merging of streams, and extraction from whatever came.
use super::harness::{fuzz, same};
use super::inputs::{calls, recordings, spoil, twist};
use super::random::Random;
use super::streams::{Said, WIRES};
use ac7::activity::{Event, What};
use ac7::capture::exchange::{Captured, Cut, Side, Target};
use ac7::capture::extract::{LIMIT, event, fit, may_be_model_call};
use ac7::capture::reassemble::{Connection, Limits};
use ac7::capture::redact::{self, Rules};
use ac7::store::activity::Parser;
use serde_json::{Value, json};

/// What the worker does with an event, and what everyone who gets it relies on.
struct Way {
    rules: Rules,
    parser: Parser,
}

impl Way {
    fn new() -> Way {
        Way { rules: Rules::default(), parser: Parser::new() }
    }

    /// The event's JSON text, as it is stored.
    fn go(&self, mut event: Event) -> Value {
        redact::event(&mut event, &self.rules);
        let json = fit(&mut event);
        assert!(json.len() <= LIMIT && !json.contains('\n'), "{} bytes", json.len());
        assert_eq!(fit(&mut event.clone()), json, "what fits stays");

        let value: Value = serde_json::from_str(&json).unwrap();
        let back = Event::from_json(&value).unwrap();
        same(&back.to_json(), &value, "read and written again");
        same(&value.to_string(), &json, "parsed and written again");
        same(&event.to_json(), &value, "the event and its text");

        let batch =
            self.parser.events([json.as_str()]).unwrap_or_else(|e| panic!("the store refuses: {e}\n{json}"));
        let briefs: Vec<_> = batch.events().collect();
        let provider = match &back.what {
            What::Llm { entry, .. } => Some(entry.provider),
            _ => None,
        };
        let [brief] = briefs[..] else { panic!("{} events of one", briefs.len()) };
        assert_eq!((brief.json, brief.kind, brief.provider), (json.as_str(), back.kind(), provider));
        value
    }
}

#[test]
fn streams() {
    let way = Way::new();
    fuzz("streams", 400, |random| {
        let wire = WIRES[random.below(WIRES.len())];
        let said = Said::any(random);
        let captured = said.captured(wire, random);
        let got = event(&captured).to_json();
        let content = &got["entry"]["response"]["messages"][0]["content"];
        let content = if content.is_null() { json!([]) } else { content.clone() };
        same(&content, &Value::Array(said.content()), &format!("{wire:?}"));
        assert_eq!(got["entry"]["truncated"], Value::Null, "{wire:?}");
        assert_eq!(got["entry"]["stream"], true, "{wire:?}");
        way.go(event(&captured));

        // Whatever there is of a stream that was cut off begins as the whole does.
        let Captured::Exchange(mut x) = captured else { return };
        x.response_body.bytes.truncate(random.below(x.response_body.bytes.len()));
        x.response_body.cut = Some(Cut::Ended);
        let part = event(&Captured::Exchange(x)).to_json();
        let blocks =
            part["entry"]["response"]["messages"][0]["content"].as_array().cloned().unwrap_or_default();
        for (part, whole) in blocks.iter().zip(content.as_array().unwrap()) {
            if part["type"] == "unknown" {
                // Reasoning of which nothing readable has come.
                break;
            }
            assert_eq!(part["type"], whole["type"], "{wire:?}");
            let text = |block: &Value| block["text"].as_str().unwrap_or("").to_string();
            assert!(text(whole).starts_with(&text(part)), "{wire:?}: {part} is not the start of {whole}");
        }
    });
}

/// Spoil the bodies of a captured call, as bytes or as JSON.
fn spoil_call(captured: &mut Captured, other: &[u8], random: &mut Random) {
    match captured {
        Captured::Exchange(x) => {
            for body in [&mut x.request_body, &mut x.response_body] {
                match random.below(3) {
                    0 => spoil(&mut body.bytes, other, random),
                    1 => spoil_json(&mut body.bytes, random),
                    _ => {}
                }
                if random.one_in(4) {
                    body.cut = Some([Cut::Ended, Cut::Limit, Cut::Gap, Cut::Coding][random.below(4)]);
                }
            }
            if let Some(head) = x.response.as_mut().filter(|_| random.one_in(6)) {
                head.status = [200, 204, 400, 429, 500, 999][random.below(6)];
            }
            if random.one_in(10) {
                x.response = None;
            }
            if random.one_in(10) {
                let name =
                    random.pick(&["content-type", "session-id", "thread-id", "user-agent", "x-request-id"]);
                x.request.headers.0.push((name.into(), random.text(20)));
            }
        }
        Captured::SocketCall(call) => {
            spoil_json(&mut call.asked, random);
            for (_, message) in &mut call.answered {
                match random.below(6) {
                    0 => spoil(message, other, random),
                    1 => spoil_json(message, random),
                    _ => {}
                }
            }
        }
        Captured::SocketSummary(_) | Captured::GaveUp { .. } => {}
    }
}

/// Change values in JSON, or in the JSON of server-sent events.
fn spoil_json(bytes: &mut Vec<u8>, random: &mut Random) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(bytes) {
        (0..=random.size(4)).for_each(|_| twist(&mut value, random));
        *bytes = value.to_string().into_bytes();
        return;
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<String> = text.split('\n').map(str::to_string).collect();
    for _ in 0..=random.size(4) {
        let at = random.below(lines.len());
        if let Some(mut value) =
            lines[at].strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok())
        {
            twist(&mut value, random);
            lines[at] = format!("data: {value}");
        }
    }
    *bytes = lines.join("\n").into_bytes();
}

#[test]
fn extraction() {
    let (way, calls) = (Way::new(), calls());
    fuzz("extraction", 400, |random| {
        let mut captured = if random.one_in(3) {
            let wire = WIRES[random.below(WIRES.len())];
            Said::any(random).captured(wire, random)
        } else {
            calls[random.below(calls.len())].clone()
        };
        let other = match &calls[random.below(calls.len())] {
            Captured::Exchange(x) => x.response_body.bytes.clone(),
            _ => Vec::new(),
        };
        spoil_call(&mut captured, &other, random);
        way.go(event(&captured));
    });
}

/// From the bytes of a connection to events.
#[test]
fn connections() {
    let (way, recordings) = (Way::new(), recordings());
    fuzz("connections", 40, |random| {
        let one = &recordings[random.below(recordings.len())];
        let other = &recordings[random.below(recordings.len())];
        let (mut request, mut response) = (one.request.clone(), one.response.clone());
        spoil(&mut request, &other.request, random);
        spoil(&mut response, &other.response, random);
        let target = Target { scheme: "https", host: one.host.clone(), port: 443 };
        let mut connection = Connection::new(target, Limits::default(), may_be_model_call);
        let mut out = Vec::new();
        connection.feed(Side::Agent, &request, 1, &mut out);
        connection.feed(Side::Upstream, &response, 2, &mut out);
        connection.end(Side::Upstream, 3, &mut out);
        connection.end(Side::Agent, 3, &mut out);
        for captured in &out {
            way.go(event(captured));
        }
    });
}

/// Calls that do not fit, by one thing that is long or by many that are short.
#[test]
fn large_calls() {
    let (way, calls) = (Way::new(), calls());
    fuzz("large calls", 2, |random| {
        let Captured::Exchange(mut x) = calls[random.below(calls.len())].clone() else { return };
        let Ok(mut asked) = serde_json::from_slice::<Value>(&x.request_body.bytes) else { return };
        let Some(members) = asked.as_object_mut() else { return };
        for _ in 0..1 + random.below(3) {
            let size = LIMIT / (1 + random.below(3));
            let text = random.text(50);
            let unit = [
                json!(text),
                json!({"type": "text", "text": text}),
                json!({"role": "user", "content": text}),
                json!([1, 2, 3]),
                json!({"name": text, "input_schema": {}}),
            ][random.below(5)]
            .clone();
            let value = match random.below(3) {
                0 => Value::String(random.text(9).repeat(size / 9)),
                1 => Value::Array(vec![unit.clone(); size / (unit.to_string().len() + 1)]),
                _ => json!([{"type": "text", "text": "y".repeat(size)}, unit]),
            };
            let name = ["messages", "system", "tools", "input", "contents", "model"][random.below(6)];
            match members.get_mut(name).and_then(Value::as_array_mut) {
                Some(list) if random.one_in(2) => list.push(json!({"role": "user", "content": value})),
                _ => drop(members.insert(name.into(), value)),
            }
        }
        x.request_body.bytes = asked.to_string().into_bytes();
        way.go(event(&Captured::Exchange(x)));
    });
}
