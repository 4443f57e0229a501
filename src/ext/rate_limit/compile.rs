//! Compiles the blocks. A limit that cannot be enforced stops the start: KrakenD would let all requests pass.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::bucket::{Bucket, Rate};
use super::clients::Clients;
use super::compile_service::{BlockLocation, limit};
use super::config::{BACKEND_KEYS, BackendBlock, ENDPOINT_KEYS, ENDPOINT_REDIS_KEYS, LimitBlock};
use super::identity::Identity;
use super::limit_headers::{Families, LimitDescription, LimitHeaders};
use super::runtime::{BackendLimit, EndpointLimit, Limits, Scope};
use super::shared::Cluster;
use crate::config::{Block, ConfigError, Key, Node, Typing, duration};
use crate::ext::auth_validator;
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::redis::SharedStore;
use crate::jose::ClaimPath;
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);

/// As in KrakenD, a client is dropped after ten minutes, or after `every` if that is longer.
pub(super) const CLIENT_LIFE: Duration = Duration::from_secs(600);

const DEFAULT_SHARDS: u64 = 2048;

/// The rates of a block, per second, with the bucket of each.
pub(super) struct Rates {
    pub(super) every: Duration,
    pub(super) client: Option<(f64, Rate)>,
    pub(super) all: Option<(f64, Rate)>,
}

impl Rates {
    /// `as_krakend`: the default of `client_capacity` is KrakenD's, unless the limit is shared. A shared bucket is never above
    /// its capacity, so one of a single token gives fewer tokens than its rate as soon as queries arrive in bursts.
    pub(super) fn read(node: &Node<'_>, block: &LimitBlock<'_>, as_krakend: bool) -> Rates {
        let every = every(node, block.every);
        let all = rate(node, block.max_rate, every);
        let client = rate(node, block.client_max_rate, every);
        let client_rate = |rate| {
            if as_krakend && !block.redis {
                client_rate(node, block, all, rate)
            } else {
                Rate::new(rate, capacity(block.client_capacity, rate, rate))
            }
        };
        Rates {
            every,
            client: client.map(|rate| (rate, client_rate(rate))),
            all: all.map(|rate| (rate, Rate::new(rate, capacity(block.capacity, rate, rate)))),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.client.is_none() && self.all.is_none()
    }
}

/// The step of a block. `name` names its state across reloads.
pub(super) fn assemble(
    name: String,
    scope: Scope,
    block: &LimitBlock<'_>,
    rates: &Rates,
    (identity, cluster): (Identity, Option<Cluster>),
    cx: &mut Compile<'_>,
) -> EndpointLimit {
    let shards = usize::try_from(block.num_shards.unwrap_or(DEFAULT_SHARDS)).unwrap_or(1);
    let limits = cx.carry_over(name, |_| {
        let clock = Clock::system();
        let now = clock.now();
        let life = CLIENT_LIFE.max(rates.every);
        Arc::new(Limits {
            scope,
            clients: rates
                .client
                .map(|(_, rate)| Clients::new(rate, shards, life)),
            endpoint: rates.all.map(|(_, rate)| Bucket::new(rate, now)),
            balance: Mutex::default(),
            clock,
        })
    });
    let described = [
        rates
            .client
            .map(|(rate, _)| described(scope.client, rate, rates.every)),
        rates
            .all
            .map(|(rate, _)| described(scope.all, rate, rates.every)),
    ];
    let fields = LimitHeaders::new(
        families(block.limit_headers),
        described.into_iter().flatten().collect(),
    );
    EndpointLimit::new(limits, identity, fields, cluster)
}

/// The part of an IPv6 address that tells clients apart.
pub(in crate::ext) fn ipv6_prefix(cx: &Compile<'_>) -> Ipv6Prefix {
    cx.fact::<Ipv6Prefix>()
        .map_or_else(Ipv6Prefix::default, |prefix| *prefix)
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(block) = LimitBlock::read(node, ENDPOINT_KEYS) else {
        return EndpointPart::Nothing;
    };
    let rates = Rates::read(node, &block, true);
    let identity = match rates.client {
        Some(_) => identity(node, &block, Some(site), ipv6_prefix(cx)),
        None => Some(Identity::Address(ipv6_prefix(cx))),
    };
    let cluster = cluster(node, &block, site, rates.every, cx);
    let (Some(identity), true) = (identity, cx.report.config_errors() == before) else {
        return EndpointPart::Nothing;
    };
    if rates.is_empty() {
        no_rate(node, ENDPOINT_KEYS, block.has_no_rate());
        return EndpointPart::Nothing;
    }
    tell(site, &block, rates.all, rates.client);
    let name = state("qos/ratelimit/router", site, node);
    let step = assemble(
        name,
        Scope::ENDPOINT,
        &block,
        &rates,
        (identity, cluster),
        cx,
    );
    EndpointPart::step(step)
}

/// Reports a block without a rate. A rate of 0 says that there is no limit.
fn no_rate(node: &Node<'_>, keys: &'static [Key], is_missing: bool) {
    let block = Block::open_quietly(node.clone(), keys, Typing::Strict);
    if let Some(block) = block.filter(|_| is_missing) {
        block.guards_nothing("it has no \"max_rate\", and sets no limit");
    }
}

/// The name of the state of an endpoint's block.
fn state(namespace: &str, site: &EndpointSite<'_>, node: &Node<'_>) -> String {
    format!(
        "{namespace} {} {} {}",
        site.method,
        site.pattern,
        node.value().to_json()
    )
}

pub(super) fn endpoint_redis(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let spot = BlockLocation {
        name: state("qos/ratelimit/router/redis", site, node),
        place: "endpoint",
        keys: format!("{} {}", site.method, site.pattern),
        scope: Scope::ENDPOINT,
        site: Some(site),
    };
    match limit(node, ENDPOINT_REDIS_KEYS, spot, cx) {
        Some(limit) => EndpointPart::step(limit),
        None => EndpointPart::Nothing,
    }
}

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    let Some(block) = BackendBlock::read(node) else {
        return BackendPart::Nothing;
    };
    if cx.report.config_errors() == before {
        no_rate(node, BACKEND_KEYS, block.max_rate.is_none());
    }
    let every = block
        .every
        .filter(|every| !every.is_zero())
        .unwrap_or(SECOND);
    let Some(rate) = rate(node, block.max_rate, every) else {
        return BackendPart::Nothing;
    };
    let key = site.state("qos/ratelimit/proxy", node);
    log::debug!(
        "[BACKEND: {}][Ratelimit] Enabling the rate limiter",
        site.pattern
    );
    let limit = cx.carry_over(key, |_| {
        let rate = Rate::new(rate, capacity(block.capacity, rate, rate));
        Arc::new(BackendLimit::new(rate, Clock::system()))
    });
    BackendPart::Step(Box::new(limit))
}

