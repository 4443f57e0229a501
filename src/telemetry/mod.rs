//! Logs and metrics.
//!
//! | module | content |
//! |---|---|
//! | [`logger`], [`mod@format`] | log lines: levels, formats, stdout and syslog |
//! | [`deferred`] | log lines of a configuration that is being loaded |
//! | [`calm`] | log lines whose number somebody else decides |
//! | [`access`] | the access log |
//! | [`gelf`] | log lines to Graylog |
//! | [`sink`], [`syslog`] | bounded queues to writer threads, so that logging never blocks |
//! | [`metrics`] | the page for Prometheus |
//! | [`state`] | those of its metrics that show the current state |
//! | [`status_page`] | the same for people |
//! | [`stats`] | the counters of `telemetry/metrics`, shown at `/__stats` |
//! | [`observe`] | what a request, its backend calls and their round trips report |
//! | [`trace`] | spans, and the trace context in header fields |
//! | [`series`] | metrics under OpenTelemetry's names, and their page for Prometheus |
//! | [`otlp`] | exports spans and metrics to a collector |
//! | [`timestamp`], [`sanitize`] | dates and texts in log lines |
//! | [`mask`], [`url_secrets`] | masks credentials and secret parts in URLs |
//! | [`panics`] | log lines for panics |
//! | [`process`] | what the system says about this process |
//! | [`queues`] | metrics of message queues and functions |
//! | [`redis`] | the metric of connections to Redis |
//! | [`request_id`] | the id of the request that a task handles |
//! | [`revocations`] | metrics of the revocations that gateways share |

pub(crate) mod access;
pub(crate) mod calm;
pub(crate) mod deferred;
pub(crate) mod format;
pub(crate) mod gelf;
pub(crate) mod logger;
pub(crate) mod mask;
pub(crate) mod metrics;
pub(crate) mod observe;
pub(crate) mod otlp;
pub(crate) mod panics;
pub(crate) mod process;
pub(crate) mod queues;
pub(crate) mod redis;
pub(crate) mod request_id;
pub(crate) mod revocations;
pub(crate) mod sanitize;
pub(crate) mod series;
pub(crate) mod sink;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod status_page;
pub(crate) mod syslog;
pub(crate) mod timestamp;
pub(crate) mod trace;
pub(crate) mod url_secrets;
