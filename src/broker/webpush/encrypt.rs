//! Encrypting a notice for one browser (RFC 8291, in the coding of RFC 8188): the push service that carries it learns
//! how long it is, about, and nothing else.
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::SystemRandom;

use crate::sys::random;

/// The record size that the header names: the whole is one record.
const RECORD: u32 = 4096;
/// Lengths are made multiples of this.
const STEP: usize = 256;
/// The longest text: a record, less its delimiter and tag and the header.
const MOST: usize = RECORD as usize - 86 - 17;

/// The keys of a browser's subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// A point on P-256, uncompressed: 65 bytes.
    pub key: Vec<u8>,
    /// The secret that only the browser and we have.
    pub auth: [u8; 16],
}

/// The subscription's key is no point on the curve.
#[derive(Debug, PartialEq, Eq)]
pub struct BadKeys;

/// A length that HKDF is to give.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Receiver {
    /// The body of a request to the push service. `text` has at most 3993 bytes.
    ///
    /// # Errors
    /// [`BadKeys`].
    pub fn encrypt(&self, text: &[u8]) -> Result<Vec<u8>, BadKeys> {
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).map_err(|_| BadKeys)?;
        let public = private.compute_public_key().map_err(|_| BadKeys)?;
        let peer = UnparsedPublicKey::new(&ECDH_P256, &self.key);
        let padded = (text.len() + 1).next_multiple_of(STEP).min(MOST + 1);
        let body = agree_ephemeral(private, &peer, |shared| {
            self.sealed(shared, public.as_ref(), &random::bytes(), text, padded)
        });
        body.map_err(|_| BadKeys)
    }

    /// Header and record. `public` is our half of the agreement, `padded` the length of text and padding.
    fn sealed(&self, shared: &[u8], public: &[u8], salt: &[u8; 16], text: &[u8], padded: usize) -> Vec<u8> {
        let info = [&b"WebPush: info\0"[..], &self.key, public];
        let material: [u8; 32] = derive(&self.auth, shared, &info);
        let key: [u8; 16] = derive(salt, &material, &[b"Content-Encoding: aes128gcm\0"]);
        let nonce: [u8; NONCE_LEN] = derive(salt, &material, &[b"Content-Encoding: nonce\0"]);

        let mut record = text.to_vec();
        // The delimiter of the last record, then zeros.
        record.push(2);
        record.resize(padded.max(record.len()), 0);
        let key = UnboundKey::new(&AES_128_GCM, &key).expect("a key of AES-128 has 16 bytes");
        LessSafeKey::new(key)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)
            .expect("a record is shorter than 64 GB");
        let mut out = salt.to_vec();
        out.extend_from_slice(&RECORD.to_be_bytes());
        // A point has 65 bytes.
        out.push(65);
        out.extend_from_slice(public);
        out.append(&mut record);
        out
    }
}

/// HKDF (RFC 5869) with SHA-256.
fn derive<const N: usize>(salt: &[u8], secret: &[u8], info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let key = Salt::new(HKDF_SHA256, salt).extract(secret);
    key.expand(info, Length(N)).and_then(|okm| okm.fill(&mut out)).expect("HKDF gives 8160 bytes");
    out
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// The example of RFC 8291 §5 and its appendix A, from the shared secret on: ring lets nobody choose the key before.
    #[test]
    fn the_record_is_that_of_the_rfc() {
        let key = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
        let public =
            "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
        let auth = bytes("BTBZMqHH6r4Tts7J_aSIgg").try_into().unwrap();
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw").try_into().unwrap();
        let shared = bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
        let text = b"When I grow up, I want to be a watermelon";
        let receiver = Receiver { key: bytes(key), auth };
        let body = receiver.sealed(&shared, &bytes(public), &salt, text, 0);
        let want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
                    EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(URL_SAFE_NO_PAD.encode(body), want);
    }

    #[test]
    fn lengths_tell_little_and_stay_within_a_record() {
        let key = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let receiver = Receiver { key: key.compute_public_key().unwrap().as_ref().to_vec(), auth: [7; 16] };
        for (text, body) in [(0, 256), (255, 256), (256, 512), (3800, 3840), (MOST, MOST + 1)] {
            let length = receiver.encrypt(&vec![b'x'; text]).unwrap().len();
            assert_eq!(length, 86 + body + 16, "{text}");
            assert!(length <= RECORD as usize);
        }
        let wrong = Receiver { key: vec![4; 65], auth: [7; 16] };
        assert_eq!(wrong.encrypt(b"x"), Err(BadKeys));
    }
}
