//! What collectors get beside the series of `telemetry/opentelemetry`: gauges of the moment, and our own metrics.

use std::fmt;
use std::sync::Arc;

use prometheus::proto::MetricFamily;

use crate::telemetry::observe::Native;
use crate::telemetry::series::Families;

/// These metrics at one moment.
#[derive(Debug, Default)]
pub struct Gathered {
    pub families: Vec<MetricFamily>,
    /// The metrics of backends.
    pub native: Option<Arc<Native>>,
    /// Gauges of the OpenTelemetry conventions.
    pub gauges: Families,
}

/// Gathers them. It is called in the thread of an exporter.
pub struct Own(pub Box<dyn Fn() -> Gathered + Send + Sync>);

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}
