//! The certificate of the HTTPS port: where it comes from, and a new one as soon as it is there.
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::json;

use super::live::LiveTeam;
use super::log::Log;
use super::settings::Https;
use crate::identity::Stamp;
use crate::sys::user::host_name;
use crate::tls::{BadIdentity, Identity, make_self_signed};

/// The certificate that handshakes show.
pub struct LiveCertificate {
    /// The files of one that is self-signed; else the team file names them.
    own: Option<Https>,
    team: Arc<LiveTeam>,
    current: RwLock<Identity>,
    /// The files that were looked at last, good or bad.
    seen: Mutex<Option<Files>>,
    log: Log,
}

#[derive(Debug, PartialEq, Eq)]
struct Files {
    https: Https,
    stamps: [Option<Stamp>; 2],
}

impl Files {
    fn now(https: Https) -> Files {
        let stamps = [&https.cert, &https.key].map(|path| Stamp::of(path).ok());
        Files { https, stamps }
    }
}

impl LiveCertificate {
    /// The certificate that the team file names under `https`; with `self_signed` one of our own for all names under
    /// which clients may know us, kept beside the team file. `None`: the broker is to speak plain HTTP.
    ///
    /// # Errors
    /// It cannot be read or made.
    pub fn open(
        team: &Arc<LiveTeam>,
        self_signed: bool,
        host: &str,
        address: SocketAddr,
        log: Log,
    ) -> Result<Option<Arc<LiveCertificate>>, BadIdentity> {
        let named = team.settings().https.clone();
        let (own, current, files) = if self_signed {
            let beside = |suffix: &str| {
                let mut path = team.path().as_os_str().to_os_string();
                path.push(suffix);
                PathBuf::from(path)
            };
            let https = Https { cert: beside(".crt"), key: beside(".key") };
            let identity = make_self_signed(&https.cert, &https.key, &names(team, host, address))?;
            (Some(https.clone()), identity, Files::now(https))
        } else {
            let Some(https) = named else { return Ok(None) };
            let files = Files::now(https.clone());
            (None, Identity::load(&https.cert, &https.key)?, files)
        };
        let (team, seen) = (team.clone(), Mutex::new(Some(files)));
        Ok(Some(Arc::new(LiveCertificate { own, team, current: RwLock::new(current), seen, log })))
    }

    /// Where the certificate is, and its SHA-256.
    #[must_use]
    pub fn shown(&self) -> (PathBuf, String) {
        let files = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let path = files.as_ref().map(|files| files.https.cert.clone()).unwrap_or_default();
        drop(files);
        (path, self.identity().fingerprint())
    }

    /// Read the files again if they are others than before. Broken ones are logged once, and the old certificate stays.
    pub fn check(&self) {
        let Some(found) = self.files() else { return };
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).as_ref() != Some(&found) {
            let _ = self.reload(); // it has been logged
        }
    }

    /// Read the files again. Gives whether the certificate is another one; it counts from the next handshake on.
    ///
    /// # Errors
    /// The old certificate stays.
    pub fn reload(&self) -> Result<bool, BadIdentity> {
        // Without `https` in the team file the port goes on as it began: that needs a restart.
        let Some(files) = self.files() else { return Ok(false) };
        let loaded = Identity::load(&files.https.cert, &files.https.key);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(files);
        match loaded {
            Ok(identity) => {
                let (old, new) = (self.identity().fingerprint(), identity.fingerprint());
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity;
                if old != new {
                    self.log.line("certificate reloaded", &json!({"sha256": new}));
                }
                Ok(old != new)
            }
            Err(error) => {
                self.log.line("certificate refused", &json!({"error": error.to_string()}));
                Err(error)
            }
        }
    }

    fn files(&self) -> Option<Files> {
        self.own.clone().or_else(|| self.team.settings().https.clone()).map(Files::now)
    }

    fn identity(&self) -> Identity {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for LiveCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveCertificate").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for LiveCertificate {
    /// Whatever name the client asks for: it has one certificate.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.identity().key())
    }
}

/// Every name under which clients may reach us: the loopback's, what we were told to listen on, this machine's, and
/// the `hosts` of the team file.
fn names(team: &LiveTeam, host: &str, address: SocketAddr) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    names.push(host.to_string());
    let bound = address.ip();
    names.push(bound.to_string());
    if bound.is_unspecified() {
        names.extend(outward(bound).map(|ip| ip.to_string()));
        names.push(host_name());
    }
    names.extend(team.current().hosts.iter().cloned());
    names.retain(|name| match name.parse::<IpAddr>() {
        Ok(ip) => !ip.is_unspecified(),
        // What is no name for a certificate can be none that a client checks.
        Err(_) => rustls::pki_types::DnsName::try_from(name.as_str()).is_ok(),
    });
    names.sort_unstable();
    names.dedup();
    names
}

/// The address that this machine has towards the network. Nothing is sent: a UDP socket is only given a peer, one of
/// those that RFC 5737 and RFC 3849 keep for documentation.
fn outward(bound: IpAddr) -> Option<IpAddr> {
    let peer = if bound.is_ipv4() { "192.0.2.1:9" } else { "[2001:db8::1]:9" };
    let socket = UdpSocket::bind((bound, 0)).ok()?;
    socket.connect(peer).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
