//! The caller's own HTTP proxy, as the environment names it. No standard says what these variables mean; this is what
//! curl, Go and Python agree upon.
use std::net::IpAddr;

use super::target::authority;

/// The variable that names the proxy for a target of this scheme, and its value; lower case wins, empty is unset.
/// `get` gives a variable's value.
pub fn named(https: bool, get: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let names = if https {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    first(&names, get)
}

fn first(names: &[&'static str], get: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| get(name).filter(|value| !value.is_empty()).map(|value| (*name, value)))
}

/// The hosts that the caller reaches without its proxy: `NO_PROXY` as curl, Go and Python understand it together.
#[derive(Clone, Debug, Default)]
pub struct NoProxy(Vec<String>);

impl NoProxy {
    /// What the variables say; nothing if they are unset.
    pub fn from_vars(get: impl Fn(&str) -> Option<String>) -> NoProxy {
        first(&["no_proxy", "NO_PROXY"], get).map_or_else(NoProxy::default, |(_, list)| NoProxy::parse(&list))
    }

    /// A comma- or space-separated list.
    #[must_use]
    pub fn parse(list: &str) -> NoProxy {
        let entries = list.split([',', ' ']).map(|e| e.trim().to_ascii_lowercase());
        NoProxy(entries.filter(|e| !e.is_empty()).collect())
    }

    /// Whether `host:port` is reached directly: `*`, a name and its subdomains, an address, a network `a.b.c.d/n`.
    #[must_use]
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.0.iter().any(|entry| {
            if entry == "*" {
                return true;
            }
            if let (Some((net, bits)), Ok(address)) = (entry.split_once('/'), host.parse::<IpAddr>()) {
                return in_network(address, net, bits);
            }
            // A bare IPv6 address has no brackets here.
            let (name, only_port) = authority(entry).unwrap_or_else(|| (entry.clone(), None));
            let name = name.trim_start_matches("*.").trim_start_matches('.');
            let same = host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
            same && only_port.is_none_or(|p| p == port)
        })
    }
}

fn in_network(address: IpAddr, net: &str, bits: &str) -> bool {
    let (Ok(net), Ok(bits)) = (net.parse::<IpAddr>(), bits.parse::<u32>()) else { return false };
    let same = |a: u128, b: u128, width: u32| bits <= width && (bits == 0 || (a ^ b) >> (width - bits) == 0);
    match (address, net) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_as_programs_understand_it() {
        for (list, host, port, want) in [
            ("*", "a.example", 443, true),
            ("example.com", "example.com", 443, true),
            ("example.com", "a.example.com", 443, true),
            (".example.com", "a.example.com", 443, true),
            ("*.example.com", "a.example.com", 443, true),
            ("example.com", "badexample.com", 443, false),
            ("a, b", "b", 80, true),
            ("example.com:8443", "example.com", 443, false),
            ("example.com:8443", "example.com", 8443, true),
            ("10.0.0.0/8", "10.1.2.3", 443, true),
            ("10.0.0.0/8", "11.1.2.3", 443, false),
            ("0.0.0.0/0", "11.1.2.3", 443, true),
            ("fd00::/8", "fd12::1", 443, true),
            ("::1", "::1", 443, true),
            ("", "a", 1, false),
        ] {
            assert_eq!(NoProxy::parse(list).matches(host, port), want, "{list} {host}:{port}");
        }
    }

    #[test]
    fn variables_by_scheme() {
        let vars = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string())
        };
        let set = &[("HTTPS_PROXY", "a"), ("HTTP_PROXY", "b"), ("ALL_PROXY", "c")];
        assert_eq!(named(true, vars(set)), Some(("HTTPS_PROXY", "a".to_string())));
        assert_eq!(named(false, vars(set)), Some(("HTTP_PROXY", "b".to_string())));
        assert_eq!(
            named(true, vars(&[("HTTPS_PROXY", ""), ("ALL_PROXY", "c")])),
            Some(("ALL_PROXY", "c".to_string()))
        );
        assert_eq!(
            named(true, vars(&[("https_proxy", "x"), ("HTTPS_PROXY", "y")])),
            Some(("https_proxy", "x".to_string()))
        );
        assert_eq!(named(true, vars(&[("NO_PROXY", "x")])), None);
        assert!(NoProxy::from_vars(vars(&[("NO_PROXY", "x")])).matches("x", 443));
    }
}
