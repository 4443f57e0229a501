//! What we report: log lines, counters, the access log.

pub mod access;
pub mod metrics;
pub mod stats;
