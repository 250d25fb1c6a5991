//! A message head: its lines, and the length of the body they announce.
use super::{Fault, Headers, Rules};

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// `target` as sent: origin, absolute, authority or asterisk form (RFC 9112 §3.2).
    Request { method: String, target: String },
    /// 100 to 999; the reason phrase is dropped.
    Response { status: u16 },
}

/// How the body ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many bytes; 0 if there is none.
    Exact(u64),
    Chunked,
    /// With the connection; responses alone.
    UntilClose,
    /// There is no body: from here on the connection carries another protocol (101, or 2xx to CONNECT).
    Switch,
}

/// What a response answers, as far as its framing depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    #[default]
    Plain,
    /// HEAD: no body, whatever the head announces.
    Head,
    /// CONNECT: 2xx switches.
    Connect,
}

impl Asked {
    /// By the request's method, which is compared with case.
    #[must_use]
    pub fn by(method: &str) -> Asked {
        match method {
            "HEAD" => Asked::Head,
            "CONNECT" => Asked::Connect,
            _ => Asked::Plain,
        }
    }
}

/// A head that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub start: Start,
    /// Of HTTP/1.x: 0 or 1, or what was sent.
    pub minor: u8,
    pub headers: Headers,
    pub length: Length,
}

impl Head {
    /// Whether the connection may carry another message after this one (RFC 9112 §9.3).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        let stays = self.minor > 0 || self.headers.has("connection", "keep-alive");
        stays && !self.headers.has("connection", "close") && self.length != Length::UntilClose
    }
}

/// Which of the two kinds of message a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Requests,
    Responses,
}

/// Parse a whole head, its closing empty line included.
pub(super) fn parse(text: &[u8], kind: Kind, asked: Asked, rules: &Rules) -> Result<Head, Fault> {
    let mut lines = Lines { rest: text, strict: rules.strict };
    let first = lines.next().ok_or(Fault::NotHttp)??;
    let (start, minor) = match kind {
        Kind::Requests => request_line(first, rules.strict)?,
        Kind::Responses => status_line(first)?,
    };
    let headers = fields(&mut lines, rules)?;
    let length = body_length(&start, minor, &headers, asked, rules.strict)?;
    Ok(Head { start, minor, headers, length })
}

/// Parse a whole trailer section, its closing empty line included.
pub(super) fn trailers(text: &[u8], rules: &Rules) -> Result<Headers, Fault> {
    fields(&mut Lines { rest: text, strict: rules.strict }, rules)
}

/// Whether a head may begin with this byte: both a method and a version begin with a token character.
pub(super) fn may_begin(byte: u8) -> bool {
    is_token(byte)
}

struct Lines<'a> {
    rest: &'a [u8],
    strict: bool,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.rest.iter().position(|b| *b == b'\n')?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        let bare = line.strip_suffix(b"\r");
        let unclean = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
        let refused = match bare {
            None if self.strict => true,
            _ if self.strict => bare.unwrap_or(line).iter().any(unclean),
            _ => line.contains(&0),
        };
        Some(if refused { Err(Fault::Field) } else { Ok(bare.unwrap_or(line)) })
    }
}

fn request_line(line: &[u8], strict: bool) -> Result<(Start, u8), Fault> {
    let after_method = line.iter().position(|b| *b == b' ').ok_or(Fault::NotHttp)?;
    let before_version = line.iter().rposition(|b| *b == b' ').ok_or(Fault::NotHttp)?;
    if before_version <= after_method + 1 {
        return Err(Fault::NotHttp);
    }
    let (method, target) = (&line[..after_method], &line[after_method + 1..before_version]);
    let minor = version(&line[before_version + 1..])?;
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) || (strict && target.contains(&b' ')) {
        return Err(Fault::NotHttp);
    }
    Ok((Start::Request { method: text(method), target: text(target) }, minor))
}

fn status_line(line: &[u8]) -> Result<(Start, u8), Fault> {
    let end = line.iter().position(|b| *b == b' ').ok_or(Fault::NotHttp)?;
    let minor = version(&line[..end])?;
    let (digits, reason) = line[end + 1..].split_at_checked(3).ok_or(Fault::NotHttp)?;
    if !digits.iter().all(u8::is_ascii_digit)
        || digits[0] == b'0'
        || !matches!(reason.first(), None | Some(b' '))
    {
        return Err(Fault::NotHttp);
    }
    let status = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
    Ok((Start::Response { status }, minor))
}

