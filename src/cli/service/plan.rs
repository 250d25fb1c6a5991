//! What each action means to systemd and to launchd: files and command lines, as data.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The unit's name.
pub const UNIT: &str = "ac7.service";
const LABEL: &str = "org.ac7.broker";

const SYSTEM: &str = include_str!("ac7.service");
const SOCKET_UNIT: &str = "ac7.socket";
const SOCKET: &str = include_str!("ac7.socket");
const SOCKET_DROP_IN: &str = include_str!("ac7-socket.conf");
const USER: &str = include_str!("ac7-user.service");
const RUN: &str = include_str!("ac7-run@.service");
const LAUNCHD: &str = include_str!("org.ac7.broker.plist");

/// systemd's log as a JSON object a record, with nothing left out of long ones.
const RECORDS: &[&str] = &["--output", "json", "--output-fields", "MESSAGE", "--all"];

/// Who runs services here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    Launchd,
}

/// Whose services: the machine's, or the user's with this home directory and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    System,
    User { home: PathBuf, uid: u32 },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a file; a private one is its owner's alone.
    Write {
        path: PathBuf,
        content: String,
        private: bool,
    },
    Remove(PathBuf),
    /// Run a command, which should succeed.
    Run(Vec<String>),
    /// The same where a failure is no news: what is to be stopped may not run.
    Try(Vec<String>),
}

/// A place where services are kept.
pub struct Plan {
    pub manager: Manager,
    pub scope: Scope,
}

impl Plan {
    /// Where the units or the property list lie.
    fn folder(&self) -> PathBuf {
        match (self.manager, &self.scope) {
            (Manager::Systemd, Scope::System) => "/etc/systemd/system".into(),
            (Manager::Systemd, Scope::User { home, .. }) => home.join(".config/systemd/user"),
            (Manager::Launchd, Scope::System) => "/Library/LaunchDaemons".into(),
            (Manager::Launchd, Scope::User { home, .. }) => home.join("Library/LaunchAgents"),
        }
    }

    /// Where the broker's own things lie.
    fn home(&self) -> PathBuf {
        match &self.scope {
            Scope::System => "/var/lib/ac7".into(),
            Scope::User { home, .. } => home.join(".config/ac7"),
        }
    }

    /// Where secret variables of the service lie.
    fn variables(&self) -> PathBuf {
        match (self.manager, &self.scope) {
            (Manager::Systemd, Scope::System) => "/etc/ac7/env".into(),
            _ => self.home().join("env"),
        }
    }

