//! `qos/circuit-breaker/http`, in a backend: stops calling an upstream that keeps responding with unexpected statuses.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/circuit-breaker/http",
    aliases: &[],
    guard: true,
    doc: "Stops calling a backend whose responses have other statuses than the listed ones, or that does not respond. Also for `no-op` endpoints.",
    keys: config::KEYS,
    compile: compile::backend,
};
