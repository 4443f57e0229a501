//! `qos/ratelimit/router` and `…/redis`, in an endpoint, `qos/ratelimit/service` and `…/redis`, in the service, and
//! `qos/ratelimit/proxy`, in a backend: token buckets.
//!
//! | module | content |
//! |---|---|
//! | `bucket` | the arithmetic, and a bucket that requests share without a lock |
//! | `clients` | one bucket for each client, limited in number |
//! | `identity`, `claim` | identifies the client |
//! | `shared`, `balance` | limits that several gateways share, and the effect of late responses |
//! | `limit_headers` | the headers that inform a client about its limits |
//! | `config`, `compile`, `runtime` | the blocks, their compilation, their steps |
//! | `compile_service` | limits of the service, and those that count in a Redis of `redis` |

mod balance;
mod bucket;
mod claim;
mod clients;
mod compile;
mod compile_service;
mod config;
mod identity;
mod limit_headers;
mod runtime;
mod shared;
#[cfg(test)]
mod tests;

pub(in crate::ext) use compile::ipv6_prefix;
pub(in crate::ext) use compile_service::{BlockLocation, clients, in_redis, limit};
pub(in crate::ext) use config::{ENDPOINT_REDIS_KEYS, TIER_KEYS};

pub(crate) use bucket::{Bucket, Rate, Verdict};
pub(crate) use clients::Clients;
pub(crate) use identity::Identity;
pub(crate) use limit_headers::seconds_up;
pub(crate) use runtime::{EndpointLimit, Scope};

use super::extension::{BackendExtension, EndpointExtension, ServiceExtension};

pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "qos/ratelimit/router",
    aliases: &[],
    guard: true,
    doc: "Limits the requests to an endpoint, for all clients together and for each client.",
    keys: config::ENDPOINT_KEYS,
    compile: compile::endpoint,
};

pub(super) const ENDPOINT_REDIS: EndpointExtension = EndpointExtension {
    namespace: "qos/ratelimit/router/redis",
    aliases: &[],
    guard: true,
    doc: "The limits of `qos/ratelimit/router`, counted together with all other gateways in a Redis of `redis`.",
    keys: config::ENDPOINT_REDIS_KEYS,
    compile: compile::endpoint_redis,
};

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "qos/ratelimit/service",
    aliases: &[],
    guard: true,
    doc: "Limits the requests to the whole gateway, for all clients together (503) and for each client (429). Endpoints may have limits of their own besides.",
    keys: config::SERVICE_KEYS,
    compile: compile_service::service,
};

pub(super) const SERVICE_REDIS: ServiceExtension = ServiceExtension {
    namespace: "qos/ratelimit/service/redis",
    aliases: &[],
    guard: true,
    doc: "The limits of `qos/ratelimit/service`, counted together with all other gateways in a Redis of `redis`.",
    keys: config::SERVICE_REDIS_KEYS,
    compile: compile_service::service_redis,
};

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/ratelimit/proxy",
    aliases: &[],
    guard: true,
    doc: "Limits the calls to a backend.",
    keys: config::BACKEND_KEYS,
    compile: compile::backend,
};
