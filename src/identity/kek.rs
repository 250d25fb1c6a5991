//! The key that seals secrets of the team file (the key encryption key), and what it seals.
//!
//! A sealed field is `{"v":1,"iv":…,"ct":…}`: AES-256-GCM (NIST SP 800-38D) with a fresh 12-byte IV and the tag at the
//! end of `ct`, both base64. Member and field name are authenticated with it: what was sealed for one place cannot be
//! put in another.
use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Error;
use super::file::beside;
use crate::sys::file::create_private;
use crate::sys::random;

/// Where the key is. It is read anew each time: secrets are rare, and a key that was put back counts at once.
#[derive(Clone)]
pub struct KekPlace {
    /// `<config>.kek`.
    pub file: PathBuf,
    /// The value of `$AC7_KEK`, which wins.
    pub variable: Option<String>,
}

/// A key of 32 bytes. What it was read from is wiped; ring's own copy is not, and goes with the page it is on.
pub struct Kek(LessSafeKey);

impl KekPlace {
    /// The key of a team file; an empty `$AC7_KEK` counts as none.
    #[must_use]
    pub fn of(config: &Path) -> KekPlace {
        let variable = env::var("AC7_KEK").ok().filter(|text| !text.is_empty());
        KekPlace { file: beside(config, ".kek"), variable }
    }

    /// The key that is there; `None` if there is none, or what is there is no key.
    fn find(&self) -> Option<Kek> {
        match &self.variable {
            Some(text) => Kek::parse(text),
            None => Kek::parse(&Zeroizing::new(fs::read_to_string(&self.file).ok()?)),
        }
    }

    /// The key to seal with; it is made if there is none yet.
    ///
    /// # Errors
    /// What is there is no key, or it cannot be written.
    pub fn for_sealing(&self) -> Result<Kek, Error> {
        if self.variable.is_none() {
            ensure_kek(&self.file)?;
        }
        self.find().ok_or_else(|| Error::NoKey { file: self.file.clone(), variable: self.variable.is_some() })
    }

    /// The key to seal with, if it is there: what others sealed must not be given up by making a new one in passing.
    ///
    /// # Errors
    /// [`Error::NoSealing`]: there is none, or what is there is no key.
    pub fn existing(&self, member: &str, field: &'static str) -> Result<Kek, Error> {
        let none = || Error::NoSealing { member: member.to_string(), field, file: self.file.clone() };
        self.find().ok_or_else(none)
    }

    /// What was sealed for this member and field.
    ///
    /// # Errors
    /// [`Error::Sealed`]: no key, another key, another place, or something that was never sealed.
    pub fn open(
        &self,
        member: &str,
        field: &'static str,
        sealed: &Value,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let opened = self.find().and_then(|key| key.open(member, field, sealed));
        opened.ok_or_else(|| Error::Sealed { member: member.to_string(), field, file: self.file.clone() })
    }
}

impl Kek {
    /// A key from its base64 text.
    fn parse(text: &str) -> Option<Kek> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).ok()?);
        UnboundKey::new(&AES_256_GCM, &bytes).ok().map(|key| Kek(LessSafeKey::new(key)))
    }

    /// Seal `secret` for a member's field.
    ///
    /// # Panics
    /// Never: ring refuses only what is longer than 64 GB.
    #[must_use]
    pub fn seal(&self, member: &str, field: &str, secret: &[u8]) -> Value {
        // Random IVs are sound for 2^32 seals under one key (SP 800-38D §8.3); a team makes some hundreds.
        let iv = random::bytes::<NONCE_LEN>();
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), place(member, field), &mut sealed)
            .expect("a secret is shorter than 64 GB");
        json!({"v": 1, "iv": STANDARD.encode(iv), "ct": STANDARD.encode(sealed)})
    }

    fn open(&self, member: &str, field: &str, sealed: &Value) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = |name: &str| STANDARD.decode(sealed[name].as_str()?).ok();
        if sealed["v"] != 1 {
            return None;
        }
        let nonce = Nonce::try_assume_unique_for_key(&bytes("iv")?).ok()?;
        let mut text = Zeroizing::new(bytes("ct")?);
        let length = self.0.open_in_place(nonce, place(member, field), text.as_mut_slice()).ok()?.len();
        text.truncate(length); // the tag stood at the end
        Some(text)
    }
}

/// The associated data: neither names of members nor of fields have a newline.
fn place(member: &str, field: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("{member}\n{field}").into_bytes())
}

/// Make the key file, unless there is one: what it sealed would be lost with it. Gives whether there was one.
pub(super) fn ensure_kek(path: &Path) -> Result<bool, Error> {
    let key = Zeroizing::new(random::bytes::<32>());
    // Room for all of it from the start: where a text has to move it leaves a copy.
    let mut line = Zeroizing::new(String::with_capacity(64));
    STANDARD.encode_string(key.as_slice(), &mut line);
    line.push('\n');
    let written = create_private(path).and_then(|mut file| {
        file.write_all(line.as_bytes())?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(Error::Io { action: "write", path: path.to_path_buf(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place with a key of its own.
    fn place_of(byte: u8) -> KekPlace {
        KekPlace { file: "ac7.json.kek".into(), variable: Some(STANDARD.encode([byte; 32])) }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_alone() {
        let place = place_of(7);
        let sealed = place.for_sealing().unwrap().seal("ann", "totpSecret", b"secret");
        assert!(!sealed.to_string().contains(&STANDARD.encode("secret")));
        assert_eq!(place.open("ann", "totpSecret", &sealed).unwrap().as_slice(), b"secret");

        let mut cut = sealed.clone();
        cut["ct"] = json!("AAAA");
        let mut version = sealed.clone();
        version["v"] = json!(2);
        let none = KekPlace { file: "/nonexistent/kek".into(), variable: None };
        let short = KekPlace { variable: Some("c2hvcnQ=".into()), ..place_of(7) };
        for (name, place, member, field, sealed) in [
            ("another member", &place, "bob", "totpSecret", &sealed),
            ("another field", &place, "ann", "other", &sealed),
            ("another key", &place_of(8), "ann", "totpSecret", &sealed),
            ("no key", &none, "ann", "totpSecret", &sealed),
            ("a short key", &short, "ann", "totpSecret", &sealed),
            ("cut", &place, "ann", "totpSecret", &cut),
            ("another version", &place, "ann", "totpSecret", &version),
            ("never sealed", &place, "ann", "totpSecret", &json!("plain")),
        ] {
            let error = place.open(member, field, sealed).unwrap_err().to_string();
            let want = format!("KekResolutionError: cannot decrypt {field} of {member}: ");
            assert!(error.starts_with(&want), "{name}: {error}");
            assert!(error.contains("restore ") && error.contains(&format!("ac7 enroll --member {member}")));
        }
        assert!(matches!(short.for_sealing(), Err(Error::NoKey { variable: true, .. })));
    }

    /// Test case 16 of the GCM specification (McGrew and Viega), with the tag appended: the cipher is the usual one.
    #[test]
    fn the_cipher_is_aes_256_gcm() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
        };
        let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let kek = Kek::parse(&STANDARD.encode(key)).unwrap();
        let mut text = hex(concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa",
            "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b"
        ));
        let nonce = Nonce::try_assume_unique_for_key(&hex("cafebabefacedbaddecaf888")).unwrap();
        let aad = Aad::from(hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"));
        let plain = kek.0.open_in_place(nonce, aad, &mut text).unwrap();
        assert!(plain.starts_with(&hex("d9313225f88406e5a55909c5aff5269a")), "{plain:02x?}");
    }
}
