//! What ac7 says about itself: the overview, a verb's options, the manual.
use std::env;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::error::Error;
use super::flags::{Flag, Operands, Parsed, nearest};
use super::terminal::{self, Screen};
use super::{Group, SUCCESS_OR_FAILURE, VERBS, Verb, codes, manual, mdoc, text};

pub const VERB: Verb = Verb {
    name: "help",
    group: Group::Help,
    summary: "Show the manual page of a verb",
    operands: Operands::Optional("VERB"),
    flags: &[],
    examples: &[
        ("ac7 help run", "everything about ac7 run"),
        ("ac7 help troubleshooting", "what to do when something is wrong"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7(1)"],
    page: FIRST_PAGE,
    run,
};

const FIRST_PAGE: &str = "ac7";

/// Pages about no verb, with the words that `ac7 help` takes for them.
pub const PAGES: &[(&str, &str)] = &[("troubleshooting", "ac7-troubleshooting"), ("ac7.json", "ac7.json")];

/// Print the verbs.
pub fn overview() -> Result<u8, Error> {
    let mut out = "ac7: see what coding agents are told, what they answer, and what they do\n\n\
                   usage: ac7 VERB [OPTION ...]\n\n"
        .to_string();
    for (group, title, purpose) in [
        (Group::Capture, "capture", "run an agent or any other command, record what it does"),
        (Group::Read, "read", "what was recorded, as tables, pages and files"),
        (Group::Team, "team", "who is in the team, what is to do, what is said"),
        (Group::Operate, "operate", "the broker that a team shares, its databases, this machine"),
        (Group::Help, "help", "the manual"),
        (Group::Programs, "programs", "what agents start by themselves"),
    ] {
        let mut words: Vec<&str> = Vec::new();
        for verb in VERBS.iter().filter(|verb| verb.group == group) {
            let word = verb.name.split(' ').next().unwrap_or_default();
            if !words.contains(&word) {
                words.push(word);
            }
        }
        out.push_str(&format!("{title:<9}  {purpose}:\n"));
        for line in text::wrap(&words.join(", "), 68) {
            out.push_str(&format!("{:<13}{line}\n", ""));
        }
    }
    out.push_str(
        "\nBegin with: ac7 run -- COMMAND, then ac7 traces.\n\
         Read on: ac7 VERB --help, ac7 help VERB, ac7 help\n",
    );
    print(&out)
}

/// Print the version.
pub fn version() -> Result<u8, Error> {
    print(&format!("ac7 {}\n", env!("CARGO_PKG_VERSION")))
}

/// Print a verb's options.
pub fn of(verb: &Verb) -> Result<u8, Error> {
    print(&text_of(verb, Screen::stdout().width()))
}

fn print(text: &str) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(0)
}

/// A verb's help in at most `columns` columns, or 60 where there are fewer.
#[must_use]
pub fn text_of(verb: &Verb, columns: usize) -> String {
    let flags: Vec<&Flag> = verb.flags.iter().flat_map(|table| table.iter()).collect();
    let mut out = format!("ac7 {}: {}\n\nusage: {}\n", verb.name, verb.summary, synopsis(verb));
    let typed = |flag: &Flag| match flag.value {
        Some(value) => format!("--{} {value}", flag.name),
        None => format!("--{}", flag.name),
    };
    let mut rows: Vec<(String, String)> = flags.iter().map(|flag| (typed(flag), explained(flag))).collect();
    rows.push(("-h, --help".to_string(), "Show this".to_string()));
    section(&mut out, "options", &rows, columns);
    let rows = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(a, b)| ((*a).to_string(), (*b).to_string())).collect::<Vec<_>>()
    };
    out.push_str("\nexamples:\n");
    for (line, what) in verb.examples {
        out.push_str(&format!("  {line}\n      {what}\n"));
    }
    section(&mut out, "exit status", &rows(verb.exits), columns);
    let page = verb.name.split(' ').next().unwrap_or_default();
    out.push_str(&format!("\nsee also: {}\nmanual:   ac7 help {page}\n", verb.see_also.join(", ")));
    out
}

fn synopsis(verb: &Verb) -> String {
    let options = if verb.flags.iter().all(|table| table.is_empty()) { "" } else { " [OPTION ...]" };
    let operands = match verb.operands {
        Operands::None => String::new(),
        Operands::One(name) => format!(" {name}"),
        Operands::Optional(name) => format!(" [{name}]"),
        Operands::Command => " [--] COMMAND [ARGUMENT ...]".to_string(),
        Operands::Arguments => " [-- ARGUMENT ...]".to_string(),
    };
    format!("ac7 {}{options}{operands}", verb.name)
}

