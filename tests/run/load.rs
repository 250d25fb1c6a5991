//! Many connections, and too many.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use support::mock::{Mock, Options};
use support::run::{PATIENCE, wait_until};
use support::tls;

use crate::lab::{Held, Lab, MODEL, OTHER, Tls, post, read_head};
use crate::server::{Server, goodbye};

fn echo(mut tcp: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = tcp.read(&mut bytes) {
        if tcp.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn echoes(tcp: &mut TcpStream, words: &str) -> bool {
    let mut back = vec![0; words.len()];
    tcp.write_all(words.as_bytes()).and_then(|()| tcp.read_exact(&mut back)).is_ok()
        && back == words.as_bytes()
}

#[test]
fn a_thousand_tunnels_are_open_at_once() {
    const COUNT: usize = 1000;
    ac7::sys::limits::raise_files(8192);
    let (server, lab) = (Server::start(echo), Lab::new(&[]));
    let held = Held::start(&lab, &["--scope", "model"]);
    let mut all: Vec<TcpStream> = (0..COUNT).map(|_| held.connect(OTHER, server.port)).collect();
    for round in ["first", "second"] {
        assert!(all.iter_mut().all(|tcp| echoes(tcp, round)), "{round}");
    }
    drop(all);
    held.finish();
    let bytes = |e: &serde_json::Value| e["entry"]["tunnel"]["bytesUp"].as_u64();
    assert_eq!(lab.events().iter().filter(|e| bytes(e) == Some(11)).count(), COUNT);
}

#[test]
fn a_thousand_decrypted_streams_are_open_at_once() {
    const COUNT: usize = 1000;
    ac7::sys::limits::raise_files(8192);
    let go = Arc::new(Barrier::new(COUNT + 1));
    let wait = Arc::clone(&go);
    let (server, pem) = Server::tls(&[], move |mut tls| {
        read_head(&mut tls);
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").unwrap();
        tls.flush().unwrap();
        wait.wait();
        tls.write_all(b"data: 2\n\n").unwrap();
        goodbye(tls);
    });
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    let client = tls::client(&held.ca, true);
    let mut all: Vec<Tls> = (0..COUNT)
        .map(|_| {
            let mut tls = held.tls(MODEL, server.port, client.clone());
            tls.write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            tls
        })
        .collect();
    let mut first = [0; b"data: 1\n\n".len()];
    for tls in &mut all {
        assert!(read_head(tls).starts_with("HTTP/1.1 200 "));
        tls.read_exact(&mut first).unwrap();
    }
    go.wait();
    for mut tls in all {
        let mut rest = Vec::new();
        tls.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"data: 2\n\n");
    }
    let done = held.finish();
    assert!(!done.stderr.contains("truncated"), "{}", done.stderr);
    let whole = |e: &serde_json::Value| e["entry"]["responseBodyPreview"] == "data: 1\n\ndata: 2\n\n";
    assert_eq!(lab.events().iter().filter(|e| whole(e)).count(), COUNT);
}

#[test]
fn without_descriptors_connections_wait_and_nothing_dies() {
    let (server, mock) = (Server::start(echo), Mock::start(Options::default()));
    let lab = Lab::new(&[&mock]);
    let run = lab.command(&["--trace-skip", OTHER], &["sh", "-c", Held::SCRIPT]);
    // A shell lowers the limit for the runner alone.
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 48; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    limited.env_clear().envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(run.get_current_dir().unwrap());
    let held = Held::start_as(&limited);
    let mut open = Vec::new();
    let mut refused = 0;
    // Some get through, some a 502 because there is no socket for the upstream, the others wait to be accepted.
    for _ in 0..64 {
        let mut tcp = held.proxy();
        tcp.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        tcp.write_all(format!("CONNECT {OTHER}:{} HTTP/1.1\r\n\r\n", server.port).as_bytes()).unwrap();
        let head = read_head(&mut tcp);
        refused += usize::from(!head.starts_with("HTTP/1.1 200 "));
        open.push((tcp, head));
    }
    assert!(refused > 0, "48 descriptors are not enough for 64 tunnels");
    for (tcp, head) in &mut open {
        if head.starts_with("HTTP/1.1 200 ") {
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(echoes(tcp, "still here"));
        }
    }
    drop(open);
    // Afterwards all is as before, decryption too.
    wait_until("the tunnels have ended", || {
        let (head, _) = held.ask_connect(&format!("{MODEL}:{}", mock.port));
        head.starts_with("HTTP/1.1 200 ").then_some(())
    });
    let mut tls = held.tls(MODEL, mock.port, held.client());
    tls.write_all(post("/v1/messages", &crate::lab::call(false)).as_bytes()).unwrap();
    assert!(read_head(&mut tls).starts_with("HTTP/1.1 200 "));
    drop(tls);
    let done = held.finish();
    assert!(done.stderr.contains("1 model call"), "{}", done.stderr);
}
