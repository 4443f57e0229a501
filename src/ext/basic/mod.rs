//! `auth/basic`: user names and passwords (RFC 7617), with the passwords stored as bcrypt hashes.
//!
//! | module | content |
//! |---|---|
//! | `users` | the users, and the passwords that were verified before |
//! | `queue` | the order in which passwords are compared |
//! | `config`, `compile`, `runtime` | the blocks, their compilation, their step |
//!
//! bcrypt is slow on purpose. It runs outside the worker threads, a few comparisons at a time, and successful results
//! are cached.

mod compile;
mod config;
mod queue;
mod runtime;
#[cfg(test)]
mod tests;
mod users;

pub(super) use compile::Shared;

use super::extension::{EndpointExtension, ServiceExtension};

/// `auth/basic` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/basic",
    aliases: &[],
    guard: true,
    doc: "The users of the service. Endpoints with a block of the same name require one of them.",
    keys: config::KEYS,
    compile: compile::service,
};

/// The plugin `basic-auth`.
pub(super) const EVERYWHERE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/basic-auth",
    aliases: &[],
    guard: true,
    doc: "Every request needs a user with the right password: those to endpoints, to files and to unknown paths, but not to the health endpoint. It is KrakenD's plugin `basic-auth` with its own name.",
    keys: config::KEYS,
    compile: compile::everywhere,
};

/// `auth/basic` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/basic",
    aliases: &[],
    guard: true,
    doc: "Accepts only users with the right password; others get 401. An empty block means the service's users; users in the block replace them. With `auth/validator` or `auth/api-keys`, all of them must be satisfied.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
