//! The page: plain HTML, CSS and JavaScript, carried in the binary as it stands in this folder, but packed
//! (`src/build.rs`): so it is sent, too.
//!
//! Comes in: the name of a file, or data to be put into a page of its own. Goes out: bytes, and the headers without
//! which they must not be served. A trace is hostile input; what keeps it from doing anything is in `text.js` (text is
//! only ever text) and in the policies here. Scripts are modules that import each other by name; a page that stands
//! alone has them one after the other, so no two of them may use the same name at their top level (a test checks).
mod pack;

pub use pack::Packer;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniz_oxide::inflate::decompress_to_vec;
use ring::digest::{SHA256, digest};

/// A file of the page.
pub struct Asset {
    pub name: &'static str,
    /// Its `Content-Type`.
    pub kind: &'static str,
    /// A member of gzip (RFC 1952), as it is sent to who takes that.
    pub packed: &'static [u8],
}

/// A file as the build has packed it.
macro_rules! packed {
    ($name:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/web/", $name))
    };
}

const fn script(name: &'static str, packed: &'static [u8]) -> Asset {
    Asset { name, kind: "text/javascript; charset=utf-8", packed }
}

/// The page itself.
pub const INDEX: Asset =
    Asset { name: "index.html", kind: "text/html; charset=utf-8", packed: packed!("index.html") };

const STYLE: Asset = Asset { name: "app.css", kind: "text/css; charset=utf-8", packed: packed!("app.css") };

/// The scripts, each after those that it imports.
const SCRIPTS: [Asset; 12] = [
    script("text.js", packed!("text.js")),
    script("model.js", packed!("model.js")),
    script("source.js", packed!("source.js")),
    script("list.js", packed!("list.js")),
    script("chart.js", packed!("chart.js")),
    script("exchange.js", packed!("exchange.js")),
    script("timeline.js", packed!("timeline.js")),
    script("objective.js", packed!("objective.js")),
    script("team.js", packed!("team.js")),
    script("members.js", packed!("members.js")),
    script("enroll.js", packed!("enroll.js")),
    script("app.js", packed!("app.js")),
];

const OTHERS: [Asset; 2] = [
    script("sw.js", packed!("sw.js")),
    Asset { name: "icon.svg", kind: "image/svg+xml", packed: packed!("icon.svg") },
];

/// What every file is served with. The page may load nothing but what comes from where it came from.
pub const HEADERS: [(&str, &str); 5] = [
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    ("Cache-Control", "no-cache"), // asked for anew each time, and not sent again if the ETag is the same
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
];

/// The file of that name.
#[must_use]
pub fn asset(name: &str) -> Option<&'static Asset> {
    static ALL: [&[Asset]; 3] = [&[STYLE], &SCRIPTS, &OTHERS];
    ALL.into_iter().flatten().find(|asset| asset.name == name)
}

impl Asset {
    /// The text.
    ///
    /// # Panics
    /// Never: a test reads what the build has packed.
    #[must_use]
    pub fn text(&self) -> String {
        // Ten bytes of header come before what is deflated, and eight of check and length after it.
        let deflated = &self.packed[10..self.packed.len() - 8];
        let bytes = decompress_to_vec(deflated).expect("the build packs it whole");
        String::from_utf8(bytes).expect("the build reads the files as text")
    }

    /// Changes with the text; the `packed` form has another one (RFC 9110 §8.8.3.3).
    #[must_use]
    pub fn etag(&self, packed: bool) -> String {
        format!("\"{}{}\"", &hash(self.packed)[..22], if packed { "-gzip" } else { "" })
    }
}

fn hash(bytes: &[u8]) -> String {
    STANDARD.encode(digest(&SHA256, bytes))
}

