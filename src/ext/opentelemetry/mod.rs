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
mod opencensus;
mod overrides;
#[cfg(test)]
mod tests;
mod transport;
mod variables;

use std::net::SocketAddr;
use std::sync::Arc;

pub(super) use exporters::Secrets;
pub(crate) use overrides::{Observed, backend, endpoint};
pub(super) use overrides::{OfBackend, OfEndpoint};

use super::extension::{BackendExtension, EndpointExtension, ServiceExtension};
use crate::telemetry::otlp::{Exporter, Lost, Signal};
use crate::telemetry::series::Store;
use crate::telemetry::series::page::{Form, push_label};
use crate::telemetry::trace::Attribute;

/// The exporters of a configuration, for their page and for the end of the process.
#[derive(Debug)]
pub struct Exporters(pub Box<[Arc<Exporter>]>);

impl Exporters {
    /// What the exporters have done, for our own page.
    pub(crate) fn report(&self, form: Form) -> String {
        let mut exports = String::new();
        let (mut dropped, mut waiting) = (String::new(), String::new());
        for exporter in &self.0 {
            let mut name = String::new();
            push_label(exporter.name(), &mut name);
            let counts = exporter.counts();
            let all = Signal::ALL.into_iter();
            for signal in all.filter(|signal| exporter.sends(*signal)) {
                let labels = format!("exporter=\"{name}\",signal=\"{}\"", signal.as_str());
                let (taken, failed) = counts.exports(signal);
                for (result, count) in [("success", taken), ("failure", failed)] {
                    let line = format!(
                        "portcullis_otlp_exports_total{{{labels},result=\"{result}\"}} {count}\n"
                    );
                    exports.push_str(&line);
                }
                for reason in Lost::ALL {
                    let (count, reason) = (counts.lost(signal, reason), reason.as_str());
                    let line = format!(
                        "portcullis_otlp_dropped_total{{{labels},reason=\"{reason}\"}} {count}\n"
                    );
                    dropped.push_str(&line);
                }
            }
            let line = format!(
                "portcullis_otlp_queue_length{{exporter=\"{name}\"}} {}\n",
                counts.waiting()
            );
            waiting.push_str(&line);
        }
        let families = [
            (
                "portcullis_otlp_exports_total",
                "counter",
                "Requests to collectors, by result.",
                exports,
            ),
            (
                "portcullis_otlp_dropped_total",
                "counter",
                "Spans, or pushes of metrics, that were not delivered, by reason.",
                dropped,
            ),
            (
                "portcullis_otlp_queue_length",
                "gauge",
                "Spans that wait to be sent.",
                waiting,
            ),
        ];
        let families = families.iter().filter(|(.., lines)| !lines.is_empty());
        families
            .map(|(name, kind, help, lines)| {
                let (name, kind) = form.family(name, kind);
                format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}")
            })
            .collect()
    }
}

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

pub(super) const SECURITY: ServiceExtension = ServiceExtension {
    namespace: "telemetry/opentelemetry-security",
    aliases: &[],
    guard: false,
    doc: "Headers for collectors, by the name of the exporter.",
    keys: config::SECURITY_KEYS,
    compile: exporters::security,
};

/// `telemetry/opentelemetry` of the service.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: false,
    doc: "Traces and metrics, with KrakenD's or OpenTelemetry's names. See [observability.md](observability.md).",
    keys: config::KEYS,
    compile: compile::service,
};

pub(super) const OPENCENSUS: ServiceExtension = ServiceExtension {
    namespace: "telemetry/opencensus",
    aliases: &["github_com/devopsfaith/krakend-opencensus"],
    guard: false,
    doc: "The older form of `telemetry/opentelemetry`, mapped to it where there is an equivalent.",
    keys: opencensus::KEYS,
    compile: opencensus::service,
};

/// `telemetry/opentelemetry` of an endpoint.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: false,
    doc: "What is reported for this endpoint.",
    keys: config::ENDPOINT_KEYS,
    compile: overrides::endpoint_block,
};

/// `telemetry/opentelemetry` of a backend.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: NAMESPACE,
    aliases: &[],
    guard: false,
    doc: "What is reported for this backend.",
    keys: config::BACKEND_KEYS,
    compile: overrides::backend_block,
};
