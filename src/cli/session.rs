//! The connection: which cluster, which namespace, as whom. Every request goes through [`Session::ask`], which says in
//! words what was tried and on which server it failed.

use std::{fmt::Debug, future::Future, time::Duration};

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, Client, Config, Resource,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;

use super::{
    args::Global,
    error::{CliError, explain},
    output::Printer,
};
use crate::api::Environment;

/// No answer for this long is an answer. kube itself repeats requests that a busy server turned away, for minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest silence of the server within one request. Watches end sooner by themselves ([`super::watch`]).
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// A connection to a cluster.
pub struct Session {
    /// The client, acting as the user that flags and kubeconfig say.
    pub client: Client,
    /// The namespace of the environment.
    pub namespace: String,
    /// Where output goes.
    pub printer: Printer,
    place: String,
    flags: String,
}

/// Who the API server says one is: exactly what admission will see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub username: String,
    /// The groups, in the order of the request.
    pub groups: Vec<String>,
}

impl Session {
    /// Reads the kubeconfig as kubectl does and makes a client. Nothing is sent yet.
    pub async fn open(global: &Global) -> Result<Self, CliError> {
        let Global { namespace, context, kubeconfig, impersonate, impersonate_groups, output } = global.clone();
        let source = source_name(global);
        let mut flags = String::new();
        if let Some(name) = &context {
            flags += &format!(" --context {}", quote(name));
        }
        if let Some(path) = &kubeconfig {
            flags += &format!(" --kubeconfig {}", quote(&path.to_string_lossy()));
        }
        let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
        let file = match &kubeconfig {
            Some(path) => Some(Kubeconfig::read_from(path)),
            None => read_default(),
        };
        let (mut config, context) = match file {
            Some(read) => {
                let file = read.map_err(|e| CliError::Error(format!("{source}: {e}")))?;
                let context = context.or_else(|| file.current_context.clone()).unwrap_or_else(|| "none".into());
                let proxied = proxy_of(&file, &context).is_some();
                let mut config = Config::from_custom_kubeconfig(file, &options)
                    .await
                    .map_err(|e| CliError::Error(format!("{source}, context {context}: {e}")))?;
                // kube takes HTTPS_PROXY without a look at the server's own name in NO_PROXY.
                if !proxied && bypasses_proxy(config.cluster_url.host().unwrap_or_default(), &no_proxy()) {
                    config.proxy_url = None;
                }
                (config, context)
            }
            None => {
                let config = Config::incluster().map_err(|_| {
                    CliError::Error(format!("{source} does not exist; say which cluster with --kubeconfig or $KUBECONFIG"))
                })?;
                (config, "the pod's own".into())
            }
        };
        config.read_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        config.connect_timeout = Some(Duration::from_secs(10));
        if impersonate.is_some() {
            config.auth_info.impersonate = impersonate;
        }
        if !impersonate_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(impersonate_groups);
        }
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let url = config.cluster_url.to_string();
        let place = format!("{} (context {context} of {source})", url.trim_end_matches('/'));
        let client = Client::try_from(config).map_err(|e| explain(&e, "connecting", &place))?;
        Ok(Self { client, namespace, printer: Printer::new(output), place, flags })
    }

    /// The API of a namespaced kind in the environment's namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for an answer, not for ever, and puts a refusal in words.
    pub async fn ask<T>(&self, doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T, CliError> {
        match tokio::time::timeout(PATIENCE, request).await {
            Ok(answer) => answer.map_err(|e| explain(&e, doing, &self.place)),
            Err(_) => Err(CliError::Error(format!("{doing}: no answer from {} for {}s", self.place, PATIENCE.as_secs()))),
        }
    }

    /// An object of the environment's namespace, by name.
    pub async fn get<K>(&self, name: &str) -> Result<K, CliError>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        self.ask(&format!("reading {kind} {name} in namespace {}", self.namespace), self.api::<K>().get(name)).await
    }

    /// The Environment of that name, or the only one of the namespace.
    pub async fn environment(&self, name: Option<&str>) -> Result<Environment, CliError> {
        if let Some(name) = name {
            return self.get(name).await;
        }
        let doing = format!("reading the Environment of namespace {}", self.namespace);
        let list = self.ask(&doing, self.api::<Environment>().list(&ListParams::default())).await?;
        let names: Vec<&str> = list.items.iter().filter_map(|e| e.metadata.name.as_deref()).collect();
        match names.as_slice() {
            [] => Err(CliError::Error(format!(
                "namespace {} has no Environment; choose another with -n, or make one (README.md, \"Your own cluster\")",
                self.namespace
            ))),
            [_] => list.items.into_iter().next().ok_or_else(|| CliError::other("no Environment")),
            several => Err(CliError::Usage(format!(
                "namespace {} has several Environments ({}); name one",
                self.namespace,
                several.join(", ")
            ))),
        }
    }

    /// Who the API server says one is, after impersonation.
    pub async fn identity(&self) -> Result<Identity, CliError> {
        let api = Api::<SelfSubjectReview>::all(self.client.clone());
        let review = self.ask("asking who you are", api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
        let user = review.status.and_then(|s| s.user_info).unwrap_or_default();
        match user.username.filter(|name| !name.is_empty()) {
            Some(username) => Ok(Identity { username, groups: user.groups.unwrap_or_default() }),
            None => Err(CliError::Error(format!("{} does not say who you are", self.place))),
        }
    }

    /// A command line of this plugin for the same cluster and namespace, for a person to copy.
    pub fn command(&self, words: &str) -> String {
        format!("kubectl lockkeeper {words} -n {}{}", self.namespace, self.flags)
    }
}

