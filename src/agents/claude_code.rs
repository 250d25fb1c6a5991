//! Claude Code: its environment, the options that are put before the user's own, our hooks in its settings.
use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::environment::{Place, Variables, proxied};

/// The name that our server has in Claude Code's configuration.
pub const SERVER: &str = "ac7";

/// The variable that leads the bridge and the hooks to the session.
pub const SOCKET: &str = "AC7_RUNNER_SOCKET";

const SKIP_PERMISSIONS: &str = "--dangerously-skip-permissions";
const CHANNELS: &str = "--dangerously-load-development-channels";
const PROMPT: &str = "--append-system-prompt";
const SETTINGS: &str = "--settings";
const MCP_CONFIG: &str = "--mcp-config";

/// The events of Claude Code that we want to hear of.
const HOOKS: [&str; 2] = ["UserPromptSubmit", "Stop"];
/// Seconds that Claude Code gives a hook of ours; it takes one at most.
const HOOK_TIMEOUT: u64 = 5;

/// What to set in the environment for capture. `caller` looks a variable up in ours.
pub fn environment(place: Place<'_>, caller: impl Fn(&str) -> Option<OsString>) -> Variables {
    let mut set = proxied(place, &["NODE_EXTRA_CA_CERTS", "DENO_CERT"], caller);
    set.push(("NODE_USE_ENV_PROXY", "1".into()));
    set
}

/// What to set in the environment of a member of a team, whose session listens on `socket`.
pub fn member_environment(socket: &Path, caller: impl Fn(&str) -> Option<OsString>) -> Variables {
    let mut set: Variables = vec![(SOCKET, socket.into())];
    // Else the first call of the model goes out before our tools are there.
    if caller("MCP_CONNECTION_NONBLOCKING").is_none() {
        set.push(("MCP_CONNECTION_NONBLOCKING", "0".into()));
    }
    set
}

/// The entry under `mcpServers` that starts our bridge.
#[must_use]
pub fn server_entry(ac7: &Path, socket: &Path) -> Value {
    json!({
        "command": ac7.to_string_lossy(),
        "args": ["mcp-bridge"],
        "env": {SOCKET: socket.to_string_lossy()},
    })
}

/// What decides which options are put before the user's.
pub struct Plan<'a> {
    /// This program.
    pub ac7: &'a Path,
    /// What the broker has to say to its member.
    pub instructions: &'a str,
    /// The server's entry, if it could not be put into `.mcp.json`.
    pub inline: Option<&'a Value>,
    /// Whether Claude Code will refuse to skip permissions: we are root and IS_SANDBOX is not set.
    pub refuses_to_skip: bool,
}

/// Whether the user's arguments keep Claude Code from reading `.mcp.json`.
#[must_use]
pub fn ignores_project(user: &[OsString]) -> bool {
    has(user, "--strict-mcp-config")
}

/// The agent's arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// All of them.
    pub all: Vec<OsString>,
    /// The options that are ours.
    pub injected: Vec<&'static str>,
    /// The options that are not, and why.
    pub suppressed: Vec<(&'static str, String)>,
}

/// The user's arguments with ours before them. `read` reads the user's own file of settings.
pub fn arguments(
    user: &[OsString],
    plan: &Plan<'_>,
    read: impl Fn(&Path) -> std::io::Result<String>,
) -> Arguments {
    let mut out = Arguments::default();
    let mut user = user.to_vec();
    // Options that take any number of values come first: the next option ends them, a prompt of the user's would not.
    if let Some(entry) = plan.inline {
        let servers = json!({"mcpServers": {SERVER: entry}}).to_string();
        out.inject(MCP_CONFIG, Some(servers.into()));
    }
    let given = "you pass it yourself";
    if has(&user, CHANNELS) {
        out.suppressed.push((CHANNELS, given.to_string()));
    } else {
        out.inject(CHANNELS, Some(format!("server:{SERVER}").into()));
    }
    if has(&user, PROMPT) {
        out.suppressed.push((PROMPT, given.to_string()));
    } else if !plan.instructions.is_empty() {
        out.inject(PROMPT, Some(plan.instructions.into()));
    }
    match settings(&user, plan.ac7, read) {
        Ok(merged) => {
            remove(&mut user, SETTINGS);
            out.inject(SETTINGS, Some(merged.to_string().into()));
        }
        Err(why) => out.suppressed.push((SETTINGS, why)),
    }
    if has(&user, SKIP_PERMISSIONS) {
        out.suppressed.push((SKIP_PERMISSIONS, given.to_string()));
    } else if plan.refuses_to_skip {
        let why = "Claude Code refuses it to root; IS_SANDBOX=1 says that this is a sandbox".to_string();
        out.suppressed.push((SKIP_PERMISSIONS, why));
    } else {
        out.inject(SKIP_PERMISSIONS, None);
    }
    out.all.append(&mut user);
    out
}

