//! Target: redaction.
use super::harness::{fuzz, same};
use super::inputs::{body, calls};
use super::random::Random;
use super::streams::{Said, Tool, WIRES};
use ac7::activity::{Event, OpaqueEntry};
use ac7::capture::exchange::{Captured, Cut};
use ac7::capture::extract::{event, fit};
use ac7::capture::redact::{self, REDACTED, Rules};
use serde_json::{Map, Value, json};

#[path = "../../src/capture/redact/oracle.rs"]
mod oracle;

const TOKEN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
const LETTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// How a secret begins, of what it goes on, and how long that is at least.
const KINDS: [(&str, &str, usize); 18] = [
    ("sk-", TOKEN, 20),
    ("sk-ant-api03-", TOKEN, 20),
    ("sk-proj-", TOKEN, 20),
    ("sk_live_", LETTERS, 20),
    ("rk_live_", LETTERS, 20),
    ("AKIA", UPPER, 16),
    ("ghp_", LETTERS, 20),
    ("ghr_", LETTERS, 20),
    ("github_pat_", LETTERS, 22),
    ("xoxb-", LETTERS, 10),
    ("AIza", TOKEN, 35),
    ("glpat-", TOKEN, 20),
    ("npm_", LETTERS, 36),
    ("hf_", LETTERS, 30),
    ("ac7_", TOKEN, 43),
    ("Bearer ", TOKEN, 20),
    ("Basic ", LETTERS, 20),
    ("bearer ", TOKEN, 20),
];

/// A secret, and the part of it that may not be seen anywhere.
fn secret(random: &mut Random) -> (String, String) {
    if random.one_in(10) {
        let parts = [(); 3].map(|()| random.word(TOKEN, 30));
        return (format!("eyJ{}.eyJ{}.{}", parts[0], parts[1], parts[2]), parts[random.below(3)].clone());
    }
    if random.one_in(10) {
        let lines = [(); 3].map(|()| random.word(LETTERS, 64));
        let kind = random.pick(&["RSA ", "", "OPENSSH ", "EC "]);
        let key = format!(
            "-----BEGIN {kind}PRIVATE KEY-----\n{}\n-----END {kind}PRIVATE KEY-----",
            lines.join("\n")
        );
        return (key, lines[random.below(3)].clone());
    }
    let (prefix, alphabet, least) = KINDS[random.below(KINDS.len())];
    let length = least + random.below(40);
    let tail = random.word(alphabet, length);
    (format!("{prefix}{tail}"), tail)
}

/// Whether any good part of `tail` can be seen.
fn leaks(json: &str, tail: &str) -> bool {
    tail.as_bytes().windows(10).any(|w| json.contains(std::str::from_utf8(w).unwrap()))
}

/// Text in which secrets, near misses and borders follow each other.
fn near_secrets(user: &str, random: &mut Random) -> String {
    const BETWEEN: [&str; 27] = [
        "", "", "", " ", "\n", "\\n", "\\t", "\"", "=", "&", "%3D", "%41", "\\u003d", "\x1B[32m", ".", "-",
        "_", "a", "Z", "7", "é", "✓", "ta", "di", "/", "+", REDACTED,
    ];
    // The oracle knows but some of the escapes.
    let mut text = random.text(10).replace('\\', "");
    for _ in 0..1 + random.below(6) {
        text.push_str(random.pick(&BETWEEN));
        match random.below(5) {
            0 => text.push_str(user),
            1 => text.push_str(["eyJ", ".eyJ", "eyJ."][random.below(3)]),
            _ => text.push_str(KINDS[random.below(KINDS.len())].0),
        }
        let alphabet = ["A", "a", "0", "Ab1", "aB_-", "-", "x/+=", ".", TOKEN][random.below(9)];
        let length = [0, 7, 8, 9, 10, 15, 16, 19, 20, 21, 22, 29, 30, 35, 36, 42, 43, 60][random.below(18)];
        text.push_str(&random.word(alphabet, length));
        text.push_str(random.pick(&BETWEEN));
    }
    text
}

