//! The same broker inside of TLS.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ac7::broker::Limits;
use ac7::identity::{SetupOptions, TeamFile, setup};
use ac7::sys::file::write_atomic;
use ac7::tls::{Identity, Roots};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde_json::json;
use support::tls::{Authority, Leaf};

use crate::rig::{Rig, request, threads, upload, wait_for};

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A client that trusts what is in `roots` alone.
fn connect(address: SocketAddr, roots: &Path, name: &str) -> Tls {
    let mut trusted = Roots::default();
    trusted.add_file(roots).unwrap();
    let name = ServerName::try_from(name.to_string()).unwrap();
    let client = ClientConnection::new(trusted.client_config().unwrap(), name).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(client, stream)
}

/// The last request on a connection, and everything that is said to it; TLS ends as it should.
fn last(tls: &mut Tls, text: &str) -> std::io::Result<String> {
    tls.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes())?;
    let mut out = String::new();
    tls.read_to_string(&mut out).map(|_| out)
}

fn self_signed(limits: Limits) -> Rig {
    let mut rig = Rig::with(limits);
    rig.stop();
    rig.self_signed = true;
    rig.start();
    rig
}

#[test]
fn a_certificate_of_our_own_serves_every_local_name() {
    let mut rig = self_signed(Limits::default());
    let pem = rig.folder.join("ac7.json.crt");
    for name in ["localhost", "127.0.0.1", "::1"] {
        let got = last(&mut connect(rig.address(), &pem, name), &request("GET", "/healthz", "", "", ""));
        let got = got.unwrap();
        assert!(got.starts_with("HTTP/1.1 200 ") && got.ends_with('}'), "{name}: {got}");
    }
    assert!(last(&mut connect(rig.address(), &pem, "evil.example"), "GET / HTTP/1.1\r\n\r\n").is_err());

    // Many requests on one connection, one of them large; one thread for it all.
    let mut tls = connect(rig.address(), &pem, "localhost");
    let event = json!({"kind": "objective_open", "ts": 1, "objectiveId": "x".repeat(30_000)});
    let body = json!({"events": vec![event; 100]}).to_string();
    let text = request("POST", "/members/ann/activity", &rig.ann, &body, "Expect: 100-continue\r\n");
    for _ in 0..3 {
        let mut got = Vec::new();
        tls.write_all(text.as_bytes()).unwrap();
        while !got.ends_with(b"{\"accepted\":100}") {
            let mut buf = [0; 1024];
            let n = tls.read(&mut buf).unwrap();
            got.extend_from_slice(&buf[..n]);
        }
    }
    assert_eq!(threads("ac7-client"), 1);
    let list = request("GET", "/members/ann/activity?limit=300", &rig.ann, "", "");
    assert!(last(&mut tls, &list).unwrap().len() > 9_000_000);

    // It stays over a restart.
    let before = Identity::load(&pem, &rig.folder.join("ac7.json.key")).unwrap().fingerprint();
    rig.stop();
    rig.start();
    assert_eq!(Identity::load(&pem, &rig.folder.join("ac7.json.key")).unwrap().fingerprint(), before);
}

#[test]
fn a_stream_inside_of_tls_lives_and_ends_like_another() {
    let mut rig = self_signed(Limits { keep_alive: Duration::from_millis(50), ..Limits::default() });
    let pem = rig.folder.join("ac7.json.crt");
    let mut tls = connect(rig.address(), &pem, "localhost");
    tls.write_all(request("GET", "/members/ann/activity/stream", &rig.ann, "", "").as_bytes()).unwrap();
    let mut got = String::new();
    let mut until = |tls: &mut Tls, what: &str| {
        while !got.contains(what) {
            let mut buf = [0; 4096];
            let n = tls.read(&mut buf).unwrap();
            assert!(n > 0, "{got}");
            got.push_str(&String::from_utf8_lossy(&buf[..n]));
        }
        got.clear();
    };
    until(&mut tls, "\r\n\r\n");
    let mut other = connect(rig.address(), &pem, "localhost");
    let posted = last(&mut other, &request("POST", "/members/ann/activity", &rig.ann, &upload([1]), ""));
    assert!(posted.unwrap().starts_with("HTTP/1.1 201 "));
    until(&mut tls, "\nid: 1\ndata: {\"id\":1,");
    until(&mut tls, ":\n\n");
    drop(tls);
    wait_for("the end", || rig.log.events("stream ended").len() == 1);
    let mut tls = connect(rig.address(), &pem, "localhost");
    tls.write_all(request("GET", "/members/ann/activity/stream", &rig.ann, "", "").as_bytes()).unwrap();
    until(&mut tls, "\r\n\r\n");
    let broker = rig.take();
    let stopping = thread::spawn(move || broker.stop());
    let mut rest = String::new();
    tls.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"reason\":\"stopping\""), "{rest}");
    stopping.join().unwrap();
    assert_eq!(threads("ac7-"), 0);
}

