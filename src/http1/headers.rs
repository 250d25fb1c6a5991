//! Header fields.

/// Header fields in wire order, names as sent; values without surrounding white space, bytes as Latin-1 if not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value of `name`, which is compared without case (RFC 9110 §5.1).
    #[must_use]
    pub fn get<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Every value of `name` in wire order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// The members of a comma-separated field, over all its lines in wire order; empty ones are left out
    /// (RFC 9110 §5.6.1). Commas inside quoted strings are not understood: no field used here has them.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
    }

    /// Whether the comma-separated field `name` has the member `token`, compared without case.
    #[must_use]
    pub fn has(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|member| member.eq_ignore_ascii_case(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_fields_up_without_case_and_splits_lists() {
        let pairs = [("Via", "a"), ("via", "b, c ,,"), ("Connection", "Keep-Alive, Upgrade")];
        let headers = Headers(pairs.map(|(n, v)| (n.to_string(), v.to_string())).to_vec());
        assert_eq!(headers.get("VIA"), Some("a"));
        assert_eq!(headers.get("X"), None);
        assert_eq!(headers.list("via").collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(headers.has("connection", "upgrade"));
        assert!(!headers.has("connection", "close"));
    }
}
