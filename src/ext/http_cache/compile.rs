//! Compiles the block.

use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};

use super::config::Block;
use super::entries::Entries;
use super::key::KeyRules;
use super::runtime::Cache;
use super::waits::Waits;
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::ext::request_id::IdHeader;
use crate::runtime::clock::Clock;

/// The store of all backends with `shared` and limits, created by the first of them.
#[derive(Debug)]
pub(in crate::ext) struct Limited(Arc<Entries>);

/// The store of all backends with `shared` and without limits.
#[derive(Debug)]
pub(in crate::ext) struct Unlimited(Arc<Entries>);

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = Block::read(node) else {
        return BackendPart::Nothing;
    };
    let entries = if block.shared {
        shared(&block, cx)
    } else {
        let key = site.state("qos/http-cache", node);
        cx.carry_over(key, |_| new_entries(&block).evictable())
    };
    let Some(rules) = rules(node, &block, cx) else {
        return BackendPart::Nothing;
    };
    let learned = site.state("qos/http-cache waits", node);
    let waits = cx.carry_over(learned, |_| Arc::new(Waits::default()));
    let cache = Cache::new(entries, rules, Clock::system()).waiting(block.max_wait, waits);
    BackendPart::Cache(Arc::new(cache))
}

/// The headers that the cache keys of this backend ignore. A header that identifies the client is ignored only with
/// `share_identities`.
fn rules(node: &Node<'_>, block: &Block, cx: &Compile<'_>) -> Option<KeyRules> {
    let identity = || {
        let known = cx.identity_headers().iter().cloned();
        known.chain([AUTHORIZATION, COOKIE])
    };
    let mut left_out = Vec::new();
    for name in &block.ignore_headers {
        let at = node.get("ignore_headers").unwrap_or_else(|| node.clone());
        match HeaderName::try_from(name.as_str()) {
            Ok(name) if !block.share_identities && identity().any(|known| known == name) => {
                at.config_error_hint(
                    ConfigError::invalid(format!("{name:?} tells clients apart")),
                    "\"share_identities\": true sends one client's response to another",
                );
                return None;
            }
            Ok(name) => left_out.push(name),
            Err(_) => {
                at.config_error(ConfigError::header_name(name));
                return None;
            }
        }
    }
    if block.share_identities {
        left_out.extend(identity());
    }
    if let Some(id) = cx.fact::<IdHeader>() {
        left_out.push(id.0.clone());
    }
    left_out.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    left_out.dedup();
    Some(KeyRules {
        left_out: left_out.into(),
    })
}

/// The limits of the first backend that sets any apply to all that do. Later blocks do not change them.
fn shared(block: &Block, cx: &mut Compile<'_>) -> Arc<Entries> {
    let known = match block.limits {
        Some(_) => cx.fact::<Limited>().map(|shared| Arc::clone(&shared.0)),
        None => cx.fact::<Unlimited>().map(|shared| Arc::clone(&shared.0)),
    };
    if let Some(entries) = known {
        return entries;
    }
    let key = format!("qos/http-cache shared {:?}", block.limits);
    let entries = cx.carry_over(key, |_| new_entries(block).evictable());
    match block.limits {
        Some(_) => cx.set_fact(Arc::new(Limited(Arc::clone(&entries)))),
        None => cx.set_fact(Arc::new(Unlimited(Arc::clone(&entries)))),
    }
    entries
}

fn new_entries(block: &Block) -> Entries {
    match block.limits {
        Some((bytes, items)) => Entries::new(bytes, items),
        None => Entries::unconfigured(),
    }
}