/// Logs the lines that KrakenD writes at its start.
fn tell(
    site: &EndpointSite<'_>,
    block: &LimitBlock<'_>,
    endpoint: Option<(f64, Rate)>,
    client: Option<(f64, Rate)>,
) {
    let at = site.pattern;
    if let Some((rate, bucket)) = endpoint {
        let capacity = bucket.capacity();
        log::debug!(
            "[ENDPOINT: {at}][Ratelimit] Rate limit enabled. MaxRate: {rate:.6}, Capacity: {capacity}"
        );
    }
    if let Some((rate, bucket)) = client {
        let strategy = block.strategy.as_deref().unwrap_or("");
        let (key, capacity) = (block.key.as_deref().unwrap_or(""), bucket.capacity());
        log::debug!(
            "[ENDPOINT: {at}][Ratelimit] Rate limit enabled. Strategy: {strategy} (key: {key}), MaxRate: {rate:.6}, \
             Capacity: {capacity}"
        );
    }
}

/// As in KrakenD, at least one second.
fn every(node: &Node<'_>, every: Option<Duration>) -> Duration {
    let Some(every) = every else { return SECOND };
    if every < SECOND && !every.is_zero() {
        let at = node.get("every").unwrap_or_else(|| node.clone());
        at.warn(ConfigError::invalid(
            "less than a second counts as one second",
        ));
    }
    every.max(SECOND)
}

/// Tokens per second. None for 0. A negative rate is an error and does not mean "no limit".
fn rate(node: &Node<'_>, tokens: Option<f64>, every: Duration) -> Option<f64> {
    let tokens = tokens?;
    if tokens < 0.0 {
        node.invalid("a rate cannot be negative; 0 sets no limit");
    }
    (tokens > 0.0).then(|| tokens / every.as_secs_f64())
}

/// The configured capacity. Otherwise the whole part of `rate` if `tested` is at least one per second, or 1.
fn capacity(file: Option<u64>, tested: f64, rate: f64) -> u64 {
    match file {
        Some(capacity) if capacity > 0 => capacity,
        _ if tested < 1.0 => 1,
        _ => rate as u64,
    }
}

/// KrakenD tests the endpoint's rate where it should test the client's. Configurations are tuned to this, so we do
/// the same and log a warning.
fn client_rate(node: &Node<'_>, block: &LimitBlock<'_>, endpoint: Option<f64>, rate: f64) -> Rate {
    let capacity = capacity(block.client_capacity, endpoint.unwrap_or(0.0), rate);
    let expected = self::capacity(block.client_capacity, rate, rate);
    // An empty bucket holds one token, so 0 and 1 are the same.
    if capacity.max(1) != expected.max(1) {
        let every = every(node, block.every);
        let whole = block.client_max_rate.unwrap_or_default().ceil() as u64;
        let period = if every > SECOND && whole > expected {
            let every = duration::print(every);
            format!("; {whole} allows the requests of a whole period of {every} at once")
        } else {
            String::new()
        };
        node.warn_hint(
            ConfigError::invalid(format!(
                "without \"client_capacity\" a client may send {} at once here, as in KrakenD",
                capacity.max(1)
            )),
            format!(
                "to allow a burst that matches the rate: \"client_capacity\": {expected}{period}"
            ),
        );
    }
    Rate::new(rate, capacity)
}

