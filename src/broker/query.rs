//! Request targets: path segments and query parameters (RFC 3986; `+` is a space in a query, as forms have it).

/// Query parameters in order; a name may repeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// The first value of a parameter; an empty one counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Whether a parameter is there, empty or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    /// Every value of a parameter that is not empty.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// How many rows to give. The contract keeps the original's ways: what is no number counts as absent, 0 gives
    /// nothing, and too many are cut to `max`.
    #[must_use]
    pub fn limit(&self, default: usize, max: usize) -> usize {
        match self.get("limit").map(str::parse::<usize>) {
            Some(Ok(n)) => n.min(max),
            Some(Err(_)) | None => default,
        }
    }
}

/// Split a request target (`/a/b%20c?x=1&x=2`) into decoded segments and parameters. `None` if it is not a path, or an
/// escape is broken or not UTF-8.
#[must_use]
pub fn parse_target(target: &str) -> Option<(Vec<String>, Query)> {
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix('/')?;
    let segments = path.split('/').map(|s| decode(s, false)).collect::<Option<_>>()?;
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        Some((decode(name, true)?, decode(value, true)?))
    };
    let pairs = query.split('&').filter(|p| !p.is_empty()).map(pair).collect::<Option<_>>()?;
    Some((segments, Query(pairs)))
}

fn decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16).and_then(|d| u8::try_from(d).ok());
                digit(bytes.next())? << 4 | digit(bytes.next())?
            }
            b'+' if plus_is_space => b' ',
            _ => byte,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_apart() {
        let owned = |pairs: &[(&str, &str)]| {
            Query(pairs.iter().map(|(n, v)| ((*n).to_string(), (*v).to_string())).collect())
        };
        for (target, want) in [
            ("/", Some((vec![""], owned(&[])))),
            ("/healthz", Some((vec!["healthz"], owned(&[])))),
            (
                "/a%20b/c%2Fd/+?x=1&x=%C3%A9+f&y&z=a=b&&#frag",
                Some((vec!["a b", "c/d", "+"], owned(&[("x", "1"), ("x", "é f"), ("y", ""), ("z", "a=b")]))),
            ),
            ("*", None),
            ("http://h/p", None),
            ("/%", None),
            ("/%2", None),
            ("/%zz", None),
            ("/%ff", None),
            ("/?a=%ff", None),
        ] {
            let got = parse_target(target);
            let got = got.as_ref().map(|(s, q)| (s.iter().map(String::as_str).collect::<Vec<_>>(), q));
            assert_eq!(got, want.as_ref().map(|(s, q)| (s.clone(), q)), "{target}");
        }
    }

    #[test]
    fn limits_keep_the_ways_of_the_original() {
        for (query, want) in [
            ("", 200),
            ("limit=", 200),
            ("limit=abc", 200),
            ("limit=-1", 200),
            ("limit=0", 0),
            ("limit=7", 7),
            ("limit=1000", 1000),
            ("limit=5000", 1000),
            ("limit=99999999999", 1000),
        ] {
            let (_, parsed) = parse_target(&format!("/?{query}")).unwrap();
            assert_eq!(parsed.limit(200, 1000), want, "{query}");
        }
    }
}
