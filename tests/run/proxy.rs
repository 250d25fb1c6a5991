//! A company's proxy between us and the world.
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use support::mock::{ANSWER, Mock, Options};
use support::run::{Finished, FreePort};

use crate::lab::{CURL, Held, Lab, MODEL, OTHER, call, finish, read_head, url};
use crate::server::Server;

/// The user and password that the proxy wants, and as they stand in a URL.
const LOGIN: &str = "us er:p@ss:word";
const IN_URL: &str = "us%20er:p%40ss%3Aword";

/// A proxy that takes every host for this machine; and the heads of what it was asked.
struct Corporate {
    server: Server,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Corporate {
    fn start() -> Corporate {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&heads);
        let server = Server::start(move |mut agent| {
            let head = read_head(&mut agent);
            asked.lock().unwrap().push(head.clone());
            let login = format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(LOGIN));
            let target = head.split(' ').nth(1).unwrap_or_default();
            if !head.contains(&login) {
                let _ = agent.write_all(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n");
            } else if head.starts_with("CONNECT ") {
                let port = target.rsplit(':').next().unwrap().parse().unwrap();
                let upstream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                agent.write_all(b"HTTP/1.1 200 Go\r\nVia: 1.1 corp\r\n\r\n").unwrap();
                join(&agent, &upstream);
            } else {
                let _ = agent.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nby corp");
            }
        });
        Corporate { server, heads }
    }

    fn url(&self) -> String {
        format!("http://{IN_URL}@127.0.0.1:{}", self.server.port)
    }

    /// The request lines so far.
    fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap().iter().map(|h| h.lines().next().unwrap_or_default().to_string()).collect()
    }
}

/// Copy both ways until both have ended.
fn join(agent: &TcpStream, upstream: &TcpStream) {
    thread::scope(|scope| {
        for (mut from, mut to) in [(agent, upstream), (upstream, agent)] {
            scope.spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    });
}

fn curl(lab: &Lab, flags: &[&str], args: &[&str], variables: &[(&str, &str)]) -> Finished {
    let mut command = lab.plain(flags, &[&CURL, args].concat());
    finish(command.envs(variables.iter().copied()))
}

#[test]
fn the_callers_proxy_is_the_way_to_every_upstream() {
    let mock = Mock::start(Options::default());
    let (body, url) = (call(false), url(MODEL, &mock, "/v1/messages"));
    let args = ["-H", "content-type: application/json", "-d", &body, &url];
    let corporate = Corporate::start();
    let proxy = &*corporate.url();
    for (flags, variables) in [
        (&[][..], &[("HTTPS_PROXY", proxy)][..]),
        (&[], &[("https_proxy", proxy), ("HTTPS_PROXY", "http://127.0.0.1:1")]),
        (&[], &[("ALL_PROXY", proxy), ("NO_PROXY", "api.openai.com,openai.com")]),
        (&["--upstream-proxy", proxy], &[("HTTPS_PROXY", "http://127.0.0.1:1")]),
        // What is only passed through goes the same way.
        (&["--trace-skip", MODEL], &[("HTTPS_PROXY", proxy)]),
    ] {
        let lab = Lab::new(&[&mock]);
        let before = corporate.asked().len();
        let done = curl(&lab, flags, &args, variables);
        assert!(done.stdout.contains(ANSWER), "{flags:?} {variables:?}: {}", done.stderr);
        assert_eq!(corporate.asked()[before..], [format!("CONNECT {MODEL}:{} HTTP/1.1", mock.port)]);
        assert_eq!(lab.events().len(), 1);
    }
}

#[test]
fn some_hosts_are_reached_without_the_proxy() {
    let mock = Mock::start(Options::default());
    let url = url(OTHER, &mock, "/v1/models");
    let corporate = Corporate::start();
    let proxy = &*corporate.url();
    for (flags, variables, direct) in [
        (&[][..], &[("HTTPS_PROXY", proxy)][..], false),
        (&[], &[("HTTPS_PROXY", proxy), ("NO_PROXY", "example.com,localhost")], true),
        (&[], &[("HTTPS_PROXY", proxy), ("no_proxy", "*")], true),
        (&["--upstream-proxy", "none"], &[("HTTPS_PROXY", proxy)], true),
        (&["--upstream-proxy", proxy], &[("NO_PROXY", "localhost")], true),
        (&[], &[("HTTP_PROXY", proxy)], true),
    ] {
        let lab = Lab::new(&[&mock]);
        let before = corporate.asked().len();
        let done = curl(&lab, flags, &[&url], variables);
        assert_eq!(done.code, Some(0), "{flags:?} {variables:?}: {}", done.stderr);
        assert_eq!(corporate.asked().len() - before, usize::from(!direct), "{flags:?} {variables:?}");
        assert_eq!(lab.entry()["url"], url.as_str());
    }
}

#[test]
fn plain_requests_go_to_the_proxy_in_its_own_form() {
    let corporate = Corporate::start();
    let lab = Lab::new(&[]);
    let url = "http://intranet.invalid/page?q=1";
    let done = curl(&lab, &[], &[url], &[("HTTP_PROXY", &corporate.url())]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "by corp"), "{}", done.stderr);
    assert_eq!(corporate.asked(), [format!("GET {url} HTTP/1.1")]);
    assert_eq!(lab.entry()["url"], url);
    assert!(!lab.entry().to_string().to_ascii_lowercase().contains("proxy-authorization"), "{}", lab.entry());
}

