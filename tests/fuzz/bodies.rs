//! Target: the body decoders.
use super::coded::coded;
use super::harness::{fuzz, same};
use super::inputs::{coded_bodies, spoil};
use super::random::Random;
use ac7::capture::body::{Keep, Recorder};
use ac7::capture::exchange::{Body, Cut, Headers};
use ac7::sys::random::to_hex;
use ring::digest::{SHA256, digest};

fn record(names: &str, keep: Keep, pieces: &[&[u8]], early: Option<Cut>) -> Body {
    let headers = Headers(vec![("Content-Encoding".into(), names.into())]);
    let mut recorder = Recorder::new(&headers, keep);
    for piece in pieces {
        recorder.push(piece, 1);
    }
    recorder.finish(early)
}

fn plain(random: &mut Random) -> Vec<u8> {
    // Of codings inside others no more than 64 KB beyond the limit is looked at.
    let most = if random.one_in(30) { 50_000 } else { 2000 };
    let alphabet = 1 + random.below(255);
    (0..random.size(most)).map(|_| u8::try_from(random.below(alphabet)).unwrap()).collect()
}

#[test]
fn bodies() {
    fuzz("bodies", 250, |random| {
        let plain = plain(random);
        let (names, wire) = coded(&plain, random);
        let limit =
            if random.one_in(2) { plain.len() + random.below(100) } else { random.below(plain.len() + 1) };
        let pieces = random.pieces(&wire);
        let fits = limit >= plain.len();

        let body = record(&names, Keep::Whole(limit), &pieces, None);
        assert!(
            body.bytes == plain[..limit.min(plain.len())],
            "{names}: {} of {}",
            body.bytes.len(),
            plain.len()
        );
        assert_eq!(body.cut, (!fits).then_some(Cut::Limit), "{names}");
        assert_eq!(body.sha256, (!fits).then(|| to_hex(digest(&SHA256, &wire).as_ref())), "{names}");
        assert_eq!(body.wire_len, wire.len() as u64);

        let body = record(&names, Keep::Preview(limit), &pieces, None);
        assert!(body.bytes == plain[..limit.min(plain.len())], "{names}");
        assert_eq!((body.cut, body.sha256, body.wire_len), (None, None, wire.len() as u64));

        let cut = &wire[..random.below(wire.len() + 1)];
        let body = record(&names, Keep::Whole(limit), &random.pieces(cut), Some(Cut::Ended));
        assert!(plain.starts_with(&body.bytes) && body.bytes.len() <= limit, "{names}");
        assert!(matches!(body.cut, Some(Cut::Ended | Cut::Limit)), "{names}: {:?}", body.cut);
    });
}

#[test]
fn spoiled_bodies() {
    let recorded = coded_bodies();
    fuzz("spoiled bodies", 800, |random| {
        let (mut names, mut wire) = if random.one_in(2) {
            recorded[random.below(recorded.len())].clone()
        } else {
            let plain = plain(random);
            coded(&plain, random)
        };
        spoil(&mut wire, &recorded[random.below(recorded.len())].1, random);
        if random.one_in(10) {
            let name = random.pick(&["gzip", "deflate", "br", "zstd"]);
            names = if random.one_in(2) { name.into() } else { format!("{name},{names}") };
        }
        let limit = random.below(5000);
        let keep = if random.one_in(2) { Keep::Whole(limit) } else { Keep::Preview(limit) };
        let early = random.one_in(2).then_some(Cut::Ended);

        let whole = record(&names, keep, &[&wire], early);
        assert!(whole.bytes.len() <= limit);
        assert_eq!(whole.wire_len, wire.len() as u64);
        let cut = record(&names, keep, &random.pieces(&wire), early);
        if names.contains("br") && whole.cut == Some(Cut::Coding) {
            // What brotli's decoder has not handed out when it meets an error is lost with the piece.
            assert!(cut.bytes.starts_with(&whole.bytes));
            return;
        }
        same(&cut, &whole, &names);
    });
}
