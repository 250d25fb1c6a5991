//! Bytes are passed on as they come: unchanged, at once, in any amount, in both directions.
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::mock::{Coding, Fault, Mock, Options};
use support::run::wait_until;
use support::tls;

use crate::lab::{Held, Lab, MODEL, OTHER, Tls, call, closing, events, pem, post, read_head, tls_on};
use crate::server::{Server, echo, echo_tls, goodbye};

/// What a debug build takes for 100 MB on a busy machine, several times over.
const LONG: Duration = Duration::from_secs(60);

/// Everything that answers `request` until the end of the connection, and how that came.
fn ask(mut tls: Tls, request: &[u8]) -> (Vec<u8>, Result<(), ErrorKind>) {
    let mut answer = Vec::new();
    let end = tls.write_all(request).and_then(|()| tls.read_to_end(&mut answer)).map(drop);
    (answer, end.map_err(|e| e.kind()))
}

/// Ask two mocks of the same kind the same, one directly and one through ac7, and get the same bytes.
fn compare(held: &Held, near: &Mock, far: &Mock, request: &[u8]) -> Vec<u8> {
    let direct = TcpStream::connect(("127.0.0.1", near.port)).unwrap();
    let (want, want_end) = ask(tls_on(direct, MODEL, tls::client(&pem(near), false)), request);
    let (got, got_end) = ask(held.tls(MODEL, far.port, held.client()), request);
    assert!(!want.is_empty());
    assert!(got == want, "{}\n- - -\n{}", String::from_utf8_lossy(&got), String::from_utf8_lossy(&want));
    assert_eq!(got_end, want_end);
    got
}

