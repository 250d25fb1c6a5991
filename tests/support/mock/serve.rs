//! One connection of the mock, from accept to end.
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::answers::{self, Event};
use super::coding::{Coding, Encoder};
use super::request::{Seen, read_body, read_head};
use super::{Fault, Shared};

/// TLS or plain TCP.
trait Wire: Read + Write {
    /// End it in an orderly way.
    fn finish(&mut self) {}
}

impl Wire for TcpStream {}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn finish(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Close,
    /// End it without any goodbye.
    Cut,
}

/// Serve one connection until either side ends it.
///
/// `connection`: its number, from 1.
pub(super) fn serve(mut tcp: TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    match shared.options.fault {
        // Closing a socket with unread bytes in it resets the connection.
        Fault::Reset => return tcp.peek(&mut [0]).map(drop),
        Fault::Silent => return io::copy(&mut tcp, &mut io::sink()).map(drop),
        _ => {}
    }
    let mut server_name = None;
    let wire: Box<dyn Wire> = if shared.options.plain {
        Box::new(tcp)
    } else {
        let mut conn = ServerConnection::new(Arc::clone(&shared.tls)).map_err(io::Error::other)?;
        while conn.is_handshaking() {
            conn.complete_io(&mut tcp)?;
        }
        server_name = conn.server_name().map(str::to_string);
        Box::new(StreamOwned::new(conn, tcp))
    };
    let mut wire = BufReader::with_capacity(64 * 1024, wire);
    while let Some(mut seen) = read_head(&mut wire)? {
        seen.connection = connection;
        seen.server_name.clone_from(&server_name);
        if shared.options.fault == Fault::EarlyAnswer {
            Answer { out: wire.get_mut(), shared, request: &seen }.json(413, &answers::error(413))?;
        } else if seen.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
            wire.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        read_body(&mut wire, &mut seen)?;
        shared.record(seen.clone());
        let mut answer = Answer { out: wire.get_mut(), shared, request: &seen };
        let then = match &shared.options.fault {
            Fault::NoAnswer => {
                io::copy(&mut wire, &mut io::sink())?;
                return Ok(());
            }
            Fault::Raw(bytes) => {
                answer.out.write_all(bytes)?;
                Then::Close
            }
            Fault::EarlyAnswer => Then::Keep,
            Fault::None | Fault::Reset | Fault::Silent => answer.give()?,
        };
        wire.get_mut().flush()?;
        match then {
            Then::Keep if !shared.options.close => {}
            Then::Keep | Then::Close => break,
            Then::Cut => return Ok(()),
        }
    }
    wire.get_mut().finish();
    Ok(())
}

/// The way to answer one request.
struct Answer<'a> {
    out: &'a mut Box<dyn Wire>,
    shared: &'a Shared,
    request: &'a Seen,
}