fn version(text: &[u8]) -> Result<u8, Fault> {
    match text.strip_prefix(b"HTTP/") {
        Some([b'1', b'.', minor]) if minor.is_ascii_digit() => Ok(minor - b'0'),
        Some(_) => Err(Fault::Version),
        None => Err(Fault::NotHttp),
    }
}

fn fields(lines: &mut Lines<'_>, rules: &Rules) -> Result<Headers, Fault> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if matches!(line[0], b' ' | b'\t') {
            // An obsolete fold goes on with the value of the line before (RFC 9112 §5.2).
            let (_, value) = out.last_mut().filter(|_| !rules.strict).ok_or(Fault::Field)?;
            value.push(' ');
            value.push_str(&text(line.trim_ascii()));
            continue;
        }
        if out.len() == rules.fields {
            return Err(Fault::TooManyFields);
        }
        let colon = line.iter().position(|b| *b == b':').ok_or(Fault::Field)?;
        let name = line[..colon].trim_ascii_end();
        let clean = name.len() == colon && name.iter().all(|b| is_token(*b));
        if name.is_empty() || (rules.strict && !clean) {
            return Err(Fault::Field);
        }
        out.push((text(name), text(line[colon + 1..].trim_ascii())));
    }
    Ok(Headers(out))
}

/// RFC 9112 §6.3, in its order.
fn body_length(
    start: &Start,
    minor: u8,
    headers: &Headers,
    asked: Asked,
    strict: bool,
) -> Result<Length, Fault> {
    let status = match start {
        Start::Request { .. } => None,
        Start::Response { status } => Some(*status),
    };
    match (status, asked) {
        (Some(101), _) | (Some(200..=299), Asked::Connect) => return Ok(Length::Switch),
        (Some(100..=199 | 204 | 304), _) | (Some(_), Asked::Head) => return Ok(Length::Exact(0)),
        _ => {}
    }
    // `identity` was a transfer coding once (RFC 2616) and means none.
    let mut codings =
        headers.list("transfer-encoding").filter(|c| strict || !c.eq_ignore_ascii_case("identity"));
    if let Some(mut coding) = codings.next() {
        if strict && headers.get("content-length").is_some() {
            return Err(Fault::TwoLengths);
        }
        let mut chunked = coding.eq_ignore_ascii_case("chunked");
        for next in codings {
            if strict || chunked {
                return Err(Fault::TransferEncoding);
            }
            coding = next;
            chunked = coding.eq_ignore_ascii_case("chunked");
        }
        return match status {
            _ if strict && (!chunked || minor == 0) => Err(Fault::TransferEncoding),
            _ if chunked => Ok(Length::Chunked),
            Some(_) => Ok(Length::UntilClose),
            None => Err(Fault::TransferEncoding),
        };
    }
    if strict && headers.get("transfer-encoding").is_some() {
        return Err(Fault::TransferEncoding);
    }
    let mut length = None;
    for value in headers.all("content-length") {
        if strict && length.is_some() {
            return Err(Fault::ContentLength);
        }
        for one in value.split(',') {
            let number = decimal(if strict { one } else { one.trim() })?;
            if length.is_some_and(|before| before != number) {
                return Err(Fault::ContentLength);
            }
            length = Some(number);
        }
        if strict && value.contains(',') {
            return Err(Fault::ContentLength);
        }
    }
    Ok(match (length, status) {
        (Some(length), _) => Length::Exact(length),
        (None, None) => Length::Exact(0),
        (None, Some(_)) => Length::UntilClose,
    })
}

