//! What a verb says when it does not do what it was asked.
use std::ffi::OsString;
use std::{fmt, io};

/// An error of the command line. Its `Display` is what the user sees: one line, then perhaps one with the way out.
#[derive(Debug)]
pub enum Error {
    UnknownVerb {
        typed: String,
        near: Option<&'static str>,
    },
    UnknownOption {
        verb: &'static str,
        typed: String,
        near: Option<&'static str>,
        /// Whether the verb wraps a command, which the option may have been meant for.
        command: bool,
    },
    /// Whatever else the option parser refuses.
    BadOption {
        verb: &'static str,
        why: String,
    },
    MissingValue {
        verb: &'static str,
        option: &'static str,
        called: &'static str,
    },
    SurplusValue {
        verb: &'static str,
        option: String,
    },
    MissingOperand {
        verb: &'static str,
        called: &'static str,
    },
    MissingCommand {
        verb: &'static str,
    },
    SurplusOperand {
        verb: &'static str,
        operand: OsString,
    },
    MissingOption {
        verb: &'static str,
        option: &'static str,
        called: &'static str,
    },
    BadValue {
        verb: &'static str,
        option: &'static str,
        /// `None` where it must not be shown.
        value: Option<OsString>,
        why: &'static str,
    },
    /// A variable of the environment that stands for an option.
    BadVariable {
        verb: &'static str,
        name: &'static str,
        value: String,
        why: &'static str,
    },
    Conflict {
        verb: &'static str,
        first: &'static str,
        second: &'static str,
    },
    /// The request is understood and not carried out as it stands.
    Refused {
        verb: &'static str,
        why: String,
        fix: &'static str,
    },
    /// The request was right; doing it failed. `what` is the whole sentence of the layer below.
    Failed {
        verb: &'static str,
        what: String,
        fix: Option<String>,
    },
    /// A command could not be run; `code` is what a shell would give.
    Run {
        verb: &'static str,
        code: u8,
        what: String,
        fix: Option<String>,
    },
    /// Standard output could not be written.
    Output(io::Error),
}

impl Error {
    /// The exit status: 2 for a request that makes no sense, 1 for one that failed, 0 where a reader went away.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Error::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
            Error::Output(_) | Error::Failed { .. } => 1,
            Error::Run { code, .. } => *code,
            _ => 2,
        }
    }

    /// A failure without a known way out.
    #[must_use]
    pub fn failed(verb: &'static str, what: impl fmt::Display) -> Error {
        Error::Failed { verb, what: what.to_string(), fix: None }
    }
}

impl From<io::Error> for Error {
    /// Only writing to standard output gives a bare I/O error here.
    fn from(error: io::Error) -> Error {
        Error::Output(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::UnknownVerb { typed, near } => {
                let what = if typed.starts_with('-') { "option" } else { "verb" };
                write!(f, "ac7: unknown {what}: {}\n  fix: ", typed.escape_default())?;
                match near {
                    Some(near) => write!(f, "did you mean {near}?"),
                    None => f.write_str("ac7 --help"),
                }
            }
            Error::UnknownOption { verb, typed, near, command } => {
                write!(f, "ac7 {verb}: unknown option: {}\n  fix: ", typed.escape_default())?;
                match near {
                    Some(near) => write!(f, "did you mean --{near}?"),
                    None if *command => {
                        write!(f, "options of the command stand after --; ac7 {verb} --help lists ours")
                    }
                    None => write!(f, "ac7 {verb} --help"),
                }
            }
            Error::BadOption { verb, why } => write!(f, "ac7 {verb}: {}", why.escape_default()),
            Error::MissingValue { verb, option, called } => {
                write!(f, "ac7 {verb}: --{option} needs a value: {called}")
            }
            Error::SurplusValue { verb, option } => {
                write!(f, "ac7 {verb}: {} takes no value", option.escape_default())
            }
            Error::MissingOperand { verb, called } => {
                write!(f, "ac7 {verb}: {called} is missing\n  fix: ac7 {verb} {called}")
            }
            Error::MissingCommand { verb } => {
                write!(f, "ac7 {verb}: no command given\n  fix: ac7 {verb} -- COMMAND [ARGUMENT ...]")
            }
            Error::SurplusOperand { verb, operand } => {
                let operand = operand.to_string_lossy();
                write!(f, "ac7 {verb}: unexpected argument: {}\n  fix: ", operand.escape_default())?;
                match operand.parse::<u64>() {
                    Ok(id) if *verb == "traces" => write!(f, "ac7 traces show {id}"),
                    _ if matches!(*verb, "claude-code" | "codex") => {
                        write!(f, "what is meant for the agent stands after --")
                    }
                    _ => write!(f, "ac7 {verb} --help"),
                }
            }
            Error::MissingOption { verb, option, called } => {
                write!(f, "ac7 {verb}: --{option} is required\n  fix: ac7 {verb} --{option} {called}")
            }
            Error::BadValue { verb, option, value, why } => {
                write!(f, "ac7 {verb}: bad --{option}: ")?;
                if let Some(value) = value {
                    write!(f, "{}: ", value.to_string_lossy().escape_default())?;
                }
                f.write_str(why)
            }
            Error::BadVariable { verb, name, value, why } => {
                write!(f, "ac7 {verb}: bad {name}: {}: {why}", value.escape_default())
            }
            Error::Conflict { verb, first, second } => {
                write!(f, "ac7 {verb}: --{first} and --{second} exclude each other")
            }
            Error::Refused { verb, why, fix } => write!(f, "ac7 {verb}: {why}\n  fix: {fix}"),
            Error::Failed { verb, what, fix } => {
                write!(f, "ac7 {verb}: {what}")?;
                fix.as_ref().map_or(Ok(()), |fix| write!(f, "\n  fix: {fix}"))
            }
            Error::Run { verb, what, fix, .. } => {
                write!(f, "ac7 {verb}: {what}")?;
                fix.as_ref().map_or(Ok(()), |fix| write!(f, "\n  fix: {fix}"))
            }
            Error::Output(error) => write!(f, "ac7: cannot write to standard output: {error}"),
        }
    }
}

impl std::error::Error for Error {}
