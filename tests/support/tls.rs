//! Throw-away certificates and the TLS configurations that go with them.
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// Names that a good certificate is made out for: the hosts that agents call, and the loopback.
pub const HOSTS: [&str; 7] = [
    "api.anthropic.com",
    "*.anthropic.com",
    "api.openai.com",
    "*.openai.com",
    "chatgpt.com",
    "localhost",
    "127.0.0.1",
];

const DAY: Duration = Duration::from_secs(86_400);

/// What is wrong with a server's certificate, if anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leaf {
    /// Valid for [`HOSTS`] for a day.
    #[default]
    Good,
    /// As `Good`, but it ended yesterday.
    Expired,
    /// Valid, for `wrong.example` alone.
    WrongName,
}

/// A certificate authority that lives as long as this value.
pub struct Authority {
    /// Its certificate, as a client is to trust it.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    key_pem: String,
}

/// A server's certificate and key, both PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Authority {
    /// A fresh authority, valid for a day.
    #[expect(clippy::new_without_default, reason = "every call makes another key")]
    pub fn new() -> Authority {
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let mut params = params(&[], "ac7 test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let cert = params.self_signed(&key).expect("an authority signs itself");
        let key_pem = pem("PRIVATE KEY", key.serialized_der());
        Authority { pem: pem("CERTIFICATE", cert.der()), issuer: Issuer::new(params, key), key_pem }
    }

    /// A server's identity, signed by this authority.
    pub fn issue(&self, leaf: Leaf) -> Identity {
        let names: &[&str] = if leaf == Leaf::WrongName { &["wrong.example"] } else { &HOSTS };
        let mut params = params(names, "ac7 test server");
        params.is_ca = IsCa::ExplicitNoCa;
        // A client may show it too.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        if leaf == Leaf::Expired {
            params.not_before = (SystemTime::now() - 3 * DAY).into();
            params.not_after = (SystemTime::now() - DAY).into();
        }
        let key = KeyPair::generate().expect("ring makes a P-256 key");
        let cert = params.signed_by(&key, &self.issuer).expect("an authority signs a leaf");
        Identity { cert: pem("CERTIFICATE", cert.der()), key: pem("PRIVATE KEY", key.serialized_der()) }
    }

    /// Write `ca.pem`, `ca.key` and a good leaf's `cert.pem` and `key.pem` into `folder`, for other processes.
    pub fn write(&self, folder: &Path) {
        let leaf = self.issue(Leaf::Good);
        for (name, text) in [
            ("ca.pem", &self.pem),
            ("ca.key", &self.key_pem),
            ("cert.pem", &leaf.cert),
            ("key.pem", &leaf.key),
        ] {
            fs::write(folder.join(name), text).expect("the temporary directory can be written");
        }
    }
}

/// A server configuration that offers `http/1.1` alone.
pub fn server(identity: &Identity) -> Arc<ServerConfig> {
    let (certs, key) = chain(identity);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .expect("certificate and key belong together");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A client configuration that trusts the certificates of `ca_pem` alone and offers `http/1.1`.
///
/// `resume`: whether later handshakes may resume earlier sessions.
pub fn client(ca_pem: &str, resume: bool) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for cert in rustls_pemfile::certs(&mut ca_pem.as_bytes()) {
        // A system's bundle may hold roots that webpki cannot read; whoever needs one of those sees it fail.
        let _ = roots.add(cert.expect("the authority is PEM"));
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if !resume {
        config.resumption = rustls::client::Resumption::disabled();
    }
    Arc::new(config)
}

/// A server of one version of TLS, to which a client has to show a certificate that `ca_pem` has signed.
pub fn asking_server(
    identity: &Identity,
    ca_pem: &str,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for cert in rustls_pemfile::certs(&mut ca_pem.as_bytes()) {
        roots.add(cert.expect("the authority is PEM")).expect("it can be an anchor");
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
    let (certs, key) = chain(identity);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .expect("ring has TLS 1.2 and 1.3")
        .with_client_cert_verifier(verifier.expect("there is an anchor"))
        .with_single_cert(certs, key)
        .expect("certificate and key belong together");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// `client` with a certificate to show.
pub fn showing(client: &Arc<ClientConfig>, identity: &Identity) -> Arc<ClientConfig> {
    let (certs, key) = chain(identity);
    let shown = CertifiedKey::from_der(certs, key, &provider()).expect("they belong together");
    let mut config = ClientConfig::clone(client);
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(shown));
    Arc::new(config)
}

fn chain(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certs = rustls_pemfile::certs(&mut identity.cert.as_bytes()).collect::<Result<_, _>>();
    let key = rustls_pemfile::private_key(&mut identity.key.as_bytes()).ok().flatten();
    (certs.expect("the certificate is PEM"), key.expect("the key is PEM"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Parameters common to authority and leaf: names, validity from an hour ago for a day.
fn params(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("host names are ASCII");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = (SystemTime::now() - DAY / 24).into();
    params.not_after = (SystemTime::now() + DAY).into();
    params
}

/// RFC 7468 text of a DER value.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
