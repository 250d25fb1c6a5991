//! The options of every verb that captures: one table, one meaning.
use std::path::PathBuf;

use crate::capture::dial::{ConnectTo, UpstreamProxy};
use crate::capture::scope::{HostPattern, Scope};
use crate::http1::target::authority as host_and_port;
use crate::runner::options::{CaptureOptions, Destination, ProxyChoice};

use super::Environment;
use super::error::Error;
use super::flags::{Flag, Parsed};

/// Where a broker is when only a token says that there is one.
const DEFAULT_URL: &str = "http://127.0.0.1:8717";

/// Where events go instead of a database or a broker.
const OUTPUT: Flag =
    Flag::value("output", "FILE", "Write events to FILE as JSON Lines, to no database and no broker");

/// Options that say where events go.
pub const DESTINATION: &[Flag] = &[
    Flag::switch("local", "Store events in the local database, whatever AC7_URL and AC7_TOKEN say"),
    Flag::value("db", "PATH", "The local activity database").or("$XDG_DATA_HOME/ac7/activity.db"),
    OUTPUT,
    Flag::value("url", "URL", "Upload events to the broker at URL; else $AC7_URL")
        .or("http://127.0.0.1:8717 with a token"),
    Flag::value("token", "TOKEN", "The broker's token; better AC7_TOKEN, as other users see arguments"),
];

/// The same for an agent, which takes part in a team unless told otherwise.
pub const TEAM: &[Flag] = &[
    Flag::value("url", "URL", "The team's broker; else $AC7_URL").or("http://127.0.0.1:8717"),
    Flag::value("token", "TOKEN", "The broker's token; better AC7_TOKEN, as other users see arguments"),
    Flag::switch("local", "Without a team: only store events in the local database"),
    Flag::value("db", "PATH", "The local activity database; implies --local")
        .or("$XDG_DATA_HOME/ac7/activity.db"),
    Flag { help: "Write events to FILE as JSON Lines, to no database; implies --local", ..OUTPUT },
];

/// Options that say what is captured, for a verb whose scope is `scope` unless told otherwise.
#[must_use]
pub const fn table(scope: &'static str) -> [Flag; 10] {
    [
        Flag::value("scope", "agent|all|model", "Which hosts are decrypted").or(scope),
        Flag::value("trace-host", "HOST", "Treat HOST and its subdomains as a model host").many(),
        Flag::value("trace-only", "HOST", "Decrypt HOST and its subdomains and nothing else").many(),
        Flag::value("trace-skip", "HOST", "Never decrypt HOST and its subdomains").many(),
        Flag::value("connect-to", "HOST:PORT:HOST2:PORT2", "Dial HOST2:PORT2 for HOST:PORT, as curl does")
            .many(),
        Flag::value("ca-cert", "FILE", "Trust the PEM certificates in FILE too").or("$AC7_CA_CERT"),
        Flag::value("upstream-proxy", "URL|none", "Reach upstreams through this proxy")
            .or("HTTPS_PROXY, NO_PROXY"),
        Flag::value("redact-pattern", "PREFIX", "Redact words that begin with PREFIX too").many(),
        Flag::value("retain", "MIB", "Keep at most MIB of each message of a model call").or("16"),
        Flag::switch("no-trace", "Capture nothing: no proxy, no CA, no environment"),
    ]
}

/// Options that say how much is said.
pub const TALK: &[Flag] = &[
    Flag::switch("quiet", "Leave out the summary; what was tunnelled or lost is still told"),
    Flag::switch("json", "End with the summary as one line of JSON on standard error"),
    Flag::value(
        "summary",
        "markdown|FILE",
        "Say it in Markdown too: on standard error, or at the end of FILE",
    )
    .many(),
    Flag::value("fail-on", "dropped|truncated|secrets-seen", "Exit 3 after a success with this; commas join")
        .many(),
];

/// Where events go: to a broker only if told so, by an option or a variable; options win over variables.
///
/// # Errors
/// Local and broker options together, a URL that is none, a token that cannot be one.
pub fn destination(parsed: &Parsed, env: Environment) -> Result<Destination, Error> {
    if let Some(here) = here(parsed)? {
        return Ok(here);
    }
    let (url, token) = broker(parsed, env)?;
    if url.is_none() && token.is_none() {
        return Ok(Destination::Local { db: None });
    }
    Ok(Destination::Broker { url: url.unwrap_or_else(|| DEFAULT_URL.to_string()), token })
}

/// The same for an agent: to a broker unless told otherwise.
///
/// # Errors
/// As [`destination`].
pub fn team(parsed: &Parsed, env: Environment) -> Result<Destination, Error> {
    if let Some(here) = here(parsed)? {
        return Ok(here);
    }
    let (url, token) = broker(parsed, env)?;
    Ok(Destination::Broker { url: url.unwrap_or_else(|| DEFAULT_URL.to_string()), token })
}

