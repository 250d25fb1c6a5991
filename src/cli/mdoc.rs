//! The manual's pages as plain text, where man is not installed: the macros of mdoc(7) that our pages use, no others.

use super::text::{width, wrap};

/// Columns of a section's body and of each list below it.
const INDENT: usize = 5;

/// `source` laid out in at most `columns` columns (at least 40 are used).
#[must_use]
pub fn render(source: &str, columns: usize) -> String {
    let mut page = Page { columns: columns.max(40), ..Page::default() };
    for line in source.lines() {
        match line.strip_prefix('.') {
            Some(request) => page.request(&tokens(request)),
            None if page.literal => page.raw(&unescape(line)),
            None => page.words(line.split(' ').map(|word| Piece::Word(unescape(word))).collect()),
        }
    }
    page.flush();
    page.out
}

/// A word of running text, or what changes the space around words.
#[derive(Debug)]
enum Piece {
    Word(String),
    /// No space between the neighbours (`Ns`).
    Join,
    /// Text that takes no space before it, as a comma.
    Close(String),
    /// Text that takes no space after it, as an opening parenthesis.
    Open(String),
}

#[derive(Default)]
struct Page {
    out: String,
    columns: usize,
    name: String,
    indent: usize,
    /// One entry a list that is open: the width of its tags, and whether its items stand without blank lines.
    lists: Vec<(usize, bool)>,
    text: String,
    joined: bool,
    /// What stands in the margin before the next paragraph.
    tag: Option<String>,
    literal: bool,
    synopsis: bool,
}

impl Page {
    fn request(&mut self, tokens: &[String]) {
        let Some((name, rest)) = tokens.split_first() else { return };
        match name.as_str() {
            "Dd" | "Dt" | "Os" | "\\\"" => {}
            "Sh" => {
                self.flush();
                if !self.out.is_empty() {
                    self.out.push('\n');
                }
                self.out.push_str(&rest.join(" "));
                self.out.push('\n');
                self.indent = INDENT;
                self.synopsis = rest.first().is_some_and(|s| s == "SYNOPSIS");
            }
            "Ss" => {
                self.flush();
                self.gap();
                self.out.push_str(&format!("  {}\n", rest.join(" ")));
            }
            "Pp" => {
                self.flush();
                self.gap();
            }
            "Nd" => self.words(inline(&[vec!["\\(en".to_string()], rest.to_vec()].concat(), &self.name)),
            "Bl" => {
                self.flush();
                let option = |name: &str| rest.iter().position(|o| o == name);
                let tag = option("-width").and_then(|i| rest.get(i + 1)).map_or(2, |w| tag_width(w));
                self.lists.push((tag, option("-compact").is_some()));
                self.indent += tag;
            }
            "El" => {
                self.flush();
                if let Some((tag, _)) = self.lists.pop() {
                    self.indent -= tag;
                }
            }
            "It" => {
                self.flush();
                if self.lists.last().is_some_and(|(_, compact)| !compact) {
                    self.gap();
                }
                let tag = if rest.is_empty() { "-".to_string() } else { join(inline(rest, &self.name)) };
                self.tag = Some(tag);
            }
            "Bd" => {
                self.flush();
                self.gap();
                self.literal = true;
            }
            "Ed" => self.literal = false,
            "Dl" => {
                self.flush();
                self.gap();
                let shown = join(inline(rest, &self.name));
                self.raw(&shown);
            }
            "Nm" if self.synopsis => {
                self.flush();
                let shown = if rest.is_empty() { self.name.clone() } else { rest.join(" ") };
                self.words(vec![Piece::Word(shown)]);
            }
            "Nm" if self.name.is_empty() => {
                self.name = rest.join(" ");
                self.words(vec![Piece::Word(self.name.clone())]);
            }
            _ => self.words(inline(tokens, &self.name)),
        }
    }

    fn words(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            let (text, close, open) = match piece {
                Piece::Join => {
                    self.joined = true;
                    continue;
                }
                Piece::Word(text) => (text, false, false),
                Piece::Close(text) => (text, true, false),
                Piece::Open(text) => (text, false, true),
            };
            if !self.text.is_empty() && !self.joined && !close {
                self.text.push(' ');
            }
            self.text.push_str(&text);
            self.joined = open;
        }
    }

    /// A line as it stands.
    fn raw(&mut self, line: &str) {
        let indent = if line.is_empty() { 0 } else { self.indent + INDENT };
        self.out.push_str(&" ".repeat(indent));
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// A blank line, unless there is one or a heading.
    fn gap(&mut self) {
        let last = self.out.lines().last().unwrap_or_default();
        let heading = last.len() - last.trim_start().len() < INDENT;
        if !heading {
            self.out.push('\n');
        }
    }

    /// The paragraph that has been collected, with its tag before it or above it.
    fn flush(&mut self) {
        self.joined = false;
        let text = std::mem::take(&mut self.text);
        let mut margin = " ".repeat(self.indent);
        if let Some(tag) = self.tag.take() {
            let outer = self.indent - self.lists.last().map_or(0, |(tag, _)| *tag);
            margin = format!("{}{tag}", " ".repeat(outer));
            if width(&tag) >= self.indent - outer || text.is_empty() {
                self.out.push_str(&margin);
                self.out.push('\n');
                margin = " ".repeat(self.indent);
            }
        }
        if text.is_empty() {
            return;
        }
        for line in wrap(&text, self.columns - self.indent) {
            self.out.push_str(&super::text::pad(&margin, self.indent));
            self.out.push_str(&line);
            self.out.push('\n');
            margin.clear();
        }
    }
}

