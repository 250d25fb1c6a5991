//! A team with a broker, and a home in which agents run.
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use support::run::{Finished, Home};

/// A home of its own, a team with ann and bob, and a broker that serves it until this is dropped.
pub struct Team {
    pub home: Home,
    pub url: String,
    /// The token of ann, who may do everything.
    pub ann: String,
    /// The token of bob, who may do nothing special.
    pub bob: String,
    broker: Child,
}

impl Team {
    pub fn new() -> Team {
        let home = support::ac7!();
        let token = |done: Finished| {
            let word = done.stdout.split_whitespace().find(|word| word.starts_with("ac7_"));
            word.unwrap_or_else(|| panic!("no token: {done:?}")).to_string()
        };
        let ann = token(home.run(["setup", "--non-interactive", "--team", "T", "--member", "ann"]));
        let bob = token(home.run(["member", "create", "bob"]));
        // What is in the home's own temporary directory is the agents'.
        let tmp = home.join("broker-tmp");
        fs::create_dir(&tmp).unwrap();
        let mut serve = home.ac7(["serve", "--port", "0"]);
        let mut broker = serve.env("TMPDIR", tmp).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(broker.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = said.find_map(|line| line.split_once("listening on ").map(|(_, url)| url.to_string()));
        // Whoever writes into a pipe that nobody reads may wait for ever.
        thread::spawn(move || said.for_each(drop));
        Team { home, url: url.expect("the broker says where it listens"), ann, bob, broker }
    }

    /// End the broker at once.
    pub fn kill_broker(&mut self) {
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.kill_broker();
    }
}

/// A shell script under this name in `home`, where it is also the working directory.
///
/// Another process writes it: a file that this one has open for writing when a test forks cannot be executed.
pub fn script(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.join("home").join(name);
    let mut shell = Command::new("sh");
    shell.args(["-c", "cat > \"$0\" && chmod 700 \"$0\""]).arg(&path).stdin(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    write!(shell.stdin.take().unwrap(), "#!/bin/sh\n{text}").unwrap();
    assert!(shell.wait().unwrap().success());
    path
}

/// `ac7 claude-code FLAGS` as bob, with the script `claude` as the agent.
pub fn claude_code(team: &Team, flags: &[&str]) -> Command {
    claude_code_at(&team.home, &team.url, &team.bob, flags)
}

/// The same with another broker.
pub fn claude_code_at(home: &Home, url: &str, token: &str, flags: &[&str]) -> Command {
    let mut command = home.ac7(["claude-code", "--url", url]);
    let claude = home.join("home/claude");
    command.args(flags).env("AC7_TOKEN", token).env("CLAUDE_PATH", claude).env("IS_SANDBOX", "1");
    command
}

/// What sessions have left in the temporary directory; the broker's own folder is none of theirs.
pub fn left_behind(team: &Team) -> Vec<String> {
    let names = team.home.left_behind().into_iter();
    names.filter(|name| !name.starts_with("ac7-broker-")).collect()
}
