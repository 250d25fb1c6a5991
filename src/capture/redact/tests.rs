//! Planted secrets, clean texts, and a slow oracle that must agree with the scan.
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::oracle::oracle;
use super::{REDACTED, Replaced, Rules, event, keyed};
use crate::activity::{Event, OpaqueEntry, What};

fn redacted(text: &str) -> (String, usize) {
    let mut text = text.to_string();
    let count = Rules::default().replace(&mut text);
    (text, count)
}

/// `n` of a letter; whole secrets are not written down here, or scanners of repositories would find them.
fn a(n: usize) -> String {
    "A".repeat(n)
}

/// Least secret of each kind: prefix, length of the tail, a byte that ends the tail.
fn kinds() -> Vec<(&'static str, usize, char)> {
    let mut kinds = vec![
        ("sk-", 20, '.'),
        ("sk-ant-api03-", 20, ' '),
        ("sk-proj-", 20, '"'),
        ("sk_live_", 20, '-'),
        ("rk_live_", 20, '\''),
        ("AKIA", 16, 'a'),
        ("github_pat_", 22, '-'),
        ("AIza", 35, '\\'),
        ("glpat-", 20, '\n'),
        ("npm_", 36, '_'),
        ("hf_", 30, '_'),
        ("ac7_", 43, '✓'),
    ];
    kinds.extend(["ghp_", "gho_", "ghs_", "ghu_", "ghr_"].map(|p| (p, 20, '-')));
    kinds.extend(["xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-"].map(|p| (p, 10, '_')));
    kinds
}

#[test]
fn every_kind_is_found_wherever_a_word_can_begin() {
    for (prefix, least, end) in kinds() {
        let secret = format!("{prefix}{}", a(least));
        for before in [
            "",
            " ",
            "\"",
            "=",
            ":",
            "key-",
            "KEY_",
            "é",
            "密钥",
            "\n",
            "a\\n",
            "\\\\t",
            "\\u003d",
            "%3D",
            "k%22",
            "\x1B[1;32m",
            "[m",
        ] {
            for after in [String::new(), end.to_string(), format!("{end}{end}x")] {
                let (got, count) = redacted(&format!("{before}{secret}{after}"));
                assert_eq!(
                    (got, count),
                    (format!("{before}{REDACTED}{after}"), 1),
                    "{before}{prefix}…{after}"
                );
            }
        }
        let longer = format!("<{secret}{}>", a(300));
        assert_eq!(redacted(&longer), (format!("<{REDACTED}>"), 1));
        for before in ["x", "ta", "di", "9", "%41", "%zz", "u003d", "1m", "\\d", "\\ri"] {
            let word = format!("{before}{secret}");
            assert_eq!(redacted(&word), (word.clone(), 0), "{before}{prefix}…");
        }
        // `sk-ant-api03-` is long enough by itself to make `sk-` match with less.
        if !prefix.starts_with("sk-") {
            let short = format!(" {prefix}{}{end}", a(least - 1));
            assert_eq!(redacted(&short), (short.clone(), 0));
        }
    }
    let short = format!(" sk-{} sk-ant-{} ", a(19), a(15));
    assert_eq!(redacted(&short), (short.clone(), 0));
}

#[test]
fn secrets_that_touch_are_all_found_at_once() {
    let text = format!("AKIA{}sk-{}npm_{}", a(16), a(20), a(36));
    assert_eq!(redacted(&text), (format!("{REDACTED}{REDACTED}"), 2));
    let text = format!("AKIA{}bearer {}", a(16), a(20));
    assert_eq!(redacted(&text), (format!("{REDACTED}bearer {REDACTED}"), 2));
}

#[test]
fn credentials_keep_the_name_of_their_scheme() {
    for scheme in ["Bearer ", "bearer ", "Basic "] {
        let text = format!("-H 'Authorization: {scheme}{}=='", "aB3~+/.-_".repeat(3));
        assert_eq!(redacted(&text), (format!("-H 'Authorization: {scheme}{REDACTED}'"), 1));
        let text = format!("{scheme}{}", a(19));
        assert_eq!(redacted(&text), (text.clone(), 0));
    }
}

