//! `auth/basic`: names and passwords (RFC 7617), the passwords as bcrypt hashes.
//!
//! | module | what lives there |
//! |---|---|
//! | `users` | who may come in, and whose password was right before |
//! | `queue` | whose password is compared next |
//! | `config`, `compile`, `runtime` | the blocks, what they mean, what happens |
//!
//! bcrypt takes its time on purpose: it runs beside the requests, a few at once, and what was right is remembered.

mod compile;
mod config;
mod queue;
mod runtime;
#[cfg(test)]
mod tests;
mod users;

pub use runtime::{Attempts, BasicCheck};
pub use users::{Proof, UserError, Users};

use super::registry::{EndpointExtension, ServiceExtension};

/// `auth/basic` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "auth/basic",
    aliases: &[],
    doc: "The users of the service; endpoints with a block of the same name ask for one of them.",
    keys: config::KEYS,
    compile: compile::service,
};

/// `auth/basic` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: "auth/basic",
    aliases: &[],
    doc: "Lets only users with the right password pass, others get 401. An empty block means the service's users; \
          users of its own take their place. Beside `auth/validator` and `auth/api-keys` all of them must be satisfied.",
    keys: config::KEYS,
    compile: compile::endpoint,
};
