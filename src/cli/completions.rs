//! `ac7 completions`: what a shell needs to complete ac7's words, from the same tables as the help.
use std::fmt::Write as _;
use std::io::{self, Write};

use super::error::Error;
use super::flags::{Flag, Operands, Parsed};
use super::{Group, SUCCESS_OR_FAILURE, VERBS, Verb};

pub const VERB: Verb = Verb {
    name: "completions",
    group: Group::Help,
    summary: "Print a completion script for a shell",
    operands: Operands::One("bash|zsh|fish"),
    flags: &[],
    examples: &[
        ("ac7 completions bash > ~/.local/share/bash-completion/completions/ac7", "for bash"),
        ("ac7 completions fish > ~/.config/fish/completions/ac7.fish", "for fish"),
    ],
    exits: SUCCESS_OR_FAILURE,
    see_also: &["ac7-completions(1)"],
    page: "ac7-completions",
    run,
};

fn run(parsed: &Parsed) -> Result<u8, Error> {
    let shell = parsed.operands.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let Some(script) = script(&shell) else {
        let why = format!("no shell that is known: {}", shell.escape_default());
        return Err(Error::Refused { verb: VERB.name, why, fix: "bash, zsh or fish" });
    };
    io::stdout().lock().write_all(script.as_bytes())?;
    Ok(0)
}

/// The script for a shell.
#[must_use]
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// The first words of all verbs.
fn firsts() -> Vec<&'static str> {
    let mut words: Vec<&str> = Vec::new();
    for verb in VERBS {
        let word = verb.name.split(' ').next().unwrap_or_default();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// The second words that may follow a first one.
fn seconds(first: &str) -> Vec<&'static str> {
    VERBS
        .iter()
        .filter_map(|verb| verb.name.split_once(' '))
        .filter(|(a, _)| *a == first)
        .map(|(_, b)| b)
        .collect()
}

fn flags(verb: &Verb) -> impl Iterator<Item = &'static Flag> {
    verb.flags.iter().flat_map(|table| table.iter())
}

/// Whether an option's value is a file.
fn is_path(flag: &Flag) -> bool {
    matches!(flag.value, Some("FILE" | "PATH" | "DIR"))
}

/// The choices that a value like `agent|all|model` names.
fn choices(flag: &Flag) -> Option<Vec<&'static str>> {
    let words: Vec<&str> = flag.value?.split('|').collect();
    let word = |w: &&str| w.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    (words.len() > 1).then(|| words.into_iter().filter(word).collect())
}

/// The operands that a verb names as choices.
fn operand_choices(verb: &Verb) -> Vec<&'static str> {
    match verb.operands {
        Operands::One(name) | Operands::Optional(name) if name.contains('|') => name.split('|').collect(),
        Operands::One("VERB") | Operands::Optional("VERB") => firsts(),
        _ => Vec::new(),
    }
}

const HEAD: &str = "# Completion of ac7's verbs and options, written by `ac7 completions`.\n";

fn bash() -> String {
    let mut out = format!(
        "{HEAD}_ac7() {{\n  local word=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} words=\n  \
         if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W '{}' -- \"$word\"))\n    return\n  fi\n  \
         case \"$verb\" in\n",
        firsts().join(" ")
    );
    for first in firsts().into_iter().filter(|first| !seconds(first).is_empty()) {
        let _ = writeln!(
            out,
            "    {first})\n      if [ \"$COMP_CWORD\" -eq 2 ]; then words='{}'; else verb=\"$verb ${{COMP_WORDS[2]}}\"; fi ;;",
            seconds(first).join(" ")
        );
    }
    out.push_str("  esac\n  case \"$verb $last\" in\n");
    for verb in VERBS {
        for flag in flags(verb).filter(|flag| flag.value.is_some()) {
            let how = match choices(flag) {
                Some(words) if !words.is_empty() => format!("-W '{}'", words.join(" ")),
                _ if is_path(flag) => "-f".to_string(),
                _ => continue,
            };
            let _ = writeln!(
                out,
                "    '{} --{}') COMPREPLY=($(compgen {how} -- \"$word\")); return ;;",
                verb.name, flag.name
            );
        }
    }
    out.push_str("  esac\n  case \"$verb\" in\n");
    for verb in VERBS {
        let mut words: Vec<String> = flags(verb).map(|flag| format!("--{}", flag.name)).collect();
        words.push("--help".to_string());
        words.extend(operand_choices(verb).into_iter().map(str::to_string));
        let _ = writeln!(out, "    '{}') words=\"$words {}\" ;;", verb.name, words.join(" "));
    }
    out.push_str(
        "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\ncomplete -o default -o bashdefault -F _ac7 ac7\n",
    );
    out
}