fn decimal(text: &str) -> Result<u64, Fault> {
    // `parse` would take a sign.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::ContentLength);
    }
    text.parse().map_err(|_| Fault::ContentLength)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes as UTF-8 if they are, else as Latin-1.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: Kind, asked: Asked, text: &str, rules: &Rules) -> Result<Head, Fault> {
        parse(text.replace('~', "\r\n").as_bytes(), kind, asked, rules)
    }

    #[test]
    fn decides_the_body_length_as_the_rfc_does() {
        use Fault::{ContentLength, Field, TransferEncoding, TwoLengths};
        use Length::{Chunked, Exact, Switch, UntilClose};
        // (kind, what was asked, head without its first line, lenient, strict)
        let request = |fields| (Kind::Requests, Asked::Plain, "POST / HTTP/1.1", fields);
        let response = |first| (Kind::Responses, Asked::Plain, first, "content-length: 5~");
        let table = [
            (request(""), Ok(Exact(0)), Ok(Exact(0))),
            (request("content-length: 5~"), Ok(Exact(5)), Ok(Exact(5))),
            (request("content-length: 18446744073709551615~"), Ok(Exact(u64::MAX)), Ok(Exact(u64::MAX))),
            (request("content-length: 18446744073709551616~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length: -1~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length: +1~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length: 0x10~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length:~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length: 5, 5~"), Ok(Exact(5)), Err(ContentLength)),
            (request("content-length: 5, 6~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length: 5~content-length: 5~"), Ok(Exact(5)), Err(ContentLength)),
            (request("content-length: 5~content-length: 6~"), Err(ContentLength), Err(ContentLength)),
            (request("content-length : 5~"), Ok(Exact(5)), Err(Field)),
            (request("transfer-encoding: chunked~"), Ok(Chunked), Ok(Chunked)),
            (request("Transfer-Encoding: Chunked~"), Ok(Chunked), Ok(Chunked)),
            (request("transfer-encoding: gzip, chunked~"), Ok(Chunked), Err(TransferEncoding)),
            (request("transfer-encoding: chunked, gzip~"), Err(TransferEncoding), Err(TransferEncoding)),
            (request("transfer-encoding: chunked, chunked~"), Err(TransferEncoding), Err(TransferEncoding)),
            (request("transfer-encoding: xchunked~"), Err(TransferEncoding), Err(TransferEncoding)),
            (request("transfer-encoding: identity~content-length: 5~"), Ok(Exact(5)), Err(TwoLengths)),
            (request("transfer-encoding:~content-length: 5~"), Ok(Exact(5)), Err(TransferEncoding)),
            (request("content-length: 5~transfer-encoding: chunked~"), Ok(Chunked), Err(TwoLengths)),
            (
                (Kind::Requests, Asked::Plain, "POST / HTTP/1.0", "transfer-encoding: chunked~"),
                Ok(Chunked),
                Err(TransferEncoding),
            ),
            (response("HTTP/1.1 200 OK"), Ok(Exact(5)), Ok(Exact(5))),
            (response("HTTP/1.0 200"), Ok(Exact(5)), Ok(Exact(5))),
            (response("HTTP/1.1 100 Continue"), Ok(Exact(0)), Ok(Exact(0))),
            (response("HTTP/1.1 103 Early Hints"), Ok(Exact(0)), Ok(Exact(0))),
            (response("HTTP/1.1 204 No Content"), Ok(Exact(0)), Ok(Exact(0))),
            (response("HTTP/1.1 304 Not Modified"), Ok(Exact(0)), Ok(Exact(0))),
            (response("HTTP/1.1 101 Switching Protocols"), Ok(Switch), Ok(Switch)),
            ((Kind::Responses, Asked::Plain, "HTTP/1.1 200 OK", ""), Ok(UntilClose), Ok(UntilClose)),
            (
                (Kind::Responses, Asked::Plain, "HTTP/1.1 200 OK", "transfer-encoding: gzip~"),
                Ok(UntilClose),
                Err(TransferEncoding),
            ),
            (
                (Kind::Responses, Asked::Head, "HTTP/1.1 200 OK", "content-length: 5~"),
                Ok(Exact(0)),
                Ok(Exact(0)),
            ),
            ((Kind::Responses, Asked::Connect, "HTTP/1.1 200 OK", ""), Ok(Switch), Ok(Switch)),
            (
                (Kind::Responses, Asked::Connect, "HTTP/1.1 407 No", "content-length: 5~"),
                Ok(Exact(5)),
                Ok(Exact(5)),
            ),
        ];
        for ((kind, asked, first, fields), lenient, strict) in table {
            let text = format!("{first}~{fields}~");
            let length = |rules| head(kind, asked, &text, rules).map(|h| h.length);
            assert_eq!(length(&Rules::CAPTURE), lenient, "{text}");
            assert_eq!(length(&Rules::EDGE), strict, "strict {text}");
        }
    }

    #[test]
    fn refuses_malformed_heads() {
        use Fault::{Field, NotHttp, TooManyFields, Version};
        let many = format!("GET / HTTP/1.1~{}~", "a: b~".repeat(101));
        // (head, lenient, strict); None: accepted
        let requests = [
            ("GET / HTTP/1.1~~", None, None),
            ("GET http://a.b/c?d HTTP/1.1~~", None, None),
            ("OPTIONS * HTTP/1.0~~", None, None),
            ("GET /a b HTTP/1.1~~", None, Some(NotHttp)),
            ("GET /\n\n", Some(NotHttp), Some(Field)),
            ("GET / HTTP/1.1\nHost: a\n\n", None, Some(Field)),
            ("GET  HTTP/1.1~~", Some(NotHttp), Some(NotHttp)),
            ("GE(T / HTTP/1.1~~", Some(NotHttp), Some(NotHttp)),
            ("PRI * HTTP/2.0~~", Some(Version), Some(Version)),
            ("GET / http/1.1~~", Some(NotHttp), Some(NotHttp)),
            ("GET / HTTP/1.1~no colon~~", Some(Field), Some(Field)),
            ("GET / HTTP/1.1~: no name~~", Some(Field), Some(Field)),
            ("GET / HTTP/1.1~ folded: first~~", Some(Field), Some(Field)),
            ("GET / HTTP/1.1~a: b~ c~~", None, Some(Field)),
            ("GET / HTTP/1.1~a : b~~", None, Some(Field)),
            ("GET / HTTP/1.1~a b: c~~", None, Some(Field)),
            ("GET / HTTP/1.1~a: b\rc~~", None, Some(Field)),
            ("GET / HTTP/1.1~a: b\x01c~~", None, Some(Field)),
            ("GET / HTTP/1.1~a: b\0c~~", Some(Field), Some(Field)),
            (&many, None, Some(TooManyFields)),
        ];
        for (text, lenient, strict) in requests {
            let fault = |rules| head(Kind::Requests, Asked::Plain, text, rules).err();
            assert_eq!(fault(&Rules::CAPTURE), lenient, "{text}");
            assert_eq!(fault(&Rules::EDGE), strict, "strict {text}");
        }
        for text in
            ["HTTP/1.1 20 OK~~", "HTTP/1.1 2000~~", "HTTP/1.1 099 x~~", "HTTP/1.1~~", "ICY 200 OK~~", "~~"]
        {
            assert_eq!(
                head(Kind::Responses, Asked::Plain, text, &Rules::CAPTURE),
                Err(Fault::NotHttp),
                "{text}"
            );
        }
    }

    #[test]
    fn keeps_fields_as_they_were_sent() {
        let mut text =
            b"GET /\xe4 HTTP/1.1\r\nX-One:  a \t\r\nx-one: b\r\n\tc\r\nY: \xc3\xa4\r\nZ: \xe4\r\n".to_vec();
        text.extend_from_slice(b"Empty:\r\n\r\n");
        let head = parse(&text, Kind::Requests, Asked::Plain, &Rules::CAPTURE).expect("clean");
        assert_eq!(head.start, Start::Request { method: "GET".into(), target: "/ä".into() });
        let pairs: Vec<_> = head.headers.0.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("X-One", "a"), ("x-one", "b c"), ("Y", "ä"), ("Z", "ä"), ("Empty", "")]);
    }

    #[test]
    fn tells_whether_the_connection_stays() {
        let table = [
            ("HTTP/1.1 200 OK~content-length: 0~~", true),
            ("HTTP/1.1 200 OK~content-length: 0~connection: x, Close~~", false),
            ("HTTP/1.1 200 OK~~", false),
            ("HTTP/1.0 200 OK~content-length: 0~~", false),
            ("HTTP/1.0 200 OK~content-length: 0~connection: Keep-Alive~~", true),
        ];
        for (text, stays) in table {
            let head = head(Kind::Responses, Asked::Plain, text, &Rules::CAPTURE).expect("clean");
            assert_eq!(head.keep_alive(), stays, "{text}");
        }
    }
}
