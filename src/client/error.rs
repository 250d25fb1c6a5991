//! Everything that may go wrong between us and the broker, in the words the user sees.
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::{CertificateError, InvalidMessage};

use crate::tls;

/// Why there is no client, or no use in one. None of these texts holds a token.
#[derive(Debug)]
pub enum Error {
    /// The broker's URL cannot be used; `why` continues the sentence.
    BadUrl { url: String, why: &'static str },
    /// The broker's URL holds a user name or password; it is not shown.
    UrlWithLogin,
    /// Neither flag nor variable nor auth.json has a token. `near` is a URL of auth.json that differs from the one
    /// asked for only in a trailing slash.
    NoToken { near: Option<String> },
    /// The token cannot be one: it holds spaces, line ends or the like.
    BadToken,
    /// auth.json cannot be read or understood.
    AuthFile { path: PathBuf, why: String },
    /// A file of certificates cannot be used, or there is no certificate to trust at all.
    Trust(tls::Error),
    /// The caller's proxy is none that we can use; it is not shown, for it may hold a password.
    BadProxy,
    /// `GET /briefing` found nobody, or was told no.
    Briefing { url: String, failure: Failure },
    /// No answer to a request.
    Unreachable { url: String, failure: Failure },
    /// What answers at `path` is no broker's answer.
    BadAnswer { url: String, path: String },
    /// An answer to a request, and it is no success.
    Answered { url: String, failure: Failure },
}

/// Why a request had no (good) answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The connection ended before the answer did.
    Closed,
    /// The name has no address.
    NoHost,
    /// The caller's proxy did not let us through.
    Proxy(String),
    /// No trusted certificate signed the broker's.
    UnknownIssuer,
    /// The broker shows a CA's own certificate (what `openssl req -x509` makes).
    CaAsServer,
    /// The broker's certificate is of X.509 version 1.
    OldCertificate,
    /// The broker's certificate is for other names.
    WrongName,
    /// The broker's certificate is not valid now.
    OutOfDate,
    /// The other side does not speak TLS.
    NotTls,
    /// Any other failure of the handshake.
    Tls(String),
    /// The other side does not speak HTTP.
    NotHttp,
    /// A status that is not a success, and the broker's own sentence, if any.
    Status(u16, Option<String>),
    /// What the operating system or the HTTP library says.
    Other(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::BadUrl { url, why } => write!(f, "the broker's URL {url} {why}"),
            Error::UrlWithLogin => write!(f, "the broker's URL may not hold a login"),
            Error::NoToken { .. } => write!(f, "--token or AC7_TOKEN is required"),
            Error::BadToken => write!(f, "the token holds characters that no token has"),
            Error::AuthFile { path, why } => write!(f, "{}: {why}", path.display()),
            Error::Trust(why) => why.fmt(f),
            Error::BadProxy => write!(f, "the proxy in the environment is not an http:// or https:// URL"),
            Error::Briefing { url, failure } => write!(f, "briefing failed against {url}: {failure}"),
            Error::Unreachable { url, failure } => write!(f, "failed to reach broker at {url}: {failure}"),
            // The token is good, and the sentence says what it is not good for.
            Error::Answered { failure: Failure::Status(403, Some(text)), .. } => {
                write!(f, "the broker answered 403: {text}")
            }
            Error::Answered { failure, .. } => failure.fmt(f),
            Error::BadAnswer { url, path } => write!(f, "what answers at {url}{path} is not an ac7 broker"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What the user can do about it, if we know.
    #[must_use]
    pub fn fix(&self) -> Option<String> {
        match self {
            Error::NoToken { near: Some(url) } => Some(format!(
                "auth.json has a token for {url}, which differs in its trailing slash alone: use --url {url}"
            )),
            Error::NoToken { near: None } => Some(
                "`ac7 connect` enrolls this device, or pass a token with --token or AC7_TOKEN".to_string(),
            ),
            Error::Trust(why) => Some(why.fix().to_string()),
            Error::Answered { failure: Failure::Status(403, _), .. } => None,
            Error::Briefing { failure, url }
            | Error::Unreachable { failure, url }
            | Error::Answered { failure, url } => failure.fix(url),
            Error::BadAnswer { .. } => Some("check --url or $AC7_URL".to_string()),
            _ => None,
        }
    }

    /// Why the request had no good answer, if there was a request.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Error::Briefing { failure, .. }
            | Error::Unreachable { failure, .. }
            | Error::Answered { failure, .. } => Some(failure),
            _ => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Refused => "ECONNREFUSED",
            Failure::TimedOut => "no answer in time",
            Failure::Closed => "the connection was closed before the answer came",
            Failure::NoHost => "the host has no address",
            Failure::Proxy(why) => {
                return write!(f, "the proxy in the environment did not let us through: {why}");
            }
            Failure::UnknownIssuer => "nobody that this machine trusts has signed its certificate",
            Failure::CaAsServer => "its certificate is a CA's own, which may not serve as a server's",
            Failure::OldCertificate => "its certificate is of X.509 version 1, which knows no host names",
            Failure::WrongName => "its certificate is for another name",
            Failure::OutOfDate => "its certificate has expired or is not valid yet",
            Failure::NotTls => "what answers there does not speak TLS",
            Failure::Tls(why) => return write!(f, "TLS failed: {why}"),
            Failure::NotHttp => "what answers there does not speak HTTP",
            Failure::Status(status @ (401 | 403), _) => {
                return write!(f, "the broker refused the token ({status})");
            }
            Failure::Status(status, None) => return write!(f, "the broker answered {status}"),
            Failure::Status(status, Some(text)) => return write!(f, "the broker answered {status}: {text}"),
            Failure::Other(why) => why,
        })
    }
}

