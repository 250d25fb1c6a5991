//! What is decrypted, what is left alone, and that those who do not trust us lose nothing.
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};
use serde_json::{Value, json};
use support::mock::{Mock, Options};
use support::run::wait_until;
use support::tls::{self, Authority, Leaf};

use crate::lab::{Held, Lab, MODEL, OTHER, Tls, pem, read_head, tls_on, url};
use crate::server::{Server, echo, echo_tls};

/// The entries of all tunnels that were not decrypted.
fn tunnels(lab: &Lab) -> Vec<Value> {
    let entries = lab.events().into_iter().map(|e| e["entry"].clone());
    entries.filter(|e| e["method"] == "CONNECT").collect()
}

/// A GET that a mock answers, on a fresh tunnel.
fn get(tls: &mut Tls) -> std::io::Result<String> {
    tls.write_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = [0; 12];
    tls.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn hosts_out_of_scope_are_left_to_clients_that_do_not_trust_us() {
    let mock = Mock::start(Options::default());
    let own = mock.ca_pem.to_str().unwrap();
    for (flags, host, reason) in [
        (&["--trace-skip", MODEL][..], MODEL, "skip"),
        (&["--trace-skip", "anthropic.com", "--trace-only", MODEL], MODEL, "skip"),
        (&["--trace-only", "api.openai.com"], MODEL, "scope"),
        (&["--trace-only", MODEL], OTHER, "scope"),
        (&["--scope", "model"], OTHER, "scope"),
        (&["--scope", "agent"], OTHER, "scope"),
    ] {
        let lab = Lab::new(&[&mock]);
        let url = url(host, &mock, "/bytes/50000");
        let done = lab.curl(flags, &["-o", "/dev/null", "-w", "%{http_code}", "--cacert", own, &url]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), "200"), "{flags:?}: {}", done.stderr);
        let tunnels = tunnels(&lab);
        assert_eq!((tunnels.len(), lab.events().len()), (1, 1), "{flags:?}");
        let (entry, tunnel) = (&tunnels[0], &tunnels[0]["tunnel"]);
        assert_eq!((&entry["kind"], &entry["host"]), (&json!("opaque_http"), &json!(host)));
        assert_eq!(
            (&entry["url"], &entry["status"]),
            (&json!(format!("{host}:{}", mock.port)), &Value::Null)
        );
        assert_eq!(tunnel["reason"], reason, "{flags:?}");
        let (up, down) = (tunnel["bytesUp"].as_u64().unwrap(), tunnel["bytesDown"].as_u64().unwrap());
        assert!((200..5000).contains(&up) && (50_000..60_000).contains(&down), "{tunnel}");
        let line = format!("ac7: tunnelled, not decrypted: {host} 5");
        let told = done.stderr.lines().find(|l| l.starts_with(&line));
        assert_eq!(told.is_some(), reason != "skip", "{flags:?}: {}", done.stderr);
        assert!(told.is_none_or(|l| l.ends_with("  (--scope all)")), "{}", done.stderr);
        assert!(
            done.stderr.contains("ac7: no model call: all connections were tunnelled"),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn hosts_in_scope_are_decrypted() {
    let mock = Mock::start(Options::default());
    for (flags, hosts) in [
        (&[][..], &[MODEL, OTHER][..]),
        (&["--trace-only", OTHER], &[OTHER]),
        (&["--trace-only", MODEL, "--trace-only", OTHER, "--scope", "model"], &[MODEL, OTHER]),
        (&["--scope", "model", "--trace-host", OTHER], &[OTHER, MODEL]),
    ] {
        let lab = Lab::new(&[&mock]);
        let urls: Vec<String> = hosts.iter().map(|host| url(host, &mock, "/v1/models")).collect();
        let args: Vec<&str> = urls.iter().map(String::as_str).collect();
        let done = lab.curl(flags, &args);
        assert_eq!(done.code, Some(0), "{flags:?}: {}", done.stderr);
        let seen: Vec<_> = lab.events().iter().map(|e| e["entry"]["url"].clone()).collect();
        assert_eq!(seen, urls, "{flags:?}");
    }
}

#[test]
fn a_client_that_trusts_us_once_is_decrypted_everywhere() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let held = Held::start(&lab, &["--scope", "agent"]);
    let (ours, theirs) = (held.client(), tls::client(&pem(&mock), false));
    let ask = |host: &'static str, client: &Arc<ClientConfig>| {
        get(&mut held.tls(host, mock.port, client.clone())).map_err(|e| e.kind())
    };
    // Not proven yet: another host is its own. Asked on a model host it proves its trust by its first byte.
    assert!(ask(OTHER, &theirs).is_ok() && ask(MODEL, &ours).is_ok());
    wait_until("the proof is recorded", || {
        lab.stored().iter().find(|e| e["entry"]["host"] == MODEL).map(drop)
    });
    assert!(ask(OTHER, &ours).is_ok());
    // What it rejects with an alert withdraws the proof, for hosts that are not a model's.
    assert!(ask(OTHER, &theirs).is_err());
    wait_until("the rejection is recorded", || lab.log().contains("handshake refused").then_some(()));
    assert!(ask("127.0.0.1", &theirs).is_ok());
    assert!(ask(MODEL, &ours).is_ok());
    held.finish();
}

