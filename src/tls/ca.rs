//! The session's certificate authority: made at start, kept in memory, gone with the process.
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::{Zeroize, Zeroizing};

use super::{provider, to_pem};
use crate::sys::{clock, random};

/// How long the CA and its leaves are valid.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// Clocks of containers are not always right.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);
/// Leaves kept; an agent that visits more hosts than this has them signed again.
const MAX_LEAVES: usize = 1024;

/// A certificate authority of its own for one session, and the leaves it has signed.
pub struct SessionCa {
    issuer: Issuer<'static, Wiped>,
    certificate: CertificateDer<'static>,
    leaf_key: Wiped,
    /// The same key as rustls has it.
    leaf_signer: Arc<dyn rustls::sign::SigningKey>,
    base: ServerConfig,
    leaves: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

impl SessionCa {
    /// Make a CA. With `only` it may sign for these hosts and their subdomains alone (name constraints, RFC 5280
    /// §4.2.1.10), so that even a stolen key is of little use; without, for any host.
    ///
    /// # Errors
    /// Whatever key generation or signing says.
    pub fn new(only: Option<&[String]>) -> Result<SessionCa, rcgen::Error> {
        let (key, leaf_key) = (Wiped::new()?, Wiped::new()?);
        let der = Zeroizing::new(PrivateKeyDer::Pkcs8(leaf_key.0.serialize_der().into()));
        let leaf_signer =
            rustls::crypto::ring::sign::any_supported_type(&der).map_err(|_| rcgen::Error::RemoteKeyError)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("ac7 trace CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = only.map(|hosts| NameConstraints {
            permitted_subtrees: hosts.iter().map(|host| subtree(host)).collect(),
            excluded_subtrees: Vec::new(),
        });
        set_validity(&mut params);
        let certificate = params.self_signed(&key)?.der().clone();
        let mut base = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Nobody));
        base.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(SessionCa {
            issuer: Issuer::new(params, key),
            certificate,
            leaf_key,
            leaf_signer,
            base,
            leaves: Mutex::new(HashMap::new()),
        })
    }

    /// The CA's certificate (the public half) as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        to_pem(&self.certificate)
    }

    /// A configuration that shows a leaf for `host`, a DNS name or an IP address without brackets.
    ///
    /// # Errors
    /// A host that cannot stand in a certificate, or a signing failure.
    pub fn server_config(&self, host: &str) -> Result<Arc<ServerConfig>, rcgen::Error> {
        if let Some(config) = self.leaves.lock().unwrap_or_else(PoisonError::into_inner).get(host) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.configure(host)?);
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        leaves.insert(host.to_string(), config.clone());
        Ok(config)
    }

    fn configure(&self, host: &str) -> Result<ServerConfig, rcgen::Error> {
        let mut config = self.base.clone();
        let leaf = CertifiedKey::new(vec![self.sign(host)?], self.leaf_signer.clone());
        config.cert_resolver = Arc::new(OneLeaf(Arc::new(leaf)));
        Ok(config)
    }

    fn sign(&self, host: &str) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("ac7 leaf");
        params.subject_alt_names = vec![match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.try_into()?),
        }];
        // ExplicitNoCa, because with NoCa rcgen writes no subject key id, and strict verifiers want one.
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // The default serial is a hash of the key, which all leaves share.
        let mut serial = random::bytes::<16>();
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        set_validity(&mut params);
        Ok(params.signed_by(&self.leaf_key, &self.issuer)?.der().clone())
    }
}

pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

fn set_validity(params: &mut CertificateParams) {
    let now = date_time_ymd(1970, 1, 1) + Duration::from_millis(clock::now_ms());
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now + LIFE;
}

fn subtree(host: &str) -> GeneralSubtree {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => GeneralSubtree::IpAddress(CidrSubnet::V4(v4.octets(), [255; 4])),
        Ok(IpAddr::V6(v6)) => GeneralSubtree::IpAddress(CidrSubnet::V6(v6.octets(), [255; 16])),
        Err(_) => GeneralSubtree::DnsName(host.trim_start_matches("*.").to_string()),
    }
}

/// A key pair whose text is wiped when it goes. The copies that ring works with are not, and go with the process.
struct Wiped(KeyPair);

impl Wiped {
    fn new() -> Result<Wiped, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Wiped)
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Wiped {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Wiped {
    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(text)
    }
}

/// Shows the one leaf whatever the client asks for: the name is the CONNECT host's, and IP literals send no SNI.
#[derive(Debug)]
struct OneLeaf(Arc<CertifiedKey>);

impl ResolvesServerCert for OneLeaf {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Stands in the base configuration until a leaf takes its place.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};

    /// Whether a client that trusts `ca` takes its leaf for `host` when it asked for `asked`.
    fn accepted(ca: &SessionCa, host: &str, asked: &str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(ca.certificate.clone()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        let name = ServerName::try_from(asked.to_string()).unwrap();
        verifier.verify_server_cert(&ca.sign(host).unwrap(), &[], &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn leaves_hold_for_their_host_alone() {
        let ca = SessionCa::new(None).unwrap();
        for (host, asked, want) in [
            ("api.anthropic.com", "api.anthropic.com", true),
            ("api.anthropic.com", "api.openai.com", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("::1", "::1", true),
        ] {
            assert_eq!(accepted(&ca, host, asked), want, "{host} asked for as {asked}");
        }
    }

    #[test]
    fn a_constrained_ca_holds_for_its_hosts_alone() {
        let ca = SessionCa::new(Some(&["anthropic.com".to_string(), "10.0.0.1".to_string()])).unwrap();
        for (host, want) in [
            ("api.anthropic.com", true),
            ("anthropic.com", true),
            ("10.0.0.1", true),
            ("api.openai.com", false),
        ] {
            assert_eq!(accepted(&ca, host, host), want, "{host}");
        }
    }

    #[test]
    fn another_session_trusts_nothing_of_this_one() {
        let (one, other) = (SessionCa::new(None).unwrap(), SessionCa::new(None).unwrap());
        assert_ne!(one.pem(), other.pem());
        let mut roots = RootCertStore::empty();
        roots.add(other.certificate.clone()).unwrap();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        assert!(
            verifier
                .verify_server_cert(&one.sign("a.example").unwrap(), &[], &name, &[], UnixTime::now())
                .is_err()
        );
    }

    #[test]
    fn a_host_has_one_leaf_and_a_bad_one_none() {
        let ca = SessionCa::new(None).unwrap();
        let (a, b) = (ca.server_config("a.example").unwrap(), ca.server_config("a.example").unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert!(ca.server_config("ü.example").is_err());
    }
}