/// The width of a list's tags: the length of a sample, or the word `Ds` for a usual one.
fn tag_width(sample: &str) -> usize {
    if sample == "Ds" { 6 } else { width(sample) + 2 }
}

/// The words of a request line; quotes hold several together.
fn tokens(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (token, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        out.push(token.to_string());
        rest = after.trim_start();
    }
    out
}

fn unescape(text: &str) -> String {
    [("\\&", ""), ("\\-", "-"), ("\\(en", "-"), ("\\(em", "--"), ("\\(ap", "~"), ("\\e", "\\")]
        .iter()
        .fold(text.to_string(), |text, (escape, plain)| text.replace(escape, plain))
}

/// The words of a line of macros.
fn inline(tokens: &[String], page: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut kind = "";
    let mut bare = false; // a macro that has had no argument yet
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "Op" | "Dq" | "Pq" => {
                let end = at + tokens[at..].iter().rposition(|t| !is_close(t)).map_or(0, |i| i + 1);
                let (open, close) = match token.as_str() {
                    "Op" => ("[", "]"),
                    "Dq" => ("\"", "\""),
                    _ => ("(", ")"),
                };
                out.push(Piece::Open(open.to_string()));
                out.extend(inline(&tokens[at..end], page));
                out.push(Piece::Close(close.to_string()));
                at = end;
                kind = "";
            }
            "Ns" => {
                out.push(Piece::Join);
                kind = "";
            }
            "Fl" | "Ar" | "Cm" | "Ev" | "Pa" | "Sy" | "Em" | "Li" | "No" | "Sx" => {
                kind = token;
                bare = true;
                continue;
            }
            "Nm" if tokens.get(at).is_none_or(|t| is_close(t)) => out.push(Piece::Word(page.to_string())),
            "Nm" => {}
            "Xr" => {
                let section = tokens.get(at + 1).map_or("", String::as_str);
                out.push(Piece::Word(format!("{}({section})", tokens.get(at).map_or("", String::as_str))));
                at += 2;
            }
            "|" => out.push(Piece::Word("|".to_string())),
            close if is_close(close) => out.push(Piece::Close(close.to_string())),
            "(" => out.push(Piece::Open("(".to_string())),
            word if kind == "Fl" => out.push(Piece::Word(format!("-{}", unescape(word)))),
            word => out.push(Piece::Word(unescape(word))),
        }
        if bare && !is_close(token) {
            bare = false;
        }
    }
    out
}

fn is_close(token: &str) -> bool {
    matches!(token, "." | "," | ";" | ":" | ")" | "?" | "!")
}

fn join(pieces: Vec<Piece>) -> String {
    let mut page = Page::default();
    page.words(pieces);
    page.text
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn a_page_in_small() {
        let source = "\
.Dd November 22, 2026
.Dt X 1
.Os
.Sh NAME
.Nm x
.Nd does things
.Sh SYNOPSIS
.Nm
.Op Fl -db Ar path
.Ar word ...
.Sh DESCRIPTION
.Nm
reads
.Ar word ,
see
.Xr y 1 .
It is
.Dq well known
.Pq Em not
.Nm z ;
.Sx Down .
.Ss Down
.Bl -tag -width Ds
.It Fl -db Ar path , Fl -x Ns = Ns Ar y
Where it
.Pa lives ;
.Dq a\\-b .
.It Ev A
Short.
.El
.Pp
Then:
.Bd -literal -offset indent
one  two
.Ed
.Dl three \\-four
";
        let want = "\
NAME
     x - does things

SYNOPSIS
     x [--db path] word ...

DESCRIPTION
     x reads word, see y(1). It is \"well known\" (not) z;
     Down.

  Down
     --db path, --x=y
           Where it lives; \"a-b\".

     A     Short.

     Then:

          one  two

          three -four
";
        assert_eq!(render(source, 60), want);
    }

    #[test]
    fn lines_are_wrapped_to_the_columns() {
        let text = render(&format!(".Sh D\n{}", "word ".repeat(50)), 40);
        assert!(text.lines().all(|line| line.len() <= 40) && text.lines().count() == 1 + 8, "{text}");
    }
}
