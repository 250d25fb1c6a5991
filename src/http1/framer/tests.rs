use super::*;
use crate::http1::Start;

/// What a direction told, as text: heads by their first line's facts, bodies joined, faults by name.
fn transcript(framer: &mut Framer, pieces: &[&[u8]], ends: bool) -> String {
    let mut out: Vec<String> = Vec::new();
    let tell = |out: &mut Vec<String>, part: Part<'_>| match part {
        Part::Head(head) => out.push(match head.start {
            Start::Request { method, target } => format!("{method} {target}"),
            Start::Response { status } => status.to_string(),
        }),
        Part::Body(piece) => {
            let piece = String::from_utf8_lossy(piece);
            match out.last_mut().filter(|last| last.starts_with('"')) {
                Some(last) => last.push_str(&piece),
                None => out.push(format!("\"{piece}")),
            }
        }
        Part::Trailers(fields) => out.push(format!("{:?}", fields.0)),
        Part::End => out.push(".".into()),
    };
    for piece in pieces {
        let mut input = *piece;
        loop {
            match framer.next(&mut input) {
                Ok(Some(part)) => tell(&mut out, part),
                Ok(None) => break,
                Err(fault) => {
                    assert_eq!(framer.next(&mut input), Err(fault), "a fault stays");
                    out.push(format!("! {fault}"));
                    return out.join(" ");
                }
            }
        }
        if !input.is_empty() {
            out.push(format!("left {}", input.len()));
        }
    }
    if ends {
        match framer.end() {
            Ok(Some(part)) => tell(&mut out, part),
            Ok(None) => {}
            Err(fault) => out.push(format!("! {fault}")),
        }
    }
    out.join(" ")
}

/// Whole, byte by byte and in two pieces at every place.
fn all_cuts(make: impl Fn() -> Framer, text: &str, want: &str) {
    let bytes = text.as_bytes();
    assert_eq!(transcript(&mut make(), &[bytes], true), want, "whole: {text}");
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(transcript(&mut make(), &single, true), want, "byte by byte: {text}");
    for at in 0..=bytes.len() {
        let (a, b) = bytes.split_at(at);
        assert_eq!(transcript(&mut make(), &[a, b], true), want, "cut at {at}: {text}");
    }
}

#[test]
fn follows_requests_at_any_cut() {
    let table = [
        ("", ""),
        ("\r\n\n", ""),
        ("GET / HTTP/1.1\r\n\r\n", "GET / ."),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\n", "GET / . GET /2 ."),
        ("GET / HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\n\n", "GET / . GET /2 ."),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n", "POST / \"abc . GET / ."),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00A;x=\"y\";z\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / \"abc0123456789 . GET / .",
        ),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3 \nabc\n0\nA: b\nC: d\n\n",
            "POST / \"abc [(\"A\", \"b\"), (\"C\", \"d\")] .",
        ),
        ("GET / HTTP/1.1\r\nHo", "! connection ended inside a message"),
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", "POST / \"ab ! connection ended inside a message"),
        ("\x16\x03\x01\x02", "! not HTTP"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "POST / ! malformed chunk"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "POST / ! malformed chunk"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "POST / ! malformed chunk"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\rx\r\n", "POST / ! malformed chunk"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX", "POST / \"a ! malformed chunk"),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
            "POST / ! malformed chunk",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "! not HTTP/1.x"),
    ];
    for (text, want) in table {
        all_cuts(|| Framer::requests(Rules::CAPTURE), text, want);
    }
}

#[test]
fn follows_responses_at_any_cut() {
    let table = [
        ("HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "204 . 200 \"x ."),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end", "100 . 200 \"to the end ."),
        ("HTTP/1.0 200 OK\r\n\r\n", "200 ."),
        ("HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n", "304 ."),
    ];
    for (text, want) in table {
        all_cuts(|| Framer::responses(Rules::CAPTURE), text, want);
    }
}