/// A text inside single quotes, for zsh's `_arguments` and fish: no quote, and none of the signs that mean something.
fn plain(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\'' | '[' | ']' | ':' | '\\') { ' ' } else { c }).collect()
}

fn zsh() -> String {
    let mut out = format!("#compdef ac7\n{HEAD}_ac7() {{\n  local -a verbs\n  verbs=(\n");
    for first in firsts() {
        let summary =
            VERBS.iter().find(|verb| verb.name.split(' ').next() == Some(first)).map_or("", |v| v.summary);
        let _ = writeln!(out, "    '{first}:{}'", plain(summary));
    }
    out.push_str(
        "  )\n  if (( CURRENT == 2 )); then\n    _describe verb verbs\n    return\n  fi\n  local verb=$words[2]\n  case $verb in\n",
    );
    for first in firsts().into_iter().filter(|first| !seconds(first).is_empty()) {
        let _ = writeln!(
            out,
            "    {first})\n      if (( CURRENT == 3 )); then compadd -- {}; verb=; else verb=\"$verb $words[3]\"; fi ;;",
            seconds(first).join(" ")
        );
    }
    out.push_str("  esac\n  case $verb in\n");
    for verb in VERBS {
        let _ = write!(out, "    '{}')\n      _arguments", verb.name);
        for flag in flags(verb) {
            let value = match (flag.value, choices(flag)) {
                (None, _) => String::new(),
                (Some(name), Some(words)) if !words.is_empty() => {
                    format!(":{}:({})", plain(name), words.join(" "))
                }
                (Some(name), _) if is_path(flag) => format!(":{}:_files", plain(name)),
                (Some(name), _) => format!(":{}: ", plain(name)),
            };
            let again = if flag.repeatable { "*" } else { "" };
            let _ = write!(out, " \\\n        '{again}--{}[{}]{value}'", flag.name, plain(flag.help));
        }
        let operands = match verb.operands {
            Operands::Command => "*::command:_normal".to_string(),
            _ if operand_choices(verb).is_empty() => "*:operand:_files".to_string(),
            _ => format!("*:operand:({})", operand_choices(verb).join(" ")),
        };
        let _ = writeln!(out, " \\\n        '--help[Show this]' '{operands}' ;;");
    }
    out.push_str("  esac\n}\n_ac7 \"$@\"\n");
    out
}

fn fish() -> String {
    let mut out = format!("{HEAD}complete -c ac7 -f\n");
    for first in firsts() {
        let summary =
            VERBS.iter().find(|verb| verb.name.split(' ').next() == Some(first)).map_or("", |v| v.summary);
        let _ =
            writeln!(out, "complete -c ac7 -n '__fish_use_subcommand' -a {first} -d '{}'", plain(summary));
        let second = seconds(first);
        if !second.is_empty() {
            let list = second.join(" ");
            let _ = writeln!(
                out,
                "complete -c ac7 -n '__fish_seen_subcommand_from {first}; and not __fish_seen_subcommand_from {list}' -a '{list}'"
            );
        }
    }
    for verb in VERBS {
        let seen: Vec<String> =
            verb.name.split(' ').map(|word| format!("__fish_seen_subcommand_from {word}")).collect();
        let seen = seen.join("; and ");
        for flag in flags(verb) {
            let value = match (flag.value, choices(flag)) {
                (None, _) => String::new(),
                (_, Some(words)) if !words.is_empty() => format!(" -x -a '{}'", words.join(" ")),
                _ if is_path(flag) => " -r -F".to_string(),
                _ => " -x".to_string(),
            };
            let _ = writeln!(
                out,
                "complete -c ac7 -n '{seen}' -l {}{value} -d '{}'",
                flag.name,
                plain(flag.help)
            );
        }
        let words = operand_choices(verb);
        if !words.is_empty() {
            let _ = writeln!(out, "complete -c ac7 -n '{seen}' -a '{}'", words.join(" "));
        }
    }
    out
}