#[test]
fn web_tokens() {
    for (text, want) in [
        ("eyJhbGciOi.eyJzdWIi.c2ln", "_"),
        ("a=eyJhbGciOi.eyJzdWIi.c2ln&b", "a=_&b"),
        ("eyJhbGciOi.eyJzdWIi. unsigned", "_ unsigned"),
        ("cut off: eyJhbGciOi.eyJzd", "cut off: _"),
        ("eyJhbGciOi.eyJzdWIi next", "eyJhbGciOi.eyJzdWIi next"),
        ("eyJhbGciOi.c2ln.eyJzdWIi", "eyJhbGciOi.c2ln.eyJzdWIi"),
        ("eyJhbGciOi", "eyJhbGciOi"),
        ("keyJhbGciOi.eyJzdWIi.c2ln", "keyJhbGciOi.eyJzdWIi.c2ln"),
        ("eyJ-eyJa.eyJb.c", "_"),
        ("eyJx.eyJy.z.eyJx.eyJy.z", "_._"),
    ] {
        assert_eq!(redacted(text).0, want.replace('_', REDACTED), "{text}");
    }
}

#[test]
fn private_keys() {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    let key = |label: &str, newline: &str| {
        format!("-----BEGIN {label}-----{newline}{line}{newline}{line}{newline}-----END {label}-----")
    };
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    ] {
        for newline in ["\n", "\r\n", "\\n", "\\\\n", "\\r\\n", "\n> ", "\n     2\u{2192}", "\" +\n  \""] {
            let text = format!("a: {}{newline}b", key(label, newline));
            assert_eq!(redacted(&text), (format!("a: {REDACTED}{newline}b"), 1), "{label} {newline:?}");
        }
    }
    let two = format!("{}\n\n{}", key("PRIVATE KEY", "\n"), key("RSA PRIVATE KEY", "\n"));
    assert_eq!(redacted(&two), (format!("{REDACTED}\n\n{REDACTED}"), 2));
    let cut = format!("x {}", &key("PRIVATE KEY", "\n")[..120]);
    assert_eq!(redacted(&cut), (format!("x {REDACTED}"), 1));
    let quoted = format!("{{\"key\":\"-----BEGIN PRIVATE KEY-----\\n{line}\",\"other\":1}}");
    assert_eq!(redacted(&quoted).0, format!("{{\"key\":\"{REDACTED}\",\"other\":1}}"));
    for clean in [
        key("CERTIFICATE", "\n"),
        key("PUBLIC KEY", "\n"),
        "if text.contains(\"-----BEGIN PRIVATE KEY-----\") { return Err(KeyFound) }".to_string(),
        "let (a, b) = (\"-----BEGIN PRIVATE KEY-----\", \"-----END PRIVATE KEY-----\");".to_string(),
        format!("-----BEGIN PRIVATE KEY----- \"{line}\""),
        "-".repeat(100),
    ] {
        assert_eq!(redacted(&clean), (clean.clone(), 0));
    }
}

#[test]
fn the_users_prefixes() {
    let prefixes: Vec<String> = ["acme-", "ключ:", "internal/"].map(str::to_string).to_vec();
    let rules = Rules::new(&prefixes).unwrap();
    for (text, want) in [
        ("acme-12345678", "_"),
        ("xacme-1234_67-tail.", "x_."),
        ("acme-1234567", "acme-1234567"),
        ("ключ:abcdefgh и", "_ и"),
        ("see internal/a1b2c3d4/e", "see _/e"),
        ("ac7", "ac7"),
    ] {
        let mut text = text.to_string();
        rules.replace(&mut text);
        assert_eq!(text, want.replace('_', REDACTED));
    }
    // More patterns than there are bits.
    let many: Vec<String> = (100..200).map(|n| format!("p{n}:")).collect();
    let rules = Rules::new(&many).unwrap();
    for prefix in &many {
        let mut text = format!("<{prefix}abcdefgh>");
        assert_eq!((rules.replace(&mut text), text.as_str()), (1, "<[REDACTED]>"));
    }
    let error = Rules::new(&["ab".to_string()]).err().map(|e| e.to_string());
    assert_eq!(error.as_deref(), Some("--redact-pattern \"ab\": a prefix needs at least 3 characters"));
}

