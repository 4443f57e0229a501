//! What compiling a file yields, beside the service itself.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Finding;
use crate::config::flexible::{Rendering, Watched};
use crate::ext::{Carry, CertificateInUse, Facts, Task};
use crate::runtime::listen::Listen;
use crate::runtime::service::Service;

/// What became of a file.
#[derive(Debug)]
pub struct Outcome {
    /// `None` when something stops the start.
    pub compiled: Option<Compiled>,
    /// Mistakes and warnings, in the order of the file.
    pub findings: Vec<Finding>,
    /// The rendered text, if the file was a template that could be rendered.
    pub rendering: Option<Arc<Rendering>>,
    /// The files that a rendering depends on, also one that failed.
    pub watched: Vec<Watched>,
}

/// A file that can be served.
#[derive(Debug)]
pub struct Compiled {
    pub service: Arc<Service>,
    pub name: Option<String>,
    pub listen: Listen,
    /// The page for Prometheus; `None` without one.
    pub metrics: Option<Metrics>,
    /// What service-level blocks left for the server, by type: the settings of the log, for instance.
    pub facts: Facts,
    /// Every certificate that the file names.
    pub certificates: Vec<CertificateInUse>,
    /// State to hand to the next compilation.
    pub carry: Carry,
    /// Background work to start once this file is in use.
    pub tasks: Vec<Task>,
    /// What `check -d` prints.
    pub summary: Vec<String>,
}

/// The page for Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    pub listen: SocketAddr,
    /// Whether each endpoint has counters of its own.
    pub per_endpoint: bool,
}
