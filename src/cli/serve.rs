//! `ac7 serve`: the broker.
use std::io::ErrorKind;
use std::path::PathBuf;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Environment, Group, SUCCESS_OR_FAILURE, Verb, environment};
use crate::broker::{self, ServeOptions};

pub const VERB: Verb = Verb {
    name: "serve",
    group: Group::Operate,
    summary: "Run the broker that a team shares",
    operands: Operands::None,
    flags: &[&[
        Flag::value("host", "ADDRESS", "Where to listen; else $AC7_HOST").or("127.0.0.1"),
        Flag::value("port", "PORT", "Where to listen; else $AC7_PORT; 0 is any free one").or("8717"),
        Flag::value("db", "PATH", "The main database; else $AC7_DB_PATH").or("./ac7.db"),
        Flag::value("activity-db", "PATH", "The activity database; else $AC7_ACTIVITY_DB_PATH")
            .or("./ac7-activity.db"),
        Flag::value("tls", "self-signed", "Serve HTTPS with a certificate made here"),
        Flag::value("config-path", "PATH", "The team file; else $AC7_CONFIG_PATH").or("./ac7.json"),
    ]],
    examples: &[
        ("ac7 serve", "serve this machine alone"),
        ("ac7 serve --host 0.0.0.0 --tls self-signed", "serve the network"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-serve(8)", "ac7-setup(8)"],
    page: "ac7-serve",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    broker::serve(options(parsed, &environment)?).map_err(|error| Error::Failed {
        verb: VERB.name,
        fix: fix(&error),
        what: error.to_string(),
    })?;
    Ok(0)
}

fn fix(error: &broker::Error) -> Option<String> {
    match error {
        broker::Error::Listen { error, .. } => Some(match error.kind() {
            ErrorKind::AddrInUse => "another port with --port or AC7_PORT".to_string(),
            ErrorKind::PermissionDenied => "a port from 1024 on with --port or AC7_PORT".to_string(),
            _ => "an address of this machine with --host or AC7_HOST".to_string(),
        }),
        _ => None,
    }
}

/// An option wins over its variable.
fn options(parsed: &Parsed, env: Environment) -> Result<ServeOptions, Error> {
    let why = "it is not a number from 0 to 65535";
    let port = match parsed.read("port", why, |text| text.parse().ok())? {
        Some(port) => Some(port),
        None => env("AC7_PORT")
            .map(|value| {
                let bad = Error::BadVariable { verb: VERB.name, name: "AC7_PORT", value: value.clone(), why };
                value.parse().map_err(|_| bad)
            })
            .transpose()?,
    };
    let ours = |text: &str| (text == "self-signed").then_some(());
    let tls = parsed.read("tls", "it is not self-signed; others are named by https in ac7.json", ours)?;
    let path = |flag: &'static str, name| parsed.path(flag).or_else(|| env(name).map(PathBuf::from));
    Ok(ServeOptions {
        host: parsed.text("host")?.or_else(|| env("AC7_HOST")),
        port,
        config_path: path("config-path", "AC7_CONFIG_PATH").unwrap_or_else(|| "./ac7.json".into()),
        db: path("db", "AC7_DB_PATH").unwrap_or_else(|| "./ac7.db".into()),
        self_signed: tls.is_some(),
        activity_db: path("activity-db", "AC7_ACTIVITY_DB_PATH"),
    })
}

/// The main and the activity database that `ac7 serve` would use with the same options.
#[must_use]
pub fn databases(parsed: &Parsed, env: Environment) -> (PathBuf, PathBuf) {
    // Besides its databases only the port of a broker can be wrong, and it does not matter here.
    let no_port = |name: &str| env(name).filter(|_| name != "AC7_PORT");
    let options = options(parsed, &no_port);
    options.map_or_else(|_| Default::default(), |options| (options.db.clone(), options.activity_db()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::cli::flags;

    fn read(line: &str, env: &[(&str, &str)]) -> Result<ServeOptions, Error> {
        let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words)?;
        options(&parsed, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string()))
    }

    #[test]
    fn options_over_variables_over_defaults() {
        let env = [
            ("AC7_HOST", "::1"),
            ("AC7_PORT", "1"),
            ("AC7_DB_PATH", "e/main.db"),
            ("AC7_CONFIG_PATH", "e/team.json"),
        ];
        let seen =
            |o: ServeOptions| (o.host.clone(), o.port, o.config_path.clone(), o.db.clone(), o.activity_db());
        let (host, path) = (|h: &str| Some(h.to_string()), |p: &str| PathBuf::from(p));
        let line = "--host h --port 2 --db o.db --activity-db oa.db --config-path o.json";
        let want = (host("h"), Some(2), path("o.json"), path("o.db"), path("oa.db"));
        assert_eq!(seen(read(line, &env).unwrap()), want);
        let want = (host("::1"), Some(1), path("e/team.json"), path("e/main.db"), path("e/main-activity.db"));
        assert_eq!(seen(read("", &env).unwrap()), want);
        let want = (None, None, path("./ac7.json"), path("./ac7.db"), path("./ac7-activity.db"));
        assert_eq!(seen(read("", &[]).unwrap()), want);
    }

    #[test]
    fn what_is_none_of_a_few_words_is_refused() {
        assert!(read("--tls self-signed", &[]).unwrap().self_signed);
        let error = read("--tls x.pem", &[]).unwrap_err().to_string();
        let want =
            "ac7 serve: bad --tls: x.pem: it is not self-signed; others are named by https in ac7.json";
        assert_eq!(error, want);
    }

    #[test]
    fn the_way_out_fits_what_is_wrong_with_the_address() {
        for (kind, want) in [
            (ErrorKind::AddrInUse, "another port"),
            (ErrorKind::PermissionDenied, "a port from 1024 on"),
            (ErrorKind::AddrNotAvailable, "an address of this machine"),
            (ErrorKind::Other, "an address of this machine"), // a name without an address
        ] {
            let error = broker::Error::Listen { host: "h".into(), port: 1, error: kind.into() };
            assert!(fix(&error).unwrap().starts_with(want), "{kind}");
        }
    }

    #[test]
    fn a_port_is_a_number() {
        for (line, env, want) in [
            ("--port 65536", "1", "ac7 serve: bad --port: 65536: it is not a number from 0 to 65535"),
            ("", "http", "ac7 serve: bad AC7_PORT: http: it is not a number from 0 to 65535"),
        ] {
            let error = read(line, &[("AC7_PORT", env)]).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.code()), (want, 2));
        }
    }
}
