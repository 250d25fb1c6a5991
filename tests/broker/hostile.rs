//! Clients that break the rules, by mistake or not.
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use ac7::broker::Limits;
use ac7::identity::{SetupOptions, setup};
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::rig::{Client, Rig, request, threads, upload, wait_for};

/// Limits that a test can wait for.
fn short() -> Limits {
    let short = Duration::from_millis(300);
    Limits { head: short, body: short, idle: short, ..Limits::default() }
}

#[test]
fn what_is_unclean_is_refused() {
    let rig = Rig::new();
    let auth = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", rig.ann);
    let post = |rest: &str| format!("POST /members/ann/activity HTTP/1.1\r\n{auth}{rest}").into_bytes();
    let deep = "[".repeat(200_000);
    let many: String = (0..20_000).map(|i| format!("X{i}: a\r\n")).collect();
    let utf8 = b"{\"events\":[{\"kind\":\"\xff\xfe\",\"ts\":1}]}";
    for (what, want, bytes) in [
        ("a huge header", 431, format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(200_000)).into_bytes()),
        ("20 000 headers", 431, format!("GET / HTTP/1.1\r\n{many}\r\n").into_bytes()),
        ("a huge path", 431, format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000)).into_bytes()),
        ("1 GB announced", 413, post("Content-Length: 1073741824\r\n\r\nxxx")),
        ("more than 64 bits announced", 400, post("Content-Length: 99999999999999999999\r\n\r\n")),
        ("one byte too many", 413, post("Content-Length: 8388609\r\n\r\n")),
        (
            "a chunk too many",
            413,
            post(&format!("Transfer-Encoding: chunked\r\n\r\n800001\r\n{}", "x".repeat(0x80_0001))),
        ),
        ("a negative length", 400, post("Content-Length: -5\r\n\r\n")),
        ("a signed length", 400, post("Content-Length: +5\r\n\r\n{bad}")),
        ("two lengths", 400, post("Content-Length: 5\r\nContent-Length: 6\r\n\r\n{bad}")),
        ("length and chunks", 400, post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("an unknown coding", 400, post("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")),
        ("a broken chunk", 400, post("Transfer-Encoding: chunked\r\n\r\nzz\r\n")),
        (
            "deep JSON",
            400,
            [post(&format!("Content-Length: {}\r\n\r\n", deep.len())), deep.into_bytes()].concat(),
        ),
        (
            "invalid UTF-8",
            400,
            [post(&format!("Content-Length: {}\r\n\r\n", utf8.len())), utf8.to_vec()].concat(),
        ),
        ("TLS", 400, b"\x16\x03\x01\x02\x00\x01\x00".to_vec()),
        ("HTTP/2", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("no HTTP at all", 400, b"hello world\r\n\r\n".to_vec()),
        ("a bare LF", 400, b"GET /healthz HTTP/1.1\nHost: localhost\n\n".to_vec()),
        ("a folded header", 400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n".to_vec()),
        ("no Host", 400, b"GET /healthz HTTP/1.1\r\n\r\n".to_vec()),
        ("two Hosts", 400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a foreign Host", 421, b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_vec()),
        ("a Host like ours", 421, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n".to_vec()),
        (
            "an absolute target",
            400,
            b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        ("CONNECT", 400, b"CONNECT a:443 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        (
            "a token outside ASCII",
            400,
            "GET /briefing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer é\r\n\r\n".into(),
        ),
        ("an unknown expectation", 417, post("Expect: wonders\r\nContent-Length: 5\r\n\r\n")),
    ] {
        assert_eq!(rig.status_of(&bytes), want, "{what}");
        assert_eq!(rig.get("/healthz").status, 200, "after {what}");
    }
    for refused in rig.log.events("refused") {
        assert_eq!(refused["peer"], "127.0.0.1");
        assert!(refused["status"].as_u64() >= Some(400), "{refused}");
    }
}

#[test]
fn an_unfinished_request_ends_in_time() {
    let rig = Rig::with(short());
    let began = Instant::now();
    assert_eq!(rig.status_of(b""), 0, "a connection that says nothing");
    assert_eq!(rig.status_of(b"GET /healthz HTTP/1.1\r\nX-Slow: "), 408);
    let head = "POST /members/ann/activity HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345";
    assert_eq!(rig.status_of(head.as_bytes()), 408);
    let mut client = rig.connect();
    client.send(&request("GET", "/healthz", "", "", ""));
    assert_eq!(client.reply("GET").unwrap().status, 200);
    assert!(client.is_closed(), "idle after an answer");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_head_that_trickles_in_is_cut_off() {
    let rig = Rig::with(short());
    let mut client = rig.connect();
    client.send("GET /healthz HTTP/1.1\r\n");
    let began = Instant::now();
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    // Each line keeps the connection busy; only the deadline for the whole head ends it.
    while client.stream.peek(&mut [0]).is_err() {
        assert!(began.elapsed() < Duration::from_secs(5), "held for {:?}", began.elapsed());
        client.send_if_taken(b"X: y\r\n");
    }
    assert_eq!(client.reply("GET").unwrap().status, 408);
}

#[test]
fn half_open_connections_take_places_only_from_each_other() {
    let rig = Rig::with(Limits { clients: 64, ..Limits::default() });
    let held: Vec<TcpStream> = (0..300).map(|_| rig.connect().stream).collect();
    assert_eq!(rig.get("/briefing").status, 200);
    wait_for("the threads of closed connections", || threads("ac7-client") <= 64);
    // The oldest went, the youngest are still there.
    assert!(matches!((&held[0]).read(&mut [0]), Ok(0)));
    held[299].set_nonblocking(true).unwrap();
    assert!((&held[299]).read(&mut [0]).is_err());
}

#[test]
fn a_request_in_work_is_not_closed_to_make_room() {
    let rig = Rig::with(Limits { clients: 8, ..Limits::default() });
    let blocker = rusqlite::Connection::open(rig.database()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut working = rig.upload_in_work();
    let _held: Vec<Client> = (0..50).map(|_| rig.connect()).collect();
    assert_eq!(rig.get("/healthz").status, 200);
    blocker.execute_batch("COMMIT").unwrap();
    assert_eq!(working.reply("POST").unwrap().status, 201);
}

#[test]
fn clients_that_do_not_read_hold_up_no_others() {
    // Longer than others wait for a place behind the edge.
    let rig = Rig::with(Limits { write: Duration::from_secs(12), ..Limits::default() });
    let asked = request("GET", "/web/timeline.js", "", "", "").repeat(1500);
    // More of them than there are places.
    let deaf: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = rig.connect();
            set_socket_recv_buffer_size(&client.stream, 4096).unwrap();
            client.send(&asked);
            client
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(60);
    while rig.log.events("answer broken off").len() < deaf.len() {
        assert_eq!(rig.get("/briefing").status, 200);
        assert!(Instant::now() < until, "they are still being answered");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn running_out_of_file_descriptors_is_survived() {
    // A process of its own: what is short there is short for no other test.
    let home = support::ac7!();
    setup(&SetupOptions {
        path: home.join("home/ac7.json"),
        team: "T".into(),
        directive: None,
        context: None,
        member: "ann".into(),
        title: None,
    })
    .unwrap();
    let mut serve = home.ac7(["serve", "--port", "0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|l| l.strip_prefix("ac7 serve: listening on http://").map(str::to_string));
    let address: SocketAddr = address.unwrap().parse().unwrap();
    let short = Arc::new(AtomicBool::new(false));
    let seen = short.clone();
    let drain = thread::spawn(move || {
        lines.for_each(|line| seen.store(seen.load(Relaxed) || line.contains("\"cannot accept\""), Relaxed));
    });
    let is_served = || {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(client, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    is_served();
    let pid = Pid::from_child(&serve);
    let used = std::fs::read_dir(format!("/proc/{}/fd", serve.id())).unwrap().count() as u64;
    let limit = |current| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        rustix::process::prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(current), maximum })
            .unwrap()
    };
    let before = limit(used + 41);
    let mut held = Vec::new();
    wait_for("a shortage in the log", || {
        held.push(TcpStream::connect(address).unwrap());
        short.load(Relaxed)
    });
    // The shortage lasts, but whoever asks gets an answer: those who say nothing lose their places.
    is_served();
    limit(before.current.unwrap());
    drop(held);
    is_served();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(serve.wait().unwrap().code(), Some(0));
    drain.join().unwrap();
}

/// Whether the broker has answered a client that does not wait for it, or has left it.
fn answered(client: &Client) -> bool {
    !client.stream.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
}

#[test]
fn the_memory_for_bodies_is_bounded() {
    let rig = Rig::with(Limits { all_bodies: 1 << 20, ..Limits::default() });
    let head = |n: usize| {
        let (host, path) = ("Host: localhost", "/members/ann/activity");
        format!(
            "POST {path} HTTP/1.1\r\n{host}\r\nAuthorization: Bearer {}\r\nContent-Length: {n}\r\n\r\n",
            rig.ann
        )
    };
    let fill = || {
        let mut client = rig.connect();
        client.send(&head(1 << 20));
        client.send_if_taken(" ".repeat((1 << 20) - 1).as_bytes());
        client.stream.set_nonblocking(true).unwrap();
        client
    };
    let mut first = fill();
    let status = || {
        let mut second = rig.connect();
        second.send(&head(4));
        second.send("    ");
        second.reply("POST").unwrap().status
    };
    wait_for("the budget to be spent", || {
        // The few bytes of the second may have been what was missing for the first.
        if answered(&first) {
            first = fill();
        }
        status() == 503
    });
    drop(first);
    wait_for("the budget to be back", || status() == 400);
}

#[test]
fn strangers_leave_members_room_for_their_bodies() {
    let rig = Rig::with(Limits { strangers_bodies: 256 << 10, ..Limits::default() });
    // Bodies that are small enough for anybody and never end.
    let head = |auth: &str, n: usize| {
        format!("POST /members/ann/activity HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: {n}\r\n\r\n")
    };
    let hold = |auth: &str| {
        let mut client = rig.connect();
        client.send(&head(auth, 64 << 10));
        client.send_if_taken(" ".repeat((64 << 10) - 1).as_bytes());
        client.stream.set_nonblocking(true).unwrap();
        client
    };
    let wrong = "Authorization: Bearer ac7_wrong\r\nCookie: ac7_session=x\r\n";
    let mut held: Vec<_> = (0..4).map(|i| hold(if i % 2 == 0 { "" } else { wrong })).collect();
    let stranger = || rig.call("POST", "/session/totp", "", r#"{"code": "1"}"#).status;
    wait_for("the strangers' share to be spent", || {
        // The few bytes of the one who asks may have been what was missing for one of them.
        if let Some(refused) = held.iter_mut().find(|client| answered(client)) {
            *refused = hold("");
            return false;
        }
        stranger() == 503
    });
    for _ in 0..10 {
        assert_eq!(rig.call("POST", "/members/ann/activity", &rig.ann, &upload(1..=200)).status, 201);
    }
    assert_eq!(rig.call("GET", "/healthz", "", "").status, 200, "what has no body needs no room");
    drop(held);
    wait_for("the share to be back", || stranger() == 400);
}

/// Resident memory of this process, in KB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_half_open_connections_are_borne() {
    let before = getrlimit(Resource::Nofile);
    // Both ends are in this process, but no more of the broker's than it takes in.
    let most = before.maximum.unwrap_or(u64::MAX).min(16_384);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: before.maximum }).unwrap();
    let rig = Rig::new();
    let start = resident();
    let room = usize::try_from(most).unwrap() - 4096;
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    for i in 0..10_000 {
        // Where fewer may be open, the oldest make room: the broker has closed them by then.
        if held.len() >= room {
            held.pop_front();
        }
        let mut client = rig.connect();
        client.send_if_taken(if i % 2 == 0 { b"" } else { b"GET /healthz HTTP/1.1\r\nX-Slow: " });
        held.push_back(client.stream);
        if i % 1000 == 999 {
            assert_eq!(rig.get("/briefing").status, 200, "after {i}");
        }
    }
    let health = rig.call("GET", "/healthz?verbose", "", "").json();
    assert!(health["connections"].as_u64().unwrap() <= 2048 + 64, "{health}");
    assert!(health["connectionsEvicted"].as_u64().unwrap() >= 8000, "{health}");
    let grown = resident().saturating_sub(start);
    assert!(grown < 128 << 10, "{grown} KB more");
    drop(held);
    assert_eq!(rig.get("/briefing").status, 200);
    drop(rig);
    setrlimit(Resource::Nofile, before).unwrap();
}

#[test]
fn a_body_of_a_gigabyte_is_cut_off() {
    let rig = Rig::new();
    let auth = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", rig.ann);
    let start = resident();
    for (what, framing, piece) in [
        ("announced", "Content-Length: 1073741824\r\n".to_string(), vec![b' '; 1 << 20]),
        (
            "in chunks",
            "Transfer-Encoding: chunked\r\n".to_string(),
            [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat(),
        ),
    ] {
        let mut client = rig.connect();
        client.send(&format!("POST /members/ann/activity HTTP/1.1\r\n{auth}{framing}\r\n"));
        let sent = (0..1024).take_while(|_| client.stream.write_all(&piece).is_ok()).count();
        assert!(sent < 64, "{what}: {sent} MB were taken");
        assert_eq!(rig.get("/briefing").status, 200, "after {what}");
    }
    let grown = resident().saturating_sub(start);
    assert!(grown < 64 << 10, "{grown} KB more");
}

#[test]
fn strangers_may_not_send_large_bodies() {
    let rig = Rig::new();
    let post = |rest: &str| format!("POST /members/ann/activity HTTP/1.1\r\nHost: localhost\r\n{rest}");
    let spaces = " ".repeat(70_000);
    let chunk = format!("{:x}\r\n{spaces}", spaces.len());
    for (want, text) in [
        (401, post("Content-Length: 70000\r\n\r\n")),
        (401, post("Authorization: Bearer ac7_wrong\r\nContent-Length: 70000\r\n\r\n")),
        (401, post(&format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"))),
        (413, post("Content-Length: 70000000\r\n\r\n")),
        (401, post(&format!("Content-Length: 60000\r\n\r\n{}", &spaces[..60_000]))),
    ] {
        assert_eq!(rig.status_of(text.as_bytes()), want, "{text:.120}");
    }
    // Only the last one was read to its end and reached a route.
    wait_for("the log", || rig.log.events("refused").len() == 4 && rig.log.events("request").len() == 1);
}

#[test]
fn the_other_ways_to_send_a_request_work() {
    let rig = Rig::new();
    let body = upload([1]);
    let auth = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", rig.ann);

    let mut client = rig.connect();
    client.send(&format!("POST /members/ann/activity HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n"));
    for byte in body.chars() {
        client.send(&format!("1\r\n{byte}\r\n"));
    }
    client.send("0\r\nTrailer: x\r\n\r\n");
    assert_eq!(client.reply("POST").unwrap().status, 201);

    let length = body.len();
    client.send(&format!(
        "POST /members/ann/activity HTTP/1.1\r\n{auth}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(client.reply("HEAD").unwrap().status, 100);
    client.send(&body);
    assert_eq!(client.reply("POST").unwrap().status, 201);

    client.send("\r\n\r\n");
    client.send(&request("HEAD", "/healthz", "", "", ""));
    let head = client.reply("HEAD").unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.headers.get("content-length").is_some_and(|n| n != "0"));

    client.send("GET /healthz HTTP/1.0\r\n\r\n");
    let old = client.reply("GET").unwrap();
    assert_eq!((old.status, old.headers.get("connection")), (200, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn a_client_that_leaves_early_costs_nothing() {
    let rig = Rig::new();
    for _ in 0..50 {
        let mut client = rig.connect();
        client.send(&request("GET", "/briefing", &rig.ann, "", ""));
        let _ = client.stream.shutdown(Shutdown::Both);
    }
    assert_eq!(rig.get("/briefing").status, 200);
    wait_for("their threads", || threads("ac7-client") <= 1);
}
