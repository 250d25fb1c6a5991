use super::*;
use crate::capture::exchange::{Body, Exchange};
use crate::capture::extract::may_be_model_call;

fn connection(limits: Limits) -> Connection {
    let target = Target { scheme: "https", host: "a.b".into(), port: 443 };
    Connection::new(target, limits, may_be_model_call)
}

/// One thing that happens to a connection; its time is its number.
#[derive(Clone)]
enum Step {
    /// The agent sends.
    A(Vec<u8>),
    /// The upstream sends.
    U(Vec<u8>),
    /// So many bytes of the agent, or of the upstream, are lost.
    Lost(Side, u64),
    End(Side),
}

use Step::{A, End, Lost, U};

fn a(text: &str) -> Step {
    A(text.replace('~', "\r\n").into())
}

fn u(text: &str) -> Step {
    U(text.replace('~', "\r\n").into())
}

/// What is given out, each with the number of the step that brought it.
fn play(limits: Limits, steps: &[Step]) -> Vec<(u64, Captured)> {
    let mut connection = connection(limits);
    let mut all = Vec::new();
    for (now, step) in (0..).zip(steps) {
        let mut out = Vec::new();
        match step {
            A(bytes) => connection.feed(Side::Agent, bytes, now, &mut out),
            U(bytes) => connection.feed(Side::Upstream, bytes, now, &mut out),
            Lost(side, n) => connection.gap(*side, *n, now, &mut out),
            End(side) => connection.end(*side, now, &mut out),
        }
        all.extend(out.into_iter().map(|one| (now, one)));
    }
    all
}

fn body(body: &Body) -> String {
    let text = String::from_utf8_lossy(&body.bytes);
    body.cut.map_or(text.to_string(), |cut| format!("{text}<{cut:?}>"))
}

/// `step: method target "body" → status "body" started-ended`, or a reason.
fn summary(given: &[(u64, Captured)]) -> Vec<String> {
    let exchange = |e: &Exchange| {
        format!(
            "{} {} {:?} → {} {:?} {}-{}",
            e.request.method,
            e.request.target,
            body(&e.request_body),
            e.response.as_ref().map_or("none".to_string(), |r| r.status.to_string()),
            body(&e.response_body),
            e.started_at,
            e.ended_at
        )
    };
    let line = |(at, one): &(u64, Captured)| match one {
        Captured::Exchange(e) => format!("{at}: {}", exchange(e)),
        Captured::SocketCall(c) => {
            let answers: Vec<_> = c.answered.iter().map(|(_, m)| String::from_utf8_lossy(m)).collect();
            format!(
                "{at}: call {} → {} {}",
                String::from_utf8_lossy(&c.asked),
                answers.join(" "),
                c.truncated
            )
        }
        Captured::SocketSummary(s) => format!(
            "{at}: socket {} {}/{} {}/{} {:?} {:?} {}-{}",
            s.request.target,
            s.messages_up,
            s.bytes_up,
            s.messages_down,
            s.bytes_down,
            String::from_utf8_lossy(&s.first_up),
            String::from_utf8_lossy(&s.first_down),
            s.started_at,
            s.ended_at
        ),
        Captured::GaveUp { reason, .. } => format!("{at}: gave up: {reason}"),
    };
    given.iter().map(line).collect()
}

fn ends() -> [Step; 2] {
    [End(Side::Upstream), End(Side::Agent)]
}

fn check(steps: Vec<Step>, want: &[&str]) {
    let steps: Vec<_> = steps.into_iter().chain(ends()).collect();
    assert_eq!(summary(&play(Limits::default(), &steps)), want);
}

const OK: &str = "HTTP/1.1 200 OK~content-length: 2~~";

