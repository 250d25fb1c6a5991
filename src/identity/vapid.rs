//! The key pair with which the broker shows push services who it is (VAPID, RFC 8292): P-256, in `webPush` of the team
//! file, the private half sealed.
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Map, Value, json};

use super::file::TeamFile;
use super::{Error, Kek, KekPlace};
use crate::activity::{Invalid, Reader};

/// Where the field is, as errors and the sealing have it: no member's name.
pub(super) const PLACE: &str = "webPush";
/// The sealed field, as errors and the sealing have it.
pub const VAPID_FIELD: &str = "vapidPrivateKey";

/// Where the private key and the public key begin in the PKCS#8 that ring makes; the latter is its end.
const PRIVATE_AT: std::ops::Range<usize> = 36..68;

/// `webPush {subject?, publicKey?, privateKey?, privateEndpoints?}` of the team file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebPush {
    /// Whom a push service may write to: a `mailto:` or `https:` URI.
    pub subject: Option<String>,
    /// The public key, base64url; `None` while there is no pair.
    pub public_key: Option<String>,
    /// The private key, sealed.
    pub sealed: Option<Value>,
    /// Whether subscriptions may point into private networks.
    pub private_endpoints: bool,
}

/// A pair that can sign.
pub struct VapidKeys(EcdsaKeyPair);

impl WebPush {
    /// Read it from the fields of the file that concern nobody else.
    ///
    /// # Errors
    /// The first field that has a wrong type or value.
    pub fn of(file: &TeamFile) -> Result<WebPush, Invalid> {
        let value = Value::Object(file.more.clone());
        let at = Reader::new(&value).field("webPush");
        if at.present().is_some_and(|v| !v.is_object()) {
            return Err(at.invalid("is not an object"));
        }
        let subject = |r: &Reader<'_>| match r.str()? {
            text if text.starts_with("mailto:") || text.starts_with("https://") => Ok(text.to_string()),
            _ => Err(r.invalid("is neither a mailto: nor an https: URI")),
        };
        let public_key = |r: &Reader<'_>| match URL_SAFE_NO_PAD.decode(r.str()?) {
            Ok(bytes) if bytes.len() == 65 && bytes[0] == 4 => r.string(),
            _ => Err(r.invalid("is not a P-256 point in base64url")),
        };
        Ok(WebPush {
            subject: at.field("subject").optional(subject)?,
            public_key: at.field("publicKey").optional(public_key)?,
            sealed: at.field("privateKey").present().cloned(),
            private_endpoints: at.field("privateEndpoints").optional(Reader::bool)?.unwrap_or_default(),
        })
    }

    /// The key to seal a new pair with.
    ///
    /// # Errors
    /// [`Error::NoSealing`]: there is none.
    pub fn sealing(kek: &KekPlace) -> Result<Kek, Error> {
        kek.existing(PLACE, VAPID_FIELD)
    }

    /// The pair, for signing; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Sealed`]: the private key cannot be opened, or is not the public key's.
    pub fn keys(&self, kek: &KekPlace) -> Result<Option<VapidKeys>, Error> {
        let (Some(public), Some(sealed)) = (&self.public_key, &self.sealed) else { return Ok(None) };
        let private = kek.open(PLACE, VAPID_FIELD, sealed)?;
        let pair = URL_SAFE_NO_PAD.decode(public).ok().and_then(|public| pair_of(&private, &public));
        let broken =
            || Error::Sealed { member: PLACE.to_string(), field: VAPID_FIELD, file: kek.file.clone() };
        pair.map(|pair| Some(VapidKeys(pair))).ok_or_else(broken)
    }
}

impl VapidKeys {
    /// The signature of ES256 (RFC 7518 §3.4).
    ///
    /// # Panics
    /// Never: signing fails only where the kernel has no random source, and then nothing was started.
    #[must_use]
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        let signature = self.0.sign(&SystemRandom::new(), text);
        signature.expect("the kernel's random source answers").as_ref().to_vec()
    }
}

