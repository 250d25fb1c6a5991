//! Target: WebSockets.
use super::frames::{Agreed, Writer};
use super::harness::{fuzz, same};
use super::inputs::spoil;
use super::random::Random;
use ac7::capture::exchange::{Captured, Headers, RequestHead, ResponseHead, Side, Target};
use ac7::capture::websocket::{Frames, Message, Socket};
use serde_json::json;

/// What a direction tells, and how many messages and bytes it counted or the phrase it ended with.
type Told = (Vec<Message>, Result<(u64, u64), &'static str>);

fn told(side: Side, headers: &Headers, pieces: &[&[u8]], keep: usize) -> Told {
    let mut frames = Frames::new(side, headers);
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            let before = input.len();
            match frames.next(&mut input, keep, 1) {
                Ok(Some(message)) => {
                    assert!(message.bytes.len() <= keep);
                    out.push(message);
                }
                Ok(None) => {
                    assert!(input.is_empty());
                    break;
                }
                Err(phrase) => return (out, Err(phrase)),
            }
            // A message whose last byte came with the piece before takes nothing.
            assert!(input.len() < before || before == 0);
        }
    }
    (out, Ok(frames.counts()))
}

fn payload(random: &mut Random) -> Vec<u8> {
    let most = if random.one_in(30) { 70_000 } else { 400 };
    let alphabet = 1 + random.below(255);
    (0..random.size(most)).map(|_| u8::try_from(random.below(alphabet)).unwrap()).collect()
}

#[test]
fn frames() {
    fuzz("frames", 250, |random| {
        let agreed = Agreed::any(random);
        let side = [Side::Agent, Side::Upstream][random.below(2)];
        let mut writer = Writer::new(side, agreed);
        let sent: Vec<_> = (0..1 + random.below(6)).map(|_| (random.one_in(2), payload(random))).collect();
        let mut wire = Vec::new();
        for (text, payload) in &sent {
            wire.extend(writer.message(*text, payload, random));
        }
        if random.one_in(3) {
            wire.extend(writer.close(random));
        }
        // Often exactly as much as one of the messages has.
        let exact = sent[random.below(sent.len())].1.len();
        let keep = if random.one_in(2) { exact } else { random.below(2000) };
        let want: Vec<_> = sent
            .iter()
            .map(|(text, payload)| {
                let kept = if *text { payload.len().min(keep) } else { 0 };
                let whole = kept == payload.len();
                Message { text: *text, bytes: payload[..kept].to_vec(), whole, began: 1 }
            })
            .collect();
        let (mut given, counts) = told(side, &agreed.headers(), &random.pieces(&wire), keep);
        for (given, sent) in given.iter_mut().zip(&sent) {
            // Of a binary message nothing is wanted, so it does not matter whether that is all.
            given.whole |= !sent.0 && sent.1.is_empty();
        }
        same(&given, &want, "given, and sent");
        assert_eq!(counts.map(|(messages, _)| messages), Ok(sent.len() as u64));
    });
}

#[test]
fn spoiled_frames() {
    fuzz("spoiled frames", 500, |random| {
        let agreed = Agreed::any(random);
        let side = [Side::Agent, Side::Upstream][random.below(2)];
        let mut writer = Writer::new(side, agreed);
        let mut wire = Vec::new();
        for _ in 0..1 + random.below(6) {
            let payload = payload(random);
            wire.extend(writer.message(random.one_in(2), &payload, random));
        }
        let other = wire.clone();
        spoil(&mut wire, &other, random);
        let keep = random.below(2000);
        let whole = told(side, &agreed.headers(), &[&wire], keep);
        let cut = told(side, &agreed.headers(), &random.pieces(&wire), keep);
        same(&cut, &whole, "in pieces, and whole");
    });
}

/// A connection after its upgrade.
fn opened(path: &str, agreed: Agreed, limits: (usize, usize)) -> Socket {
    let request = RequestHead { method: "GET".into(), target: path.into(), ..RequestHead::default() };
    let response = ResponseHead { status: 101, headers: agreed.headers() };
    let target = Target { scheme: "https", host: "a.example".into(), port: 443 };
    Socket::new(target, request, response, limits, (1, 1))
}

