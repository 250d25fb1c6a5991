//! The broker's HTTP client: where the broker is, how we prove who we are, and what may go wrong on the way.
//!
//! Comes in: flags, environment and auth.json; bodies to send. Goes out: answers, a login in auth.json, or one [`Error`]
//! whose text the user sees. It follows no redirect, obeys no proxy that its caller did not hand it (ours would catch it inside an
//! agent's environment), has no switch that turns certificate checks off, and puts no token into an error or a log.
pub mod auth;
mod backoff;
mod calls;
mod enrolment;
mod error;
mod events;
mod logins;
mod proxy;

pub use backoff::Backoff;
pub use calls::segment;
pub use enrolment::{Asked, SLOWER, Told};
pub use error::{Error, Failure};
pub use events::{Events, StreamEvent};
pub use logins::{Login, Logins};
pub use proxy::CallerProxy;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{HeaderValue, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, RequestBuilder};

use crate::sys::localtime::Zone;
use crate::tls::{self, Roots};

/// Where the broker is unless somebody says otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8717";

/// The most that is read of an answer that carries data.
const MAX_ANSWER: u64 = 8 << 20;

/// The most that is read of an answer that carries a status and a sentence.
const MAX_VERDICT: u64 = 64 << 10;

/// How a client connects.
#[derive(Clone)]
pub struct Options {
    /// PEM files with certificates to trust beside the system's; each may hold several.
    pub ca_certs: Vec<PathBuf>,
    /// The caller's own proxy, used for a broker that is not on this machine and that its NO_PROXY does not name.
    pub proxy: Option<CallerProxy>,
    /// For resolving the name, and again for TCP and TLS together.
    pub connect_timeout: Duration,
    /// For a whole request and its answer.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ca_certs: Vec::new(),
            proxy: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        }
    }
}

/// A connection to one broker as one member. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    token: Option<Token>,
}

#[derive(Clone)]
struct Token {
    text: String,
    header: HeaderValue,
}

/// The system's root certificates (SSL_CERT_FILE and SSL_CERT_DIR first) and those of the `extra` PEM files.
fn roots(extra: &[PathBuf]) -> Result<Vec<Certificate<'static>>, Error> {
    let mut roots = Roots::system();
    extra.iter().try_for_each(|path| roots.add_file(path)).map_err(Error::Trust)?;
    if roots.certificates().is_empty() {
        return Err(Error::Trust(tls::Error::Empty));
    }
    Ok(roots.certificates().iter().map(|der| Certificate::from_der(der).to_owned()).collect())
}

/// Who the broker says we are.
#[derive(Clone, Debug)]
pub struct Briefing {
    /// The member's name, checked to be `[A-Za-z0-9._-]{1,128}`.
    pub name: String,
    /// The whole answer.
    pub raw: Value,
}

/// What the broker answered to a request, whatever the status.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// How long it asks us to wait, if it said so in seconds.
    pub retry_after: Option<Duration>,
    /// The broker's clock (the `Date` header), ms since the epoch.
    pub date: Option<u64>,
    /// The sentence of an error answer (`{"error": …}`), on one line, at most 200 characters, without our token.
    pub error: Option<String>,
}

