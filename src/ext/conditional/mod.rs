//! `backend/conditional`, in a backend: calls it only for some requests.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "backend/conditional",
    aliases: &[],
    guard: true,
    doc: "Calls the backend only if a header has a value, if a policy is true, or if no other condition of the \
          endpoint holds. A backend that is not called has not failed.",
    keys: config::KEYS,
    compile: compile::backend,
};
