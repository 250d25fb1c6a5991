//! The caller's `config.toml` with our server in it, as text: what the caller wrote stays as it was written.
use std::path::Path;

use super::SERVER;

/// The table in which codex looks for MCP servers.
const SERVERS: &str = "mcp_servers";

/// The caller's configuration gives codex's servers in one line, to which nothing can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OneLine;

impl std::fmt::Display for OneLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot add a server to config.toml: {SERVERS} is an inline table")
    }
}

impl std::error::Error for OneLine {}

/// `text` with the table of our server at its end: `ac7` is this program, `environment` what its bridge needs. A server
/// of our name that was there is replaced.
///
/// # Errors
/// [`OneLine`].
pub fn merge(text: &str, ac7: &Path, environment: &[(&str, &str)]) -> Result<String, OneLine> {
    let mut out = String::with_capacity(text.len() + 512);
    let mut table: Vec<String> = Vec::new();
    for statement in statements(text) {
        let path = match &statement.what {
            What::Table(keys) => {
                table.clone_from(keys);
                keys.clone()
            }
            What::Value(keys) => [table.as_slice(), keys].concat(),
            What::Other => Vec::new(),
        };
        if path.len() == 1 && path[0] == SERVERS && matches!(statement.what, What::Value(_)) {
            return Err(OneLine);
        }
        if !(path.len() > 1 && path[0] == SERVERS && path[1] == SERVER) {
            out.push_str(statement.text);
        }
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let command = quoted(&ac7.to_string_lossy());
    out.push_str(&format!(
        "[{SERVERS}.{SERVER}]\ncommand = {command}\nargs = [\"mcp-bridge\"]\nenabled = true\n\
         default_tools_approval_mode = \"approve\"\n\n[{SERVERS}.{SERVER}.env]\n"
    ));
    for (name, value) in environment {
        out.push_str(&format!("{name} = {}\n", quoted(value)));
    }
    Ok(out)
}

/// A basic string (TOML 1.0).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A part of the text, from the beginning of a line to the end of one.
struct Statement<'a> {
    text: &'a str,
    what: What,
}

enum What {
    /// `[a.b]` or `[[a.b]]`.
    Table(Vec<String>),
    /// `a.b = …`, which may go over several lines.
    Value(Vec<String>),
    /// An empty line, a comment, or what is no TOML: codex will say so.
    Other,
}

fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = end(rest);
        let (text, after) = rest.split_at(end);
        let line = text.trim_start_matches([' ', '\t']);
        let what = match line.bytes().next() {
            Some(b'[') => keys(line.trim_start_matches('['), "]").map(What::Table),
            Some(b'#' | b'\n' | b'\r') | None => None,
            Some(_) => keys(line, "=").map(What::Value),
        };
        found.push(Statement { text, what: what.unwrap_or(What::Other) });
        rest = after;
    }
    found
}

/// Where the statement ends that `text` begins with: after the first line break outside strings and brackets.
fn end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        let rest = &bytes[at..];
        match byte {
            b'\n' if depth == 0 => return at + 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'#' => {
                at += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                continue;
            }
            b'"' | b'\'' => {
                at += string(rest, *byte);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    bytes.len()
}

/// The length of the string that `rest` begins with; one that does not end goes to the end of its line, or of the text.
fn string(rest: &[u8], quote: u8) -> usize {
    let three = [quote; 3];
    let several = rest.starts_with(&three);
    let mut at = if several { 3 } else { 1 };
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 1,
            b'\n' if !several => return at,
            b if *b == quote && !several => return at + 1,
            _ if several && rest[at..].starts_with(&three) => {
                // Up to two quotes may stand before the closing three.
                let more = rest[at + 3..].iter().take(2).take_while(|b| **b == quote).count();
                return at + 3 + more;
            }
            _ => {}
        }
        at += 1;
    }
    rest.len()
}

