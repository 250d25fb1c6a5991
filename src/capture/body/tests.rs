use super::*;

const WHOLE: Keep = Keep::Whole(1 << 20);

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/fixtures/codings/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The text that every coded fixture holds, by its number of lines.
fn plain(lines: u64) -> Vec<u8> {
    (0..lines).flat_map(|n| format!("{n} {}\n", n * n * 7919 % 1_000_003).into_bytes()).collect()
}

struct Coded {
    file: String,
    coding: String,
    bytes: Vec<u8>,
    plain: Vec<u8>,
    /// (bytes of the file, bytes of the text) after each flush.
    flushed: Vec<(usize, usize)>,
}

fn coded() -> Vec<Coded> {
    let index: serde_json::Value = serde_json::from_slice(&fixture("index.json")).expect("JSON");
    let number = |v: &serde_json::Value| usize::try_from(v.as_u64().expect("a number")).expect("small");
    let read = |e: &serde_json::Value| Coded {
        file: e["file"].as_str().expect("a name").to_string(),
        coding: e["coding"].as_str().expect("a coding").to_string(),
        bytes: fixture(e["file"].as_str().expect("a name")),
        plain: plain(e["lines"].as_u64().expect("a number")),
        flushed: e["flushed"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|p| (number(&p[0]), number(&p[1])))
            .collect(),
    };
    index.as_array().expect("a list").iter().map(read).collect()
}

fn headers(coding: &str) -> Headers {
    Headers(vec![("Content-Encoding".into(), coding.into())])
}

fn record<'a>(coding: &str, keep: Keep, pieces: impl IntoIterator<Item = &'a [u8]>) -> Body {
    let mut recorder = Recorder::new(&headers(coding), keep);
    for piece in pieces {
        recorder.push(piece, 1);
    }
    recorder.finish(None)
}

#[test]
fn decodes_every_coding_at_any_cut() {
    for c in coded() {
        let cuts: &[usize] = if c.bytes.len() > 10_000 { &[1000, 70_000] } else { &[1, 2, 3, 7, 100] };
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let body = record(&c.coding, WHOLE, c.bytes.chunks(cut.min(c.bytes.len())));
            assert_eq!(body.cut, None, "{} in pieces of {cut}", c.file);
            assert!(body.bytes == c.plain, "{} in pieces of {cut}", c.file);
            assert_eq!((body.wire_len, &body.sha256), (c.bytes.len() as u64, &None), "{}", c.file);
        }
    }
}

#[test]
fn tells_when_each_flushed_piece_arrived() {
    for c in coded().iter().filter(|c| c.file.starts_with("live")) {
        let mut recorder = Recorder::new(&headers(&c.coding), WHOLE);
        let (mut from, mut want) = ((0, 0), Vec::new());
        for (at, now) in c.flushed.iter().zip(100..) {
            recorder.push(&c.bytes[from.0..at.0], now);
            if at.1 > from.1 {
                want.push((from.1, now));
            }
            from = *at;
        }
        assert_eq!(recorder.finish(None).marks, want, "{}", c.file);
    }
}

#[test]
fn keeps_what_a_cut_stream_had_flushed() {
    for c in coded().iter().filter(|c| c.file.starts_with("live")) {
        let (wire, text) = c.flushed[4];
        for extra in [0, 1, 20] {
            let mut recorder = Recorder::new(&headers(&c.coding), WHOLE);
            recorder.push(&c.bytes[..wire + extra], 1);
            let body = recorder.finish(Some(Cut::Ended));
            assert_eq!(body.cut, Some(Cut::Ended), "{}", c.file);
            assert!(body.bytes.starts_with(&c.plain[..text]), "{} +{extra}: {}", c.file, body.bytes.len());
            assert!(c.plain.starts_with(&body.bytes), "{}", c.file);
        }
        assert_eq!(record(&c.coding, WHOLE, [&c.bytes[..wire]]).cut, Some(Cut::Coding), "{}", c.file);
    }
}

#[test]
fn tells_broken_data_from_unknown_codings() {
    for c in coded().iter().filter(|c| c.file.starts_with("live")) {
        let good = &c.bytes[..c.flushed[4].0];
        let body = record(&c.coding, WHOLE, [good, &[0xff; 300]]);
        assert_eq!(body.cut, Some(Cut::Coding), "{}", c.file);
        assert!(body.bytes.starts_with(&c.plain[..c.flushed[4].1]), "{}", c.file);
        assert_eq!(body.wire_len, good.len() as u64 + 300);
    }
    for coding in ["compress", "gzip, x", "br,br,br,br,br"] {
        let body = record(coding, WHOLE, [&b"raw "[..], b"bytes"]);
        assert_eq!((body.cut, &body.bytes[..]), (Some(Cut::Coding), &b"raw bytes"[..]), "{coding}");
    }
    for coding in ["gzip", "deflate", "br", "zstd"] {
        assert_eq!(record(coding, WHOLE, []), Body::default(), "an empty body of {coding}");
        let body = record(coding, WHOLE, [&b"not coded at all"[..]]);
        assert_eq!(body.cut, Some(Cut::Coding), "{coding}");
    }
}

#[test]
fn undoes_transfer_codings_too() {
    let gz = fixture("members.gz");
    let headers = Headers(vec![("Transfer-Encoding".into(), "gzip, chunked".into())]);
    let mut recorder = Recorder::new(&headers, WHOLE);
    recorder.push(&gz, 1);
    assert!(recorder.finish(None).bytes == plain(100));
}

