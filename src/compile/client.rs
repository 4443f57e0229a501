//! Compiles the settings of connections to backends.

use std::sync::Arc;
use std::time::Duration;

use crate::compile::certificates;
use crate::compile::listen::{numbers, versions};
use crate::compile::options;
use crate::compile::resilience;
use crate::config::Namespace;
use crate::config::service::KeepAlive;
use crate::config::tls::KeyPair;
use crate::config::{Backend, Block, ClientTls, ConfigError, Node, Service};
use crate::ext::backend_client::HTTP_CLIENT;
use crate::ext::limits::LIMITS;
use crate::ext::upstream::UPSTREAM;
use crate::ext::upstream::UPSTREAM_SERVICE;
use crate::ext::{CertificateUse, Compile};
use crate::runtime::listen::TlsVersion;
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::{
    CertificatePair, Client, Clients, HostRules, HostSet, HttpVersion, MAX_RESPONSE_HEADER_BYTES,
    Proxies, Redirects, Settings, TlsPolicy, Versions,
};

/// As in KrakenD: how often the names of `sd: dns` are looked up.
const DNS_TTL: Duration = Duration::from_secs(30);
/// As in KrakenD, shorter intervals are ignored.
const MIN_DNS_TTL: Duration = Duration::from_secs(1);

/// Names may not be found while an upgrade starts the new process.
impl UpgradeState for Clients {
    fn give(&self) -> String {
        self.give_names()
    }

    fn take(&self, given: &str) {
        self.take_names(given);
    }
}

/// Creates the client that all backends share, and stores it in `cx`.
pub(super) fn client(file: &Service<'_>, cx: &mut Compile<'_>) {
    let settings = settings(file, cx);
    // Files that cannot be opened are already reported with their location.
    if cx.report.config_errors() > 0 {
        return;
    }
    match cx.clients.with(&settings) {
        Ok(client) => {
            cx.client = Some(client);
            cx.set_fact(Arc::new(settings));
            cx.set_fact(Arc::new(rules_of(None, file, file.timeout)));
        }
        Err(error) => {
            let node = match &file.client_tls {
                Some(tls) => tls.block.node(),
                None => file.block.node(),
            };
            node.invalid(error.to_string());
        }
    }
}

fn settings(file: &Service<'_>, cx: &Compile<'_>) -> Settings {
    let default = Settings::default();
    let count = |count: Option<u64>, default: usize| match count {
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
        None => default,
    };
    Settings {
        dialer_timeout: file.dialer_timeout,
        dialer_keep_alive: match file.dialer_keep_alive {
            KeepAlive::Default => default.dialer_keep_alive,
            KeepAlive::Every(period) => Some(period),
            KeepAlive::Off => None,
        },
        idle_connection_timeout: file
            .idle_connection_timeout
            .unwrap_or(default.idle_connection_timeout),
        max_idle_connections: count(file.max_idle_connections, default.max_idle_connections),
        max_idle_connections_per_host: count(
            file.max_idle_connections_per_host,
            default.max_idle_connections_per_host,
        ),
        disable_keep_alives: file.disable_keep_alives,
        response_header_timeout: file.response_header_timeout,
        http_version: default.http_version,
        max_in_flight_per_host: default.max_in_flight_per_host,
        max_response_header_bytes: response_header_bytes(file)
            .unwrap_or(default.max_response_header_bytes),
        tls: policy(file, cx),
        proxies: proxies_of_environment(file),
    }
}

fn proxies_of_environment(file: &Service<'_>) -> Proxies {
    let own = file.extra.open(&UPSTREAM_SERVICE);
    if own.and_then(|own| own.bool("proxy_from_env")) == Some(false) {
        return Proxies::default();
    }
    Proxies::from_environment().unwrap_or_else(|error| {
        file.block.node().config_error_hint(
            ConfigError::invalid(error.to_string()),
            "correct the environment variable, or unset it",
        );
        Proxies::default()
    })
}

/// `upstream_headers` of `portcullis/limits`.
fn response_header_bytes(file: &Service<'_>) -> Option<usize> {
    let limits = options::block(&file.extra, &LIMITS)?;
    let bytes = options::bytes(Some(&limits), "upstream_headers")?;
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    if bytes > MAX_RESPONSE_HEADER_BYTES
        && let Some(node) = limits.get("upstream_headers")
    {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is too large", node.shown())),
            "1 MiB at most",
        );
    }
    Some(bytes.min(MAX_RESPONSE_HEADER_BYTES))
}

fn policy(file: &Service<'_>, cx: &Compile<'_>) -> TlsPolicy {
    let own = file.client_tls.as_ref();
    let mut policy = own.map_or_else(TlsPolicy::default, |tls| of_block(tls, cx));
    policy.insecure |= file.allow_insecure_connections;
    if policy.insecure {
        let node = file
            .block
            .get("allow_insecure_connections")
            .or_else(|| own.map(|tls| tls.block.node().clone()))
            .unwrap_or_else(|| file.block.node().clone());
        warn_insecure(&node);
    }
    policy
}

