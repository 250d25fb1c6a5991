//! The other side of web push: a push service that says what it is told to say, and a browser that can read what the
//! service got (RFC 8291, RFC 8188, RFC 8292, made from the texts anew).
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, ECDSA_P256_SHA256_FIXED};
use serde_json::{Value, json};

/// A request that the service got.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Posted {
    /// The value of a header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }

    /// The claims of the `Authorization`, whose signature is checked with the key `public` that it must name.
    #[must_use]
    pub fn claims(&self, public: &str) -> Value {
        let value = self.header("authorization").strip_prefix("vapid t=").expect("a claim");
        let (token, key) = value.split_once(", k=").expect("a key");
        assert_eq!(key, public, "the key of the claim");
        let (text, signature) = token.rsplit_once('.').expect("a signature");
        signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, decode(key))
            .verify(text.as_bytes(), &decode(signature))
            .expect("the signature is the key's");
        let part =
            |n: usize| serde_json::from_slice::<Value>(&decode(text.split('.').nth(n).unwrap())).unwrap();
        assert_eq!(part(0), json!({"typ": "JWT", "alg": "ES256"}));
        part(1)
    }
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// A push service on this machine.
pub struct PushService {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// What it answers next, each a status and more header lines; 201 once they are through.
    answers: VecDeque<(u16, &'static str)>,
    got: Vec<Posted>,
}

impl PushService {
    /// Serve until the process ends.
    #[must_use]
    pub fn start() -> PushService {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let inner = Arc::new(Mutex::new(Inner::default()));
        let serving = inner.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                thread::spawn(move || while serve(&stream, &serving).is_some() {});
            }
        });
        PushService { address, inner }
    }

    /// The endpoint of a browser.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> String {
        format!("http://{}/push/{name}", self.address)
    }

    /// What to answer next.
    pub fn answer(&self, status: u16, headers: &'static str) {
        self.inner.lock().unwrap().answers.push_back((status, headers));
    }

    /// What it got so far.
    #[must_use]
    pub fn got(&self) -> Vec<Posted> {
        self.inner.lock().unwrap().got.clone()
    }
}

fn serve(stream: &TcpStream, inner: &Mutex<Inner>) -> Option<()> {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let path = line.split(' ').nth(1)?.to_string();
    let (mut headers, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
        headers.push((name.to_ascii_lowercase(), value.to_string()));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    let (status, more) = {
        let mut inner = inner.lock().unwrap();
        inner.got.push(Posted { path, headers, body });
        inner.answers.pop_front().unwrap_or((201, ""))
    };
    let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n{more}\r\n");
    let mut to = stream;
    to.write_all(answer.as_bytes()).ok()
}

/// A browser that has subscribed. Its key agrees once, so it reads one notice.
pub struct Browser {
    private: EphemeralPrivateKey,
    public: Vec<u8>,
    auth: [u8; 16],
}

impl Browser {
    /// One with keys of its own.
    #[must_use]
    pub fn fresh() -> Browser {
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &random).expect("a key");
        let public = private.compute_public_key().expect("its other half").as_ref().to_vec();
        let mut auth = [0; 16];
        random.fill(&mut auth).expect("random bytes");
        Browser { private, public, auth }
    }

    /// What its `subscribe` gives to the page.
    #[must_use]
    pub fn subscription(&self, endpoint: &str) -> Value {
        let keys = [&self.public[..], &self.auth].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        json!({"endpoint": endpoint, "expirationTime": null, "keys": {"p256dh": keys[0], "auth": keys[1]}})
    }

    /// The notice in a body.
    #[must_use]
    pub fn read(self, body: &[u8]) -> Value {
        let (salt, rest) = body.split_at(16);
        let size = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        assert!(rest[4] == 65 && body.len() - 86 <= size && body.len() <= 4096, "one record");
        let (theirs, record) = rest[5..].split_at(65);
        let peer = UnparsedPublicKey::new(&ECDH_P256, theirs);
        let shared = agree_ephemeral(self.private, &peer, <[u8]>::to_vec).expect("a point");
        let hmac =
            |key: &[u8], text: &[&[u8]]| sign(&Key::new(HMAC_SHA256, key), &text.concat()).as_ref().to_vec();
        let material = hmac(&hmac(&self.auth, &[&shared]), &[b"WebPush: info\0", &self.public, theirs, &[1]]);
        let secret = hmac(salt, &[&material]);
        let key = hmac(&secret, &[b"Content-Encoding: aes128gcm\0", &[1]]);
        let nonce = hmac(&secret, &[b"Content-Encoding: nonce\0", &[1]]);
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key[..16]).expect("a key"));
        let nonce = Nonce::try_assume_unique_for_key(&nonce[..12]).expect("a nonce");
        let mut record = record.to_vec();
        let text = key.open_in_place(nonce, Aad::empty(), &mut record).expect("it is for this browser");
        let end = text.iter().rposition(|b| *b != 0).expect("a delimiter");
        assert_eq!(text[end], 2, "the delimiter of the last record");
        serde_json::from_slice(&text[..end]).expect("JSON")
    }
}
