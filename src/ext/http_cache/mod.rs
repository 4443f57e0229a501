//! `qos/http-cache`, in a backend: responses of an upstream, kept in memory as long as the upstream allows.
//!
//! | module | content |
//! |---|---|
//! | `directives` | freshness |
//! | `entries` | the store, limited in bytes and in number |
//! | `key`, `waits` | the cache keys; how long a call waits for an equal one |
//! | `config`, `compile`, `runtime` | the block, its compilation, the cache |

mod compile;
mod config;
mod directives;
mod entries;
mod key;
mod runtime;
#[cfg(test)]
mod tests;
mod waits;

pub(super) use compile::{Limited, Unlimited};

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/http-cache",
    aliases: &["github.com/devopsfaith/krakend-httpcache"],
    guard: false,
    doc: "Keeps responses of a backend in memory as long as its `Cache-Control` allows. As in KrakenD, a response without `Date` has no known age: it is never fresh.",
    keys: config::KEYS,
    compile: compile::backend,
};
