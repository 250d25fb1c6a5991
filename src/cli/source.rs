//! Where reading verbs read: a database on this machine, or a broker.
use super::error::Error;
use super::flags::{Flag, Parsed};
use super::{broker, traces};
use crate::client::Client;

/// The options of all verbs that read.
pub const FLAGS: &[Flag] = &[
    traces::DB,
    Flag::value("url", "URL", "Read from the broker at URL instead"),
    Flag::value("token", "TOKEN", "The broker's token; better AC7_TOKEN, as other users see arguments"),
    Flag::value("ca-cert", "FILE", "Trust the PEM certificates in FILE too").or("$AC7_CA_CERT"),
];

/// What is read.
pub enum Source {
    Database(traces::Database),
    Broker(Client),
}

/// The source that [`FLAGS`] name: the local database, unless `--url` says otherwise.
///
/// # Errors
/// Options that contradict each other, a broker that cannot be used, no place for a database.
pub fn of(parsed: &Parsed, verb: &'static str) -> Result<Source, Error> {
    if parsed.has("url") {
        if parsed.has("db") {
            return Err(parsed.conflict("url", "db"));
        }
        return broker::connect(parsed, verb).map(Source::Broker);
    }
    if parsed.has("token") {
        let why = "--token says nothing without a broker".to_string();
        return Err(Error::Refused { verb, why, fix: "--url URL" });
    }
    traces::database(parsed, verb).map(Source::Database)
}
