//! `telemetry/logging`, `telemetry/logstash` and `portcullis/access-log`, in the service: what is logged, how and
//! where.
//!
//! The settings are passed to the server: [`crate::telemetry::logger::Settings`] and
//! [`crate::telemetry::access::Settings`]. Without a block nothing is passed, and the defaults of those types apply.

mod compile;
mod config;
#[cfg(test)]
mod tests;

pub(super) use compile::Prefix;

use super::extension::ServiceExtension;

pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: "telemetry/logging",
    aliases: &["github_com/devopsfaith/krakend-gologging"],
    guard: false,
    doc: "What is logged, in which format, and where.",
    keys: config::KEYS,
    compile: compile::logging,
};

pub(super) const LOGSTASH: ServiceExtension = ServiceExtension {
    namespace: "telemetry/logstash",
    aliases: &["github_com/devopsfaith/krakend-logstash"],
    guard: false,
    doc: "Log lines are JSON records; needs `telemetry/logging`.",
    keys: &[],
    compile: compile::logstash,
};

pub(super) const GELF: ServiceExtension = ServiceExtension {
    namespace: "telemetry/gelf",
    aliases: &["github_com/devopsfaith/krakend-gelf"],
    guard: false,
    doc: "Log lines and the access log are sent to Graylog.",
    keys: config::GELF_KEYS,
    compile: compile::gelf,
};

pub(super) const ACCESS: ServiceExtension = ServiceExtension {
    namespace: "portcullis/access-log",
    aliases: &[],
    guard: true,
    doc: "The format of the access log, and where it is written.",
    keys: config::ACCESS_KEYS,
    compile: compile::access,
};