impl Answer<'_> {
    /// Answer as the provider that the path belongs to.
    fn give(&mut self) -> io::Result<Then> {
        let route = self.request.route();
        if matches!(self.request.method.as_str(), "GET" | "HEAD") {
            if let Some(size) = route.strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
                return self.bytes(size);
            }
            if route.ends_with("/models") {
                return self.json(200, &json!({"object": "list", "data": [], "models": []}));
            }
            return self.json(404, &answers::error(404));
        }
        if route.ends_with("/v1/messages/count_tokens") {
            return self.json(200, &json!({"input_tokens": 150}));
        }
        let model_call =
            ["/v1/messages", "/responses", "/chat/completions"].iter().any(|end| route.ends_with(end));
        if !model_call {
            return self.json(200, &json!({}));
        }
        if let Some(status) = self.shared.failure() {
            return self.json(status, &answers::error(status));
        }
        let body = self.request.json();
        let model = body["model"].as_str().unwrap_or("mock-model");
        let stream = body["stream"] == true;
        let id = self.shared.next_id();
        if route.ends_with("/v1/messages") {
            let tool = self.tool(&body["messages"], &body["tools"], |m| m["role"] == "assistant");
            if stream {
                return self.stream(&answers::messages_events(model, tool, &id));
            }
            return self.json(200, &answers::messages(model, tool, &id));
        }
        if route.ends_with("/responses") {
            let tool = self.tool(&body["input"], &body["tools"], |i| i["type"] == "function_call_output");
            return self.stream(&answers::responses_events(model, tool, &id));
        }
        if stream { self.stream(&answers::chat_events(model)) } else { self.json(200, &answers::chat(model)) }
    }

    /// The tool to call: if it is offered, and as long as the conversation holds fewer turns than asked for.
    fn tool(
        &self,
        items: &Value,
        offered: &Value,
        is_turn: impl Fn(&&Value) -> bool,
    ) -> Option<(&str, &str)> {
        let options = &self.shared.options;
        let (name, input) = options.tool.as_ref()?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let turns = list(items).iter().filter(is_turn).count();
        let offered = options.tool_always || list(offered).iter().any(|tool| tool["name"] == name.as_str());
        (offered && turns < options.turns.max(1)).then_some((name, input))
    }

    /// Status line and headers; `length`: of the body, `None` if it is chunked.
    fn head(&mut self, status: u16, kind: &str, coding: Coding, length: Option<usize>) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Mock\r\nContent-Type: {kind}\r\n");
        if let Some(name) = coding.name() {
            head += &format!("Content-Encoding: {name}\r\n");
        }
        head += &match length {
            Some(length) => format!("Content-Length: {length}\r\n"),
            None => "Transfer-Encoding: chunked\r\n".to_string(),
        };
        if self.shared.options.close {
            head += "Connection: close\r\n";
        }
        if status == 429 || status == 529 {
            head += "retry-after: 1\r\n";
        }
        head += &format!("request-id: req_mock{}\r\n\r\n", self.shared.next_id());
        self.out.write_all(head.as_bytes())
    }

    fn json(&mut self, status: u16, value: &Value) -> io::Result<Then> {
        let coding = self.shared.options.coding;
        let mut encoder = Encoder::new(coding);
        let mut body = encoder.feed(value.to_string().as_bytes());
        body.extend(encoder.end());
        self.head(status, "application/json", coding, Some(body.len()))?;
        if self.request.method != "HEAD" {
            self.out.write_all(&body)?;
        }
        self.out.flush()?;
        Ok(Then::Keep)
    }

    /// A download of `size` bytes.
    fn bytes(&mut self, size: usize) -> io::Result<Then> {
        self.head(200, "application/octet-stream", Coding::Identity, Some(size))?;
        let block = [b'x'; 64 * 1024];
        let mut left = if self.request.method == "HEAD" { 0 } else { size };
        while left > 0 {
            let piece = left.min(block.len());
            self.out.write_all(&block[..piece])?;
            left -= piece;
        }
        Ok(Then::Keep)
    }

    fn stream(&mut self, events: &[Event]) -> io::Result<Then> {
        let options = &self.shared.options;
        let mut encoder = Encoder::new(options.coding);
        self.head(200, "text/event-stream; charset=utf-8", options.coding, None)?;
        self.out.flush()?;
        self.shared.pause(options.first_delay)?;
        let end = if self.shared.overload() { 5 } else { events.len() };
        for (count, event) in events[..end.min(events.len())].iter().enumerate() {
            if options.cut_after == Some(count) {
                return Ok(Then::Cut);
            }
            self.chunks(&encoder.feed(event.text().as_bytes()))?;
            self.shared.pause(options.delay)?;
        }
        if end < events.len() {
            self.chunks(&encoder.feed(answers::overloaded().text().as_bytes()))?;
        }
        self.chunks(&encoder.end())?;
        self.out.write_all(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    }

    /// `data` in chunks of the size that was asked for.
    fn chunks(&mut self, data: &[u8]) -> io::Result<()> {
        let size = if self.shared.options.chunk == 0 { usize::MAX } else { self.shared.options.chunk };
        for piece in data.chunks(size) {
            self.out.write_all(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())?;
        }
        self.out.flush()
    }
}
