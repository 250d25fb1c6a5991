//! The property that matters most: whatever valid messages are sent, cut anywhere, the same messages come out.
use super::*;
use crate::capture::extract::may_be_model_call;

/// Messages made by rote: what a framer must give back whatever the cuts.
struct Pipeline {
    agent: Vec<u8>,
    upstream: Vec<u8>,
    want: Vec<Wanted>,
}

/// Method, target, request body, status, response body.
type Wanted = (String, String, Vec<u8>, u16, Vec<u8>);

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("below a usize")
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| b"\r\n0aHTP/1. :\0\xff"[self.below(14)]).collect()
    }

    fn name(&mut self) -> String {
        (0..=self.below(8)).map(|_| char::from(b"abX-9"[self.below(5)])).collect()
    }

    /// Fields that say nothing about the body.
    fn fields(&mut self) -> String {
        let fields = (0..self.below(5))
            .map(|_| format!("x{}:{}{}\r\n", self.name(), [" ", "", "\t "][self.below(3)], self.name()));
        fields.collect()
    }

    /// A body under a length or in chunks: the fields that announce it, and its bytes on the wire.
    fn coded(&mut self, body: &[u8]) -> (String, Vec<u8>) {
        if self.below(2) == 0 {
            return (format!("Content-Length: {}\r\n", body.len()), body.to_vec());
        }
        let (mut wire, mut rest) = (Vec::new(), body);
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(1 + self.below(rest.len()));
            let extension = ["", ";a", ";a=\"b\"", " "][self.below(4)];
            wire.extend_from_slice(
                format!("{}{:x}{extension}\r\n", ["", "00"][self.below(2)], piece.len()).as_bytes(),
            );
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
            rest = more;
        }
        wire.extend_from_slice(format!("0\r\n{}\r\n", self.fields()).as_bytes());
        ("transfer-encoding: chunked\r\n".into(), wire)
    }

    fn pipeline(&mut self) -> Pipeline {
        let mut out = Pipeline { agent: Vec::new(), upstream: Vec::new(), want: Vec::new() };
        let count = 1 + self.below(6);
        for n in 1..=count {
            let (method, target) =
                (["GET", "POST", "HEAD", "PATCH"][self.below(4)], format!("/{}", self.name()));
            let body = if method == "GET" { Vec::new() } else { self.bytes(300) };
            let (length, wire) =
                if body.is_empty() { (String::new(), Vec::new()) } else { self.coded(&body) };
            let head =
                format!("{method} {target} HTTP/1.1\r\n{}{length}{}\r\n", self.fields(), self.fields());
            out.agent.extend([head.as_bytes(), &wire, &b"\r\n"[..2 * self.below(2)]].concat());
            for _ in 0..self.below(2) {
                out.upstream.extend(
                    format!("HTTP/1.1 1{:02} x\r\n{}\r\n", 2 + self.below(50), self.fields()).bytes(),
                );
            }
            let status = [200, 204, 304, 404, 500][self.below(5)];
            let mut answer = self.bytes(300);
            let (mut length, mut wire) = self.coded(&answer);
            if n == count && self.below(3) == 0 {
                (length, wire) = (String::new(), answer.clone());
            }
            if method == "HEAD" || status == 204 || status == 304 {
                (wire, answer) = (Vec::new(), Vec::new());
            }
            let head = format!("HTTP/1.{} {status}\r\n{}{length}\r\n", self.below(2), self.fields());
            out.upstream.extend([head.as_bytes(), &wire].concat());
            out.want.push((method.into(), target, body, status, answer));
        }
        out
    }
}

#[test]
fn gives_back_random_pipelines_at_any_cut() {
    let mut random = Random(99);
    for round in 0..3000 {
        let pipeline = random.pipeline();
        let (mut agent, mut upstream, mut out) = (&pipeline.agent[..], &pipeline.upstream[..], Vec::new());
        let target = Target { scheme: "https", host: "a.b".into(), port: 443 };
        let mut connection = Connection::new(target, Limits::default(), may_be_model_call);
        let top = [1, 3, 20, 500, 5000][random.below(5)];
        while !agent.is_empty() || !upstream.is_empty() {
            let first = upstream.is_empty() || (!agent.is_empty() && random.below(2) == 0);
            let (side, bytes) =
                if first { (Side::Agent, &mut agent) } else { (Side::Upstream, &mut upstream) };
            let (piece, rest) = bytes.split_at((1 + random.below(top)).min(bytes.len()));
            connection.feed(side, piece, 1, &mut out);
            *bytes = rest;
        }
        connection.end(Side::Agent, 1, &mut out);
        connection.end(Side::Upstream, 1, &mut out);
        let given: Vec<_> = out
            .into_iter()
            .map(|one| match one {
                Captured::Exchange(e) => {
                    assert!(!e.truncated(), "round {round}");
                    let status = e.response.map_or(0, |r| r.status);
                    (e.request.method, e.request.target, e.request_body.bytes, status, e.response_body.bytes)
                }
                other => panic!("round {round}: {other:?}"),
            })
            .collect();
        assert_eq!(given, pipeline.want, "round {round}");
    }
}