/// The settings of a `client_tls` block, of the root or of a backend.
fn of_block(tls: &ClientTls<'_>, cx: &Compile<'_>) -> TlsPolicy {
    TlsPolicy {
        insecure: tls.allow_insecure_connections,
        ca_certs: tls
            .ca_certs
            .iter()
            .filter_map(|node| certificates::authorities(node, cx))
            .collect(),
        disable_system_ca_pool: tls.disable_system_ca_pool,
        client_certs: tls
            .client_certs
            .iter()
            .filter_map(|pair| shown(pair, cx))
            .collect(),
        versions: match versions(&tls.block, tls.versions, TlsVersion::Tls12) {
            (TlsVersion::Tls13, _) => Versions::Only13,
            (_, TlsVersion::Tls12) => Versions::Only12,
            (TlsVersion::Tls12, TlsVersion::Tls13) => Versions::All,
        },
        cipher_suites: numbers(&tls.block, "cipher_suites", &tls.cipher_suites),
        curves: numbers(&tls.block, "curve_preferences", &tls.curve_preferences),
    }
}

fn warn_insecure(node: &Node<'_>) {
    node.warn(ConfigError::invalid(
        "the certificates of backends are not checked: anyone on the network path can read and change everything",
    ));
}

fn shown(pair: &KeyPair<'_>, cx: &Compile<'_>) -> Option<CertificatePair> {
    if pair.certificate.is_none() {
        pair.block.missing("certificate");
    }
    if pair.private_key.is_none() {
        pair.block.missing("private_key");
    }
    certificates::pair(pair, CertificateUse::Client, cx)
}

/// The hosts of a backend as a host set. Equal lists share one set, also across reloads.
pub(super) fn hosts(
    file: &Backend<'_>,
    hosts: &[String],
    service: &Service<'_>,
    timeout: Duration,
    cx: &mut Compile<'_>,
) -> Option<Arc<HostSet>> {
    let by_dns = discovery(file);
    let srv = match (by_dns, hosts.first()) {
        (true, None) => {
            file.block.node().config_error_hint(
                ConfigError::Missing("host"),
                "with \"sd\": \"dns\" the first host is the name of an SRV record",
            );
            return None;
        }
        (true, Some(name)) => Some(bare(name)),
        (false, _) => None,
    };
    let client = client_of(file, hosts, service, cx)?;
    let asked = resilience::asked(file, service, hosts, by_dns, cx);
    let rules = resilience::within_attempt(rules(file, service, timeout), &asked);
    let scheme = file.sd_scheme.as_deref().unwrap_or("http");
    let ttl = service
        .dns_cache_ttl
        .filter(|ttl| *ttl >= MIN_DNS_TTL)
        .unwrap_or(DNS_TTL);
    // The client is part of the key, because new settings require new connections.
    let place = Arc::as_ptr(&client).addr();
    Some(match srv {
        Some(name) => {
            let key = format!("hosts of {place}: {scheme} {name} every {ttl:?}, {rules:?}");
            resilience::set(&key, asked, &client, cx, || {
                HostSet::service(&client, name, scheme, ttl).ruled(rules)
            })
        }
        None => {
            let key = format!("hosts of {place}: {}, {rules:?}", hosts.join(" "));
            resilience::set(&key, asked, &client, cx, || {
                HostSet::fixed(&client, hosts).ruled(rules)
            })
        }
    })
}

/// The rules for calls of this backend: its own setting, or else the service's.
pub(super) fn rules(file: &Backend<'_>, service: &Service<'_>, timeout: Duration) -> HostRules {
    let no_redirect = block(file, &HTTP_CLIENT).is_some_and(|block| block.flag("no_redirect"));
    let rules = rules_of(block(file, &UPSTREAM), service, Some(timeout));
    HostRules {
        redirects: if no_redirect {
            Redirects::None
        } else {
            rules.redirects
        },
        ..rules
    }
}

/// The rules of `own`, or else of the service.
fn rules_of(own: Option<Block<'_>>, service: &Service<'_>, timeout: Option<Duration>) -> HostRules {
    let shared = service.extra.open(&UPSTREAM_SERVICE);
    let said = |key: &str| {
        let blocks = [&own, &shared].into_iter().flatten();
        blocks
            .into_iter()
            .find(|block| block.get(key).is_some())
            .cloned()
    };
    let redirects = said("redirects");
    let redirects = redirects
        .as_ref()
        .and_then(|block| block.choice("redirects"));
    HostRules {
        redirects: match redirects {
            Some("none") => Redirects::None,
            Some("same-origin") => Redirects::SameOrigin,
            _ => Redirects::Follow,
        },
        body_to_other_origins: said("send_body_to_other_origins")
            .is_some_and(|block| block.flag("send_body_to_other_origins")),
        timeout,
    }
}

fn block<'a>(file: &Backend<'a>, namespace: &'static Namespace) -> Option<Block<'a>> {
    file.extra.open(namespace)
}

