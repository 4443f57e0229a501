//! Makes and registers metrics.

use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Creates a metric and registers it. The names above are all different, which `Metrics::new` relies on.
pub(in crate::telemetry) struct Registration<'a>(pub(super) &'a Registry);

macro_rules! make {
    ($name:ident, $kind:ty) => {
        pub(in crate::telemetry) fn $name(&self, name: &str, help: &str) -> $kind {
            let metric =
                <$kind>::with_opts(Opts::new(name, help)).expect("the name is a valid metric name");
            self.0
                .register(Box::new(metric.clone()))
                .expect("metric names are distinct");
            metric
        }
    };
    ($name:ident, $kind:ty, labels) => {
        pub(in crate::telemetry) fn $name(&self, name: &str, help: &str, labels: &[&str]) -> $kind {
            let metric = <$kind>::new(Opts::new(name, help), labels)
                .expect("the name is a valid metric name");
            self.0
                .register(Box::new(metric.clone()))
                .expect("metric names are distinct");
            metric
        }
    };
}

impl Registration<'_> {
    make!(int_counter, IntCounter);
    make!(int_gauge, IntGauge);
    make!(gauge, Gauge);
    make!(counter, Counter);
    make!(int_counters, IntCounterVec, labels);
    make!(counters, CounterVec, labels);
    make!(gauges, GaugeVec, labels);
    make!(int_gauges, IntGaugeVec, labels);

    /// Registers families that are made when the page is read.
    pub(super) fn add(&self, families: impl Collector + 'static) {
        self.0
            .register(Box::new(families))
            .expect("metric names are distinct");
    }
}
