//! Compiles the blocks of the service, and those that count in a Redis of `redis`.

use std::sync::Arc;
use std::time::Duration;

use super::bucket::Rate;
use super::compile::{CLIENT_LIFE, Rates, assemble, identity, ipv6_prefix};
use super::config::{LimitBlock, SERVICE_KEYS, SERVICE_REDIS_KEYS};
use super::identity::Identity;
use super::runtime::{EndpointLimit, Scope};
use super::shared::Cluster;
use crate::config::{ConfigError, Key, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::ServicePart;
use crate::ext::inherited_steps::imply;
use crate::ext::redis::{OnFailure, SharedStore};
use crate::ext::redis_pools;

/// Where a block of limits is.
pub(in crate::ext) struct BlockLocation<'s> {
    /// Names its state across reloads: the namespace first, and the definition.
    pub(in crate::ext) name: String,
    /// The kind of the block, and the block itself, in the keys of Redis.
    pub(in crate::ext) place: &'static str,
    pub(in crate::ext) keys: String,
    pub(in crate::ext) scope: Scope,
    /// `None` for a block of the service.
    pub(in crate::ext) site: Option<&'s EndpointSite<'s>>,
}

/// Compiles a block of limits with one of the tables of `config`. At least one rate is required. `None` after an error,
/// which is reported.
pub(in crate::ext) fn limit(
    node: &Node<'_>,
    keys: &'static [Key],
    spot: BlockLocation<'_>,
    cx: &mut Compile<'_>,
) -> Option<EndpointLimit> {
    let before = cx.report.config_errors();
    let block = LimitBlock::read(node, keys)?;
    let rates = Rates::read(node, &block, false);
    need_a_rate(node, &rates, cx.report.config_errors() > before);
    let identity = match rates.client {
        Some(_) => identity(node, &block, spot.site, ipv6_prefix(cx)),
        None => Some(Identity::Address(ipv6_prefix(cx))),
    };
    let cluster = pool(node, &block, keys, &spot, rates.every, cx);
    let (Some(identity), true) = (identity, cx.report.config_errors() == before) else {
        return None;
    };
    let parts = (identity, cluster);
    Some(assemble(spot.name, spot.scope, &block, &rates, parts, cx))
}

fn need_a_rate(node: &Node<'_>, rates: &Rates, has_errors: bool) {
    if rates.is_empty() && !has_errors {
        node.config_error_hint(
            ConfigError::Missing("max_rate"),
            "\"max_rate\" limits all clients together, \"client_max_rate\" each of them",
        );
    }
}

/// The connection of a block that counts in a Redis of `redis`.
fn pool(
    node: &Node<'_>,
    block: &LimitBlock<'_>,
    keys: &'static [Key],
    spot: &BlockLocation<'_>,
    every: Duration,
    cx: &mut Compile<'_>,
) -> Option<Cluster> {
    if !keys.iter().any(|key| key.name == "connection_name") {
        return None;
    }
    if let Some(node) = node.get("redis") {
        node.invalid("\"redis\" and \"connection_name\" are two ways to name a Redis: keep one");
    }
    let Some(name) = &block.connection_name else {
        node.config_error_hint(
            ConfigError::Missing("connection_name"),
            "the name of a connection in \"redis\" of the service",
        );
        return None;
    };
    let on_failure = if block.on_failure_allow {
        OnFailure::Open
    } else {
        OnFailure::Closed
    };
    let at = node
        .get("connection_name")
        .or_else(|| node.get("connection_pool"))
        .unwrap_or_else(|| node.clone());
    let shared = redis_pools::connection(name, on_failure, &at, cx)?;
    Some(in_redis(&shared, spot.place, &spot.keys, every))
}

/// The buckets of a block in `shared`. A slow Redis is not a failure: until it responds, this gateway counts for itself.
pub(in crate::ext) fn in_redis(
    shared: &SharedStore,
    place: &str,
    keys: &str,
    every: Duration,
) -> Cluster {
    Cluster {
        store: Arc::clone(&shared.store),
        prefix: shared.keys(place, keys).into(),
        time_to_live: CLIENT_LIFE.max(every),
        on_failure: shared.on_failure,
        on_delay: OnFailure::Local,
    }
}

/// A limit for each client that counts in a Redis: `rate` requests in `every`, and `capacity` at once.
pub(in crate::ext) fn clients(
    name: String,
    (rate, every, capacity): (u64, Duration, u64),
    identity: Identity,
    cluster: Cluster,
    cx: &mut Compile<'_>,
) -> EndpointLimit {
    let per_second = rate as f64 / every.as_secs_f64();
    let rates = Rates {
        every,
        client: Some((per_second, Rate::new(per_second, capacity))),
        all: None,
    };
    let block = LimitBlock::default();
    let parts = (identity, Some(cluster));
    assemble(name, Scope::SERVICE, &block, &rates, parts, cx)
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    of_service(node, "qos/ratelimit/service", SERVICE_KEYS, cx)
}

pub(super) fn service_redis(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    of_service(node, "qos/ratelimit/service/redis", SERVICE_REDIS_KEYS, cx)
}

/// A limit of the service. A claim is known only behind the validator of an endpoint, so clients with claims are counted
/// there.
fn of_service(
    node: &Node<'_>,
    namespace: &'static str,
    keys: &'static [Key],
    cx: &mut Compile<'_>,
) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = LimitBlock::read(node, keys) else {
        return ServicePart::Nothing;
    };
    let rates = Rates::read(node, &block, false);
    need_a_rate(node, &rates, cx.report.config_errors() > before);
    let who = match rates.client {
        Some(_) => identity(node, &block, None, ipv6_prefix(cx)),
        None => Some(Identity::Address(ipv6_prefix(cx))),
    };
    let name = format!("{namespace} {}", node.value().to_json());
    let spot = BlockLocation {
        name: name.clone(),
        place: "service",
        keys: namespace.to_owned(),
        scope: Scope::SERVICE,
        site: None,
    };
    let cluster = pool(node, &block, keys, &spot, rates.every, cx);
    let (Some(who), true) = (who, cx.report.config_errors() == before) else {
        return ServicePart::Nothing;
    };
    if !matches!(who, Identity::OrAddress(..)) {
        let parts = (who, cluster);
        let step = assemble(name, Scope::SERVICE, &block, &rates, parts, cx);
        return ServicePart::Gate(Box::new(step));
    }
    let clients = Rates { all: None, ..rates };
    let parts = (who, cluster.clone());
    let name_of_clients = format!("{name} clients");
    let step = assemble(name_of_clients, Scope::SERVICE, &block, &clients, parts, cx);
    imply(Arc::new(step), cx);
    if rates.all.is_none() {
        return ServicePart::Nothing;
    }
    let all = Rates {
        client: None,
        ..rates
    };
    let parts = (Identity::Address(ipv6_prefix(cx)), cluster);
    let step = assemble(name, Scope::SERVICE, &block, &all, parts, cx);
    ServicePart::Gate(Box::new(step))
}