#[test]
fn answers_are_the_same_in_every_coding_and_chunk_size() {
    let mut pairs = Vec::new();
    for coding in [Coding::Identity, Coding::Gzip, Coding::Deflate] {
        for chunk in [0, 1, 7, 4096] {
            for cut_after in [None, Some(7)] {
                let one = || closing(Options { coding, chunk, cut_after, ..Options::default() });
                pairs.push((one(), one()));
            }
        }
    }
    let all: Vec<&Mock> = pairs.iter().map(|(_, far)| far).collect();
    let lab = Lab::new(&all);
    let held = Held::start(&lab, &[]);
    for (near, far) in &pairs {
        let stream = compare(&held, near, far, post("/v1/messages", &call(true)).as_bytes());
        assert!(stream.starts_with(b"HTTP/1.1 200 "));
        compare(&held, near, far, post("/v1/messages", &call(false)).as_bytes());
        compare(&held, near, far, b"HEAD /bytes/5000 HTTP/1.1\r\nHost: x\r\n\r\n");
        compare(&held, near, far, b"GET /bytes/70000 HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_eq!(held.finish().code, Some(0));
    let events = lab.events();
    assert_eq!(events.len(), pairs.len() * 4);
    let whole =
        |e: &&Value| e["entry"]["kind"] == "anthropic_messages" && e["entry"].get("truncated").is_none();
    assert_eq!(events.iter().filter(whole).count(), pairs.len() * 2 - pairs.len() / 2);
}

#[test]
fn recorded_answers_in_br_and_zstd_pass_unchanged_and_are_understood() {
    for name in ["claude-br", "claude-zstd"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/http1").join(name);
        let request = fs::read(folder.join("03-api.anthropic.com.req")).unwrap();
        let answer = fs::read(folder.join("03-api.anthropic.com.res")).unwrap();
        let mock = Mock::start(Options { fault: Fault::Raw(answer.clone()), ..Options::default() });
        let lab = Lab::new(&[&mock]);
        let held = Held::start(&lab, &[]);
        let (got, end) = ask(held.tls(MODEL, mock.port, held.client()), &request);
        assert!(got == answer && end == Ok(()), "{name}");
        assert_eq!(held.finish().code, Some(0));
        let entry = lab.entry();
        assert_eq!(
            (&entry["kind"], entry.get("truncated")),
            (&Value::from("anthropic_messages"), None),
            "{name}"
        );
        assert_eq!(entry["response"]["stopReason"], "end_turn", "{name}");
        assert!(entry["response"]["messages"].to_string().contains("Hello from the mock."), "{entry}");
    }
}

#[test]
fn each_event_of_a_stream_is_passed_on_at_once() {
    // The server goes on only when the client has seen what came before.
    let (seen, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (server, pem) = Server::tls(&[], move |mut tls| {
        read_head(&mut tls);
        tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").unwrap();
        for n in 0..20 {
            tls.write_all(format!("data: {n}\n\n").as_bytes()).unwrap();
            tls.flush().unwrap();
            if wait.lock().unwrap().recv().is_err() {
                return;
            }
        }
        goodbye(tls);
    });
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls(MODEL, server.port, held.client());
    tls.write_all(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    read_head(&mut tls);
    for n in 0..20 {
        let mut event = vec![0; format!("data: {n}\n\n").len()];
        tls.read_exact(&mut event).unwrap();
        assert_eq!(event, format!("data: {n}\n\n").as_bytes());
        seen.send(()).unwrap();
    }
    assert_eq!(tls.read(&mut [0]).unwrap(), 0);
    drop(tls);
    held.finish();
}

/// A figure of /proc/PID/status in KiB.
fn status(held: &Held, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", held.pid())).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap();
    line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").parse().unwrap()
}

/// Memory that the runner may take above what it has when idle, in KiB.
const MORE: u64 = 32 * 1024;

#[test]
fn a_large_download_takes_no_memory() {
    const SIZE: u64 = 200_000_000;
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls(MODEL, mock.port, held.client());
    let mut get = |size: u64| {
        tls.write_all(format!("GET /bytes/{size} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        assert!(read_head(&mut tls).starts_with("HTTP/1.1 200 "));
        assert_eq!(io::copy(&mut (&mut tls).take(size), &mut io::sink()).unwrap(), size);
    };
    get(1000);
    let idle = status(&held, "VmRSS");
    get(SIZE);
    let peak = status(&held, "VmHWM");
    assert!(peak < idle + MORE, "{idle} KiB idle, {peak} KiB at most");
    drop(tls);
    held.finish();
    let entry = lab.events()[1]["entry"].clone();
    assert_eq!(entry["responseBodyBytes"], SIZE);
}

/// A body that the test makes up as it goes.
fn upload(tls: &mut Tls, size: usize) -> io::Result<()> {
    let piece = vec![b'u'; 64 * 1024];
    let head = format!("POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
    tls.write_all(head.as_bytes())?;
    let mut left = size;
    while left > 0 {
        let count = left.min(piece.len());
        tls.write_all(&piece[..count])?;
        left -= count;
    }
    tls.flush()
}

const EARLY: &[u8] = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";

#[test]
fn a_large_upload_that_is_answered_early_neither_hangs_nor_grows() {
    const SIZE: usize = 100_000_000;
    let reading = Mock::start(Options { fault: Fault::EarlyAnswer, ..Options::default() });
    // Answers and reads no more; closes when the client does.
    let (deaf, deaf_pem) = Server::tls(&[], |mut tls| {
        read_head(&mut tls);
        tls.write_all(EARLY).unwrap();
        tls.flush().unwrap();
        wait_until("the client is gone", || gone(&tls.sock));
    });
    // Answers and closes.
    let (closing, closing_pem) = Server::tls(&[], |mut tls| {
        read_head(&mut tls);
        tls.write_all(EARLY).unwrap();
        goodbye(tls);
    });
    let lab = Lab::trusting(&[pem(&reading), deaf_pem, closing_pem].concat());
    let held = Held::start(&lab, &[]);
    let idle = status(&held, "VmRSS");
    let began = Instant::now();

    // As curl does it: it stops where the answer comes.
    let file = lab.home.join("big");
    fs::File::create(&file).unwrap().set_len(SIZE as u64).unwrap();
    for port in [reading.port, deaf.port, closing.port] {
        let proxy = format!("http://127.0.0.1:{}", held.port);
        let ca = lab.home.join("ca.pem");
        fs::write(&ca, &held.ca).unwrap();
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "-sS",
            "--max-time",
            "60",
            "-H",
            "Expect:",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-x",
            &proxy,
        ]);
        curl.arg("--cacert").arg(&ca).arg("-T").arg(&file).arg(format!("https://{MODEL}:{port}/upload"));
        let output = curl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "413", "{said}");
    }
    // And as stubborn clients do: they send all of it, whether or not anybody reads.
    for port in [reading.port, closing.port] {
        let mut tls = held.tls(MODEL, port, held.client());
        upload(&mut tls, SIZE).unwrap();
        assert!(read_head(&mut tls).starts_with("HTTP/1.1 413 "));
    }
    let peak = status(&held, "VmHWM");
    assert!(peak < idle + MORE, "{idle} KiB idle, {peak} KiB at most");
    assert_eq!(held.finish().code, Some(0));
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    let events = lab.events();
    let early = events.iter().filter(|e| e["entry"]["status"] == 413).count();
    assert_eq!((events.len(), early), (5, 5), "{events:#?}");
}

#[test]
fn an_early_answer_comes_before_the_reset_behind_it() {
    // What a server leaves unread makes its end a reset, which hits the client while it still sends.
    let plain = Server::start(|mut tcp| {
        read_head(&mut tcp);
        tcp.write_all(EARLY).unwrap();
    });
    let (secured, pem) = Server::tls(&[], |mut tls| {
        read_head(&mut tls);
        tls.write_all(EARLY).unwrap();
        tls.flush().unwrap();
    });
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &["--trace-skip", OTHER]);
    let request = |target: &str| {
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
        [head.as_bytes(), &vec![b'u'; 1_000_000]].concat()
    };
    let (relative, absolute) =
        (request("/upload"), request(&format!("http://{MODEL}:{}/upload", plain.port)));
    // Both ways end somehow: without us they would as well.
    fn answer(wire: &mut (impl Read + Write), request: &[u8]) -> Vec<u8> {
        let mut answer = Vec::new();
        let _ = wire.write_all(request);
        let _ = wire.read_to_end(&mut answer);
        answer
    }
    for round in 0..100 {
        let untouched = answer(&mut held.connect(OTHER, plain.port), &relative);
        let forwarded = answer(&mut held.proxy(), &absolute);
        let mut tls = held.tls(MODEL, secured.port, held.client());
        let _ = tls.write_all(&relative);
        // This client would not read before it has written.
        while let Ok(1..) = tls.conn.read_tls(&mut tls.sock) {
            tls.conn.process_new_packets().unwrap();
        }
        let mut decrypted = Vec::new();
        let _ = tls.conn.reader().read_to_end(&mut decrypted);
        for (way, got) in [("untouched", untouched), ("decrypted", decrypted), ("forwarded", forwarded)] {
            assert!(got == EARLY, "round {round}, {way}: {:?}", String::from_utf8_lossy(&got));
        }
    }
    held.finish();
}

#[test]
fn who_does_not_read_stops_who_sends() {
    const SIZE: usize = 200_000_000;
    /// What two legs' socket buffers may hold, several times over.
    const HELD_UP: usize = SIZE / 2;
    let sent = Arc::new(AtomicUsize::new(0));
    let write_all = |to: &mut dyn Write, sent: &AtomicUsize| {
        let piece = vec![b'd'; 64 * 1024];
        while sent.load(Ordering::SeqCst) < SIZE {
            let count = piece.len().min(SIZE - sent.load(Ordering::SeqCst));
            to.write_all(&piece[..count]).unwrap();
            sent.fetch_add(count, Ordering::SeqCst);
        }
        to.flush().unwrap();
    };
    let (sending, told) = (Arc::clone(&sent), Arc::new(AtomicUsize::new(0)));
    let read = Arc::clone(&told);
    // Asked with GET it sends all of it, asked with POST it takes all of it, but only once it is told to.
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (server, pem) = Server::tls(&[], move |mut tls| {
        let head = read_head(&mut tls);
        tls.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).unwrap();
        if head.starts_with("GET ") {
            write_all(&mut tls, &sending);
        } else {
            wait.lock().unwrap().recv().unwrap();
            let count = io::copy(&mut (&mut tls).take(SIZE as u64), &mut io::sink()).unwrap();
            read.store(usize::try_from(count).unwrap(), Ordering::SeqCst);
        }
        goodbye(tls);
    });
    let lab = Lab::trusting(&pem);
    for flags in [&[][..], &["--trace-skip", MODEL]] {
        let held = Held::start(&lab, flags);
        let client = || if flags.is_empty() { held.client() } else { tls::client(&pem, false) };
        let idle = status(&held, "VmRSS");
        // It has stopped where a while brings nothing more; before that it has begun.
        let stopped = || {
            let before = sent.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(300));
            (before > 0 && sent.load(Ordering::SeqCst) == before).then_some(before)
        };
        sent.store(0, Ordering::SeqCst);
        let mut tls = held.tls(MODEL, server.port, client());
        tls.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read_head(&mut tls);
        let at = wait_until("the server is held up", stopped);
        assert!(at < HELD_UP, "{at} bytes went where nobody reads");
        assert_eq!(io::copy(&mut tls, &mut io::sink()).unwrap(), SIZE as u64);

        sent.store(0, Ordering::SeqCst);
        let mut tls = held.tls(MODEL, server.port, client());
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n");
        tls.write_all(head.as_bytes()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| write_all(&mut tls, &sent));
            let at = wait_until("the client is held up", stopped);
            assert!(at < HELD_UP, "{at} bytes went where nobody reads");
            go.send(()).unwrap();
        });
        wait_until("all of it has come", || (told.swap(0, Ordering::SeqCst) == SIZE).then_some(()));
        let peak = status(&held, "VmHWM");
        assert!(peak < idle + MORE, "{idle} KiB idle, {peak} KiB at most");
        drop(tls);
        held.finish();
    }
}