impl Failure {
    /// Whether we do not trust the other side, as opposed to not hearing from it: waiting will rarely help.
    #[must_use]
    pub fn is_distrust(&self) -> bool {
        matches!(
            self,
            Failure::UnknownIssuer
                | Failure::CaAsServer
                | Failure::OldCertificate
                | Failure::WrongName
                | Failure::OutOfDate
                | Failure::NotTls
                | Failure::Tls(_)
        )
    }

    fn fix(&self, url: &str) -> Option<String> {
        let text = match self {
            Failure::Refused => "`ac7 serve` in another terminal, or `--url`/`$AC7_URL`",
            Failure::UnknownIssuer => {
                "give the certificate of the CA that signed it (not a certificate signed by that CA) with --ca-cert or AC7_CA_CERT"
            }
            Failure::CaAsServer => {
                "make a server certificate: add `-addext basicConstraints=critical,CA:FALSE` to `openssl req -x509`"
            }
            Failure::OldCertificate => "make a version 3 certificate with a subjectAltName",
            Failure::WrongName => "name the broker in --url as its certificate does",
            Failure::OutOfDate => "renew the certificate, or correct the clock",
            Failure::NotTls => "try the URL with http://, or the broker's HTTPS port",
            Failure::Status(401 | 403, _) => {
                "pass a valid token with --token or AC7_TOKEN, or get one with `ac7 connect`"
            }
            Failure::TimedOut | Failure::Closed | Failure::NoHost | Failure::Other(_) => {
                return Some(format!("check with `curl {}/healthz`", url.trim_end_matches('/')));
            }
            Failure::Proxy(_) => "name the broker in NO_PROXY if it needs no proxy",
            Failure::Tls(_) | Failure::NotHttp | Failure::Status(..) => return None,
        };
        Some(text.to_string())
    }

    /// Sort what the HTTP library says into what the user needs to know.
    pub(super) fn of(error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Io(e) => Failure::of_io(&e),
            ureq::Error::Timeout(_) => Failure::TimedOut,
            ureq::Error::HostNotFound => Failure::NoHost,
            ureq::Error::ConnectProxyFailed(why) => Failure::Proxy(why),
            ureq::Error::Rustls(e) => Failure::of_tls(&e),
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => Failure::NotHttp,
            other => Failure::Other(other.to_string()),
        }
    }

    fn of_io(error: &io::Error) -> Failure {
        if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            return Failure::of_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Failure::TimedOut,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Other(error.to_string()),
        }
    }

    fn of_tls(error: &rustls::Error) -> Failure {
        match error {
            rustls::Error::InvalidCertificate(e) => match e {
                // A bad signature is what a newer CA of the same name looks like to someone who trusts the older one.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Failure::UnknownIssuer,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Failure::WrongName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Failure::OutOfDate,
                // webpki's own errors come boxed, and webpki is no dependency of ours: their name is what there is.
                CertificateError::Other(other) => match format!("{:?}", other.0).as_str() {
                    "CaUsedAsEndEntity" => Failure::CaAsServer,
                    "UnsupportedCertVersion" => Failure::OldCertificate,
                    name => Failure::Tls(name.to_string()),
                },
                other => Failure::Tls(other.to_string()),
            },
            rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Failure::NotTls,
            other => Failure::Tls(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{RootCertStore, crypto};

    use super::Failure;

    /// Of X.509 version 1: `openssl x509 -req` of a bare request, CN=broker.example.
    const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBLDCB0wIUZkjhuDbdyDWyYdn3OTvd0T6B6QAwCgYIKoZIzj0EAwIwGTEXMBUG
A1UEAwwOYnJva2VyLmV4YW1wbGUwHhcNMjYxMTIyMDU0MDI2WhcNMzYxMTE5MDU0
MDI2WjAZMRcwFQYDVQQDDA5icm9rZXIuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABD2jWDUPt8zZhQxqyGsAno8xskbLgeW5O++T7vH0WQPCvPDql7VI
Hk3EdG758r7kpMBORP7G7lup8tkrKouwOjcwCgYIKoZIzj0EAwIDSAAwRQIgW/Y6
+fNCPHOlZCya2YxtzBDRbPNGGJJAqZC9rxyztTgCIQC4KCJi/dAzXpegXixoLVMd
1OsgwD6sdr5U9eIQsZUPLw==
-----END CERTIFICATE-----";

    #[test]
    fn a_certificate_of_version_1_is_named() {
        let cert = rustls_pemfile::certs(&mut VERSION_1.as_bytes()).next().unwrap().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from("broker.example").unwrap();
        let error = verifier.verify_server_cert(&cert, &[], &name, &[], UnixTime::now()).unwrap_err();
        assert_eq!(Failure::of_tls(&error), Failure::OldCertificate);
    }

    #[test]
    fn input_and_output_errors_by_kind() {
        for (kind, want) in [
            (io::ErrorKind::ConnectionRefused, Failure::Refused),
            (io::ErrorKind::TimedOut, Failure::TimedOut),
            (io::ErrorKind::ConnectionReset, Failure::Closed),
            (io::ErrorKind::BrokenPipe, Failure::Closed),
            (io::ErrorKind::UnexpectedEof, Failure::Closed),
            (io::ErrorKind::HostUnreachable, Failure::Other("host unreachable".to_string())),
        ] {
            assert_eq!(Failure::of_io(&kind.into()), want);
        }
    }
}
