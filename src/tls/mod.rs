//! TLS material: the session's certificate authority, the trust roots, client configurations.
//!
//! Comes in: host names, PEM files. Goes out: rustls configurations and PEM text. No sockets; the CA's private key
//! never leaves this room, and no switch turns validation off.
mod ca;
mod nobody;
mod roots;
mod server;

pub use ca::SessionCa;
pub use nobody::certificate_was_asked_for;
pub use roots::{Error, Roots};
pub use server::{BadIdentity, Identity, make_self_signed, server_config};

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

/// The one crypto provider of this program.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate as PEM text (RFC 7468 §2).
#[must_use]
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    pem("CERTIFICATE", certificate)
}

fn pem(label: &str, der: &[u8]) -> String {
    let mut out = format!("-----BEGIN {label}-----\n");
    let text = STANDARD.encode(der);
    for start in (0..text.len()).step_by(64) {
        out.push_str(&text[start..text.len().min(start + 64)]);
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}