/// Whether the other side has closed, whatever lies unread before that.
fn gone(tcp: &TcpStream) -> Option<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(tcp, PollFlags::RDHUP)];
    poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap();
    (!fds[0].revents().is_empty()).then_some(())
}

#[test]
fn fifty_tunnels_at_once() {
    const COUNT: usize = 50;
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let held = Held::start(&lab, &[]);
    let (all_open, all_asked) = (Barrier::new(COUNT), Barrier::new(COUNT));
    thread::scope(|scope| {
        for _ in 0..COUNT {
            scope.spawn(|| {
                let mut tls = held.tls(MODEL, mock.port, held.client());
                tls.write_all(b"HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                assert!(read_head(&mut tls).starts_with("HTTP/1.1 200 "));
                all_open.wait();
                tls.write_all(post("/v1/messages", &call(true)).as_bytes()).unwrap();
                let mut answer = read_head(&mut tls).into_bytes();
                while !answer.ends_with(b"\r\n0\r\n\r\n") {
                    let mut more = [0; 4096];
                    let count = tls.read(&mut more).unwrap();
                    assert_ne!(count, 0, "the connection ended early");
                    answer.extend_from_slice(&more[..count]);
                }
                assert!(String::from_utf8_lossy(&answer).contains("message_stop"));
                all_asked.wait();
            });
        }
    });
    assert_eq!(mock.connections(), COUNT);
    let done = held.finish();
    assert!(done.stderr.starts_with("ac7: 50 model calls in 100 exchanges, 13 500 in "), "{}", done.stderr);
    let typed =
        |e: &&Value| e["entry"]["kind"] == "anthropic_messages" && e["entry"].get("truncated").is_none();
    assert_eq!(lab.events().iter().filter(typed).count(), COUNT);
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answer() {
    // Untouched bytes: the end of one direction is passed on, the other goes on, be it after long thought.
    const THOUGHT: Duration = Duration::from_secs(11);
    let server = Server::start(|mut tcp| {
        let mut all = Vec::new();
        tcp.read_to_end(&mut all).unwrap();
        thread::sleep(THOUGHT);
        tcp.write_all(&all).unwrap();
    });
    let (tls_server, pem) = Server::tls(&[], |mut tls| {
        let mut all = Vec::new();
        tls.read_to_end(&mut all).unwrap();
        assert!(all.starts_with(b"POST /x "));
        thread::sleep(THOUGHT);
        tls.write_all(b"HTTP/1.1 200 OK\r\n\r\nall of it").unwrap();
        goodbye(tls);
    });
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);

    let mut tcp = held.connect(OTHER, server.port);
    tcp.write_all(b"no TLS at all").unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    let mut tls = held.tls(MODEL, tls_server.port, held.client());
    tls.write_all(b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    tls.sock.shutdown(Shutdown::Write).unwrap();

    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "no TLS at all");
    answer.clear();
    tls.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "HTTP/1.1 200 OK\r\n\r\nall of it");
    held.finish();
}

