//! What we report.
//!
//! | module | what lives there |
//! |---|---|
//! | [`logger`], [`format`] | log lines: levels, formats, stdout and syslog |
//! | [`held`] | lines of a configuration that is being loaded |
//! | [`access`] | the access log |
//! | [`sink`], [`syslog`] | bounded queues to writer threads: nobody who reports ever waits |
//! | [`metrics`] | the page for Prometheus |
//! | [`stats`] | the counters of `telemetry/metrics`, as `/__stats` shows them |
//! | [`moment`], [`text`] | dates and texts as log lines have them |
//! | [`mask`], [`hidden`] | what they show of URLs with credentials |
//! | [`panics`] | what is said about a panic |

pub mod access;
pub mod format;
pub mod held;
pub mod hidden;
pub mod logger;
pub mod mask;
pub mod metrics;
pub mod moment;
pub mod panics;
pub mod sink;
pub mod stats;
pub mod syslog;
pub mod text;