#[test]
fn values_of_secret_names() {
    for (text, want, count) in [
        (r#"{"access_token":"a","x":"b"}"#, r#"{"access_token":"*","x":"b"}"#, 1),
        (r#"{"refresh_token" : "a\"b\\", "id_token":"c"}"#, r#"{"refresh_token" : "*", "id_token":"*"}"#, 2),
        (
            r#"{"accessToken":"a","API-KEY":"b","apikey":"c"}"#,
            r#"{"accessToken":"*","API-KEY":"*","apikey":"*"}"#,
            3,
        ),
        (r#"{"password":"cut o"#, r#"{"password":"*"#, 1),
        (r#"{"password":"cut\"#, r#"{"password":"*"#, 1),
        (
            r#"{"password":12345,"code":404,"password":null}"#,
            r#"{"password":*,"code":404,"password":null}"#,
            1,
        ),
        (r#"{"code":"abc","code_verifier":"d"}"#, r#"{"code":"*","code_verifier":"*"}"#, 2),
        (
            r#"{"body":"{\"client_secret\":\"a\",\"n\":\"b\"}","m":1}"#,
            r#"{"body":"{\"client_secret\":\"*\",\"n\":\"b\"}","m":1}"#,
            1,
        ),
        (r#""{\"password\":\"a\\\"b\\\\\",\"n\":1}""#, r#""{\"password\":\"*\",\"n\":1}""#, 1),
        (r#""{\"password\":\"cut","m":"b""#, r#""{\"password\":\"*","m":"b""#, 1),
        (r#""\"{\\\"password\\\": \\\"a\\\\\\\"b\\\"}\"""#, r#""\"{\\\"password\\\": \\\"*\\\"}\"""#, 1),
        ("grant_type=x&code=abc&code_verifier=d", "grant_type=x&code=*&code_verifier=*", 2),
        ("code=abc", "code=*", 1),
        ("https://h/cb?code=a%2Fb&state=s#frag", "https://h/cb?code=*&state=s#frag", 1),
        ("https://h/cb#access_token=a", "https://h/cb#access_token=*", 1),
        ("password=", "password=", 0),
        (r#"{"password":""}"#, r#"{"password":""}"#, 0),
        (
            r#"{"zip_code":"1","codes":"2","passwords":"3","xpassword":"4"}"#,
            r#"{"zip_code":"1","codes":"2","passwords":"3","xpassword":"4"}"#,
            0,
        ),
        ("zip_code=1&postcode=2&mycode=3 code=4", "zip_code=1&postcode=2&mycode=3 code=4", 0),
        (r#"["password","a"]"#, r#"["password","a"]"#, 0),
        (r#"{"password":{"min":1}}"#, r#"{"password":{"min":1}}"#, 0),
        (r#"{"password":"é✓"}"#, r#"{"password":"*"}"#, 1),
    ] {
        let want = want.replace('*', REDACTED);
        let mut got = text.to_string();
        assert_eq!(keyed::replace(&mut got), count, "{text}");
        assert_eq!(got, want, "{text}");
        let again = keyed::replace(&mut got);
        assert_eq!((again, got), (0, want), "a second time: {text}");
    }
}

#[test]
fn clean_texts_stay_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/redact");
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines() {
            assert_eq!(redacted(line), (line.to_string(), 0), "{}", path.display());
        }
        assert_eq!(redacted(&text).1, 0, "{}", path.display());
        let quoted = Value::String(text).to_string();
        assert_eq!(redacted(&quoted).1, 0, "{} as JSON", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "{seen} files");
}

/// An event with a secret at every place that a peer can write to.
#[test]
fn an_event_is_redacted_everywhere() {
    let key = format!("sk-ant-{}", a(30));
    let entry = json!({
        "kind": "anthropic_messages", "startedAt": 1, "endedAt": 2,
        "request": {
            "model": key, "maxTokens": 1, "temperature": null,
            "system": format!("one {key}\ntwo"), "systemParts": [4 + key.len(), 3],
            "messages": [{"role": key, "content": [
                {"type": "text", "text": format!("a {key} b {key}"), "cache_control": {"type": key}},
                {"type": "tool_use", "id": key, "name": key, "input": {&key: [key, {"x": key}], "n": 1}},
                {"type": "tool_result", "toolUseId": key, "content": key, "isError": false},
                {"type": "image", "mediaType": key},
                {"type": "thinking", "text": key},
                {"type": "unknown", "raw": {"type": "x", "data": key}}]}],
            "tools": [{"name": key, "description": key, "inputSchema": {"d": key}}],
            "previousResponseId": key},
        "response": {"stopReason": key, "stopSequence": key, "messages": [{"role": "assistant", "content": [
            {"type": "text", "text": key}]}], "usage": null, "status": 200},
        "id": key, "requestId": key, "session": {"id": key, "agentId": key, "parentAgentId": key},
        "client": key, "host": key, "servedModel": key, "error": {"type": key, "message": key}});
    let json = json!({"kind": "llm_exchange", "ts": 2, "duration": 1, "entry": entry});
    let planted = json.to_string().matches(&key).count();
    let mut got = Event::from_json(&json).unwrap();
    assert_eq!(event(&mut got, &Rules::default()), Replaced { logins: 0, strays: planted });
    let text = got.to_json().to_string();
    assert!(!text.contains("sk-ant"), "{text}");
    assert_eq!(text.matches(REDACTED).count(), planted);
    let What::Llm { entry, .. } = got.what else { panic!("it was a model call") };
    assert_eq!(entry.request.system_parts, [4 + REDACTED.len(), 3], "the parts follow the text");
}

#[test]
fn an_opaque_event_is_redacted_everywhere() {
    let key = format!("sk-proj-{}", a(30));
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    let mut got = Event::opaque(OpaqueEntry {
        host: "auth.example".into(),
        method: "POST".into(),
        url: format!("https://auth.example/token?key={key}&code=4%2F0A"),
        request_headers: vec![
            pair("Authorization", "Bearer short"),
            pair("COOKIE", "a=b"),
            pair("X-Api-Key", "k"),
            pair("x-note", &format!("see {key}")),
            pair("accept", "*/*"),
        ],
        response_headers: vec![
            pair("set-cookie", "s=1; Path=/"),
            pair("set-cookie", "t=2"),
            pair("location", "http://localhost:1455/cb?code=ac_1&state=s"),
        ],
        request_body_preview: Some(
            "grant_type=authorization_code&code=c1&code_verifier=v1&redirect_uri=r".into(),
        ),
        response_body_preview: Some(format!(
            r#"{{"access_token":"at-1","note":"{key}","refresh_token":"rt-1"#
        )),
        more: serde_json::Map::from_iter([("client".to_string(), json!(key))]),
        ..OpaqueEntry::default()
    });
    let rules = Rules::default();
    assert_eq!(event(&mut got, &rules), Replaced { logins: 11, strays: 4 });
    let want = json!({
        "kind": "opaque_http", "startedAt": 0, "endedAt": 0, "host": "auth.example", "method": "POST",
        "url": "https://auth.example/token?key=[REDACTED]&code=[REDACTED]", "status": null,
        "requestHeaders": {"authorization": REDACTED, "cookie": REDACTED, "x-api-key": REDACTED,
            "x-note": "see [REDACTED]", "accept": "*/*"},
        "responseHeaders": {"set-cookie": "[REDACTED], [REDACTED]",
            "location": "http://localhost:1455/cb?code=[REDACTED]&state=s"},
        "requestBodyPreview": "grant_type=authorization_code&code=[REDACTED]&code_verifier=[REDACTED]&redirect_uri=r",
        "responseBodyPreview": r#"{"access_token":"[REDACTED]","note":"[REDACTED]","refresh_token":"[REDACTED]"#,
        "client": REDACTED});
    assert_eq!(got.to_json()["entry"], want);
    assert_eq!(event(&mut got, &rules), Replaced::default(), "a second time");
}

/// Texts on which a scan that starts anew at every candidate would take minutes.
#[test]
fn no_text_takes_quadratic_time() {
    let rules = Rules::default();
    for piece in [
        "eyJ-",
        "eyJa.",
        "eyJa.eyJb ",
        "sk-",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----x",
        "-",
        "Bearer ",
        "\\",
        "[0;0;0m",
    ] {
        let text = piece.repeat(300_000 / piece.len());
        rules.replace(&mut text.clone());
        keyed::replace(&mut format!("\"password\":\"{text}"));
        keyed::replace(&mut text.replace('-', "\\\"code\\\":\\\""));
    }
}

/// xorshift64*: numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % n
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

#[test]
fn the_scan_agrees_with_the_oracle() {
    let user = "zq-";
    let rules = Rules::new(&[user.to_string()]).unwrap();
    let prefixes = [
        "sk-",
        "sk-ant-",
        "sk_live_",
        "rk_live_",
        "AKIA",
        "ghp_",
        "ghr_",
        "github_pat_",
        "xoxb-",
        "xoxs-",
        "AIza",
        "glpat-",
        "npm_",
        "hf_",
        "ac7_",
        "Bearer ",
        "bearer ",
        "Basic ",
        "eyJ",
        ".eyJ",
        "zq-",
    ];
    let between = [
        "", "", " ", "\n", "\\n", "\\t", "\"", "=", "&", "%3D", "\\u003d", "\x1B[32m", ".", ".", "-", "_",
        "a", "Z", "7", "é", "✓", "ta", "di", "/", "+",
    ];
    let alphabets = ["A", "a", "0", "Ab1", "aB_-", "-", "x/+=", "."];
    let mut random = Random(0x5EED);
    let mut found = 0;
    for round in 0..6_000 {
        let mut text = String::new();
        for _ in 0..1 + random.below(6) {
            text.push_str(random.pick(&between));
            text.push_str(random.pick(&prefixes));
            let alphabet = random.pick(&alphabets);
            let length =
                [0, 7, 8, 9, 10, 15, 16, 19, 20, 21, 22, 29, 30, 35, 36, 42, 43, 60][random.below(18)];
            text.extend(alphabet.chars().cycle().take(length));
            text.push_str(random.pick(&between));
        }
        let (want, count) = oracle(&text, user);
        let mut got = text.clone();
        assert_eq!((rules.replace(&mut got), &got), (count, &want), "round {round}: {text:?}");
        assert_eq!(rules.finds(&text), count > 0);
        found += count;
    }
    assert!(found > 5_000, "only {found} secrets were generated");
}

#[test]
fn logins_in_urls_go() {
    for (text, wanted) in [
        ("https://me:hunter2@example.com/x", "https://[REDACTED]@example.com/x"),
        ("https://hunter2@example.com:8443", "https://[REDACTED]@example.com:8443"),
        (
            r#"{"repository": "https://me:p@ss@example.com/"}"#,
            r#"{"repository": "https://[REDACTED]@example.com/"}"#,
        ),
        ("https://example.com/@scope/name", "https://example.com/@scope/name"),
        ("https://@example.com", "https://@example.com"),
        ("see http://a.example and me@b.example", "see http://a.example and me@b.example"),
    ] {
        let entry = OpaqueEntry {
            url: text.into(),
            response_headers: vec![("Location".into(), text.into())],
            request_body_preview: Some(text.into()),
            ..OpaqueEntry::default()
        };
        let mut redacted = Event::opaque(entry);
        event(&mut redacted, &Rules::default());
        let What::Opaque { entry, .. } = &redacted.what else { panic!("still opaque") };
        assert_eq!(entry.url, wanted);
        assert_eq!(entry.response_headers[0].1, wanted);
        assert_eq!(entry.request_body_preview.as_deref(), Some(wanted));
    }
}
