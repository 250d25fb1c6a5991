//! What is decrypted and what is passed through untouched: pure rules and a memory of clients.
//!
//! In doubt, a connection is passed through: that costs a record, a wrong decryption costs the user's work.
use std::collections::{HashMap, HashSet};

/// Which hosts' connections are decrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Model hosts, and other hosts for clients that have proved to trust the session's CA.
    Agent,
    /// Every host.
    #[default]
    All,
    /// Model hosts alone.
    Model,
}

/// Hosts of model providers, each with its subdomains.
const MODEL_HOSTS: [&str; 14] = [
    "anthropic.com",
    "claude.ai",
    "claude.com",
    "openai.com",
    "chatgpt.com",
    "openai.azure.com",
    "services.ai.azure.com",
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "openrouter.ai",
    "mistral.ai",
    "groq.com",
    "x.ai",
    "deepseek.com",
];

/// A host and its subdomains: `example.com` also stands for `api.example.com`; a leading `*.` changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    /// A pattern out of what a user typed; case, a leading `*.` and brackets around IPv6 are dropped.
    #[must_use]
    pub fn new(text: &str) -> HostPattern {
        let text = text.trim().trim_start_matches("*.").trim_start_matches('.');
        HostPattern(text.trim_matches(['[', ']']).to_ascii_lowercase())
    }

    /// Whether `host` (lower case) is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        host.strip_suffix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The host itself.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0
    }
}

/// The user's wishes.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub scope: Scope,
    /// Model hosts beyond the known ones: `--trace-host`, and the base URLs of the agent's environment.
    pub model_hosts: Vec<HostPattern>,
    /// `--trace-only`: these and nothing else, whatever the scope. Empty: no such limit.
    pub only: Vec<HostPattern>,
    /// `--trace-skip`: never these.
    pub skip: Vec<HostPattern>,
}

/// Why a connection is passed through; the `reason` of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Scope,
    Skip,
    Rejected,
    H2Only,
    NotTls,
    NotHttp,
    /// The upstream could not be validated by us; the client may judge it otherwise.
    Upstream,
    /// The upstream asks for a certificate, which the client alone can have.
    ClientCertificate,
}

impl Reason {
    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reason::Scope => "scope",
            Reason::Skip => "skip",
            Reason::Rejected => "rejected",
            Reason::H2Only => "h2_only",
            Reason::NotTls => "not_tls",
            Reason::NotHttp => "not_http",
            Reason::Upstream => "upstream",
            Reason::ClientCertificate => "client_certificate",
        }
    }
}

/// What is known before the client has said anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByHost {
    /// Pass through.
    Splice(Reason),
    /// A model host: the upstream is validated first, and its failure is the agent's failure.
    Model,
    /// The ClientHello decides.
    AskHello,
}

impl Rules {
    /// The decision from the host (lower case) alone.
    #[must_use]
    pub fn by_host(&self, host: &str) -> ByHost {
        let among = |list: &[HostPattern]| list.iter().any(|p| p.matches(host));
        if among(&self.skip) {
            return ByHost::Splice(Reason::Skip);
        }
        if !self.only.is_empty() && !among(&self.only) {
            return ByHost::Splice(Reason::Scope);
        }
        if is_model_host(host) || among(&self.model_hosts) {
            return ByHost::Model;
        }
        match self.scope {
            Scope::Model if self.only.is_empty() => ByHost::Splice(Reason::Scope),
            _ => ByHost::AskHello,
        }
    }

    /// Whether a client whose trust is not proven is decrypted at a host that is not a model host.
    fn trusts_unproven(&self) -> bool {
        self.scope == Scope::All || !self.only.is_empty()
    }
}

/// Amazon's model hosts carry the region in the middle, so that no suffix names them.
fn is_model_host(host: &str) -> bool {
    let bedrock = host.starts_with("bedrock-runtime") && host.ends_with(".amazonaws.com");
    let vertex = host.ends_with("-aiplatform.googleapis.com");
    bedrock || vertex || MODEL_HOSTS.iter().any(|known| HostPattern((*known).to_string()).matches(host))
}

/// What tells one kind of client from another: cipher suites, signature schemes and ALPN of its ClientHello, without
/// GREASE (RFC 8701). Programs on the same TLS library share it, whatever they trust.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub Vec<u16>, pub Vec<u16>, pub Vec<Vec<u8>>);

impl Fingerprint {
    /// Whether HTTP/1.1 can be spoken with the client: it offers it, or nothing at all.
    #[must_use]
    pub fn speaks_http1(&self) -> bool {
        self.2.is_empty() || self.2.iter().any(|p| p == b"http/1.1")
    }
}

