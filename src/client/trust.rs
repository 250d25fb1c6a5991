//! Whom we trust to vouch for the broker.
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ureq::tls::Certificate;

use super::Error;

/// The system's root certificates (SSL_CERT_FILE and SSL_CERT_DIR first) and those of the `extra` PEM files.
pub(super) fn roots(extra: &[PathBuf]) -> Result<Vec<Certificate<'static>>, Error> {
    // What cannot be read of the system's store is no error as long as something is there to trust.
    let mut roots = rustls_native_certs::load_native_certs().certs;
    for path in extra {
        roots.extend(read(path)?);
    }
    if roots.is_empty() {
        return Err(Error::NoRoots);
    }
    Ok(roots.iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

fn read(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, Error> {
    let failed = |why: String| Error::CaFile { path: path.to_path_buf(), why };
    let mut file = BufReader::new(File::open(path).map_err(|e| failed(e.to_string()))?);
    let found = rustls_pemfile::certs(&mut file).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| failed("it is not a PEM file".to_string()))?;
    if found.is_empty() {
        return Err(failed("it holds no `BEGIN CERTIFICATE`".to_string()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::read;
    use crate::sys::{paths, random};

    #[test]
    fn a_file_without_certificates_is_named() {
        let path = paths::temp_dir().join(format!("ac7-test-{}.pem", random::hex::<6>()));
        let said = || read(&path).unwrap_err().to_string();
        assert!(said().starts_with(&format!("no certificates from {}: ", path.display())), "{}", said());
        for (text, want) in [
            ("", "it holds no `BEGIN CERTIFICATE`"),
            ("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n", "it is not a PEM file"),
        ] {
            fs::write(&path, text).unwrap();
            assert!(said().ends_with(want), "{}", said());
        }
        fs::remove_file(&path).unwrap();
    }
}
