use super::*;

fn headers(extensions: &str) -> Headers {
    Headers(vec![("Sec-WebSocket-Extensions".into(), extensions.into())])
}

/// What a direction tells: messages by kind and text, faults by phrase.
fn told(frames: &mut Frames, pieces: &[&[u8]], keep: usize) -> Vec<String> {
    let mut out = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match frames.next(&mut input, keep, 1) {
                Ok(Some(m)) => {
                    let text = String::from_utf8_lossy(&m.bytes).into_owned();
                    out.push(format!(
                        "{}{}{text}",
                        if m.text { "t" } else { "b" },
                        if m.whole { ":" } else { "…" }
                    ));
                }
                Ok(None) => break,
                Err(phrase) => {
                    out.push(phrase.to_string());
                    return out;
                }
            }
        }
        assert!(input.is_empty());
    }
    out
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut out = vec![first, 0x80 | u8::try_from(payload.len()).expect("short")];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = match payload.len() {
        n @ 0..=125 => vec![first, u8::try_from(n).expect("short")],
        n if first & 0x10 == 0 => {
            [&[first, 126][..], &u16::try_from(n).expect("medium").to_be_bytes()].concat()
        }
        n => [&[first & !0x10, 127][..], &(n as u64).to_be_bytes()].concat(),
    };
    out.extend_from_slice(payload);
    out
}

#[test]
fn reads_frames_at_any_cut() {
    let long = vec![b'x'; 300];
    let agent =
        [masked(0x81, b"Hello"), masked(0x89, b"ping"), masked(0x82, b"bin"), masked(0x81, b"")].concat();
    // Fragments with a control frame between them; 16- and 64-bit lengths; nothing counts behind a close frame.
    let upstream = [
        unmasked(0x01, b"Hel"),
        unmasked(0x8a, b""),
        unmasked(0x00, b""),
        unmasked(0x80, b"lo"),
        unmasked(0x81, &long),
        unmasked(0x91, &long),
        unmasked(0x88, b"\x03\xe8"),
        b"anything".to_vec(),
    ]
    .concat();
    let x = format!("t:{}", "x".repeat(300));
    let cases = [
        (Side::Agent, agent, vec!["t:Hello", "b…", "t:"], (3, 8)),
        (Side::Upstream, upstream, vec!["t:Hello", &x, &x], (3, 605)),
    ];
    for (side, bytes, want, counts) in cases {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let mut cuts: Vec<Vec<&[u8]>> = (0..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]).collect();
        cuts.push(single);
        for pieces in cuts {
            let mut frames = Frames::new(side, &Headers::default());
            assert_eq!(told(&mut frames, &pieces, 1000), want, "{side:?}");
            assert_eq!(frames.counts(), counts);
        }
    }
}

