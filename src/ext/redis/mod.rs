//! `portcullis/redis`, in the service: one Redis that several gateways share for their limits.

mod client;
mod compile;
mod config;
mod health;
mod list;
mod runtime;
#[cfg(test)]
mod tests;
mod tickets;

pub use client::parse_anything;
pub(crate) use client::{Address, Credentials, Server, ServerKind};
pub(crate) use compile::SharedStore;
#[cfg(test)]
pub(crate) use list::LIST_PAGE;
#[cfg(test)]
pub(crate) use list::Listed;
pub(crate) use list::{ListAsk, ListPlace};
pub(crate) use runtime::{Ask, Late, OnFailure, Shared, SharedVerdict, Store, StoreOptions, Taken};
pub(crate) use tickets::session_ticket_keys;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/redis",
    aliases: &[],
    guard: true,
    doc: "A Redis (5 or newer) for limits that several gateways share: `\"redis\": true` in `qos/ratelimit/router`.",
    keys: config::KEYS,
    compile: compile::service,
};
