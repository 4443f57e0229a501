//! `portcullis/redis-ratelimit`, in the service: what KrakenD's plugin `redis-ratelimit` does.

mod compile;
mod config;
#[cfg(test)]
mod tests;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/redis-ratelimit",
    aliases: &[],
    guard: true,
    doc: "Ours, with the keys of KrakenD's plugin `redis-ratelimit`, which is older than `qos/ratelimit/service/redis`: limits each client, counted in a Redis. While Redis cannot be reached, each gateway counts for itself.",
    keys: config::KEYS,
    compile: compile::service,
};