pub(super) fn identity(
    node: &Node<'_>,
    block: &LimitBlock<'_>,
    site: Option<&EndpointSite<'_>>,
    prefix: Ipv6Prefix,
) -> Option<Identity> {
    let key = block.key.as_deref().unwrap_or("");
    let key_at = block.key_at.as_ref().unwrap_or(node);
    match block
        .strategy
        .as_deref()
        .unwrap_or("")
        .to_ascii_lowercase()
        .as_str()
    {
        "ip" if key.is_empty() => Some(Identity::Address(prefix)),
        "ip" => {
            key_at.warn_hint(
                ConfigError::invalid("a client that can write this header chooses its own limit"),
                "remove \"key\", and list your proxies in \"trusted_proxies\" of \"router\"",
            );
            key_at
                .header_name(key)
                .map(|name| Identity::AddressIn(name, prefix))
        }
        "header" if key.is_empty() => {
            key_at.config_error_hint(
                ConfigError::invalid("the name of the header is missing"),
                "\"strategy\": \"header\" needs \"key\": \"X-Api-Key\"",
            );
            None
        }
        "header" => key_at.header_name(key).map(Identity::Header),
        "param" => match site {
            Some(site) => Some(parameter(key_at, key, site)),
            None => {
                key_at.config_error_hint(
                    ConfigError::invalid("only endpoints have path parameters"),
                    "\"ip\", \"header\" or \"jwt\"",
                );
                None
            }
        },
        "claim" | "jwt" => claim(key_at, key, site, prefix),
        "" => {
            node.config_error_hint(
                ConfigError::Missing("strategy"),
                "\"client_max_rate\" needs to know how to tell clients apart: \"strategy\": \"ip\"",
            );
            None
        }
        other => {
            let at = block.strategy_at.as_ref().unwrap_or(node);
            at.config_error(ConfigError::NotOneOf {
                found: format!("{other:?}"),
                allowed: "ip, header, param, claim".to_owned(),
            });
            None
        }
    }
}

fn parameter(at: &Node<'_>, name: &str, site: &EndpointSite<'_>) -> Identity {
    if !site.pattern.contains(&format!("{{{name}}}")) {
        at.warn(ConfigError::invalid(format!(
            "the endpoint has no parameter {name:?}: every request will be rejected with 429"
        )));
    }
    Identity::Param(name.into())
}

/// In a block of the service, requests without the claim are counted by their address.
fn claim(
    at: &Node<'_>,
    name: &str,
    site: Option<&EndpointSite<'_>>,
    prefix: Ipv6Prefix,
) -> Option<Identity> {
    if name.is_empty() {
        at.config_error(ConfigError::Missing("key"));
        return None;
    }
    let claim = Identity::Claim(ClaimPath::dotted_unless_url(name));
    let Some(site) = site else {
        return Some(Identity::OrAddress(Box::new(claim), prefix));
    };
    if !site.names(&auth_validator::ENDPOINT) {
        at.warn(ConfigError::invalid(
            "no \"auth/validator\" here: without a verified token every request is rejected with 429",
        ));
    }
    Some(claim)
}

fn cluster(
    node: &Node<'_>,
    block: &LimitBlock<'_>,
    site: &EndpointSite<'_>,
    every: Duration,
    cx: &Compile<'_>,
) -> Option<Cluster> {
    if !block.redis {
        return None;
    }
    let Some(shared) = cx.fact::<SharedStore>() else {
        node.config_error_hint(
            ConfigError::invalid("\"redis\" needs a Redis"),
            "define it in the service's extra_config: \"portcullis/redis\": {\"url\": \"redis://host:6379\"}",
        );
        return None;
    };
    Some(Cluster {
        store: Arc::clone(&shared.store),
        prefix: shared.prefix(site.method, site.pattern).into(),
        time_to_live: CLIENT_LIFE.max(every),
        on_failure: shared.on_failure,
        on_delay: shared.on_failure,
    })
}

fn families(choice: Option<&str>) -> Families {
    let choice = choice.unwrap_or("none");
    Families {
        draft: matches!(choice, "ratelimit" | "both"),
        legacy: matches!(choice, "x-ratelimit" | "both"),
    }
}

/// A quota is a whole number: half a request per second is one in two seconds.
fn described(name: &'static str, per_second: f64, every: Duration) -> LimitDescription {
    let tokens = per_second * every.as_secs_f64();
    let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::MAX);
    LimitDescription {
        name,
        quota: (tokens as u64).max(1),
        window: if tokens < 1.0 { interval } else { every },
        interval,
    }
}