/// How a client has taken our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A certificate alert.
    Strong,
    /// An end of the connection that may also be a cancelled preconnect.
    Weak,
}

/// What clients have shown of their trust in the session's CA. One a session, behind a lock of its owner.
#[derive(Debug, Default)]
pub struct Memory {
    /// Have sent application data under a leaf of ours. A completed handshake proves nothing: git with GnuTLS and
    /// Node on TLS 1.2 finish it and then leave.
    proven: HashSet<Fingerprint>,
    succeeded: HashSet<(Fingerprint, String)>,
    rejected: HashSet<(Fingerprint, String)>,
    /// Weak rejections in a row of pairs that never succeeded.
    weak: HashMap<(Fingerprint, String), u32>,
    /// Hosts that are left alone whoever asks: what is spoken there inside TLS is not HTTP, or clients show who they
    /// are in the handshake.
    left_alone: HashMap<String, Reason>,
}

/// More clients or hosts than this are not told apart: the memory must not grow with a hostile client.
const MAX_MEMORY: usize = 4096;

impl Memory {
    /// [`Rules::by_host`] in the light of what was met there.
    #[must_use]
    pub fn by_host(&self, rules: &Rules, host: &str) -> ByHost {
        match (rules.by_host(host), self.left_alone.get(host)) {
            (ByHost::Model | ByHost::AskHello, Some(reason)) => ByHost::Splice(*reason),
            (by_rules, _) => by_rules,
        }
    }

    /// The decision once the hello is known: `None` to decrypt, or why not. `by_host` must not be `Splice`.
    #[must_use]
    pub fn by_hello(
        &self,
        rules: &Rules,
        by_host: ByHost,
        host: &str,
        client: &Fingerprint,
    ) -> Option<Reason> {
        if !client.speaks_http1() {
            return Some(Reason::H2Only);
        }
        if self.rejected.contains(&(client.clone(), host.to_string())) {
            return Some(Reason::Rejected);
        }
        let trusted = by_host == ByHost::Model || rules.trusts_unproven() || self.proven.contains(client);
        (!trusted).then_some(Reason::Scope)
    }

    /// The client sent application data under our leaf for `host`.
    pub fn succeeded(&mut self, client: &Fingerprint, host: &str) {
        let pair = (client.clone(), host.to_string());
        self.weak.remove(&pair);
        if self.succeeded.len() < MAX_MEMORY {
            self.proven.insert(client.clone());
            self.succeeded.insert(pair);
        }
    }

    /// The client did not take our leaf for `host`. Gives whether it counted.
    pub fn rejected(&mut self, client: &Fingerprint, host: &str, model: bool, how: Rejection) -> bool {
        let pair = (client.clone(), host.to_string());
        if how == Rejection::Weak {
            if self.succeeded.contains(&pair) {
                return false;
            }
            if self.weak.len() >= MAX_MEMORY {
                self.weak.clear();
            }
            let times = self.weak.entry(pair.clone()).or_insert(0);
            *times += 1;
            if model && *times < 2 {
                return false;
            }
        } else {
            self.proven.remove(client);
        }
        self.rejected.len() < MAX_MEMORY && self.rejected.insert(pair)
    }

