//! The broker's own certificate: read from files, or made.
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType, SerialNumber, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::ca::common_name;
use super::{pem, provider, to_pem};
use crate::sys::file::write_atomic;
use crate::sys::{clock, random};

/// How long a certificate that we make is valid: some clients take none that is valid for longer.
const LIFE: Duration = Duration::from_secs(825 * 24 * 3600);
/// It is replaced when so little of that is left.
const RENEWED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Clocks are not always right.
const CLOCK_SLACK: Duration = Duration::from_secs(24 * 3600);

/// A certificate chain with the key of its first certificate.
#[derive(Clone, Debug)]
pub struct Identity(Arc<CertifiedKey>);

/// Why there is none.
#[derive(Debug)]
pub enum BadIdentity {
    /// A file cannot be read.
    Unreadable { path: PathBuf, error: io::Error },
    /// A file has no PEM block of the wanted kind.
    Lacks { path: PathBuf, what: &'static str },
    /// The key is of an unknown kind, or another certificate's.
    Key { path: PathBuf, why: String },
    /// Ours cannot be made.
    Made { path: PathBuf, why: String },
}

impl fmt::Display for BadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadIdentity::Unreadable { path, error } => {
                write!(f, "cannot read the certificate or its key: {}: {error}", path.display())
            }
            BadIdentity::Lacks { path, what } => {
                write!(f, "no {what}: {}: it has no such PEM block", path.display())
            }
            BadIdentity::Key { path, why } => {
                write!(f, "cannot use the private key: {}: {why}", path.display())
            }
            BadIdentity::Made { path, why } => {
                write!(f, "cannot make a certificate: {}: {why}", path.display())
            }
        }
    }
}

impl std::error::Error for BadIdentity {}

impl Identity {
    /// Read a chain (the server's own certificate first) and a key (PKCS #8, PKCS #1 or SEC 1), both PEM; they may stand
    /// in one file.
    ///
    /// # Errors
    /// See [`BadIdentity`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity, BadIdentity> {
        let open = |path: &Path| {
            let failed = |error| BadIdentity::Unreadable { path: path.to_path_buf(), error };
            File::open(path).map(BufReader::new).map_err(failed)
        };
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| BadIdentity::Unreadable { path, error }
        };
        let chain = rustls_pemfile::certs(&mut open(certificate)?).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(failed(certificate))?;
        if chain.is_empty() {
            return Err(BadIdentity::Lacks { path: certificate.to_path_buf(), what: "certificate" });
        }
        let found = rustls_pemfile::private_key(&mut open(key)?).map_err(failed(key))?;
        let lacks = || BadIdentity::Lacks { path: key.to_path_buf(), what: "private key" };
        let identity = CertifiedKey::from_der(chain, found.ok_or_else(lacks)?, &provider());
        let unusable = |e: rustls::Error| BadIdentity::Key { path: key.to_path_buf(), why: e.to_string() };
        identity.map(|identity| Identity(Arc::new(identity))).map_err(unusable)
    }

    /// SHA-256 of the server's own certificate, as `openssl x509 -fingerprint` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let first = self.0.cert.first().map_or(&[][..], |certificate| certificate);
        let hash = digest(&SHA256, first);
        hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }

    /// For rustls.
    #[must_use]
    pub fn key(&self) -> Arc<CertifiedKey> {
        self.0.clone()
    }

    /// Whether a client that trusts this certificate alone takes it for all of `names`, now and in a month.
    fn serves(&self, names: &[String]) -> bool {
        let mut roots = RootCertStore::empty();
        let Some(own) = self.0.cert.first().filter(|own| roots.add((*own).clone()).is_ok()) else {
            return false;
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let soon = Duration::from_millis(clock::now_ms()) + RENEWED;
        verifier.is_ok_and(|verifier| {
            names.iter().all(|name| {
                ServerName::try_from(name.as_str()).is_ok_and(|name| {
                    let when = UnixTime::since_unix_epoch(soon);
                    verifier.verify_server_cert(own, &[], &name, &[], when).is_ok()
                })
            })
        })
    }
}

