//! Certificates made for a test, and a place to put them.
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// A directory of its own that is removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        let path = std::env::temp_dir().join(format!("ac7-test-{}", ac7::sys::random::hex::<6>()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server's certificate.
pub struct Certificate {
    /// What a client has to trust.
    pub pem: String,
    pub server: ServerConfig,
}

fn server(cert: &rcgen::Certificate, key: &KeyPair) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap()
}

fn pem(cert: &rcgen::Certificate) -> String {
    let text = BASE64_STANDARD.encode(cert.der());
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// A server certificate for `name`, and the PEM of the private CA that signed it.
pub fn signed(name: &str) -> Certificate {
    signed_by(name, "a private CA")
}

/// [`signed`], by a CA of this name.
pub fn signed_by(name: &str, ca_name: &str) -> Certificate {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, ca_name);
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = pem(&ca.self_signed(&ca_key).unwrap());
    let key = KeyPair::generate().unwrap();
    let cert = params(name).signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    Certificate { pem, server: server(&cert, &key) }
}

/// A certificate that signed itself, and its PEM.
pub fn self_signed(is_ca: IsCa) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = params("127.0.0.1");
    params.is_ca = is_ca;
    let cert = params.self_signed(&key).unwrap();
    Certificate { pem: pem(&cert), server: server(&cert, &key) }
}
