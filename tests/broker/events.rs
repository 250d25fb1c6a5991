//! A client of server-sent events.
use std::collections::BTreeMap;
use std::io::Read;

use ac7::http1::{Asked, Framer, Headers, Part, Rules, Start};
use serde_json::Value;

use crate::rig::{Client, Rig, request};

/// A stream that is read block by block.
pub struct Stream {
    pub client: Client,
    framer: Framer,
    raw: Vec<u8>,
    text: Vec<u8>,
    /// So much of `text` has no end of a block.
    scanned: usize,
    pub status: u16,
    pub headers: Headers,
    ended: bool,
}

/// A block: its fields by name, comments under "".
pub type Block = BTreeMap<String, String>;

impl Stream {
    pub fn open(rig: &Rig, path: &str, token: &str, headers: &str) -> Stream {
        let mut client = rig.connect();
        client.send(&request("GET", path, token, "", headers));
        Stream::of(client)
    }

    pub fn of(client: Client) -> Stream {
        let mut framer = Framer::responses(Rules::CAPTURE);
        framer.answers(Asked::by("GET"));
        let (raw, text, headers) = (Vec::new(), Vec::new(), Headers::default());
        let mut stream = Stream { client, framer, raw, text, scanned: 0, status: 0, headers, ended: false };
        while stream.status == 0 {
            stream.read();
        }
        stream
    }

    /// Take in what comes next.
    fn read(&mut self) {
        let mut buf = [0; 64 << 10];
        let n = self.client.stream.read(&mut buf).expect("something, or the end, comes in time");
        self.raw.extend_from_slice(&buf[..n]);
        self.ended |= n == 0;
        let mut rest = &self.raw[..];
        while let Some(part) = self.framer.next(&mut rest).expect("the broker speaks HTTP") {
            match part {
                Part::Head(head) => {
                    let Start::Response { status } = head.start else { panic!("not an answer") };
                    (self.status, self.headers) = (status, head.headers);
                }
                Part::Body(data) => self.text.extend_from_slice(data),
                Part::Trailers(_) => {}
                Part::End => {
                    self.ended = true;
                    break;
                }
            }
        }
        let used = self.raw.len() - rest.len();
        self.raw.drain(..used);
    }

    /// The next block; `None` at the end.
    pub fn block(&mut self) -> Option<Block> {
        loop {
            let unscanned = &self.text[self.scanned..];
            if let Some(at) = unscanned.windows(2).position(|two| two == b"\n\n") {
                let at = self.scanned + at;
                self.scanned = 0;
                let text: Vec<u8> = self.text.drain(..at + 2).collect();
                let text = String::from_utf8(text).unwrap();
                let fields = text.trim_end().lines().map(|line| {
                    let (name, value) = line.split_once(':').unwrap();
                    (name.to_string(), value.trim_start().to_string())
                });
                return Some(fields.collect());
            }
            self.scanned = self.text.len().saturating_sub(1);
            if self.ended {
                assert!(self.text.is_empty(), "a block was cut");
                return None;
            }
            self.read();
        }
    }

    /// The next row: its id and itself.
    pub fn row(&mut self) -> (i64, Value) {
        loop {
            let block = self.block().expect("the stream goes on");
            if block.contains_key("") {
                continue;
            }
            assert_eq!(block["event"], "message", "{block:?}");
            return (block["id"].parse().unwrap(), serde_json::from_str(&block["data"]).unwrap());
        }
    }

    pub fn rows(&mut self, n: usize) -> Vec<i64> {
        (0..n).map(|_| self.row().0).collect()
    }

    /// Read to the end; gives the last row's id and why it ended.
    pub fn end(&mut self) -> (i64, String) {
        let (mut last, mut reason) = (0, None);
        while let Some(block) = self.block() {
            assert_eq!(reason, None, "the last event was not the last");
            match block.get("event").map(String::as_str) {
                Some("message") => last = block["id"].parse().unwrap(),
                Some("end") => reason = Some(block["data"].clone()),
                _ => {}
            }
        }
        let reason: Value = serde_json::from_str(&reason.expect("a final event")).unwrap();
        (last, reason["reason"].as_str().unwrap().to_string())
    }
}
