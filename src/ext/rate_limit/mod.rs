//! `qos/ratelimit/router`, in an endpoint, and `qos/ratelimit/proxy`, in a backend: token buckets.
//!
//! | module | content |
//! |---|---|
//! | `bucket` | the arithmetic, and a bucket that requests share without a lock |
//! | `clients` | one bucket for each client, limited in number |
//! | `identity`, `claim` | identifies the client |
//! | `shared`, `ledger` | limits that several gateways share, and the effect of late responses |
//! | `fields` | the headers that inform a client about its limits |
//! | `config`, `compile`, `runtime` | the blocks, their compilation, their steps |

mod bucket;
mod claim;
mod clients;
mod compile;
mod config;
mod fields;
mod identity;
mod ledger;
mod runtime;
mod shared;
#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Rate, Verdict};
pub use clients::{Clients, MAX_CLIENTS};
pub use fields::{Described, Families, Left, LimitFields, seconds_up};
pub use identity::Identity;
pub use ledger::Ledger;
pub use runtime::{BackendLimit, EndpointLimit, Limits};
pub use shared::Cluster;

use super::extension::{BackendExtension, EndpointExtension};

/// `qos/ratelimit/router`.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "qos/ratelimit/router",
    aliases: &[],
    guard: true,
    doc: "Limits the requests to an endpoint, for all clients together and for each client.",
    keys: config::ENDPOINT_KEYS,
    compile: compile::endpoint,
};

/// `qos/ratelimit/proxy`.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/ratelimit/proxy",
    aliases: &[],
    guard: true,
    doc: "Limits the calls to a backend.",
    keys: config::BACKEND_KEYS,
    compile: compile::backend,
};
