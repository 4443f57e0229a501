//! `telemetry/metrics`, in the service: counters at `/__stats`.
//!
//! They are passed to the server as an `Arc<`[`crate::telemetry::stats::Stats`]`>`, which survives a reload.

mod compile;
mod config;
pub(crate) mod runtime;
#[cfg(test)]
mod tests;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "telemetry/metrics",
    aliases: &["github_com/devopsfaith/krakend-metrics"],
    guard: false,
    doc: "Counts requests and serves the counters at `/__stats` on a separate port.",
    keys: config::KEYS,
    compile: compile::service,
};
