//! `telemetry/opentelemetry` and `telemetry/opentelemetry-security`: traces and series of requests, with KrakenD's
//! names or with those of OpenTelemetry.
//!
//! The compiled block of the service is passed on as an `Arc<`[`crate::telemetry::observe::Observer`]`>`, the
//! [`Exporters`] and the [`Pages`].

mod compile;
mod config;
mod environment;
mod exporters;
mod layers;
mod overrides;
#[cfg(test)]
mod tests;
mod transport;

use std::net::SocketAddr;
use std::sync::Arc;

pub use overrides::{Observed, backend, endpoint};

use super::extension::{BackendExtension, EndpointExtension, ServiceExtension};
use crate::telemetry::otlp::Exporter;
use crate::telemetry::series::Store;
use crate::telemetry::trace::Attribute;

/// The exporters of a configuration, for their page and for the end of the process.
#[derive(Debug)]
pub struct Exporters(pub Box<[Arc<Exporter>]>);

/// The metrics pages of a configuration. All of them show the same series.
#[derive(Debug)]
pub struct Pages {
    pub list: Vec<Page>,
    pub store: Arc<Store>,
    pub resource: Arc<[Attribute]>,
}

/// One metrics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    pub address: SocketAddr,
    /// Adds CPU, memory and descriptors of the process.
    pub process: bool,
}

const NAMESPACE: &str = "telemetry/opentelemetry";

/// `telemetry/opentelemetry-security`.
pub(super) const SECURITY: ServiceExtension = ServiceExtension {
    namespace: "telemetry/opentelemetry-security",
    aliases: &[],
    guard: false,
    doc: "Header fields for collectors, by the name of the exporter.",
    keys: config::SECURITY_KEYS,
    compile: exporters::security,
};

/// `telemetry/opentelemetry` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: false,
    doc: "Traces and metrics, by KrakenD's names or OpenTelemetry's. See [observability.md](observability.md).",
    keys: config::KEYS,
    compile: compile::service,
};

/// `telemetry/opentelemetry` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: false,
    doc: "What is reported of this endpoint.",
    keys: config::ENDPOINT_KEYS,
    compile: overrides::endpoint_block,
};

/// `telemetry/opentelemetry` of a backend.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: false,
    doc: "What is reported of this backend.",
    keys: config::BACKEND_KEYS,
    compile: overrides::backend_block,
};