impl Arguments {
    fn inject(&mut self, option: &'static str, value: Option<OsString>) {
        self.injected.push(option);
        self.all.push(option.into());
        self.all.extend(value);
    }
}

/// Where the user's options end: at `--`.
fn options(user: &[OsString]) -> &[OsString] {
    let end = user.iter().position(|word| word == "--").unwrap_or(user.len());
    &user[..end]
}

/// The value of `--option=value`.
fn attached<'a>(word: &'a OsStr, option: &str) -> Option<&'a str> {
    word.to_str()?.strip_prefix(option)?.strip_prefix('=')
}

fn has(user: &[OsString], option: &str) -> bool {
    options(user).iter().any(|word| word == option || attached(word, option).is_some())
}

/// The value of an option that takes one; of several the last.
fn value<'a>(user: &'a [OsString], option: &str) -> Option<&'a OsStr> {
    let words = options(user);
    let at = words.iter().rposition(|word| word == option || attached(word, option).is_some())?;
    attached(&words[at], option).map(OsStr::new).or_else(|| words.get(at + 1).map(OsString::as_os_str))
}

/// Take an option that takes a value out.
fn remove(user: &mut Vec<OsString>, option: &str) {
    while let Some(at) = options(user).iter().position(|w| w == option || attached(w, option).is_some()) {
        let words = if attached(&user[at], option).is_some() { 1 } else { 2 };
        user.drain(at..(at + words).min(user.len()));
    }
}