#[test]
fn redaction() {
    let prefixes = ["zq-", "acme/", "ключ:", "sk-", "aaa"];
    let rules = prefixes.map(|prefix| Rules::new(&[prefix.to_string()]).unwrap());
    fuzz("redaction", 3000, |random| {
        let which = random.below(prefixes.len());
        let (rules, user) = (&rules[which], prefixes[which]);
        let text = near_secrets(user, random);
        let (want, count) = oracle::oracle(&text, user);
        let mut got = text.clone();
        assert_eq!((rules.replace(&mut got), &got), (count, &want), "{text:?}");
        assert_eq!((rules.finds(&text), got != text), (count > 0, count > 0), "{text:?}");
        let mut again = got.clone();
        assert_eq!((rules.replace(&mut again), &again), (0, &got), "a second time: {text:?}");
    });
}

/// Put `secret` into a text somewhere inside `value`, or into a name.
fn plant(value: &mut Value, secret: &str, random: &mut Random) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            plant(&mut items[at], secret, random);
        }
        Value::Object(map) if map.is_empty() || random.one_in(12) => {
            map.insert(format!("a {secret}"), json!(1));
        }
        Value::Object(map) => {
            let at = random.below(map.len());
            plant(map.values_mut().nth(at).unwrap(), secret, random);
        }
        Value::String(text) => {
            let at = random.below(text.len() + 1);
            let at = (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let (before, after) =
                (random.pick(&[" ", "\"", "=", "(\n"]), random.pick(&[" ", "\"", ",", "\n"]));
            text.insert_str(at, &format!("{before}{secret}{after}"));
        }
        other => *other = json!(secret),
    }
}

/// Put it into the JSON that a body is, or into that of one of its events.
fn plant_in(bytes: &mut Vec<u8>, secret: &str, random: &mut Random) {
    if let Ok(mut value) = serde_json::from_slice::<Value>(bytes) {
        plant(&mut value, secret, random);
        *bytes = value.to_string().into_bytes();
        return;
    }
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines: Vec<String> = text.split('\n').map(str::to_string).collect();
    let at = random.below(lines.len());
    if let Some(mut value) = lines[at].strip_prefix("data: ").and_then(|data| serde_json::from_str(data).ok())
    {
        plant(&mut value, secret, random);
        lines[at] = format!("data: {value}");
    }
    *bytes = lines.join("\n").into_bytes();
}

/// Something that was said, with `secret` in it; deltas will cut it.
fn said(secret: &str, random: &mut Random) -> Said {
    let mut said = Said::any(random);
    let inside = |text: &str| format!("{text} {secret} {text}");
    match random.below(3) {
        0 => said.thinking = Some(inside(&random.text(20))),
        1 => said.text = Some(inside(&random.text(20))),
        _ => {
            let mut input = json!({"command": random.text(20), "list": [random.text(5), {"x": "y"}]});
            plant(&mut input, secret, random);
            said.tools.push(Tool { id: "call_9".into(), name: "Bash".into(), input });
        }
    }
    said
}

/// An error page that is longer than what is kept of it.
fn error_page(secret: &str, random: &mut Random) -> Vec<u8> {
    let before = 400 + random.below(200);
    format!("<html>{} {secret} {}</html>", "x ".repeat(before / 2), random.text(200)).into_bytes()
}

#[test]
fn planted() {
    let (rules, calls) = (Rules::default(), calls());
    fuzz("planted", 500, |random| {
        let (secret, tail) = secret(random);
        let was_said = random.one_in(2);
        let mut captured = if was_said {
            let wire = WIRES[random.below(WIRES.len())];
            said(&secret, random).captured(wire, random)
        } else {
            calls[random.below(calls.len())].clone()
        };
        match &mut captured {
            _ if was_said => {}
            Captured::Exchange(x) => match random.below(5) {
                0 => x
                    .request
                    .headers
                    .0
                    .push((random.pick(&["user-agent", "x-note", "session-id"]).into(), secret.clone())),
                1 => x.request.target = format!("{}?key={secret}&a=b", x.request.target),
                2 if x.response.is_some() => x.response_body = body(error_page(&secret, random), None, 2000),
                3 => plant_in(&mut x.response_body.bytes, &secret, random),
                _ => plant_in(&mut x.request_body.bytes, &secret, random),
            },
            Captured::SocketCall(call) => {
                plant_in(&mut call.asked, &secret, random);
                let at = random.below(call.answered.len());
                plant_in(&mut call.answered[at].1, &secret, random);
            }
            Captured::SocketSummary(_) | Captured::GaveUp { .. } => {}
        }
        let mut event = event(&captured);
        redact::event(&mut event, &rules);
        let once = event.clone();
        assert_eq!(
            redact::event(&mut event, &rules),
            redact::Replaced::default(),
            "a second time: {}",
            once.to_json()
        );
        same(&event, &once, "a second time");
        let json = fit(&mut event);
        assert!(!leaks(&json, &tail), "{secret} in {json}");
    });
}

