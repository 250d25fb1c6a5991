//! The tests' mock of the model providers as a program: for `make demo`, and to run agents against by hand.
//!
//! It writes the certificate authority to trust as `ca.pem` into the directory given, says which port it has, and
//! serves until it is killed.
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::Arg::{Long, Value};
use lexopt::{Parser, ValueExt};
use support::mock::{CONFLICTING_LENGTHS, Fault, GARBAGE, Mock, Options};
use support::tls::Leaf;

const USAGE: &str = "\
usage: mock-upstream DIRECTORY [options]

  --port N             listen on 127.0.0.1:N, default any free port
  --plain              HTTP without TLS
  --leaf KIND          certificate: good, expired, wrong-name
  --encoding NAME      of answers: identity, gzip, deflate
  --chunk N            bytes of an HTTP chunk in streams, default an event each
  --first-delay-ms N   before the first event of a stream
  --delay-ms N         after every event
  --tool NAME=JSON     call this tool, if it is offered; with --tool-always in any case
  --turns N            go on calling it for N answers
  --fail STATUS:COUNT  answer the first COUNT model calls with STATUS
  --overloaded         end the first stream with an error event
  --cut-after N        end the connection after N events of a stream
  --close              close the connection after every answer
  --fault KIND         reset, silent, no-answer, early-answer, garbage, conflicting-lengths";

fn main() -> ExitCode {
    match parse(Parser::from_env()) {
        Ok(options) => {
            let mock = Mock::start(options);
            println!("listening on 127.0.0.1:{}", mock.port);
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("mock-upstream: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut args: Parser) -> Result<Options, Box<dyn Error>> {
    let mut options = Options::default();
    while let Some(arg) = args.next()? {
        match arg {
            Value(folder) if options.folder.is_none() => options.folder = Some(PathBuf::from(folder)),
            Long("port") => options.port = args.value()?.parse()?,
            Long("plain") => options.plain = true,
            Long("leaf") => options.leaf = args.value()?.parse_with(leaf)?,
            Long("encoding") => {
                options.coding =
                    args.value()?.parse_with(|name| name.parse().map_err(|()| "unknown coding"))?;
            }
            Long("chunk") => options.chunk = args.value()?.parse()?,
            Long("first-delay-ms") => options.first_delay = args.value()?.parse_with(milliseconds)?,
            Long("delay-ms") => options.delay = args.value()?.parse_with(milliseconds)?,
            Long("tool") => options.tool = Some(args.value()?.parse_with(|text| pair(text, '='))?),
            Long("tool-always") => options.tool_always = true,
            Long("turns") => options.turns = args.value()?.parse()?,
            Long("fail") => {
                let (status, count) = args.value()?.parse_with(|text| pair(text, ':'))?;
                options.fail = Some((status.parse()?, count.parse()?));
            }
            Long("overloaded") => options.overloaded = true,
            Long("cut-after") => options.cut_after = Some(args.value()?.parse()?),
            Long("close") => options.close = true,
            Long("fault") => options.fault = args.value()?.parse_with(fault)?,
            other => return Err(other.unexpected().into()),
        }
    }
    if options.folder.is_none() {
        return Err("no directory given".into());
    }
    Ok(options)
}

fn leaf(name: &str) -> Result<Leaf, &'static str> {
    match name {
        "good" => Ok(Leaf::Good),
        "expired" => Ok(Leaf::Expired),
        "wrong-name" => Ok(Leaf::WrongName),
        _ => Err("unknown kind of certificate"),
    }
}

fn fault(name: &str) -> Result<Fault, &'static str> {
    match name {
        "reset" => Ok(Fault::Reset),
        "silent" => Ok(Fault::Silent),
        "no-answer" => Ok(Fault::NoAnswer),
        "early-answer" => Ok(Fault::EarlyAnswer),
        "garbage" => Ok(Fault::Raw(GARBAGE.to_vec())),
        "conflicting-lengths" => Ok(Fault::Raw(CONFLICTING_LENGTHS.to_vec())),
        _ => Err("unknown kind of fault"),
    }
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

fn pair(text: &str, at: char) -> Result<(String, String), &'static str> {
    text.split_once(at).map(|(a, b)| (a.to_string(), b.to_string())).ok_or("two parts are needed")
}
