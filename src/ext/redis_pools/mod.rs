//! `redis`, in the service: named connections to Redis servers and clusters, for the blocks that count there.

mod compile;
mod config;
#[cfg(test)]
mod tests;
mod tls;

pub(in crate::ext) use compile::{Definition, Pools, connection, open, split};

use super::extension::ServiceExtension;

/// `redis`.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "redis",
    aliases: &[],
    guard: true,
    doc: "Named connections to Redis servers (`connection_pools`) and clusters (`clusters`), for `connection_name` of other blocks. A connection that no block names is not opened.",
    keys: config::KEYS,
    compile: compile::service,
};