fn explained(flag: &Flag) -> String {
    let again = if flag.repeatable { "; may be repeated" } else { "" };
    let default = flag.default.map(|d| format!(" (default: {d})")).unwrap_or_default();
    format!("{}{again}{default}", flag.help)
}

fn section(out: &mut String, title: &str, rows: &[(String, String)], columns: usize) {
    let left = rows.iter().map(|(name, _)| text::width(name)).max().unwrap_or(0) + 4;
    out.push_str(&format!("\n{title}:\n"));
    for (name, what) in rows {
        let mut margin = format!("  {name}");
        for line in text::wrap(what, columns.max(left + 24) - left) {
            out.push_str(&format!("{}{line}\n", text::pad(&margin, left)));
            margin.clear();
        }
    }
}

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let name = match parsed.operands.first() {
        None => FIRST_PAGE,
        Some(word) => {
            let typed = word.to_string_lossy();
            let named = |verb: &&&Verb| verb.name == typed;
            let begun = |verb: &&&Verb| verb.name.split(' ').next() == Some(&typed);
            let other = PAGES.iter().find(|(word, page)| *word == typed || *page == typed);
            match (VERBS.iter().find(named).or_else(|| VERBS.iter().find(begun)), other) {
                (Some(verb), _) => verb.page,
                (None, Some((_, page))) => *page,
                (None, None) => {
                    let page = manual::page("ac7-troubleshooting").unwrap_or_default();
                    if let Some(entry) = codes::entry(&typed, &page) {
                        terminal::page(&mdoc::render(&entry, Screen::stdout().width().min(80)), true)?;
                        return Ok(0);
                    }
                    let known = VERBS.iter().map(|verb| verb.name).chain(PAGES.iter().map(|(word, _)| *word));
                    let near = nearest(&typed, known);
                    return Err(Error::UnknownVerb { typed: typed.into_owned(), near });
                }
            }
        }
    };
    if terminal::is_terminal() && shown_by_man(name) {
        return Ok(0);
    }
    let source = manual::page(name).unwrap_or_default();
    terminal::page(&mdoc::render(&source, Screen::stdout().width().min(80)), true)?;
    Ok(0)
}

/// Whether man is here, has the page and has shown it.
fn shown_by_man(name: &str) -> bool {
    let on_path = env::var_os("PATH").is_some_and(|path| {
        let executable = |file: std::path::PathBuf| {
            file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        };
        env::split_paths(&path).any(|directory| executable(directory.join("man")))
    });
    let found = |command: &mut Command| {
        command.stderr(std::process::Stdio::null()).output().is_ok_and(|o| o.status.success())
    };
    on_path
        && found(Command::new("man").args(["-w", name]))
        && Command::new("man").arg(name).status().is_ok_and(|s| s.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overview_fits_a_small_terminal() {
        for verb in VERBS {
            let text = text_of(verb, 80);
            let examples = verb.examples.iter().map(|(line, _)| line.len() + 2).max().unwrap_or(0);
            assert!(examples <= 80 && verb.examples.len() == 2, "{}: two examples of a line each", verb.name);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.is_ascii(), "{text}");
            assert!(verb.summary.len() <= 60 && !verb.summary.ends_with('.'), "{}", verb.name);
        }
    }

    #[test]
    fn options_stand_in_one_column() {
        const TABLE: &[Flag] = &[
            Flag::switch("quiet", "Say less"),
            Flag::value(
                "trace-host",
                "HOST",
                "A host that is described at such length that it needs a second line here",
            )
            .many(),
            Flag::value("db", "PATH", "The database").or("./x.db"),
        ];
        let verb = Verb { name: "x", flags: &[TABLE], operands: Operands::One("ID"), ..VERB };
        let text = text_of(&verb, 60);
        let want = "\
usage: ac7 x [OPTION ...] ID

options:
  --quiet            Say less
  --trace-host HOST  A host that is described at such length
                     that it needs a second line here; may
                     be repeated
  --db PATH          The database (default: ./x.db)
  -h, --help         Show this
";
        assert!(text.contains(want), "{text}");
    }
}
