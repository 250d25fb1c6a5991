//! `ac7 run`: a command under capture.
use crate::capture::scope::Scope;
use crate::runner::{self, options::RunOptions};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::summary::Talk;
use super::{Environment, Group, Verb, capture, environment};

const CAPTURE: &[Flag] = &capture::table("all");

pub const VERB: Verb = Verb {
    name: "run",
    group: Group::Capture,
    summary: "Run a command and record its model calls",
    operands: Operands::Command,
    flags: &[capture::DESTINATION, CAPTURE, capture::TALK],
    examples: &[
        ("ac7 run -- claude -p 'hello'", "record what Claude Code says and hears"),
        ("ac7 run --output trace.jsonl --fail-on dropped -- make", "in CI: a file, and no lost events"),
    ],
    exits: &[
        ("N", "the command's own status; 128+N if signal N ended it"),
        ("127", "the command was not found; 126, it cannot be executed"),
        ("3", "the command succeeded, and what --fail-on names has happened"),
        ("1", "ac7 itself failed"),
        ("2", "the command line makes no sense"),
    ],
    see_also: &["ac7(1)", "ac7-traces(1)"],
    page: "ac7-run",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let options = options(parsed, &environment)?;
    let talk = Talk::open(parsed, VERB.name)?;
    let outcome = runner::run(&options).map_err(|why| failed(VERB.name, &why))?;
    Ok(talk.tell(&outcome))
}

/// A session that did not come to be.
pub(super) fn failed(verb: &'static str, why: &runner::Error) -> Error {
    Error::Run { verb, code: why.code(), what: why.to_string(), fix: why.fix() }
}

