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

/// Where KrakenD's cache has no bounds, ours has these.
const MAX_BYTES: usize = 64 << 20;
const MAX_ITEMS: usize = 100_000;

const VALIDATORS: [&str; 2] = [
    "auth/validator",
    "github.com/devopsfaith/krakend-jose/validator",
];

/// The store of all backends with `shared`, left by the first of them.
#[derive(Debug)]
struct SharedEntries(Arc<Entries>);

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

/// The limits of the first backend that declares any hold for all; the blocks after it do not change them.
fn shared(block: &Block, cx: &mut Compile<'_>) -> Arc<Entries> {
    if let Some(shared) = cx.left::<SharedEntries>() {
        return Arc::clone(&shared.0);
    }
    let key = format!(
        "qos/http-cache shared {:?} {:?}",
        block.max_size, block.max_items
    );
    let entries = cx.carry(key, |_| Arc::new(new_entries(block)));
    cx.leave(Arc::new(SharedEntries(Arc::clone(&entries))));
    entries
}

fn new_entries(block: &Block) -> Entries {
    let or = |number: Option<u64>, default| {
        number.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX))
    };
    Entries::new(
        or(block.max_size, MAX_BYTES),
        or(block.max_items, MAX_ITEMS),
    )
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