#[test]
fn bytes_go_both_ways_at_once() {
    const SIZE: usize = 4_000_000;
    let plain = Server::start(echo);
    let (secured, pem) = Server::tls(&[], echo_tls);
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    let sent: Vec<u8> = (0..SIZE as u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();

    let mut tcp = held.connect(OTHER, plain.port);
    let mut back = Vec::new();
    thread::scope(|scope| {
        let mut up = tcp.try_clone().unwrap();
        let sent = &sent;
        scope.spawn(move || {
            up.write_all(sent).unwrap();
            up.shutdown(Shutdown::Write).unwrap();
        });
        tcp.read_to_end(&mut back).unwrap();
    });
    assert!(back == sent);

    // Inside TLS in turns: this client has one thread.
    let mut tls = held.tls(OTHER, secured.port, held.client());
    for piece in sent.chunks(64 * 1024) {
        tls.write_all(piece).unwrap();
        let mut back = vec![0; piece.len()];
        tls.read_exact(&mut back).unwrap();
        assert!(back == piece);
    }
    drop(tls);
    held.finish();
    assert!(events(&lab.db()).iter().all(|e| e["entry"]["method"] == "CONNECT"), "neither is HTTP");
}

#[test]
fn a_connection_that_idles_does_not_hold_the_session_up() {
    let mock = Mock::start(Options { first_delay: LONG * 10, ..Options::default() });
    let lab = Lab::new(&[&mock]);
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls(MODEL, mock.port, held.client());
    tls.write_all(post("/v1/messages", &call(true)).as_bytes()).unwrap();
    read_head(&mut tls);
    let began = Instant::now();
    let done = held.finish();
    assert_eq!(done.code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(done.stderr.contains("1 exchange truncated"), "{}", done.stderr);
    let entry = lab.entry();
    assert_eq!(
        (&entry["truncated"], &entry["request"]["model"]),
        (&Value::Bool(true), &Value::from("claude-x"))
    );
}
