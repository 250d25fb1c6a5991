//! Where notices may go: a subscription names any URL, and the broker must not become a way into its own network.
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Bytes of an endpoint.
const MOST: usize = 2048;

/// Why a URL is no endpoint, as in "`endpoint` is not https".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEndpoint(pub &'static str);

/// Check a URL that a subscription names. `private`: whether it may be in a private network; to this machine itself plain
/// HTTP will do then.
///
/// # Errors
/// What is wrong with it.
pub fn check(url: &str, private: bool) -> Result<Uri, BadEndpoint> {
    if url.len() > MOST {
        return Err(BadEndpoint("is longer than 2048 bytes"));
    }
    let uri: Uri = url.parse().map_err(|_| BadEndpoint("is not a URL"))?;
    let authority = uri.authority().ok_or(BadEndpoint("is not an absolute URL"))?;
    if authority.as_str().contains('@') {
        return Err(BadEndpoint("has a user in it"));
    }
    let host = authority.host();
    // A name is judged when it has been looked up; see Outward.
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let local =
        host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.to_canonical().is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if private && local => {}
        _ => return Err(BadEndpoint("is not https")),
    }
    if !private && (local || ip.is_some_and(|ip| !is_public(ip))) {
        return Err(BadEndpoint("is in a private network: webPush.privateEndpoints in ac7.json allows that"));
    }
    Ok(uri)
}

/// `https://host[:port]`: whom the claim is for.
pub fn origin(uri: &Uri) -> String {
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
    format!("{scheme}://{}", authority.map_or("", |authority| authority.as_str()))
}

/// Looks names up as usual, and gives only addresses of the public network: asked again for each connection, so that a
/// name cannot be given another meaning after it was checked.
pub struct Outward {
    inner: DefaultResolver,
    /// Whether every address will do.
    private: Arc<AtomicBool>,
}

impl Outward {
    pub fn new(private: Arc<AtomicBool>) -> Outward {
        Outward { inner: DefaultResolver::default(), private }
    }
}

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outward")
    }
}

impl Resolver for Outward {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.private.load(Ordering::Relaxed) {
            return Ok(found);
        }
        let mut public = self.empty();
        found.iter().filter(|address| is_public(address.ip())).for_each(|address| public.push(*address));
        if public.is_empty() {
            let why = "it has only addresses of private networks";
            return Err(ureq::Error::Io(io::Error::new(ErrorKind::PermissionDenied, why)));
        }
        Ok(public)
    }
}

/// Whether an address is one of the public network, as the registries for special purposes have it.
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        // This network; the space that providers share; what is reserved.
        [0, ..] | [100, 64..=127, ..] | [240..=255, ..] => true,
        // Protocol assignments; 6to4 relays; benchmarks.
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => true,
        _ => false,
    };
    !(special
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip.is_multicast())
}

/// Global unicast is 2000::/3; in it there are ways back to IPv4 (Teredo, 6to4) and documentation.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2001, 0 | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_https_and_outside() {
        let long = format!("https://push.example/{}", "a".repeat(MOST));
        for (url, outside, private) in [
            ("https://push.example/a?b=c", true, true),
            ("https://push.example:8443/a", true, true),
            ("https://8.8.8.8/a", true, true),
            ("https://[2606:4700::1111]/a", true, true),
            ("http://push.example/a", false, false),
            ("https://10.0.0.1/a", false, true),
            ("https://127.0.0.1/a", false, true),
            ("https://LOCALHOST/a", false, true),
            ("https://[::1]/a", false, true),
            ("https://[::ffff:10.0.0.1]/a", false, true),
            ("https://169.254.169.254/latest", false, true),
            ("http://127.0.0.1:8080/a", false, true),
            ("http://localhost/a", false, true),
            ("http://10.0.0.1/a", false, false),
            ("https://user@push.example/a", false, false),
            ("https:///a", false, false),
            ("/a", false, false),
            ("ftp://push.example/a", false, false),
            ("file:///etc/passwd", false, false),
            ("", false, false),
            (&long, false, false),
        ] {
            assert_eq!(check(url, false).is_ok(), outside, "{url}");
            assert_eq!(check(url, true).is_ok(), private, "{url}, private");
        }
        assert_eq!(
            origin(&check("https://push.example:8443/a", false).unwrap()),
            "https://push.example:8443"
        );
    }

    #[test]
    fn private_networks_are_known() {
        for (ip, want) in [
            ("1.1.1.1", true),
            ("172.15.0.1", true),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("100.63.0.1", true),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("198.18.0.1", false),
            ("192.0.2.1", false),
            ("::", false),
            ("::1", false),
            ("::ffff:1.1.1.1", true),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001:0:1::1", false),
            ("2002:0a00:0001::1", false),
            ("2a00:1450::1", true),
            ("64:ff9b::1.1.1.1", true),
            ("64:ff9b::10.0.0.1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), want, "{ip}");
        }
    }
}