/// Names whose values go, and some whose values stay.
const NAMES: [&str; 14] = [
    "access_token",
    "refreshToken",
    "id-token",
    "client_secret",
    "API_KEY",
    "apikey",
    "password",
    "code",
    "code_verifier",
    "state",
    "zip_code",
    "mypassword",
    "x",
    "grant_type",
];
const SECRET_NAMES: usize = 9;

/// JSON in which every member of a secret name has the value `secret`; some of it inside of strings.
fn named(secret: &str, levels: usize, random: &mut Random) -> Value {
    let mut map = Map::new();
    for _ in 0..1 + random.below(4) {
        let at = random.below(NAMES.len());
        let value = if at < SECRET_NAMES {
            json!(secret)
        } else if levels == 0 {
            json!(random.text(10))
        } else {
            let inner = named(secret, levels - 1, random);
            match random.below(3) {
                0 => inner,
                1 => json!([inner, 1]),
                _ => json!(if random.one_in(2) { inner.to_string() } else { format!("{inner:#}") }),
            }
        };
        map.insert(NAMES[at].into(), value);
    }
    Value::Object(map)
}

fn form(secret: &str, random: &mut Random) -> String {
    let pairs = (0..1 + random.below(4)).map(|_| {
        let at = random.below(NAMES.len());
        let value = if at < SECRET_NAMES { secret.to_string() } else { random.word(LETTERS, 5) };
        format!("{}={value}", NAMES[at])
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[test]
fn secret_names() {
    let rules = Rules::default();
    fuzz("secret names", 800, |random| {
        let length = 12 + random.below(20);
        let tail = random.word(LETTERS, length);
        let asked = if random.one_in(2) {
            let quoted = format!("{}{tail}{}", random.text(4), random.text(4));
            let mut text = named(&quoted, random.below(4), random).to_string();
            if random.one_in(3) {
                // Cut off anywhere.
                let at = random.below(text.len() + 1);
                text.truncate((0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap());
            }
            text
        } else {
            form(&tail, random)
        };
        let entry = OpaqueEntry {
            method: "POST".into(),
            url: format!("https://a.example/cb?{}#{}", form(&tail, random), form(&tail, random)),
            request_body_preview: Some(asked.clone()),
            response_headers: vec![
                ("location".into(), format!("/cb?{}", form(&tail, random))),
                (random.pick(&["Set-Cookie", "authorization", "X-API-Key"]).into(), tail.clone()),
            ],
            ..OpaqueEntry::default()
        };
        let mut event = Event::opaque(entry);
        redact::event(&mut event, &rules);
        let once = event.clone();
        assert_eq!(
            redact::event(&mut event, &rules),
            redact::Replaced::default(),
            "a second time: {}",
            once.to_json()
        );
        same(&event, &once, "a second time");
        let json = fit(&mut event);
        assert!(!leaks(&json, &tail), "{tail} of {asked} in {json}");
    });
}

/// What is left of a body that was cut may end inside of a secret.
#[test]
fn cut_secrets() {
    let rules = Rules::default();
    let mut calls = calls();
    calls.retain(|c| matches!(c, Captured::Exchange(_)));
    fuzz("cut secrets", 300, |random| {
        let (secret, tail) = secret(random);
        let Captured::Exchange(mut x) = calls[random.below(calls.len())].clone() else { return };
        let asked = json!({"note": random.text(50), "key": format!(" {secret} "), "more": random.text(50)})
            .to_string();
        let at = random.below(asked.len() + 1);
        x.request.target = "/not/a/model".into();
        x.request_body = body(asked.as_bytes()[..at].to_vec(), Some(Cut::Ended), 1);
        let mut event = event(&Captured::Exchange(x));
        redact::event(&mut event, &rules);
        let json = fit(&mut event);
        assert!(!leaks(&json, &tail), "{secret} in {json}");
    });
}