fn pair_of(private: &[u8], public: &[u8]) -> Option<EcdsaKeyPair> {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &random).ok()
}

impl TeamFile {
    /// Give the team a new pair, sealed with `kek`; a subject stays. Gives the public key.
    ///
    /// # Panics
    /// Never: what fails is a kernel without a random source, and that ring reads what it has made.
    pub fn new_vapid(&mut self, kek: &Kek) -> String {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("the kernel's random source answers");
        let private = document.as_ref().get(PRIVATE_AT).unwrap_or_default();
        let public = document.as_ref().get(document.as_ref().len() - 65..).unwrap_or_default();
        let pair = pair_of(private, public).expect("ring reads the pair that it has made");
        let public = URL_SAFE_NO_PAD.encode(pair.public_key());
        let mut section = match self.more.remove(PLACE) {
            Some(Value::Object(section)) => section,
            _ => Map::new(),
        };
        section.insert("publicKey".into(), json!(public));
        section.insert("privateKey".into(), kek.seal(PLACE, VAPID_FIELD, private));
        self.more.insert(PLACE.into(), Value::Object(section));
        public
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;
    use crate::identity::{SetupOptions, setup};
    use crate::sys::random;

    #[test]
    fn a_pair_signs_while_its_key_is_there() {
        let folder = std::env::temp_dir().join(format!("ac7-vapid-{}", random::hex::<8>()));
        let path = folder.join("ac7.json");
        let options = SetupOptions {
            path: path.clone(),
            team: "T".into(),
            directive: None,
            context: None,
            member: "ann".into(),
            title: None,
        };
        setup(&options).unwrap();
        let kek = KekPlace { file: folder.join("ac7.json.kek"), variable: None };
        let (mut file, _) = TeamFile::load(&path).unwrap();
        assert_eq!(WebPush::of(&file).unwrap(), WebPush::default());
        assert!(WebPush::default().keys(&kek).unwrap().is_none());
        file.more.insert("webPush".into(), json!({"subject": "mailto:a@b.c", "later": 1}));
        let public = file.new_vapid(&kek.for_sealing().unwrap());
        let settings = WebPush::of(&file).unwrap();
        assert_eq!(settings.subject.as_deref(), Some("mailto:a@b.c"));
        assert_eq!(file.more["webPush"]["later"], 1);
        assert_eq!(settings.public_key.as_deref(), Some(public.as_str()));

        let signature = settings.keys(&kek).unwrap().unwrap().sign(b"text");
        let verifier =
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, URL_SAFE_NO_PAD.decode(&public).unwrap());
        verifier.verify(b"text", &signature).unwrap();

        let mut other = settings.clone();
        let again = file.new_vapid(&kek.for_sealing().unwrap());
        assert_ne!(again, public);
        other.public_key = Some(again);
        std::fs::remove_file(&kek.file).unwrap();
        let lost = settings.keys(&kek).err().unwrap().to_string();
        kek.for_sealing().unwrap();
        let another = settings.keys(&kek).err().unwrap().to_string();
        assert_eq!(lost, another);
        assert!(
            lost.starts_with("KekResolutionError: cannot decrypt vapidPrivateKey of webPush: "),
            "{lost}"
        );
        for recovery in ["restore ", "ac7 rotate --vapid", "ac7 enroll --member"] {
            assert!(lost.contains(recovery), "{lost}");
        }
        let _ = std::fs::remove_dir_all(folder);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        let mut file = TeamFile {
            more: Map::new(),
            ..TeamFile::from_json(&json!({"team": {"name": "T", "directive": "d"}, "members": []})).unwrap()
        };
        for (value, wrong) in [
            (json!(7), "webPush"),
            (json!({"subject": "ann"}), "webPush.subject"),
            (json!({"publicKey": "AAAA"}), "webPush.publicKey"),
            (json!({"privateEndpoints": "yes"}), "webPush.privateEndpoints"),
        ] {
            file.more.insert("webPush".into(), value.clone());
            assert_eq!(WebPush::of(&file).unwrap_err().path, wrong, "{value}");
        }
    }
}