/// A page that stands alone in a file: before and after its data, which is JSON whose `<` are escaped ([`inert`]).
#[must_use]
pub fn standalone() -> (String, &'static str) {
    let scripts: String = SCRIPTS.iter().map(|asset| joined(&asset.text())).collect();
    let style = STYLE.text();
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src blob:; base-uri 'none'; \
         form-action 'none'",
        hash(scripts.as_bytes()),
        hash(style.as_bytes())
    );
    let head = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>ac7 trace</title>\n<style>{style}</style>\n<body>\n<script type=\"module\">{scripts}</script>\n\
         <script type=\"application/json\" id=\"data\">"
    );
    (head, "</script>\n</body>\n</html>\n")
}

/// A script as it stands after the ones that it imports.
fn joined(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("import ")) {
        out.push_str(line.strip_prefix("export ").unwrap_or(line));
        out.push('\n');
    }
    out
}

/// JSON that a page can hold: it has no `<`, with which alone its element could end.
#[must_use]
pub fn inert(json: &str) -> String {
    json.replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn all() -> impl Iterator<Item = &'static Asset> {
        static FIRST: [Asset; 2] = [INDEX, STYLE];
        static REST: [&[Asset]; 2] = [&SCRIPTS, &OTHERS];
        FIRST.iter().chain(REST.into_iter().flatten())
    }

    #[test]
    fn the_page_is_small_and_makes_no_code_out_of_text() {
        let sent: usize = all().map(|asset| asset.packed.len()).sum();
        let written: usize = all().map(|asset| asset.text().len()).sum();
        assert!(sent <= 60 << 10 && written <= 92 << 10, "{sent} bytes, {written} unpacked");
        for asset in all() {
            let text = asset.text();
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "Function(",
                "srcdoc",
                "javascript:",
                "http://",
                "https://",
                "DOMParser",
                "createContextualFragment",
            ] {
                let found = text.replace("http://www.w3.org/2000/svg", "").contains(word);
                assert!(!found, "{}: {word}", asset.name);
            }
            let handler = text.split(char::is_whitespace).find(|word| {
                let name = word.split("=\"").next().unwrap_or_default();
                word.contains("=\"") && name.starts_with("on") && name.len() > 4
            });
            assert_eq!(handler, None, "{}", asset.name);
        }
        assert!(
            !INDEX.text().contains("<style") && !INDEX.text().contains(" style="),
            "the policy forbids it"
        );
    }

    #[test]
    fn scripts_can_stand_one_after_the_other() {
        let (mut seen, mut names) = (Vec::new(), HashSet::new());
        for asset in &SCRIPTS {
            for line in asset.text().lines() {
                if let Some(from) = line.strip_prefix("import ").and_then(|l| l.split('\'').nth(1)) {
                    assert!(seen.contains(&from.trim_start_matches("./")), "{}: {line}", asset.name);
                    assert!(!line.contains(" as ") && line.ends_with("';"), "{}: {line}", asset.name);
                }
                let line = line.strip_prefix("export ").unwrap_or(line);
                let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$');
                let word = words.next().unwrap_or_default();
                let async_function = word == "async" && words.next() == Some("function");
                if async_function || ["const", "let", "class", "function"].contains(&word) {
                    let name = words.find(|w| !w.is_empty()).unwrap_or_default();
                    assert!(names.insert(name.to_string()), "{}: {name} is taken", asset.name);
                }
            }
            seen.push(asset.name);
        }
    }

    #[test]
    fn data_cannot_leave_its_element() {
        let json = inert(r#"{"a":"</script><script>alert(1)</script><!--"}"#);
        assert!(!json.contains('<'));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["a"], "</script><script>alert(1)</script><!--");
        let (head, tail) = standalone();
        assert_eq!(head.matches("</script>").count() + tail.matches("</script>").count(), 2);
    }

    #[test]
    fn files_are_found_by_name() {
        assert_eq!(asset("app.js").unwrap().kind, "text/javascript; charset=utf-8");
        assert_eq!(asset("app.css").unwrap().etag(false).len(), 24);
        for name in ["", "mod.rs", "index.html", "../mod.rs"] {
            assert!(asset(name).is_none(), "{name}");
        }
    }
}
