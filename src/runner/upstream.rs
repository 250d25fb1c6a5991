//! How upstreams are reached and trusted, out of the options and the caller's environment.
use std::env;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::options::{CaptureOptions, ProxyChoice};
use crate::capture::dial::{Dialer, UpstreamProxy};
use crate::capture::scope::{HostPattern, Rules};
use crate::http1::proxies::{self, NoProxy};
use crate::http1::target;
use crate::sys::log::Log;
use crate::tls::{self, Roots};

/// Files with roots of the caller's company: the child's copies of these variables are about to be replaced.
const CALLERS_ROOTS: [&str; 4] =
    ["NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "CODEX_CA_CERTIFICATE"];

/// Variables that lead an agent to a model host of the caller's own.
const BASE_URLS: [&str; 10] = [
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_FOUNDRY_BASE_URL",
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "AZURE_OPENAI_ENDPOINT",
    "GOOGLE_GEMINI_BASE_URL",
    "GEMINI_BASE_URL",
    "LITELLM_PROXY_API_BASE",
];

/// A proxy of the caller's environment that cannot be used.
#[derive(Debug)]
pub struct BadProxy {
    pub variable: &'static str,
    pub why: String,
}

pub(super) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The system's roots, the user's, and those of the caller's environment. A file of the environment that cannot be
/// read is left out with a line in the log, as the programs that it was meant for would have had to.
///
/// # Errors
/// The user's own file cannot be read.
pub fn roots(ca_cert: Option<&Path>, log: &Log) -> Result<Roots, tls::Error> {
    let mut roots = Roots::system();
    if let Some(path) = ca_cert {
        roots.add_file(path)?;
    }
    for name in CALLERS_ROOTS {
        if let Some(path) = variable(name).map(PathBuf::from)
            && let Err(why) = roots.add_file(&path)
        {
            log.line("roots left out", &[("variable", json!(name)), ("why", json!(why.to_string()))]);
        }
    }
    Ok(roots)
}

/// What is decrypted.
#[must_use]
pub fn rules(options: &CaptureOptions) -> Rules {
    let base_urls = BASE_URLS.iter().filter_map(|name| variable(name)).filter_map(|url| host_of(&url));
    Rules {
        scope: options.scope,
        model_hosts: options.trace_hosts.iter().cloned().chain(base_urls).collect(),
        only: options.trace_only.clone(),
        skip: options.trace_skip.clone(),
    }
}

fn host_of(url: &str) -> Option<HostPattern> {
    target::absolute(url).map(|parts| HostPattern::new(&parts.host))
}

/// How upstreams are dialled.
///
/// # Errors
/// The environment names a proxy of a kind that is not spoken here.
pub fn dialer(options: &CaptureOptions) -> Result<Dialer, BadProxy> {
    let (https_proxy, http_proxy) = match &options.upstream_proxy {
        ProxyChoice::Direct => (None, None),
        ProxyChoice::Url(proxy) => (Some(proxy.clone()), Some(proxy.clone())),
        ProxyChoice::Environment => (proxy_of(true)?, proxy_of(false)?),
    };
    let no_proxy = NoProxy::from_vars(variable);
    Ok(Dialer { connect_to: options.connect_to.clone(), https_proxy, http_proxy, no_proxy })
}

fn proxy_of(https: bool) -> Result<Option<UpstreamProxy>, BadProxy> {
    let named = proxies::named(https, variable);
    named
        .map(|(variable, url)| UpstreamProxy::parse(&url).map_err(|why| BadProxy { variable, why }))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_names_a_model_host() {
        for (url, host, want) in [
            ("https://llm.corp/v1", "llm.corp", true),
            ("http://LLM.corp:8080", "llm.corp", true),
            ("https://llm.corp/v1", "corp", false),
            ("not a url", "not a url", false),
        ] {
            assert_eq!(host_of(url).is_some_and(|p| p.matches(host)), want, "{url} {host}");
        }
    }
}
