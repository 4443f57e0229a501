//! The result of a compilation.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Finding;
use crate::config::flexible::{Rendering, Watched};
use crate::ext::{Carry, CertificateInUse, Facts, Task};
use crate::runtime::listen::Listen;
use crate::runtime::service::Service;
use crate::telemetry::logger;

/// The result for a configuration.
#[derive(Debug)]
pub struct Outcome {
    /// `None` if an error stops the start.
    pub compiled: Option<Compiled>,
    /// The settings of `telemetry/logging`, if they could be read. Also for a configuration that is rejected.
    pub logging: Option<Arc<logger::Settings>>,
    /// Errors and warnings, in the order of the configuration.
    pub findings: Vec<Finding>,
    /// The rendered text, if the configuration was a template that could be rendered.
    pub rendering: Option<Arc<Rendering>>,
    /// The files that the rendering depends on, even if it failed.
    pub watched: Vec<Watched>,
}

/// A configuration that can be served.
#[derive(Debug)]
pub struct Compiled {
    pub service: Arc<Service>,
    pub name: Option<String>,
    /// Names this configuration among others: the first digits of the SHA-256 of its content.
    pub hash: String,
    pub listen: Listen,
    /// The metrics page for Prometheus, if there is one.
    pub metrics: Option<Metrics>,
    /// Values that service-level blocks pass to the server, by type: for example the settings of the log.
    pub facts: Facts,
    /// Every configured certificate.
    pub certificates: Vec<CertificateInUse>,
    /// State for the next compilation.
    pub carry: Carry,
    /// Background work to start once this configuration is used.
    pub tasks: Vec<Task>,
    /// The output of `check -d`.
    pub summary: Vec<String>,
}

/// The metrics page for Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    pub listen: SocketAddr,
    /// Whether each endpoint has its own counters.
    pub per_endpoint: bool,
    /// Whether there is a page for people, too.
    pub page: bool,
}