impl Client {
    /// A client for the broker at `url` (`http` or `https`, a path prefix is kept). Nothing is sent yet.
    ///
    /// # Errors
    /// A URL, token or proxy that cannot be used, a certificate file that cannot be read, no certificate to trust.
    pub fn new(url: &str, token: Option<&str>, options: &Options) -> Result<Client, Error> {
        let uri = parse_url(url)?;
        let roots = match uri.scheme_str() {
            Some("https") => roots(&options.ca_certs)?,
            // Reading the system's certificates takes milliseconds that a plain connection need not pay.
            _ => Vec::new(),
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(roots))
            .unversioned_rustls_crypto_provider(tls::provider())
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(proxy::choose(options.proxy.as_ref(), &uri)?)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(options.connect_timeout))
            .timeout_connect(Some(options.connect_timeout))
            .timeout_global(Some(options.timeout))
            .user_agent(concat!("ac7/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let token = token.map(Token::new).transpose()?;
        Ok(Client { agent, url: url.to_string(), token })
    }

    /// The broker's URL as it was given.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// End every request in flight and refuse new ones, here and in all clones. A name lookup or a TCP connect
    /// under way still runs into its own time-out.
    pub fn abort(&self) {
        self.agent.clone().shutdown();
    }

    /// `GET /briefing`: who we are.
    ///
    /// # Errors
    /// [`Error::Briefing`] if nobody listens or the broker says no, [`Error::Unreachable`] for everything else that
    /// keeps us from an answer, [`Error::NoToken`], [`Error::BadAnswer`].
    pub fn briefing(&self) -> Result<Briefing, Error> {
        let request = self.authorised(self.agent.get(self.at("/briefing")))?;
        let answer = match self.read(request.call(), MAX_ANSWER) {
            Err(Failure::Refused) => {
                return Err(Error::Briefing { url: self.url.clone(), failure: Failure::Refused });
            }
            other => self.reached(other)?,
        };
        if answer.status != 200 {
            let failure = Failure::Status(answer.status, answer.error);
            return Err(Error::Briefing { url: self.url.clone(), failure });
        }
        let raw = self.parsed(&answer, "/briefing")?;
        match raw.get("name").and_then(Value::as_str) {
            Some(name) if is_member_name(name) => Ok(Briefing { name: name.to_string(), raw }),
            _ => Err(self.bad_answer("/briefing")),
        }
    }

    /// `POST /members/:member/activity` with `body` (`{"events": […]}`) as it is. The broker stores it once, however
    /// often it comes under the same `key` (1..64 of [A-Za-z0-9_-]).
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no status came back, [`Error::NoToken`]. Every status is an [`Answer`].
    pub fn append_activity(&self, member: &str, body: &[u8], key: &str) -> Result<Answer, Error> {
        let request = self.agent.post(self.at(&format!("/members/{member}/activity")));
        let request =
            self.authorised(request)?.header("Idempotency-Key", key).content_type("application/json");
        let failed = |e| self.reached(Err(Failure::of(e)));
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(e) => return failed(e),
        };
        let mut bytes = Vec::new();
        // The status decides; a body that breaks off after it changes nothing.
        let _ = response.body_mut().as_reader().take(MAX_VERDICT).read_to_end(&mut bytes);
        Ok(self.answer(&response, bytes))
    }

    /// `GET /healthz`: the broker's version. Needs no token.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::BadAnswer`] if something else than a broker answers.
    pub fn healthz(&self) -> Result<String, Error> {
        let request = self.agent.get(self.at("/healthz")).header("X-AC7-Protocol", "1");
        let answer = self.reached(self.read(request.call(), MAX_VERDICT))?;
        let health = self.parsed(&answer, "/healthz")?;
        match health.get("version").and_then(Value::as_str) {
            Some(version) if answer.status == 200 => Ok(version.to_string()),
            _ => Err(self.bad_answer("/healthz")),
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    fn authorised<B>(&self, request: RequestBuilder<B>) -> Result<RequestBuilder<B>, Error> {
        let token = self.token.as_ref().ok_or(Error::NoToken { near: None })?;
        Ok(request.header("X-AC7-Protocol", "1").header("Authorization", &token.header))
    }

    /// The answer with its whole body, which may have `limit` bytes.
    fn read(&self, sent: Result<Response<Body>, ureq::Error>, limit: u64) -> Result<Answer, Failure> {
        let mut response = sent.map_err(Failure::of)?;
        let bytes = response.body_mut().with_config().limit(limit).read_to_vec().map_err(Failure::of)?;
        Ok(self.answer(&response, bytes))
    }

    fn answer(&self, response: &Response<Body>, body: Vec<u8>) -> Answer {
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let status = response.status().as_u16();
        let error = if status < 400 { None } else { self.sentence(&body) };
        let retry_after = header("retry-after").and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let date = header("date").and_then(http_date);
        Answer { status, body, retry_after, date, error }
    }

    /// The `error` of an error answer, fit to be shown: a broker may write what it likes, but not to our terminal.
    fn sentence(&self, body: &[u8]) -> Option<String> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let mut text = value.get("error")?.as_str()?.to_string();
        if let Some(token) = &self.token {
            text = text.replace(&token.text, "[REDACTED]");
        }
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        Some(text.chars().take(200).map(plain).collect())
    }

    fn reached<T>(&self, answer: Result<T, Failure>) -> Result<T, Error> {
        answer.map_err(|failure| Error::Unreachable { url: self.url.clone(), failure })
    }

    fn parsed(&self, answer: &Answer, path: &'static str) -> Result<Value, Error> {
        serde_json::from_slice(&answer.body).map_err(|_| self.bad_answer(path))
    }

    fn bad_answer(&self, path: &str) -> Error {
        Error::BadAnswer { url: self.url.clone(), path: path.to_string() }
    }
}

impl Token {
    fn new(text: &str) -> Result<Token, Error> {
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| Error::BadToken)?;
        if text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(Error::BadToken);
        }
        header.set_sensitive(true);
        Ok(Token { text: text.to_string(), header })
    }
}

