//! What the scan must agree with. Also included by `tests/fuzz`.
use super::REDACTED;

/// The definition, written down without regard to speed: (prefix, what follows, least length, bytes that stay).
pub fn oracle(text: &str, user: &str) -> (String, usize) {
    const TOKEN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let letters: String = TOKEN.chars().filter(|c| c.is_alphanumeric()).collect();
    let upper: String = letters.chars().filter(|c| !c.is_lowercase()).collect();
    let word = format!("{letters}_");
    let dashed = format!("{letters}-");
    let credentials = format!("{TOKEN}.~+/=");
    let mut kinds: Vec<(&str, &str, usize, usize)> = vec![
        ("sk-", TOKEN, 20, 0),
        ("AKIA", &upper, 16, 0),
        ("github_pat_", &word, 22, 0),
        ("AIza", TOKEN, 35, 0),
        ("glpat-", TOKEN, 20, 0),
        ("npm_", &letters, 36, 0),
        ("hf_", &letters, 30, 0),
        ("ac7_", TOKEN, 43, 0),
        ("Basic ", &credentials, 20, 6),
        (user, TOKEN, 8, 0),
    ];
    kinds.extend(
        ["sk_live_", "rk_live_", "ghp_", "gho_", "ghs_", "ghu_", "ghr_"].map(|p| (p, word.as_str(), 20, 0)),
    );
    kinds.extend(["xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-"].map(|p| (p, dashed.as_str(), 10, 0)));
    kinds.extend(["Bearer ", "bearer "].map(|p| (p, credentials.as_str(), 20, 7)));
    let of = |text: &str, class: &str| text.chars().take_while(|c| class.contains(*c)).count();

    let mut out = String::new();
    let mut count = 0;
    let (mut at, mut behind) = (0, 0);
    while at < text.len() {
        if !text.is_char_boundary(at) {
            at += 1;
            continue;
        }
        let (before, rest) = text.split_at(at);
        let escape = ["\\n", "\\t", "\\u003d", "%3D", "\x1B[32m"].iter().any(|e| before.ends_with(e));
        // A secret that went ends the word that it was part of.
        let word_begins = escape || at == behind || !before.ends_with(|c: char| c.is_ascii_alphanumeric());
        let mut best: Option<(usize, usize)> = None;
        for (prefix, class, least, keep) in &kinds {
            if let Some(tail) = rest.strip_prefix(prefix)
                && (word_begins || *prefix == user)
                && of(tail, class) >= *least
            {
                best = best.max(Some((prefix.len() + of(tail, class), *keep)));
            }
        }
        if word_begins && rest.starts_with("eyJ") {
            let header = of(rest, TOKEN);
            if rest[header..].starts_with(".eyJ") {
                let payload = header + 1 + of(&rest[header + 1..], TOKEN);
                if payload == rest.len() {
                    best = best.max(Some((payload, 0)));
                } else if rest[payload..].starts_with('.') {
                    best = best.max(Some((payload + 1 + of(&rest[payload + 1..], TOKEN), 0)));
                }
            }
        }
        match best {
            Some((length, keep)) => {
                out.push_str(&rest[..keep]);
                out.push_str(REDACTED);
                count += 1;
                at += length;
                behind = at;
            }
            None => {
                let step = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..step]);
                at += step;
            }
        }
    }
    (out, count)
}