/// The user's settings with our hooks added, or why they are left alone.
fn settings(
    user: &[OsString],
    ac7: &Path,
    read: impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Value, String> {
    let theirs = if has(user, SETTINGS) {
        let given = value(user, SETTINGS).ok_or("yours has no value")?;
        let inline = given.to_str().filter(|text| text.trim_start().starts_with('{'));
        let text = match inline {
            Some(text) => text.to_string(),
            None => read(Path::new(given)).map_err(|why| format!("yours cannot be read: {why}"))?,
        };
        serde_json::from_str(&text).map_err(|why| format!("yours is not JSON: {why}"))?
    } else {
        Value::Object(Map::new())
    };
    let Value::Object(mut settings) = theirs else {
        return Err("yours is not a JSON object".to_string());
    };
    let hooks = settings.entry("hooks").or_insert_with(|| json!({}));
    let hooks = hooks.as_object_mut().ok_or("hooks in yours is not an object")?;
    for event in HOOKS {
        let list = hooks.entry(event).or_insert_with(|| json!([]));
        let list = list.as_array_mut().ok_or_else(|| format!("hooks.{event} in yours is not a list"))?;
        let command = format!("{} hook {event}", quoted(ac7));
        list.push(json!({"hooks": [{"type": "command", "command": command, "timeout": HOOK_TIMEOUT}]}));
    }
    Ok(Value::Object(settings))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect()
    }

    fn plan() -> Plan<'static> {
        Plan {
            ac7: Path::new("/opt/it's/ac7"),
            instructions: "You are ann.",
            inline: None,
            refuses_to_skip: false,
        }
    }

    fn given(user: &str) -> Arguments {
        arguments(&words(user), &plan(), |_| Err(io::ErrorKind::NotFound.into()))
    }

    /// The words without the values of settings.
    fn shape(arguments: &Arguments) -> String {
        let text = |w: &OsString| w.to_str().unwrap().to_string();
        let short = |w: String| if w.starts_with('{') { "{}".to_string() } else { w };
        arguments.all.iter().map(text).map(short).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ours_stand_before_the_users_and_give_way_to_theirs() {
        let channels = "--dangerously-load-development-channels server:ac7";
        let prompt = "--append-system-prompt You are ann.";
        let skip = "--dangerously-skip-permissions";
        for (user, want) in [
            ("", format!("{channels} {prompt} --settings {{}} {skip}")),
            ("-p hi", format!("{channels} {prompt} --settings {{}} {skip} -p hi")),
            (skip, format!("{channels} {prompt} --settings {{}} {skip}")),
            (
                "--append-system-prompt X -p hi",
                format!("{channels} --settings {{}} {skip} --append-system-prompt X -p hi"),
            ),
            (
                "--append-system-prompt=X",
                format!("{channels} --settings {{}} {skip} --append-system-prompt=X"),
            ),
            (
                "--dangerously-load-development-channels server:x",
                format!("{prompt} --settings {{}} {skip} --dangerously-load-development-channels server:x"),
            ),
            ("-p -- --settings", format!("{channels} {prompt} --settings {{}} {skip} -p -- --settings")),
            (
                "--append-system-prompts",
                format!("{channels} {prompt} --settings {{}} {skip} --append-system-prompts"),
            ),
            ("--settings nope.json -p hi", format!("{channels} {prompt} {skip} --settings nope.json -p hi")),
        ] {
            assert_eq!(shape(&given(user)), want, "{user}");
        }
    }

    #[test]
    fn root_outside_a_sandbox_is_told_why() {
        let got = arguments(&[], &Plan { refuses_to_skip: true, ..plan() }, |_| Ok(String::new()));
        assert!(!got.injected.contains(&SKIP_PERMISSIONS));
        assert!(got.suppressed.iter().any(|(o, why)| *o == SKIP_PERMISSIONS && why.contains("IS_SANDBOX=1")));
    }

    #[test]
    fn a_server_given_inline_comes_first_so_that_it_swallows_no_prompt() {
        let entry = server_entry(Path::new("/bin/ac7"), Path::new("/tmp/s.sock"));
        let user = words("prompt");
        let got = arguments(&user, &Plan { inline: Some(&entry), ..plan() }, |_| Ok(String::new()));
        assert_eq!(got.all[0], MCP_CONFIG);
        let config: Value = serde_json::from_str(got.all[1].to_str().unwrap()).unwrap();
        assert_eq!(config["mcpServers"]["ac7"]["env"]["AC7_RUNNER_SOCKET"], "/tmp/s.sock");
        assert_eq!(config["mcpServers"]["ac7"]["args"], json!(["mcp-bridge"]));
    }

    #[test]
    fn settings_are_merged_and_the_callers_hooks_stay() {
        let theirs = r#"{"model":"x","hooks":{"Stop":[{"hooks":[{"type":"command","command":"mine"}]}],"SessionStart":[]}}"#;
        for user in [
            vec!["--settings".into(), theirs.into(), "-p".into()],
            vec![format!("--settings={theirs}").into(), "-p".into()],
            words("--settings file.json -p"),
            words("--settings other.json --settings file.json -p"),
        ] {
            let read = |path: &Path| {
                if path == Path::new("file.json") { Ok(theirs.to_string()) } else { Ok("{}".into()) }
            };
            let got = arguments(&user, &plan(), read);
            let at = got.all.iter().position(|w| w == SETTINGS).unwrap();
            assert_eq!(got.all.iter().filter(|w| w.to_str().unwrap().starts_with(SETTINGS)).count(), 1);
            let merged: Value = serde_json::from_str(got.all[at + 1].to_str().unwrap()).unwrap();
            assert_eq!((&merged["model"], &merged["hooks"]["SessionStart"]), (&json!("x"), &json!([])));
            assert_eq!(merged["hooks"]["Stop"][0]["hooks"][0]["command"], "mine");
            assert_eq!(merged["hooks"]["Stop"][1]["hooks"][0]["command"], r"'/opt/it'\''s/ac7' hook Stop");
            assert_eq!(merged["hooks"]["UserPromptSubmit"][0]["hooks"][0]["type"], "command");
            assert_eq!(got.all.last().unwrap(), "-p");
        }
    }

    #[test]
    fn settings_that_cannot_be_merged_are_the_callers_business() {
        for (value, why) in [
            ("[1]", "yours cannot be read: "),
            ("{", "yours is not JSON: "),
            (r#"{"hooks":[]}"#, "hooks in yours is not an object"),
            (r#"{"hooks":{"Stop":{}}}"#, "hooks.Stop in yours is not a list"),
        ] {
            let user = vec![SETTINGS.into(), OsString::from(value)];
            let got = arguments(&user, &plan(), |_| Err(io::ErrorKind::NotFound.into()));
            assert_eq!(got.all[got.all.len() - 2..], user, "{value}");
            let (_, said) = got.suppressed.iter().find(|(o, _)| *o == SETTINGS).unwrap();
            assert!(said.starts_with(why), "{value}: {said}");
        }
        let got = arguments(&words("-p --settings"), &plan(), |_| Ok(String::new()));
        assert_eq!(got.suppressed[0], (SETTINGS, "yours has no value".to_string()));
    }

    #[test]
    fn the_environment_is_that_of_the_design() {
        let place = Place { port: 4711, ca: Path::new("/t/ca.pem"), bundle: Path::new("/t/bundle.pem") };
        let set = environment(place, |_| None);
        let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_str().unwrap());
        for (name, want) in [
            ("HTTPS_PROXY", Some("http://127.0.0.1:4711")),
            ("NODE_USE_ENV_PROXY", Some("1")),
            ("NODE_EXTRA_CA_CERTS", Some("/t/ca.pem")),
            ("SSL_CERT_FILE", Some("/t/bundle.pem")),
            ("DENO_CERT", Some("/t/ca.pem")),
            ("CODEX_CA_CERTIFICATE", None),
        ] {
            assert_eq!(get(name), want, "{name}");
        }
        let socket = Path::new("/t/s");
        assert_eq!(member_environment(socket, |_| None).len(), 2);
        let set = |name: &str| (name == "MCP_CONNECTION_NONBLOCKING").then(|| OsString::from("1"));
        assert_eq!(member_environment(socket, set), [(SOCKET, OsString::from("/t/s"))]);
    }
}
