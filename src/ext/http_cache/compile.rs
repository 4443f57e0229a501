//! What the block means.

use std::sync::Arc;

use http::HeaderName;

use super::config::Block;
use super::entries::Entries;
use super::runtime::{Cache, Identities};
use crate::config::{Data, Node};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::registry::BackendPart;
use crate::runtime::clock::Clock;

const VALIDATORS: [&str; 2] = [
    "auth/validator",
    "github.com/devopsfaith/krakend-jose/validator",
];

/// The store of all backends with `shared` and limits, left by the first of them.
#[derive(Debug)]
struct Limited(Arc<Entries>);

/// The store of all backends with `shared` and without limits.
#[derive(Debug)]
struct Unlimited(Arc<Entries>);

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
        let key = format!(
            "qos/http-cache {} {} {} {} {}",
            site.endpoint.method,
            site.endpoint.pattern,
            site.index,
            site.pattern,
            node.value().to_json()
        );
        cx.carry(key, |_| Arc::new(new_entries(&block)))
    };
    let identities = match block.share_identities {
        true => Identities::Shared,
        false => Identities::Apart(propagated(site)),
    };
    BackendPart::Cache(Arc::new(Cache::new(entries, identities, Clock::system())))
}

/// The limits of the first backend that declares any hold for all that do; the blocks after it do not change them.
fn shared(block: &Block, cx: &mut Compile<'_>) -> Arc<Entries> {
    let known = match block.limits {
        Some(_) => cx.left::<Limited>().map(|shared| Arc::clone(&shared.0)),
        None => cx.left::<Unlimited>().map(|shared| Arc::clone(&shared.0)),
    };
    if let Some(entries) = known {
        return entries;
    }
    let key = format!("qos/http-cache shared {:?}", block.limits);
    let entries = cx.carry(key, |_| Arc::new(new_entries(block)));
    match block.limits {
        Some(_) => cx.leave(Arc::new(Limited(Arc::clone(&entries)))),
        None => cx.leave(Arc::new(Unlimited(Arc::clone(&entries)))),
    }
    entries
}

fn new_entries(block: &Block) -> Entries {
    match block.limits {
        Some((bytes, items)) => Entries::new(bytes, items),
        None => Entries::unconfigured(),
    }
}

/// The header fields that the endpoint's validator fills from claims: they say who asks.
fn propagated(site: &BackendSite<'_>) -> Box<[HeaderName]> {
    let Some(extra) = &site.endpoint.extra else {
        return Box::default();
    };
    VALIDATORS
        .iter()
        .filter_map(|name| extra.get(name)?.get("propagate_claims"))
        .flat_map(|claims| claims.items())
        .filter_map(|pair| match &pair.items().get(1)?.value().data {
            Data::Text(name) => HeaderName::try_from(&**name).ok(),
            _ => None,
        })
        .collect()
}
