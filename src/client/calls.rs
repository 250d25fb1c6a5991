//! Requests of any route: what the broker answers is for the caller to understand.
use serde_json::Value;
use ureq::http::Request;

use super::{Answer, Client, Error, Failure};

/// The most that is read of an answer: a file of the team's store, or a full page of activity.
const MAX_ANSWER: u64 = 64 << 20;

impl Client {
    /// Send a request and read its answer, whatever the status. `path` begins with `/` and is escaped where needed
    /// ([`segment`]); `body` is a media type and its bytes. The token goes along if there is one.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no whole answer came back, [`Error::BadUrl`] for a path that is none.
    pub fn send(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Result<Answer, Error> {
        let mut request = Request::builder().method(method).uri(self.at(path)).header("X-AC7-Protocol", "1");
        if let Some(token) = &self.token {
            request = request.header("Authorization", &token.header);
        }
        let bad = |_| Error::BadUrl { url: self.at(path), why: "is not a URL" };
        let sent = match body {
            Some((media_type, bytes)) => {
                self.agent.run(request.header("Content-Type", media_type).body(bytes).map_err(bad)?)
            }
            None => self.agent.run(request.body(()).map_err(bad)?),
        };
        self.reached(self.read(sent, MAX_ANSWER))
    }

    /// The same with JSON both ways. An answer without a body (204) is `null`.
    ///
    /// # Errors
    /// As [`Client::send`]; [`Error::Answered`] for a status that is no success, [`Error::BadAnswer`] for a body
    /// that is no JSON.
    pub fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let text = body.map(Value::to_string);
        let answer = self.send(method, path, text.as_ref().map(|t| ("application/json", t.as_bytes())))?;
        if !(200..300).contains(&answer.status) {
            let failure = Failure::Status(answer.status, answer.error);
            return Err(Error::Answered { url: self.url.clone(), failure });
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body)
            .map_err(|_| Error::BadAnswer { url: self.url.clone(), path: path.to_string() })
    }
}

/// A text as one segment of a path, or as a value of a query: everything but the unreserved characters of RFC 3986
/// (section 2.3) becomes `%XX`.
#[must_use]
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push('%');
            out.extend(
                [byte >> 4, byte & 15]
                    .map(|half| char::from_digit(half.into(), 16).unwrap_or_default().to_ascii_uppercase()),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn only_unreserved_characters_stay() {
        for (text, want) in [
            ("a.b_c-9~", "a.b_c-9~"),
            ("a b/c?d&e=f#g%", "a%20b%2Fc%3Fd%26e%3Df%23g%25"),
            ("ü\n", "%C3%BC%0A"),
            ("", ""),
        ] {
            assert_eq!(segment(text), want, "{text:?}");
        }
    }
}