    /// `host` is not to be decrypted from now on, for this reason.
    pub fn leave_alone(&mut self, host: &str, reason: Reason) {
        if self.left_alone.len() < MAX_MEMORY {
            self.left_alone.insert(host.to_string(), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Vec<HostPattern> {
        list.iter().map(|h| HostPattern::new(h)).collect()
    }

    fn client(number: u16, alpn: &[&str]) -> Fingerprint {
        Fingerprint(vec![number], vec![], alpn.iter().map(|p| p.as_bytes().to_vec()).collect())
    }

    #[test]
    fn a_pattern_is_a_host_and_its_subdomains() {
        for (pattern, host, want) in [
            ("example.com", "example.com", true),
            ("example.com", "a.b.example.com", true),
            ("*.Example.com", "a.example.com", true),
            ("example.com", "badexample.com", false),
            ("example.com", "example.com.evil", false),
            ("[::1]", "::1", true),
        ] {
            assert_eq!(HostPattern::new(pattern).matches(host), want, "{pattern} {host}");
        }
    }

    #[test]
    fn the_host_decides_first() {
        let open = |scope| Rules { scope, ..Rules::default() };
        let only =
            Rules { scope: Scope::Model, only: patterns(&["git.corp", "anthropic.com"]), ..Rules::default() };
        let skip = Rules { skip: patterns(&["anthropic.com"]), ..Rules::default() };
        let own = Rules { scope: Scope::Model, model_hosts: patterns(&["llm.corp"]), ..Rules::default() };
        for (rules, host, want) in [
            (&open(Scope::All), "github.com", ByHost::AskHello),
            (&open(Scope::Agent), "github.com", ByHost::AskHello),
            (&open(Scope::Model), "github.com", ByHost::Splice(Reason::Scope)),
            (&open(Scope::Model), "api.anthropic.com", ByHost::Model),
            (&open(Scope::Agent), "bedrock-runtime.eu-west-1.amazonaws.com", ByHost::Model),
            (&open(Scope::Agent), "europe-west1-aiplatform.googleapis.com", ByHost::Model),
            (&open(Scope::Agent), "s3.amazonaws.com", ByHost::AskHello),
            (&only, "git.corp", ByHost::AskHello),
            (&only, "api.anthropic.com", ByHost::Model),
            (&only, "api.openai.com", ByHost::Splice(Reason::Scope)),
            (&skip, "api.anthropic.com", ByHost::Splice(Reason::Skip)),
            (&own, "eu.llm.corp", ByHost::Model),
        ] {
            assert_eq!(rules.by_host(host), want, "{host} {rules:?}");
        }
    }

    #[test]
    fn trust_is_proven_by_data_and_withdrawn_by_an_alert() {
        let rules = Rules { scope: Scope::Agent, ..Rules::default() };
        let (mut memory, git) = (Memory::default(), client(1, &[]));
        let ask = |memory: &Memory, host: &str| memory.by_hello(&rules, ByHost::AskHello, host, &git);
        assert_eq!(ask(&memory, "a"), Some(Reason::Scope));
        memory.succeeded(&git, "m");
        assert_eq!(ask(&memory, "a"), None);
        assert!(memory.rejected(&git, "a", false, Rejection::Strong));
        assert_eq!(ask(&memory, "a"), Some(Reason::Rejected));
        assert_eq!(ask(&memory, "b"), Some(Reason::Scope), "the proof is withdrawn for all hosts");
        assert_eq!(memory.by_hello(&rules, ByHost::Model, "m", &git), None, "but not for model hosts");
    }

    #[test]
    fn a_weak_rejection_counts_where_nothing_succeeded() {
        let rules = Rules::default();
        let (mut memory, bun) = (Memory::default(), client(2, &["http/1.1"]));
        assert!(memory.rejected(&bun, "a", false, Rejection::Weak));
        assert_eq!(memory.by_hello(&rules, ByHost::AskHello, "a", &bun), Some(Reason::Rejected));
        assert!(
            !memory.rejected(&bun, "m", true, Rejection::Weak),
            "once on a model host is a cancelled preconnect"
        );
        assert_eq!(memory.by_hello(&rules, ByHost::Model, "m", &bun), None);
        memory.succeeded(&bun, "m");
        for _ in 0..5 {
            assert!(!memory.rejected(&bun, "m", true, Rejection::Weak), "it has succeeded before");
        }
        assert!(!memory.rejected(&bun, "n", true, Rejection::Weak));
        assert!(memory.rejected(&bun, "n", true, Rejection::Weak), "twice running");
    }

    #[test]
    fn clients_without_http1_are_left_alone() {
        let (memory, rules) = (Memory::default(), Rules::default());
        for (alpn, want) in [
            (&[][..], None),
            (&["h2", "http/1.1"][..], None),
            (&["h2"][..], Some(Reason::H2Only)),
            (&["imap"][..], Some(Reason::H2Only)),
        ] {
            assert_eq!(memory.by_hello(&rules, ByHost::Model, "m", &client(3, alpn)), want, "{alpn:?}");
        }
    }

    #[test]
    fn some_hosts_are_left_alone_whoever_asks() {
        let (mut memory, rules) = (Memory::default(), Rules::default());
        for (host, reason) in [("db.corp", Reason::NotHttp), ("api.x.ai", Reason::ClientCertificate)] {
            assert_eq!(memory.by_host(&rules, host), rules.by_host(host));
            memory.leave_alone(host, reason);
            assert_eq!(memory.by_host(&rules, host), ByHost::Splice(reason));
        }
        let skip = Rules { skip: patterns(&["db.corp"]), ..Rules::default() };
        assert_eq!(memory.by_host(&skip, "db.corp"), ByHost::Splice(Reason::Skip));
    }
}
