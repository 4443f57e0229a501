//! `qos/ratelimit/router`, in an endpoint, and `qos/ratelimit/proxy`, in a backend: token buckets.
//!
//! | module | what lives there |
//! |---|---|
//! | `bucket` | the arithmetic, and a bucket that requests share without a lock |
//! | `clients` | one bucket for each client, bounded in number |
//! | `identity`, `claim` | who the client is |
//! | `shared`, `ledger` | limits that several gateways hold together, and what answers that come late change |
//! | `fields` | what a client is told of its limits |
//! | `config`, `compile`, `runtime` | the blocks, what they mean, what happens |

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

use super::registry::{BackendExtension, EndpointExtension};

/// `qos/ratelimit/router`.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "qos/ratelimit/router",
    aliases: &[],
    doc: "Limits the requests to an endpoint, of all clients together and of each client.",
    keys: config::ENDPOINT_KEYS,
    compile: compile::endpoint,
};

/// `qos/ratelimit/proxy`.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/ratelimit/proxy",
    aliases: &[],
    doc: "Limits the calls to a backend.",
    keys: config::BACKEND_KEYS,
    compile: compile::backend,
};
