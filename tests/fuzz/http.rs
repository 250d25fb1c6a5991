//! Targets: the framer and the reassembler.
use super::frames::{Agreed, Writer};
use super::harness::{fuzz, same};
use super::inputs::{Recording, recordings, spoil};
use super::messages::{Wanted, pipeline};
use super::random::Random;
use ac7::capture::exchange::{Body, Captured, Side, Target};
use ac7::capture::extract::may_be_model_call;
use ac7::capture::reassemble::{Connection, Limits};
use ac7::http1::{Asked, Fault, Framer, Head, Headers, Part, Rules};

/// A [`Part`] that owns its bytes; neighbouring pieces of a body are one.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Head(Box<Head>),
    Body(Vec<u8>),
    Trailers(Headers),
    End,
    Fault(Fault),
}

/// One direction under observation.
struct Follow {
    framer: Framer,
    told: Vec<Told>,
    /// Calls of [`Framer::next`].
    steps: usize,
    ends: usize,
}

/// What the responses answer, one after the other.
const ASKED: [Asked; 4] = [Asked::Plain, Asked::Plain, Asked::Head, Asked::Connect];

impl Follow {
    fn new(side: Side, rules: Rules) -> Follow {
        let framer = match side {
            Side::Agent => Framer::requests(rules),
            Side::Upstream => Framer::responses(rules),
        };
        Follow { framer, told: Vec::new(), steps: 0, ends: 0 }
    }

    /// How many of the bytes are behind the end of what can be read.
    fn feed(&mut self, mut piece: &[u8]) -> usize {
        loop {
            self.framer.answers(ASKED[self.ends % ASKED.len()]);
            self.steps += 1;
            let part = self.framer.next(&mut piece);
            match part {
                Ok(None) => return piece.len(),
                Ok(Some(part)) => self.tell(part),
                Err(fault) => {
                    self.told.push(Told::Fault(fault));
                    return piece.len();
                }
            }
        }
    }

    fn tell(&mut self, part: Part<'_>) {
        self.ends += usize::from(part == Part::End);
        match (part, self.told.last_mut()) {
            (Part::Body(more), Some(Told::Body(body))) => body.extend_from_slice(more),
            (Part::Body(body), _) => self.told.push(Told::Body(body.to_vec())),
            (Part::Head(head), _) => self.told.push(Told::Head(head)),
            (Part::Trailers(fields), _) => self.told.push(Told::Trailers(fields)),
            (Part::End, _) => self.told.push(Told::End),
        }
    }

    fn failed(&self) -> bool {
        matches!(self.told.last(), Some(Told::Fault(_)))
    }

    fn end(&mut self) {
        match self.framer.end() {
            Ok(part) => part.into_iter().for_each(|part| self.tell(part)),
            Err(fault) => self.told.push(Told::Fault(fault)),
        }
    }

    /// Feed all of it, and end.
    fn all(side: Side, rules: Rules, pieces: &[&[u8]]) -> Vec<Told> {
        let mut follow = Follow::new(side, rules);
        let mut fed = 0;
        for piece in pieces {
            fed += piece.len();
            if follow.feed(piece) > 0 || follow.failed() {
                break;
            }
        }
        // Each call takes a byte, gives an end, or is the last one of its piece.
        assert!(
            follow.steps <= fed + follow.ends + pieces.len() + 1,
            "{} steps for {fed} bytes",
            follow.steps
        );
        if !follow.failed() {
            follow.end();
        }
        follow.told
    }
}