#[test]
fn pairs_requests_and_responses_in_order() {
    check(
        vec![
            a("~~GET /1 HTTP/1.1~~GET /2 HT"),
            a("TP/1.1~~HEAD /3 HTTP/1.1~~"),
            u(&format!("{OK}aaHTTP/1.1 200 OK~content-")),
            u("length: 2~~b"),
            u("b"),
            u(OK),
        ],
        &[
            "2: GET /1 \"\" → 200 \"aa\" 0-2",
            "4: GET /2 \"\" → 200 \"bb\" 0-4",
            "5: HEAD /3 \"\" → 200 \"\" 1-5",
        ],
    );
}

#[test]
fn passes_over_interim_responses() {
    check(
        vec![
            a("POST / HTTP/1.1~content-length: 2~expect: 100-continue~~"),
            u("HTTP/1.1 100 Continue~~HTTP/1.1 103 Hints~link: x~~"),
            a("hi"),
            u(&format!("{OK}ok")),
        ],
        &["3: POST / \"hi\" → 200 \"ok\" 0-3"],
    );
}

#[test]
fn gives_an_early_answer_when_both_are_complete_or_the_connection_ends() {
    let early = || vec![a("PUT /1 HTTP/1.1~content-length: 4~~ab"), u(&format!("{OK}no"))];
    check(
        [early(), vec![a("cdGET /2 HTTP/1.1~~"), u("HTTP/1.1 204 N~~")]].concat(),
        &["2: PUT /1 \"abcd\" → 200 \"no\" 0-1", "3: GET /2 \"\" → 204 \"\" 2-3"],
    );
    check(early(), &["3: PUT /1 \"ab<Ended>\" → 200 \"no\" 0-1"]);
}

#[test]
fn completes_bodies_that_end_with_the_connection() {
    check(
        vec![a("GET / HTTP/1.1~~"), u("HTTP/1.0 200 OK~~all "), u("of it")],
        &["3: GET / \"\" → 200 \"all of it\" 0-2"],
    );
}

#[test]
fn gives_out_what_an_ended_connection_left_unfinished() {
    check(vec![a("GET / HTTP/1.1~~")], &["1: GET / \"\" → none \"<Ended>\" 0-0"]);
    check(vec![a("GET / HTTP/1.1~~"), u("HTTP/1.1 200 ")], &["2: GET / \"\" → none \"<Ended>\" 0-0"]);
    check(vec![a("GET / HTTP/1.1~~"), u(OK), u("x")], &["3: GET / \"\" → 200 \"x<Ended>\" 0-2"]);
    check(
        vec![a("PUT / HTTP/1.1~content-length: 5~~"), a("ab")],
        &["3: PUT / \"ab<Ended>\" → none \"<Ended>\" 0-1"],
    );
    check(vec![a("GET / HTT")], &[]);
    check(vec![], &[]);
    // The agent may close its side first and still read.
    let half = vec![a("GET / HTTP/1.1~~"), End(Side::Agent), u(&format!("{OK}ok"))];
    check(half, &["2: GET / \"\" → 200 \"ok\" 0-2"]);
}

#[test]
fn waits_for_the_other_direction() {
    check(
        vec![u(&format!("{OK}okHTTP/1.1 404")), a("GET /1 HTTP/1.1~~HEAD /2 HTTP/1.1~~"), u(" No~~")],
        &["1: GET /1 \"\" → 200 \"ok\" 1-1", "2: HEAD /2 \"\" → 404 \"\" 1-2"],
    );
    // The end waits as well.
    check(
        vec![u("HTTP/1.1 200 OK~~all"), End(Side::Upstream), a("GET / HTTP/1.1~~")],
        &["2: GET / \"\" → 200 \"all\" 2-2"],
    );
    // A server may say that it closes an idle connection.
    check(vec![u("HTTP/1.1 408 Time-out~connection: close~~")], &[]);
    let flood = vec![U(vec![b'x'; WAITING]), U(vec![b'x']), a("GET / HTTP/1.1~~")];
    check(flood, &["1: gave up: a response without a request"]);
}

