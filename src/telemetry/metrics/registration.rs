//! Makes and registers metrics.

use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry,
};

/// The bucket limits recommended by the OpenTelemetry HTTP conventions, with two smaller ones added.
pub(super) const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

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

    pub(in crate::telemetry) fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let metric = HistogramVec::new(opts, labels).expect("the name is a valid metric name");
        self.0
            .register(Box::new(metric.clone()))
            .expect("metric names are distinct");
        metric
    }
}