#[test]
fn refuses_malformed_frames() {
    let cases: [(&str, Vec<u8>); 10] = [
        ("continuation of nothing", unmasked(0x80, b"a")),
        ("a message inside another", [unmasked(0x01, b"a"), unmasked(0x81, b"b")].concat()),
        ("a control frame in fragments", unmasked(0x09, b"")),
        ("a long control frame", vec![0x89, 126, 0, 126]),
        ("an unknown opcode", unmasked(0x83, b"")),
        ("an unknown control opcode", unmasked(0x8b, b"")),
        ("a reserved bit", unmasked(0xa1, b"")),
        ("compression that was not agreed", unmasked(0xc1, b"")),
        ("a masked server frame", masked(0x81, b"a")),
        ("a length of 2^63", vec![0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for (what, bytes) in cases {
        let mut frames = Frames::new(Side::Upstream, &Headers::default());
        assert_eq!(told(&mut frames, &[&bytes], 10), [MALFORMED], "{what}");
    }
    let mut frames = Frames::new(Side::Agent, &Headers::default());
    assert_eq!(told(&mut frames, &[&unmasked(0x81, b"a")], 10), [MALFORMED], "an unmasked client frame");
}

/// The examples of RFC 7692 §7.2.3, and what they mean one after the other.
#[test]
fn inflates_messages_as_the_rfc_shows() {
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    let stored: &[u8] = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let last: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks: &[u8] = &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    let c = |payload: &[u8]| unmasked(0xc1, payload);
    let cases = [
        ("", vec![c(hello), c(again), c(again)], 3),
        ("; server_max_window_bits=10; client_no_context_takeover", vec![c(hello), c(again)], 2),
        (
            "",
            vec![unmasked(0x41, &hello[..3]), unmasked(0x89, b""), unmasked(0x80, &hello[3..]), c(again)],
            2,
        ),
        ("", vec![c(stored), c(last), c(hello), c(two_blocks)], 4),
        // What is referred to is the window before the last block, which called itself the last.
        ("", vec![c(hello), c(last), c(again)], 3),
        ("; server_no_context_takeover", vec![c(hello), c(hello)], 2),
        ("", vec![c(hello), unmasked(0x81, b"Hello"), c(again)], 3),
    ];
    for (parameters, messages, want) in cases {
        let bytes = messages.concat();
        for size in [1, 2, 3, bytes.len()] {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            let mut frames =
                Frames::new(Side::Upstream, &headers(&format!("x, permessage-deflate{parameters}")));
            assert_eq!(told(&mut frames, &pieces, 100), vec!["t:Hello"; want], "{messages:?}");
        }
    }
    let mut frames = Frames::new(Side::Upstream, &headers("permessage-deflate"));
    assert_eq!(told(&mut frames, &[&c(&[0xff; 5])], 100), [BROKEN]);
}

#[test]
fn keeps_the_window_right_beyond_what_is_wanted() {
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    let bytes = [unmasked(0xc2, hello), unmasked(0xc1, again), unmasked(0xc1, again)].concat();
    let mut frames = Frames::new(Side::Upstream, &headers("permessage-deflate"));
    assert_eq!(told(&mut frames, &[&bytes], 3), ["b…", "t…Hel", "t…Hel"]);
    let mut frames = Frames::new(Side::Upstream, &headers("permessage-deflate;server_no_context_takeover"));
    let bytes = [unmasked(0xc2, hello), unmasked(0xc1, hello)].concat();
    assert_eq!(told(&mut frames, &[&bytes], 5), ["b…", "t:Hello"]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(told(&mut frames, &single, 5), ["b…", "t:Hello"], "all of it, whatever the cuts");
    frames.count_only();
    let bytes = [unmasked(0xc1, b"not deflate"), unmasked(0x81, b"x")].concat();
    assert_eq!(told(&mut frames, &[&bytes], 5), ["t…", "t…"]);
    assert_eq!(frames.counts(), (6, 40));
}

/// A message that refers to what it may not refer to, or that is broken where nobody looks, does no harm to the next.
#[test]
fn messages_without_takeover_do_not_depend_on_each_other() {
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    let broken = [hello, &[0xff; 4]].concat();
    for size in [1, 100] {
        let bytes = [unmasked(0xc2, &broken), unmasked(0xc1, again), unmasked(0xc1, hello)].concat();
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        let mut frames =
            Frames::new(Side::Upstream, &headers("permessage-deflate;server_no_context_takeover"));
        assert_eq!(told(&mut frames, &pieces, 9), ["b…", "t:H\0\0\0\0", "t:Hello"]);
    }
}

#[test]
fn stops_at_a_message_that_inflates_without_bound() {
    let zeros = miniz_oxide::deflate::compress_to_vec(&vec![0; 1 << 20], 1);
    let mut frames = Frames::new(Side::Upstream, &headers("permessage-deflate"));
    let frame = |first: u8, n: usize| [&[first, 127][..], &(n as u64).to_be_bytes()].concat();
    let mut told_at_last = told(&mut frames, &[&frame(0x41, zeros.len()), &zeros], 10);
    for _ in 0..256 {
        assert!(told_at_last.is_empty());
        told_at_last = told(&mut frames, &[&frame(0, zeros.len()), &zeros], 10);
    }
    assert_eq!(told_at_last, [BOMB]);
}
