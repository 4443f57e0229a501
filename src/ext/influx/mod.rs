//! `telemetry/influx`, in the service: pushes the counters of `telemetry/metrics` to InfluxDB 1.x.

mod compile;
mod config;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "telemetry/influx",
    aliases: &["github_com/letgoapp/krakend-influx"],
    guard: false,
    doc: "Pushes the counters of `telemetry/metrics` to InfluxDB.",
    keys: config::KEYS,
    compile: compile::service,
};