#[test]
fn whoever_speaks_the_other_protocol_is_told_so() {
    let rig = self_signed(Limits { head: Duration::from_millis(300), ..Limits::default() });
    let refused = rig.call("GET", "/healthz", "", "");
    assert_eq!((refused.status, refused.error().contains("HTTPS")), (400, true), "{}", refused.error());
    assert_eq!(rig.status_of(b"\x05\x01\x00 and more that is no TLS at all"), 400);
    // Half a handshake, and none: both are over in time.
    for said in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..], b""] {
        let began = Instant::now();
        let mut client = rig.connect();
        client.send_if_taken(said);
        assert!(client.is_closed());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    let pem = rig.folder.join("ac7.json.crt");
    let ok = last(&mut connect(rig.address(), &pem, "localhost"), &request("GET", "/healthz", "", "", ""));
    assert!(ok.unwrap().starts_with("HTTP/1.1 200 "));
    let pem = fs::read(pem).unwrap();
    drop(rig);

    let plain = Rig::new();
    let trusted = plain.folder.join("trusted.pem");
    fs::write(&trusted, pem).unwrap();
    let began = Instant::now();
    let mut tls = connect(plain.address(), &trusted, "localhost");
    assert!(tls.write_all(b"GET / HTTP/1.1\r\n\r\n").and_then(|()| tls.read(&mut [0])).is_err());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(plain.get("/briefing").status, 200);
}

#[test]
fn a_new_certificate_counts_from_the_next_handshake_on() {
    let mut rig = Rig::new();
    rig.stop();
    let authority = Authority::new();
    let write = |folder: &Path| {
        let identity = authority.issue(Leaf::Good);
        write_atomic(&folder.join("k.pem"), identity.key.as_bytes()).unwrap();
        write_atomic(&folder.join("c.pem"), identity.cert.as_bytes()).unwrap();
    };
    write(&rig.folder);
    let roots = rig.folder.join("roots.pem");
    fs::write(&roots, &authority.pem).unwrap();
    let edit = TeamFile::update(&rig.config(), |file| {
        file.more.insert("https".into(), json!({"cert": "c.pem", "key": "k.pem"}));
        Ok(())
    });
    edit.unwrap();
    rig.start();
    let shown = || {
        let mut tls = connect(rig.address(), &roots, "localhost");
        assert!(last(&mut tls, &request("GET", "/healthz", "", "", "")).unwrap().contains(" 200 "));
        tls.conn.peer_certificates().unwrap()[0].to_vec()
    };
    let first = shown();
    let mut open = connect(rig.address(), &roots, "localhost");
    open.write_all(request("GET", "/healthz", "", "", "").as_bytes()).unwrap();
    assert!(open.read(&mut [0; 4096]).unwrap() > 0);
    write(&rig.folder);
    wait_for("the new certificate", || shown() != first);
    assert!(last(&mut open, &request("GET", "/healthz", "", "", "")).unwrap().contains(" 200 "));

    let second = shown();
    fs::write(rig.folder.join("c.pem"), "nothing").unwrap();
    wait_for("the refusal", || !rig.log.events("certificate refused").is_empty());
    assert_eq!(shown(), second, "the old one stays");
    let reload = || {
        let mut tls = connect(rig.address(), &roots, "localhost");
        last(&mut tls, &request("POST", "/reload", &rig.ann, "", "")).unwrap()
    };
    let said = reload();
    assert!(said.starts_with("HTTP/1.1 422 ") && said.contains("no certificate: "), "{said}");
    write(&rig.folder);
    assert!(reload().starts_with("HTTP/1.1 200 "));
    assert_ne!(shown(), second);
}

/// The program itself, as a user starts it, and curl as a client that is none of ours.
#[test]
fn serve_shows_the_certificate_and_curl_trusts_it() {
    let home = support::ac7!();
    let folder = home.join("home");
    let done = setup(&SetupOptions {
        path: folder.join("ac7.json"),
        team: "T".into(),
        directive: None,
        context: None,
        member: "ann".into(),
        title: None,
    });
    let token = done.unwrap().token;
    let args = ["serve", "--port", "0", "--tls", "self-signed"];
    let mut serve = home.ac7(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(serve.stderr.take().unwrap()).lines().map(Result::unwrap);
    let listening = lines.find(|line| line.starts_with("ac7 serve: listening")).unwrap();
    let certificate = lines.next().unwrap();
    let drain = thread::spawn(move || lines.for_each(drop));
    let address = listening.strip_prefix("ac7 serve: listening on ").unwrap().to_string();
    let port = address.strip_prefix("https://127.0.0.1:").unwrap();
    let identity = Identity::load(&folder.join("ac7.json.crt"), &folder.join("ac7.json.key")).unwrap();
    let want = format!("ac7 serve: certificate ./ac7.json.crt, SHA-256 {}", identity.fingerprint());
    assert_eq!(certificate, want);
    let curl = |more: &[&str], url: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "-H", &format!("Authorization: Bearer {token}")]);
        command
            .env_remove("HTTPS_PROXY")
            .env_remove("https_proxy")
            .env_remove("ALL_PROXY")
            .env_remove("all_proxy");
        command.args(more).arg(url).current_dir(&folder).output()
    };
    match curl(&["--cacert", "ac7.json.crt"], &format!("{address}/briefing")) {
        Err(_) => println!("curl is not installed: its part is left out"),
        Ok(out) => {
            assert!(String::from_utf8_lossy(&out.stdout).contains("\"name\":\"ann\""), "{out:?}");
            let named = curl(&["--cacert", "ac7.json.crt"], &format!("https://localhost:{port}/roster"));
            assert!(named.unwrap().status.success());
            let old = curl(&["--cacert", "ac7.json.crt", "--tls-max", "1.2"], &format!("{address}/roster"));
            assert!(old.unwrap().status.success());
            assert_eq!(curl(&[], &format!("{address}/briefing")).unwrap().status.code(), Some(60));
        }
    }
    serve.kill().unwrap();
    serve.wait().unwrap();
    drain.join().unwrap();
}