fn parse_url(url: &str) -> Result<Uri, Error> {
    let bad = |why| Error::BadUrl { url: url.to_string(), why };
    // Checked first, so that no other message shows what may be a password.
    if url.contains('@') {
        return Err(Error::UrlWithLogin);
    }
    let uri: Uri = url.parse().map_err(|_| bad("is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("does not begin with http:// or https://"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(bad("names no host"));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(bad("has a query or a fragment"));
    }
    Ok(uri)
}

/// The moment of an HTTP date, ms since the epoch; of its forms (RFC 9110, section 5.6.7) the one that is still sent.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (clock, zone) = (words.next()?, words.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let moment = Zone::utc().parse_moment(&format!("{year}-{month:02}-{day} {clock}"));
    moment.filter(|_| zone == "GMT" && words.next().is_none())
}

/// Members' names: `[A-Za-z0-9._-]{1,128}`. What comes from the broker goes into a path, so it is checked.
fn is_member_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=128).contains(&name.len()) && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::{Client, Error, Options, http_date, is_member_name};

    fn refused(url: &str, token: &str) -> String {
        match Client::new(url, Some(token), &Options::default()) {
            Ok(_) => String::new(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn urls_and_tokens_that_cannot_be_used_are_named() {
        for (url, token, want) in [
            ("http://127.0.0.1:8717", "ac7_x", ""),
            ("http://127.0.0.1:8717/", "ac7_x", ""),
            ("http://[::1]:8717/prefix", "ac7_x", ""),
            (
                "127.0.0.1:8717",
                "ac7_x",
                "the broker's URL 127.0.0.1:8717 does not begin with http:// or https://",
            ),
            ("ftp://h", "ac7_x", "the broker's URL ftp://h does not begin with http:// or https://"),
            ("http://", "ac7_x", "the broker's URL http:// is not a URL"),
            ("http://h/?a=b", "ac7_x", "the broker's URL http://h/?a=b has a query or a fragment"),
            ("http://h/#a", "ac7_x", "the broker's URL http://h/#a has a query or a fragment"),
            ("http://a:secret@h/", "ac7_x", "the broker's URL may not hold a login"),
            ("http://h", "two words", "the token holds characters that no token has"),
            ("http://h", "line\nbreak", "the token holds characters that no token has"),
            ("http://h", "", "the token holds characters that no token has"),
        ] {
            assert_eq!(refused(url, token), want, "{url}");
        }
    }

    #[test]
    fn without_a_token_nothing_is_sent() {
        let client = Client::new("http://127.0.0.1:1", None, &Options::default()).unwrap();
        assert!(matches!(client.briefing(), Err(Error::NoToken { .. })));
        assert!(matches!(client.append_activity("ann", b"", "k"), Err(Error::NoToken { .. })));
    }

    #[test]
    fn dates_of_answers() {
        for (text, want) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            ("Sat, 28 Nov 2026 04:00:00 GMT", Some(1_795_838_400_000)),
            ("Sat, 28 Nov 2026 04:00:00 +0100", None),
            ("Sat, 28 Nov 2026 04:00:00 GMT+1 x", None),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sat, 31 Feb 2026 04:00:00 GMT", None),
            ("now", None),
        ] {
            assert_eq!(http_date(text), want, "{text}");
        }
    }

    #[test]
    fn names_of_members() {
        let long = "a".repeat(129);
        for (name, want) in
            [("ann", true), ("a.b_c-9", true), ("", false), ("a/b", false), ("a b", false), (&long, false)]
        {
            assert_eq!(is_member_name(name), want, "{name}");
        }
    }
}
