//! Request targets of a proxy: authority form for CONNECT, absolute form for plain requests (RFC 9112 §3.2).

/// A host, lower case, an IPv6 literal without brackets, and the port if one was given.
#[must_use]
pub fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (literal, port) = rest.split_once(']')?;
            literal.parse::<std::net::Ipv6Addr>().ok()?;
            (literal, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let unfit = |c: char| c.is_whitespace() || c.is_control() || "/?#@[]\\".contains(c);
    if host.is_empty() || host.contains(unfit) {
        return None;
    }
    let port = match port {
        // `parse` would take a sign.
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|p| *p != 0)?)
        }
        Some(_) => return None,
        None => None,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// An absolute URI taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absolute<'a> {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// As [`authority`] gives it; user information is left out.
    pub host: String,
    /// As given, or the scheme's own.
    pub port: u16,
    /// Path and query as sent; may be empty, which stands for `/`.
    pub path: &'a str,
}

/// The parts of an `http` or `https` URI; `None` for anything else.
#[must_use]
pub fn absolute(text: &str) -> Option<Absolute<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let (scheme, default) = match scheme {
        s if s.eq_ignore_ascii_case("http") => ("http", 80),
        s if s.eq_ignore_ascii_case("https") => ("https", 443),
        _ => return None,
    };
    let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (host, port) = authority(place.rsplit_once('@').map_or(place, |(_, place)| place))?;
    Some(Absolute { scheme, host, port: port.unwrap_or(default), path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_authorities() {
        let table = [
            ("API.example:443", Some(("api.example", Some(443)))),
            ("a", Some(("a", None))),
            ("[::1]:8443", Some(("::1", Some(8443)))),
            ("[2001:DB8::2]", Some(("2001:db8::2", None))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("", None),
            (":443", None),
            ("a:", None),
            ("a:0", None),
            ("a:+1", None),
            ("a:65536", None),
            ("a:1:2", None),
            ("a b:1", None),
            ("u@a:1", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[x]:1", None),
        ];
        for (text, want) in table {
            assert_eq!(authority(text), want.map(|(h, p)| (h.to_string(), p)), "{text}");
        }
    }

    #[test]
    fn takes_absolute_uris_apart() {
        let parts = |t| absolute(t).map(|a| (a.scheme, a.host, a.port, a.path));
        assert_eq!(parts("http://A.b/c?d"), Some(("http", "a.b".into(), 80, "/c?d")));
        assert_eq!(parts("HTTPS://[::1]:8443"), Some(("https", "::1".into(), 8443, "")));
        assert_eq!(parts("http://u:p@a:81?q"), Some(("http", "a".into(), 81, "?q")));
        for text in ["/c", "ftp://a/", "http:///c", "http://a:x/", "*"] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
