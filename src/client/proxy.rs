//! Whether the caller's own proxy is used towards the broker.
use ureq::Proxy;
use ureq::http::Uri;

use super::Error;
use crate::http1::proxies::{self, NoProxy};
use crate::http1::target::authority;

/// The proxy of the environment that ac7 was started in (never the one that we set up for an agent).
#[derive(Clone)]
pub struct CallerProxy {
    /// `http://[user:password@]host[:port]`.
    pub url: String,
    pub no_proxy: NoProxy,
}

impl CallerProxy {
    /// The proxy that the variables name for a broker at `url`. `get` gives a variable's value.
    pub fn from_vars(url: &str, get: impl Fn(&str) -> Option<String>) -> Option<CallerProxy> {
        let https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let (_, url) = proxies::named(https, &get)?;
        Some(CallerProxy { url, no_proxy: NoProxy::from_vars(get) })
    }
}

/// The proxy to use for `broker`: none for this machine and for what NO_PROXY names.
pub(super) fn choose(caller: Option<&CallerProxy>, broker: &Uri) -> Result<Option<Proxy>, Error> {
    let (host, _) = broker.host().and_then(authority).unwrap_or_default();
    let port = broker.port_u16().unwrap_or(if broker.scheme_str() == Some("https") { 443 } else { 80 });
    let Some(caller) = caller.filter(|c| !is_loopback(&host) && !c.no_proxy.matches(&host, port)) else {
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
    host.parse::<std::net::IpAddr>().map_or_else(|_| host == "localhost", |a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::{CallerProxy, NoProxy, choose};

    #[test]
    fn loopback_and_no_proxy_go_direct() {
        let proxy =
            |no_proxy: &str| CallerProxy { url: "http://p:3128".into(), no_proxy: NoProxy::parse(no_proxy) };
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
            let caller = CallerProxy { url: url.into(), no_proxy: NoProxy::default() };
            assert_eq!(choose(Some(&caller), &broker).is_ok(), want, "{url}");
        }
    }
}