/// Text as one word of a shell.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@=,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// What `$KUBECONFIG` names, missing files left out as kubectl does; otherwise `~/.kube/config`. `None`: there is none.
fn read_default() -> Option<Result<Kubeconfig, kube::config::KubeconfigError>> {
    let paths: Vec<_> = match std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty()) {
        Some(list) => std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()).collect(),
        None => std::env::home_dir().map(|home| home.join(".kube").join("config")).into_iter().collect(),
    };
    let mut paths = paths.into_iter().filter(|p| p.exists()).peekable();
    paths.peek()?;
    Some(paths.try_fold(Kubeconfig::default(), |merged, path| Kubeconfig::read_from(path).and_then(|c| merged.merge(c))))
}

fn source_name(global: &Global) -> String {
    match (&global.kubeconfig, std::env::var("KUBECONFIG").ok().filter(|v| !v.is_empty())) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(list)) => format!("$KUBECONFIG={list}"),
        (None, None) => "~/.kube/config".into(),
    }
}

fn proxy_of(file: &Kubeconfig, context: &str) -> Option<String> {
    let context = file.contexts.iter().find(|c| c.name == context)?.context.as_ref()?;
    file.clusters.iter().find(|c| c.name == context.cluster)?.cluster.as_ref()?.proxy_url.clone().filter(|u| !u.is_empty())
}

fn no_proxy() -> String {
    ["NO_PROXY", "no_proxy"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

/// Whether a host is reached directly, as Go's programs decide it: loopback always, then the names and networks of
/// `NO_PROXY`.
fn bypasses_proxy(host: &str, no_proxy: &str) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let address = host.parse::<std::net::IpAddr>().ok();
    if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
        return true;
    }
    no_proxy.split(',').map(|e| e.trim().to_ascii_lowercase()).filter(|e| !e.is_empty()).any(|entry| match address {
        _ if entry == "*" => true,
        Some(address) => in_network(address, &entry),
        None => {
            let suffix = entry.strip_prefix('*').unwrap_or(&entry);
            host == suffix.trim_start_matches('.')
                || host.ends_with(&if suffix.starts_with('.') { suffix.to_owned() } else { format!(".{suffix}") })
        }
    })
}

fn in_network(address: std::net::IpAddr, entry: &str) -> bool {
    use std::net::IpAddr::{V4, V6};
    let Some((network, bits)) = entry.split_once('/') else { return entry.parse() == Ok(address) };
    let (Ok(network), Ok(bits)) = (network.parse(), bits.parse::<u32>()) else { return false };
    match (address, network) {
        (V4(a), V4(n)) if bits <= 32 => (a.to_bits() ^ n.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0,
        (V6(a), V6(n)) if bits <= 128 => (a.to_bits() ^ n.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_read_as_kubectl_reads_it() {
        for (host, list, direct) in [
            ("127.0.0.1", "", true),
            ("localhost", "", true),
            ("[::1]", "", true),
            ("10.0.0.1", "", false),
            ("10.0.0.1", "10.0.0.0/8", true),
            ("11.0.0.1", "10.0.0.0/8", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "*", true),
            ("10.0.0.1", "0.0.0.0/0", true),
            ("api.example.com", "example.com", true),
            ("api.example.com", ".example.com", true),
            ("api.example.com", "*.example.com", true),
            ("notexample.com", "example.com", false),
        ] {
            assert_eq!(bypasses_proxy(host, list), direct, "{host} {list}");
        }
    }

    #[test]
    fn a_word_for_a_shell_stays_one_word() {
        assert_eq!(quote("alice"), "alice");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
