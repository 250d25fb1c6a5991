//! Options as data, and what was typed read against them.
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use lexopt::{Arg, Parser};

use super::error::Error;

/// One option of a verb. Parsing, help and the manual page's test all read this.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What its value is called (`PATH`); `None` for a switch.
    pub value: Option<&'static str>,
    /// One line, without a full stop.
    pub help: &'static str,
    /// What holds when it is not given, where that is worth saying.
    pub default: Option<&'static str>,
    /// Whether it may be given more than once. Of others the last one counts.
    pub repeatable: bool,
}

impl Flag {
    /// An option without a value.
    #[must_use]
    pub const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag { name, value: None, help, default: None, repeatable: false }
    }

    /// An option with a value.
    #[must_use]
    pub const fn value(name: &'static str, value: &'static str, help: &'static str) -> Flag {
        Flag { name, value: Some(value), help, default: None, repeatable: false }
    }

    /// The same, with its default named in the help.
    #[must_use]
    pub const fn or(self, default: &'static str) -> Flag {
        Flag { default: Some(default), ..self }
    }

    /// The same, and it may be given more than once.
    #[must_use]
    pub const fn many(self) -> Flag {
        Flag { repeatable: true, ..self }
    }
}

/// What a verb takes beside its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Nothing.
    None,
    /// Exactly one, called so in the synopsis (`ID`).
    One(&'static str),
    /// At most one.
    Optional(&'static str),
    /// A command with its arguments: everything from the first operand, or from `--`, on.
    Command,
    /// An agent's arguments: everything after `--`, which may be nothing.
    Arguments,
}

impl Operands {
    /// Whether there are others than ours, for which an option may have been meant.
    fn has_others(self) -> bool {
        matches!(self, Operands::Command | Operands::Arguments)
    }
}

/// What was typed after a verb.
#[derive(Debug, Default)]
pub struct Parsed {
    verb: &'static str,
    options: Vec<(&'static str, Option<OsString>)>,
    /// The operands, or the wrapped command.
    pub operands: Vec<OsString>,
    /// Whether `--help` was among the options; nothing else was checked then.
    pub help: bool,
    /// Whether `--version` was.
    pub version: bool,
}

/// Read `args`, the words after the verb, against its tables.
///
/// # Errors
/// An unknown option, a missing or surplus value, a missing or surplus operand.
pub fn parse(
    verb: &'static str,
    tables: &[&'static [Flag]],
    operands: Operands,
    args: Vec<OsString>,
) -> Result<Parsed, Error> {
    let flags = || tables.iter().flat_map(|table| table.iter());
    let mut parsed = Parsed { verb, ..Parsed::default() };
    let mut parser = Parser::from_args(args);
    loop {
        if operands == Operands::Arguments
            && let Some(mut raw) = parser.try_raw_args()
            && raw.next_if(|word| word == "--").is_some()
        {
            parsed.operands.extend(raw);
            break;
        }
        let Some(arg) = parser.next().map_err(|e| surplus(verb, e))? else { break };
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Parsed { help: true, ..parsed }),
            Arg::Short('V' | 'v') | Arg::Long("version") => return Ok(Parsed { version: true, ..parsed }),
            Arg::Long(name) => {
                let Some(flag) = flags().find(|f| f.name == name) else {
                    let near = nearest(name, flags().map(|f| f.name).chain(["help", "version"]));
                    let typed = format!("--{name}");
                    return Err(Error::UnknownOption { verb, typed, near, command: operands.has_others() });
                };
                let value = match flag.value {
                    Some(called) => {
                        let missing = || Error::MissingValue { verb, option: flag.name, called };
                        let value = parser.value().map_err(|_| missing())?;
                        // SQLite would take an empty path for a database that is gone afterwards.
                        if value.is_empty() && matches!(called, "PATH" | "FILE") {
                            return Err(missing());
                        }
                        Some(value)
                    }
                    None => None,
                };
                parsed.options.push((flag.name, value));
            }
            Arg::Short(letter) => {
                let (typed, command) = (format!("-{letter}"), operands.has_others());
                return Err(Error::UnknownOption { verb, typed, near: None, command });
            }
            Arg::Value(first) => {
                parsed.operands.push(first);
                match operands {
                    Operands::Command => {
                        parsed.operands.extend(parser.raw_args().map_err(|e| surplus(verb, e))?);
                        break;
                    }
                    Operands::One(_) | Operands::Optional(_) if parsed.operands.len() == 1 => {}
                    _ => {
                        let operand = parsed.operands.pop().unwrap_or_default();
                        return Err(Error::SurplusOperand { verb, operand });
                    }
                }
            }
        }
    }
    match operands {
        Operands::One(called) if parsed.operands.is_empty() => Err(Error::MissingOperand { verb, called }),
        Operands::Command if parsed.operands.is_empty() => Err(Error::MissingCommand { verb }),
        _ => Ok(parsed),
    }
}

/// The only errors that lexopt itself finds while it reads on are values that a switch does not take.
fn surplus(verb: &'static str, error: lexopt::Error) -> Error {
    match error {
        lexopt::Error::UnexpectedValue { option, .. } => Error::SurplusValue { verb, option },
        other => Error::BadOption { verb, why: other.to_string() },
    }
}

impl Parsed {
    /// Whether the option was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| *n == name)
    }

    /// The option's value; of several the last.
    #[must_use]
    pub fn get(&self, name: &'static str) -> Option<&OsStr> {
        self.values(name).last()
    }

    /// Every value of the option, in the order typed.
    pub fn values(&self, name: &'static str) -> impl Iterator<Item = &OsStr> {
        self.options.iter().filter(move |(n, _)| *n == name).filter_map(|(_, v)| v.as_deref())
    }

    /// The option's value as a path.
    #[must_use]
    pub fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The option's value as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self, name: &'static str) -> Result<Option<String>, Error> {
        self.get(name).map(|v| self.utf8(name, v)).transpose()
    }

    /// Every value of the option as text, in the order typed.
    ///
    /// # Errors
    /// One is not UTF-8.
    pub fn all(&self, name: &'static str) -> Result<Vec<String>, Error> {
        self.values(name).map(|v| self.utf8(name, v)).collect()
    }

    fn utf8(&self, name: &'static str, value: &OsStr) -> Result<String, Error> {
        value.to_str().map(str::to_string).ok_or_else(|| self.bad(name, value, "it is not UTF-8"))
    }

    /// The option's value as `read` understands it; `why` ends the sentence for one that it does not.
    ///
    /// # Errors
    /// `read` gave `None`.
    pub fn read<T>(
        &self,
        name: &'static str,
        why: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.get(name).map(|v| v.to_str().and_then(&read).ok_or_else(|| self.bad(name, v, why))).transpose()
    }

    /// Every value of the option as `read` understands it.
    ///
    /// # Errors
    /// `read` gave `None` for one.
    pub fn read_all<T>(
        &self,
        name: &'static str,
        why: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        self.values(name).map(|v| v.to_str().and_then(&read).ok_or_else(|| self.bad(name, v, why))).collect()
    }

    /// As [`read`](Parsed::read), for a value that no message may show.
    ///
    /// # Errors
    /// `read` gave `None`.
    pub fn read_secret<T>(
        &self,
        option: &'static str,
        why: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let bad = || Error::BadValue { verb: self.verb, option, value: None, why };
        self.get(option).map(|v| v.to_str().and_then(&read).ok_or_else(bad)).transpose()
    }

    /// The error of a value that cannot be meant.
    #[must_use]
    pub fn bad(&self, option: &'static str, value: &OsStr, why: &'static str) -> Error {
        Error::BadValue { verb: self.verb, option, value: Some(value.to_os_string()), why }
    }

    /// The error of two options that exclude each other.
    #[must_use]
    pub fn conflict(&self, first: &'static str, second: &'static str) -> Error {
        Error::Conflict { verb: self.verb, first, second }
    }
}

