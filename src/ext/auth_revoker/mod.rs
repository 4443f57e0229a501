//! `auth/revoker`, in the service: tokens that are refused although they are good.
//!
//! | module | what lives there |
//! |---|---|
//! | `ledger` | the list of revoked tokens, and the desk through which it is written to and read |
//! | `gob` | the encoding of KrakenD's clients, Go's `encoding/gob` |
//! | `session` | one conversation of Go's `net/rpc`, without the socket |
//! | `port` | the socket: who may talk, how long, how much |
//! | `api` | the same over HTTP, for everybody else |
//! | `config`, `compile` | the block and what it means |
//!
//! The list survives a reload that does not change its dimensions; a restart forgets it, as in KrakenD.

mod api;
mod compile;
mod config;
mod gob;
mod ledger;
mod port;
mod session;
#[cfg(test)]
mod tests;

pub use api::Api;
pub use gob::read_anything;
pub use ledger::{Desk, Ledger, TokenRevocation};

use super::registry::ServiceExtension;

/// `auth/revoker`.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/revoker",
    aliases: &["github_com/devopsfaith/bloomfilter"],
    doc: "Refuses revoked tokens, on all endpoints with a validator. Tokens are revoked over KrakenD's RPC port or over \
          HTTP, and stay so for two to three times `TTL`.",
    keys: config::KEYS,
    compile: compile::service,
};