/// The parts of a dotted key before `end`: `a."b.c".'d'`.
fn keys(text: &str, end: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t']);
    loop {
        let quote = rest.bytes().next().filter(|b| matches!(b, b'"' | b'\''));
        let length = match quote {
            Some(quote) => string(rest.as_bytes(), quote),
            None => rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')?,
        };
        let (key, after) = rest.split_at_checked(length)?;
        found.push(match quote {
            // The escapes of a basic string are those of JSON, but for some that no key of interest has.
            Some(b'"') => serde_json::from_str(key).unwrap_or_default(),
            Some(_) => key.trim_matches('\'').to_string(),
            None if key.is_empty() => return None,
            None => key.to_string(),
        });
        rest = after.trim_start_matches([' ', '\t']);
        match rest.strip_prefix('.') {
            Some(next) => rest = next.trim_start_matches([' ', '\t']),
            None => return rest.starts_with(end).then_some(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "[mcp_servers.ac7]\ncommand = \"/opt/a\\\"c7\"\nargs = [\"mcp-bridge\"]\nenabled = true\n\
                        default_tools_approval_mode = \"approve\"\n\n[mcp_servers.ac7.env]\n\
                        AC7_RUNNER_SOCKET = \"/t/s\\\\1\"\n";

    fn merged(text: &str) -> Result<String, OneLine> {
        merge(text, Path::new("/opt/a\"c7"), &[("AC7_RUNNER_SOCKET", "/t/s\\1")])
    }

    #[test]
    fn ours_is_added_and_an_older_one_taken_out() {
        for (text, kept) in [
            ("", ""),
            ("model = \"o\"", "model = \"o\"\n\n"),
            ("model = \"o\"\n", "model = \"o\"\n\n"),
            ("[mcp_servers.x]\ncommand = \"x\"\n", "[mcp_servers.x]\ncommand = \"x\"\n\n"),
            (
                "a = 1\n[mcp_servers.ac7]\ncommand = \"old\"\n[mcp_servers.ac7.env]\nA = \"b\"\n[x]\nb = 2\n",
                "a = 1\n[x]\nb = 2\n\n",
            ),
            ("[ mcp_servers . \"ac7\" ] # old\ncommand = 'x'\n[[y]]\n", "[[y]]\n\n"),
            (
                "[mcp_servers]\nac7 = { command = \"x\" }\nb = { command = \"y\" }\n",
                "[mcp_servers]\nb = { command = \"y\" }\n\n",
            ),
            (
                "mcp_servers.ac7.command = \"x\"\nmcp_servers.b.command = \"y\"\n",
                "mcp_servers.b.command = \"y\"\n\n",
            ),
            ("[mcp_servers.ac7x]\ncommand = \"x\"\n", "[mcp_servers.ac7x]\ncommand = \"x\"\n\n"),
            // What looks like a table may be within a string or a list.
            (
                "text = \"\"\"\n[mcp_servers.ac7]\n\\\"\"\"\"\"\nb = '''\n[x]'''\nc = [\n  [1], # ]\n  \"[\",\n]\n[mcp_servers.ac7]\nd = 1\n",
                "text = \"\"\"\n[mcp_servers.ac7]\n\\\"\"\"\"\"\nb = '''\n[x]'''\nc = [\n  [1], # ]\n  \"[\",\n]\n\n",
            ),
            ("# [mcp_servers.ac7]\r\n\r\na = \"#\"\r\n", "# [mcp_servers.ac7]\r\n\r\na = \"#\"\r\n\n"),
            // No TOML: codex says so, and nothing of it is lost.
            ("this is no toml\n\"\n", "this is no toml\n\"\n\n"),
            ("a = \"\"\"never ends", "a = \"\"\"never ends\n\n"),
        ] {
            assert_eq!(merged(text).unwrap(), format!("{kept}{OURS}"), "{text}");
        }
        let twice = merged(&merged("model = \"o\"\n").unwrap()).unwrap();
        // The empty line before the table is the caller's by then.
        assert_eq!(twice, format!("model = \"o\"\n\n\n\n{OURS}"));
    }

    #[test]
    fn servers_in_one_line_cannot_be_added_to() {
        let error = merged("mcp_servers = { a = { command = \"x\" } }\n").unwrap_err();
        assert_eq!(error.to_string(), "cannot add a server to config.toml: mcp_servers is an inline table");
        assert!(merged("[profiles]\nmcp_servers = {}\n").is_ok());
    }
}
