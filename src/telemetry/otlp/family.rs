//! Metrics of the page for Prometheus as metrics of OTLP, under the same names.

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::encode::CUMULATIVE;
use super::proto::Message;

/// One `Metric`. `times`: when it began, and now, in nanoseconds since 1970.
pub(super) fn encode(family: &MetricFamily, times: (u64, u64)) -> Message {
    let mut out = Message::new();
    out.text(1, family.name());
    out.text(2, family.help());
    let metrics = family.get_metric();
    match family.get_field_type() {
        MetricType::GAUGE => out.message(5, |gauge| {
            let value = |metric: &Metric| metric.get_gauge().get_value();
            points(metrics, value, times, gauge);
        }),
        MetricType::COUNTER => out.message(7, |sum| {
            let value = |metric: &Metric| metric.get_counter().get_value();
            points(metrics, value, times, sum);
            sum.uint(2, CUMULATIVE);
            sum.uint(3, 1);
        }),
        MetricType::HISTOGRAM => out.message(9, |data| {
            for metric in metrics {
                let point = |point: &mut Message| distribution(metric, times, point);
                data.message(1, point);
            }
            data.uint(2, CUMULATIVE);
        }),
        // We have none of the other types.
        _ => {}
    }
    out
}

/// `NumberDataPoint`s. A gauge that has no value yet is NaN on the page, and not sent.
fn points(
    metrics: &[Metric],
    value: impl Fn(&Metric) -> f64,
    (since, now): (u64, u64),
    out: &mut Message,
) {
    for metric in metrics {
        let value = value(metric);
        if value.is_nan() {
            continue;
        }
        out.message(1, |point| {
            point.fixed64(2, since);
            point.fixed64(3, now);
            point.double(4, value);
            labels(7, metric.get_label(), point);
        });
    }
}

fn distribution(metric: &Metric, (since, now): (u64, u64), out: &mut Message) {
    let histogram = metric.get_histogram();
    let (counts, bounds) = buckets(histogram);
    out.fixed64(2, since);
    out.fixed64(3, now);
    // The parts of a histogram are read one after the other: its count must be the sum of its buckets.
    out.fixed64(4, counts.iter().sum());
    out.double(5, histogram.get_sample_sum());
    out.packed_fixed64(6, counts.into_iter());
    out.packed_fixed64(7, bounds.into_iter().map(f64::to_bits));
    labels(9, metric.get_label(), out);
}

/// The counts of the buckets, which Prometheus adds up, and their upper ends without the last one.
fn buckets(histogram: &Histogram) -> (Vec<u64>, Vec<f64>) {
    let ended = histogram.get_bucket().iter();
    let ended: Vec<&Bucket> = ended
        .filter(|bucket| bucket.upper_bound().is_finite())
        .collect();
    let mut below = 0;
    let ends = ended.iter().map(|bucket| bucket.cumulative_count());
    let counts: Vec<u64> = ends
        .chain([histogram.get_sample_count()])
        .map(|count| count.saturating_sub(std::mem::replace(&mut below, count)))
        .collect();
    (counts, ended.iter().map(|it| it.upper_bound()).collect())
}

fn labels(field: u32, labels: &[LabelPair], out: &mut Message) {
    for label in labels {
        out.message(field, |pair| {
            pair.text(1, label.name());
            pair.message(2, |value| value.required_bytes(1, label.value().as_bytes()));
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[test]
    fn buckets_are_counted_one_by_one() {
        let metrics = Metrics::new();
        let route = metrics.route("/a", "GET");
        for millis in [1, 1, 40, 60_000] {
            route.record(200, Duration::from_millis(millis));
        }
        let families = metrics.families();
        let name = "portcullis_http_request_duration_seconds";
        let family = families.iter().find(|it| it.name() == name).unwrap();
        let (counts, bounds) = buckets(family.get_metric()[0].get_histogram());
        assert_eq!((counts.len(), counts.iter().sum()), (bounds.len() + 1, 4));
        assert_eq!((counts[1], counts.last()), (2, Some(&1)));
    }
}