    /// Where launchd puts what the broker says.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        match &self.scope {
            Scope::System => "/Library/Logs/ac7/broker.log".into(),
            Scope::User { home, .. } => home.join("Library/Logs/ac7/broker.log"),
        }
    }

    fn systemctl(&self, words: &[&str]) -> Vec<String> {
        let user = matches!(self.scope, Scope::User { .. }).then_some("--user");
        ["systemctl"].into_iter().chain(user).chain(words.iter().copied()).map(str::to_string).collect()
    }

    /// launchd's name of the place where services run, or of the service there.
    fn domain(&self, service: bool) -> String {
        let domain = match &self.scope {
            Scope::System => "system".to_string(),
            Scope::User { uid, .. } => format!("gui/{uid}"),
        };
        if service { format!("{domain}/{LABEL}") } else { domain }
    }

    /// Make the service of the program `ac7`, and start it at every boot or login.
    #[must_use]
    pub fn install(&self, ac7: &Path) -> Vec<Step> {
        let fill = |text: &str| text.replace("@AC7@", &ac7.display().to_string());
        let file = |name: &str, content: String| Step::Write {
            path: self.folder().join(name),
            content,
            private: false,
        };
        match (self.manager, &self.scope) {
            (Manager::Systemd, scope) => {
                let mut steps = match scope {
                    Scope::System => vec![file(UNIT, fill(SYSTEM))],
                    Scope::User { .. } => vec![file(UNIT, fill(USER)), file("ac7-run@.service", fill(RUN))],
                };
                steps.push(Step::Run(self.systemctl(&["daemon-reload"])));
                steps.push(Step::Run(self.systemctl(&["enable", UNIT])));
                steps
            }
            (Manager::Launchd, _) => {
                let log = self.log_file();
                let logs = log.parent().unwrap_or(&log).display().to_string();
                let text = fill(LAUNCHD)
                    .replace("@HOME@", &self.home().display().to_string())
                    .replace("@LOGS@", &logs);
                let path = self.folder().join(format!("{LABEL}.plist"));
                let (domain, place) = (self.domain(false), path.display().to_string());
                let load = ["launchctl", "bootstrap", &domain, &place].map(str::to_string).to_vec();
                vec![Step::Write { path, content: text, private: false }, Step::Run(load)]
            }
        }
    }

    /// The same, with a socket that systemd listens on and hands over.
    #[must_use]
    pub fn install_with_socket(&self, ac7: &Path, listen: SocketAddr) -> Vec<Step> {
        let content = SOCKET.replace("@LISTEN@", &listen.to_string());
        let mut steps = vec![
            Step::Write { path: self.folder().join(SOCKET_UNIT), content, private: false },
            Step::Write { path: self.drop_in("socket"), content: SOCKET_DROP_IN.to_string(), private: false },
        ];
        steps.extend(self.install(ac7));
        steps.push(Step::Run(self.systemctl(&["enable", SOCKET_UNIT])));
        steps
    }

    /// Stop it and forget it; what the broker has stays.
    #[must_use]
    pub fn uninstall(&self) -> Vec<Step> {
        match self.manager {
            Manager::Systemd => {
                let names: &[&str] = match self.scope {
                    Scope::System => &[UNIT],
                    Scope::User { .. } => &[UNIT, "ac7-run@.service"],
                };
                // The socket first, which would start the service again.
                let stop = |unit| Step::Try(self.systemctl(&["disable", "--now", unit]));
                let mut steps =
                    vec![stop(SOCKET_UNIT), stop(UNIT), Step::Remove(self.folder().join(SOCKET_UNIT))];
                steps.extend(names.iter().map(|name| Step::Remove(self.folder().join(name))));
                steps.extend(["env", "socket"].map(|what| Step::Remove(self.drop_in(what))));
                steps.push(Step::Run(self.systemctl(&["daemon-reload"])));
                steps
            }
            Manager::Launchd => vec![
                Step::Try(vec!["launchctl".into(), "bootout".into(), self.domain(true)]),
                Step::Remove(self.folder().join(format!("{LABEL}.plist"))),
            ],
        }
    }

    /// `start`, `stop`, `restart`, `reload` or `status`.
    #[must_use]
    pub fn act(&self, action: &str) -> Vec<String> {
        let launchctl = |words: &[&str]| {
            let service = self.domain(true);
            let words = words.iter().copied().chain([service.as_str()]);
            ["launchctl"].into_iter().chain(words).map(str::to_string).collect()
        };
        match (self.manager, action) {
            (Manager::Systemd, "status") => self.systemctl(&["status", "--no-pager", UNIT]),
            (Manager::Systemd, action) => self.systemctl(&[action, UNIT]),
            (Manager::Launchd, "start") => launchctl(&["kickstart"]),
            (Manager::Launchd, "restart") => launchctl(&["kickstart", "-k"]),
            (Manager::Launchd, "stop") => launchctl(&["kill", "SIGTERM"]),
            (Manager::Launchd, "reload") => launchctl(&["kill", "SIGHUP"]),
            (Manager::Launchd, _) => launchctl(&["print"]),
        }
    }

    /// What shows the last so many lines of the log, and those to come.
    #[must_use]
    pub fn logs(&self, lines: u32, follow: bool) -> Vec<String> {
        let mut asked = vec!["--output", "cat"];
        asked.extend(follow.then_some("--follow"));
        self.log(lines, &asked, follow)
    }

    /// What shows the last so many records of the log since then (seconds since the epoch, 0 for ever), each with its
    /// time where the service manager knows it.
    #[must_use]
    pub fn records(&self, lines: u32, since: u64) -> Vec<String> {
        let since = format!("@{since}");
        let asked: &[&str] = if since == "@0" { RECORDS } else { &[RECORDS, &["--since", &since]].concat() };
        self.log(lines, asked, false)
    }

    /// What shows the records to come: all those after the one at `cursor`, if there is one.
    #[must_use]
    pub fn records_to_come(&self, cursor: Option<&str>) -> Vec<String> {
        let asked = cursor.map_or(vec![], |cursor| vec!["--no-tail", "--after-cursor", cursor]);
        self.log(0, &[RECORDS, &["--follow"], &asked].concat(), true)
    }

    /// The command that shows the log; `asked` is for systemd alone.
    fn log(&self, lines: u32, asked: &[&str], follow: bool) -> Vec<String> {
        let (lines, file) = (lines.to_string(), self.log_file().display().to_string());
        let words = match self.manager {
            Manager::Systemd => {
                let unit = if self.scope == Scope::System { "--unit" } else { "--user-unit" };
                let words: &[&str] = &["journalctl", unit, UNIT, "--no-pager", "--lines", &lines];
                [words, asked].concat()
            }
            Manager::Launchd if follow => vec!["tail", "-n", &lines, "-F", &file],
            Manager::Launchd => vec!["tail", "-n", &lines, &file],
        };
        words.into_iter().map(str::to_string).collect()
    }

    fn drop_in(&self, what: &str) -> PathBuf {
        self.folder().join(format!("{UNIT}.d/{what}.conf"))
    }

    /// Give the service a variable; `known` is what the file of variables has so far.
    #[must_use]
    pub fn set_variable(&self, name: &str, value: &str, known: &str) -> Vec<Step> {
        let mut lines: Vec<String> = known
            .lines()
            .filter(|line| line.split_once('=').is_none_or(|(before, _)| before != name))
            .map(str::to_string)
            .collect();
        // Single quotes mean the same to systemd and to a shell.
        lines.push(format!("{name}='{value}'"));
        let content = lines.join("\n") + "\n";
        let mut steps = vec![Step::Write { path: self.variables(), content, private: true }];
        if self.manager == Manager::Systemd {
            let content = format!("[Service]\nEnvironmentFile=-{}\n", self.variables().display());
            steps.push(Step::Write { path: self.drop_in("env"), content, private: false });
            steps.push(Step::Run(self.systemctl(&["daemon-reload"])));
        }
        steps
    }

    /// The file of variables.
    #[must_use]
    pub fn variables_file(&self) -> PathBuf {
        self.variables()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(manager: Manager, user: bool) -> Plan {
        let scope = if user { Scope::User { home: "/h".into(), uid: 501 } } else { Scope::System };
        Plan { manager, scope }
    }

    /// The steps in a line each.
    fn told(steps: &[Step]) -> Vec<String> {
        let told = |step: &Step| match step {
            Step::Write { path, private, .. } => {
                format!("{} {}", if *private { "private" } else { "write" }, path.display())
            }
            Step::Remove(path) => format!("remove {}", path.display()),
            Step::Run(words) => words.join(" "),
            Step::Try(words) => format!("try {}", words.join(" ")),
        };
        steps.iter().map(told).collect()
    }

    #[test]
    fn actions_in_the_words_of_each_manager() {
        let (systemd, launchd) = (Manager::Systemd, Manager::Launchd);
        let install = |manager, user| told(&plan(manager, user).install(Path::new("/opt/ac7"))).join("; ");
        assert_eq!(
            install(systemd, false),
            "write /etc/systemd/system/ac7.service; systemctl daemon-reload; systemctl enable ac7.service"
        );
        assert_eq!(
            install(systemd, true),
            "write /h/.config/systemd/user/ac7.service; write /h/.config/systemd/user/ac7-run@.service; \
             systemctl --user daemon-reload; systemctl --user enable ac7.service"
        );
        assert_eq!(
            install(launchd, true),
            "write /h/Library/LaunchAgents/org.ac7.broker.plist; \
             launchctl bootstrap gui/501 /h/Library/LaunchAgents/org.ac7.broker.plist"
        );
        for (manager, user, action, want) in [
            (systemd, false, "restart", "systemctl restart ac7.service"),
            (systemd, true, "reload", "systemctl --user reload ac7.service"),
            (systemd, false, "status", "systemctl status --no-pager ac7.service"),
            (launchd, true, "start", "launchctl kickstart gui/501/org.ac7.broker"),
            (launchd, true, "restart", "launchctl kickstart -k gui/501/org.ac7.broker"),
            (launchd, false, "stop", "launchctl kill SIGTERM system/org.ac7.broker"),
            (launchd, false, "reload", "launchctl kill SIGHUP system/org.ac7.broker"),
            (launchd, true, "status", "launchctl print gui/501/org.ac7.broker"),
        ] {
            assert_eq!(plan(manager, user).act(action).join(" "), want);
        }
        let journal = "journalctl --unit ac7.service --no-pager --lines";
        let records = "--output json --output-fields MESSAGE --all";
        let file = "/h/Library/Logs/ac7/broker.log";
        let (ours, theirs) = (plan(systemd, false), plan(launchd, true));
        for (words, want) in [
            (ours.logs(80, true), format!("{journal} 80 --output cat --follow")),
            (ours.records(9, 0), format!("{journal} 9 {records}")),
            (ours.records(9, 17), format!("{journal} 9 {records} --since @17")),
            (ours.records_to_come(None), format!("{journal} 0 {records} --follow")),
            (
                ours.records_to_come(Some("s=1;i=2")),
                format!("{journal} 0 {records} --follow --no-tail --after-cursor s=1;i=2"),
            ),
            (theirs.logs(20, false), format!("tail -n 20 {file}")),
            (theirs.records(20, 17), format!("tail -n 20 {file}")),
            (theirs.records_to_come(None), format!("tail -n 0 -F {file}")),
        ] {
            assert_eq!(words.join(" "), want);
        }
        assert_eq!(
            told(&plan(systemd, false).uninstall()).join("; "),
            "try systemctl disable --now ac7.socket; try systemctl disable --now ac7.service; \
             remove /etc/systemd/system/ac7.socket; remove /etc/systemd/system/ac7.service; \
             remove /etc/systemd/system/ac7.service.d/env.conf; \
             remove /etc/systemd/system/ac7.service.d/socket.conf; systemctl daemon-reload"
        );
        let listen = "[::1]:443".parse().unwrap();
        let steps = plan(systemd, true).install_with_socket(Path::new("/opt/ac7"), listen);
        assert!(
            matches!(&steps[0], Step::Write { content, .. } if content.contains("\nListenStream=[::1]:443\n"))
        );
        assert_eq!(
            told(&steps).join("; "),
            "write /h/.config/systemd/user/ac7.socket; write /h/.config/systemd/user/ac7.service.d/socket.conf; \
             write /h/.config/systemd/user/ac7.service; write /h/.config/systemd/user/ac7-run@.service; \
             systemctl --user daemon-reload; systemctl --user enable ac7.service; systemctl --user enable ac7.socket"
        );
    }

    #[test]
    fn no_mark_of_a_template_is_left() {
        for manager in [Manager::Systemd, Manager::Launchd] {
            for user in [false, true] {
                for step in plan(manager, user).install(Path::new("/opt/a c7")) {
                    if let Step::Write { path, content, .. } = step {
                        let run = path.ends_with("ac7-run@.service");
                        assert!(content.contains("/opt/a c7"), "{content}");
                        assert!(run || !content.replace("@system-service", "").contains("@AC7@"));
                        assert!(!content.contains("@HOME@") && !content.contains("@LOGS@"), "{content}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_variable_is_private_and_replaces_the_one_of_its_name() {
        let steps = plan(Manager::Systemd, false).set_variable("B", "x y", "A='1'\nB='2'\nBC='3'\n");
        assert_eq!(
            told(&steps).join("; "),
            "private /etc/ac7/env; write /etc/systemd/system/ac7.service.d/env.conf; systemctl daemon-reload"
        );
        let Step::Write { content, .. } = &steps[0] else { panic!("{steps:?}") };
        assert_eq!(content, "A='1'\nBC='3'\nB='x y'\n");
        let steps = plan(Manager::Launchd, true).set_variable("A", "1", "");
        assert_eq!(told(&steps), ["private /h/.config/ac7/env"]);
    }
}
