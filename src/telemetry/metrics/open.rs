//! The OpenMetrics format, which the library does not write
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use crate::telemetry::series::page::{Form, go_float, push_example, push_label};
use crate::telemetry::series::{Example, Measure};

/// These metrics, without the end of a page. `example` is asked for the example of a bucket of a histogram.
pub(super) fn page(
    families: &[MetricFamily],
    example: impl Fn(&str, &Metric, usize) -> Option<Example>,
) -> String {
    let mut out = String::with_capacity(64 * 1024);
    for family in families {
        let name = family.name();
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            // We have no other types.
            _ => "gauge",
        };
        let (shown, kind) = Form::OpenMetrics.family(name, kind);
        let _ = write!(out, "# HELP {shown} ");
        push_label(family.help(), &mut out);
        let _ = writeln!(out, "\n# TYPE {shown} {kind}");
        for metric in family.get_metric() {
            match kind {
                "histogram" => {
                    let example = |bucket| example(name, metric, bucket);
                    histogram(name, metric, example, &mut out);
                }
                "counter" => {
                    let value = metric.get_counter().get_value();
                    line((shown, "_total"), metric.get_label(), None, value, &mut out);
                    out.push('\n');
                }
                _ => {
                    let value = metric.get_gauge().get_value();
                    line((name, ""), metric.get_label(), None, value, &mut out);
                    out.push('\n');
                }
            }
        }
    }
    out
}

fn histogram(
    name: &str,
    metric: &Metric,
    example: impl Fn(usize) -> Option<Example>,
    out: &mut String,
) {
    let data = metric.get_histogram();
    let labels = metric.get_label();
    let ended = data.get_bucket().iter();
    let ended = ended.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let ended = ended.filter(|(end, _)| end.is_finite());
    let last = (f64::INFINITY, data.get_sample_count());
    for (index, (end, count)) in ended.chain([last]).enumerate() {
        line((name, "_bucket"), labels, Some(end), count as f64, out);
        if let Some(example) = example(index) {
            push_example(&example, Measure::Seconds, out);
        }
        out.push('\n');
    }
    let sum = data.get_sample_sum();
    line((name, "_sum"), labels, None, sum, out);
    out.push('\n');
    line((name, "_count"), labels, None, last.1 as f64, out);
    out.push('\n');
}

/// A line without its end, where an example may follow.
fn line(
    (name, suffix): (&str, &str),
    labels: &[LabelPair],
    end: Option<f64>,
    value: f64,
    out: &mut String,
) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() || end.is_some() {
        let mut before = '{';
        for label in labels {
            out.push(before);
            out.push_str(label.name());
            out.push_str("=\"");
            push_label(label.value(), out);
            out.push('"');
            before = ',';
        }
        if let Some(end) = end {
            let _ = write!(out, "{before}le=\"{}\"", number(end));
        }
        out.push('}');
    }
    let _ = write!(out, " {}", number(value));
}

fn number(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        go_float(value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::telemetry::metrics::Metrics;
    use crate::telemetry::trace::{SpanId, TraceId};

    #[test]
    fn the_page_has_the_names_of_the_format_and_the_last_sampled_request() {
        let metrics = Metrics::new();
        let (trace, span) = (TraceId::random(), SpanId::random());
        let route = metrics.route("/a\"", "GET");
        route.record_with(
            200,
            Duration::from_millis(3),
            Some((TraceId::random(), span)),
        );
        route.record_with(200, Duration::from_millis(4), Some((trace, span)));
        route.record_with(200, Duration::from_secs(60), None);
        let page = String::from_utf8(metrics.open_page()).unwrap();
        let place = r#"method="GET",route="/a\"""#;
        let name = "portcullis_http_request_duration_seconds";
        let sampled = format!(
            "{name}_bucket{{{place},le=\"0.005\"}} 2 # {{trace_id=\"{trace}\",span_id=\"{span}\"}} 0.004 "
        );
        assert_eq!(page.matches("trace_id").count(), 1);
        assert!(
            page.lines().any(|line| line.starts_with(&sampled)),
            "{page}"
        );
        for wanted in [
            "# TYPE portcullis_http_requests counter".to_owned(),
            format!(r#"portcullis_http_requests_total{{{place},status="2xx"}} 3"#),
            format!(r#"{name}_bucket{{{place},le="+Inf"}} 3"#),
            format!(r#"{name}_count{{{place}}} 3"#),
            "# TYPE portcullis_build info".to_owned(),
            "portcullis_connections_total 0".to_owned(),
            "portcullis_config_last_reload_successful 1".to_owned(),
        ] {
            assert!(page.lines().any(|line| line == wanted), "{wanted}\n{page}");
        }
        let text = String::from_utf8(metrics.page()).unwrap();
        assert_eq!(text.lines().count(), page.lines().count());
        assert!(!text.contains("trace_id"));
        metrics.keep_routes(&std::collections::HashSet::new());
        metrics
            .route("/a\"", "GET")
            .record(200, Duration::from_millis(3));
        let page = String::from_utf8(metrics.open_page()).unwrap();
        assert!(!page.contains("trace_id"), "{page}");
    }
}
