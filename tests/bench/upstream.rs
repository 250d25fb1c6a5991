//! The upstream of the bench: HTTPS, a thread a connection.
//!
//! `GET /bytes/N` is a download, `GET /sse/COUNT/MICROS` a stream whose events carry the time at which they were sent,
//! `POST /v1/messages` a model's streamed answer of 40 events, anything else a small JSON answer.
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, Builder};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::Failed;
use crate::http::{Peer, content_length, now};

const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Listen on a free port, print it, and serve until killed. `certs`: the directory of cert.pem and key.pem.
pub fn run(certs: &Path) -> Result<(), Failed> {
    let config = crate::server(certs)?;
    let answer: Arc<str> = model_answer().into();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (tcp, _) = listener.accept()?;
        let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
        Builder::new().stack_size(256 * 1024).spawn(move || drop(serve(tcp, config, &answer)))?;
    }
}

fn serve(tcp: TcpStream, config: Arc<ServerConfig>, answer: &str) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut conn = ServerConnection::new(config).map_err(io::Error::other)?;
    conn.set_buffer_limit(None);
    let mut peer = Peer::new(StreamOwned::new(conn, tcp));
    while let Some(head) = peer.head()? {
        peer.skip(content_length(&head).unwrap_or(0))?;
        let path = head.split(' ').nth(1).unwrap_or_default();
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        let out = &mut peer.stream;
        match words[..] {
            ["bytes", _] => download(out, number(1))?,
            ["sse", _, _] => stamped(out, number(1), Duration::from_micros(number(2)))?,
            ["v1", "messages"] => out.write_all(answer.as_bytes())?,
            _ => {
                let body = format!("{{\"pad\":\"{}\"}}", "x".repeat(190));
                let kind = "Content-Type: application/json";
                let head = format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {}\r\n\r\n", body.len());
                out.write_all((head + &body).as_bytes())?;
            }
        }
        out.flush()?;
    }
    Ok(())
}

fn download(out: &mut impl Write, size: u64) -> io::Result<()> {
    let kind = "Content-Type: application/octet-stream";
    out.write_all(format!("HTTP/1.1 200 OK\r\n{kind}\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
    let block = [b'x'; 64 * 1024];
    let mut left = usize::try_from(size).map_err(io::Error::other)?;
    while left > 0 {
        let piece = left.min(block.len());
        out.write_all(&block[..piece])?;
        left -= piece;
    }
    Ok(())
}

fn stamped(out: &mut impl Write, count: u64, pause: Duration) -> io::Result<()> {
    out.write_all(STREAM.as_bytes())?;
    for _ in 0..count {
        let event = format!("data: sent {} \n\n", now().as_micros());
        out.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())?;
        out.flush()?;
        thread::sleep(pause);
    }
    out.write_all(b"0\r\n\r\n")
}

/// Head and body of a streamed Messages answer with 40 pieces of text, in one chunk.
fn model_answer() -> String {
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let mut body = event(
        "message_start",
        r#","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":1}}"#,
    );
    body += &event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#);
    for i in 0..40 {
        let delta = format!(r#","index":0,"delta":{{"type":"text_delta","text":"word {i} "}}"#);
        body += &event("content_block_delta", &delta);
    }
    body += &event("content_block_stop", r#","index":0"#);
    let end = r#","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":42}"#;
    body += &event("message_delta", end);
    body += &event("message_stop", "");
    format!("{STREAM}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}