/// The client of this backend: the shared one, unless the backend has settings of its own.
fn client_of(
    file: &Backend<'_>,
    hosts: &[String],
    service: &Service<'_>,
    cx: &Compile<'_>,
) -> Option<Arc<Client>> {
    let shared = cx.client.as_ref()?;
    let own = block(file, &UPSTREAM);
    let version = match own.as_ref().and_then(|own| own.choice("http_version")) {
        Some("h2") => Some(HttpVersion::H2),
        Some("auto") => Some(HttpVersion::Auto),
        _ => None,
    };
    let direct = own.and_then(|own| own.bool("proxy_from_env")) == Some(false);
    let proxies = proxies(file, hosts).or_else(|| direct.then(Proxies::default));
    let tls = own_tls(file, hosts, service, cx);
    if version.is_none() && proxies.is_none() && tls.is_none() {
        return Some(Arc::clone(shared));
    }
    let usual = cx.fact::<Settings>()?;
    let settings = Settings {
        http_version: version.unwrap_or(usual.http_version),
        proxies: proxies.unwrap_or_else(|| usual.proxies.clone()),
        tls: tls.unwrap_or_else(|| usual.tls.clone()),
        ..(*usual).clone()
    };
    match cx.clients.with(&settings) {
        Ok(client) => Some(client),
        Err(error) => {
            file.block.node().invalid(error.to_string());
            None
        }
    }
}

/// The `client_tls` of the backend, which replaces that of the root as a whole.
fn own_tls(
    file: &Backend<'_>,
    hosts: &[String],
    service: &Service<'_>,
    cx: &Compile<'_>,
) -> Option<TlsPolicy> {
    let tls = ClientTls::read(block(file, &HTTP_CLIENT)?.block("client_tls")?);
    let policy = of_block(&tls, cx);
    let node = tls.block.node();
    if policy.insecure {
        warn_insecure(node);
    }
    if !hosts.is_empty() && !hosts.iter().any(|host| is_secure(host)) && !discovery(file) {
        node.warn_hint(
            ConfigError::invalid("no host of this backend is called over TLS"),
            "\"host\": [\"https://…\"]",
        );
    }
    warn_dropped(service, &tls);
    Some(policy)
}

fn is_secure(host: &str) -> bool {
    let scheme = host.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("https")
}

/// Warns about protection in the root's block that the backend's block does not repeat.
fn warn_dropped(service: &Service<'_>, own: &ClientTls<'_>) {
    let Some(root) = &service.client_tls else {
        return;
    };
    let dropped = [
        (
            "client_certs",
            !root.client_certs.is_empty() && own.client_certs.is_empty(),
        ),
        (
            "disable_system_ca_pool",
            root.disable_system_ca_pool && !own.disable_system_ca_pool,
        ),
    ];
    for (key, _) in dropped.iter().filter(|(_, dropped)| *dropped) {
        own.block.node().warn_hint(
            ConfigError::invalid(format!(
                "this block replaces the root's \"client_tls\", whose {key:?} does not apply here"
            )),
            format!("write {key:?} here too, if this backend needs it"),
        );
    }
}

/// The proxy of the backend itself. No environment variable makes an exception to it.
fn proxies(file: &Backend<'_>, hosts: &[String]) -> Option<Proxies> {
    let block = block(file, &HTTP_CLIENT)?;
    let node = block.get("proxy_address")?;
    let address = block.text("proxy_address")?;
    if address.trim().is_empty() {
        node.config_error_hint(
            ConfigError::invalid("must not be empty: calls would bypass the proxy"),
            "\"http://proxy:3128\", or remove the key",
        );
        return None;
    }
    if address.trim_start().starts_with("https:") && hosts.iter().any(|host| is_secure(host)) {
        node.config_error_hint(
            ConfigError::invalid(
                "a proxy that is called over TLS itself cannot be used for backends with TLS",
            ),
            "\"http://proxy:3128\": the connection through it is encrypted by the backend's own TLS",
        );
        return None;
    }
    match Proxies::always(address) {
        Ok(proxies) => Some(proxies),
        Err(error) => {
            node.config_error_hint(
                ConfigError::invalid(error.to_string()),
                "\"http://user:password@proxy:3128\", or \"socks5://proxy:1080\"",
            );
            None
        }
    }
}

/// Whether hosts come from SRV records. As in KrakenD, unknown values mean a fixed list.
fn discovery(file: &Backend<'_>) -> bool {
    match file.sd.as_deref() {
        None | Some("static") => false,
        // There is one table of names for all backends, so both mean the same here.
        Some("dns" | "dns-shared") => true,
        Some(_) => {
            if let Some(node) = file.block.get("sd") {
                node.warn_hint(
                    ConfigError::NotOneOf {
                        found: node.shown(),
                        allowed: "static, dns, dns-shared".to_owned(),
                    },
                    "the hosts are used as they are listed",
                );
            }
            false
        }
    }
}

/// The host without the scheme and port that sanitising has added to an SRV name.
fn bare(host: &str) -> &str {
    let name = host.split_once("://").map_or(host, |(_, name)| name);
    name.split([':', '/']).next().unwrap_or(name)
}