#[test]
fn needs_to_know_what_was_asked() {
    let make = |asked| {
        let mut framer = Framer::responses(Rules::CAPTURE);
        framer.answers(asked);
        framer
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    all_cuts(|| make(Asked::Head), &format!("{head}{head}"), "200 . 200 .");
    let table: [(Asked, &[u8], &str); 2] = [
        (Asked::Connect, b"HTTP/1.1 200 OK\r\n\r\nraw", "200 left 3"),
        (Asked::Plain, b"HTTP/1.1 101 S\r\n\r\nraw", "101 left 3"),
    ];
    for (asked, text, want) in table {
        assert_eq!(transcript(&mut make(asked), &[text], true), want);
    }
}

#[test]
fn refuses_unclean_chunks_under_strict_rules() {
    for body in ["3 \r\nabc\r\n", "3\nabc\r\n", "3\r\nabc\n", "3;a\x01\r\nabc\r\n", "3;a\nabc\r\n"] {
        let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n");
        let told = transcript(&mut Framer::requests(Rules::EDGE), &[text.as_bytes()], true);
        assert!(told.ends_with("! malformed chunk"), "{body:?}: {told}");
        let told = transcript(&mut Framer::requests(Rules::CAPTURE), &[text.as_bytes()], true);
        assert_eq!(told, "POST / \"abc .", "{body:?}");
    }
}

#[test]
fn bounds_heads_trailers_and_size_lines() {
    let rules = Rules { head_bytes: 100, ..Rules::CAPTURE };
    let head = |value: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(value));
    all_cuts(|| Framer::requests(rules), &head(77), "GET / .");
    all_cuts(|| Framer::requests(rules), &head(78), "! message head too large");
    let trailer = |value: usize| {
        let fill = "x".repeat(value);
        format!("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: {fill}\r\n\r\n")
    };
    let told = transcript(&mut Framer::requests(rules), &[trailer(94).as_bytes()], true);
    assert_eq!(told, "GET / ! message head too large");
    let line =
        |n: usize| format!("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;{}\r\n\r\n", "x".repeat(n));
    assert_eq!(transcript(&mut Framer::requests(rules), &[line(4092).as_bytes()], true), "GET / .");
    assert_eq!(
        transcript(&mut Framer::requests(rules), &[line(4093).as_bytes()], true),
        "GET / ! malformed chunk"
    );
}

#[test]
fn hands_bodies_on_without_copying() {
    let text = b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
    let mut framer = Framer::requests(Rules::CAPTURE);
    let mut input = &text[..];
    assert!(matches!(framer.next(&mut input), Ok(Some(Part::Head(_)))));
    let Ok(Some(Part::Body(piece))) = framer.next(&mut input) else { panic!("a body follows") };
    assert_eq!(piece.as_ptr(), text[text.len() - 4..].as_ptr());
}

#[test]
fn skips_what_was_lost_inside_a_run_of_known_length() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
    let fixed = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    // (before the gap, lost, after it, what is told)
    let table = [
        (format!("{fixed}a"), 3, "bHTTP/1.1 204 N\r\n\r\n", "200 \"a | \"b . 204 ."),
        (fixed.to_string(), 5, "HTTP/1.1 204 N\r\n\r\n", "200 | . 204 ."),
        (fixed.to_string(), 6, "", "200 | ! bytes are missing outside a body of known length"),
        (format!("{chunked}a"), 3, "b\r\n0\r\n\r\n", "200 \"a | \"b ."),
        (format!("{chunked}a"), 4, "\r\n0\r\n\r\n", "200 \"a | ."),
        (format!("{chunked}a"), 5, "", "200 \"a | ! bytes are missing outside a body of known length"),
        ("HTTP/1.1 200 OK\r\n\r\na".to_string(), 1 << 40, "b", "200 \"a | \"b ."),
        ("HTTP/1.1 2".to_string(), 1, "", " | ! bytes are missing outside a body of known length"),
        (String::new(), 1, "", " | ! bytes are missing outside a body of known length"),
        (String::new(), 0, "HTTP/1.1 204 N\r\n\r\n", " | 204 ."),
    ];
    for (before, lost, after, want) in table {
        let mut framer = Framer::responses(Rules::CAPTURE);
        let first = transcript(&mut framer, &[before.as_bytes()], false);
        let skipped = framer.skip(lost);
        let second = transcript(&mut framer, &[after.as_bytes()], true);
        assert_eq!(format!("{first} | {second}"), want);
        assert_eq!(skipped.is_err(), want.contains('!'), "{before}");
    }
}
