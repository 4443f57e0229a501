//! `auth/revoker`, in the service: rejects valid tokens that were revoked.
//!
//! | module | content |
//! |---|---|
//! | `revocation_list` | the list of revoked tokens, and the interface that reads and writes it |
//! | `earlier` | what was revoked before the dimensions of the list changed |
//! | `gob` | the encoding of KrakenD's clients, Go's `encoding/gob` |
//! | `session` | one session of Go's `net/rpc`, without the socket |
//! | `rpc_server` | the socket: authentication, timeouts, limits |
//! | `api` | the same operations over HTTP |
//! | `logout` | logout tokens of providers |
//! | `passed_on` | what an upgrade passes to the new process |
//! | `fleet` | revocations that gateways share through Redis |
//! | `config`, `compile` | the block and its compilation |
//!
//! The list survives reloads and upgrades. If its dimensions change, a new list is written, and the earlier one is read until
//! its entries expire. The list is lost on a restart, as in KrakenD, unless `redis` is on.

mod api;
mod compile;
mod config;
mod earlier;
mod fleet;
mod gob;
mod logout;
mod passed_on;
mod revocation_list;
mod rpc_server;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use api::Api;
pub use gob::read_anything;
pub(crate) use rpc_server::RpcAddress;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/revoker",
    aliases: &["github_com/devopsfaith/bloomfilter"],
    guard: true,
    doc: "Rejects revoked tokens on all endpoints with a validator. Tokens are revoked over KrakenD's RPC port or over HTTP, and stay revoked for two to three times `TTL`.",
    keys: config::KEYS,
    compile: compile::service,
};