/// Everything that was ever said or written, and must not hold the password.
fn is_secret(lab: &Lab, said: &str) {
    let kept = lab.events().iter().map(ToString::to_string).collect::<String>() + &lab.log() + said;
    for secret in ["p@ss", "p%40ss", &STANDARD.encode("us er:wrong"), &STANDARD.encode(LOGIN), "wrong"] {
        assert!(!kept.contains(secret), "{secret}: {kept}");
    }
}

#[test]
fn a_proxy_that_refuses_is_a_502_without_the_password() {
    let corporate = Corporate::start();
    let garbage = Server::start(|mut tcp| tcp.write_all(b"SSH-2.0-x\r\n\r\n").unwrap());
    let mute = Server::start(|mut tcp| drop(tcp.read(&mut [0; 16])));
    let nobody = FreePort::take();
    for (port, want) in [
        (corporate.server.port, "refused CONNECT api.anthropic.com:443: HTTP/1.1 407 Who Are You\n"),
        (garbage.port, "refused CONNECT api.anthropic.com:443: SSH-2.0-x\n"),
        (mute.port, "did not answer CONNECT: "),
        (nobody.number, "cannot connect to 127.0.0.1:"),
    ] {
        let lab = Lab::new(&[]);
        let mut command = lab.plain(&[], &["sh", "-c", Held::SCRIPT]);
        let held =
            Held::start_as(command.env("HTTPS_PROXY", format!("http://us%20er:wrong@127.0.0.1:{port}")));
        let (head, mut tcp) = held.ask_connect("api.anthropic.com:443");
        let mut body = String::new();
        tcp.read_to_string(&mut body).unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert!(body.contains(want) && body.contains(&port.to_string()), "{body}");
        let done = held.finish();
        assert!(done.stderr.contains(want.trim_end()), "the summary has the cause: {}", done.stderr);
        is_secret(&lab, &(head + &body + &done.stderr));
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_said_before_the_command_starts() {
    let lab = Lab::new(&[]);
    for (name, value) in [
        ("HTTPS_PROXY", "socks5://u:p%40ss@h:1080"),
        ("ALL_PROXY", "socks5h://u:p%40ss@h"),
        ("http_proxy", "http://u:p%40ss@h:port"),
    ] {
        let mut command: Command = lab.plain(&[], &["sh", "-c", "echo started"]);
        let done = finish(command.env(name, value));
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{name}");
        assert!(
            done.stderr.starts_with(&format!("ac7 run: cannot use the proxy of {name}: ")),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("fix: --upstream-proxy"), "{}", done.stderr);
        assert!(!done.stderr.contains("p%40ss") && !done.stderr.contains("p@ss"), "{}", done.stderr);
        // Told how to do without, the command runs.
        let mut command = lab.plain(&["--upstream-proxy", "none"], &["true"]);
        assert_eq!(finish(command.env(name, value)).code, Some(0));
    }
}
