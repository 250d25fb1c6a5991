//! Valid HTTP/1.1 messages in every framing, and what must come out of them.
use super::coded::coded;
use super::random::Random;
use ac7::capture::exchange::Side;

/// Requests and responses of one connection.
pub struct Pipeline {
    /// A message each, in the order in which they are sent.
    pub segments: Vec<(Side, Vec<u8>)>,
    pub want: Vec<Wanted>,
}

/// One exchange.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    pub method: String,
    pub target: String,
    pub asked: Vec<u8>,
    pub status: u16,
    pub answered: Vec<u8>,
}

const NAME: &str = "abcX-9_.";

/// Fields that say nothing about the body.
fn fields(random: &mut Random) -> String {
    (0..random.below(4))
        .map(|_| {
            let (name, value) = (random.below(8), random.below(20));
            let space = random.pick(&[" ", "", "\t "]);
            format!("x{}:{space}{}\r\n", random.word(NAME, name), random.word(NAME, value))
        })
        .collect()
}

/// Bytes that a framer could take for something of its own.
fn content(random: &mut Random) -> Vec<u8> {
    let most = if random.one_in(20) { 40_000 } else { 300 };
    (0..random.size(most)).map(|_| b"\r\n0aHTTP/1. :\0\xff{}"[random.below(16)]).collect()
}

/// The fields that announce a body, and its bytes on the wire. `closes`: it may end with the connection.
fn framed(body: &[u8], closes: bool, random: &mut Random) -> (String, Vec<u8>) {
    let (names, bytes) = coded(body, random);
    let coding = if names.is_empty() { String::new() } else { format!("Content-Encoding: {names}\r\n") };
    match random.below(if closes { 4 } else { 3 }) {
        0 => (format!("{coding}Content-Length: {}\r\n", bytes.len()), bytes),
        1 => (format!("transfer-encoding: Chunked\r\n{coding}"), chunked(&bytes, random)),
        2 => {
            // The same as a transfer coding.
            let names = if names.is_empty() { String::new() } else { format!("{names}, ") };
            (format!("Transfer-Encoding: {names}chunked\r\n"), chunked(&bytes, random))
        }
        _ => (coding, bytes),
    }
}

fn chunked(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in random.pieces(bytes) {
        let extension = random.pick(&["", ";a", ";a=\"b\"", " "]);
        let zeros = random.pick(&["", "00"]);
        out.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{}\r\n", fields(random)).as_bytes());
    out
}

/// A connection's worth of exchanges.
pub fn pipeline(random: &mut Random) -> Pipeline {
    let mut out = Pipeline { segments: Vec::new(), want: Vec::new() };
    let count = 1 + random.below(5);
    let mut later = Vec::new();
    let pipelined = random.one_in(3);
    for n in 1..=count {
        let method = random.pick(&["GET", "POST", "HEAD", "PATCH"]).to_string();
        let length = random.below(9);
        let target = format!("/{}", random.word(NAME, length));
        let asked = if method == "GET" { Vec::new() } else { content(random) };
        let (length, wire) =
            if asked.is_empty() { (String::new(), Vec::new()) } else { framed(&asked, false, random) };
        let head = format!("{method} {target} HTTP/1.1\r\n{}{length}{}\r\n", fields(random), fields(random));
        let blank = if random.one_in(4) { &b"\r\n"[..] } else { b"" };
        out.segments.push((Side::Agent, [blank, head.as_bytes(), &wire].concat()));

        let interim = |random: &mut Random| {
            let status = 102 + random.below(90);
            format!("HTTP/1.1 {status} x\r\n{}\r\n", fields(random))
        };
        let mut answer: Vec<u8> = (0..random.below(2)).flat_map(|_| interim(random).into_bytes()).collect();
        let status = [200, 204, 304, 404, 500][random.below(5)];
        let mut answered = content(random);
        let (length, mut wire) = framed(&answered, n == count, random);
        if method == "HEAD" || status == 204 || status == 304 {
            (wire, answered) = (Vec::new(), Vec::new());
        }
        let head = format!("HTTP/1.{} {status}\r\n{}{length}\r\n", random.below(2), fields(random));
        answer.extend([head.as_bytes(), &wire].concat());
        if pipelined {
            later.push((Side::Upstream, answer));
        } else {
            out.segments.push((Side::Upstream, answer));
        }
        out.want.push(Wanted { method, target, asked, status, answered });
    }
    if random.one_in(8) {
        // The copy of the answers may overtake that of the requests.
        later.append(&mut out.segments);
        later.sort_by_key(|(side, _)| *side == Side::Agent);
    }
    out.segments.append(&mut later);
    out
}
