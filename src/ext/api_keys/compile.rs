//! Compiles the blocks. Errors that would leave an endpoint open, or closed to all clients, are reported at start.

use std::collections::HashSet;
use std::sync::Arc;

use http::header::COOKIE;
use http::{HeaderName, HeaderValue};

use super::config::{EndpointBlock, Placed, ServiceBlock};
use super::key_table::{KeyHash, KeyTable};
use super::runtime::{ApiKeyCheck, KeyLimits, Place};
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::rate_limit::{Bucket, Rate};
use crate::runtime::clock::Clock;
use crate::telemetry::mask::add_secret_name;

/// The compiled service block, for the endpoints.
#[derive(Debug)]
pub(in crate::ext) struct Keys {
    ring: Arc<KeyTable>,
    /// The roles of each key, in the configured order.
    roles: Vec<Vec<String>>,
    strategy: &'static str,
    identifier: Option<String>,
    propagate: Option<HeaderName>,
    /// The definition that the buckets of endpoints depend on.
    definition: String,
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = ServiceBlock::read(node) else {
        return ServicePart::Nothing;
    };
    let hash = block
        .hash
        .and_then(KeyHash::parse)
        .unwrap_or(KeyHash::Plain);
    if matches!(hash, KeyHash::Fnv128 | KeyHash::Sha1) {
        let at = node.get("hash").unwrap_or_else(|| node.clone());
        at.warn_hint(
            ConfigError::invalid("this hash does not protect the keys if the file is disclosed"),
            "\"hash\": \"sha256\"",
        );
    }
    let ring = ring(node, &block, hash);
    let propagate = match block.propagate_role.as_str() {
        "" => None,
        name => block
            .propagate_role_at
            .as_ref()
            .unwrap_or(node)
            .header_name(name),
    };
    let (Some(ring), true) = (ring, cx.report.config_errors() == before) else {
        return ServicePart::Nothing;
    };
    // Clients may send their key to any endpoint.
    if let Some(name) = &block.place.identifier {
        add_secret_name(name);
    }
    cx.set_fact(Arc::new(Keys {
        ring: Arc::new(ring),
        roles: block
            .keys
            .iter()
            .map(|entry| {
                if entry.enabled {
                    entry.roles.clone()
                } else {
                    Vec::new()
                }
            })
            .collect(),
        strategy: block.place.strategy.unwrap_or("header"),
        identifier: block.place.identifier.clone(),
        propagate,
        definition: node.value().to_json(),
    }));
    ServicePart::Nothing
}

fn ring(node: &Node<'_>, block: &ServiceBlock<'_>, hash: KeyHash) -> Option<KeyTable> {
    if block.keys.is_empty() {
        let at = block.keys_at.as_ref().unwrap_or(node);
        at.config_error(ConfigError::Missing("keys"));
        return None;
    }
    let mut ring = match KeyTable::new(hash, &block.salt) {
        Ok(ring) => ring,
        Err(error) => {
            node.invalid(error.to_string());
            return None;
        }
    };
    for (number, entry) in block.keys.iter().enumerate() {
        if let Err(error) = ring.add(&entry.key, number) {
            entry.at.invalid(error.to_string());
        }
    }
    Some(ring)
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(block) = EndpointBlock::read(node) else {
        return EndpointPart::Nothing;
    };
    let Some(keys) = cx.fact::<Keys>() else {
        node.config_error_hint(
            ConfigError::invalid("the service has no API keys"),
            "add \"auth/api-keys\": {\"keys\": [...]} to the service's extra_config",
        );
        return EndpointPart::Nothing;
    };
    if block.roles.is_empty() {
        let at = block.roles_at.as_ref().unwrap_or(node);
        at.config_error_hint(
            ConfigError::Missing("roles"),
            "the roles that may call this endpoint",
        );
    }
    if block.client_max_rate < 0.0 {
        node.invalid("a rate cannot be negative; 0 sets no limit");
    }
    let place = place(&block.place, &keys);
    let (Some(place), true) = (place, cx.report.config_errors() == before) else {
        return EndpointPart::Nothing;
    };
    let roles = allowed(&block, &keys);
    if roles.iter().all(Option::is_none) {
        let at = block.roles_at.as_ref().unwrap_or(node);
        at.warn(ConfigError::invalid(
            "no key has any of these roles: every request gets 401",
        ));
    }
    let check = ApiKeyCheck {
        ring: Arc::clone(&keys.ring),
        place,
        roles,
        propagate: keys.propagate.clone(),
        limits: limits(&block, &keys, site, cx),
    };
    if matches!(&check.place, Place::Header(name) if *name == COOKIE) {
        cx.browsers_send("the API key is in the cookies, and browsers send cookies with it");
    }
    let credential = match &check.place {
        Place::Header(name) => Some(name.clone()),
        Place::Query(_) => None,
    };
    EndpointPart::Setting {
        headers: check.propagate.iter().cloned().collect(),
        steps: vec![Box::new(check)],
        credential,
        decisive: Vec::new(),
    }
}

/// The role with which each key passes: the first of its own that the endpoint accepts.
fn allowed(block: &EndpointBlock<'_>, keys: &Keys) -> Box<[Option<HeaderValue>]> {
    let wanted: HashSet<&str> = block.roles.iter().map(String::as_str).collect();
    let first = |roles: &Vec<String>| {
        roles
            .iter()
            .find(|role| wanted.contains(role.as_str()))
            // A key whose role is not a valid header value still passes.
            .map(|role| HeaderValue::try_from(role).unwrap_or(HeaderValue::from_static("")))
    };
    keys.roles.iter().map(first).collect()
}

fn place(own: &Placed<'_>, keys: &Keys) -> Option<Place> {
    let strategy = own.strategy.unwrap_or(keys.strategy);
    // The service's identifier is either a header or a parameter, so it does not apply to the other strategy.
    let shared = keys
        .identifier
        .as_deref()
        .filter(|_| strategy == keys.strategy);
    let identifier = own.identifier.as_deref().or(shared);
    let (place, name) = match strategy {
        "query_string" => {
            let name = identifier.unwrap_or("key");
            (Some(Place::Query(name.into())), name)
        }
        _ => {
            let name = identifier.unwrap_or("Authorization");
            (own.at.header_name(name).map(Place::Header), name)
        }
    };
    add_secret_name(name);
    place
}

fn limits(
    block: &EndpointBlock<'_>,
    keys: &Keys,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> Option<Arc<KeyLimits>> {
    let per_second = block.client_max_rate;
    if per_second <= 0.0 {
        return None;
    }
    let name = format!(
        "auth/api-keys {} {} {per_second} {}",
        site.method, site.pattern, keys.definition
    );
    Some(cx.carry_over(name, |_| {
        let clock = Clock::system();
        let rate = Rate::new(per_second, (per_second as u64).max(1));
        let bucket = |_: &Vec<String>| Bucket::new(rate, clock.now());
        Arc::new(KeyLimits {
            buckets: keys.roles.iter().map(bucket).collect(),
            clock,
        })
    }))
}
