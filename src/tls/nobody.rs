//! The client's side of a handshake in which the server asks who it is.
use std::cell::Cell;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

thread_local! {
    // One resolver has to serve all connections, or sessions are not resumed; a handshake has its thread to itself.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Has no certificate to show, and keeps in mind that it was asked for one.
#[derive(Debug)]
pub(super) struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Whether a server has asked for a certificate in a handshake on this thread since this was last called.
#[must_use]
pub fn certificate_was_asked_for() -> bool {
    ASKED.take()
}
