//! Logs and metrics.
//!
//! | module | content |
//! |---|---|
//! | [`logger`], [`mod@format`] | log lines: levels, formats, stdout and syslog |
//! | [`held`] | log lines of a configuration that is being loaded |
//! | [`access`] | the access log |
//! | [`gelf`] | log lines to Graylog |
//! | [`sink`], [`syslog`] | bounded queues to writer threads, so that logging never blocks |
//! | [`metrics`] | the page for Prometheus |
//! | [`state`] | those of its metrics that say what is there now |
//! | [`page`] | the same for people |
//! | [`stats`] | the counters of `telemetry/metrics`, shown at `/__stats` |
//! | [`observe`] | what a request, its backend calls and their round trips report |
//! | [`trace`] | spans, and the trace context in header fields |
//! | [`series`] | metrics under OpenTelemetry's names, and their page for Prometheus |
//! | [`otlp`] | exports spans and metrics to a collector |
//! | [`moment`], [`text`] | dates and texts in log lines |
//! | [`mask`], [`hidden`] | masks credentials and secret parts in URLs |
//! | [`panics`] | log lines for panics |

pub mod access;
pub mod format;
pub mod gelf;
pub mod held;
pub mod hidden;
pub mod logger;
pub mod mask;
pub mod metrics;
pub mod moment;
pub mod observe;
pub mod otlp;
pub mod page;
pub mod panics;
pub mod series;
pub mod sink;
pub mod state;
pub mod stats;
pub mod syslog;
pub mod text;
pub mod trace;