/// What was typed, checked.
fn options(parsed: &Parsed, env: Environment) -> Result<RunOptions, Error> {
    Ok(RunOptions {
        command: parsed.operands.clone(),
        destination: capture::destination(parsed, env)?,
        capture: capture::options(parsed, env, Scope::All)?,
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::PathBuf;

    use super::*;
    use crate::capture::dial::ConnectTo;
    use crate::capture::scope::HostPattern;
    use crate::cli::flags;
    use crate::runner::options::{Destination, ProxyChoice};

    /// `line` is split at spaces; `env` is `NAME=value` pairs.
    fn read(line: &str, env: &[(&str, &str)]) -> Result<RunOptions, Error> {
        let words = line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect();
        let parsed = flags::parse(VERB.name, VERB.flags, VERB.operands, words)?;
        options(&parsed, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string()))
    }

    #[test]
    fn nothing_said_means_everything_here() {
        let options = read("-- true", &[]).unwrap();
        assert_eq!(options.destination, Destination::Local { db: None });
        assert_eq!(options.command, [OsString::from("true")]);
        let capture = options.capture.unwrap();
        assert_eq!((capture.scope, capture.upstream_proxy), (Scope::All, ProxyChoice::Environment));
    }

    #[test]
    fn events_go_to_a_broker_only_if_told() {
        let local = |db: Option<&str>| Destination::Local { db: db.map(PathBuf::from) };
        let broker = |url: &str, token: Option<&str>| Destination::Broker {
            url: url.to_string(),
            token: token.map(str::to_string),
        };
        let default = "http://127.0.0.1:8717";
        for (line, env, want) in [
            ("--db f", &[][..], local(Some("f"))),
            ("--url http://h:1", &[], broker("http://h:1", None)),
            ("--token t", &[], broker(default, Some("t"))),
            ("", &[("AC7_URL", "https://e")], broker("https://e", None)),
            ("", &[("AC7_TOKEN", "e")], broker(default, Some("e"))),
            ("--url http://h", &[("AC7_URL", "http://e"), ("AC7_TOKEN", "e")], broker("http://h", Some("e"))),
            ("--local", &[("AC7_URL", "http://e")], local(None)),
            ("--db f", &[("AC7_TOKEN", "e")], local(Some("f"))),
            ("--local --db f", &[], local(Some("f"))),
            ("--output o", &[("AC7_URL", "http://e")], Destination::File { path: "o".into() }),
            ("--local --output o", &[], Destination::File { path: "o".into() }),
        ] {
            assert_eq!(read(&format!("{line} -- x"), env).unwrap().destination, want, "{line}");
        }
    }

    #[test]
    fn everything_said_is_heard() {
        let line = "--scope model --trace-host LLM.corp --trace-only a.b --trace-only [::1] --trace-skip *.c.d \
                    --connect-to H:443:127.0.0.1:9 --connect-to ::[::1]: --ca-cert c.pem --redact-pattern corp_ --retain 3 \
                    --upstream-proxy none --quiet --json prog --flag";
        let options = read(line, &[("AC7_CA_CERT", "e.pem")]).unwrap();
        assert_eq!(options.command, ["prog", "--flag"].map(OsString::from));
        let capture = options.capture.unwrap();
        let hosts = |names: &[&str]| names.iter().map(|n| HostPattern::new(n)).collect::<Vec<_>>();
        assert_eq!(capture.scope, Scope::Model);
        assert_eq!(capture.trace_hosts, hosts(&["llm.corp"]));
        assert_eq!(capture.trace_only, hosts(&["a.b", "::1"]));
        assert_eq!(capture.trace_skip, hosts(&["c.d"]));
        let text = |s: &str| Some(s.to_string());
        assert_eq!(
            capture.connect_to,
            [
                ConnectTo { host: text("h"), port: Some(443), to_host: text("127.0.0.1"), to_port: Some(9) },
                ConnectTo { host: None, port: None, to_host: text("::1"), to_port: None },
            ]
        );
        assert_eq!(capture.ca_cert, Some(PathBuf::from("c.pem")), "the option wins over the variable");
        assert_eq!(capture.upstream_proxy, ProxyChoice::Direct);
        assert_eq!((capture.redact_patterns, capture.retain), (vec!["corp_".to_string()], Some(3 << 20)));
        let proxy = read("--upstream-proxy http://u:secret@proxy:3128 x", &[]).unwrap();
        assert!(!format!("{proxy:?}").contains("secret"));
        assert!(matches!(proxy.capture.unwrap().upstream_proxy, ProxyChoice::Url(p) if p.port == 3128));
        assert_eq!(read("--no-trace x", &[]).unwrap().capture, None);
        let from_variable = read("x", &[("AC7_CA_CERT", "e.pem")]).unwrap().capture.unwrap().ca_cert;
        assert_eq!(from_variable, Some(PathBuf::from("e.pem")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, want) in [
            ("", "ac7 run: no command given"),
            ("--local --url http://h -- x", "ac7 run: --local and --url exclude each other"),
            ("--db f --token t -- x", "ac7 run: --db and --token exclude each other"),
            ("--output o --url http://h -- x", "ac7 run: --output and --url exclude each other"),
            ("--output o --db f -- x", "ac7 run: --output and --db exclude each other"),
            ("--output o --no-trace -- x", "ac7 run: --output and --no-trace exclude each other"),
            ("--output - -- x", "ac7 run: bad --output: -: standard output is the command's"),
            ("--output= -- x", "ac7 run: --output needs a value: FILE"),
            ("--scope some -- x", "ac7 run: bad --scope: some: it is not agent, all or model"),
            ("--url h:1 -- x", "ac7 run: bad --url: h:1: it is not http:// or https:// with a host"),
            ("--url http:// -- x", "ac7 run: bad --url: "),
            ("--url http://user@h -- x", "ac7 run: bad --url: "),
            ("--trace-host https://h -- x", "ac7 run: bad --trace-host: https://h: it is not a host name"),
            (
                "--trace-only h:443 -- x",
                "ac7 run: bad --trace-only: h:443: it is not a host name or an address",
            ),
            ("--connect-to a:1:b -- x", "ac7 run: bad --connect-to: a:1:b: it is not HOST:PORT:HOST2:PORT2"),
            ("--connect-to a:1:b:0 -- x", "ac7 run: bad --connect-to: "),
            ("--connect-to a:1:b:2:c -- x", "ac7 run: bad --connect-to: "),
            ("--connect-to [::1]x:1:b:2 -- x", "ac7 run: bad --connect-to: "),
            ("--retain 0 -- x", "ac7 run: bad --retain: 0: it is not a whole number"),
            ("--redact-pattern ab -- x", "ac7 run: bad --redact-pattern: ab: it is not 3 to 64"),
            (
                "--upstream-proxy socks5://u:secret@h -- x",
                "ac7 run: bad --upstream-proxy: it is neither none nor",
            ),
            ("--no-trace --scope some -- x", "ac7 run: bad --scope: "),
        ] {
            let error = read(line, &[]).unwrap_err();
            assert!(error.to_string().starts_with(want), "{line}: {error}");
            assert!(!error.to_string().contains("secret"), "{line}: {error}");
            assert_eq!(error.code(), 2, "{line}");
        }
        let error = read("--token=a\tb -- x", &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("ac7 run: bad --token: it is empty") && !error.contains("a\\tb"),
            "{error}"
        );
    }
}