fn writers(agreed: Agreed) -> (Writer, Writer) {
    (Writer::new(Side::Agent, agreed), Writer::new(Side::Upstream, agreed))
}

/// A call of the Responses API: what was asked, and what was said.
fn call(n: usize, random: &mut Random) -> (Vec<u8>, Vec<Vec<u8>>) {
    let length = random.size(1000);
    let ask = json!({"n": n, "type": "response.create", "input": "i".repeat(length)});
    let mut said = Vec::new();
    for _ in 0..random.below(5) {
        said.push(json!({"type": "response.output_text.delta", "delta": random.text(50)}));
    }
    let ends = ["response.completed", "response.failed", "response.incomplete", "error"];
    said.push(json!({"type": random.pick(&ends)}));
    (ask.to_string().into_bytes(), said.iter().map(|m| m.to_string().into_bytes()).collect())
}

#[test]
fn socket_calls() {
    fuzz("socket calls", 150, |random| {
        let agreed = Agreed::any(random);
        let (mut agent, mut upstream) = writers(agreed);
        let mut socket = opened("/v1/responses", agreed, (1 << 20, 1000));
        let (mut want, mut out) = (Vec::new(), Vec::new());
        for n in 0..1 + random.below(4) {
            let (ask, said) = call(n, random);
            // Noise that belongs to no call.
            let mut up = agent.message(true, b"{\"type\":\"response.cancel\"}", random);
            up.extend(agent.message(false, &ask, random));
            up.extend(agent.message(true, &ask, random));
            let down: Vec<u8> = said.iter().flat_map(|m| upstream.message(true, m, random)).collect();
            let mut turns = [(Side::Agent, up), (Side::Upstream, down)];
            // The answer's copy may come first.
            if random.one_in(4) {
                turns.reverse();
            }
            for (side, bytes) in &turns {
                for piece in random.pieces(bytes) {
                    socket.feed(*side, piece, 5, &mut out).unwrap();
                }
            }
            want.push((ask, said));
        }
        socket.end(&mut out);
        let given: Vec<_> = out
            .into_iter()
            .map(|one| match one {
                Captured::SocketCall(call) => {
                    assert!(!call.truncated);
                    (call.asked, call.answered.into_iter().map(|(_, message)| message).collect::<Vec<_>>())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        same(&given, &want, "given, and sent");
    });
}

#[test]
fn spoiled_sockets() {
    fuzz("spoiled sockets", 200, |random| {
        let agreed = Agreed::any(random);
        let (mut agent, mut upstream) = writers(agreed);
        let path = random.pick(&["/v1/responses", "/other"]);
        let limits = if random.one_in(2) { (1 << 20, 1000) } else { (2000, 100) };
        let mut turns = Vec::new();
        for n in 0..1 + random.below(5) {
            let (ask, said) = call(n, random);
            turns.push((Side::Agent, agent.message(!random.one_in(8), &ask, random)));
            turns.extend(said.iter().map(|m| (Side::Upstream, upstream.message(true, m, random))));
        }
        for at in 0..turns.len() {
            if random.one_in(8) {
                let other = turns[random.below(turns.len())].1.clone();
                spoil(&mut turns[at].1, &other, random);
            }
        }
        turns.retain(|(_, bytes)| !bytes.is_empty());
        let mut play = |cut: bool| {
            let (mut socket, mut out, mut fault) = (opened(path, agreed, limits), Vec::new(), None);
            'turns: for (now, (side, bytes)) in (1..).zip(&turns) {
                for piece in if cut { random.pieces(bytes) } else { vec![&bytes[..]] } {
                    if let Err(phrase) = socket.feed(*side, piece, now, &mut out) {
                        fault = Some(phrase);
                        break 'turns;
                    }
                }
            }
            socket.end(&mut out);
            for one in &mut out {
                // How much of the piece that could not be read counts is nobody's business.
                if let (Captured::SocketSummary(s), Some(_)) = (one, fault) {
                    (s.bytes_up, s.bytes_down) = (0, 0);
                }
            }
            (out, fault)
        };
        let whole = play(false);
        same(&play(true), &whole, "in pieces, and whole");
    });
}
