//! `qos/http-cache`, in a backend: answers of an upstream, kept in memory as long as the upstream allows.
//!
//! | module | what lives there |
//! |---|---|
//! | `directives` | `Cache-Control`, and how old an answer may be |
//! | `entries` | the store: bounded in bytes and in number |
//! | `key` | what tells answers apart |
//! | `config`, `compile`, `runtime` | the block, what it means, what happens |

mod compile;
mod config;
mod directives;
mod entries;
mod key;
mod runtime;
#[cfg(test)]
mod tests;

pub use entries::Entries;
pub use key::KeyRules;
pub use runtime::Cache;

use super::registry::BackendExtension;

/// `qos/http-cache`.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/http-cache",
    aliases: &["github.com/devopsfaith/krakend-httpcache"],
    doc: "Keeps answers of a backend in memory as long as its `Cache-Control` allows.",
    keys: config::KEYS,
    compile: compile::backend,
};
