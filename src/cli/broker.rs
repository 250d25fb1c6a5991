//! What verbs share that talk to a broker: which one, as whom, and how its refusals are told.
use super::environment;
use super::error::Error;
use super::flags::{Flag, Parsed};
use crate::client::{self, CallerProxy, Client, auth};

/// Options that say which broker, and as whom.
pub const ACCESS: &[Flag] = &[
    Flag::value("url", "URL", "The broker; else $AC7_URL").or("http://127.0.0.1:8717"),
    Flag::value("token", "TOKEN", "The broker's token; better AC7_TOKEN, as other users see arguments"),
    Flag::value("ca-cert", "FILE", "Trust the PEM certificates in FILE too").or("$AC7_CA_CERT"),
];

/// The same without a token, for those who have none.
pub const PLACE: &[Flag] = &[ACCESS[0], ACCESS[2]];

/// Where the broker is and what opens it, from [`ACCESS`], the environment and auth.json.
///
/// # Errors
/// An option that is not UTF-8, an auth.json that cannot be understood.
pub fn access(parsed: &Parsed, verb: &'static str) -> Result<auth::Access, Error> {
    let given = auth::Given {
        url: parsed.text("url")?,
        token: parsed.read_secret("token", "it is not UTF-8", |text| Some(text.to_string()))?,
        ca_cert: parsed.text("ca-cert")?,
    };
    auth::from_environment(&given).map_err(failed(verb))
}

/// A client for that broker; nothing is sent yet. `token` is what it shows, if anything.
///
/// # Errors
/// A URL, token or certificate that cannot be used.
pub fn client(access: &auth::Access, token: Option<&str>, verb: &'static str) -> Result<Client, Error> {
    let options = client::Options {
        ca_certs: access.ca_cert.iter().cloned().collect(),
        proxy: CallerProxy::from_vars(&access.url, environment),
        ..client::Options::default()
    };
    Client::new(&access.url, token, &options).map_err(failed(verb))
}

/// The client of a member: there must be a token.
///
/// # Errors
/// As [`access`] and [`client`]; no token.
pub fn connect(parsed: &Parsed, verb: &'static str) -> Result<Client, Error> {
    let access = access(parsed, verb)?;
    let token = access.require_token().map_err(failed(verb))?;
    client(&access, Some(token), verb)
}

/// An error of the client, with the way out.
pub fn failed(verb: &'static str) -> impl Fn(client::Error) -> Error {
    move |error| Error::Failed { verb, what: error.to_string(), fix: error.fix() }
}
