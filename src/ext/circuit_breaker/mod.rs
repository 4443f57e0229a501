//! `qos/circuit-breaker`, in a backend: stops calling an upstream that keeps failing.

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

pub(crate) use runtime::{CircuitBreaker, Settings};

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "qos/circuit-breaker",
    aliases: &["github.com/devopsfaith/krakend-circuitbreaker/gobreaker"],
    guard: false,
    doc: "Stops calling a backend that keeps failing.",
    keys: config::KEYS,
    compile: compile::backend,
};