#[test]
fn a_base_url_of_the_caller_is_a_model_host() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let url = url(OTHER, &mock, "/v1/models");
    let mut command = lab.command(&["--scope", "model"], &["curl", "-sS", "--noproxy", "", &url]);
    command.env("ANTHROPIC_BASE_URL", format!("https://{OTHER}:{}/anthropic", mock.port));
    assert_eq!(crate::lab::finish(&mut command).code, Some(0));
    assert_eq!(lab.entry()["url"], url.as_str());
}

#[test]
fn a_client_that_rejects_our_certificate_is_left_alone_from_then_on() {
    let mock = Mock::start(Options::default());
    let own = mock.ca_pem.to_str().unwrap();
    for host in [MODEL, OTHER] {
        let lab = Lab::new(&[&mock]);
        let curl =
            format!("curl -sS --noproxy '' -o /dev/null --cacert '{own}' {}", url(host, &mock, "/v1/models"));
        let known =
            "until grep -q 'handshake refused' \"$XDG_CACHE_HOME\"/agentc7/*.log; do sleep 0.01; done";
        let script = format!("{curl}; echo $?; {known}; {curl}; echo $?; {curl}; echo $?");
        let done = lab.run(&[], &["sh", "-c", &script]);
        assert_eq!(done.stdout, "60\n0\n0\n", "{}", done.stderr);
        let tunnels = tunnels(&lab);
        assert_eq!((tunnels.len(), lab.events().len()), (3, 3), "each is one event");
        assert_eq!(
            (&tunnels[0]["tunnel"]["reason"], &tunnels[0]["tunnel"]["alert"]),
            (&json!("rejected"), &json!("UnknownCA"))
        );
        assert_eq!(
            (&tunnels[0]["tunnel"]["bytesUp"], &tunnels[0]["tunnel"]["bytesDown"]),
            (&json!(0), &json!(0))
        );
        for tunnel in &tunnels[1..] {
            assert_eq!(tunnel["tunnel"]["reason"], "rejected");
            assert!(tunnel["tunnel"]["bytesDown"].as_u64().unwrap() > 500, "{tunnel}");
        }
        let log = lab.log();
        let refused: Vec<&str> = log.lines().filter(|l| l.contains("handshake refused")).collect();
        assert!(refused.len() == 1 && refused[0].contains("UnknownCA") && refused[0].contains(host), "{log}");
        let want = format!(
            "ac7: no model call: the command does not accept our certificate for {host} (UnknownCA) [not-trusted]"
        );
        assert!(done.stderr.lines().any(|line| line == want), "{}", done.stderr);
    }
}

