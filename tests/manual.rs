//! The manual against the program: every option in its table, its `--help` and its page; pages that are clean mdoc.
#![cfg(test)]
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io::Write};

use ac7::cli::codes::CODES;
use ac7::cli::flags::Flag;
use ac7::cli::{VERBS, Verb, help, manual, mdoc};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man")
}

/// Pages by name, each with the verbs that it describes.
fn pages() -> BTreeMap<&'static str, (String, Vec<&'static Verb>)> {
    let mut pages = BTreeMap::new();
    for verb in VERBS {
        pages.entry(verb.page).or_insert_with(|| (source(verb.page), Vec::new())).1.push(*verb);
    }
    pages
}

fn source(name: &str) -> String {
    manual::page(name).unwrap_or_else(|| panic!("no page {name}"))
}

/// Every page, also those about no verb.
fn all_pages() -> BTreeMap<&'static str, String> {
    let mut all: BTreeMap<_, _> = pages().into_iter().map(|(name, (source, _))| (name, source)).collect();
    all.extend(help::PAGES.iter().map(|(_, page)| (*page, source(page))));
    all
}

fn flags(verbs: &[&'static Verb]) -> Vec<&'static Flag> {
    verbs.iter().flat_map(|verb| verb.flags.iter().flat_map(|table| table.iter())).collect()
}

/// Long options that a line of mdoc names: `Fl -db` is `--db`.
fn options(line: &str) -> impl Iterator<Item = &str> {
    let mut words = line.split(' ');
    std::iter::from_fn(move || {
        while let Some(word) = words.next() {
            if word == "Fl" || word == ".Fl" {
                let name = words.next().and_then(|w| w.strip_prefix('-')).filter(|n| !n.is_empty());
                if name.is_some() {
                    return name;
                }
            }
        }
        None
    })
}

fn section<'a>(source: &'a str, title: &str) -> &'a str {
    let start = source.find(&format!(".Sh {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    let rest = &source[start + 4..];
    &rest[..rest.find(".Sh ").unwrap_or(rest.len())]
}

#[test]
fn tables_pages_and_help_name_the_same_options() {
    let all: BTreeSet<&str> = VERBS.iter().flat_map(|v| flags(&[v])).map(|f| f.name).collect();
    for (page, (source, verbs)) in pages() {
        let table: BTreeSet<&str> = flags(&verbs).iter().map(|f| f.name).collect();
        let general = BTreeSet::from(["help", "version"]);
        let described: BTreeSet<&str> =
            source.lines().filter(|l| l.starts_with(".It Fl")).flat_map(options).collect();
        let wanted = if page == "ac7" { &general } else { &table };
        assert_eq!(&described, wanted, "{page}: options that the page describes");
        let synopsis: BTreeSet<&str> = section(&source, "SYNOPSIS").lines().flat_map(options).collect();
        assert_eq!(&synopsis, wanted, "{page}: options in the synopsis");
        for name in source.lines().flat_map(options) {
            assert!(all.contains(name) || general.contains(name), "{page} mentions --{name}");
        }
    }
    for verb in VERBS {
        let text = help::text_of(verb, 100);
        let shown: BTreeSet<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("  --"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        let table: BTreeSet<&str> = flags(&[verb]).iter().map(|f| f.name).collect();
        assert_eq!(shown, table, "{}: options in --help", verb.name);
    }
}

#[test]
fn every_default_and_repetition_stands_in_the_page() {
    for (page, (source, verbs)) in pages() {
        for flag in flags(&verbs) {
            let items: Vec<&str> = source.split("\n.It ").collect();
            let head = format!("Fl -{}", flag.name);
            let item = items
                .iter()
                .find(|i| i.lines().next().is_some_and(|l| l == head || l.starts_with(&format!("{head} "))));
            let item = item.unwrap_or_else(|| panic!("{page}: --{}", flag.name));
            let body = item.split("\n.El").next().unwrap_or_default();
            let (first, rest) = body.split_once('\n').unwrap_or((body, ""));
            let text = mdoc::render(rest, 1000);
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some(default) = flag.default {
                assert!(
                    text.contains(default),
                    "{page}: --{}: default {default} is not in: {text}",
                    flag.name
                );
            }
            assert_eq!(text.contains("May be repeated."), flag.repeatable, "{page}: --{}", flag.name);
            assert_eq!(
                first.split(' ').count() > 2,
                flag.value.is_some(),
                "{page}: --{}: its value",
                flag.name
            );
        }
    }
}

#[test]
fn pages_have_their_sections_in_order() {
    const SECTIONS: [&str; 8] =
        ["NAME", "SYNOPSIS", "DESCRIPTION", "ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO"];
    for (page, (source, _)) in pages() {
        let found: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix(".Sh ")).collect();
        assert_eq!(found, SECTIONS, "{page}");
    }
}

#[test]
fn verbs_and_pages_belong_together() {
    let files: BTreeMap<String, String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    let known = all_pages();
    assert_eq!(
        files.keys().map(String::as_str).collect::<Vec<_>>(),
        known.keys().copied().collect::<Vec<_>>()
    );
    for (name, source) in &known {
        assert!(files[*name] == *source, "{name}: the embedded page is another one");
        for line in source.lines().filter(|line| line.starts_with(".Xr ac7")) {
            let page = line.split(' ').nth(1).unwrap();
            assert!(known.contains_key(page), "{name} refers to {page}");
        }
    }
    let first = &known["ac7"];
    for verb in VERBS.iter().filter(|verb| !verb.name.contains(' ')) {
        assert!(first.contains(&format!("\n.It Cm {}\n", verb.name)), "ac7.1 does not list {}", verb.name);
        for page in verb.see_also {
            let name = page.split('(').next().unwrap();
            assert!(known.contains_key(name), "{}: see also {page}", verb.name);
        }
    }
}

#[test]
fn no_page_leaves_a_macro_in_the_text() {
    for (name, source) in all_pages() {
        let text = mdoc::render(&source, 80);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
            assert!(!line.contains('\\') && !line.starts_with('.'), "{name}: {line}");
        }
        assert!(text.is_ascii(), "{name}");
    }
}

/// With mandoc at hand: no warnings, and our own rendering has the same words in the same order.
/// The Rust source below `folder`, but for the table of codes itself.
fn rust(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("cli/codes.rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_code_is_of_something_that_ac7_says() {
    let mut source = String::new();
    rust(&directory().with_file_name("src"), &mut source);
    for (code, says) in CODES {
        // What stands behind these is put in; other tests see those codes.
        let said = says.trim_start_matches("cannot ").trim_end_matches(": ");
        let put_in =
            ["--fail-on ", "the broker answered ", "event"].iter().any(|begin| says.starts_with(begin));
        let said = put_in || source.contains(said);
        assert!(said, "nothing says {says:?}, of [{code}]");
    }
}

#[test]
fn mandoc_agrees() {
    for entry in fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let mandoc = |options: &[&str]| Command::new("mandoc").args(options).arg(&path).output();
        let Ok(lint) = mandoc(&["-Tlint", "-W", "warning"]) else {
            let _ = writeln!(std::io::stderr(), "mandoc is not installed: its checks are left out");
            return;
        };
        assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
        let theirs = String::from_utf8(mandoc(&["-Tascii", "-Owidth=1000"]).unwrap().stdout).unwrap();
        let theirs = without_overstrike(&theirs);
        let lines: Vec<&str> = theirs.lines().collect();
        let body = lines[1..lines.len() - 1].join("\n"); // but for the header and the footer
        let ours = mdoc::render(&fs::read_to_string(&path).unwrap(), 80);
        let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let (ours, theirs) = (words(&ours), words(&body));
        let differ = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        let near =
            |list: &[String], at: usize| list[at.saturating_sub(5)..(at + 5).min(list.len())].join(" ");
        let show = differ.map(|at| (near(&ours, at), near(&theirs, at)));
        assert_eq!(show, None, "{}", path.display());
        assert_eq!(ours.len(), theirs.len(), "{}", path.display());
    }
}

/// Bold and underlined letters are printed twice, with a backspace between.
fn without_overstrike(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c == '\u{8}' {
            out.pop();
        } else {
            out.push(c);
        }
    }
    out
}

#[test]
fn help_shows_the_embedded_page_off_a_terminal() {
    for (page, (source, verbs)) in pages() {
        let verb = verbs[0].name;
        let words: &[&str] = if page == "ac7" { &["help"] } else { &["help", verb] };
        let out = Command::new(env!("CARGO_BIN_EXE_ac7")).args(words).stdin(Stdio::null()).output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{page}");
        assert_eq!(String::from_utf8(out.stdout).unwrap(), mdoc::render(&source, 80), "{page}");
    }
}
