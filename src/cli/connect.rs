//! `ac7 connect`: a token for this device.
use std::io::{self, IsTerminal, Write};
use std::path;
use std::time::{Duration, Instant};

use super::codes::coded;
use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, Verb, broker, format, qr, terminal, text};
use crate::client::{Asked, Client, Login, Logins, SLOWER, Told, auth};
use crate::sys::clock::now_ms;
use crate::sys::interrupt::Interrupt;
use crate::sys::user;

/// The most characters of a label.
const LABEL: usize = 64;
/// How often ^C is looked for.
const GLANCE: Duration = Duration::from_millis(50);

pub const VERB: Verb = Verb {
    name: "connect",
    group: Group::Team,
    summary: "Get a token for this device from a broker",
    operands: Operands::None,
    flags: &[
        &[
            Flag::value("label", "TEXT", "How the token is listed")
                .or("the login name, @ and the host's name"),
            Flag::switch("no-write", "Print the token instead of saving it"),
            Flag::switch("quiet", "Say the code and its page, and what fails"),
        ],
        broker::PLACE,
    ],
    examples: &[
        ("ac7 connect --url https://ac7.example.org", "show a code, wait until somebody approves it"),
        ("AC7_TOKEN=$(ac7 connect --no-write)", "a token that is saved nowhere"),
    ],
    exits: &[
        ("0", "there is a token, and it works"),
        ("1", "it failed, was refused, or nobody approved it in time"),
        ("2", "the command line makes no sense"),
        ("128+N", "ended by signal N (130 for ^C)"),
    ],
    see_also: &["ac7-connect(1)", "ac7-enroll-requests(8)"],
    page: "ac7-connect",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let (verb, quiet) = (VERB.name, parsed.has("quiet"));
    let label = label(parsed)?;
    let access = broker::access(parsed, verb)?;
    // Before anybody is asked: a token that cannot be kept would be in vain.
    let logins = if parsed.has("no-write") { None } else { Some(logins()?) };
    let client = broker::client(&access, None, verb)?;
    let asked = client.ask_to_enrol(&label).map_err(broker::failed(verb))?;
    let interrupt = Interrupt::listen().map_err(|e| Error::failed(verb, e))?;
    show(&asked, quiet);
    let Some(token) = wait(&client, &asked, &interrupt)? else {
        terminal::say(format_args!("ac7 {verb}: interrupted; there is no token"));
        return Ok(interrupt.code());
    };
    // The token first: it is given once.
    match &logins {
        None => writeln!(io::stdout(), "{token}")?,
        Some(logins) => save(logins, &access, &token)?,
    }
    let briefing = broker::client(&access, Some(&token), verb)?.briefing().map_err(broker::failed(verb))?;
    if !quiet {
        let shown = |value: &serde_json::Value| text::line(value.as_str().unwrap_or("?"), terminal::utf8());
        let (role, team) = (shown(&briefing.raw["role"]["title"]), shown(&briefing.raw["team"]["name"]));
        let place =
            logins.map_or_else(String::new, |l| format!("; the token is in {}", terminal::path(l.path())));
        terminal::say(format_args!("ac7 {verb}: this device is {} ({role}) of {team}{place}", briefing.name));
    }
    Ok(0)
}

fn label(parsed: &Parsed) -> Result<String, Error> {
    let fits = |text: &str| {
        let good = text.chars().count() <= LABEL && !text.chars().any(char::is_control);
        good.then(|| text.to_string())
    };
    let given = parsed.read("label", "it is longer than 64 characters or holds control characters", fits)?;
    Ok(given.unwrap_or_else(|| user::at_host().chars().take(LABEL).collect()))
}

fn logins() -> Result<Logins, Error> {
    Logins::open().map_err(|error| Error::Failed {
        verb: VERB.name,
        what: error.to_string(),
        fix: Some("--no-write prints the token instead".to_string()),
    })
}

/// Say where to go with which code.
fn show(asked: &Asked, quiet: bool) {
    let utf8 = terminal::utf8();
    let (page, code) = (text::line(&asked.page, utf8), text::line(&asked.user_code, utf8));
    if quiet {
        return terminal::say(format_args!("{code} {page}"));
    }
    terminal::say(format_args!("ac7 {}: to let this device in, open\n\n  {page}\n", VERB.name));
    if io::stderr().is_terminal()
        && let Some(drawn) = qr::draw(&page, utf8, false)
    {
        terminal::say(drawn);
    }
    let lasts = format::duration(u64::try_from(asked.lasts.as_millis()).unwrap_or(u64::MAX));
    terminal::say(format_args!(
        "or have somebody who manages members type\n\n  ac7 enroll-requests approve {code} --member NAME\n\n\
         The code is {code} and lasts {lasts}."
    ));
}

/// Ask until there is a token; `None` if a signal was faster.
fn wait(client: &Client, asked: &Asked, interrupt: &Interrupt) -> Result<Option<String>, Error> {
    let verb = VERB.name;
    let over =
        |what: &str| Error::Failed { verb, what: what.to_string(), fix: Some("ac7 connect".to_string()) };
    // The broker knows better when it is over; this is for one that does not answer any more.
    let until = Instant::now() + asked.lasts + asked.interval;
    let (mut interval, mut silent) = (asked.interval, false);
    loop {
        let next = Instant::now() + interval;
        while Instant::now() < next {
            if interrupt.came() {
                return Ok(None);
            }
            std::thread::sleep(GLANCE);
        }
        match client.poll_enrolment(&asked.device_code) {
            Ok(Told::Pending) => silent = false,
            Ok(Told::SlowDown) => interval += SLOWER,
            // It may be printed as it is: then it must be no more than a token.
            Ok(Told::Token(token)) if token.bytes().all(|b| b.is_ascii_graphic()) => return Ok(Some(token)),
            Ok(Told::Token(_)) => return Err(Error::failed(verb, "what the broker gave is no token")),
            Ok(Told::Expired) => return Err(over("nobody approved this device in time")),
            Ok(Told::Denied { reason: None }) => return Err(Error::failed(verb, "this device was rejected")),
            Ok(Told::Denied { reason: Some(reason) }) => {
                let reason = text::line(&reason, terminal::utf8());
                return Err(Error::failed(verb, format_args!("this device was rejected: {reason}")));
            }
            Err(error) if Instant::now() >= until => return Err(broker::failed(verb)(error)),
            Err(error) => {
                if !silent {
                    terminal::say(coded(&format!("ac7 {verb}: {error}; asking on")));
                }
                silent = true;
            }
        }
        if Instant::now() >= until {
            return Err(over("nobody approved this device in time"));
        }
    }
}

fn save(logins: &Logins, access: &auth::Access, token: &str) -> Result<(), Error> {
    let ca_cert = access.ca_cert.as_deref().map(path::absolute).transpose();
    let ca_cert = ca_cert.map_err(|e| Error::failed(VERB.name, e))?;
    let login = Login { url: &access.url, token, ca_cert: ca_cert.as_deref(), saved_at: now_ms() };
    logins.save(&login).map_err(broker::failed(VERB.name))
}
