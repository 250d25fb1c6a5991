//! hudsucker with no handler of its own, as a peer. Arguments: PORT CA_CERTIFICATE CA_KEY UPSTREAM_CA.
use std::error::Error;
use std::{env, fs};

use hudsucker::Proxy;
use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::rcgen::{Issuer, KeyPair};
use hudsucker::rustls::crypto::aws_lc_rs;
use hudsucker::rustls::{ClientConfig, RootCertStore};
use hyper_rustls::HttpsConnectorBuilder;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [port, certificate, key, upstream] = &args[..] else {
        return Err("four arguments are needed".into());
    };
    let key = KeyPair::from_pem(&fs::read_to_string(key)?)?;
    let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(certificate)?, key)?;
    let authority = RcgenAuthority::new(issuer, 1_000, aws_lc_rs::default_provider());

    let mut roots = RootCertStore::empty();
    for root in rustls_pemfile::certs(&mut fs::read(upstream)?.as_slice()) {
        roots.add(root?)?;
    }
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
    let proxy = Proxy::builder()
        .with_addr(([127, 0, 0, 1], port.parse()?).into())
        .with_ca(authority)
        .with_http_connector(connector)
        .build()?;
    Ok(proxy.start().await?)
}