/// A place on this machine, if an option names one.
fn here(parsed: &Parsed) -> Result<Option<Destination>, Error> {
    for (one, others) in [
        ("output", &["db", "url", "token", "no-trace"][..]),
        ("local", &["url", "token"]),
        ("db", &["url", "token"]),
    ] {
        if let Some(other) = others.iter().find(|other| parsed.has(one) && parsed.has(other)) {
            return Err(parsed.conflict(one, other));
        }
    }
    if let Some(output) = parsed.get("output").filter(|output| *output == "-") {
        return Err(parsed.bad("output", output, "standard output is the command's"));
    }
    let local = || Destination::Local { db: parsed.path("db") };
    let is_local = parsed.has("local") || parsed.has("db");
    Ok(parsed.path("output").map(|path| Destination::File { path }).or_else(|| is_local.then(local)))
}

/// URL and token, as far as an option or a variable has them.
fn broker(parsed: &Parsed, env: Environment) -> Result<(Option<String>, Option<String>), Error> {
    let url = parsed.read("url", "it is not http:// or https:// with a host", url)?;
    let token =
        parsed.read_secret("token", "it is empty or holds white space or control characters", token)?;
    Ok((url.or_else(|| env("AC7_URL")), token.or_else(|| env("AC7_TOKEN"))))
}

/// A file of roots to trust beside the system's.
pub fn ca_cert(parsed: &Parsed, env: Environment) -> Option<PathBuf> {
    parsed.path("ca-cert").or_else(|| env("AC7_CA_CERT").map(PathBuf::from))
}

/// What is captured, with the scope that is `usual` for the verb; `None` with `--no-trace`.
///
/// # Errors
/// A value that cannot be read.
pub fn options(parsed: &Parsed, env: Environment, usual: Scope) -> Result<Option<CaptureOptions>, Error> {
    let host = "it is not a host name or an address";
    let connect_to = "it is not HOST:PORT:HOST2:PORT2, with IPv6 addresses in brackets";
    let proxy = "it is neither none nor http://[user:password@]host[:port]";
    let secret = "it is not 3 to 64 printable ASCII characters without spaces";
    let ca_cert = ca_cert(parsed, env);
    let options = CaptureOptions {
        scope: parsed.read("scope", "it is not agent, all or model", scope)?.unwrap_or(usual),
        trace_hosts: parsed.read_all("trace-host", host, host_pattern)?,
        trace_only: parsed.read_all("trace-only", host, host_pattern)?,
        trace_skip: parsed.read_all("trace-skip", host, host_pattern)?,
        connect_to: parsed.read_all("connect-to", connect_to, self::connect_to)?,
        ca_cert,
        upstream_proxy: parsed.read_secret("upstream-proxy", proxy, proxy_choice)?.unwrap_or_default(),
        redact_patterns: parsed.read_all("redact-pattern", secret, redact_pattern)?,
        retain: parsed.read("retain", "it is not a whole number from 1 to 1024", mebibytes)?,
    };
    Ok((!parsed.has("no-trace")).then_some(options))
}

fn scope(text: &str) -> Option<Scope> {
    [("agent", Scope::Agent), ("all", Scope::All), ("model", Scope::Model)]
        .into_iter()
        .find_map(|(name, scope)| (name == text).then_some(scope))
}

fn url(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control()) && !authority.contains('@');
    host_and_port(authority).filter(|_| clean).map(|_| text.to_string())
}

fn token(text: &str) -> Option<String> {
    let clean = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    clean.then(|| text.to_string())
}

fn host_pattern(text: &str) -> Option<HostPattern> {
    let pattern = HostPattern::new(text);
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let host = pattern.host();
    let valid = host.parse::<std::net::Ipv6Addr>().is_ok() || (!host.is_empty() && host.chars().all(name));
    valid.then_some(pattern)
}

fn redact_pattern(text: &str) -> Option<String> {
    let valid = (3..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    valid.then(|| text.to_string())
}

/// A number of MiB as bytes.
fn mebibytes(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse::<usize>().ok().filter(|n| digits && (1..=1024).contains(n)).map(|n| n << 20)
}

fn proxy_choice(text: &str) -> Option<ProxyChoice> {
    match text {
        "none" => Some(ProxyChoice::Direct),
        url => UpstreamProxy::parse(url).ok().map(ProxyChoice::Url),
    }
}

/// curl's four fields, any of which may be empty.
fn connect_to(text: &str) -> Option<ConnectTo> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let end = match rest.strip_prefix('[') {
            Some(inside) => inside.find(']')? + 2,
            None => rest.find(':').unwrap_or(rest.len()),
        };
        let (field, after) = rest.split_at(end);
        fields.push(field.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase());
        match after.strip_prefix(':') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return None,
        }
    }
    let [host, port, to_host, to_port] = <[String; 4]>::try_from(fields).ok()?;
    let number = |text: &str| match text {
        "" => Some(None),
        digits => digits.parse::<u16>().ok().filter(|p| *p > 0).map(Some),
    };
    let (port, to_port) = (number(&port)?, number(&to_port)?);
    let some = |text: String| (!text.is_empty()).then_some(text);
    Some(ConnectTo { host: some(host), port, to_host: some(to_host), to_port })
}