/// A server's configuration: TLS 1.2 and 1.3, `http/1.1`; `identities` gives the certificate of each handshake.
#[must_use]
pub fn server_config(identities: Arc<dyn ResolvesServerCert>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(identities);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Make a certificate that signs itself for `names` (DNS names and addresses), unless the files hold one that is good
/// for all of them and for another month. Both files are PEM, 0600.
///
/// # Errors
/// It cannot be made or written.
pub fn make_self_signed(certificate: &Path, key: &Path, names: &[String]) -> Result<Identity, BadIdentity> {
    if let Ok(identity) = Identity::load(certificate, key)
        && identity.serves(names)
    {
        return Ok(identity);
    }
    let failed = |path: &Path, why: String| BadIdentity::Made { path: path.to_path_buf(), why };
    let (made, made_key) = sign_self(names).map_err(|e| failed(certificate, e.to_string()))?;
    // The key first: a certificate without its key is found out at the next start, and made anew.
    write_atomic(key, pem("PRIVATE KEY", &made_key.serialize_der()).as_bytes())
        .map_err(|e| failed(key, e.to_string()))?;
    write_atomic(certificate, to_pem(&made).as_bytes()).map_err(|e| failed(certificate, e.to_string()))?;
    Identity::load(certificate, key)
}

fn sign_self(names: &[String]) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("ac7 broker");
    let san = |name: &String| match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => name.as_str().try_into().map(SanType::DnsName),
    };
    params.subject_alt_names = names.iter().map(san).collect::<Result<_, _>>()?;
    // As an anchor it can vouch for itself alone: a stolen key signs no other names.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut serial = random::bytes::<16>();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now = date_time_ymd(1970, 1, 1) + Duration::from_millis(clock::now_ms());
    params.not_before = now - CLOCK_SLACK;
    params.not_after = now - CLOCK_SLACK + LIFE;
    let made = params.self_signed(&key)?.der().clone();
    Ok((made, key))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_that_is_good_is_kept_and_one_that_is_not_is_replaced() {
        let folder = std::env::temp_dir().join(format!("ac7-tls-{}", random::hex::<8>()));
        fs::create_dir(&folder).unwrap();
        let (cert, key) = (folder.join("c"), folder.join("k"));
        let names = |list: &[&str]| list.iter().map(|n| (*n).to_string()).collect::<Vec<_>>();
        let make = |list: &[&str]| make_self_signed(&cert, &key, &names(list)).map(|made| made.fingerprint());
        let first = make(&["localhost", "127.0.0.1", "::1"]).unwrap();
        assert_eq!((first.len(), first.matches(':').count()), (95, 31));
        for path in [&cert, &key] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(make(&["::1"]).unwrap(), first);
        let second = make(&["localhost", "box.lan"]).unwrap();
        assert_ne!(second, first);
        fs::write(&key, "nothing").unwrap();
        let said = Identity::load(&cert, &key).unwrap_err().to_string();
        assert_eq!(said, format!("no private key: {}: it has no such PEM block", key.display()));
        assert_ne!(make(&["localhost", "box.lan"]).unwrap(), second);
        let other = folder.join("other");
        make_self_signed(&folder.join("oc"), &other, &names(&["a"])).unwrap();
        let said = Identity::load(&cert, &other).unwrap_err().to_string();
        assert!(said.starts_with("cannot use the private key: "), "{said}");
        let said = Identity::load(&key.with_extension("none"), &key).unwrap_err().to_string();
        assert!(said.starts_with("cannot read the certificate or its key: "), "{said}");
        let nowhere = folder.join("none/c");
        let said = make_self_signed(&nowhere, &nowhere, &names(&["a"])).unwrap_err().to_string();
        assert!(said.starts_with("cannot make a certificate: "), "{said}");
        fs::remove_dir_all(folder).unwrap();
    }
}
