//! What standard output and the locale can show; the pager.
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::{env, path::Path};

use rustix::termios::tcgetwinsize;

use crate::sys::clock;
use crate::sys::localtime::Zone;
use crate::sys::umask;

/// How text is to be laid out.
#[derive(Clone, Debug)]
pub struct Screen {
    /// Columns of the terminal; `None` where there is none.
    pub columns: Option<usize>,
    pub utf8: bool,
    pub colour: bool,
    pub zone: Zone,
    /// ms since the epoch, for what is told relative to now.
    pub now: u64,
}

impl Screen {
    /// That of standard output: no colour where it is no terminal.
    #[must_use]
    pub fn stdout() -> Screen {
        let terminal = is_terminal();
        let columns = tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
        Screen {
            columns: columns.filter(|n| *n > 0),
            utf8: utf8(),
            colour: terminal
                && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                && env::var_os("TERM").is_none_or(|t| t != "dumb"),
            zone: Zone::system(),
            now: clock::now_ms(),
        }
    }

    /// Columns for running text: 80 where there is no terminal.
    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.unwrap_or(80)
    }

    /// `text` in an SGR style (`1` bold, `2` faint, `31` red), if there is colour. Style never carries meaning alone.
    #[must_use]
    pub fn style(&self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// A line for the user on standard error. Where it cannot be written nobody listens, and the exit status says the rest:
/// `eprintln!` would panic and replace it.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Write to standard error without an end of line, for a question or a progress line; nobody there is no error.
pub fn hint(text: impl Display) {
    let _ = write!(io::stderr(), "{text}").and_then(|()| io::stderr().flush());
}

/// Whether standard output is a terminal.
#[must_use]
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether the locale is UTF-8: the first of LC_ALL, LC_CTYPE and LANG that is set decides (POSIX.1 §8.2).
#[must_use]
pub fn utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env::var_os).find(|v| !v.is_empty());
    let name = locale.unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.contains("utf-8") || name.contains("utf8")
}

/// A path as people write it: `~/x` under the home directory; control characters escaped.
#[must_use]
pub fn path(path: &Path) -> String {
    let home = env::var_os("HOME").filter(|h| !h.is_empty());
    let short =
        home.and_then(|home| path.strip_prefix(home).ok().map(|rest| format!("~/{}", rest.display())));
    super::text::line(&short.unwrap_or_else(|| path.display().to_string()), utf8())
}

/// Write `text` to standard output, through `$PAGER` or less if that is a terminal and `wanted`.
///
/// # Errors
/// What writing to standard output says. A pager that cannot be started or is left early is none.
pub fn page(text: &str, wanted: bool) -> io::Result<()> {
    if wanted && is_terminal() && paged(text) {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether a pager took the text.
fn paged(text: &str) -> bool {
    let mut command = match env::var_os("PAGER").filter(|p| !p.is_empty()) {
        Some(pager) => {
            let mut shell = Command::new("sh"); // it may come with arguments
            shell.arg("-c").arg(pager);
            shell
        }
        None => Command::new("less"),
    };
    if env::var_os("LESS").is_none() {
        command.env("LESS", "FRX"); // leave at once if it fits, show colours, keep the screen
    }
    command.stdin(Stdio::piped());
    let Ok(mut child) = umask::lent(|| command.spawn()) else { return false };
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(text.as_bytes()); // who leaves the pager early has seen enough
    }
    child.wait().is_ok_and(|status| status.code() != Some(127)) // the shell's word for: no such program
}
