//! `ac7 view`: the page for the local database, on the loopback.
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, Verb, terminal, traces, usage};
use crate::broker;
use crate::sys::{file, random, umask};

pub const VERB: Verb = Verb {
    name: "view",
    group: Group::Read,
    summary: "Read recorded calls in the browser",
    operands: Operands::None,
    flags: &[&[
        traces::DB,
        Flag::value("port", "PORT", "Where to listen on the loopback; 0 is any free one").or("0"),
        Flag::switch("no-open", "Print the address only, open no browser"),
    ]],
    examples: &[
        ("ac7 view", "open the page for what was recorded here"),
        ("ac7 view --db other.db --no-open", "print its address"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-view(1)", "ac7-traces(1)", "ac7-export(1)"],
    page: "ac7-view",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let db = traces::database(parsed, VERB.name)?;
    if !db.is_usual() && !db.path().exists() {
        let what = format!("no such database: {}", terminal::path(db.path()));
        return Err(Error::Failed { verb: VERB.name, what, fix: None });
    }
    let port = parsed.read("port", "it is not a number from 0 to 65535", |text| text.parse().ok())?;
    let prices = usage::prices(parsed, VERB.name)?.0;
    let mut opened = None;
    let wanted = !parsed.has("no-open") && terminal::is_terminal();
    let ready = |url: &str| {
        // For programs and for people alike: the address alone on a line of standard output.
        let _ = terminal::page(&format!("{url}\n"), false);
        terminal::say("ac7 view: the address opens once; ^C ends");
        opened = if wanted { Opened::open(url) } else { None };
    };
    let shown = terminal::path(db.path());
    broker::view(db.path(), &shown, port.unwrap_or(0), prices, ready).map_err(|error| Error::Failed {
        verb: VERB.name,
        what: error.to_string(),
        fix: matches!(error, broker::Error::Listen { .. }).then(|| "another port with --port".to_string()),
    })?;
    drop(opened);
    Ok(0)
}

/// A private file that leads the browser to the address: on a command line everybody could read the token. Dropping it
/// removes it.
struct Opened(PathBuf);

impl Opened {
    /// Ask the desktop to open `url`. `None` where there is none to ask; the address was printed anyway.
    fn open(url: &str) -> Option<Opened> {
        let opener = if cfg!(target_os = "macos") {
            "open"
        } else {
            ["WAYLAND_DISPLAY", "DISPLAY"].iter().find_map(env::var_os)?;
            "xdg-open"
        };
        let opened = Opened(env::temp_dir().join(format!("ac7-view-{}.html", random::hex::<8>())));
        let mut page = String::from("<!doctype html><meta name=\"referrer\" content=\"no-referrer\">");
        let _ = write!(page, "<meta http-equiv=\"refresh\" content=\"0;url={url}\">");
        file::write_atomic(&opened.0, page.as_bytes()).ok()?;
        let mut command = Command::new(opener);
        command.arg(&opened.0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        umask::lent(|| command.spawn()).ok().map(|_| opened)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // it opens nothing any more
    }
}
