//! Whom we trust upstream: the system's roots, and what the user adds.
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::nobody::Nobody;
use super::{provider, to_pem};

/// A set of trust anchors.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
}

/// Why a set of roots could not be had.
#[derive(Debug)]
pub enum Error {
    /// A PEM file cannot be read.
    Unreadable { path: PathBuf, why: std::io::Error },
    /// A PEM file has no certificate that can be a trust anchor.
    NoCertificate { path: PathBuf },
    /// There is no root at all.
    Empty,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable { path, why } => {
                write!(f, "cannot read certificates: {}: {why}", path.display())
            }
            Error::NoCertificate { path } => write!(
                f,
                "no usable certificate: {}: it has no PEM block that can be trusted",
                path.display()
            ),
            Error::Empty => {
                write!(f, "no trusted certificates: this system has none, so no upstream could be validated")
            }
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What the user can do about it.
    #[must_use]
    pub fn fix(&self) -> &'static str {
        match self {
            Error::Unreadable { .. } | Error::NoCertificate { .. } => {
                "give a PEM file with --ca-cert or AC7_CA_CERT"
            }
            Error::Empty => "install the package ca-certificates, or name a PEM file with AC7_CA_CERT",
        }
    }
}

impl Roots {
    /// The system's roots; SSL_CERT_FILE and SSL_CERT_DIR are honoured. What cannot be read is left out.
    #[must_use]
    pub fn system() -> Roots {
        Roots { certificates: rustls_native_certs::load_native_certs().certs }
    }

    /// Add every certificate of a PEM file, also an intermediate as an anchor of its own.
    ///
    /// # Errors
    /// A file that cannot be read, or that has no usable certificate.
    pub fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let unreadable = |why| Error::Unreadable { path: path.to_path_buf(), why };
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut probe = RootCertStore::empty();
        for certificate in rustls_pemfile::certs(&mut file) {
            let certificate = certificate.map_err(unreadable)?;
            if probe.add(certificate.clone()).is_ok() && !self.certificates.contains(&certificate) {
                self.certificates.push(certificate);
            }
        }
        if probe.is_empty() {
            return Err(Error::NoCertificate { path: path.to_path_buf() });
        }
        Ok(())
    }

    /// All of them as PEM text, for programs that take one file instead of the system's store.
    #[must_use]
    pub fn pem(&self) -> String {
        self.certificates.iter().map(to_pem).collect()
    }

    /// A client configuration that offers `http/1.1` and resumes sessions; see
    /// [`super::certificate_was_asked_for`].
    ///
    /// # Errors
    /// [`Error::Empty`] where there is no usable root.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.certificates.iter().cloned());
        if store.is_empty() {
            return Err(Error::Empty);
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(store)
            .with_client_cert_resolver(Arc::new(Nobody));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// The anchors themselves, for other TLS clients of this program.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}