/// A connection's bytes, in the order in which they are sent; valid, recorded, or spoiled.
fn segments(recordings: &[Recording], random: &mut Random) -> Vec<(Side, Vec<u8>)> {
    let mut segments = match random.below(3) {
        0 => pipeline(random).segments,
        1 => upgraded(random),
        _ => {
            let one = &recordings[random.below(recordings.len())];
            let mut out = Vec::new();
            let (mut agent, mut upstream) = (&one.request[..], &one.response[..]);
            while !agent.is_empty() || !upstream.is_empty() {
                for (side, bytes) in [(Side::Agent, &mut agent), (Side::Upstream, &mut upstream)] {
                    let (piece, rest) = bytes.split_at(random.below(bytes.len() + 1));
                    let (piece, rest) = if random.one_in(3) { (*bytes, &b""[..]) } else { (piece, rest) };
                    out.push((side, piece.to_vec()));
                    *bytes = rest;
                }
            }
            out
        }
    };
    let other = &recordings[random.below(recordings.len())];
    for (side, bytes) in &mut segments {
        if random.one_in(4) {
            spoil(bytes, if *side == Side::Agent { &other.request } else { &other.response }, random);
        }
    }
    segments
}

/// An upgrade to a WebSocket that carries model calls, or anything.
fn upgraded(random: &mut Random) -> Vec<(Side, Vec<u8>)> {
    let agreed = Agreed::any(random);
    let path = random.pick(&["/v1/responses", "/other"]);
    let asked = format!("GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let fields: String =
        agreed.headers().0.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n{fields}\r\n");
    let mut out = vec![(Side::Agent, asked.into_bytes()), (Side::Upstream, answer.into_bytes())];
    let mut writers = [Writer::new(Side::Agent, agreed), Writer::new(Side::Upstream, agreed)];
    for _ in 0..random.below(12) {
        let at = random.below(2);
        let side = [Side::Agent, Side::Upstream][at];
        let kind =
            random.pick(&["response.create", "response.created", "response.output_text.delta", "error"]);
        let kind = if side == Side::Agent && random.one_in(2) { "response.create" } else { kind };
        let text = format!("{{\"type\":\"{kind}\",\"x\":\"{}\"}}", "ab".repeat(random.size(700)));
        out.push((side, writers[at].message(!random.one_in(8), text.as_bytes(), random)));
    }
    out
}

#[test]
fn framer() {
    let recordings = recordings();
    fuzz("framer", 600, |random| {
        let segments = segments(&recordings, random);
        let side = [Side::Agent, Side::Upstream][random.below(2)];
        let bytes: Vec<u8> = segments.into_iter().filter(|s| s.0 == side).flat_map(|s| s.1).collect();
        let small =
            Rules { head_bytes: random.below(600), fields: random.below(8), strict: random.one_in(2) };
        let rules = [Rules::CAPTURE, Rules::EDGE, small][random.below(3)];

        let whole = Follow::all(side, rules, &[&bytes]);
        let pieces = random.pieces(&bytes);
        same(&Follow::all(side, rules, &pieces), &whole, "in pieces, and whole");

        // What is not refused as ambiguous means the same to those who refuse nothing.
        let strict = Follow::all(side, Rules { strict: true, ..rules }, &pieces);
        if !strict.iter().any(|told| matches!(told, Told::Fault(_))) {
            let lenient = Follow::all(side, Rules { strict: false, ..rules }, &pieces);
            same(&lenient, &strict, "lenient, and strict");
        }
        gaps(side, rules, &pieces);
    });
}

/// Pieces that lie inside a run of payload may be lost, and all that follows is understood as without the loss.
fn gaps(side: Side, rules: Rules, pieces: &[&[u8]]) {
    let (mut full, mut holed) = (Follow::new(side, rules), Follow::new(side, rules));
    for piece in pieces {
        let (before, ends) = (full.steps, full.ends);
        full.told.clear();
        let left = full.feed(piece);
        let body = matches!(full.told.first(), Some(Told::Body(body)) if body.len() == piece.len());
        // The payload, perhaps the end behind it, and that there is no more.
        if body && full.steps - before - (full.ends - ends) == 2 {
            holed.framer.skip(piece.len() as u64).unwrap();
            full.told.remove(0);
            holed.told.clear();
            holed.feed(b"");
        } else {
            holed.told.clear();
            holed.feed(piece);
        }
        assert_eq!(holed.told, full.told);
        if left > 0 || full.failed() {
            return;
        }
    }
    full.end();
    holed.end();
    assert_eq!(holed.told.last(), full.told.last());
}

/// What happens to a connection.
#[derive(Clone, Copy)]
enum Step<'a> {
    Bytes(Side, &'a [u8]),
    Gap(Side, u64),
    End(Side),
}

/// Feed a connection; `cut` says in which pieces. All pieces of a step come at the same time.
fn play(limits: Limits, steps: &[Step<'_>], cut: impl FnMut(&[u8]) -> Vec<&[u8]>) -> Vec<Captured> {
    play_all(limits, steps, cut, |_, _| 0)
}

/// The same; `leave` says how many of the next bytes, which come from a side, are not fed because it does not want them.
fn play_all(
    limits: Limits,
    steps: &[Step<'_>],
    mut cut: impl FnMut(&[u8]) -> Vec<&[u8]>,
    leave: impl Fn(&Connection, Side) -> u64,
) -> Vec<Captured> {
    let target = Target { scheme: "https", host: "a.example".into(), port: 443 };
    let mut connection = Connection::new(target, limits, may_be_model_call);
    let mut out = Vec::new();
    for (now, step) in (1..).zip(steps) {
        match step {
            Step::Bytes(side, bytes) => {
                for piece in cut(bytes) {
                    let left = leave(&connection, *side).min(piece.len() as u64);
                    connection.unseen(*side, left, now, &mut out);
                    connection.feed(*side, &piece[left as usize..], now, &mut out);
                }
            }
            Step::Gap(side, lost) => connection.gap(*side, *lost, now, &mut out),
            Step::End(side) => connection.end(*side, now, &mut out),
        }
    }
    for side in [Side::Upstream, Side::Agent] {
        connection.end(side, 1_000_000, &mut out);
    }
    assert!(connection.over());
    bounded(limits, &out);
    out
}

/// What brotli's decoder has not handed out when it meets an error is lost with the piece: such bodies are left out.
fn without_brotli(mut captured: Vec<Captured>) -> Vec<Captured> {
    for one in &mut captured {
        let Captured::Exchange(e) = one else { continue };
        if has_brotli(Some(&e.request.headers)) {
            e.request_body = Body { wire_len: e.request_body.wire_len, ..Body::default() };
        }
        if has_brotli(e.response.as_ref().map(|r| &r.headers)) {
            e.response_body = Body { wire_len: e.response_body.wire_len, ..Body::default() };
        }
    }
    captured
}

fn has_brotli(headers: Option<&Headers>) -> bool {
    headers.is_some_and(|h| h.has("content-encoding", "br") || h.has("transfer-encoding", "br"))
}

/// Whether all of it is there and the same whatever the cuts.
fn is_complete(captured: &Captured) -> bool {
    let Captured::Exchange(e) = captured else { return false };
    let brotli = has_brotli(Some(&e.request.headers)) || has_brotli(e.response.as_ref().map(|r| &r.headers));
    !e.truncated() && !brotli
}

fn bounded(limits: Limits, captured: &[Captured]) {
    let gave_up = captured.iter().filter(|c| matches!(c, Captured::GaveUp { .. })).count();
    assert!(gave_up == 0 || (gave_up == 1 && matches!(captured.last(), Some(Captured::GaveUp { .. }))));
    for one in captured {
        match one {
            Captured::Exchange(e) => {
                let most = if may_be_model_call(&e.request) { limits.whole } else { limits.preview };
                assert!(e.request_body.bytes.len() <= most && e.response_body.bytes.len() <= most);
                assert!(e.started_at <= e.ended_at);
            }
            Captured::SocketCall(c) => {
                assert!(c.asked.len() <= limits.whole);
                assert!(c.answered.iter().map(|(_, message)| message.len()).sum::<usize>() <= limits.whole);
            }
            Captured::SocketSummary(s) => {
                assert!(s.first_up.len() <= limits.preview && s.first_down.len() <= limits.preview);
            }
            Captured::GaveUp { .. } => {}
        }
    }
}

#[test]
fn reassembler() {
    let recordings = recordings();
    fuzz("reassembler", 300, |random| {
        let segments = segments(&recordings, random);
        let limits = match random.below(3) {
            0 => Limits { whole: 3000, preview: random.below(300), in_flight: 4, ..Limits::default() },
            1 => Limits { rules: Rules::EDGE, ..Limits::default() },
            _ => Limits::default(),
        };
        let mut steps = Vec::new();
        let mut ended = None;
        for (side, bytes) in &segments {
            match random.below(60) {
                _ if ended == Some(*side) => {}
                0 => steps.push(Step::Gap(*side, bytes.len() as u64)),
                1 if ended.is_none() => {
                    steps.extend([Step::Bytes(*side, bytes), Step::End(*side)]);
                    ended = Some(*side);
                }
                _ => steps.push(Step::Bytes(*side, bytes)),
            }
        }
        let whole = play(limits, &steps, |bytes| vec![bytes]);
        let cut = play(limits, &steps, |bytes| random.pieces(bytes));
        // Where spoiling brought the directions out of step, faults and tight limits are met sooner or later than
        // that, and what a socket's message belongs to is a matter of luck (`spoiled_sockets` keeps them in step).
        let is_plain = |one: &Captured| matches!(one, Captured::Exchange(_));
        if limits.in_flight < 10 || !whole.iter().chain(&cut).all(is_plain) {
            for (cut, whole) in cut.iter().zip(&whole).take_while(|(a, b)| is_complete(a) && is_complete(b)) {
                same(cut, whole, "in pieces, and whole");
            }
        } else {
            same(&without_brotli(cut), &without_brotli(whole), "in pieces, and whole");
        }
        let size = 1 + random.below(99);
        let seen = play(limits, &steps, |bytes| bytes.chunks(size).collect());
        let unseen = play_all(limits, &steps, |bytes| bytes.chunks(size).collect(), Connection::unwanted);
        same(&unseen, &seen, "without what is not wanted, and with it");
    });
}

#[test]
fn pipelines() {
    fuzz("pipelines", 150, |random| {
        let pipeline = pipeline(random);
        let steps: Vec<_> = pipeline.segments.iter().map(|(side, bytes)| Step::Bytes(*side, bytes)).collect();
        let given: Vec<_> = play(Limits::default(), &steps, |bytes| random.pieces(bytes))
            .into_iter()
            .map(|one| match one {
                Captured::Exchange(e) => {
                    assert!(!e.truncated(), "{e:?}");
                    let status = e.response.map_or(0, |r| r.status);
                    let (method, target) = (e.request.method, e.request.target);
                    let (asked, answered) = (e.request_body.bytes, e.response_body.bytes);
                    Wanted { method, target, asked, status, answered }
                }
                other => panic!("{other:?}"),
            })
            .collect();
        same(&given, &pipeline.want, "given, and sent");
    });
}

/// As many calls as bytes: were a piece to cost more than itself, this would not come to an end.
#[test]
fn single_bytes() {
    let ask = format!("POST /v1/messages HTTP/1.1\r\ncontent-length: {}\r\nx: ", 1 << 19);
    fuzz("single bytes", 1, |random| {
        let mut agent = ask.clone().into_bytes();
        agent.extend([b"a".repeat(60_000), b"\r\n\r\n".to_vec(), vec![b'b'; 1 << 19]].concat());
        let chunks = b"1\r\nc\r\n".repeat(50_000);
        let answer =
            [&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..], &chunks, b"0\r\n\r\n"].concat();
        let early = random.one_in(2);
        let mut steps = [Step::Bytes(Side::Agent, &agent), Step::Bytes(Side::Upstream, &answer)];
        if early {
            steps.reverse();
        }
        let given = play(Limits::default(), &steps, |bytes| bytes.chunks(1).collect());
        let [Captured::Exchange(e)] = &given[..] else { panic!("{} captured", given.len()) };
        assert_eq!(
            (e.request_body.bytes.len(), e.response_body.bytes.len(), e.truncated()),
            (1 << 19, 50_000, false)
        );
    });
}
