//! What we report: log lines, counters, the access log.

pub mod metrics;