#[test]
fn a_client_that_leaves_without_a_word_is_left_alone_too() {
    // As Node and Bun do, which send no alert.
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let held = Held::start(&lab, &[]);
    let leave = |held: &Held, host: &'static str| {
        let mut tls = held.tls(host, mock.port, held.client());
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).unwrap();
        }
        tls.sock.shutdown(Shutdown::Write).unwrap();
        let _ = tls.sock.read_to_end(&mut Vec::new());
    };
    let refused = |times: usize| (lab.log().matches("handshake refused").count() == times).then_some(());
    leave(&held, OTHER);
    wait_until("it is remembered", || refused(1));
    assert!(get(&mut held.tls(OTHER, mock.port, tls::client(&pem(&mock), false))).is_ok());
    // Once on a model host it may have been a connection that was opened ahead of need.
    leave(&held, MODEL);
    wait_until("it is remembered", || refused(2));
    assert!(get(&mut held.tls(MODEL, mock.port, held.client())).is_ok(), "still decrypted");
    held.finish();
    // Twice running, by a client that never said anything, it is meant.
    let held = Held::start(&lab, &[]);
    for times in [3, 4] {
        leave(&held, MODEL);
        wait_until("it is remembered", || refused(times));
    }
    assert!(get(&mut held.tls(MODEL, mock.port, tls::client(&pem(&mock), false))).is_ok(), "left alone");
    let told = held.finish().stderr;
    assert!(told.contains("does not accept our certificate for api.anthropic.com"), "{told}");
}

fn only(alpn: &[u8], pem: &str) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(&tls::client(pem, false));
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

#[test]
fn a_client_without_http_1_is_left_alone_from_the_first_connection() {
    // A model host's server is asked for HTTP/1.1 before the client's hello is known: it must speak both.
    let (server, pem) = Server::tls(&[b"h2", b"http/1.1"], echo_tls);
    let lab = Lab::trusting(&pem);
    let held = Held::start(&lab, &[]);
    for host in [OTHER, MODEL] {
        let mut tls = held.tls(host, server.port, only(b"h2", &pem));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        tls.write_all(preface).unwrap();
        let mut back = vec![0; preface.len()];
        tls.read_exact(&mut back).unwrap();
        assert_eq!((&back[..], tls.conn.alpn_protocol()), (&preface[..], Some(&b"h2"[..])), "{host}");
    }
    let done = held.finish();
    let reasons: Vec<_> =
        tunnels(&lab).iter().map(|t| (t["host"].clone(), t["tunnel"]["reason"].clone())).collect();
    assert_eq!(reasons, [(json!(OTHER), json!("h2_only")), (json!(MODEL), json!("h2_only"))]);
    let want = "ac7: no model call: the command speaks HTTP/2 alone, which is not decrypted";
    assert!(done.stderr.starts_with(want), "{}", done.stderr);
}

#[test]
fn what_is_not_tls_is_passed_through_and_counted_to_the_byte() {
    let server = Server::start(echo);
    for (flags, reason) in
        [(&[][..], "not_tls"), (&["--scope", "model"], "scope"), (&["--trace-skip", OTHER], "skip")]
    {
        let lab = Lab::new(&[]);
        let held = Held::start(&lab, flags);
        let mut tcp = held.connect(OTHER, server.port);
        for words in ["SSH-2.0-x\r\n", "\0\x01\x02", "GET / HTTP/1.1\r\n\r\n"] {
            tcp.write_all(words.as_bytes()).unwrap();
            let mut back = vec![0; words.len()];
            tcp.read_exact(&mut back).unwrap();
            assert_eq!(back, words.as_bytes());
        }
        drop(tcp);
        held.finish();
        let entry = lab.entry();
        assert_eq!(entry["tunnel"], json!({"reason": reason, "bytesUp": 32, "bytesDown": 32}), "{flags:?}");
        assert!(entry["endedAt"].as_u64() >= entry["startedAt"].as_u64());
    }
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let server = Server::start(|mut tcp| {
        tcp.write_all(b"220 mail ready\r\n").unwrap();
        let quit = read_line(&mut tcp);
        tcp.write_all(format!("221 bye after {quit}").as_bytes()).unwrap();
    });
    let lab = Lab::new(&[]);
    let held = Held::start(&lab, &[]);
    let mut tcp = held.connect(OTHER, server.port);
    assert_eq!(read_line(&mut tcp), "220 mail ready\r\n");
    tcp.write_all(b"QUIT\r\n").unwrap();
    assert_eq!(read_line(&mut tcp), "221 bye after QUIT\r\n");
    assert_eq!(tcp.read(&mut [0]).unwrap(), 0);
    drop(tcp);
    held.finish();
    assert_eq!(lab.entry()["tunnel"], json!({"reason": "not_tls", "bytesUp": 6, "bytesDown": 36}));
}