#[test]
fn takes_the_place_from_an_absolute_target() {
    let given = play(
        Limits::default(),
        &[a("GET http://C.d:81/x HTTP/1.1~~GET /y HTTP/1.1~~"), u(&format!("{OK}ok{OK}ok"))],
    );
    let targets: Vec<_> = given
        .iter()
        .map(|(_, one)| match one {
            Captured::Exchange(e) => (e.target.scheme, e.target.host.as_str(), e.target.port),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(targets, [("http", "c.d", 81), ("https", "a.b", 443)]);
}

#[test]
fn gives_up_once_and_gives_out_what_was_in_flight() {
    check(
        vec![
            a("POST /1 HTTP/1.1~~GET /2 HTTP/1.1~~"),
            u(&format!("{OK}a")),
            a("nonsense~"),
            u("a"),
            a("GET /3 HTTP/1.1~~"),
        ],
        &[
            // The first line is judged with its whole head.
            "3: POST /1 \"\" → 200 \"aa\" 0-3",
            "4: GET /2 \"\" → none \"<Ended>\" 0-0",
            "4: gave up: not HTTP",
        ],
    );
    check(
        vec![a("GET / HTTP/1.1~~"), u("HTTP/1.1 200 OK~content-length: x~~"), u(OK)],
        &["1: GET / \"\" → none \"<Ended>\" 0-0", "1: gave up: unusable Content-Length"],
    );
    let many = Limits { in_flight: 2, ..Limits::default() };
    let given = play(many, &[a("GET / HTTP/1.1~~GET / HTTP/1.1~~GET / HTTP/1.1~~")]);
    assert_eq!(summary(&given)[2], "0: gave up: too many requests without a response");
}

#[test]
fn goes_on_behind_a_gap_inside_a_body() {
    let next = "HTTP/1.1 204 N~~";
    check(
        vec![
            a("POST /1 HTTP/1.1~content-length: 9~~abc"),
            Lost(Side::Agent, 4),
            a("hiGET /2 HTTP/1.1~~"),
            u("HTTP/1.1 200 OK~transfer-encoding: chunked~~5~x"),
            Lost(Side::Upstream, 4),
            u(&format!("~0~~{next}")),
        ],
        &["5: POST /1 \"abc<Gap>\" → 200 \"x<Gap>\" 0-5", "5: GET /2 \"\" → 204 \"\" 2-5"],
    );
    // The rest of a body.
    check(
        vec![a("GET /1 HTTP/1.1~~"), u(OK), Lost(Side::Upstream, 2), a("GET /2 HTTP/1.1~~"), u(next)],
        &["2: GET /1 \"\" → 200 \"<Gap>\" 0-1", "4: GET /2 \"\" → 204 \"\" 3-4"],
    );
    for lost in [Lost(Side::Upstream, 3), Lost(Side::Agent, 1)] {
        check(
            vec![a("GET /1 HTTP/1.1~~"), u(OK), lost, u("ok")],
            &[
                "2: GET /1 \"\" → 200 \"<Gap>\" 0-1",
                "2: gave up: bytes are missing outside a body of known length",
            ],
        );
    }
}

#[test]
fn retains_whole_only_what_may_be_a_model_call() {
    let limits = Limits { whole: 8, preview: 4, ..Limits::default() };
    let long = "0123456789";
    let response = format!("HTTP/1.1 200 OK~content-length: 10~~{long}");
    let cases = [
        ("POST /v1/messages?beta=true HTTP/1.1~", true),
        ("POST /openai/deployments/x/chat/completions HTTP/1.1~content-type: application/json~", true),
        ("POST /sink HTTP/1.1~content-type: application/json~", false),
        ("PUT /v1/messages HTTP/1.1~content-type: application/json~", false),
        ("GET /v1/messages HTTP/1.1~", false),
    ];
    for (head, whole) in cases {
        let given = play(limits, &[a(&format!("{head}content-length: 10~~{long}")), u(&response)]);
        let [(_, Captured::Exchange(e))] = &given[..] else { panic!("{given:?}") };
        for body in [&e.request_body, &e.response_body] {
            assert_eq!(body.bytes, long.as_bytes()[..if whole { 8 } else { 4 }], "{head}");
            assert_eq!((body.wire_len, body.cut), (10, whole.then_some(Cut::Limit)), "{head}");
            assert_eq!(body.sha256.is_some(), whole, "{head}");
        }
    }
}

const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols~connection: Upgrade~upgrade: WebSocket~~";

fn hello(path: &str) -> Step {
    a(&format!("GET {path} HTTP/1.1~connection: Upgrade~upgrade: websocket~~"))
}

/// A text frame; `text` below 126 bytes. The client's mask is zero.
fn frame(side: Side, text: &str) -> Step {
    let len = u8::try_from(text.len()).expect("short");
    match side {
        Side::Upstream => U([&[0x81, len], text.as_bytes()].concat()),
        Side::Agent => A([&[0x81, 0x80 | len, 0, 0, 0, 0], text.as_bytes()].concat()),
    }
}

#[test]
fn follows_other_protocols_as_bytes() {
    check(
        vec![
            a("CONNECT c:1 HTTP/1.1~~"),
            a("raw"),
            u("HTTP/1.1 200 Go~~more"),
            a("!"),
            Lost(Side::Upstream, 10),
            u("raw"),
        ],
        &["7: CONNECT c:1 \"\" → 200 \"\" 0-5"],
    );
    let given = play(
        Limits::default(),
        &[
            &[hello("/1"), u("HTTP/1.1 101 S~upgrade: h2c~~1234"), a("123"), Lost(Side::Agent, 5)],
            &ends()[..],
        ]
        .concat(),
    );
    let [(5, Captured::Exchange(e))] = &given[..] else { panic!("{given:?}") };
    assert_eq!((e.request_body.wire_len, e.response_body.wire_len), (8, 4));
}

#[test]
fn goes_on_when_an_upgrade_is_refused() {
    check(
        vec![hello("/1"), a("GET /2 HTTP/1.1~~"), u(&format!("{OK}no")), u("HTTP/1.1 204 N~~")],
        &["2: GET /1 \"\" → 200 \"no\" 0-2", "3: GET /2 \"\" → 204 \"\" 2-3"],
    );
    let flood = vec![hello("/1"), A(vec![b'x'; WAITING + 1])];
    check(
        flood,
        &[
            "1: GET /1 \"\" → none \"<Ended>\" 0-0",
            "1: gave up: too many bytes behind a request to switch protocols",
        ],
    );
}

#[test]
fn gives_one_summary_of_a_websocket() {
    check(
        vec![
            a("GET /0 HTTP/1.1~~"),
            u(&format!("{OK}ok")),
            hello("/chat?x"),
            u(UPGRADE),
            frame(Side::Agent, "one"),
            frame(Side::Upstream, "1"),
            frame(Side::Agent, "two"),
            U(vec![0x82, 2, 0, 0]),
        ],
        &["1: GET /0 \"\" → 200 \"ok\" 0-1", "9: socket /chat?x 2/6 2/3 \"one\\ntwo\" \"1\" 2-7"],
    );
    let limits = Limits { preview: 4, ..Limits::default() };
    let long = [frame(Side::Agent, "one"), frame(Side::Agent, "two"), frame(Side::Agent, "three")];
    let given = play(limits, &[&[hello("/"), u(UPGRADE)], &long[..], &ends()].concat());
    assert_eq!(summary(&given), ["6: socket / 3/11 0/0 \"one\\n\" \"\" 0-4"]);
}

#[test]
fn gives_each_call_of_a_responses_socket() {
    let ask = |n: u8| format!("{{\"type\":\"response.create\",\"n\":{n}}}");
    let created = "{\"type\":\"response.created\"}";
    let done = "{\"type\":\"response.completed\"}";
    let first = format!("call {} → {created} {done} false", ask(1));
    check(
        vec![
            hello("/v1/responses?x"),
            u(UPGRADE),
            frame(Side::Agent, &ask(1)),
            frame(Side::Upstream, created),
            frame(Side::Upstream, done),
            frame(Side::Agent, &ask(2)),
            frame(Side::Upstream, created),
        ],
        &[
            "1: GET /v1/responses?x \"\" → 101 \"\" 0-1",
            &format!("4: {first}"),
            &format!("8: call {} → {created} true", ask(2)),
        ],
    );
    // Everything of the upstream before anything of the agent.
    check(
        vec![
            u(UPGRADE),
            frame(Side::Upstream, created),
            frame(Side::Upstream, done),
            hello("/responses"),
            frame(Side::Agent, &ask(1)),
        ],
        &["3: GET /responses \"\" → 101 \"\" 3-3", &format!("4: {first}")],
    );
    check(
        vec![
            hello("/responses"),
            frame(Side::Agent, &ask(1)),
            u(UPGRADE),
            U(vec![0xff]),
            U(vec![0]),
            frame(Side::Upstream, done),
        ],
        &[
            "2: GET /responses \"\" → 101 \"\" 0-2",
            &format!("4: call {} →  true", ask(1)),
            "4: gave up: malformed WebSocket frame",
        ],
    );
}

#[test]
fn tells_how_much_need_not_be_looked_at() {
    let limits = Limits { preview: 4, ..Limits::default() };
    let mut connection = connection(limits);
    let mut out = Vec::new();
    let mut sent = |side, text: &str, now, want: [u64; 2]| {
        connection.feed(side, text.replace('~', "\r\n").as_bytes(), now, &mut out);
        let unwanted = [Side::Agent, Side::Upstream].map(|side| connection.unwanted(side));
        assert_eq!(unwanted, want, "{text}");
        for (side, count) in [Side::Agent, Side::Upstream].into_iter().zip(unwanted) {
            if count < u64::MAX {
                connection.unseen(side, count, now + 1, &mut out);
            }
        }
    };
    sent(Side::Agent, "POST /1 HTTP/1.1~content-length: 9~~1234", 1, [0, 0]);
    sent(Side::Agent, "5", 3, [4, 0]);
    sent(Side::Upstream, "HTTP/1.1 200 N~transfer-encoding: chunked~~9~abcde", 5, [0, 4]);
    sent(Side::Upstream, "~3~", 7, [0, 3]);
    sent(Side::Upstream, "~0~~", 9, [0, 0]);
    // A model call is retained whole.
    sent(Side::Agent, "POST /v1/messages HTTP/1.1~content-length: 9~~12345", 11, [0, 0]);
    sent(Side::Agent, "6789", 13, [0, 0]);
    sent(Side::Upstream, "HTTP/1.1 204 N~~", 15, [0, 0]);
    sent(Side::Agent, "GET /3 HTTP/1.1~~", 17, [0, 0]);
    sent(Side::Upstream, "HTTP/1.0 200 N~~abcde", 19, [0, u64::MAX]);
    connection.unseen(Side::Upstream, 1 << 40, 21, &mut out);
    connection.end(Side::Upstream, 23, &mut out);
    connection.end(Side::Agent, 23, &mut out);
    assert_eq!(connection.unwanted(Side::Agent), u64::MAX, "it is over");
    let given: Vec<_> = out.into_iter().map(|one| (0, one)).collect();
    assert_eq!(
        summary(&given),
        [
            "0: POST /1 \"1234\" → 200 \"abcd\" 1-9",
            "0: POST /v1/messages \"123456789\" → 204 \"\" 11-15",
            "0: GET /3 \"\" → 200 \"abcd\" 17-21",
        ]
    );
    let lengths = |one: &Captured| match one {
        Captured::Exchange(e) => (e.request_body.wire_len, e.response_body.wire_len),
        other => panic!("{other:?}"),
    };
    let lengths: Vec<_> = given.iter().map(|(_, one)| lengths(one)).collect();
    assert_eq!(lengths, [(9, 12), (9, 0), (0, (1 << 40) + 5)]);
}