#[test]
fn hashes_the_wire_payload_of_what_passes_the_limit() {
    let hash = |bytes: &[u8]| to_hex(ring::digest::digest(&SHA256, bytes).as_ref());
    for c in coded().iter().filter(|c| c.plain.len() > 500 && c.file != "long.gz").chain([&Coded {
        file: "plain".into(),
        coding: "identity".into(),
        bytes: plain(300),
        plain: plain(300),
        flushed: Vec::new(),
    }]) {
        for cut in [1, 50, usize::MAX] {
            let pieces = || c.bytes.chunks(cut.min(c.bytes.len()).max(c.bytes.len() / 500));
            let body = record(&c.coding, Keep::Whole(400), pieces());
            assert_eq!(body.cut, Some(Cut::Limit), "{}", c.file);
            assert!(body.bytes == c.plain[..400], "{}", c.file);
            assert_eq!(body.sha256, Some(hash(&c.bytes)), "{}", c.file);
            assert_eq!(body.wire_len, c.bytes.len() as u64, "{}", c.file);

            let body = record(&c.coding, Keep::Preview(400), pieces());
            assert_eq!((body.cut, body.sha256), (None, None), "{}", c.file);
            assert!(body.bytes == c.plain[..400], "{}", c.file);
            assert_eq!(body.wire_len, c.bytes.len() as u64, "{}", c.file);

            let body = record(&c.coding, Keep::Whole(c.plain.len()), pieces());
            assert_eq!((body.cut, body.sha256), (None, None), "{} fits exactly", c.file);
        }
    }
    let mut recorder = Recorder::new(&Headers::default(), Keep::Whole(4));
    recorder.push(b"more than four", 1);
    let body = recorder.finish(Some(Cut::Ended));
    assert_eq!(
        (body.cut, body.sha256),
        (Some(Cut::Limit), None),
        "the hash would not be the whole payload's"
    );
}

#[test]
fn codings_inside_others_may_be_longer_than_what_they_hold() {
    let text = b"incompressible";
    let inner = miniz_oxide::deflate::compress_to_vec(text, 0);
    // One raw block, the last.
    let block = u8::try_from(inner.len()).expect("short") << 3 | 1;
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x38, block, 0, 0][..], &inner].concat();
    assert!(inner.len() > text.len());
    let body = record("deflate, zstd", Keep::Whole(text.len()), [&zstd[..]]);
    assert_eq!((&body.bytes[..], body.cut), (&text[..], None));
}

#[test]
fn stops_at_bombs() {
    let gz = miniz_oxide::deflate::compress_to_vec(&vec![0; 64 << 20], 1);
    let cases = [
        ("deflate", gz, true),
        ("br", fixture("bomb.br"), true),
        ("zstd", fixture("bomb.zst"), true),
        // Sixty megabytes of empty members: nothing to show for the work.
        ("gzip, br", fixture("bomb.gz.br"), false),
    ];
    for (coding, bytes, shows) in cases {
        let body = record(coding, Keep::Whole(100_000), [&bytes[..]]);
        assert_eq!(body.cut, Some(Cut::Limit), "{coding}");
        assert_eq!(body.bytes.len(), if shows { 100_000 } else { 0 }, "{coding}");
    }
}

#[test]
fn marks_a_gap_and_retains_nothing_behind_it() {
    let cases = [(WHOLE, Some(Cut::Gap)), (Keep::Preview(100), Some(Cut::Gap)), (Keep::Preview(3), None)];
    for (keep, cut) in cases {
        let mut recorder = Recorder::new(&Headers::default(), keep);
        recorder.push(b"abcd", 1);
        recorder.gap(5);
        recorder.push(b"ef", 2);
        let body = recorder.finish(None);
        assert_eq!((body.cut, body.wire_len), (cut, 11));
        assert!(b"abcd".starts_with(&body.bytes[..]));
    }
}

#[test]
fn bounds_and_orders_marks() {
    let mut recorder = Recorder::new(&Headers::default(), WHOLE);
    for now in [5, 5, 7, 6, 7, 8] {
        recorder.push(b"x", now);
    }
    assert_eq!(recorder.finish(None).marks, [(0, 5), (2, 7), (5, 8)]);
    let mut recorder = Recorder::new(&Headers::default(), WHOLE);
    for now in 1..=5000 {
        recorder.push(b"x", now);
    }
    let body = recorder.finish(None);
    assert_eq!((body.marks.len(), body.arrived(4999)), (4096, Some(4096)));
}

#[test]
fn survives_any_damage() {
    let mut seed = 17_u64;
    let mut below = move |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % n as u64).expect("below a usize")
    };
    let coded: Vec<_> = coded().into_iter().filter(|c| c.bytes.len() < 10_000).collect();
    for _ in 0..4000 {
        let c = &coded[below(coded.len())];
        let mut bytes = c.bytes.clone();
        for _ in 0..=below(4) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes.truncate(at + 1),
                1 => bytes[at] = [0, 0xff][below(2)],
                _ => bytes[at] ^= 1 << below(8),
            }
        }
        let keep = [Keep::Whole(5000), Keep::Preview(500)][below(2)];
        let body = record(&c.coding, keep, bytes.chunks(1 + below(1000)));
        assert!(body.bytes.len() <= 5000 && body.wire_len == bytes.len() as u64, "{}", c.file);
    }
}