/// The known name that `typed` most likely was meant to be: one edit away, or begun by it, or two edits away.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rank = |name: &str| match edits(typed, name) {
        0..=1 if typed.len() > 1 => Some(1),
        _ if typed.len() > 2 && name.starts_with(typed) => Some(2),
        2 if typed.len() > 2 => Some(3),
        _ => None,
    };
    known.filter_map(|name| rank(name).map(|r| (r, name))).min_by_key(|(r, _)| *r).map(|(_, name)| name)
}

/// Insertions, deletions, changes and swaps of neighbours that make `a` into `b` (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        Flag::switch("quiet", "Say less"),
        Flag::value("db", "PATH", "The database"),
        Flag::value("trace-host", "HOST", "A host").many(),
    ];

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn read(operands: Operands, line: &str) -> Result<Parsed, Error> {
        parse("x", &[TABLE], operands, words(line))
    }

    #[test]
    fn options_and_operands_are_told_apart() {
        let parsed = read(
            Operands::Command,
            "--quiet --db=a --db b --trace-host h1 --trace-host=h2 -- prog --db c -- -h",
        );
        let parsed = parsed.unwrap();
        assert!(parsed.has("quiet") && !parsed.has("trace-skip"));
        assert_eq!(parsed.path("db"), Some(PathBuf::from("b")), "the last one counts");
        assert_eq!(parsed.all("trace-host").unwrap(), ["h1", "h2"]);
        assert_eq!(parsed.operands, words("prog --db c -- -h"), "everything after -- is the command's");
        let without = read(Operands::Command, "--quiet prog --quiet -- x").unwrap();
        assert_eq!(without.operands, words("prog --quiet -- x"), "so is everything after its first word");
        assert_eq!(read(Operands::Command, "-- -odd").unwrap().operands, words("-odd"));
        for (line, want) in
            [("--quiet", ""), ("--", ""), ("--db -- -- -p hi -- x", "-p hi -- x"), ("-- --", "--")]
        {
            assert_eq!(read(Operands::Arguments, line).unwrap().operands, words(want), "{line}");
        }
    }

    #[test]
    fn every_error_is_a_sentence() {
        for (operands, line, want) in [
            (Operands::None, "--dq x", "ac7 x: unknown option: --dq\n  fix: did you mean --db?"),
            (Operands::None, "--zzz", "ac7 x: unknown option: --zzz\n  fix: ac7 x --help"),
            (Operands::None, "-z", "ac7 x: unknown option: -z\n  fix: ac7 x --help"),
            (
                Operands::Command,
                "--print hi",
                "ac7 x: unknown option: --print\n  fix: options of the command stand after --; ac7 x --help lists ours",
            ),
            (
                Operands::Arguments,
                "-p hi",
                "ac7 x: unknown option: -p\n  fix: options of the command stand after --; ac7 x --help lists ours",
            ),
            (Operands::Arguments, "word", "ac7 x: unexpected argument: word\n  fix: ac7 x --help"),
            (Operands::None, "--db", "ac7 x: --db needs a value: PATH"),
            (Operands::None, "--db=", "ac7 x: --db needs a value: PATH"),
            (Operands::None, "--quiet=yes", "ac7 x: --quiet takes no value"),
            (Operands::None, "word", "ac7 x: unexpected argument: word\n  fix: ac7 x --help"),
            (Operands::One("ID"), "1 2", "ac7 x: unexpected argument: 2\n  fix: ac7 x --help"),
            (Operands::One("ID"), "", "ac7 x: ID is missing\n  fix: ac7 x ID"),
            (Operands::Command, "--quiet", "ac7 x: no command given\n  fix: ac7 x -- COMMAND [ARGUMENT ...]"),
            (
                Operands::Command,
                "--quiet --",
                "ac7 x: no command given\n  fix: ac7 x -- COMMAND [ARGUMENT ...]",
            ),
        ] {
            let error = read(operands, line).unwrap_err();
            assert_eq!((error.to_string().as_str(), error.code()), (want, 2), "{line}");
        }
    }

    #[test]
    fn help_and_version_win_wherever_they_stand() {
        assert!(read(Operands::Command, "--quiet -h --nonsense").unwrap().help);
        assert!(read(Operands::One("ID"), "--help").unwrap().help);
        assert!(read(Operands::None, "-v").unwrap().version);
        assert!(read(Operands::None, "-V").unwrap().version);
        assert!(!read(Operands::Command, "-- prog --help").unwrap().help);
    }

    #[test]
    fn the_nearest_name() {
        let verbs = ["run", "traces", "serve", "setup", "prune-traces", "help"];
        for (typed, want) in [
            ("trace", Some("traces")),
            ("rnu", Some("run")),
            ("sevre", Some("serve")),
            ("prune", Some("prune-traces")),
            ("r", None),
            ("nosuchverb", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, verbs.into_iter()), want, "{typed}");
        }
    }
}