fn read_line(from: &mut impl Read) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\n") && from.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn another_protocol_inside_tls_passes_and_is_left_alone_afterwards() {
    for host in [MODEL, OTHER] {
        let (server, pem) = Server::tls(&[], echo_tls);
        let lab = Lab::trusting(&pem);
        let held = Held::start(&lab, &[]);
        // The first connection is under our certificate, which is too late to take back; the second one is not.
        let no_alpn = |pem: &str| {
            let mut config = ClientConfig::clone(&tls::client(pem, false));
            config.alpn_protocols.clear();
            Arc::new(config)
        };
        for client in [no_alpn(&held.ca), no_alpn(&pem), no_alpn(&pem)] {
            let mut tls = held.tls(host, server.port, client);
            for words in [&b"a1 LOGIN me\r\n"[..], b"\0\xff\xfe binary"] {
                tls.write_all(words).unwrap();
                let mut back = vec![0; words.len()];
                tls.read_exact(&mut back).unwrap();
                assert_eq!(back, words);
            }
        }
        held.finish();
        let tunnels = tunnels(&lab);
        assert_eq!(tunnels.len(), 3, "{tunnels:#?}");
        let counted = json!({"reason": "not_http", "bytesUp": 23, "bytesDown": 23});
        assert!(tunnels.iter().any(|t| t["tunnel"] == counted), "{tunnels:#?}");
        assert!(tunnels.iter().all(|t| t["tunnel"]["reason"] == "not_http"), "{tunnels:#?}");
    }
}

#[test]
fn a_server_that_asks_who_the_client_is_gets_the_clients_own_answer() {
    for version in [&TLS13, &TLS12] {
        let authority = Authority::new();
        let config = tls::asking_server(&authority.issue(Leaf::Good), &authority.pem, version);
        let server = Server::secured(config, echo_tls);
        let lab = Lab::trusting(&authority.pem);
        let held = Held::start(&lab, &[]);
        let own = tls::showing(&tls::client(&authority.pem, false), &authority.issue(Leaf::Good));
        let words = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let is_served = |host: &'static str| {
            let mut tls = held.tls(host, server.port, own.clone());
            let mut back = [0; 27];
            tls.write_all(words).unwrap();
            tls.read_exact(&mut back).unwrap();
            assert_eq!(&back, words, "{host}, {version:?}");
        };
        // Any other host's from the first connection on.
        is_served(OTHER);
        is_served(OTHER);
        // A model host may ask without insisting, which shows when it has been asked something.
        let (head, tcp) = held.ask_connect(&format!("{MODEL}:{}", server.port));
        if head.starts_with("HTTP/1.1 200 ") {
            let mut tls = tls_on(tcp, MODEL, held.client());
            tls.write_all(words).unwrap();
            assert!(matches!(tls.read(&mut [0]), Ok(0) | Err(_)));
        }
        wait_until("it is remembered", || {
            (lab.log().matches("client certificate wanted").count() == 2).then_some(())
        });
        is_served(MODEL);
        held.finish();
        let reasons: Vec<_> =
            tunnels(&lab).iter().map(|t| t["tunnel"]["reason"].clone()).filter(|r| !r.is_null()).collect();
        assert_eq!(reasons, ["client_certificate"; 3], "{version:?}");
    }
}

#[test]
fn a_name_that_is_an_address_is_served_too() {
    let mock = Mock::start(Options::default());
    let lab = Lab::new(&[&mock]);
    let done = lab.curl(&[], &[&url("127.0.0.1", &mock, "/v1/models")]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(mock.seen()[0].server_name, None, "an address is no server name");
    let held = Held::start(&lab, &[]);
    let mut tls = held.tls("127.0.0.1", mock.port, held.client());
    tls.write_all(b"HEAD /v1/models HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_head(&mut tls).starts_with("HTTP/1.1 200 "));
    drop(tls);
    held.finish();
}
