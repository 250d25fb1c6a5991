//! Whether the caller's own proxy is used towards the broker.
use ureq::Proxy;
use ureq::http::Uri;

use super::Error;

/// The proxy of the environment that ac7 was started in (never the one that we set up for an agent).
#[derive(Clone)]
pub struct CallerProxy {
    /// `http://[user:password@]host[:port]`.
    pub url: String,
    /// NO_PROXY as it was set: hosts, domains or `*`, separated by commas.
    pub no_proxy: String,
}

impl CallerProxy {
    /// The proxy that the variables name for a broker at `url`: that of its scheme, else ALL_PROXY, lower case first.
    /// `get` gives a variable's value.
    pub fn from_vars(url: &str, get: impl Fn(&str) -> Option<String>) -> Option<CallerProxy> {
        let names: &[&str] = match url.get(..6) {
            Some(scheme) if scheme.eq_ignore_ascii_case("https:") => {
                &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
            }
            _ => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let first = |names: &[&str]| names.iter().find_map(|name| get(name).filter(|v| !v.is_empty()));
        let url = first(names)?;
        Some(CallerProxy { url, no_proxy: first(&["no_proxy", "NO_PROXY"]).unwrap_or_default() })
    }
}

/// The proxy to use for `broker`: none for this machine and for what NO_PROXY names.
pub(super) fn choose(caller: Option<&CallerProxy>, broker: &Uri) -> Result<Option<Proxy>, Error> {
    let host = broker.host().unwrap_or_default();
    let Some(caller) = caller.filter(|c| !is_loopback(host) && !is_exempt(host, &c.no_proxy)) else {
        return Ok(None);
    };
    let has_scheme = caller.url.contains("://");
    let url = if has_scheme { caller.url.clone() } else { format!("http://{}", caller.url) };
    // The library would take other schemes and then not use them.
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Error::BadProxy);
    }
    Proxy::new(&url).map(Some).map_err(|_| Error::BadProxy)
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    address.map_or_else(|_| bare.eq_ignore_ascii_case("localhost"), |a| a.is_loopback())
}

/// Whether NO_PROXY names the host: itself, a domain it is in (with or without a leading dot or `*.`), or `*`.
fn is_exempt(host: &str, no_proxy: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    no_proxy.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let domain = entry.trim_start_matches('*').trim_start_matches('.');
        entry == "*"
            || bare == entry
            || bare == domain
            || bare.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::{CallerProxy, choose};

    #[test]
    fn loopback_and_no_proxy_go_direct() {
        let proxy = |no_proxy: &str| CallerProxy { url: "http://p:3128".into(), no_proxy: no_proxy.into() };
        for (url, no_proxy, want) in [
            ("https://ac7.corp:8717", "", true),
            ("https://ac7.corp:8717", "other.corp, .else", true),
            ("https://ac7.corp", "ac7.corp", false),
            ("https://ac7.corp", "AC7.Corp", false),
            ("https://ac7.corp", "corp", false),
            ("https://ac7.corp", ".corp", false),
            ("https://ac7.corp", "*.corp", false),
            ("https://ac7.corp", "x,*", false),
            ("https://myac7.corp", "ac7.corp", true),
            ("http://10.0.0.7:8717", "10.0.0.7", false),
            ("http://10.0.0.7:8717", "10.0.0", true),
            ("http://[fd00::1]:8717", "fd00::1", false),
            ("http://127.0.0.1:8717", "", false),
            ("http://127.9.9.9:8717", "", false),
            ("http://[::1]:8717", "", false),
            ("http://localhost:8717", "", false),
        ] {
            let chosen = choose(Some(&proxy(no_proxy)), &url.parse().unwrap()).unwrap();
            assert_eq!(chosen.is_some(), want, "{url} with {no_proxy}");
        }
        assert!(choose(None, &"https://ac7.corp".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn only_http_proxies_are_taken() {
        let broker = "https://ac7.corp".parse().unwrap();
        for (url, want) in
            [("p:3128", true), ("http://u:w@p", true), ("socks5://p:1080", false), ("http://", false)]
        {
            let caller = CallerProxy { url: url.into(), no_proxy: String::new() };
            assert_eq!(choose(Some(&caller), &broker).is_ok(), want, "{url}");
        }
    }

    #[test]
    fn variables_by_scheme() {
        let vars = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
        };
        let url = |broker, set| CallerProxy::from_vars(broker, vars(set)).map(|p| p.url);
        let set = &[("HTTPS_PROXY", "a"), ("HTTP_PROXY", "b"), ("ALL_PROXY", "c")];
        assert_eq!(url("https://h", set).as_deref(), Some("a"));
        assert_eq!(url("http://h", set).as_deref(), Some("b"));
        assert_eq!(url("https://h", &[("HTTPS_PROXY", ""), ("ALL_PROXY", "c")]).as_deref(), Some("c"));
        assert_eq!(url("https://h", &[("NO_PROXY", "x")]), None);
    }
}
