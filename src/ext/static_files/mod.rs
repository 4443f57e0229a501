//! `server/static-filesystem` and `backend/static-filesystem`: files of a folder.
//!
//! In the service, paths below a prefix are files and never reach the router. In a backend, a file takes the place of the
//! response to a call, so that everything around the call applies.

mod compile;
mod config;
mod runtime;
mod secret;
#[cfg(test)]
mod tests;

pub(crate) use compile::{Placed, Sites};
pub(crate) use secret::{SecretFiles, publishes};

use super::extension::{BackendExtension, ServiceExtension};

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "server/static-filesystem",
    aliases: &[],
    // A folder that is not meant must not be public.
    guard: true,
    doc: "Serves the files of a folder below a prefix, before the router: no endpoint and none of its guards applies. One block, or a list of blocks.",
    keys: config::SERVICE_KEYS,
    compile: compile::service,
};

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "backend/static-filesystem",
    aliases: &[],
    guard: true,
    doc: "A file of a folder is the response: the one at the path of the `url_pattern`. Guards of the endpoint apply. A backend with this block needs no `host`.",
    keys: config::BACKEND_KEYS,
    compile: compile::backend,
};
