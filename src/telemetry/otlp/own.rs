//! Our own metrics, for collectors that get them beside those of `telemetry/opentelemetry`.

use std::fmt;
use std::sync::Arc;

use prometheus::proto::MetricFamily;

use crate::telemetry::observe::Native;

/// Our own metrics at one moment.
#[derive(Debug, Default)]
pub struct Gathered {
    pub families: Vec<MetricFamily>,
    /// The metrics of backends.
    pub native: Option<Arc<Native>>,
}

/// Gathers them. It is called in the thread of an exporter.
pub struct Own(pub Box<dyn Fn() -> Gathered + Send + Sync>);

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}
