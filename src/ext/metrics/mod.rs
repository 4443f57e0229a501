//! `telemetry/metrics`, in the service: counters at `/__stats`.
//!
//! What it means is left for the server: an `Arc<`[`crate::telemetry::stats::Stats`]`>`, which outlives a reload.

mod compile;
mod config;
#[cfg(test)]
mod tests;

use super::registry::ServiceExtension;

/// `telemetry/metrics`.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "telemetry/metrics",
    aliases: &["github_com/devopsfaith/krakend-metrics"],
    doc: "Counts requests and shows the counters at `/__stats` of a port of its own.",
    keys: config::KEYS,
    compile: compile::service,
};
