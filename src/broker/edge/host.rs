//! Against DNS rebinding: a page on evil.example whose name suddenly points here must not reach a broker on this
//! machine. Its requests carry its own name in `Host`, so only names that are meant for this broker pass.
use std::net::IpAddr;

use crate::http1::target::authority;

/// Whether a `Host` value may be served.
///
/// An IP address always may: a browser sends one only where the page came from that address, which no name server can
/// bring about. So may `localhost`, the name the broker was told to listen on, and `names`. A port is ignored.
#[must_use]
pub fn allowed(value: &str, bound: &str, names: &[String]) -> bool {
    let Some((host, _)) = authority(value) else { return false };
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(&host);
    let is = |name: &str| host.eq_ignore_ascii_case(name);
    is("localhost") || is(bound) || names.iter().any(|name| is(name))
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn only_names_meant_for_this_broker_pass() {
        let names = ["ac7.example.org".to_string()];
        for (host, want) in [
            ("localhost", true),
            ("LocalHost:8717", true),
            ("localhost.", true),
            ("127.0.0.1:8717", true),
            ("10.0.0.7", true),
            ("[::1]:8717", true),
            ("[::1]", true),
            ("box.lan:80", true),
            ("AC7.example.org", true),
            ("", false),
            (".", false),
            ("evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example", false),
            ("evil.example:127.0.0.1", false),
            ("localhost:x", false),
            ("::1", false),
            ("[localhost]", false),
            ("[::1]x", false),
            ("[::1", false),
        ] {
            assert_eq!(allowed(host, "box.lan", &names), want, "{host}");
        }
    }
}
